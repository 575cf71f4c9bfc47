//! What a service that was started has to see to, besides its usual work.

use crate::journal::Journal;
use crate::links::{Points, Seen};
use crate::name::VersionName;
use crate::phase::Phase;
use crate::record::Told;

/// Something to see to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Duty {
    /// The attempt was cut short in this phase: start the upgrade action again, which goes on there.
    GoOn(Phase),
    /// A version is on trial: see that it is watched, by the version that it came from.
    Watch,
    /// The journal cannot be read, or an act after the switch was not finished: [`crate::Writer::settle`].
    Settle,
    /// The attempt has ended: tell the backend until it acknowledges.
    Tell,
    /// Versions are there that nothing needs: [`crate::Writer::prune`].
    Prune,
}

/// What is to be seen to, in this order.
#[must_use]
pub fn duties(seen: &Seen) -> Vec<Duty> {
    let mut duties = Vec::new();
    if seen.journal == Journal::Unreadable {
        duties.push(Duty::Settle);
    }
    let record = seen.journal.record();
    match record.map(|it| it.phase) {
        Some(phase) if phase.is_before_switch() => duties.push(Duty::GoOn(phase)),
        Some(Phase::Switched | Phase::RollingBack) => duties.push(Duty::Settle),
        Some(Phase::Probation) => duties.push(Duty::Watch),
        _ => {}
    }
    let ended = record.filter(|it| it.phase.is_terminal());
    if ended.is_some_and(|it| it.told != Told::Acknowledged) {
        duties.push(Duty::Tell);
    }
    let links = &seen.links;
    let is_live = |version: &VersionName| {
        [&links.current, &links.previous].into_iter().any(|it| matches!(it, Points::To(it) if it == version))
    };
    let superfluous = seen.tree.leftovers || seen.tree.versions.iter().any(|it| !is_live(it));
    if superfluous && record.is_none_or(|it| it.phase.is_terminal()) {
        duties.push(Duty::Prune);
    }
    duties
}
