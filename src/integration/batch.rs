//! Objects on their way to the agent: batches, and a window of batches without an answer.

use std::time::Duration;

use outrider_peer::CallError;
use outrider_protocol::integration::{Rejected, SessionSend, SessionSendParams, SessionSendReply};
use outrider_protocol::{Call, Raw};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::error::Error;
use crate::session::{Core, Sent};

/// A batch that waits this long goes out as it is, so that a slow source still shows a sign of life.
const OLDEST: Duration = Duration::from_secs(1);

/// Room in a message for everything but the objects.
const ENVELOPE_BYTES: usize = 1024;

/// Rejected objects of a session that are logged one by one; the rest is counted.
const LOGGED_REJECTIONS: u64 = 10;

/// How a session sends its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batching {
    /// Objects in a batch. Below 100 the calls themselves begin to cost.
    pub objects: usize,
    /// Bytes of JSON in a batch.
    pub bytes: usize,
    /// Batches without an answer. Above this, sending waits.
    pub window: usize,
}

impl Default for Batching {
    fn default() -> Self {
        Self { objects: 200, bytes: 256 * 1024, window: 4 }
    }
}

/// What makes a session a [`crate::ModelSession`]: its objects on their way.
#[derive(Debug)]
pub struct Outgoing {
    batching: Batching,
    /// The largest object that a message can carry.
    largest: usize,
    waiting: Vec<Raw>,
    waiting_bytes: usize,
    /// When the first of the waiting objects came.
    since: Option<Instant>,
    unanswered: JoinSet<Answer>,
    given: u64,
    accepted: u64,
    unchanged: u64,
    rejected: u64,
}

/// How many objects a batch had, and what the agent answered.
type Answer = (u64, Result<SessionSendReply, CallError>);

impl Outgoing {
    pub(crate) fn new(max_line_bytes: usize) -> Self {
        Self {
            batching: Batching::default(),
            largest: max_line_bytes.saturating_sub(ENVELOPE_BYTES),
            waiting: Vec::new(),
            waiting_bytes: 0,
            since: None,
            unanswered: JoinSet::new(),
            given: 0,
            accepted: 0,
            unchanged: 0,
            rejected: 0,
        }
    }

    pub(crate) fn set_batching(&mut self, batching: Batching) {
        self.batching = Batching {
            objects: batching.objects.max(1),
            bytes: batching.bytes.max(1),
            window: batching.window.max(1),
        };
    }

    pub(crate) fn objects(&self) -> u64 {
        self.given - self.rejected
    }

    pub(crate) async fn push(&mut self, core: &Core, object: Raw) -> Result<(), Error> {
        let bytes = object.get().len();
        if bytes > self.largest {
            return Err(Error::TooLarge { model: core.name.clone(), bytes, limit: self.largest });
        }
        // A comma each.
        if self.waiting_bytes + bytes + self.waiting.len() > self.largest.min(self.batching.bytes) {
            self.dispatch(core).await?;
        }
        self.waiting.push(object);
        self.waiting_bytes += bytes;
        self.given += 1;
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        if self.waiting.len() >= self.batching.objects || now - since >= OLDEST {
            self.dispatch(core).await?;
        }
        Ok(())
    }

    /// Puts the waiting objects on their way, when fewer than a window of batches are.
    async fn dispatch(&mut self, core: &Core) -> Result<(), Error> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        core.context.check()?;
        while self.unanswered.len() >= self.batching.window {
            self.take_answer(core).await?;
        }
        let objects =
            std::mem::replace(&mut self.waiting, Vec::with_capacity(self.batching.objects.min(1024)));
        self.waiting_bytes = 0;
        self.since = None;
        let peer = core.context.peer().clone();
        let session = core.id;
        self.unanswered.spawn(async move {
            let count = objects.len() as u64;
            let params = SessionSendParams { session, count: Some(count), objects };
            // Without a bound of our own: while the spool is full the agent holds its answer, for as long as its
            // operator lets it.
            (count, peer.call_within::<SessionSend>(None, &params).await)
        });
        // An author who never waits for anything else must still let the link write, and hear a cancel.
        tokio::task::yield_now().await;
        Ok(())
    }

    pub(crate) async fn flush(&mut self, core: &Core) -> Result<(), Error> {
        self.dispatch(core).await?;
        while !self.unanswered.is_empty() {
            self.take_answer(core).await?;
        }
        Ok(())
    }

    /// Flushes for the last time.
    pub(crate) async fn settle(&mut self, core: &Core) -> Result<Sent, Error> {
        self.flush(core).await?;
        if self.rejected > LOGGED_REJECTIONS {
            let message = format!("{} objects of {} were rejected by the agent", self.rejected, core.name);
            core.context.warn(&message).await;
        }
        Ok(Sent { accepted: self.accepted, unchanged: self.unchanged, rejected: self.rejected })
    }

    async fn take_answer(&mut self, core: &Core) -> Result<(), Error> {
        let Some(answer) = self.unanswered.join_next().await else { return Ok(()) };
        let Ok((count, reply)) = answer else {
            let err = CallError::Lost(outrider_peer::Lost::Closed);
            return Err(core.failed(SessionSend::NAME, err));
        };
        let reply = reply.map_err(|err| core.failed(SessionSend::NAME, err))?;
        let rejected = reply.rejected.len() as u64;
        self.accepted += reply.accepted;
        self.unchanged += reply.unchanged;
        if reply.accepted + reply.unchanged + rejected != count {
            let accepted = reply.accepted + reply.unchanged + rejected;
            return Err(Error::Count {
                session: core.id,
                name: core.name.clone(),
                counted: accepted,
                accepted: count,
            });
        }
        for Rejected { id, reason, .. } in &reply.rejected {
            self.rejected += 1;
            if self.rejected <= LOGGED_REJECTIONS {
                let id = id.as_deref().unwrap_or("without id");
                core.context
                    .warn(&format!("the agent rejected an object of {} ({id}): {reason}", core.name))
                    .await;
            }
        }
        Ok(())
    }
}
