//! What the tasks of one link share: how it was lost, and which calls wait for an answer.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore, SemaphorePermit, oneshot, watch};

use crate::{Limits, Lost};

/// The room in the queue of jsonrpsee's client, in messages: a few, so that callers and the client need not take turns.
/// It stands before the outgoing queue, which counts lines and bytes, and its own bytes are not counted.
pub(crate) const QUEUE_OF_CLIENT: usize = 4;

/// The state of one link.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    /// [`Limits::line_bytes`] as it is now.
    line_bytes: AtomicUsize,
    lost: watch::Sender<Option<Lost>>,
    stop: watch::Sender<bool>,
    calls: Mutex<Calls>,
    given_up: Notify,
    /// The room in the queue of jsonrpsee's client. Taken before a message is put there, so that it goes in at once:
    /// a call is either not begun or in the queue, never in between. Closed when the link is lost.
    room: Semaphore,
}

/// Calls of ours that have no answer yet.
#[derive(Debug, Default)]
struct Calls {
    by_id: HashMap<u64, Call>,
    /// Calls that jsonrpsee's client still has an entry for and nobody waits for.
    given_up: VecDeque<u64>,
    next_id: u64,
}

/// Where a call is on its way.
#[derive(Debug)]
enum Call {
    /// In the queue of jsonrpsee's client, which has no entry for it yet.
    Queued,
    /// The client has an entry for it and waits for the answer.
    Sent,
    /// Given up while it was queued.
    GivenUp,
    /// Not the client's: its line went straight into the outgoing queue, and its answer goes here.
    Direct(oneshot::Sender<String>),
}

/// Who waits for an answer.
#[derive(Debug)]
pub(crate) enum Waiter {
    Client,
    Direct(oneshot::Sender<String>),
}

/// A call that waits for its answer; given up when dropped before the answer came.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    pub(crate) id: u64,
    shared: &'a Shared,
}

impl Shared {
    pub(crate) fn new(limits: Limits) -> Self {
        let (lost, stop) = (watch::Sender::new(None), watch::Sender::new(false));
        let room = Semaphore::new(QUEUE_OF_CLIENT);
        let line_bytes = AtomicUsize::new(limits.line_bytes);
        Self { limits, line_bytes, lost, stop, calls: Mutex::default(), given_up: Notify::new(), room }
    }

    /// The longest line that is taken or sent, in bytes without its line feed.
    pub(crate) fn line_bytes(&self) -> usize {
        self.line_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_line_bytes(&self, bytes: usize) {
        self.line_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Records why the link is gone; only the first cause counts.
    pub(crate) fn lose(&self, cause: Lost) {
        self.lost.send_if_modified(|lost| {
            let first = lost.is_none();
            if first {
                tracing::debug!(%cause, "The link is lost.");
                *lost = Some(cause);
            }
            first
        });
        self.room.close();
    }

    pub(crate) fn lost(&self) -> Option<Lost> {
        self.lost.borrow().clone()
    }

    /// Waits until the link is gone.
    pub(crate) async fn until_lost(&self) -> Lost {
        let mut watched = self.lost.subscribe();
        let lost = watched.wait_for(Option::is_some).await.ok().and_then(|lost| lost.clone());
        lost.unwrap_or(Lost::Closed) // The sender lives as long as `self`.
    }

    /// Tells every task to end at once.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    pub(crate) async fn until_stopped(&self) {
        drop(self.stop.subscribe().wait_for(|stop| *stop).await.map(|stop| *stop));
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room in the queue of jsonrpsee's client. The caller must put a message there before it waits for
    /// anything else. False when the link is lost.
    pub(crate) async fn take_room(&self) -> bool {
        self.room.acquire().await.map(SemaphorePermit::forget).is_ok()
    }

    /// A new call, to be put into the queue of the client.
    pub(crate) fn begin(&self) -> Waiting<'_> {
        self.add(Call::Queued)
    }

    /// A new call, to be put into the outgoing queue.
    pub(crate) fn begin_direct(&self) -> (Waiting<'_>, oneshot::Receiver<String>) {
        let (answer, answered) = oneshot::channel();
        (self.add(Call::Direct(answer)), answered)
    }

    fn add(&self, call: Call) -> Waiting<'_> {
        let mut calls = self.calls();
        let id = calls.next_id;
        calls.next_id += 1;
        calls.by_id.insert(id, call);
        Waiting { id, shared: self }
    }

    /// jsonrpsee's client hands a message over: a call with this id, or a notification. False when nobody waits for
    /// the answer any more, so that it need not be sent.
    pub(crate) fn handed_over(&self, id: Option<u64>) -> bool {
        self.room.add_permits(1);
        let Some(id) = id else { return true };
        let mut calls = self.calls();
        match calls.by_id.get_mut(&id) {
            Some(call @ Call::Queued) => {
                *call = Call::Sent;
                true
            }
            Some(Call::Sent) => true,
            // The client has ids of its own only.
            Some(Call::GivenUp | Call::Direct(_)) | None => {
                calls.by_id.remove(&id);
                calls.given_up.push_back(id);
                self.given_up.notify_one();
                false
            }
        }
    }

    /// Who waits for an answer to this id; from now on nobody does.
    pub(crate) fn answered(&self, id: u64) -> Option<Waiter> {
        let mut calls = self.calls();
        match calls.by_id.get(&id) {
            Some(Call::Sent | Call::Direct(_)) => match calls.by_id.remove(&id) {
                Some(Call::Direct(answer)) => Some(Waiter::Direct(answer)),
                _ => Some(Waiter::Client),
            },
            _ => None,
        }
    }

    /// The next call whose entry in jsonrpsee's client is to be freed.
    pub(crate) async fn next_given_up(&self) -> u64 {
        loop {
            if let Some(id) = self.calls().given_up.pop_front() {
                return id;
            }
            self.given_up.notified().await;
        }
    }

    fn give_up(&self, id: u64) {
        let mut calls = self.calls();
        match calls.by_id.get_mut(&id) {
            Some(call @ Call::Queued) => *call = Call::GivenUp,
            Some(Call::Sent) => {
                calls.by_id.remove(&id);
                calls.given_up.push_back(id);
                self.given_up.notify_one();
            }
            Some(Call::Direct(_)) => drop(calls.by_id.remove(&id)),
            Some(Call::GivenUp) | None => {}
        }
    }

    /// Entries for calls without an answer, for tests.
    #[cfg(test)]
    pub(crate) fn open_calls(&self) -> usize {
        let calls = self.calls();
        calls.by_id.len() + calls.given_up.len()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.give_up(self.id);
    }
}
