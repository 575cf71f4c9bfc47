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
        Some(Phase::Armed) if record.is_some_and(|it| seen.is_switched(it)) => duties.push(Duty::Settle),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::clock::BootId;
    use crate::links::{Links, Tree};
    use crate::record::Record;

    #[test]
    fn an_attempt_that_was_switched_to_is_settled_also_where_the_record_of_that_is_lost() {
        let [from, to, other] = ["1-a", "2-b", "3-c"].map(|it| it.parse::<VersionName>().unwrap());
        let seen = |phase, current: &VersionName| {
            let new = Record::new("attempt".into(), String::new(), from.clone(), to.clone());
            Seen {
                journal: Journal::Attempt(Box::new(Record { phase, ..new })),
                links: Links { current: Points::To(current.clone()), previous: Points::Missing },
                tree: Tree { versions: [from.clone(), to.clone()].into(), leftovers: false },
                looked: BTreeMap::new(),
                boot: BootId("now".into()),
            }
        };
        for phase in Phase::ALL {
            for current in [&from, &to, &other] {
                let seen = seen(phase, current);
                let is_switched = seen.is_switched(seen.journal.record().unwrap());
                let by_phase = matches!(phase, Phase::Switched | Phase::Probation | Phase::RollingBack);
                let by_link = phase == Phase::Armed && *current == to;
                assert_eq!(is_switched, by_phase || by_link, "{phase} {current}");
                let duties = duties(&seen);
                let goes_on = duties.contains(&Duty::GoOn(phase));
                assert_eq!(
                    goes_on,
                    phase.is_before_switch() && !is_switched,
                    "{phase} {current}: {duties:?}"
                );
                assert_eq!(duties.contains(&Duty::Settle), is_switched && phase != Phase::Probation);
            }
        }
    }
}
