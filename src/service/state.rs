//! The state of a root at the service's start: brought to this version's schema before anything in it is opened.
//!
//! **Invariant:** while a state is kept for the version before, nothing is done that this one would not know: the backend's
//! orders are left with the backend, and no command but the upgrade's own is started. What is uploaded meanwhile is, since
//! the spool belongs to both.
//!
//! A version on trial that cannot bring the state to its schema takes itself back at once: the state is as it was, and every
//! further start would fail in the same way.

use std::path::Path;

use outrider_home::{Root, RootLock, Settled, StateError};
use outrider_protocol::fault::chain;
use outrider_versions::{Phase, Reason, Record, Versions, VersionsError};

use super::run::WRITER_WAIT;

/// What became of the state.
#[derive(Debug)]
pub(crate) enum Prepared {
    /// It can be worked with.
    Ready {
        /// The state before is kept, until the trial of this version has ended.
        on_trial: bool,
    },
    /// It cannot, and the version before is current again: this process is to become it.
    TakenBack,
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
    // What cannot be looked at may be a trial.
    let keep = seen.as_ref().map_or(true, |seen| seen.journal.record().is_some_and(is_after_switch));
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
        Ok(Some(Phase::RolledBack)) => Ok(Prepared::TakenBack),
        Ok(_) => Err(err),
        Err(other) => {
            tracing::error!(error = chain(&other), "The version was not taken back.");
            Err(err)
        }
    }
}

/// Whether the version before may be needed again.
fn is_after_switch(record: &Record) -> bool {
    !record.phase.is_terminal() && !record.phase.is_before_switch()
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
