//! Any pair of byte streams as a link: JSON-RPC 2.0, a message a line, both ends call. Built on jsonrpsee's client,
//! types and method registry, with a transport of our own.
//!
//! **Invariant:** nothing here grows without bound: a line, what is kept of one that is too long, the outgoing queue, the
//! requests in progress and the calls under way each have a limit, and whoever exceeds one waits or is refused.
//!
//! **Invariant:** the reading task never waits for the writing one, so two ends that both only write still read.
//!
//! **Invariant:** a link is lost once. The first cause ([`Lost`]) is kept and told to every waiter, now and later.
//!
//! **Invariant:** only a line's envelope is parsed here. Parameters and results stay text until their handler or
//! caller reads them, and a line is copied once: out of the read buffer. Of a large request whose handler reads the
//! parameters itself ([`Handlers::on_raw`]) only the beginning is looked at, so that a batch of objects is read once; what
//! the handler cannot read is then told apart as in the table below, but for the id, which is then known.
//!
//! **Invariant:** this crate starts no process, opens no file (but `/dev/null`), knows no method but those it is given, and never answers
//! an answer.
//!
//! # How it works
//!
//! ```text
//!  reader ─> Lines ─> Message ─┬─ request ─> slot ─> dispatcher ─> handler ─┐
//!                              └─ answer ──> jsonrpsee's client ─> caller   │
//!  writer <─ gathered lines <─ outgoing queue <─┬───────────────────────────┘
//!                                               ├─ jsonrpsee's client <─ caller
//!                                               └─ text of a large call <─ caller
//! ```
//!
//! The *reading task* splits lines and sorts them. A request takes a slot ([`Limits::concurrent_requests`]) until its
//! answer is queued; without a free slot reading pauses, the pipe fills, and the other end waits: this is the whole of
//! the back-pressure. The *dispatching task* polls each handler first in the order of arrival; they may finish in
//! another. A notification is handled to its end before what follows it begins, so notifications stay in order. A
//! handler that began runs to its end even when the link is lost; its answer is then dropped. The *writing task*
//! gathers short lines into one write.
//!
//! As many calls as the other end takes at once may be under way; more wait their turn. A call that is given up (by
//! time, or because its future was dropped) is not sent if it still was queued, and its entry in jsonrpsee's client is
//! freed by an answer that this crate makes up.
//!
//! # What becomes of a line that is no proper message
//!
//! | line | outcome |
//! | --- | --- |
//! | blank | skipped |
//! | not UTF-8, not JSON | logged shortened, answered with -32700 and id null |
//! | a batch array, no object, wrong version, odd id, a member twice | the same with -32600, and the id where it has one |
//! | unknown method | answered with -32601; a notification is logged |
//! | parameters that do not fit | answered with -32602 |
//! | a handler panics | answered with -32603, and logged |
//! | an answer with an unknown id, null, or none | logged and dropped |
//! | an answer to a call that was given up | the same |
//! | an answer with both or neither of result and error | its caller gets [`CallError::BadReply`] |
//! | a request that is too long: longer than [`Limits::line_bytes`] | skipped, logged, answered with -32600 |
//! | an answer that is too long | skipped, logged, and its caller gets [`CallError::BadReply`] |
//! | a notification that is too long, or such an answer without an id | skipped and logged; a notification of what is a call of large parameters ([`Handlers::on_raw`]) loses the link as below |
//! | anything else that is too long, or a line of more than 2 GiB | the link is lost: [`Lost::TooLong`] |
//! | the stream ends inside of a line | the link is lost: [`Lost::Torn`] |
//! | the stream ends after a line | the link is lost: [`Lost::Ended`], when everything before it has reached its handler |
//!
//! Of a line that is too long nothing stays in memory but an outline: what stands directly in its object, without what is
//! nested in it. So the members may come in any order, and an outline is told apart as any other line is. Such a line must
//! begin with a member of a message (`jsonrpc`, `id`, `method`, `params`, `result` or `error`): a flood of text or a batch
//! array loses the link as soon as it is too long. So does at its end a line whose outline is no message and has no id:
//! someone may wait for an answer to it, nobody can know who, and would wait for ever.

mod handlers;
mod incoming;
mod lines;
mod lost;
mod message;
mod outgoing;
mod outline;
mod peer;
mod shared;
mod stdio;
#[cfg(test)]
mod tests;
mod transport;

use std::time::Duration;

pub use handlers::{Handlers, RawParams};
pub use lost::{CallError, Lost};
pub use peer::{Peer, connect};
pub use stdio::{Input, Output, stdio};

/// How long a lost link waits for what came before its end to be dealt with. Well below the second within which a
/// child exits when its parent is gone.
const GRACE: Duration = Duration::from_millis(500);

/// How long [`Peer::close`] waits for the other end to read what is queued.
const FLUSH_TIME: Duration = Duration::from_secs(5);

/// The bounds of one end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest line that is taken or sent, in bytes without its line feed.
    pub line_bytes: usize,
    /// Lines that wait to be written. Above this the other end is slow, and whoever sends waits.
    pub outgoing_lines: usize,
    /// Requests of the other end in progress. Above this reading pauses. Also the calls of this end under way.
    pub concurrent_requests: usize,
    /// How long [`Peer::call`] waits for an answer.
    pub request_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line_bytes: 32 * 1024 * 1024,
            outgoing_lines: 64,
            concurrent_requests: 64,
            request_timeout: Duration::from_secs(60),
        }
    }
}
