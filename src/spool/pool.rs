//! Threads that compress full buffers while their session goes on. They touch no file: what they made is written by the
//! thread that has the session, in order, so that whatever fails fails there.
//!
//! **Invariant:** what was made of a buffer stays until it is written: a write that failed is repeated, and nothing is lost.
//!
//! **Invariant:** no more than [`Pool::new`]'s slots of buffers are on their way, of all sessions together.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::Codec;
use crate::encode::Encoder;

/// The threads, which start with the first buffer and end with the pool.
#[derive(Debug)]
pub(crate) struct Pool {
    codec: Codec,
    threads: usize,
    /// Buffers that may still be taken.
    free: AtomicUsize,
    jobs: OnceLock<Option<Sender<Job>>>,
}

#[derive(Debug)]
struct Job {
    raw: Vec<u8>,
    done: SyncSender<Packed>,
}

/// What became of a buffer: a member.
type Packed = io::Result<Vec<u8>>;

/// A buffer on its way. Its slot is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Packing {
    pool: Arc<Pool>,
    state: State,
}

#[derive(Debug)]
enum State {
    Running(Receiver<Packed>),
    Done(Packed),
}

impl Pool {
    /// So many threads, and one buffer more than they work on, so that none waits for its next.
    pub(crate) fn new(codec: Codec, threads: usize) -> Self {
        let slots = if threads == 0 { 0 } else { threads + 1 };
        Self { codec, threads, free: AtomicUsize::new(slots), jobs: OnceLock::new() }
    }

    /// Takes a buffer, or gives it back when there is no slot for it or no thread.
    pub(crate) fn begin(self: &Arc<Self>, raw: Vec<u8>) -> Result<Packing, Vec<u8>> {
        let take = |free: usize| free.checked_sub(1);
        if self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            return Err(raw);
        }
        let (done, packed) = sync_channel(1);
        // From here on the slot is given back by the drop.
        let packing = Packing { pool: self.clone(), state: State::Running(packed) };
        match self.jobs.get_or_init(|| start(self.codec, self.threads)) {
            Some(jobs) => jobs.send(Job { raw, done }).map_err(|unsent| unsent.0.raw)?,
            None => return Err(raw),
        }
        Ok(packing)
    }
}

impl Packing {
    /// Waits for the member. May be asked again.
    ///
    /// # Errors
    /// When it could not be made: a bug. Then this fails for ever.
    pub(crate) fn wait(&mut self) -> io::Result<&[u8]> {
        if let State::Running(packed) = &self.state {
            let panicked = |_| Err(io::Error::other("a thread that compresses panicked"));
            self.state = State::Done(packed.recv().unwrap_or_else(panicked));
        }
        match &self.state {
            State::Done(Ok(member)) => Ok(member),
            State::Done(Err(err)) => Err(io::Error::new(err.kind(), err.to_string())),
            State::Running(_) => Err(io::Error::other("the buffer is still being compressed")),
        }
    }
}

impl Drop for Packing {
    fn drop(&mut self) {
        self.pool.free.fetch_add(1, Ordering::Relaxed);
    }
}

/// Starts as many threads as the system lets; nothing when it is none.
fn start(codec: Codec, threads: usize) -> Option<Sender<Job>> {
    let (jobs, queue) = channel();
    let queue = Arc::new(Mutex::new(queue));
    let started = (0..threads).filter(|_| {
        let queue = queue.clone();
        std::thread::Builder::new().name("compress".into()).spawn(move || run(codec, &queue)).is_ok()
    });
    (started.count() > 0).then_some(jobs)
}

fn run(codec: Codec, queue: &Mutex<Receiver<Job>>) {
    let mut encoder = Encoder::new(codec);
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { raw, done }) = next else { return };
        let mut member = Vec::new();
        let made = encoder.member([raw.as_slice()], &mut |chunk| {
            member.extend_from_slice(chunk);
            Ok(())
        });
        // Fails when the session was dropped meanwhile.
        drop(done.send(made.map(|()| member)));
    }
}
