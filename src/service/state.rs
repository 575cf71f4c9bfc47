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

use std::path::Path;

use outrider_home::{Root, RootLock, Settled, StateError};
use outrider_protocol::fault::chain;
use outrider_versions::{Phase, Reason, Record, Versions, VersionsError, launch};

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
}

/// Settles the state of a root.
///
/// # Errors
/// When it cannot be settled, and this version is not on trial or cannot be taken back.
pub(crate) fn prepare(
    root: &Root,
    lock: &RootLock,
    versions: &Versions,
    program: &Path,
) -> Result<Prepared, StateError> {
    let seen = versions.see();
    let own = own_version(versions, program);
    let keep = match standing(seen.as_ref().ok(), own.as_ref(), launch::stands_in()) {
        Standing::Settles { keep } => keep,
        Standing::GoesOver => {
            tracing::warn!(program = %program.display(), "Another version is current: this process goes over to it.");
            return Ok(Prepared::GoesOver { reason: "another version is current" });
        }
        Standing::Looks => {
            tracing::warn!(program = %program.display(), "This version is not current: it leaves the state as it is.");
            root.check_state()?;
            return Ok(Prepared::Ready { on_trial: root.state_is_kept() });
        }
    };
    let err = match root.settle_state(lock, keep) {
        Ok(settled) => {
            tell(root, &settled);
            return Ok(Prepared::Ready { on_trial: settled.is_kept });
        }
        Err(err) => err,
    };
    let record = seen.ok().and_then(|seen| seen.journal.record().cloned());
    if !record.is_some_and(|it| it.phase == Phase::Probation && is_program_of(&it, program)) {
        return Err(err);
    }
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

#[cfg(all(test, unix))]
mod tests;
