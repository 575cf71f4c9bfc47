//! What is to be done next: a pure function of the journal, the links and the tree, asked at every start and after every
//! act, until it says what to run.
//!
//! `F` is the version that the attempt came from, `T` the one it goes to, `back` where a rollback goes: `F` if it is
//! complete, else what `previous` points to if that is complete and not `T`. `C` is what `current` points to if that is
//! complete.
//!
//! | phase | disk | act |
//! | --- | --- | --- |
//! | journal unreadable | | quarantine it, then as with none |
//! | none, or ended | `C` | run `C` |
//! | | no `C` | point `current` to `previous`, else to the newest complete version |
//! | | nothing complete | nothing can run |
//! | up to armed | | as with none; armed and `C` = `T`: it was switched |
//! | switched | `C` = `T` | on trial |
//! | | `C` = `F`, `T` complete | switch |
//! | | `C` is another | failed: interfered |
//! | | `C`, `T` incomplete | failed: missing |
//! | | no `C` | roll back, if there is `back`; else as on trial |
//! | on trial | `C` = `T`, a start is left | count it and run `T` |
//! | | `C` = `T`, none left, `back` | roll back |
//! | | `C` = `T`, none left, no `back` | failed: rollback impossible; `T` runs on |
//! | | `C` = `F` | roll back: the journal only has to follow |
//! | | `C` is another | failed: interfered |
//! | | no `C`, `back` | roll back |
//! | | no `C`, no `back`, `T` complete | point `current` to `T` |
//! | | no `C`, only others complete | failed: missing |
//! | rolling back | `C` ≠ `back` | point `current` to `back` |
//! | | `C` = `back`, `previous` is not what it was | point `previous` to what it was |
//! | | `C` = `back` | rolled back |
//! | | no `back` | failed: rollback impossible |
//!
//! No act deletes anything, none needs the network, and none touches an attempt that has ended.

use crate::journal::Journal;
use crate::layout::Link;
use crate::links::{Points, Seen};
use crate::name::VersionName;
use crate::phase::{Phase, Reason};
use crate::record::Record;

/// What is to be done next. All but the last three change something, and then the question is asked again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Rename the unreadable slots aside.
    Quarantine,
    /// Write the next phase, and why.
    Enter(Phase, Option<Reason>),
    /// Point `previous` to the version that runs, then `current` to this one.
    Switch(VersionName),
    /// Point one link to a complete version.
    Point(Link, VersionName),
    /// Write this record, which has one start less, and run the version, which is on trial.
    Try(VersionName, Box<Record>),
    /// Run the version.
    Run(VersionName),
    /// Nothing complete is there.
    Nothing,
}

/// What is to be done next.
#[must_use]
pub fn decide(seen: &Seen) -> Act {
    match &seen.journal {
        Journal::Unreadable => Act::Quarantine,
        Journal::Absent => run(seen),
        Journal::Attempt(record) => match record.phase {
            Phase::Armed if is_switched(seen, record) => Act::Enter(Phase::Switched, None),
            Phase::Switched => switched(seen, record),
            Phase::Probation => on_trial(seen, record),
            Phase::RollingBack => rolling_back(seen, record),
            _ => run(seen),
        },
    }
}

/// The version that `current` points to, when it is complete.
fn current(seen: &Seen) -> Option<&VersionName> {
    seen.tree.whole(&seen.links.current)
}

/// The record of the switch may have been lost with its slot.
fn is_switched(seen: &Seen, record: &Record) -> bool {
    record.from != record.to && current(seen) == Some(&record.to)
}

/// Where a rollback goes; nothing where there is nothing to go back to.
#[must_use]
pub fn back<'a>(seen: &'a Seen, record: &'a Record) -> Option<&'a VersionName> {
    let from = Some(&record.from).filter(|it| seen.tree.has(it));
    from.or_else(|| seen.tree.whole(&seen.links.previous)).filter(|it| **it != record.to)
}

/// Runs `current`, or mends it first.
fn run(seen: &Seen) -> Act {
    if let Some(version) = current(seen) {
        return Act::Run(version.clone());
    }
    let instead = seen.tree.whole(&seen.links.previous).or_else(|| seen.tree.newest());
    instead.map_or(Act::Nothing, |it| Act::Point(Link::Current, it.clone()))
}

fn switched(seen: &Seen, record: &Record) -> Act {
    match current(seen) {
        Some(version) if *version == record.to => Act::Enter(Phase::Probation, None),
        Some(version) if *version != record.from => Act::Enter(Phase::Failed, Some(Reason::Interfered)),
        Some(_) if seen.tree.has(&record.to) => Act::Switch(record.to.clone()),
        Some(_) => Act::Enter(Phase::Failed, Some(Reason::Missing)),
        None => without_current(seen, record),
    }
}

fn on_trial(seen: &Seen, record: &Record) -> Act {
    match current(seen) {
        Some(version) if *version == record.to => match record.counted(&seen.boot) {
            Some(counted) => Act::Try(version.clone(), Box::new(counted)),
            None if back(seen, record).is_some() => Act::Enter(Phase::RollingBack, Some(spent(seen, record))),
            None => Act::Enter(Phase::Failed, Some(Reason::RollbackImpossible)),
        },
        Some(version) if *version == record.from => Act::Enter(Phase::RollingBack, Some(Reason::Interfered)),
        Some(_) => Act::Enter(Phase::Failed, Some(Reason::Interfered)),
        None => without_current(seen, record),
    }
}

/// Which kind of start none is left of.
fn spent(seen: &Seen, record: &Record) -> Reason {
    match &record.tried_in {
        Some(last) if *last != seen.boot => Reason::Reboots,
        _ => Reason::CrashLoop,
    }
}

/// After the switch was begun, `current` points to nothing complete.
fn without_current(seen: &Seen, record: &Record) -> Act {
    if back(seen, record).is_some() {
        Act::Enter(Phase::RollingBack, Some(Reason::Missing))
    } else if seen.tree.has(&record.to) {
        Act::Point(Link::Current, record.to.clone())
    } else if seen.tree.newest().is_some() {
        Act::Enter(Phase::Failed, Some(Reason::Missing))
    } else {
        Act::Nothing
    }
}

fn rolling_back(seen: &Seen, record: &Record) -> Act {
    let Some(back) = back(seen, record) else {
        return if seen.tree.newest().is_some() {
            Act::Enter(Phase::Failed, Some(Reason::RollbackImpossible))
        } else {
            Act::Nothing
        };
    };
    if current(seen) != Some(back) {
        return Act::Point(Link::Current, back.clone());
    }
    match &record.earlier {
        Some(earlier)
            if *back == record.from
                && seen.tree.has(earlier)
                && earlier != back
                && seen.links.previous != Points::To(earlier.clone()) =>
        {
            Act::Point(Link::Previous, earlier.clone())
        }
        _ => Act::Enter(Phase::RolledBack, None),
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
