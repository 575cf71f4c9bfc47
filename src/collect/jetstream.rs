//! A bounded, durable queue of batches in a stream of NATS JetStream, with a durable consumer for each of those who take.
//!
//! ```text
//!  append ──> publish, acknowledged ─> stream ─┬─ consumer a ─> take, settle
//!  append ──> publish, acknowledged ─> (file)  └─ consumer b ─> take, settle
//! ```
//!
//! # Invariants
//! - What [`Jetstream::append`] answered with `Kept` was acknowledged by JetStream, and stays in its file until every consumer has
//!   settled it or the bound drops it.
//! - Nothing is put in before each output has its consumer: a stream of this kind keeps what a consumer waits for, and
//!   nothing else.
//! - A consumer is named as its output is: aggregators whose outputs have the same name share it, and each batch is delivered
//!   by one of them.
//! - Above the bound JetStream drops the oldest. That is counted in batches, since nobody can look into what is gone.
//! - Nothing is published to a server that is away: it would arrive later, behind the back of whoever was told that it did
//!   not.
//! - No message holds a secret, and no argument of a program.

mod gaps;
mod keeper;
mod link;
mod parts;
mod place;
mod take;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::message::PublishMessage;
use outrider_protocol::aggregator;
use outrider_protocol::fault::chain;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::backlog::{Entry, Kept};
use gaps::Seen;
use keeper::Keeper;
use parts::{Part, parts};
pub(crate) use take::{Taken, Taker};

/// The stream failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JetstreamError {
    /// It cannot be used now.
    #[error(
        "use the stream {stream} of NATS at {servers}: {why}; what comes is not acknowledged until that is over"
    )]
    Away {
        /// Its name.
        stream: String,
        /// Where it was looked for.
        servers: String,
        /// What is wrong.
        why: String,
        /// Whether a person has to do something about it.
        denied: bool,
    },
    /// It did not take a batch.
    #[error("put a batch into the stream {stream} of NATS: {why}; it was not acknowledged")]
    NotKept {
        /// Its name.
        stream: String,
        /// What it said.
        why: String,
    },
    /// Something that cannot be taken apart is larger than what NATS takes.
    #[error(
        "put a batch into the stream {stream} of NATS: one sample or event of it has {found} bytes, and the server takes \
         {most}; raise `max_payload` in its configuration"
    )]
    TooLarge {
        /// The stream's name.
        stream: String,
        /// How large it is.
        found: usize,
        /// How large it may be.
        most: usize,
    },
    /// Batches could not be taken out, or settled.
    #[error("{operation} the stream {stream} of NATS: {why}; that is tried again")]
    Consumer {
        /// What was tried.
        operation: &'static str,
        /// The stream's name.
        stream: String,
        /// What went wrong.
        why: String,
    },
}

impl JetstreamError {
    /// Whether a person has to do something about it.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Away { denied: true, .. })
    }
}

/// Called with an output's name and how many batches it will not see, since the bound was reached. Must not wait.
pub type TellDropped = Arc<dyn Fn(&str, u64) + Send + Sync>;

/// How full it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamFill {
    /// Bytes in the stream.
    pub bytes: u64,
    /// The number of the oldest batch that it has.
    pub first: u64,
    /// Whether it is so full that it drops the oldest for what comes.
    pub is_full: bool,
    /// Of each output: the batches that wait for it.
    pub waiting: HashMap<String, u64>,
}

impl StreamFill {
    /// As the stream tells it, with the bound that it has. The next batch is not known, and is as large as a server takes at most.
    fn of(state: &async_nats::jetstream::stream::State, most_bytes: i64, payload: usize) -> Self {
        let most = u64::try_from(most_bytes).unwrap_or(u64::MAX);
        // Of a stream that is smaller than a few messages, half is much.
        let is_full = state.bytes.saturating_add(payload as u64) >= most && state.bytes >= most / 2;
        Self { bytes: state.bytes, first: state.first_sequence, is_full, waiting: HashMap::new() }
    }

    /// Whether the bound has dropped a batch of this number, and with it all before.
    pub(crate) fn has_dropped(&self, number: u64) -> bool {
        self.is_full && self.first > number
    }
}

/// What the stream has to be.
#[derive(Debug)]
pub(crate) struct Plan {
    settings: aggregator::Jetstream,
    outputs: Vec<String>,
    most_bytes: u64,
    connect: Duration,
    /// How long an answer may take, and how long a batch may be with somebody who says nothing of it.
    answer: Duration,
}

impl Plan {
    /// What batches are published to.
    fn subject(&self) -> String {
        format!("{}.batches", self.settings.stream)
    }

    fn servers(&self) -> String {
        self.settings.servers.join(", ")
    }
}

/// Whether the stream can be used.
#[derive(Debug, Clone)]
enum Condition {
    /// Nothing is known yet.
    Begins,
    Away {
        why: String,
        denied: bool,
    },
    Ready(Arc<Open>),
}

/// A stream that can be used.
#[derive(Debug)]
struct Open {
    client: Client,
    context: Context,
    consumers: HashMap<String, PullConsumer>,
}

/// A handle; the connection ends when the last one is dropped. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Jetstream(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    plan: Arc<Plan>,
    condition: watch::Receiver<Condition>,
    fill: watch::Receiver<StreamFill>,
    seen: Arc<Seen>,
    keeper: AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Jetstream {
    /// Begins to connect, and to make the stream and a consumer for each output. Nobody is waited for: a server that is away
    /// is one that comes back.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn open(
        settings: &aggregator::Jetstream,
        outputs: &[String],
        most_bytes: u64,
        (connect, answer): (Duration, Duration),
        tell: TellDropped,
    ) -> Self {
        let (settings, outputs) = (settings.clone(), outputs.to_vec());
        let plan = Arc::new(Plan { settings, outputs, most_bytes, connect, answer });
        let (condition_in, condition) = watch::channel(Condition::Begins);
        let (fill_in, fill) = watch::channel(StreamFill::default());
        let seen = Arc::new(Seen::new(tell));
        let keeper = Keeper::new(Arc::clone(&plan), condition_in, fill_in, Arc::clone(&seen));
        let keeper = tokio::spawn(keeper.keep()).abort_handle();
        Self(Arc::new(Inner { plan, condition, fill, seen, keeper }))
    }

    /// Keeps an entry. When this answers `Ok`, JetStream has acknowledged it.
    ///
    /// # Errors
    /// When it is not kept, or nobody knows; of an entry in several parts some may be.
    pub async fn append(&self, entry: Entry) -> Result<Kept, JetstreamError> {
        let open = self.ready()?;
        let stream = || self.0.plan.settings.stream.clone();
        let parts = parts(entry, open.client.max_payload()).map_err(|it| JetstreamError::TooLarge {
            stream: stream(),
            found: it.found,
            most: it.most,
        })?;
        let mut kept = Kept::Before;
        for part in parts {
            let repeated = self.publish(&open, part).await;
            let repeated = repeated.map_err(|why| JetstreamError::NotKept { stream: stream(), why })?;
            if !repeated {
                kept = Kept::Now;
            }
        }
        Ok(kept)
    }

    /// Answers whether it had been there before.
    async fn publish(&self, open: &Open, part: Part) -> Result<bool, String> {
        let plan = &self.0.plan;
        let message =
            PublishMessage::build().payload(part.bytes.into()).expected_stream(&plan.settings.stream);
        let message = match &part.id {
            Some(id) => message.message_id(id),
            None => message,
        };
        let sent = open.context.send_publish(plan.subject(), message).await;
        let acknowledged = sent.map_err(|err| chain_once(&err))?.await;
        acknowledged.map(|it| it.duplicate).map_err(|err| chain_once(&err))
    }

    /// Whether batches can be kept now.
    ///
    /// # Errors
    /// When they cannot.
    pub fn check(&self) -> Result<(), JetstreamError> {
        self.ready().map(drop)
    }

    /// How full it is, as of the last look.
    #[must_use]
    pub fn fill(&self) -> StreamFill {
        self.0.fill.borrow().clone()
    }

    /// The batches that an output will not see, since this began.
    #[must_use]
    pub fn dropped(&self, output: &str) -> u64 {
        self.0.seen.dropped(output)
    }

    fn ready(&self) -> Result<Arc<Open>, JetstreamError> {
        let away = |why: String, denied| JetstreamError::Away {
            stream: self.0.plan.settings.stream.clone(),
            servers: self.0.plan.servers(),
            why,
            denied,
        };
        match &*self.0.condition.borrow() {
            Condition::Begins => Err(away("it is not connected yet".to_owned(), false)),
            Condition::Away { why, denied } => Err(away(why.clone(), *denied)),
            Condition::Ready(open) if open.client.connection_state() == State::Connected => {
                Ok(Arc::clone(open))
            }
            Condition::Ready(_) => Err(away("the connection is gone".to_owned(), false)),
        }
    }
}

impl Inner {
    /// Waits until something is known.
    async fn begun(&self) {
        let mut condition = self.condition.clone();
        // An error says that the keeper is gone, and with it whoever would be told.
        drop(condition.wait_for(|it| !matches!(it, Condition::Begins)).await);
    }
}

/// An error with its causes. Those of the client repeat their cause in their own text.
fn chain_once(err: &dyn std::error::Error) -> String {
    let whole = err.to_string();
    match err.source() {
        Some(cause) if !whole.contains(&cause.to_string()) => chain(err),
        _ => whole,
    }
}
