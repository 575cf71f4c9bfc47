//! Taking batches out for one output, and settling them.
//!
//! # Invariants
//! - What was taken is held until it is settled or released: as long as this lives, the server hears of each that it is
//!   worked on, and gives it to nobody else. Whatever ends the process, it comes again when nothing was heard for the
//!   consumer's `ack_wait`.
//! - Something is settled when the server has answered that it is.
//! - Nothing is said of what an earlier consumer of the same name gave out: a server that counts anew would take it for another
//!   batch, and settle that.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::Batch;
use async_nats::{Client, RequestErrorKind, Subject};
use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::gaps::Delivery;
use super::place::which;
use super::{Jetstream, JetstreamError, chain_once};

/// How many are settled at once.
const AT_ONCE: usize = 64;
/// What a batch takes beside its bytes, as far as the bound of one request counts.
const MESSAGE_BYTES: usize = 64 << 10;
/// How long a request may take beyond the time for which it waits.
const GRACE: Duration = Duration::from_secs(5);

/// A batch, and where it is settled.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) bytes: Vec<u8>,
    /// Its number in the stream.
    pub(crate) number: u64,
    pub(crate) reply: Subject,
}

/// Takes for one output.
#[derive(Debug)]
pub(crate) struct Taker {
    jetstream: Jetstream,
    output: String,
    held: Arc<Held>,
    beat: AbortHandle,
}

/// Each with which consumer gave it out.
#[derive(Debug, Default)]
struct Held(Mutex<Vec<(Subject, Arc<str>)>>);

impl Held {
    fn lock(&self) -> MutexGuard<'_, Vec<(Subject, Arc<str>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what another consumer than this gave out, and answers with what is left.
    fn of(&self, consumer: &PullConsumer) -> Vec<Subject> {
        let which = which(consumer);
        let mut held = self.lock();
        held.retain(|(_, of)| **of == *which);
        held.iter().map(|(reply, _)| reply.clone()).collect()
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        self.beat.abort();
    }
}

impl Taker {
    /// # Panics
    /// Outside of a tokio runtime.
    pub(crate) fn new(jetstream: Jetstream, output: String) -> Self {
        let held = Arc::new(Held::default());
        let beat = tokio::spawn(beat(jetstream.clone(), output.clone(), Arc::clone(&held))).abort_handle();
        Self { jetstream, output, held, beat }
    }

    /// What there is, at most so many and so many bytes; where a time is given, waits for one batch so long.
    ///
    /// # Errors
    /// When nothing can be taken.
    pub(crate) async fn take(
        &self,
        wait: Option<Duration>,
        most: usize,
        bytes: usize,
    ) -> Result<Vec<Taken>, JetstreamError> {
        // The beginning is no trouble, unless it takes long.
        drop(timeout(GRACE, self.jetstream.0.begun()).await);
        let open = self.jetstream.ready()?;
        let failed = |why: String| JetstreamError::Consumer {
            operation: "take batches out of",
            stream: self.jetstream.0.plan.settings.stream.clone(),
            why,
        };
        let Some(consumer) = open.consumers.get(&self.output) else {
            return Err(failed("the output has no consumer".to_owned()));
        };
        let bytes = bytes.max(open.client.max_payload() + MESSAGE_BYTES);
        let messages = match wait {
            Some(wait) => consumer.batch().max_messages(1).expires(wait).messages().await,
            None => consumer.fetch().max_messages(most).max_bytes(bytes).messages().await,
        };
        let messages = messages.map_err(|err| failed(chain_once(&err)))?;
        let mut taken = Vec::new();
        let which = which(consumer).into();
        let all = timeout(wait.unwrap_or_default() + GRACE, self.read(messages, which, &mut taken)).await;
        match all {
            Ok(Err(why)) if taken.is_empty() => Err(failed(why)),
            // What was taken is good, whatever comes after it; where nothing came, the next try says why.
            _ => Ok(taken),
        }
    }

    async fn read(&self, mut messages: Batch, which: Arc<str>, taken: &mut Vec<Taken>) -> Result<(), String> {
        while let Some(message) = messages.next().await {
            let message = message.map_err(|err| err.to_string())?;
            let Some(reply) = message.reply.clone() else { continue };
            let mut number = u64::MAX;
            if let Ok(info) = message.info() {
                number = info.stream_sequence;
                let (stream, consumer) = (info.stream_sequence, info.consumer_sequence);
                self.jetstream
                    .0
                    .seen
                    .take(&self.output, Delivery { stream, consumer, times: info.delivered });
            }
            self.held.lock().push((reply.clone(), Arc::clone(&which)));
            taken.push(Taken { bytes: message.payload.to_vec(), number, reply });
        }
        Ok(())
    }

    /// Settles what is dealt with, and takes it out of `done` as far as the server confirms it.
    ///
    /// # Errors
    /// When some are left.
    pub(crate) async fn settle(&self, done: &mut Vec<Subject>) -> Result<(), JetstreamError> {
        while !done.is_empty() {
            let open = self.jetstream.ready()?;
            if let Some(consumer) = open.consumers.get(&self.output) {
                let known = self.held.of(consumer);
                done.retain(|it| known.contains(it));
            }
            let now = done.iter().take(AT_ONCE);
            let answers = join_all(now.map(|it| confirmed(&open.client, it))).await;
            let mut failure = None;
            let (mut left, mut settled) = (Vec::new(), Vec::new());
            for (reply, answer) in done.drain(..answers.len()).zip(answers) {
                match answer {
                    Ok(()) => settled.push(reply),
                    Err(why) => {
                        failure = Some(why);
                        left.push(reply);
                    }
                }
            }
            done.extend(left);
            self.forget(&settled);
            if let Some(why) = failure {
                let stream = self.jetstream.0.plan.settings.stream.clone();
                return Err(JetstreamError::Consumer { operation: "settle a batch in", stream, why });
            }
        }
        Ok(())
    }

    /// Whether the bound has dropped a batch of this number, as of the last look.
    pub(crate) fn has_dropped(&self, number: u64) -> bool {
        self.jetstream.0.fill.borrow().has_dropped(number)
    }

    /// Says no more of these.
    pub(crate) fn forget(&self, given_up: &[Subject]) {
        self.held.lock().retain(|(it, _)| !given_up.contains(it));
    }

    /// Gives back what is held, so that it comes again at once.
    pub(crate) async fn release(&self) {
        if let Ok(open) = self.jetstream.ready()
            && let Some(consumer) = open.consumers.get(&self.output)
        {
            for reply in self.held.of(consumer) {
                // What is not heard comes again later.
                drop(open.client.publish(reply, "-NAK".into()).await);
            }
            drop(timeout(Duration::from_secs(1), open.client.flush()).await);
        }
        self.held.lock().clear();
    }
}

async fn confirmed(client: &Client, reply: &Subject) -> Result<(), String> {
    match client.request(reply.clone(), "+ACK".into()).await {
        Ok(_) => Ok(()),
        // Nobody knows it any more: the consumer was deleted.
        Err(err) if err.kind() == RequestErrorKind::NoResponders => Ok(()),
        Err(err) => Err(chain_once(&err)),
    }
}

/// Says again and again that what is held is worked on.
async fn beat(jetstream: Jetstream, output: String, held: Arc<Held>) {
    loop {
        let mut pause = jetstream.0.plan.answer;
        if let Ok(open) = jetstream.ready()
            && let Some(consumer) = open.consumers.get(&output)
        {
            pause = consumer.cached_info().config.ack_wait;
            for reply in held.of(consumer) {
                drop(open.client.publish(reply, "+WPI".into()).await);
            }
        }
        sleep(pause.max(Duration::from_millis(300)) / 3).await;
    }
}
