//! The spool: durable, bounded hand-over of export files from an export action to the service that uploads them.
//!
//! **Invariant:** when a commit has answered, its records are synced to disk; no crash takes them back.
//!
//! **Invariant:** a record that was rolled back, or whose session was never committed, is never handed over.
//!
//! **Invariant:** a commit is there as a whole or not at all, also when a crash cuts it short, and each of its records
//! is there once.
//!
//! **Invariant:** a file is handed over only with its counts and its hash; nothing of it changes afterwards.
//!
//! **Invariant:** a writer that goes on with an export knows what its earlier writers made durable, to the record
//! ([`ExportWriter::earlier`]): the manifest counts a file for as long as the export's folder is there, wherever the file is,
//! and the folder of an export that may still be gone on with is not removed ([`Spool::expire_sent`]).
//!
//! **Invariant:** this crate knows no network and not what a record means: a record is a line of bytes.
//!
//! # Layout
//!
//! ```text
//! <spool>/<export>/lock                     held by the one process that writes this export
//! <spool>/<export>/manifest                 JSON lines: which files there are and what they hold
//! <spool>/<export>/.asked                   places of commits were told, and somebody may still ask about them
//! <spool>/<export>/.refused                 files that the backend does not take for what is in them
//! <spool>/<export>/<model>/<n>.json.gz      sealed: complete, hashed, to be uploaded
//! <spool>/<export>/<model>/<n>.json.gz.open grows by commits of small sessions
//! <spool>/<export>/<model>/<n>.json.gz.part belongs to one large session that is not committed yet
//! <spool>/sent/<export>/<model>/<n>.json.gz acknowledged; kept for a while, less long where the disk needs room
//! ```
//!
//! With [`Codec::Zstd`] the names end in `.json.zst` in place of `.json.gz`; an export may hold files of both, after its
//! settings were changed between two of its writers. A number is used once, whatever the ending.
//!
//! A file is a sequence of whole *members*, gzip members or Zstandard frames, which every reader of the format takes as one
//! text. In an `.open` file a member is one commit, so that a half-written one is cut off by its checksum and nothing
//! else is touched.
//!
//! # How it works
//!
//! A [`Session`] collects records in a buffer. Sessions that end with no more than that are *small*: a commit writes the
//! buffers of all small sessions of an origin and a model as one member to their `.open` file and syncs it once. A
//! session that outgrows the buffer *spills*: each full buffer becomes a member of a `.part` file of its own, and the
//! file is rolled at [`Settings::seal_bytes`] (and synced in the background, while the next is compressed). Its commit
//! is one line of the manifest that names all its parts; they are renamed afterwards.
//!
//! The manifest decides: a file is sealed when a synced line says so, and the rename to its final name only follows.
//! Recovery ([`Spool::recover`], or [`Spool::export`] for its own export) repeats the rename of what the manifest names,
//! removes other `.part` files, and cuts, counts and seals `.open` files. Nobody else writes to an export: the lock
//! tells a dead writer's leftovers from a live writer's work.
//!
//! The full buffers of a session are compressed by a few threads while it goes on ([`Settings::threads`]); what they made is
//! written, in order, by the thread that calls [`Session::append`] and [`ExportWriter::commit`], which also compresses what
//! is left over and small sessions, with one compressor for all. It is fed from whole buffers and its output is hashed as it
//! is written: a record is copied once, into the buffer. There is no clock in here beyond the times of files: the caller
//! says what time it is.

mod codec;
mod encode;
mod error;
mod files;
mod fs;
mod growing;
mod hash;
mod manifest;
mod place;
mod pool;
mod read;
mod recovery;
mod session;
mod shared;
mod store;
mod writer;

#[cfg(test)]
mod faulty;
#[cfg(test)]
mod model_test;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

use std::time::Duration;

pub use codec::{Codec, Compression};
pub use error::SpoolError;
pub use files::{Amount, Sealed, Total, UNKNOWN_ORIGIN};
pub use place::CommitPlace;
pub use read::{Listing, Place, ReadError, Records, StoredFile, list_received, list_spool};
pub use session::Session;
pub use store::{DropWhich, Dropped, Left, Oldest, Pending, Recovered, Removed, Spool, Usage};
pub use writer::{Committed, ExportWriter};

/// How a spool is kept. `Settings::default()` suits an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// A file is complete when it is at least this large, in compressed bytes.
    pub seal_bytes: u64,
    /// An `.open` file is complete when it is at least this old (see [`ExportWriter::seal_due`]).
    pub seal_age: Duration,
    /// A session keeps at most this much in memory, in bytes before compression.
    pub buffer_bytes: usize,
    /// All sessions of an export together: above this, a session spills a buffer that is not full as well.
    pub memory_bytes: usize,
    /// Files that wait to be acknowledged, of all exports together, in compressed bytes; above this nothing more is
    /// taken, and what was taken is still committed. What is in `sent/` is not counted.
    pub total_bytes: u64,
    /// How new files are compressed.
    pub codec: Codec,
    /// Threads that compress the full buffers of large sessions; 0 leaves it to the thread that appends. Each holds a
    /// buffer, and one more waits.
    pub threads: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // Large enough to cost little a file, small enough to be sent again after a cut.
            seal_bytes: 16 << 20,
            // What a person who watches the backend is willing to wait for.
            seal_age: Duration::from_secs(10),
            // Above this, a member of its own costs no compression.
            buffer_bytes: 1 << 20,
            // Leaves room for the rest of an action within its budget of memory.
            memory_bytes: 8 << 20,
            total_bytes: 20 << 30,
            // Compression is what limits an export; higher levels halve its speed for a tenth of the size.
            codec: Codec::Gzip { level: 1 },
            threads: threads(),
        }
    }
}

/// One thread for each of a few processors; none for one alone.
fn threads() -> usize {
    /// Compression at this rate is beyond what one source sends.
    const MOST: usize = 4;
    std::thread::available_parallelism().map_or(0, |it| if it.get() > 1 { it.get().min(MOST) } else { 0 })
}
