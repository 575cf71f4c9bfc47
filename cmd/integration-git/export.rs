//! `export`: the sessions of each repository, one repository after the other.

use std::collections::HashSet;
use std::time::Duration;

use outrider_integration::{
    Context, Error, ExportReply, Fault, ModelSession, ProjectResult, Retry, Run, Sent, object,
};
use tokio::sync::oneshot;

use crate::config::{Config, Entry};
use crate::error::GitError;
use crate::frontier::{Checkpoint, Frontier};
use crate::git::{Repository, Selection};
use crate::models::{Repo, User};
use crate::named;
use crate::process::Stop;
use crate::read::{self, Pace};
use crate::sources::Sources;
use crate::text::user_key;

/// The model of [`Repo`].
pub(crate) const REPO: &str = "sourcecode.Repo";
/// The model of [`crate::models::Commit`].
pub(crate) const COMMIT: &str = "sourcecode.Commit";
/// The model of [`User`].
pub(crate) const USER: &str = "sourcecode.User";

/// Holds the gits of one call: they end when it is dropped, when the agent cancels, and when they are silent for too
/// long.
#[derive(Debug)]
pub(crate) struct Hand {
    context: Context,
    stop: Stop,
    quiet_limit: Duration,
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.stop.pull();
    }
}

impl Hand {
    pub(crate) fn new(context: Context, quiet_limit: Duration) -> Self {
        Self { context, stop: Stop::default(), quiet_limit }
    }

    /// What ends the gits.
    pub(crate) fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Does what blocks on a thread of its own.
    ///
    /// # Errors
    /// What `work` says; when it is cancelled, or takes too long.
    pub(crate) async fn off_thread<T: Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce(Stop) -> Result<T, GitError> + Send + 'static,
    ) -> Result<T, Error> {
        let stop = self.stop();
        match self.within(what, tokio::task::spawn_blocking(move || work(stop))).await? {
            Ok(done) => Ok(done?),
            Err(err) => Err(Error::failed(Fault::Bug, Retry::No, format!("{what} panicked")).caused_by(err)),
        }
    }

    /// Waits for a step of git.
    ///
    /// # Errors
    /// When it is cancelled, or takes too long.
    pub(crate) async fn within<T>(&self, what: &str, step: impl Future<Output = T>) -> Result<T, Error> {
        tokio::select! {
            done = tokio::time::timeout(self.quiet_limit, step) => done.map_err(|_| {
                self.stop.pull();
                let limit = self.quiet_limit.as_secs();
                Error::source(format!("{what} wrote nothing for {limit} s, and was stopped"))
                    .hint("see whether the disk answers; `quiet_limit_s` in the configuration sets the time")
            }),
            reason = self.context.cancelled() => {
                self.stop.pull();
                Err(Error::Cancelled { reason })
            }
        }
    }
}

/// Exports every repository of the configuration.
pub(crate) async fn everything(run: &Run, config: &Config) -> Result<ExportReply, Error> {
    let first = Hand::new(run.context().clone(), config.quiet_limit());
    let version = first.off_thread("git version", |stop| crate::git::git_version(&stop)).await?;
    let sources = Sources::take(&first, run.context(), config).await?;
    run.debug(&format!("reading with git {version}, {} at once", Pace::default().lanes)).await;
    let mut projects = Vec::with_capacity(config.repositories.len());
    let mut seen = HashSet::new();
    for entry in &config.repositories {
        // A hand of its own: what ends the gits of one repository leaves the next alone.
        let hand = Hand::new(run.context().clone(), config.quiet_limit());
        let opened = sources.open(&hand, entry).await;
        let id = opened.as_ref().map_or_else(|_| entry.id(), Repository::id);
        let outcome = match opened {
            Ok(_) if !seen.insert(id.clone()) => Ok(Outcome::Twice),
            Ok(repository) => Export { run, hand: &hand, repository, name: entry.name() }.all().await,
            Err(err) => Err(err),
        };
        projects.push(result(run, entry, id, outcome).await?);
    }
    Ok(ExportReply { projects, new_config: None })
}

/// What an export of one repository came to.
enum Outcome {
    Done,
    Empty,
    Twice,
    Rejected(u64),
}

async fn result(
    run: &Run,
    entry: &Entry,
    id: String,
    outcome: Result<Outcome, Error>,
) -> Result<ProjectResult, Error> {
    let name = entry.name();
    let why = match outcome {
        Ok(Outcome::Done) => return Ok(ProjectResult::done(id, name)),
        Ok(Outcome::Empty) => return Ok(ProjectResult::skipped(id, name, "the repository has no commits")),
        Ok(Outcome::Twice) => {
            return Ok(ProjectResult::skipped(id, name, "the configuration names this repository twice"));
        }
        Ok(Outcome::Rejected(count)) => {
            format!("the agent rejected {count} objects; the first of them are in the log, with the reasons")
        }
        Err(err) if err.ends_the_call() => return Err(err),
        Err(err) => match &err {
            Error::Failed { hint: Some(hint), .. } => format!("{}; {hint}", err.chain()),
            _ => err.chain(),
        },
    };
    run.error(&format!("{name} is not exported, or not fully: {why}")).await;
    Ok(ProjectResult::failed(id, name, why))
}

/// One repository's export.
struct Export<'a> {
    run: &'a Run,
    hand: &'a Hand,
    repository: Repository,
    name: String,
}

/// The people of one repository, each sent once.
#[derive(Debug)]
pub(crate) struct People {
    session: ModelSession,
    seen: HashSet<u128>,
}

impl People {
    /// Sends somebody who was not sent before.
    pub(crate) async fn add(&mut self, user: User) -> Result<(), Error> {
        if self.seen.insert(user_key(&user.id)) {
            self.session.send(&user).await?;
        }
        Ok(())
    }
}

/// What is to be read of the history.
struct Plan {
    selection: Selection,
    frontier: Frontier,
    /// Whether there is any commit at all.
    empty: bool,
    shallow: bool,
    note: Option<String>,
}

impl Export<'_> {
    async fn all(&self) -> Result<Outcome, Error> {
        let object = object(self.repository.id(), &self.name);
        let session = self.run.tracking("repository", object.clone()).await?;
        let commits = session.model(COMMIT, object.clone()).await?;
        let plan = self.plan(&commits).await?;
        if let Some(note) = &plan.note {
            self.run.info(note).await;
        }
        let (empty, shallow) = (plan.empty, plan.shallow);
        let mut sent = vec![self.describe(session.model(REPO, object.clone()).await?, shallow, empty).await?];

        let users = session.model(USER, object.clone()).await?;
        let mut people = People { session: users, seen: HashSet::new() };
        let (commits, checkpoint) = self.history(plan, commits, &mut people).await?;
        let mut named = Vec::new();
        for kind in [named::Kind::Branch, named::Kind::Tag] {
            let refs = session.model(kind.model(), object.clone()).await?;
            named.push(named::send(self.hand, &self.repository, kind, refs, &mut people).await?);
        }
        // People first: once a checkpoint holds what they did, they do not come again.
        sent.push(people.session.done().await?);
        sent.push(commits.done_with(&checkpoint).await?);
        for named in named {
            sent.push(named.done().await?);
        }
        session.done().await?;
        match sent.iter().map(|it| it.rejected).sum() {
            0 if empty => Ok(Outcome::Empty),
            0 => Ok(Outcome::Done),
            rejected => Ok(Outcome::Rejected(rejected)),
        }
    }

    /// Holds the last checkpoint against the repository.
    async fn plan(&self, commits: &ModelSession) -> Result<Plan, Error> {
        let checkpoint = match commits.last_processed::<Checkpoint>() {
            Ok(checkpoint) => checkpoint.unwrap_or_default(),
            Err(err) => {
                let name = &self.name;
                self.run.warn(&format!("{name}: everything is exported again: {}", err.chain())).await;
                Checkpoint::default()
            }
        };
        let (repository, name) = (self.repository.clone(), self.name.clone());
        self.hand.off_thread("git rev-list", move |_| plan(&repository, &name, checkpoint)).await
    }

    async fn describe(&self, mut session: ModelSession, shallow: bool, empty: bool) -> Result<Sent, Error> {
        let (repository, name) = (self.repository.clone(), self.name.clone());
        let repo =
            self.hand.off_thread("git config", move |_| repository.describe(name, shallow, empty)).await?;
        // A value of another shape is one that changed.
        if session.last_processed::<Repo>().ok().flatten().as_ref() != Some(&repo) {
            session.send(&repo).await?;
        }
        session.done_with(&repo).await
    }

    /// Sends commits and the people in them.
    async fn history(
        &self,
        plan: Plan,
        mut commits: ModelSession,
        people: &mut People,
    ) -> Result<(ModelSession, Checkpoint), Error> {
        let Plan { selection, mut frontier, .. } = plan;
        if !selection.from.is_empty() {
            let mut total = self.count(&selection);
            let mut known = None;
            let mut reading = read::commits(&self.repository, selection, Pace::default());
            while let Some(piece) = self.hand.within("git diff-tree", reading.next()).await?? {
                for user in piece.users {
                    people.add(user).await?;
                }
                for commit in piece.commits {
                    frontier.exported(&commit.sha, &commit.parents);
                    commits.send_raw(commit.json).await?;
                }
                known = known.or_else(|| total.try_recv().ok());
                commits.progress(frontier.count(), known).await?;
            }
        }
        self.run.info(&format!("{}: {} new commits", self.name, frontier.count())).await;
        Ok((commits, frontier.checkpoint()))
    }

    /// Counts what is to come, beside the reading itself: it is for people who watch, and may fail.
    fn count(&self, selection: &Selection) -> oneshot::Receiver<u64> {
        let (tell, told) = oneshot::channel();
        let (repository, selection) = (self.repository.clone(), selection.clone());
        drop(tokio::task::spawn_blocking(move || {
            if let Ok(count) = repository.count(&selection) {
                // Nobody waits for it once all is read.
                let _unheard = tell.send(count);
            }
        }));
        told
    }
}

fn plan(repository: &Repository, name: &str, checkpoint: Checkpoint) -> Result<Plan, GitError> {
    // Read before the refs: a history that is made longer in between is found out next time, not missed.
    let shallow = repository.shallow()?;
    let tips = repository.tips()?;
    let had = checkpoint.known().count();
    let present: HashSet<_> = repository.present(checkpoint.known())?.into_iter().collect();
    let lifted = checkpoint.lifted(&shallow);
    let mut old = checkpoint.keep(&present);
    let mut note = None;
    if !lifted.is_empty() && repository.has_parent_of(&lifted)? {
        note = Some(format!("{name}: the clone has more history than before; everything is exported again"));
        old = Checkpoint::default();
    } else if old.known().count() < had {
        note =
            Some(format!("{name}: some exported commits are gone from the repository; they stay exported"));
    }
    let known: HashSet<&str> = old.known().collect();
    let mut from: Vec<_> = tips.iter().filter(|tip| !known.contains(tip.as_str())).cloned().collect();
    from.sort_unstable();
    let mut not: Vec<_> = known.into_iter().map(str::to_owned).collect();
    not.sort_unstable();
    Ok(Plan {
        selection: Selection { from, not },
        empty: tips.is_empty(),
        shallow: !shallow.is_empty(),
        frontier: Frontier::new(old, &tips, shallow),
        note,
    })
}
