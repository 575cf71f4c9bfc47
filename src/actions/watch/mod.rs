//! `outrider watch`: sees to it that a new version stays only when it is well.
//!
//! It is run by the version known good: started by its service before the switch, or by the launcher at each counted start.
//! One at a time has the post; whoever comes second ends at once. It lives in a process group of its own, asks the service
//! on the root's socket, and writes to `logs/watch` only.
//!
//! **Invariant:** nothing but the end of the attempt, a signal, or one of its own two bounds ends it: what goes wrong is
//! logged and tried again.
//!
//! **Invariant:** no decision depends on the wall clock, and time in which the machine slept or the watcher was held up
//! counts as one look.
//!
//! **Invariant:** it never signals the version that it goes back to: the journal is looked at, under its lock, before
//! anything is stopped.
//!
//! # What it does
//!
//! | the attempt is | it |
//! | --- | --- |
//! | not armed yet, or armed | waits, as long as the service may take to stop and a while longer, then ends |
//! | switched, or being rolled back, for some seconds | finishes that: whoever did it is gone, or the journal was lost |
//! | on trial | asks each half second, and does as `verdict` says |
//! | ended | keeps the diagnosis if it was rolled back; sees that a service runs if it was it that went back, or a person who ended a version that gave no answer; and ends |
//!
//! # A stop on purpose
//!
//! The launcher counts each start of a version on trial, and a service that is stopped in good order gives its start back.
//! So nobody has the root and there are more starts left than there were while it ran, or all of them: it was stopped on
//! purpose, and the watcher waits, up to [`Settings::stopped_for`], without counting the time. Nobody has the root, and the
//! start was not given back: it died, and whoever should start it again has [`Settings::hang`] to do so. Nothing was ever
//! counted: it was never started. A service that is started without the launcher is not counted, so that its death looks
//! like a stop.
//!
//! # A restart of the machine
//!
//! It ends the watcher, too. The next one, which the launcher starts, finds a deadline of another start of the machine and
//! sets a new one. One that has passed while nobody watched gives the version as long as it needs to prove itself.
//!
//! # Going back
//!
//! The version before is read first. With the writer's lock, for which the launcher waits, the service is stopped: SIGTERM,
//! and SIGKILL soon after. So nobody starts the bad version in between. Then the journal and the links are changed, and the lock is let go. Where no
//! system starts the service again, it is started from here. Where there is nothing to go back to, the new version stays;
//! it is stopped only if it hangs, for it to be started anew. A SIGTERM meanwhile, as a system sends it that stops all
//! processes of a service whose main one ended, is heeded once the journal is written.

mod ask;
mod back;
mod deadline;
mod diagnosis;
mod taking_back;
mod telling;
#[cfg(test)]
mod tests;
mod tries;
mod verdict;
mod watcher;

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt;
use outrider_home::{Config, Limits, Root};
use outrider_logs::RunLog;
use outrider_protocol::fault::chain;
use outrider_protocol::log::LogLine;
use outrider_versions::{Post, Reason, Record, Versions, VersionsError};
use tokio::time::sleep;

use taking_back::TakingBack;
use watcher::Watcher;

pub use taking_back::TakenBack;

/// The name of the action and of its log.
const WATCH: &str = "watch";
/// How long to wait for the post: a service that waits for its watcher takes it for an instant, to look.
const POST_WAIT: Duration = Duration::from_millis(300);
/// The pause after a panic of the watcher's own.
const AFTER_PANIC: Duration = Duration::from_secs(1);
/// The variable that says how much is logged, as for the service.
const LEVEL_VARIABLE: &str = "OUTRIDER_LOG";

/// Every bound of a watcher that the attempt's record does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The pause between two looks.
    pub every: Duration,
    /// How long an answer may take.
    pub answer_within: Duration,
    /// How long a new version may give no answer.
    pub hang: Duration,
    /// At how many looks in a row the backend may refuse a new version.
    pub refusals: u32,
    /// How long an attempt may take to be switched.
    pub armed_for: Duration,
    /// How long an act that somebody began may stay half done.
    pub half_for: Duration,
    /// How long a service that was stopped on purpose is waited for.
    pub stopped_for: Duration,
    /// From SIGTERM to SIGKILL for a version that is taken back. With `kill` below what the launcher waits for the
    /// writer's lock.
    pub term: Duration,
    /// From SIGKILL until it is given up.
    pub kill: Duration,
    /// How long the system may take to start the service again.
    pub restart_within: Duration,
}

impl Settings {
    /// The usual ones, with what the root's configuration sets.
    #[must_use]
    pub fn of(limits: &Limits) -> Self {
        Self {
            every: Duration::from_millis(500),
            answer_within: Duration::from_secs(2),
            hang: limits.upgrade_hang(),
            // The service tries again rarely, so more of the same answers say little more.
            refusals: 10,
            armed_for: limits.stop_timeout().saturating_add(Duration::from_mins(2)),
            half_for: Duration::from_secs(3),
            stopped_for: Duration::from_hours(24),
            term: Duration::from_secs(2),
            kill: Duration::from_secs(2),
            // What `enroll` installs says 1 s, and a person's own unit may say more.
            restart_within: Duration::from_secs(8),
        }
    }
}

/// How the watcher ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// Another one has the post.
    ByAnother,
    /// The attempt has ended, or there is none.
    Ended,
    /// One of its own bounds has passed.
    GivenUp,
    /// It was told to.
    Stopped,
}

/// A reason to end, once it is there.
pub(crate) type Stop = Pin<Box<dyn Future<Output = &'static str> + Send>>;

/// Takes the version of this record back for a person, in this process: where its service gives no answer. What runs it is
/// ended. Nothing is started: whoever starts the service, the system or the watcher, starts the version before.
///
/// # Errors
/// When the versions cannot be looked at or changed.
pub async fn take_back(root: &Root, record: &Record, detail: &str) -> Result<TakenBack, VersionsError> {
    let Settings { term, kill, .. } = Settings::of(&Limits::default());
    let taking = TakingBack { root: root.clone(), versions: Versions::of(root.path()), term, kill };
    taking.take_back(record, Reason::ByHand, detail).await
}

/// Watches the attempt of a root until it has ended, or `stop` is ready. Sets up this process's log.
///
/// # Errors
/// When the post cannot be taken, for another reason than that somebody has it.
pub async fn run(
    root: Root,
    stop: impl Future<Output = &'static str> + Send + 'static,
) -> Result<Watched, VersionsError> {
    let versions = Versions::of(root.path());
    // Before anything else, since the service waits for it; and before the log, which is the other one's else.
    let post = match versions.take(Post::Watcher, POST_WAIT) {
        Ok(post) => post,
        Err(VersionsError::Locked { .. }) => return Ok(Watched::ByAnother),
        Err(err) => return Err(err),
    };
    let (limits, unread) = match Config::load(&root) {
        Ok(config) => (config.limits, None),
        Err(err) => (Limits::default(), Some(chain(&err))),
    };
    let log = RunLog::create(&root.log_file(WATCH), limits.log_file_bytes).ok();
    if let Some(log) = log.clone() {
        let what = std::env::var(LEVEL_VARIABLE).unwrap_or_else(|_| "info".into());
        // It goes on without a log where there can be none.
        drop(outrider_logs::init_action(WATCH, &what, move |line: &LogLine| log.write_line(line)));
    }
    if let Some(error) = unread {
        tracing::warn!(error, "The configuration is not read; the usual limits hold.");
    }
    let watched = watch(root, versions, Settings::of(&limits), Box::pin(stop)).await;
    tracing::info!(?watched, "The watcher ends.");
    if let Some(log) = log {
        log.close();
    }
    drop(post);
    Ok(watched)
}

/// The watcher without its post and log.
async fn watch(root: Root, versions: Versions, settings: Settings, stop: Stop) -> Watched {
    let mut watcher = Watcher::new(root, versions, settings, stop);
    loop {
        match AssertUnwindSafe(watcher.run()).catch_unwind().await {
            Ok(watched) => return watched,
            Err(_) => {
                // What it knew of the trial goes down with it; the journal has the rest.
                tracing::error!("The watcher panicked: this is a bug. It begins anew.");
                sleep(AFTER_PANIC).await;
            }
        }
    }
}
