//! A bounded, durable queue of batches, with a cursor for each of those who take from it.
//!
//! ```text
//!  append ──┐                        ┌─ read (cursor a)
//!  append ──┼─> one thread ─> redb ──┤
//!  advance ─┘   (one commit, one     └─ read (cursor b)
//!                sync, for many)
//! ```
//!
//! # Invariants
//! - What [`Backlog::append`] answered with `Kept` or `Repeated` is on the disk, and stays there until every cursor has
//!   passed it or the bound drops it.
//! - A batch of a sender is kept once: a sequence that is not above the last one kept is left out.
//! - No two entries are ever sent on under the same sender and place, also where the file is one of before, as a backup brings
//!   it back, or is on two hosts: each opening is a sender of its own for what is put in from then on.
//! - Above the bound the oldest goes first, is counted for each cursor that had not passed it, and told. The newest stays.
//!   What a cursor's owner has in hand, which is what it read last, is left to that owner to count: it may still arrive.
//! - The file of an empty queue is small, however much was in it.
//! - A file that is damaged is set aside and told, and an empty one begun: it never stops the next start.
//! - After an error of the disk nothing of that commit is kept; the next one opens the file again.

mod core;
mod tables;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};

use self::core::Core;

/// Requests that wait for the thread. Above this the disk is slower than those who ask, and they wait.
const WAITING: usize = 64;
/// How many requests one commit serves, and how many bytes it takes in, at most.
const GROUP: usize = 256;
const GROUP_BYTES: usize = 4 << 20;

/// The backlog failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BacklogError {
    /// The disk said no.
    #[error("{operation} the backlog {}: {why}; nothing of it was kept", path.display())]
    Disk {
        /// What was tried.
        operation: &'static str,
        /// Its file.
        path: PathBuf,
        /// What went wrong.
        why: String,
    },
    /// Another process has it.
    #[error("open the backlog {}: another process has it open; stop that one, or name another folder", .0.display())]
    InUse(PathBuf),
    /// The thread is gone.
    #[error("the thread of the backlog {} is gone", .0.display())]
    Gone(PathBuf),
    /// More wait than it can write.
    #[error("the backlog {} is slower than what is put into it", .0.display())]
    Busy(PathBuf),
}

/// What a backlog has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Points that a cursor will not see, since the bound was reached.
    Dropped {
        /// The cursor's name.
        cursor: String,
        /// How many.
        points: u64,
    },
    /// What was put in without waiting for the answer is not kept.
    NotKept {
        /// How many points.
        points: u64,
        /// Why.
        why: String,
    },
    /// The file was damaged.
    SetAside {
        /// Where it is now.
        to: PathBuf,
        /// What was wrong with it.
        why: String,
    },
    /// Batches that are not what was written; they are left out.
    Damaged {
        /// How many.
        batches: u64,
    },
}

/// Where news of a backlog go. Called from its thread; must not wait.
pub type TellBacklog = Arc<dyn Fn(Told) + Send + Sync>;

/// What is put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whose it is and which of theirs, where it may come twice.
    pub origin: Option<(String, u64)>,
    /// How many points are in it.
    pub points: u32,
    /// It.
    pub bytes: Vec<u8>,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is kept.
    Now,
    /// It was kept before.
    Before,
}

/// What comes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its place: those after it have higher ones. From 1.
    pub place: u64,
    /// How many points are in it.
    pub points: u32,
    /// Under whose name it is sent on, with its place.
    pub sender: Arc<str>,
    /// It.
    pub bytes: Vec<u8>,
}

/// How full it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fill {
    /// Bytes that are kept.
    pub bytes: u64,
    /// The place after the last entry.
    pub next: u64,
    /// Of each cursor.
    pub cursors: HashMap<String, CursorFill>,
}

/// How it is with a cursor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CursorFill {
    /// The place of what it has not passed. Above what was read last, that was dropped meanwhile.
    pub at: u64,
    /// The points that it has not passed.
    pub waiting: u64,
    /// The points that it will not see, since they were dropped.
    pub dropped: u64,
    /// Of what its owner has in hand, the points that were dropped and that the owner has to count if they do not arrive.
    pub uncounted: u64,
}

/// How much is read at once: at least one entry where there is one, and then as many as fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most {
    /// In points.
    pub points: u64,
    /// In bytes.
    pub bytes: usize,
}

/// Where an answer goes.
type Reply<T> = oneshot::Sender<Result<T, BacklogError>>;

enum Request {
    Append(Entry, Option<Reply<Kept>>),
    Advance { cursor: String, to: u64, done: Reply<()> },
    Read { cursor: String, most: Most, reply: Reply<Vec<Stored>> },
}

/// A handle; the thread ends, and the file is closed, when the last one is dropped. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Backlog {
    path: PathBuf,
    id: Arc<Mutex<String>>,
    requests: mpsc::Sender<Request>,
    fill: watch::Receiver<Fill>,
}

impl Backlog {
    /// Opens the file `backlog.redb` in a folder, or makes it, and begins the thread. A cursor that is not named any more is
    /// forgotten; a new one begins with what comes next.
    ///
    /// # Errors
    /// When the disk says no, or another process has it open.
    pub fn open(
        folder: &Path,
        most_bytes: u64,
        cursors: &[String],
        tell: TellBacklog,
    ) -> Result<Self, BacklogError> {
        let path = folder.join("backlog.redb");
        let disk = |err: std::io::Error| BacklogError::Disk {
            operation: "open",
            path: path.clone(),
            why: err.to_string(),
        };
        std::fs::create_dir_all(folder).map_err(disk)?;
        let core = Core::open(path.clone(), most_bytes, cursors, tell)?;
        let id = Arc::new(Mutex::new(core.id().to_owned()));
        let (requests, inbox) = mpsc::channel(WAITING);
        let (filled, fill) = watch::channel(core.fill());
        let shown = Arc::clone(&id);
        std::thread::Builder::new()
            .name("backlog".to_owned())
            .spawn(move || serve(core, inbox, &filled, &shown))
            .map_err(disk)?;
        Ok(Self { path, id, requests, fill })
    }

    /// The file's name: another one after it was set aside.
    #[must_use]
    pub fn id(&self) -> String {
        lock(&self.id).clone()
    }

    /// Keeps an entry. When this answers `Ok`, it is on the disk.
    ///
    /// # Errors
    /// When it is not kept.
    pub async fn append(&self, entry: Entry) -> Result<Kept, BacklogError> {
        self.ask(|reply| Request::Append(entry, Some(reply))).await
    }

    /// Keeps an entry soon, and never waits.
    ///
    /// # Errors
    /// When too much waits to be written.
    pub fn offer(&self, entry: Entry) -> Result<(), BacklogError> {
        self.requests.try_send(Request::Append(entry, None)).map_err(|err| match err {
            mpsc::error::TrySendError::Full(_) => BacklogError::Busy(self.path.clone()),
            mpsc::error::TrySendError::Closed(_) => BacklogError::Gone(self.path.clone()),
        })
    }

    /// What a cursor has not passed, the oldest first, and of one sender. It is in hand until the cursor has passed it, or reads
    /// again.
    ///
    /// # Errors
    /// When the disk says no.
    pub async fn read(&self, cursor: &str, most: Most) -> Result<Vec<Stored>, BacklogError> {
        self.ask(|reply| Request::Read { cursor: cursor.to_owned(), most, reply }).await
    }

    /// A cursor has passed everything below a place.
    ///
    /// # Errors
    /// When the disk says no; then it comes again after a restart.
    pub async fn advance(&self, cursor: &str, to: u64) -> Result<(), BacklogError> {
        self.ask(|done| Request::Advance { cursor: cursor.to_owned(), to, done }).await
    }

    /// How full it is, now and whenever that changes.
    #[must_use]
    pub fn fill(&self) -> watch::Receiver<Fill> {
        self.fill.clone()
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, BacklogError> {
        let (reply, answer) = oneshot::channel();
        let gone = || BacklogError::Gone(self.path.clone());
        self.requests.send(request(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn lock(id: &Mutex<String>) -> MutexGuard<'_, String> {
    id.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves requests until nobody can make any.
fn serve(
    mut core: Core,
    mut inbox: mpsc::Receiver<Request>,
    filled: &watch::Sender<Fill>,
    id: &Mutex<String>,
) {
    while let Some(first) = inbox.blocking_recv() {
        let mut group = Group::default();
        let mut next = Some(first);
        while let Some(request) = next {
            group.add(request);
            next = if group.is_full() { None } else { inbox.try_recv().ok() };
        }
        let committed = group.commit(&mut core);
        core.id().clone_into(&mut lock(id));
        // Whoever gets an answer finds in the fill what it says.
        filled.send_replace(core.fill());
        group.answer(&mut core, committed);
        core.shrink();
    }
}

/// Requests that one commit serves.
#[derive(Default)]
struct Group {
    bytes: usize,
    entries: Vec<Entry>,
    replies: Vec<Option<Reply<Kept>>>,
    advances: Vec<(String, u64)>,
    done: Vec<Reply<()>>,
    reads: Vec<(String, Most, Reply<Vec<Stored>>)>,
}

impl Group {
    fn add(&mut self, request: Request) {
        match request {
            Request::Append(entry, reply) => {
                self.bytes += entry.bytes.len();
                self.entries.push(entry);
                self.replies.push(reply);
            }
            Request::Advance { cursor, to, done } => {
                self.advances.push((cursor, to));
                self.done.push(done);
            }
            Request::Read { cursor, most, reply } => self.reads.push((cursor, most, reply)),
        }
    }

    fn is_full(&self) -> bool {
        self.bytes >= GROUP_BYTES || self.entries.len() + self.done.len() + self.reads.len() >= GROUP
    }

    /// Nothing where there is nothing to commit.
    fn commit(&self, core: &mut Core) -> Option<Result<Vec<Kept>, BacklogError>> {
        let is_needed = !self.entries.is_empty() || !self.advances.is_empty();
        is_needed.then(|| core.commit(&self.entries, &self.advances))
    }

    fn answer(self, core: &mut Core, committed: Option<Result<Vec<Kept>, BacklogError>>) {
        if let Some(committed) = committed {
            // Whoever asked and left does not want to know.
            let mut lost = 0;
            for (at, reply) in self.replies.into_iter().enumerate() {
                let kept = committed.as_ref().map(|it| it[at]).map_err(Clone::clone);
                match reply {
                    Some(reply) => drop(reply.send(kept)),
                    None if kept.is_err() => lost += u64::from(self.entries[at].points),
                    None => {}
                }
            }
            if let Err(err) = &committed
                && lost > 0
            {
                core.say(Told::NotKept { points: lost, why: err.to_string() });
            }
            for done in self.done {
                drop(done.send(committed.as_ref().map(drop).map_err(Clone::clone)));
            }
        }
        for (cursor, most, reply) in self.reads {
            drop(reply.send(core.read(&cursor, most)));
        }
    }
}
