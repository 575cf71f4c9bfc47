//! The state of a root at the service's start: brought to this version's schema before anything in it is opened.
//!
//! **Invariant:** while a state is kept for the version before, nothing is done that this one would not know: the backend's
//! orders are left with the backend, and no command but the upgrade's own is started. What is uploaded meanwhile is, since
//! the spool belongs to both.
//!
//! **Invariant:** a version of the root that is not the one that `current` points to changes nothing in the state, however it
//! came to be started: the state, or the one that is kept, may be the other's. It goes over to that one; where that cannot be
//! started, it works with a state that is as it knows it, and with no other.
//!
//! A version on trial that fails to migrate the state, or finds one of a later schema, takes itself back at once: the state is
//! as it was, and every further start would fail in the same way. A store that is open elsewhere, or a disk in trouble, may
//! be better at the next start, and the starts are counted.

mod standing;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use outrider_home::{Patience, Root, RootLock, Settled, StateError};
use outrider_protocol::fault::chain;
use outrider_versions::{Phase, Reason, Record, Seen, Versions, VersionsError, launch};
use tokio::task::spawn_blocking;

use self::standing::{Standing, standing};
pub(crate) use self::standing::{own_version, stays};
use super::run::WRITER_WAIT;

/// What became of the state.
#[derive(Debug)]
pub(crate) enum Prepared {
    /// It can be worked with.
    Ready {
        /// The state before is kept, until the trial of this version has ended.
        on_trial: bool,
    },
    /// It is another version's to work with it, and this process is to become what `current` points to.
    GoesOver {
        /// Why, for the log.
        reason: &'static str,
    },
    /// The service was to stop meanwhile; the next start goes on.
    Stopped {
        /// As `stop` said.
        reason: &'static str,
    },
}

/// What is needed to settle the state of a root.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) root: Root,
    pub(crate) lock: RootLock,
    pub(crate) versions: Versions,
    pub(crate) program: PathBuf,
    /// How long a store that somebody has open is waited for. What is waited for here is silence to the watcher.
    pub(crate) store_wait: Duration,
}

/// Settles the state of a root, until it is to stop. Gives the lock back.
///
/// # Errors
/// When it cannot be settled, and this version is not on trial or cannot be taken back.
pub(crate) async fn prepare(
    work: Work,
    stop: Pin<&mut impl Future<Output = &'static str>>,
) -> (RootLock, Result<Prepared, StateError>) {
    let is_stopped = Arc::new(AtomicBool::new(false));
    let asked = is_stopped.clone();
    let mut working = spawn_blocking(move || {
        let prepared = work.settle(&|| asked.load(Ordering::Relaxed));
        (work.lock, prepared)
    });
    let (done, reason) = tokio::select! {
        done = &mut working => (done, None),
        reason = stop => {
            is_stopped.store(true, Ordering::Relaxed);
            (working.await, Some(reason))
        }
    };
    let (lock, prepared) = done.unwrap_or_else(|err| std::panic::resume_unwind(err.into_panic()));
    let prepared = match (prepared, reason) {
        (Ok(_) | Err(StateError::Stopped { .. }), Some(reason)) => Ok(Prepared::Stopped { reason }),
        (prepared, _) => prepared,
    };
    (lock, prepared)
}

impl Work {
    fn settle(&self, stop: &dyn Fn() -> bool) -> Result<Prepared, StateError> {
        let Self { root, versions, program, .. } = self;
        let seen = versions.see();
        let own = own_version(versions, program);
        match standing(seen.as_ref().ok(), own.as_ref(), launch::stands_in()) {
            Standing::Settles { keep } => {
                let patience = Patience { store: self.store_wait, stop };
                match root.settle_state(&self.lock, keep, &patience) {
                    Ok(settled) => {
                        tell(root, &settled);
                        Ok(Prepared::Ready { on_trial: settled.is_kept })
                    }
                    Err(err) if err.comes_again() && is_on_trial(seen.ok(), program) => {
                        give_up(versions, err)
                    }
                    Err(err) => Err(err),
                }
            }
            Standing::GoesOver => {
                tracing::warn!(program = %program.display(), "Another version is current: this process goes over to it.");
                Ok(Prepared::GoesOver { reason: "another version is current" })
            }
            Standing::Looks => {
                tracing::warn!(program = %program.display(), "This version is not current: it leaves the state as it is.");
                root.check_state()?;
                Ok(Prepared::Ready { on_trial: root.state_is_kept() })
            }
        }
    }
}

/// Whether the program is that of the version on trial.
fn is_on_trial(seen: Option<Seen>, program: &Path) -> bool {
    let record = seen.and_then(|it| it.journal.record().cloned());
    record.is_some_and(|it| it.phase == Phase::Probation && is_program_of(&it, program))
}

/// The state cannot be used by this version, which is on trial.
fn give_up(versions: &Versions, err: StateError) -> Result<Prepared, StateError> {
    let why = chain(&err);
    tracing::error!(
        error = why,
        "The state cannot be used by this version, which is on trial: it is taken back."
    );
    match take_back(versions, &why) {
        Ok(Some(Phase::RolledBack)) => Ok(Prepared::GoesOver { reason: "this version cannot use the state" }),
        Ok(_) => Err(err),
        Err(other) => {
            tracing::error!(error = chain(&other), "The version was not taken back.");
            Err(err)
        }
    }
}

fn is_program_of(record: &Record, program: &Path) -> bool {
    let folder = program.parent().and_then(|it| it.file_name());
    folder.is_some_and(|it| it == record.to.as_str())
}

/// Answers in which phase the attempt is then.
fn take_back(versions: &Versions, why: &str) -> Result<Option<Phase>, VersionsError> {
    let writer = versions.write(WRITER_WAIT)?;
    writer.roll_back(Reason::Unhealthy, why)?;
    Ok(versions.see()?.journal.record().map(|it| it.phase))
}

fn tell(root: &Root, settled: &Settled) {
    let state = root.state();
    if let Some(from) = settled.migrated_from {
        tracing::info!(state = %state.display(), from, kept = settled.is_kept, "The state was brought to this version's schema.");
    }
    if let Some(from) = settled.put_back_from {
        tracing::warn!(
            state = %state.display(), from, aside = "state.undone",
            "The state that was kept is in place again. What the newer version noted since is set aside: deaths that the \
             backend has not heard of, and how many files it acknowledged. No order was taken meanwhile."
        );
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
