//! The keeper: the one thread that makes objects durable. It owns the spool's writer, compresses, and commits sessions
//! with their checkpoints.
//!
//! A batch is *accepted* when the keeper's queue has room for it, which is bounded in bytes: a source that is faster
//! than the disk waits there. Sessions that are done while a commit is on its way are committed together, so that many
//! small sessions cost few syncs.
//!
//! Where there is no room, on the disk or in the spool, what cannot be written is held, with its place in the queue, and
//! tried again: meanwhile the queue fills up and the integrations wait for their answers (see `room`). A commit that needs
//! nothing of what is held goes ahead, since what is committed can be uploaded, which makes room.
//!
//! **Invariant:** a checkpoint is stored together with the objects of its session (see `together`), and after those of the
//! sessions below it, never before.
//!
//! **Invariant:** what is held for want of room is written later, in order, or its session is not committed.

mod held;
mod lines;
mod together;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use outrider_home::SessionPath;
use outrider_protocol::Raw;
use outrider_protocol::fault::{Fault, Retry, RpcError, chain, code};
use outrider_protocol::ids::{IntegrationId, Model, SessionId};
use outrider_spool::{ExportWriter, Sealed, Session, Total};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use self::held::Held;
pub(crate) use self::lines::Lines;
use self::together::{Failed, Together};
pub(crate) use self::together::{Undecided, decide};
use super::room::{Room, Shortage};
use super::unchanged::Backend;
use super::values::Values;

/// Accepted objects that wait to be compressed, in KiB.
const QUEUED_KIB: u32 = 8 << 10;
/// Jobs that wait; most are small, the bytes are bounded by [`QUEUED_KIB`].
const QUEUED_JOBS: usize = 256;
/// Sessions committed at once.
const GROUP: usize = 256;

/// What could not be stored.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub(crate) struct StoreError {
    message: String,
    /// What a person can do about it.
    pub(crate) hint: Option<&'static str>,
}

impl StoreError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }
}

impl From<&Shortage> for StoreError {
    fn from(shortage: &Shortage) -> Self {
        Self { message: shortage.told(), hint: Some(shortage.hint()) }
    }
}

impl From<StoreError> for RpcError {
    fn from(err: StoreError) -> Self {
        let mut error = Self::failed(Fault::Host, Retry::Later, err.message);
        if let Some(hint) = err.hint {
            error = error.hint(hint);
        }
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

/// Objects on their way.
struct Append {
    session: SessionId,
    origin: IntegrationId,
    model: Model,
    lines: Lines,
    _queued: OwnedSemaphorePermit,
}

enum Job {
    Append(Append),
    Commit(Finished, oneshot::Sender<Result<Kept, StoreError>>),
    Drop(Vec<SessionId>),
    /// Time passes: files that are due may be sealed.
    Tick,
    Finish(Asker),
}

/// The handle on the keeper. The thread ends when it has finished, or with the last handle.
#[derive(Debug, Clone)]
pub(crate) struct Keeper {
    jobs: mpsc::Sender<Job>,
    queued: Arc<Semaphore>,
    broken: Arc<OnceLock<StoreError>>,
    room: Arc<Room>,
}

impl Keeper {
    /// Starts the thread. Every file it completes is told to `sealed`.
    pub(crate) fn start(
        writer: ExportWriter,
        values: Arc<Values>,
        backend: Arc<Backend>,
        room: Room,
        sealed: mpsc::Sender<Sealed>,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUED_JOBS);
        let (broken, room) = (Arc::new(OnceLock::new()), Arc::new(room));
        let worker = Worker {
            writer,
            values,
            backend,
            doubtful: false,
            sealed: Some(sealed),
            broken: broken.clone(),
            open: HashMap::new(),
            room: room.clone(),
            held: VecDeque::new(),
            since: Instant::now(),
            tried: Instant::now(),
            hopeless: None,
            ended: None,
        };
        std::thread::Builder::new().name("keeper".into()).spawn(move || worker.run(queue))?;
        Ok(Self { jobs, queued: Arc::new(Semaphore::new(QUEUED_KIB as usize)), broken, room })
    }

    /// Takes objects, one a line. Waits while too many bytes are queued.
    pub(crate) async fn append(
        &self,
        session: SessionId,
        origin: IntegrationId,
        model: Model,
        lines: Lines,
    ) -> Result<(), StoreError> {
        self.intact()?;
        let kib = u32::try_from((lines.memory() >> 10) + 1).unwrap_or(u32::MAX).min(QUEUED_KIB);
        let queued = self.queued.clone().acquire_many_owned(kib).await.map_err(|_| gone())?;
        // What was waited for may have been in vain.
        self.intact()?;
        self.send(Job::Append(Append { session, origin, model, lines, _queued: queued })).await
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

    /// Seals every file, and ends the thread before it answers, so that the end of the process cuts nothing off. Nothing
    /// may be sent afterwards. Answers with all that is sealed of the export, in this life of it and in earlier ones, as the
    /// spool's disk has it.
    pub(crate) async fn finish(&self) -> Result<Vec<Total>, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.send(Job::Finish(answer)).await?;
        answered.await.map_err(|_| gone())?
    }

    /// The first error of the store, if there was one: from then on nothing is accepted.
    pub(crate) fn intact(&self) -> Result<(), StoreError> {
        self.broken.get().cloned().map_or(Ok(()), Err)
    }

    /// Where it looks for room.
    pub(crate) fn room(&self) -> &Room {
        &self.room
    }

    /// What it waits for, when there is no room.
    pub(crate) fn waits(&self) -> Option<Shortage> {
        self.room.waits()
    }

    /// The order ends, so no room is waited for any longer: what is held is lost, and its sessions with it.
    pub(crate) fn give_up(&self, why: &str) {
        self.room.give_up(why);
    }

    async fn send(&self, job: Job) -> Result<(), StoreError> {
        self.jobs.send(job).await.map_err(|_| gone())
    }
}

fn gone() -> StoreError {
    StoreError::new("the thread that stores objects has ended; its panic stands in the log")
}

struct Worker {
    writer: ExportWriter,
    values: Arc<Values>,
    backend: Arc<Backend>,
    /// Whether a commit that failed may have left its values in doubt.
    doubtful: bool,
    /// Gone when the export is finished, so that its reader ends.
    sealed: Option<mpsc::Sender<Sealed>>,
    broken: Arc<OnceLock<StoreError>>,
    open: HashMap<SessionId, Session>,
    room: Arc<Room>,
    /// What waits for room, in order.
    held: VecDeque<Held>,
    /// When the first of it began to wait.
    since: Instant,
    tried: Instant,
    /// Since when nothing is there that could make room.
    hopeless: Option<Instant>,
    /// The export is finished: whom to tell when spool and values are let go of, and how it went.
    ended: Option<(Asker, Finish)>,
}

/// Who waits for the end.
type Asker = oneshot::Sender<Finish>;
type Finish = Result<Vec<Total>, StoreError>;
type Answer = oneshot::Sender<Result<Kept, StoreError>>;
type Waiting = (Finished, Answer);

impl Worker {
    fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut next = queue.blocking_recv();
        while let Some(job) = next.take() {
            match job {
                Job::Append(append) if self.held.is_empty() => self.append(append),
                Job::Append(append) => self.held.push_back(Held::Append(append)),
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
                Job::Drop(sessions) => self.forget(&sessions),
                Job::Tick => {
                    self.seal_due();
                    self.try_again();
                }
                Job::Finish(answer) => self.finish(answer),
            }
            if let Some((answer, result)) = self.ended.take() {
                drop(self);
                // The asker is gone when the action was dropped; then nobody needs the answer.
                drop(answer.send(result));
                return;
            }
            if next.is_none() {
                next = queue.blocking_recv();
            }
        }
    }

    fn forget(&mut self, sessions: &[SessionId]) {
        self.held.retain(|it| !matches!(it, Held::Append(append) if sessions.contains(&append.session)));
        self.backend.forget(sessions.iter().copied());
        for session in sessions.iter().filter_map(|id| self.open.remove(id)) {
            session.rollback();
        }
    }

    /// Takes objects, or holds them where there is no room.
    fn append(&mut self, append: Append) {
        if self.broken.get().is_some() {
            return;
        }
        match self.room.shortage() {
            Some(shortage) if self.room.patience.is_some() => {
                return self.hold(shortage, Held::Append(append));
            }
            Some(shortage) => {
                self.broken.get_or_init(|| StoreError::from(&shortage));
                return;
            }
            None => {}
        }
        let writer = &self.writer;
        let (origin, model) = (&append.origin, &append.model);
        let session = self
            .open
            .entry(append.session)
            .or_insert_with(|| writer.session(origin.as_str(), model.as_str()));
        if let Err(err) = session.append_lines(append.lines.as_bytes()) {
            match self.may_wait(&err) {
                Some(shortage) => self.hold(shortage, Held::Append(append)),
                None => drop(self.note_spool(&err)),
            }
        }
    }

    fn commit(&mut self, group: Vec<Waiting>) {
        if let Some(broken) = self.broken.get().cloned() {
            for (_, answer) in group {
                drop(answer.send(Err(broken.clone())));
            }
            return;
        }
        let (early, group): (Vec<_>, Vec<_>) =
            group.into_iter().partition(|(finished, _)| self.is_held(finished.session));
        self.held.extend(early.into_iter().map(Held::Commit));
        if !group.is_empty() {
            self.store(group);
        }
        self.seal_due();
    }

    /// Objects together with their values, then other values; then the answers.
    fn store(&mut self, group: Vec<Waiting>) {
        let (mut at, mut sessions) = (Vec::new(), Vec::new());
        for (i, (finished, _)) in group.iter().enumerate() {
            if let Some(session) = self.open.remove(&finished.session) {
                at.push(i);
                sessions.push(session);
            }
        }
        let Together { committed, with_value } = match self.commit_together(&group, &at, &mut sessions) {
            Ok(together) => together,
            Err(err) => {
                let may_wait = self.room.patience.is_some() && !sessions.is_empty();
                let shortage = err.shortage().filter(|_| may_wait);
                let Some(shortage) = shortage else { return refuse(group, &self.note_failed(&err)) };
                for (i, session) in at.into_iter().zip(sessions) {
                    self.open.insert(group[i].0.session, session);
                }
                group.into_iter().for_each(|it| self.hold(shortage.clone(), Held::Commit(it)));
                return;
            }
        };
        let mut kept = vec![Kept::default(); group.len()];
        for (i, one) in at.into_iter().zip(&committed.sessions) {
            kept[i] = Kept { objects: one.records, bytes: one.raw_bytes };
        }
        self.tell(committed.sealed);
        let mut values = Vec::new();
        let mut answers = Vec::with_capacity(group.len());
        for (i, ((finished, answer), kept)) in group.into_iter().zip(kept).enumerate() {
            if finished.last_processed.is_some() && !with_value.contains(&i) {
                values.push((finished.path, finished.last_processed));
            }
            answers.push((answer, kept));
        }
        self.keep(values, answers);
    }

    /// Values of sessions without objects of their own: all that they speak of is durable. Then it is answered.
    fn keep(&mut self, values: Vec<(SessionPath, Option<Raw>)>, answers: Vec<(Answer, Kept)>) {
        let stored = if values.is_empty() { Ok(()) } else { self.values.commit(&values) };
        match stored {
            Ok(()) => answers.into_iter().for_each(|(answer, kept)| drop(answer.send(Ok(kept)))),
            Err(err) => match Shortage::of_values(&err).filter(|_| self.room.patience.is_some()) {
                Some(shortage) => self.hold(shortage, Held::Values(values, answers)),
                None => {
                    let err = self.note(&err);
                    answers.into_iter().for_each(|(answer, _)| drop(answer.send(Err(err.clone()))));
                }
            },
        }
    }

    fn seal_due(&mut self) {
        match self.writer.seal_due(Instant::now()) {
            Ok(sealed) => self.tell(sealed),
            // What is committed stays so, and is sealed when there is room.
            Err(err) if self.may_wait(&err).is_some() => {}
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
        self.broken.get_or_init(|| StoreError::new(chain(err))).clone()
    }

    fn note_failed(&self, err: &Failed) -> StoreError {
        match err {
            Failed::Spool(err) => self.note_spool(err),
            Failed::Values(err) => self.note(err),
        }
    }

    /// The same for an error of the spool, which may be want of room that nobody waits for.
    fn note_spool(&self, err: &outrider_spool::SpoolError) -> StoreError {
        match Shortage::of(err) {
            Some(shortage) => self.broken.get_or_init(|| StoreError::from(&shortage)).clone(),
            None => self.note(err),
        }
    }
}

fn refuse(group: Vec<Waiting>, err: &StoreError) {
    for (_, answer) in group {
        drop(answer.send(Err(err.clone())));
    }
}

#[cfg(test)]
mod tests;
