//! Objects on their way to the agent: batches, and a window of batches without an answer.

use std::collections::VecDeque;
use std::time::Duration;

use outrider_peer::CallError;
use outrider_protocol::Call;
use outrider_protocol::ids::SessionId;
use outrider_protocol::integration::{Rejected, SessionSend, SessionSendReply};
use serde::Serialize;
use serde::ser::Error as _;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::error::Error;
use crate::session::{Core, Sent};

/// A batch that waits this long goes out as it is, so that a slow source still shows a sign of life.
const OLDEST: Duration = Duration::from_secs(1);

/// Room in a message for everything but the objects.
const ENVELOPE_BYTES: usize = 1024;

/// What of the memory in which objects are serialized is kept, and the size from which on an object is large.
const SCRATCH_BYTES: usize = 64 * 1024;

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
    /// The parameters of the next batch as far as they are known: the beginning, and the waiting objects with commas
    /// between. It is written from where it is.
    text: String,
    /// Where an object is serialized, and checked to be text.
    scratch: Vec<u8>,
    /// Where the waiting objects begin in it.
    head: usize,
    waiting: u64,
    /// Batches that are full and not on their way yet, each with the number of its objects. Rarely more than one.
    full: VecDeque<(String, u64)>,
    /// When the first of the waiting objects came.
    since: Option<Instant>,
    unanswered: JoinSet<Answer>,
    given: u64,
    accepted: u64,
    unchanged: u64,
    rejected: u64,
}

/// Where an object is being written.
struct Start {
    /// The end of the batch without it.
    end: usize,
    object: usize,
}

/// Writes what comes before the next object of a batch.
fn begin(text: &mut String, head: &mut usize, waiting: u64, session: SessionId) -> Start {
    if text.is_empty() {
        text.push_str(&format!(r#"{{"session":{session},"objects":["#));
        *head = text.len();
    }
    let end = text.len();
    if waiting > 0 {
        text.push(',');
    }
    Start { end, object: text.len() }
}

/// Memory for the next batch, which is most likely about as long.
fn memory(core: &Core, bytes: usize) -> String {
    let mut text = core.context.peer().spare_text();
    text.reserve(bytes + bytes / 16 + ENVELOPE_BYTES);
    text
}

fn not_text(err: std::str::Utf8Error) -> serde_json::Error {
    serde_json::Error::custom(format!("the JSON of the object is not UTF-8: {err}"))
}

/// How many objects a batch had, and what the agent answered.
type Answer = (u64, Result<SessionSendReply, CallError>);

impl Outgoing {
    pub(crate) fn new(max_line_bytes: usize) -> Self {
        Self {
            batching: Batching::default(),
            largest: max_line_bytes.saturating_sub(ENVELOPE_BYTES),
            text: String::new(),
            scratch: Vec::new(),
            head: 0,
            waiting: 0,
            full: VecDeque::new(),
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

    /// Takes an object into the next batch: it is there, or nothing has changed. [`Outgoing::send_full`] is to follow.
    pub(crate) fn add<T: Serialize + ?Sized>(&mut self, core: &Core, object: &T) -> Result<(), Error> {
        self.scratch.clear();
        let failed = |err| Error::Serialize { what: core.name.clone(), err };
        if let Err(err) = serde_json::to_writer(&mut self.scratch, object) {
            self.scratch = Vec::new();
            return Err(failed(err));
        }
        if self.scratch.len() > SCRATCH_BYTES {
            let text = String::from_utf8(std::mem::take(&mut self.scratch));
            return self.add_large(core, text.map_err(|err| failed(not_text(err.utf8_error())))?);
        }
        let text = std::str::from_utf8(&self.scratch).map_err(|err| failed(not_text(err)))?;
        let start = begin(&mut self.text, &mut self.head, self.waiting, core.id);
        self.text.push_str(text);
        self.take(core, start)
    }

    /// An object that is too large to be in memory twice begins a batch.
    fn add_large(&mut self, core: &Core, mut object: String) -> Result<(), Error> {
        let bytes = object.len();
        if bytes > self.largest {
            return Err(Error::TooLarge { model: core.name.clone(), bytes, limit: self.largest });
        }
        if self.waiting > 0 {
            self.end_batch(String::new());
        }
        self.text.clear();
        let start = begin(&mut self.text, &mut self.head, 0, core.id);
        object.insert_str(0, &self.text);
        self.text = object;
        self.take(core, start)?;
        if self.text.len() - self.head > self.batching.bytes && self.waiting > 0 {
            self.end_batch(String::new());
        }
        Ok(())
    }

    /// The same for JSON text that was checked.
    pub(crate) fn add_text(&mut self, core: &Core, object: &str) -> Result<(), Error> {
        let start = begin(&mut self.text, &mut self.head, self.waiting, core.id);
        self.text.push_str(object);
        self.take(core, start)
    }

    fn take(&mut self, core: &Core, Start { end, object }: Start) -> Result<(), Error> {
        let bytes = self.text.len() - object;
        if bytes > self.largest {
            self.text.truncate(end);
            return Err(Error::TooLarge { model: core.name.clone(), bytes, limit: self.largest });
        }
        if self.waiting > 0 && self.text.len() - self.head > self.largest.min(self.batching.bytes) {
            let mut later = memory(core, self.head + bytes);
            later.push_str(&self.text[..self.head]);
            later.push_str(&self.text[object..]);
            self.text.truncate(end);
            self.end_batch(later);
        }
        self.waiting += 1;
        self.given += 1;
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        if self.waiting >= self.batching.objects as u64 || now - since >= OLDEST {
            let next = memory(core, self.text.len());
            self.end_batch(next);
        }
        Ok(())
    }

    /// The batch is full; `next` is the beginning of the one after it.
    fn end_batch(&mut self, next: String) {
        let text = std::mem::replace(&mut self.text, next);
        self.full.push_back((text, std::mem::take(&mut self.waiting)));
        self.since = None;
    }

    /// Puts full batches on their way, when fewer than a window of them are. One that was not sent, since the future was
    /// dropped, is sent the next time.
    pub(crate) async fn send_full(&mut self, core: &Core) -> Result<(), Error> {
        while !self.full.is_empty() {
            core.context.check()?;
            while self.unanswered.len() >= self.batching.window {
                self.take_answer(core).await?;
            }
            let Some((mut text, count)) = self.full.pop_front() else { break };
            text.push_str(&format!(r#"],"count":{count}}}"#));
            let peer = core.context.peer().clone();
            // Without a bound of our own: while the spool is full the agent holds its answer, for as long as its operator
            // lets it.
            self.unanswered.spawn(async move { (count, peer.call_text::<SessionSend>(None, text).await) });
            // An author who never waits for anything else must still let the link write, and hear a cancel.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn dispatch(&mut self, core: &Core) -> Result<(), Error> {
        if self.waiting > 0 {
            self.end_batch(String::new());
        }
        self.send_full(core).await
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
        // Numbers of another program: their sum must not overflow.
        let answered = reply.accepted.saturating_add(reply.unchanged).saturating_add(rejected);
        if answered != count {
            return Err(Error::Count {
                session: core.id,
                name: core.name.clone(),
                counted: answered,
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
