//! What is to be done next: a pure function of the journal, the links and the tree, asked at every start and after every
//! act, until it says what to run.
//!
//! `F` is the version that the attempt came from, `T` the one it goes to, `back` where a rollback goes: `F` if it is
//! complete and not known to have changed, else what `previous` points to if that is so and not `T`. `C` is what `current`
//! points to if that is complete.
//!
//! A version that was sealed is looked at before it is switched to, started on trial, or gone back to. That takes a while, so
//! it is an act of its own, asked for where the answer makes a difference; below it is left out.
//!
//! | phase | disk | act |
//! | --- | --- | --- |
//! | journal unreadable | | quarantine it, then as with none |
//! | none, or ended | `C` | run `C` |
//! | | no `C` | point `current` to `previous`, else to the newest complete version; to one that changed only where there is no other |
//! | | nothing complete | nothing can run |
//! | up to armed | | as with none; armed and `C` = `T`: it was switched |
//! | switched | `C` = `T` | on trial |
//! | | `C` = `F`, `T` complete | switch |
//! | | `C` = `F`, `T` changed | failed: changed |
//! | | `C` is another | failed: interfered |
//! | | `C`, `T` incomplete | failed: missing |
//! | | no `C` | roll back, if there is `back`; else as on trial |
//! | on trial | `C` = `T`, a start is left | count it and run `T` |
//! | | `C` = `T`, none left or `T` changed, `back` | roll back |
//! | | `C` = `T`, none left or `T` changed, no `back` | failed: rollback impossible; `T` runs on |
//! | | `C` = `F` | roll back: the journal only has to follow |
//! | | `C` is another | failed: interfered |
//! | | no `C`, `back` | roll back |
//! | | no `C`, no `back`, `T` complete | point `current` to `T` |
//! | | no `C`, only others complete | failed: missing |
//! | rolling back | `C` ≠ `back` | point `current` to `back` |
//! | | `C` = `back`, `previous` is not what it was | point `previous` to what it was |
//! | | `C` = `back` | rolled back |
//! | | no `back`, no `C`, `T` complete | point `current` to `T` |
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
    /// Hold a version against its seal, which makes it known to [`Seen::looked`].
    Look(VersionName),
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
            Phase::Armed if seen.is_switched(record) => Act::Enter(Phase::Switched, None),
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

/// Where a rollback goes; nothing where there is nothing to go back to.
#[must_use]
pub fn back<'a>(seen: &'a Seen, record: &'a Record) -> Option<&'a VersionName> {
    let from = Some(&record.from).filter(|it| seen.tree.has(it) && !seen.is_changed(it));
    from.or_else(|| seen.sound(&seen.links.previous)).filter(|it| **it != record.to)
}

/// Whether a version has to be looked at first.
fn is_unknown(seen: &Seen, record: &Record, version: &VersionName) -> bool {
    record.seal_of(version).is_some() && !seen.looked.contains_key(version)
}

/// Runs `current`, or mends it first.
fn run(seen: &Seen) -> Act {
    if let Some(version) = current(seen) {
        return Act::Run(version.clone());
    }
    let instead = seen
        .sound(&seen.links.previous)
        .or_else(|| seen.tree.newest(|it| !seen.is_changed(it)))
        .or_else(|| seen.tree.newest(|_| true));
    instead.map_or(Act::Nothing, |it| Act::Point(Link::Current, it.clone()))
}

fn switched(seen: &Seen, record: &Record) -> Act {
    match current(seen) {
        Some(version) if *version == record.to => Act::Enter(Phase::Probation, None),
        Some(version) if *version != record.from => Act::Enter(Phase::Failed, Some(Reason::Interfered)),
        Some(_) if !seen.tree.has(&record.to) => Act::Enter(Phase::Failed, Some(Reason::Missing)),
        Some(_) if is_unknown(seen, record, &record.to) => Act::Look(record.to.clone()),
        Some(_) if seen.is_changed(&record.to) => Act::Enter(Phase::Failed, Some(Reason::Changed)),
        Some(_) => Act::Switch(record.to.clone()),
        None => without_current(seen, record),
    }
}

fn on_trial(seen: &Seen, record: &Record) -> Act {
    match current(seen) {
        Some(version) if *version == record.to => match record.counted(&seen.boot) {
            Some(_) if is_unknown(seen, record, version) => Act::Look(version.clone()),
            Some(_) if seen.is_changed(version) => give_up(seen, record, Reason::Changed),
            Some(counted) => Act::Try(version.clone(), Box::new(counted)),
            None => give_up(seen, record, spent(seen, record)),
        },
        Some(version) if *version == record.from => Act::Enter(Phase::RollingBack, Some(Reason::Interfered)),
        Some(_) => Act::Enter(Phase::Failed, Some(Reason::Interfered)),
        None => without_current(seen, record),
    }
}

/// The version on trial is not to be started again, if there is another.
fn give_up(seen: &Seen, record: &Record, why: Reason) -> Act {
    match back(seen, record) {
        Some(_) => Act::Enter(Phase::RollingBack, Some(why)),
        None => Act::Enter(Phase::Failed, Some(Reason::RollbackImpossible)),
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
    } else if !seen.tree.versions.is_empty() {
        Act::Enter(Phase::Failed, Some(Reason::Missing))
    } else {
        Act::Nothing
    }
}

fn rolling_back(seen: &Seen, record: &Record) -> Act {
    let Some(back) = back(seen, record) else { return no_way_back(seen, record) };
    if current(seen) != Some(back) {
        if is_unknown(seen, record, back) {
            return Act::Look(back.clone());
        }
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

/// The new version stays, whatever it is worth: it ran, at least.
fn no_way_back(seen: &Seen, record: &Record) -> Act {
    if current(seen).is_none() && seen.tree.has(&record.to) {
        return Act::Point(Link::Current, record.to.clone());
    }
    if seen.tree.versions.is_empty() {
        return Act::Nothing;
    }
    Act::Enter(Phase::Failed, Some(Reason::RollbackImpossible))
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
