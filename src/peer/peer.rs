//! One end of a link, as its user holds it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use jsonrpsee::core::client::Error as ClientError;
use jsonrpsee::core::middleware::{Notification, RpcServiceT};
use jsonrpsee::types::{ErrorObject, Id, Request, ResponsePayload};
use outrider_protocol::fault::RpcError;
use outrider_protocol::{Call, Notice, Raw};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::unconstrained;

use crate::incoming::Incoming;
use crate::outgoing::{Line, Queue, write};
use crate::shared::Shared;
use crate::transport::{BAD_ANSWER, FLUSH, RpcClient};
use crate::{CallError, FLUSH_TIME, Handlers, Limits, Lost};

/// Room in a line for everything around the parameters: version, id, method.
const ENVELOPE_BYTES: usize = 256;

/// This end of a link, for calling the other. Clones are the same end; when the last is dropped, the link is closed at
/// once, without waiting for what is queued ([`Peer::close`] waits).
#[derive(Debug, Clone)]
pub struct Peer {
    end: Arc<End>,
}

#[derive(Debug)]
struct End {
    shared: Arc<Shared>,
    client: RpcClient,
    queue: Queue,
    in_flight: Semaphore,
}

/// Makes a link of two byte streams: a JSON-RPC 2.0 message a line, both ends may call. Its tasks run on the current
/// tokio runtime, and panic without one.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn connect<C: Send + Sync + 'static>(
    reader: impl AsyncRead + Send + 'static,
    writer: impl AsyncWrite + Send + 'static,
    handlers: Handlers<C>,
    limits: Limits,
) -> Peer {
    let in_flight = Semaphore::new(limits.concurrent_requests.max(1));
    // As many as may wait for an answer, so that the reading task never waits here.
    let (answers, answered) = mpsc::channel(limits.concurrent_requests.max(1));
    let (queue, queued) = Queue::new(limits.outgoing_lines);
    let shared = Arc::new(Shared::new(limits));
    let incoming = Incoming::start(&shared, handlers.into_registry(), queue.clone(), answers);
    tokio::spawn(incoming.run(Box::pin(reader)));
    tokio::spawn(write(Box::pin(writer), queued, queue.spare().clone(), shared.clone()));
    let client = RpcClient::start(&shared, queue.clone(), answered);
    Peer { end: Arc::new(End { shared, client, queue, in_flight }) }
}

impl Peer {
    /// Calls the other end and waits for its answer, at most [`Limits::request_timeout`].
    ///
    /// # Errors
    /// [`CallError`]: the other end's own error, or why there is no answer.
    pub async fn call<M: Call>(&self, params: &M::Params) -> Result<M::Reply, CallError> {
        self.call_within::<M>(Some(self.end.shared.limits.request_timeout), params).await
    }

    /// The same with another bound; `None` waits as long as the link lives. A dropped future gives the call up: the
    /// other end is not told, and its answer is dropped.
    ///
    /// # Errors
    /// As [`Peer::call`].
    pub async fn call_within<M: Call>(
        &self,
        within: Option<Duration>,
        params: &M::Params,
    ) -> Result<M::Reply, CallError> {
        let raw = self.raw(M::NAME, params)?;
        let call = self.answer(M::NAME, &raw);
        let answer = match within {
            None => call.await?,
            Some(after) => tokio::time::timeout(after, call)
                .await
                .map_err(|_| CallError::TimedOut { method: M::NAME, after })??,
        };
        serde_json::from_str(answer.get())
            .map_err(|err| CallError::BadReply { method: M::NAME, found: err.to_string() })
    }

    /// An empty text for [`Peer::call_text`], with memory that was used before where there is some.
    #[must_use]
    pub fn spare_text(&self) -> String {
        self.end.queue.spare().take()
    }

    /// The same for parameters that are written as JSON already: the text is written from where it is, so that a large one
    /// is in memory once. It must be one JSON value, which the other end checks, not this one. The call goes past those that wait in jsonrpsee's client, and one
    /// that is given up is sent all the same when it was queued.
    ///
    /// # Errors
    /// As [`Peer::call`].
    pub async fn call_text<M: Call>(
        &self,
        within: Option<Duration>,
        params: String,
    ) -> Result<M::Reply, CallError> {
        self.check_size(M::NAME, params.len())?;
        let answer = self.answer_to_text(M::NAME, params);
        let answer = match within {
            None => answer.await?,
            Some(after) => tokio::time::timeout(after, answer)
                .await
                .map_err(|_| CallError::TimedOut { method: M::NAME, after })??,
        };
        serde_json::from_str(answer.get())
            .map_err(|err| CallError::BadReply { method: M::NAME, found: err.to_string() })
    }

    /// Sends a notification. Waits for room in the outgoing queue, at most [`Limits::request_timeout`]; what was sent
    /// before, calls included, is written before it.
    ///
    /// # Errors
    /// [`CallError`], never its `Rpc` and `BadReply`.
    pub async fn notify<N: Notice>(&self, params: &N::Params) -> Result<(), CallError> {
        let raw = self.raw(N::NAME, params)?;
        let after = self.end.shared.limits.request_timeout;
        match tokio::time::timeout(after, self.send(N::NAME, Some(raw))).await {
            Ok(sent) => sent.map_err(CallError::Lost),
            Err(_) => Err(CallError::TimedOut { method: N::NAME, after }),
        }
    }

    /// Sets [`Limits::line_bytes`] anew, from the next line on: for an end that hears from the other how long lines may be.
    pub fn set_line_bytes(&self, bytes: usize) {
        self.end.shared.set_line_bytes(bytes);
    }

    /// Waits until the link is gone. By then everything that had come before has reached its handler.
    pub async fn closed(&self) -> Lost {
        self.end.shared.until_lost().await
    }

    /// Whether the link is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lost().is_some()
    }

    /// Why the link is gone, if it is.
    #[must_use]
    pub fn lost(&self) -> Option<Lost> {
        self.end.shared.lost()
    }

    /// Writes what is queued, for a few seconds at most, and ends this end's writing side, which tells a child to
    /// exit. Calls without an answer by then fail with [`Lost::Closed`]; notifications of the other end are still
    /// taken until it closes its side too, or the last [`Peer`] is dropped.
    pub async fn close(&self) {
        let peer = self.clone();
        // A task of its own: giving up waiting must not mean to leave the link open.
        let closing = tokio::spawn(async move {
            let ended = async {
                if peer.send(FLUSH, None).await.is_ok() {
                    peer.closed().await;
                }
            };
            drop(tokio::time::timeout(FLUSH_TIME, ended).await);
            peer.end.shared.lose(Lost::Closed);
        });
        drop(closing.await);
    }

    /// What is kept for calls that have no answer yet.
    #[cfg(test)]
    pub(crate) fn open_calls(&self) -> usize {
        self.end.shared.open_calls()
    }

    fn raw<P: Serialize>(&self, method: &'static str, params: &P) -> Result<Raw, CallError> {
        if let Some(lost) = self.lost() {
            return Err(lost.into());
        }
        let raw = to_raw_value(params).map_err(|err| CallError::NotJson { method, error: Arc::new(err) })?;
        self.check_size(method, raw.get().len())?;
        Ok(raw)
    }

    fn check_size(&self, method: &'static str, bytes: usize) -> Result<(), CallError> {
        let limit = self.end.shared.line_bytes();
        if bytes + ENVELOPE_BYTES > limit {
            return Err(CallError::TooLong { method, bytes, limit });
        }
        Ok(())
    }

    /// Queues a call's line, and waits for the result as it comes.
    async fn answer_to_text(&self, method: &'static str, params: String) -> Result<Raw, CallError> {
        #[derive(Deserialize)]
        struct Answer<'a> {
            result: Option<Raw>,
            #[serde(borrow)]
            error: Option<ErrorObject<'a>>,
        }
        let _in_flight = self.end.in_flight.acquire().await;
        let shared = &self.end.shared;
        let lost = || CallError::from(self.lost().unwrap_or(Lost::Closed));
        let (waiting, answered) = shared.begin_direct();
        let head = format!(r#"{{"jsonrpc":"2.0","id":{},"method":"{method}","params":"#, waiting.id);
        tokio::select! {
            queued = self.end.queue.line(Line::call(head, params)) => queued.map_err(|_| lost())?,
            _ = shared.until_lost() => return Err(lost()),
        }
        let line = tokio::select! {
            biased;
            answer = answered => answer.map_err(|_| lost())?,
            _ = shared.until_lost() => return Err(lost()),
        };
        match serde_json::from_str::<Answer<'_>>(&line) {
            Ok(Answer { error: Some(error), .. }) if error.code() == BAD_ANSWER => {
                Err(CallError::BadReply { method, found: error.message().to_owned() })
            }
            Ok(Answer { error: Some(error), .. }) => Err(CallError::Rpc(rpc_error(&error))),
            Ok(Answer { result, error: None }) => Ok(result.unwrap_or_else(|| RawValue::NULL.to_owned())),
            Err(err) => Err(CallError::BadReply { method, found: err.to_string() }),
        }
    }

    /// Calls and waits for the result as it comes.
    async fn answer(&self, method: &'static str, params: &Raw) -> Result<Raw, CallError> {
        // No more calls are under way than the other end, if it is one of ours, takes at once: so its reader never
        // pauses on our calls, and answers always pass, however many call in both directions.
        let _in_flight = self.end.in_flight.acquire().await;
        if !self.end.shared.take_room().await {
            return Err(self.lost().unwrap_or(Lost::Closed).into());
        }
        let waiting = self.end.shared.begin();
        let request = Request::borrowed(method, Some(params), Id::Number(waiting.id));
        // Unconstrained, so that the first poll puts it into the queue, where there is room.
        let response = match unconstrained(self.end.client.service.call(request)).await {
            Ok(response) => response.into_response().into_inner(),
            Err(err) => return Err(self.gone(&err).into()),
        };
        match response.payload {
            ResponsePayload::Success(result) => Ok(result.into_owned()),
            ResponsePayload::Error(error) if error.code() == BAD_ANSWER => {
                Err(CallError::BadReply { method, found: error.message().to_owned() })
            }
            ResponsePayload::Error(error) => Err(CallError::Rpc(rpc_error(&error))),
        }
    }

    async fn send(&self, method: &'static str, params: Option<Raw>) -> Result<(), Lost> {
        if !self.end.shared.take_room().await {
            return Err(self.lost().unwrap_or(Lost::Closed));
        }
        let notification = Notification::new(method.into(), params.map(Cow::Owned));
        let sent = unconstrained(self.end.client.service.notification(notification)).await;
        sent.map(drop).map_err(|err| self.gone(&err))
    }

    /// Why the client has ended. It only ends with the link; should it ever not, the link ends with it.
    fn gone(&self, err: &ClientError) -> Lost {
        let error = Arc::new(std::io::Error::other(format!("the JSON-RPC client ended: {err}")));
        self.end.shared.lose(Lost::Io { doing: "call over", error });
        self.lost().unwrap_or(Lost::Closed)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.shared.lose(Lost::Closed);
        self.shared.stop();
    }
}

/// The other end's error. Data in a shape of its own is left out.
fn rpc_error(error: &ErrorObject<'_>) -> RpcError {
    let data = error.data().and_then(|data| serde_json::from_str(data.get()).ok());
    RpcError { code: error.code(), message: error.message().to_owned(), data }
}
