//! Reads commits with several gits at once, in an order that never changes.
//!
//! Comparing trees and files is what costs, and git does it on one core. So one git lists the hashes; the list is cut
//! into batches, which are dealt in turn to *lanes*; each lane is a git that shows the commits of its batches, and a
//! thread that turns them into JSON; the batches are then taken from the lanes in the same turn.
//!
//! ```text
//!              ┌ batch 0, 2, 4 … → git diff-tree → parse → JSON ┐
//! git rev-list ┤                                                ├ 0, 1, 2, 3, 4 … → the agent
//!              └ batch 1, 3, 5 … → git diff-tree → parse → JSON ┘
//! ```
//!
//! **Invariant:** memory is bounded by the constants below, whatever the history: every queue is, and a lane that is
//! ahead waits.
//!
//! **Invariant:** every hash that was listed is answered with its commit, or the whole fails.
//!
//! No lane can block the others for ever: the end of a batch is seen when its lane's next batch begins, or at the end
//! of all; a lane's next batch is dealt before any later one, and needs no room but in a queue that is empty by then.

use std::collections::HashSet;
use std::io::{BufRead, Write};
use std::process::ChildStdin;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use outrider_integration::Raw;
use tokio::sync::mpsc;

use crate::error::GitError;
use crate::git::{Output, Repository, Selection, output};
use crate::models::{Commit, User};
use crate::parse::{Commits, Limits};
use crate::process::Running;
use crate::text::user_key;
use crate::tokens::{ParseError, unexpected};

/// Commits in a batch: about 30 ms of work, so that the lanes stay even and the first objects come soon.
const BATCH: usize = 64;
/// Batches that wait for a lane's git.
const WAITING_BATCHES: usize = 4;
/// A git keeps something of every commit that it shows, 1.6 KB each, and so is followed by another after this many
/// batches: it never needs more than some 30 MB for that.
const BATCHES_OF_A_GIT: usize = 256;
/// Finished pieces of a lane that wait to be taken.
const WAITING_PIECES: usize = 4;
/// A batch is handed on in pieces of about this many bytes of JSON.
const PIECE_BYTES: usize = 1 << 20;
/// The longest JSON of a commit: below what the agent takes as one object (16 MiB unless set otherwise).
const OBJECT_BYTES: usize = 12 << 20;
/// More lanes than this only make the disk busier, and the machine has other work to do.
const MOST_LANES: usize = 4;

/// A part of the history.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    /// Its commits.
    pub(crate) commits: Vec<Ready>,
    /// People of these commits; each comes at least once in all pieces.
    pub(crate) users: Vec<User>,
    /// It ends a batch.
    last: bool,
    bytes: usize,
}

/// A commit that can be sent.
#[derive(Debug)]
pub(crate) struct Ready {
    /// Its hash.
    pub(crate) sha: String,
    /// The hashes of its parents.
    pub(crate) parents: Vec<String>,
    /// The object.
    pub(crate) json: Raw,
}

/// The history as it is read.
#[derive(Debug)]
pub(crate) struct Reading {
    lanes: Vec<mpsc::Receiver<Result<Piece, GitError>>>,
    turn: usize,
    taken: u64,
    lister: Option<JoinHandle<Result<u64, GitError>>>,
}

/// How the work is shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    /// How many gits show commits at the same time; at least one.
    pub(crate) lanes: usize,
    /// After how many batches a git is followed by another; at least one.
    pub(crate) batches_of_a_git: usize,
}

impl Default for Pace {
    /// As many lanes as there are cores, within reason.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { lanes: cores.min(MOST_LANES), batches_of_a_git: BATCHES_OF_A_GIT }
    }
}

/// Begins to read the commits of `selection`, the newest first.
pub(crate) fn commits(repository: &Repository, selection: Selection, pace: Pace) -> Reading {
    let (senders, lanes) =
        (0..pace.lanes).map(|_| mpsc::channel(WAITING_PIECES)).unzip::<_, _, Vec<_>, Vec<_>>();
    let repository = repository.clone();
    let lister = std::thread::spawn(move || {
        let start = |results| start_lane(&repository, results, pace.batches_of_a_git);
        deal(&repository, &selection, senders, start)
    });
    Reading { lanes, turn: 0, taken: 0, lister: Some(lister) }
}

impl Reading {
    /// The next piece; nothing when all is read.
    ///
    /// # Errors
    /// When a git failed, or answered something else than it was asked.
    pub(crate) async fn next(&mut self) -> Result<Option<Piece>, GitError> {
        let lane = self.turn % self.lanes.len();
        match self.lanes[lane].recv().await {
            Some(piece) => {
                let piece = piece?;
                self.taken += piece.commits.len() as u64;
                self.turn += usize::from(piece.last);
                Ok(Some(piece))
            }
            None => self.end().map(|()| None),
        }
    }

    /// All lanes are through: was that all?
    fn end(&mut self) -> Result<(), GitError> {
        // It dealt its last batch before the lanes ended, and only waits for git's exit.
        let Some(Ok(listed)) = self.lister.take().map(JoinHandle::join) else { return Ok(()) };
        let listed = listed?;
        if listed != self.taken {
            return Err(GitError::Count { listed, shown: self.taken });
        }
        Ok(())
    }
}

type Results = mpsc::Sender<Result<Piece, GitError>>;

/// Lists hashes and deals them to the lanes, which are started when their first batch comes.
fn deal(
    repository: &Repository,
    selection: &Selection,
    results: Vec<Results>,
    start: impl Fn(Results) -> SyncSender<Vec<u8>>,
) -> Result<u64, GitError> {
    let mut running = repository.list(selection)?;
    let mut hashes = output(&mut running);
    let mut waiting = results.into_iter();
    let mut lanes: Vec<SyncSender<Vec<u8>>> = Vec::new();
    let (mut listed, count) = (0, waiting.len());
    for turn in 0.. {
        let (batch, lines) = batch(&mut hashes).map_err(|err| repository.unread(ParseError::Read(err)))?;
        if lines == 0 {
            break;
        }
        if let Some(results) = waiting.next() {
            lanes.push(start(results));
        }
        if lanes[turn % count].send(batch).is_err() {
            // The lane has failed, and has said so itself.
            return Ok(listed);
        }
        listed += lines;
    }
    repository.finish(running)?;
    Ok(listed)
}

/// Up to a batch of lines, as they are, and how many.
fn batch(input: &mut impl BufRead) -> std::io::Result<(Vec<u8>, u64)> {
    let mut batch = Vec::with_capacity(BATCH * 41);
    for lines in 0..BATCH as u64 {
        if input.read_until(b'\n', &mut batch)? == 0 {
            return Ok((batch, lines));
        }
    }
    Ok((batch, BATCH as u64))
}

/// Starts the two threads of a lane: one feeds gits with batches, the other reads what they show.
fn start_lane(repository: &Repository, results: Results, batches_of_a_git: usize) -> SyncSender<Vec<u8>> {
    let (queue, batches) = sync_channel::<Vec<u8>>(WAITING_BATCHES);
    let (tell, told) = sync_channel(WAITING_BATCHES);
    let feeder = repository.clone();
    std::thread::spawn(move || {
        if let Err(err) = feed(&feeder, &batches, &tell, batches_of_a_git) {
            // Nobody is told when nobody listens.
            drop(tell.send(Step::Failed(err)));
        }
    });
    let repository = repository.clone();
    std::thread::spawn(move || {
        let mut lane = Lane { repository, results: results.clone(), seen: HashSet::new() };
        if let Err(Halt::Failed(err)) = lane.follow(&told) {
            drop(results.blocking_send(Err(err)));
        }
    });
    queue
}

/// What the reading side of a lane has to do next.
enum Step {
    /// A new git shows what follows.
    Git(Running),
    /// It was given these hashes.
    Batch(Vec<u8>),
    /// There is no git.
    Failed(GitError),
}

/// Gives batches to a git, and to a new one from time to time.
fn feed(
    repository: &Repository,
    batches: &Receiver<Vec<u8>>,
    tell: &SyncSender<Step>,
    batches_of_a_git: usize,
) -> Result<(), GitError> {
    let mut stdin: Option<ChildStdin> = None;
    for (number, hashes) in batches.iter().enumerate() {
        if number % batches_of_a_git == 0 {
            // The end of its input ends the one before.
            drop(stdin.take());
            let mut git = repository.show_commits()?;
            stdin = git.stdin.take();
            if tell.send(Step::Git(git)).is_err() {
                break;
            }
        }
        // Where the reading side or git has ended, the reading side says why.
        let told = tell.send(Step::Batch(hashes.clone()));
        let written = stdin.as_mut().map(|stdin| stdin.write_all(&hashes));
        if told.is_err() || !matches!(written, Some(Ok(()))) {
            break;
        }
    }
    Ok(())
}

/// The reading side of a lane.
struct Lane {
    repository: Repository,
    results: Results,
    /// The people that were handed on.
    seen: HashSet<u128>,
}

/// A git that shows commits, and its output.
struct Showing {
    git: Running,
    commits: Commits<Output>,
}

enum Halt {
    Failed(GitError),
    NobodyListens,
}

impl From<GitError> for Halt {
    fn from(err: GitError) -> Self {
        Self::Failed(err)
    }
}

impl Lane {
    fn follow(&mut self, told: &Receiver<Step>) -> Result<(), Halt> {
        let mut showing: Option<Showing> = None;
        for step in told {
            match step {
                Step::Git(mut git) => {
                    showing.take().map_or(Ok(()), |before| self.end(before))?;
                    let commits = Commits::new(output(&mut git), &self.repository.id(), Limits::default());
                    showing = Some(Showing { git, commits });
                }
                Step::Batch(hashes) => match showing.take() {
                    Some(git) => showing = Some(self.answer(git, &hashes)?),
                    None => return Ok(()),
                },
                Step::Failed(err) => return Err(err.into()),
            }
        }
        showing.map_or(Ok(()), |last| self.end(last))
    }

    /// A git that has shown everything it was asked for ends without another word.
    fn end(&self, Showing { git, mut commits }: Showing) -> Result<(), Halt> {
        match commits.next() {
            Ok(None) => Ok(self.repository.finish(git)?),
            Ok(Some(commit)) => {
                Err(self.repository.unread(unexpected(commit.sha.as_bytes(), "the end")).into())
            }
            Err(err) => Err(self.broken(git, err)),
        }
    }

    /// Reads the commits of a batch and hands them on.
    fn answer(&mut self, Showing { git, mut commits }: Showing, hashes: &[u8]) -> Result<Showing, Halt> {
        let mut piece = Piece::default();
        for wanted in hashes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let commit = match commits.next() {
                Ok(Some(commit)) => commit,
                Ok(None) => return Err(self.broken(git, ParseError::Torn { part: "the history" })),
                Err(err) => return Err(self.broken(git, err)),
            };
            if commit.sha.as_bytes() != wanted {
                let err = unexpected(commit.sha.as_bytes(), "the commit that was asked for");
                return Err(self.repository.unread(err).into());
            }
            self.add(&mut piece, commit);
            if piece.bytes >= PIECE_BYTES {
                self.hand_on(std::mem::take(&mut piece))?;
            }
        }
        piece.last = true;
        self.hand_on(piece)?;
        Ok(Showing { git, commits })
    }

    /// Output that ends too early: git itself knows better why.
    fn broken(&self, git: Running, err: ParseError) -> Halt {
        let known = match err {
            ParseError::Torn { .. } => self.repository.finish(git),
            _ => Ok(()),
        };
        Halt::Failed(known.err().unwrap_or_else(|| self.repository.unread(err)))
    }

    fn add(&mut self, piece: &mut Piece, mut commit: Commit) {
        for signature in [&commit.author, &commit.committer] {
            if self.seen.insert(user_key(&signature.user_id)) {
                piece.users.push(User::of(signature));
            }
        }
        let Some(json) = written(&mut commit) else { return };
        piece.bytes += json.get().len();
        piece.commits.push(Ready { sha: commit.sha, parents: commit.parents, json });
    }

    fn hand_on(&self, piece: Piece) -> Result<(), Halt> {
        self.results.blocking_send(Ok(piece)).map_err(|_| Halt::NobodyListens)
    }
}

/// The commit as JSON, cut down until it fits. Nothing only if there is no JSON for it, which the types rule out.
fn written(commit: &mut Commit) -> Option<Raw> {
    loop {
        let json = serde_json::value::to_raw_value(commit).ok()?;
        if json.get().len() <= OBJECT_BYTES {
            return Some(json);
        }
        if commit.files.is_empty() {
            let half = commit.message.floor_char_boundary(commit.message.len() / 2);
            commit.message.truncate(half);
            commit.message_truncated = true;
        } else {
            commit.files.truncate(commit.files.len() / 2);
            commit.files_truncated = true;
        }
    }
}

/// Reads what a git lists, on a thread of its own, `next` by `next`.
pub(crate) fn listed<T: Send + 'static>(
    repository: &Repository,
    mut next: impl FnMut() -> Result<Option<T>, ParseError> + Send + 'static,
    running: Running,
) -> mpsc::Receiver<Result<Vec<T>, GitError>> {
    let (results, items) = mpsc::channel(WAITING_PIECES);
    let repository = repository.clone();
    std::thread::spawn(move || {
        loop {
            let batch: Result<Vec<T>, _> = std::iter::from_fn(|| next().transpose()).take(BATCH).collect();
            let outcome = match batch {
                Ok(batch) if !batch.is_empty() => Ok(batch),
                Ok(_) => match repository.finish(running) {
                    Ok(()) => return,
                    Err(err) => {
                        drop(results.blocking_send(Err(err)));
                        return;
                    }
                },
                Err(err) => Err(repository.unread(err)),
            };
            let failed = outcome.is_err();
            if results.blocking_send(outcome).is_err() || failed {
                return;
            }
        }
    });
    items
}
