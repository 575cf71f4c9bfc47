//! What this end reads: the task that splits and sorts lines, and the one that runs handlers.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use jsonrpsee::types::{Id, Params};
use jsonrpsee::{ConnectionId, MethodCallback, MethodResponse, Methods};
use outrider_protocol::fault::{Fault, Retry, RpcError, code};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::io::AsyncRead;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::handlers::{RawParams, Registry, carry, error_object};
use crate::lines::{Line, Lines, Skipped};
use crate::message::{Invalid, Message, read, read_head, shortened};
use crate::outgoing::{Outgoing, Queue};
use crate::shared::{Shared, Waiter};
use crate::transport::{BAD_ANSWER, canonical, error_answer};
use crate::{GRACE, Limits, Lost};

/// Bytes of requests in progress. Above this the handlers are slow and reading pauses; one line may be longer.
const INCOMING_BYTES: usize = 64 * 1024 * 1024;

/// Every one of the first lines that are no messages is logged, later ones at each doubling of their number, so that
/// a child that chatters on stdout does not fill the disk.
const LOGGED_INVALID: u64 = 10;

/// What whoever sent a line that is too long can do about it.
const LESS_AT_ONCE: &str =
    "send fewer objects in one batch (`max_line_bytes` in `initialize` says how long a line may be)";

/// The `data` of the answer to a request that is too long: that of other errors, and the figures.
#[derive(Debug, Serialize)]
struct TooLong {
    fault: Fault,
    retry: Retry,
    line_bytes: usize,
    max_line_bytes: usize,
}

impl TooLong {
    fn of(line_bytes: usize, max_line_bytes: usize) -> Option<Box<RawValue>> {
        to_raw_value(&Self { fault: Fault::Peer, retry: Retry::No, line_bytes, max_line_bytes }).ok()
    }
}

/// A request's share of what may be in progress; given back when it is answered.
#[derive(Debug)]
struct Slot {
    _request: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

/// Something for the dispatcher.
enum Work {
    /// Run the handler.
    Request { id: Option<Id<'static>>, method: String, params: RawParams, slot: Slot },
    /// Answer a line that is no message, or was too long for one.
    Refuse { answer: String, slot: Slot },
    /// Nothing comes after this. Tell when what was before has begun and its answers so far are written.
    End(oneshot::Sender<()>),
}

/// The reading task's side.
#[derive(Debug)]
pub(crate) struct Incoming {
    shared: Arc<Shared>,
    work: mpsc::Sender<Work>,
    answers: mpsc::Sender<String>,
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    invalid: u64,
    /// Methods whose parameters their handlers check.
    unread: HashSet<&'static str>,
}

impl Incoming {
    /// Starts the dispatcher and gives the reading side of it; `answers` leads to jsonrpsee's client.
    pub(crate) fn start(
        shared: &Arc<Shared>,
        Registry { methods, unread }: Registry,
        queue: Queue,
        answers: mpsc::Sender<String>,
    ) -> Self {
        let Limits { concurrent_requests, .. } = shared.limits;
        // Each item but the last holds a slot, so there is always room.
        let (work, dispatched) = mpsc::channel(concurrent_requests.max(1) + 1);
        tokio::spawn(Dispatcher { shared: shared.clone(), methods, queue }.run(dispatched));
        Self {
            shared: shared.clone(),
            work,
            answers,
            requests: Arc::new(Semaphore::new(concurrent_requests.max(1))),
            bytes: Arc::new(Semaphore::new(INCOMING_BYTES)),
            invalid: 0,
            unread,
        }
    }

    /// Reads until the stream's end, and tells everyone how it ended.
    pub(crate) async fn run<R: AsyncRead + Unpin>(mut self, reader: R) {
        let shared = self.shared.clone();
        let read = async {
            let mut lines = Lines::new(reader, shared.clone());
            let cause = loop {
                match lines.next().await {
                    Ok(Some(Line::Whole(line))) => {
                        if self.sort(line).await.is_err() {
                            break Lost::Closed;
                        }
                    }
                    Ok(Some(Line::Skipped(skipped))) => {
                        if let Err(cause) = self.sort_skipped(&skipped).await {
                            break cause;
                        }
                    }
                    Ok(None) => break Lost::Ended,
                    Err(cause) => break cause,
                }
            };
            // Whoever hears of the loss finds everything that came before it done or begun, such as the last lines of
            // an integration's log.
            let (told, begun) = oneshot::channel();
            if self.work.send(Work::End(told)).await.is_ok() {
                drop(tokio::time::timeout(GRACE, begun).await);
            }
            shared.lose(cause);
        };
        tokio::select! {
            () = read => {}
            () = shared.until_stopped() => {}
        }
    }

    async fn sort(&mut self, line: Vec<u8>) -> Result<(), mpsc::error::SendError<Work>> {
        let line = match String::from_utf8(line) {
            Ok(line) => line,
            Err(err) => {
                let found = format!("the line is not UTF-8 from byte {}", err.utf8_error().valid_up_to());
                let invalid = Invalid { code: code::PARSE, found, id: Id::Null, answer: true };
                return self.refuse(err.as_bytes(), invalid).await;
            }
        };
        let head = read_head(&line, |method| self.unread.contains(method));
        let unread = head.is_some();
        match head.unwrap_or_else(|| read(&line)) {
            Message::Request { id, method, params } => {
                let slot = self.slot(line.len()).await;
                let params = RawParams::new(line, params, unread);
                self.work.send(Work::Request { id, method, params, slot }).await
            }
            Message::Answer { id, outcome } => {
                let Some(waiter) = self.waiter(&id) else {
                    tracing::debug!(%id, line = shortened(line.as_bytes()), "An answer to nobody was dropped.");
                    return Ok(());
                };
                let answer = canonical(&id, &outcome).unwrap_or(line);
                self.hand_over(waiter, answer).await;
                Ok(())
            }
            Message::Invalid(invalid) => self.refuse(line.as_bytes(), invalid).await,
        }
    }

    /// Tells whoever waits for what was in a line that was too long. Where nobody can know who that is, the link is lost:
    /// better than that someone waits for ever.
    async fn sort_skipped(&mut self, skipped: &Skipped) -> Result<(), Lost> {
        let Skipped { outline, bytes, limit } = skipped;
        if self.is_logged() {
            let (line, so_far) = (shortened(outline.as_bytes()), self.invalid);
            tracing::warn!(line, bytes, limit, so_far, "A line was too long and was skipped.");
        }
        let too_long = format!("the line has {bytes} bytes, a line may have {limit}");
        let (id, what) = match read(outline) {
            Message::Request { id: Some(id), method, .. } => (id, shortened(method.as_bytes())),
            Message::Answer { id, .. } => {
                if let Some(waiter) = self.waiter(&id) {
                    self.hand_over(waiter, error_answer(&id, BAD_ANSWER, &too_long, None)).await;
                }
                return Ok(());
            }
            // Bulk that was sent so would be missing, and nobody would hear of it.
            Message::Request { id: None, method, .. } if self.unread.contains(&*method) => {
                return Err(Lost::TooLong { limit: *limit });
            }
            Message::Request { id: None, .. } | Message::Invalid(Invalid { answer: false, .. }) => {
                return Ok(());
            }
            Message::Invalid(Invalid { id: Id::Null, .. }) => return Err(Lost::TooLong { limit: *limit }),
            Message::Invalid(Invalid { id, found, .. }) => (id, found),
        };
        let message = format!("{what}: {too_long}; {LESS_AT_ONCE}");
        let data = TooLong::of(*bytes, *limit);
        let answer = error_answer(&id, code::INVALID_REQUEST, &message, data.as_deref());
        self.answer(answer).await.map_err(|_| Lost::Closed)
    }

    async fn hand_over(&self, waiter: Waiter, answer: String) {
        match waiter {
            // Fails when the client has ended, and with it everyone who waits for an answer.
            Waiter::Client => drop(self.answers.send(answer).await),
            // Fails when the call was given up just now.
            Waiter::Direct(caller) => drop(caller.send(answer)),
        }
    }

    /// Who waits for the answer with this id. jsonrpsee's client would end on one that it does not wait for.
    fn waiter(&self, id: &Id<'_>) -> Option<Waiter> {
        id.as_number().and_then(|id| self.shared.answered(*id))
    }

    async fn refuse(&mut self, line: &[u8], invalid: Invalid) -> Result<(), mpsc::error::SendError<Work>> {
        if self.is_logged() {
            let (line, found) = (shortened(line), &invalid.found);
            tracing::warn!(line, %found, so_far = self.invalid, "A line of the link is no message.");
        }
        if !invalid.answer {
            return Ok(());
        }
        self.answer(error_answer(&invalid.id, invalid.code, &invalid.found, None)).await
    }

    /// Counts a line that is not taken. Whether it is to be logged.
    fn is_logged(&mut self) -> bool {
        self.invalid += 1;
        self.invalid <= LOGGED_INVALID || self.invalid.is_power_of_two()
    }

    /// Answers a line that reaches no handler, in its turn.
    async fn answer(&self, answer: String) -> Result<(), mpsc::error::SendError<Work>> {
        let slot = self.slot(answer.len()).await;
        self.work.send(Work::Refuse { answer, slot }).await
    }

    /// Waits until one more request may be in progress: this is the back-pressure.
    async fn slot(&self, bytes: usize) -> Slot {
        let bytes = u32::try_from(bytes.min(INCOMING_BYTES)).unwrap_or(u32::MAX);
        let request = self.requests.clone().acquire_owned().await;
        let bytes = self.bytes.clone().acquire_many_owned(bytes).await;
        let (Ok(request), Ok(bytes)) = (request, bytes) else {
            unreachable!("the semaphores are never closed")
        };
        Slot { _request: request, _bytes: bytes }
    }
}

/// Runs handlers, the first poll of each in the order of arrival.
struct Dispatcher {
    shared: Arc<Shared>,
    methods: Methods,
    queue: Queue,
}

impl Dispatcher {
    async fn run(self, mut work: mpsc::Receiver<Work>) {
        let mut running = FuturesUnordered::new();
        let mut open = true;
        while open || !running.is_empty() {
            let next = tokio::select! {
                next = work.recv(), if open => next,
                Some(()) = running.next() => continue,
                // What has begun runs to its end.
                () = self.shared.until_stopped(), if open => None,
            };
            match next {
                Some(Work::Request { id: Some(id), method, params, slot }) => {
                    let mut answered = self.answered(id, &method, params, slot);
                    if (&mut answered).now_or_never().is_none() {
                        running.push(answered);
                    }
                }
                Some(Work::Request { id: None, method, params, slot }) => {
                    // What follows waits for a notification to be done; what already runs does not.
                    let mut noticed = self.noticed(&method, params, slot);
                    loop {
                        tokio::select! {
                            biased;
                            () = &mut noticed => break,
                            Some(()) = running.next() => {}
                        }
                    }
                }
                Some(Work::Refuse { answer, slot }) => {
                    let queue = self.queue.clone();
                    running.push(
                        async move {
                            drop(queue.message(answer).await);
                            drop(slot);
                        }
                        .boxed(),
                    );
                }
                Some(Work::End(begun)) => {
                    open = false;
                    let queue = self.queue.clone();
                    running.push(async move { drop(queue.put(Outgoing::Flush(begun)).await) }.boxed());
                }
                None => open = false,
            }
        }
    }

    /// Runs a request's handler and queues its answer.
    fn answered(
        &self,
        id: Id<'static>,
        method: &str,
        params: RawParams,
        slot: Slot,
    ) -> BoxFuture<'static, ()> {
        let response = self.respond(id.clone(), method, params);
        let (queue, limit, method) = (self.queue.clone(), self.shared.line_bytes(), method.to_owned());
        async move {
            let response = AssertUnwindSafe(response).catch_unwind().await.unwrap_or_else(|panic| {
                let message = format!("{method}: its handler panicked: {}", said(&*panic));
                tracing::error!(method, message, "A handler panicked.");
                refusal(id.clone(), code::INTERNAL, message)
            });
            let mut answer = response.into_json();
            if answer.get().len() > limit {
                let bytes = answer.get().len();
                let message = format!("{method}: the answer has {bytes} bytes, a line may have {limit}");
                answer = refusal(id, code::INTERNAL, message).into_json();
            }
            // Fails when the link is gone: then nobody waits for the answer.
            drop(queue.message(String::from(Box::<str>::from(answer))).await);
            drop(slot);
        }
        .boxed()
    }

    /// Runs a notification's handler. Nobody is answered, so what goes wrong is logged.
    fn noticed(&self, method: &str, params: RawParams, slot: Slot) -> BoxFuture<'static, ()> {
        let response = self.respond(Id::Null, method, params);
        let method = method.to_owned();
        async move {
            match AssertUnwindSafe(response).catch_unwind().await {
                Ok(response) if response.is_error() => {
                    let answer = shortened(response.as_ref().as_bytes());
                    tracing::warn!(method, answer, "A notification was refused.");
                }
                Ok(_) => {}
                Err(panic) => tracing::error!(method, message = said(&*panic), "A handler panicked."),
            }
            drop(slot);
        }
        .boxed()
    }

    fn respond(
        &self,
        id: Id<'static>,
        method: &str,
        params: RawParams,
    ) -> BoxFuture<'static, MethodResponse> {
        match self.methods.method(method) {
            // Nothing but asynchronous methods is ever registered, and what is too long is refused afterwards.
            Some(MethodCallback::Async(callback)) => {
                callback(id, Params::new(None), ConnectionId(0), usize::MAX, carry(params))
            }
            _ => {
                let message = format!("the method `{}` is not known here", shortened(method.as_bytes()));
                futures_util::future::ready(refusal(id, code::METHOD_NOT_FOUND, message)).boxed()
            }
        }
    }
}

fn refusal(id: Id<'_>, code: i32, message: String) -> MethodResponse {
    MethodResponse::error(id, error_object(RpcError::new(code, message)))
}

/// What a panic said.
fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}
