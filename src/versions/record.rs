//! The record of one attempt to upgrade.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::{BootId, Moment};
use crate::name::VersionName;
use crate::phase::{Phase, Reason};
use crate::seal::Seal;

/// The key of the reason's line in the journal.
pub(crate) const REASON: &str = "reason";

/// Starts of a new version that may end in a crash before it is taken back.
pub const TRIES: u32 = 3;
/// Restarts of the machine that a new version may take before it has proved itself.
pub const REBOOTS: u32 = 5;
/// How long all must be well until a new version is committed.
pub const GREEN_FOR: Duration = Duration::from_secs(60);
/// How long a new version has to prove itself.
pub const BOUND: Duration = Duration::from_mins(10);

/// Whether the old version could reach the backend shortly before the switch. Where it could not, that the new one cannot
/// either says nothing against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OldReach {
    /// It could.
    Reached,
    /// It could not.
    Unreached,
    /// Nobody knows.
    Unknown,
}

/// Whether the backend knows the outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Told {
    /// It was not told yet.
    No,
    /// It was told, and has not answered.
    Sent,
    /// It has answered.
    Acknowledged,
}

/// The record of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The attempt's id.
    pub attempt: String,
    /// The id of the command that asked for it; empty when a person did by hand.
    pub command: String,
    /// The version that ran before.
    pub from: VersionName,
    /// The version that is to run.
    pub to: VersionName,
    /// What the folder of `from` was when the attempt was armed.
    pub from_seal: Option<Seal>,
    /// The same of `to`; nothing before it was armed, or where an older program did that.
    pub to_seal: Option<Seal>,
    /// What `previous` pointed to before the switch; a rollback puts that back.
    pub earlier: Option<VersionName>,
    /// How far it is.
    pub phase: Phase,
    /// For [`Phase::Failed`] and the other bad ends: the phase in which it happened.
    pub ended_at: Option<Phase>,
    /// Why it ended otherwise than wanted, or is being rolled back.
    pub reason: Option<Reason>,
    /// The same for a person, and whatever else is worth knowing.
    pub detail: String,
    /// Whether the same command may succeed later.
    pub retryable: bool,
    /// When the trial is over.
    pub deadline: Option<Moment>,
    /// Starts that may still be counted.
    pub tries_left: u32,
    /// Restarts of the machine that may still be counted.
    pub reboots_left: u32,
    /// In which start of the machine the last one was counted.
    pub tried_in: Option<BootId>,
    /// How long all must be well until the commit, in milliseconds.
    pub green_for_ms: u64,
    /// How long the new version has to prove itself, in milliseconds.
    pub bound_ms: u64,
    /// Whether the old version could reach the backend.
    pub old_reach: OldReach,
    /// Whether it is tried although it failed here before.
    pub force: bool,
    /// Whether the backend knows the outcome.
    pub told: Told,
    /// Lines that a newer program wrote and this one does not know; kept as they are.
    pub unknown: Vec<(String, String)>,
    /// Words that a newer program wrote for a value and this one does not know, by the line's key. Each is written again as
    /// long as the value is what it was read as: a reason as [`Reason::Other`], `ended_at` as nothing, `old_reach` as
    /// [`OldReach::Unknown`], `told` as [`Told::No`].
    pub foreign: BTreeMap<&'static str, String>,
}

impl Record {
    /// A record of a new attempt, with the default settings.
    #[must_use]
    pub fn new(attempt: String, command: String, from: VersionName, to: VersionName) -> Self {
        Self {
            attempt,
            command,
            from,
            to,
            from_seal: None,
            to_seal: None,
            earlier: None,
            phase: Phase::Requested,
            ended_at: None,
            reason: None,
            detail: String::new(),
            retryable: false,
            deadline: None,
            tries_left: TRIES,
            reboots_left: REBOOTS,
            tried_in: None,
            green_for_ms: milliseconds(GREEN_FOR),
            bound_ms: milliseconds(BOUND),
            old_reach: OldReach::Unknown,
            force: false,
            told: Told::No,
            unknown: Vec::new(),
            foreign: BTreeMap::new(),
        }
    }

    /// The word for the reason, be it one that this program does not know.
    #[must_use]
    pub fn reason_word(&self) -> Option<&str> {
        let reason = self.reason?;
        Some(self.word(REASON, reason == Reason::Other, reason.as_str()))
    }

    /// The word of a value: the one that was not known, while the value is what that was read as.
    pub(crate) fn word<'a>(&'a self, key: &str, is_as_read: bool, known: &'a str) -> &'a str {
        self.foreign.get(key).filter(|_| is_as_read).map_or(known, String::as_str)
    }

    /// What a version was sealed as.
    #[must_use]
    pub fn seal_of(&self, version: &VersionName) -> Option<Seal> {
        match version {
            it if *it == self.to => self.to_seal,
            it if *it == self.from => self.from_seal,
            _ => None,
        }
    }

    /// Sets how long all must be well until the commit, and how long the new version has to prove itself.
    pub fn set_trial(&mut self, green_for: Duration, bound: Duration) {
        (self.green_for_ms, self.bound_ms) = (milliseconds(green_for), milliseconds(bound));
    }

    /// Counts a start of the new version in the start `boot` of the machine: the first one after a restart counts as a
    /// restart, any other as a try. Nothing when no start of that kind is left.
    #[must_use]
    pub fn counted(&self, boot: &BootId) -> Option<Self> {
        let mut next = self.clone();
        match &self.tried_in {
            Some(last) if last != boot => next.reboots_left = self.reboots_left.checked_sub(1)?,
            _ => next.tries_left = self.tries_left.checked_sub(1)?,
        }
        next.tried_in = Some(boot.clone());
        Some(next)
    }

    /// Gives the last counted start back: the new version was stopped on purpose, which is no crash.
    #[must_use]
    pub fn uncounted(&self) -> Self {
        Self { tries_left: (self.tries_left + 1).min(TRIES), ..self.clone() }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let name = |text: &str| text.parse().unwrap();
        Record::new("attempt".into(), String::new(), name("1-a"), name("2-b"))
    }

    #[test]
    fn a_crash_costs_a_try_and_a_restart_of_the_machine_does_not() {
        let boot = |it: u32| BootId(it.to_string());
        let mut now = record();
        for left in (0..TRIES).rev() {
            now = now.counted(&boot(0)).unwrap();
            assert_eq!((now.tries_left, now.reboots_left), (left, REBOOTS));
        }
        assert_eq!(now.counted(&boot(0)), None);
        for left in (0..REBOOTS).rev() {
            now = now.counted(&boot(left + 1)).unwrap();
            assert_eq!((now.tries_left, now.reboots_left), (0, left));
            assert_eq!(now.counted(&boot(left + 1)), None, "a crash after the restart");
        }
        assert_eq!(now.counted(&boot(99)), None);
    }

    #[test]
    fn a_clean_stop_gives_the_try_back() {
        let boot = BootId("one".into());
        let tried = record().counted(&boot).unwrap();
        assert_eq!(tried.uncounted().tries_left, TRIES);
        assert_eq!(record().uncounted().tries_left, TRIES, "never more than there were");
    }
}
