//! How far an attempt is, and where it may go from there.

use std::fmt;
use std::str::FromStr;

/// How far an attempt is. A phase is written before what it names is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// It was taken; nothing is done yet.
    Requested,
    /// The package is being downloaded into staging.
    Fetching,
    /// The package is verified and is being unpacked in staging.
    Verified,
    /// The unpacked tree is verified and synced, and is being put under its final name.
    Staged,
    /// The version is in place; the service stops its actions.
    Armed,
    /// `current` is being pointed to the new version.
    Switched,
    /// The new version is on trial.
    Probation,
    /// The new version stays. Terminal.
    Committed,
    /// `current` is being pointed to the old version again.
    RollingBack,
    /// The old version runs again. Terminal.
    RolledBack,
    /// It ended without a change of version, or could not be undone. Terminal.
    Failed,
    /// Somebody did not want it any more. Terminal.
    Cancelled,
    /// Its time had passed. Terminal.
    Expired,
    /// Another attempt took its place. Terminal.
    Superseded,
}

impl Phase {
    /// All phases, in order.
    pub const ALL: [Self; 14] = [
        Self::Requested,
        Self::Fetching,
        Self::Verified,
        Self::Staged,
        Self::Armed,
        Self::Switched,
        Self::Probation,
        Self::Committed,
        Self::RollingBack,
        Self::RolledBack,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
        Self::Superseded,
    ];

    /// Whether an attempt that is here has ended.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Committed
                | Self::RolledBack
                | Self::Failed
                | Self::Cancelled
                | Self::Expired
                | Self::Superseded
        )
    }

    /// Whether `current` is untouched so far and the attempt goes on.
    #[must_use]
    pub fn is_before_switch(self) -> bool {
        self <= Self::Armed
    }

    /// Whether the attempt may still be cancelled: before the switch.
    #[must_use]
    pub fn may_be_cancelled(self) -> bool {
        self.is_before_switch()
    }

    /// Whether another attempt may still take its place: before it is armed.
    #[must_use]
    pub fn may_be_superseded(self) -> bool {
        self <= Self::Staged
    }

    /// Whether an attempt that is here may go to `next`. Staying is no step.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        use Phase::{
            Armed, Cancelled, Committed, Expired, Failed, Fetching, Probation, Requested, RolledBack,
            RollingBack, Staged, Superseded, Switched, Verified,
        };
        match (self, next) {
            (Requested, Fetching | Staged)
            | (Fetching, Verified)
            | (Verified, Staged)
            | (Staged, Armed)
            | (Armed, Switched)
            | (Switched, Probation | RollingBack)
            | (Probation, Committed | RollingBack)
            | (RollingBack, RolledBack)
            // What was in staging got lost or was found changed.
            | (Verified | Staged, Fetching) => true,
            (from, Failed) => !from.is_terminal(),
            (from, Cancelled | Expired) => from.may_be_cancelled(),
            (from, Superseded) => from.may_be_superseded(),
            _ => false,
        }
    }

    /// The word for it in the journal.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Fetching => "fetching",
            Self::Verified => "verified",
            Self::Staged => "staged",
            Self::Armed => "armed",
            Self::Switched => "switched",
            Self::Probation => "probation",
            Self::Committed => "committed",
            Self::RollingBack => "rolling_back",
            Self::RolledBack => "rolled_back",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Superseded => "superseded",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Phase {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|it| it.as_str() == text).ok_or(())
    }
}

/// Why an attempt ended otherwise than wanted; the record's detail says it for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The new version ended by itself, time and again.
    CrashLoop,
    /// The machine was restarted time and again before the new version had proved itself.
    Reboots,
    /// The new version did not answer.
    Hang,
    /// The new version said, or showed, that it is not well.
    Unhealthy,
    /// The new version had not proved itself when its time was over.
    Deadline,
    /// A person wanted it.
    ByHand,
    /// The new version's folder was gone.
    Missing,
    /// The new version's folder was not what it was when it was armed.
    Changed,
    /// Somebody pointed `current` elsewhere meanwhile.
    Interfered,
    /// The new version failed, and there is nothing to go back to. It runs on.
    RollbackImpossible,
    /// An operation on the disk failed.
    Disk,
    /// The package could not be had or was refused.
    Package,
    /// Something else; the detail says what.
    Other,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 13] = [
        Self::CrashLoop,
        Self::Reboots,
        Self::Hang,
        Self::Unhealthy,
        Self::Deadline,
        Self::ByHand,
        Self::Missing,
        Self::Changed,
        Self::Interfered,
        Self::RollbackImpossible,
        Self::Disk,
        Self::Package,
        Self::Other,
    ];

    /// The word for it in the journal.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CrashLoop => "crash_loop",
            Self::Reboots => "reboots",
            Self::Hang => "hang",
            Self::Unhealthy => "unhealthy",
            Self::Deadline => "deadline",
            Self::ByHand => "by_hand",
            Self::Missing => "missing",
            Self::Changed => "changed",
            Self::Interfered => "interfered",
            Self::RollbackImpossible => "rollback_impossible",
            Self::Disk => "disk",
            Self::Package => "package",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Reason {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|it| it.as_str() == text).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_phase_is_never_left_and_every_other_reaches_one() {
        for phase in Phase::ALL {
            let next: Vec<_> = Phase::ALL.into_iter().filter(|it| phase.may_become(*it)).collect();
            assert_eq!(phase.is_terminal(), next.is_empty(), "{phase}: {next:?}");
            assert!(!phase.may_become(phase), "{phase}");
            assert_eq!(phase.as_str().parse(), Ok(phase));
        }
    }

    #[test]
    fn what_was_switched_is_rolled_back_or_kept_never_cancelled() {
        for phase in [Phase::Switched, Phase::Probation, Phase::RollingBack] {
            assert!(!phase.may_be_cancelled() && !phase.may_become(Phase::Cancelled), "{phase}");
            assert!(!phase.may_become(Phase::Expired) && !phase.may_become(Phase::Superseded), "{phase}");
        }
        assert!(Phase::Armed.may_be_cancelled());
        assert!(!Phase::Armed.may_be_superseded());
    }
}
