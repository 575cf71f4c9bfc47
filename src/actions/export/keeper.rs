//! The keeper: the one thread that makes objects durable. It owns the spool's writer, compresses, and commits sessions
//! with their checkpoints.
//!
//! A batch is *accepted* when the keeper's queue has room for it, which is bounded in bytes: a source that is faster
//! than the disk waits there. Sessions that are done while a commit is on its way are committed together, so that many
//! small sessions cost few syncs.
//!
//! **Invariant:** a checkpoint is stored after the objects that it covers are synced, never before.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use outrider_home::{Checkpoints, SessionPath};
use outrider_protocol::Raw;
use outrider_protocol::fault::{Fault, Retry, RpcError, code};
use outrider_protocol::ids::{IntegrationId, Model, SessionId};
use outrider_spool::{ExportWriter, Sealed, Session};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::context::chain;

/// Accepted objects that wait to be compressed, in KiB.
const QUEUED_KIB: u32 = 8 << 10;
/// Jobs that wait; most are small, the bytes are bounded by [`QUEUED_KIB`].
const QUEUED_JOBS: usize = 256;
/// Sessions committed at once.
const GROUP: usize = 256;

/// What could not be stored.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct StoreError(pub(crate) String);

impl From<StoreError> for RpcError {
    fn from(err: StoreError) -> Self {
        let mut error = Self::failed(Fault::Host, Retry::Later, err.0);
        error.code = code::STORAGE;
        error
    }
}

/// A session that is done and what is to be kept of it.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) session: SessionId,
    pub(crate) path: SessionPath,
    pub(crate) last_processed: Option<Raw>,
}

/// What a commit made durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
}

enum Job {
    Append {
        session: SessionId,
        origin: IntegrationId,
        model: Model,
        lines: Vec<u8>,
        _room: OwnedSemaphorePermit,
    },
    Commit(Finished, oneshot::Sender<Result<Kept, StoreError>>),
    Drop(Vec<SessionId>),
    /// Time passes: files that are due may be sealed.
    Tick,
    Finish(oneshot::Sender<Result<(), StoreError>>),
}

/// The handle on the keeper. The thread ends with the last handle.
#[derive(Debug, Clone)]
pub(crate) struct Keeper {
    jobs: mpsc::Sender<Job>,
    room: Arc<Semaphore>,
    broken: Arc<OnceLock<StoreError>>,
}

impl Keeper {
    /// Starts the thread. Every file it completes is told to `sealed`.
    pub(crate) fn start(
        writer: ExportWriter,
        checkpoints: Arc<Checkpoints>,
        sealed: mpsc::Sender<Sealed>,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUED_JOBS);
        let broken = Arc::new(OnceLock::new());
        let worker = Worker {
            writer,
            checkpoints,
            sealed: Some(sealed),
            broken: broken.clone(),
            open: HashMap::new(),
        };
        std::thread::Builder::new().name("keeper".into()).spawn(move || worker.run(queue))?;
        Ok(Self { jobs, room: Arc::new(Semaphore::new(QUEUED_KIB as usize)), broken })
    }

    /// Takes objects, one a line. Waits while too many bytes are queued.
    pub(crate) async fn append(
        &self,
        session: SessionId,
        origin: IntegrationId,
        model: Model,
        lines: Vec<u8>,
    ) -> Result<(), StoreError> {
        self.intact()?;
        let kib = u32::try_from((lines.len() >> 10) + 1).unwrap_or(u32::MAX).min(QUEUED_KIB);
        let room = self.room.clone().acquire_many_owned(kib).await.map_err(|_| gone())?;
        self.send(Job::Append { session, origin, model, lines, _room: room }).await
    }

    /// Makes a session durable, then its checkpoint.
    pub(crate) async fn commit(&self, finished: Finished) -> Result<Kept, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.send(Job::Commit(finished, answer)).await?;
        answered.await.map_err(|_| gone())?
    }

    /// Forgets what sessions sent.
    pub(crate) async fn forget(&self, sessions: Vec<SessionId>) {
        // A keeper that is gone has forgotten everything.
        drop(self.send(Job::Drop(sessions)).await);
    }

    /// Lets files that are due be sealed; does nothing while the keeper is busy, since it looks for itself then.
    pub(crate) fn tick(&self) {
        drop(self.jobs.try_send(Job::Tick));
    }

    /// Seals every file. Nothing may be sent afterwards.
    pub(crate) async fn finish(&self) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        self.send(Job::Finish(answer)).await?;
        answered.await.map_err(|_| gone())?
    }

    /// The first error of the store, if there was one: from then on nothing is accepted.
    pub(crate) fn intact(&self) -> Result<(), StoreError> {
        self.broken.get().cloned().map_or(Ok(()), Err)
    }

    async fn send(&self, job: Job) -> Result<(), StoreError> {
        self.jobs.send(job).await.map_err(|_| gone())
    }
}

fn gone() -> StoreError {
    StoreError("the thread that stores objects has ended; its panic stands in the log".into())
}

struct Worker {
    writer: ExportWriter,
    checkpoints: Arc<Checkpoints>,
    /// Gone when the export is finished, so that its reader ends.
    sealed: Option<mpsc::Sender<Sealed>>,
    broken: Arc<OnceLock<StoreError>>,
    open: HashMap<SessionId, Session>,
}

type Waiting = (Finished, oneshot::Sender<Result<Kept, StoreError>>);

impl Worker {
    fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut next = queue.blocking_recv();
        while let Some(job) = next.take() {
            match job {
                Job::Append { session, origin, model, lines, .. } => {
                    self.append(session, &origin, &model, &lines);
                }
                Job::Commit(finished, answer) => {
                    let mut group = vec![(finished, answer)];
                    while group.len() < GROUP {
                        match queue.try_recv() {
                            Ok(Job::Commit(finished, answer)) => group.push((finished, answer)),
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.commit(group);
                }
                Job::Drop(sessions) => {
                    for session in sessions.iter().filter_map(|id| self.open.remove(id)) {
                        session.rollback();
                    }
                }
                Job::Tick => self.seal_due(),
                Job::Finish(answer) => {
                    let result = self.writer.seal_all().map_err(|err| self.note(&err));
                    let result = result.map(|sealed| self.tell(sealed));
                    self.sealed = None;
                    // The asker is gone when the action was dropped; then nobody needs the answer.
                    drop(answer.send(result));
                }
            }
            if next.is_none() {
                next = queue.blocking_recv();
            }
        }
    }

    fn append(&mut self, id: SessionId, origin: &IntegrationId, model: &Model, lines: &[u8]) {
        let writer = &self.writer;
        let session = self.open.entry(id).or_insert_with(|| writer.session(origin.as_str(), model.as_str()));
        if let Err(err) = session.append_lines(lines) {
            self.note(&err);
        }
    }

    fn commit(&mut self, group: Vec<Waiting>) {
        if let Some(broken) = self.broken.get().cloned() {
            for (_, answer) in group {
                drop(answer.send(Err(broken.clone())));
            }
            return;
        }
        let kept = self.store(&group);
        for (i, (_, answer)) in group.into_iter().enumerate() {
            let one = kept.as_ref().map(|kept| kept.get(i).copied().unwrap_or_default());
            drop(answer.send(one.map_err(Clone::clone)));
        }
        self.seal_due();
    }

    /// Objects first, then checkpoints.
    fn store(&mut self, group: &[Waiting]) -> Result<Vec<Kept>, StoreError> {
        let (mut places, mut sessions) = (Vec::new(), Vec::new());
        for (i, (finished, _)) in group.iter().enumerate() {
            if let Some(session) = self.open.remove(&finished.session) {
                places.push(i);
                sessions.push(session);
            }
        }
        let mut kept = vec![Kept::default(); group.len()];
        let committed = self.writer.commit_many(sessions).map_err(|err| self.note(&err))?;
        for (i, one) in places.into_iter().zip(&committed.sessions) {
            kept[i] = Kept { objects: one.records, bytes: one.raw_bytes };
        }
        self.tell(committed.sealed);
        let values: Vec<_> = group
            .iter()
            .filter(|(finished, _)| finished.last_processed.is_some())
            .map(|(finished, _)| (finished.path.clone(), finished.last_processed.clone()))
            .collect();
        if !values.is_empty() {
            self.checkpoints.commit(&values).map_err(|err| self.note(&err))?;
        }
        Ok(kept)
    }

    fn seal_due(&mut self) {
        match self.writer.seal_due(Instant::now()) {
            Ok(sealed) => self.tell(sealed),
            Err(err) => drop(self.note(&err)),
        }
    }

    fn tell(&self, sealed: Vec<Sealed>) {
        for file in sealed {
            if let Some(reader) = &self.sealed {
                // Whoever does not hear it now finds the file in the spool later.
                drop(reader.blocking_send(file));
            }
        }
    }

    fn note(&self, err: &dyn std::error::Error) -> StoreError {
        self.broken.get_or_init(|| StoreError(chain(err))).clone()
    }
}
