//! Taking a version on trial back, for the watcher and for a person: whoever runs it is stopped, then the journal and the
//! links are changed.
//!
//! **Invariant:** what takes long, to read the version before, is done before the writer's lock is taken; under it only the
//! stop is waited for, which is bounded by less than the launcher waits.
//!
//! **Invariant:** nothing is stopped when the journal is at another attempt or phase by then, when `current` is the version
//! that is gone back to already, or when there is none to go back to, but for one that hangs.

use std::time::Duration;

use outrider_home::{LockError, Root};
use outrider_protocol::fault::chain;
use outrider_supervisor::{ForeignEnd, end_foreign};
use outrider_upgrade::{CheckError, check_in_place};
use outrider_versions::{
    Condition, Phase, Points, Reason, Record, Seen, VersionName, Versions, VersionsError, back,
};

use super::watcher::WRITER_WAIT;

/// The most of a detail that is kept, in characters.
const DETAIL_MOST: usize = 1000;

/// What became of the wish to take a version back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakenBack {
    /// The version before is current, or will be when what was begun is finished.
    Back {
        /// The process that ran the new version.
        ran: Option<u32>,
        /// Whether it is gone.
        ended: bool,
    },
    /// There is nothing to go back to, so the new version stays; the attempt has failed. One that hangs was ended, for it to be
    /// started anew.
    Stays {
        /// Why.
        why: String,
    },
    /// The journal, or the version before, is not where it was: nothing was done.
    Moved,
}

/// One who takes versions of a root back.
#[derive(Debug, Clone)]
pub(super) struct TakingBack {
    pub(super) root: Root,
    pub(super) versions: Versions,
    /// From SIGTERM to SIGKILL.
    pub(super) term: Duration,
    /// From SIGKILL until it is given up.
    pub(super) kill: Duration,
}

/// What was found of the version before, without the lock.
struct Before {
    version: VersionName,
    /// What it was found as by its seal, if it has one.
    condition: Option<Condition>,
    damage: Option<String>,
}

impl TakingBack {
    /// Takes the version of this record back.
    ///
    /// # Errors
    /// When the versions cannot be looked at or changed. What was begun is finished by whoever settles the journal next.
    pub(super) async fn take_back(
        &self,
        record: &Record,
        reason: Reason,
        detail: &str,
    ) -> Result<TakenBack, VersionsError> {
        let versions = &self.versions;
        let detail = shortened(detail);
        let before = back(&versions.see()?, record).map(|it| self.look_at(record, it));
        // With it nobody starts the version again meanwhile. One that hangs may have it itself.
        let early = versions.write(WRITER_WAIT).ok();
        let seen = versions.see()?;
        if !is_at(versions, record) || back(&seen, record) != before.as_ref().map(|it| &it.version) {
            return Ok(TakenBack::Moved);
        }
        // Its note goes with the attempt.
        let running = self.running(&seen, before.as_ref());
        if let Some(why) = before.as_ref().and_then(|it| it.damage.as_ref()) {
            tracing::error!(version = %record.to, from = %record.from, why,
                "There is nothing to go back to: the version before is damaged. The new one stays.");
            let why = format!("the version before is damaged, so the new one stays ({detail}): {why}");
            let writer = match early {
                Some(writer) => writer,
                None => versions.write(WRITER_WAIT)?,
            };
            writer.enter(Phase::Failed, Some((Reason::RollbackImpossible, &shortened(&why))))?;
            drop(writer);
            if reason == Reason::Hang {
                self.stop(running).await;
            }
            return Ok(TakenBack::Stays { why });
        }
        let is_stopped = before.is_some() || reason == Reason::Hang;
        let stopped = is_stopped && self.stop(running).await;
        let writer = match early {
            Some(writer) => writer,
            None => versions.write(WRITER_WAIT)?,
        };
        if !is_at(versions, record) {
            return Ok(TakenBack::Moved);
        }
        if let Some(Before { version, condition: Some(condition), .. }) = &before {
            writer.found(version, *condition);
        }
        writer.roll_back(reason, &detail)?;
        drop(writer);
        let seen = versions.see()?;
        Ok(match seen.journal.record().filter(|it| it.phase == Phase::Failed) {
            Some(failed) => {
                tracing::error!(version = %record.to, from = %record.from, why = failed.detail,
                    "There is nothing to go back to: the version before is not there, or not whole. The new one stays.");
                TakenBack::Stays { why: failed.detail.clone() }
            }
            None => TakenBack::Back { ran: running, ended: stopped },
        })
    }

    /// What is wrong with a version that is to be gone back to, by its seal, else by its list.
    fn look_at(&self, record: &Record, version: &VersionName) -> Before {
        let condition = self.versions.look(record, version).map(|it| match it {
            Ok(()) => Condition::AsSealed,
            Err(_) => Condition::Changed,
        });
        let damage = match condition {
            Some(Condition::AsSealed) => None,
            // The list says which file it is.
            Some(Condition::Changed) => Some(
                self.verify_listed(version)
                    .err()
                    .unwrap_or_else(|| "its files are not what they were when it ran".into()),
            ),
            None => self.verify_listed(version).err(),
        };
        Before { version: version.clone(), condition, damage }
    }

    /// Holds a version against its list. One whose list was never kept, or was lost, counts as sound: it ran.
    fn verify_listed(&self, version: &VersionName) -> Result<(), String> {
        match check_in_place(self.root.path(), version.as_str()) {
            Err(err @ CheckError::Tree(_)) => Err(chain(&err)),
            Err(err) => {
                tracing::warn!(%version, error = chain(&err), "The version before cannot be verified.");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// The process that runs the new version. One that hung before it took the root is known by its start alone.
    fn running(&self, seen: &Seen, before: Option<&Before>) -> Option<u32> {
        let is_back = before.is_some_and(|it| seen.links.current == Points::To(it.version.clone()));
        if is_back { None } else { holder(&self.root).or_else(|| self.versions.started()) }
    }

    /// Ends a process, and answers whether it is gone; nothing for none.
    async fn stop(&self, pid: Option<u32>) -> bool {
        let Some(pid) = pid else { return false };
        tracing::warn!(pid, "The service is stopped.");
        // Gone when it, whoever comes after it, has not the root.
        let runs = || holder(&self.root) == Some(pid) || self.versions.started() == Some(pid);
        let end = end_foreign(pid, self.term, self.kill, || !runs()).await;
        match end {
            ForeignEnd::Asked | ForeignEnd::Killed => {
                tracing::info!(pid, ?end, "The service has ended.");
                true
            }
            ForeignEnd::Still | ForeignEnd::Refused => {
                tracing::error!(pid, ?end, "The service was not ended.");
                false
            }
        }
    }
}

/// Whether the journal still is where this record was.
pub(super) fn is_at(versions: &Versions, record: &Record) -> bool {
    let seen = versions.see();
    seen.is_ok_and(|it| {
        it.journal.record().is_some_and(|it| it.attempt == record.attempt && it.phase == record.phase)
    })
}

/// The process that has a root.
pub(super) fn holder(root: &Root) -> Option<u32> {
    match root.in_use() {
        Err(LockError::InUse { pid, .. }) => pid,
        _ => None,
    }
}

/// One line of bounded length.
fn shortened(detail: &str) -> String {
    detail.chars().map(|it| if it.is_control() { ' ' } else { it }).take(DETAIL_MOST).collect()
}
