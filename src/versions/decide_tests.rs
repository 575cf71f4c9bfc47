//! The table of decisions, walked through for every state that there can be.

use std::collections::BTreeMap;

use super::*;
use crate::clock::BootId;
use crate::links::{Links, Tree};
use crate::record::Record;

const FROM: &str = "1.0.0-ffffffff";
const TO: &str = "2.0.0-aaaaaaaa";
const OTHER: &str = "0.9.0-cccccccc";

fn name(text: &str) -> VersionName {
    text.parse().unwrap()
}

fn boot(text: &str) -> BootId {
    BootId(text.into())
}

/// What a link may be.
fn all_points() -> Vec<Points> {
    let mut all: Vec<_> = [FROM, TO, OTHER].map(|it| Points::To(name(it))).into();
    all.extend([Points::Missing, Points::NotALink, Points::Elsewhere]);
    all
}

fn tree(versions: impl IntoIterator<Item = &'static str>) -> Tree {
    Tree { versions: versions.into_iter().map(name).collect(), leftovers: false }
}

fn all_trees() -> Vec<Tree> {
    let names = [FROM, TO, OTHER];
    (0..8_u32).map(|bits| tree((0..3).filter(|it| bits >> it & 1 == 1).map(|it| names[it]))).collect()
}

/// Every record that makes a difference.
fn all_journals() -> Vec<Journal> {
    let mut all = vec![Journal::Absent, Journal::Unreadable];
    for phase in Phase::ALL {
        for (tries_left, reboots_left) in [(0, 0), (0, 2), (1, 0), (3, 5)] {
            for tried_in in [None, Some(boot("now")), Some(boot("before"))] {
                for earlier in [None, Some(name(OTHER)), Some(name(TO))] {
                    let new = Record::new("attempt".into(), "command".into(), name(FROM), name(TO));
                    let tried_in = tried_in.clone();
                    let record = Record { phase, tries_left, reboots_left, tried_in, earlier, ..new };
                    all.push(Journal::Attempt(Box::new(record)));
                }
            }
        }
    }
    all
}

/// What the executor does, on paper.
fn perform(seen: &Seen, act: &Act) -> Seen {
    let mut seen = seen.clone();
    match act {
        Act::Quarantine => seen.journal = Journal::Absent,
        Act::Enter(phase, reason) => {
            let Journal::Attempt(record) = &mut seen.journal else { panic!("{act:?} without a record") };
            assert!(record.phase.may_become(*phase), "{} may not become {phase}", record.phase);
            record.phase = *phase;
            record.reason = reason.or(record.reason);
            if *phase == Phase::Probation {
                (record.tries_left, record.reboots_left, record.tried_in) = (3, 5, None);
            }
        }
        Act::Switch(to) => {
            assert!(seen.tree.has(to), "{act:?}");
            seen.links.previous = seen.links.current.clone();
            seen.links.current = Points::To(to.clone());
        }
        Act::Point(link, to) => {
            assert!(seen.tree.has(to), "{act:?} makes a link to what is not complete");
            match link {
                Link::Current => seen.links.current = Points::To(to.clone()),
                Link::Previous => seen.links.previous = Points::To(to.clone()),
            }
        }
        Act::Try(_, record) => seen.journal = Journal::Attempt(record.clone()),
        Act::Run(_) | Act::Nothing => {}
    }
    seen
}

/// Asks and does until something is to be run. Checks what holds for every single act.
fn settle(seen: &Seen) -> (Seen, Act, usize) {
    let mut now = seen.clone();
    for acts in 0..8 {
        let act = decide(&now);
        let next = perform(&now, &act);
        check_step(&now, &act, &next);
        match act {
            Act::Run(_) | Act::Try(..) | Act::Nothing => return (now, act, acts),
            _ => now = next,
        }
    }
    panic!("no end from {seen:?}");
}

fn check_step(now: &Seen, act: &Act, next: &Seen) {
    let current = |seen: &Seen| seen.tree.whole(&seen.links.current).cloned();
    // P1: a complete `current` stays complete, P3: and nothing is ever deleted.
    assert!(current(now).is_none() || current(next).is_some(), "{act:?} from {now:?}");
    assert_eq!(now.tree, next.tree);
    // Each act does something: done once, it is not the answer again.
    if !matches!(act, Act::Run(_) | Act::Try(..) | Act::Nothing) {
        assert_ne!(decide(next), *act, "from {now:?}");
    }
    // P5: what has ended is not begun again and not ended otherwise.
    if let Some(record) = now.journal.record().filter(|it| it.phase.is_terminal()) {
        assert_eq!(next.journal.record(), Some(record), "{act:?} from {now:?}");
    }
    // An attempt leaves a good `current` alone until it is written that it was switched.
    let before = now.journal.record().is_none_or(|it| it.phase.is_before_switch() || it.phase.is_terminal());
    if before && current(now).is_some() {
        assert_eq!(now.links, next.links, "{act:?} from {now:?}");
    }
    // A rollback goes one way.
    let phase = |seen: &Seen| seen.journal.record().map(|it| it.phase);
    if phase(now) == Some(Phase::RollingBack) {
        let after = phase(next);
        let forward = [Phase::RollingBack, Phase::RolledBack, Phase::Failed].map(Some);
        assert!(forward.contains(&after), "{act:?} from {now:?}");
    }
}

/// What holds for where it ends.
fn check_end(begin: &Seen, end: &Seen, act: &Act) {
    let record = end.journal.record();
    match act {
        Act::Nothing => assert!(end.tree.versions.is_empty(), "{end:?}"),
        Act::Run(version) => {
            assert_eq!(end.tree.whole(&end.links.current), Some(version), "{end:?}");
            let stays = |it: Phase| it.is_terminal() || it.is_before_switch();
            assert!(record.is_none_or(|it| stays(it.phase)), "{end:?}");
        }
        Act::Try(version, counted) => {
            assert_eq!(end.tree.whole(&end.links.current), Some(version), "{end:?}");
            let record = record.unwrap();
            assert_eq!((record.phase, &record.to), (Phase::Probation, version));
            let left = |it: &Record| it.tries_left + it.reboots_left;
            assert_eq!(left(counted) + 1, left(record), "one start is counted");
        }
        other => panic!("{other:?} is no end"),
    }
    let Some(first) = begin.journal.record() else { return };
    let goes_back = first.phase == Phase::RollingBack
        || first.phase == Phase::Probation
            && begin.links.current == Points::To(name(TO))
            && begin.tree.has(&name(TO))
            && first.counted(&begin.boot).is_none();
    // P2, P10: with the old version in place, a rollback ends with the old version.
    if goes_back && begin.tree.has(&name(FROM)) {
        assert_eq!(record.unwrap().phase, Phase::RolledBack, "{begin:?}");
        assert_eq!(*act, Act::Run(name(FROM)), "{begin:?}");
    }
    // What there is nothing to go back from stays, loudly.
    let others = begin.tree.versions.iter().any(|it| *it != name(TO));
    if goes_back && !others && begin.tree.has(&name(TO)) {
        let record = record.unwrap();
        assert_eq!((record.phase, record.reason), (Phase::Failed, Some(Reason::RollbackImpossible)));
        assert_eq!(*act, Act::Run(name(TO)), "{begin:?}");
    }
}

#[test]
fn every_state_ends_in_one_complete_version() {
    let mut cases = 0_u64;
    let mut acts: BTreeMap<String, u64> = BTreeMap::new();
    let mut longest = 0;
    for journal in all_journals() {
        for current in all_points() {
            for previous in all_points() {
                for tree in all_trees() {
                    let links = Links { current: current.clone(), previous: previous.clone() };
                    let seen = Seen { journal: journal.clone(), links, tree, boot: boot("now") };
                    let first = format!("{:?}", decide(&seen));
                    let word = first.split_once('(').map_or(&*first, |(word, _)| word);
                    *acts.entry(word.into()).or_default() += 1;
                    let (end, act, steps) = settle(&seen);
                    check_end(&seen, &end, &act);
                    longest = longest.max(steps);
                    cases += 1;
                }
            }
        }
    }
    println!("{cases} states, first acts {acts:?}, at most {longest} acts in a row");
    assert!(cases > 100_000, "{cases}");
}

/// Every start ends in a crash: how many there are, and what runs in the end.
#[test]
fn a_version_that_always_crashes_is_taken_back_whatever_happens_between() {
    let mut cases = 0;
    for restarts in 0..1_u32 << 9 {
        let record = Record {
            phase: Phase::Switched,
            ..Record::new("attempt".into(), String::new(), name(FROM), name(TO))
        };
        let links = Links { current: Points::To(name(FROM)), previous: Points::To(name(OTHER)) };
        let tree = tree([FROM, TO, OTHER]);
        let journal = Journal::Attempt(Box::new(record));
        let mut seen = Seen { journal, links, tree, boot: boot("0") };
        let mut tries = 0;
        loop {
            let (end, act, _) = settle(&seen);
            if !matches!(act, Act::Try(..)) {
                assert_eq!(act, Act::Run(name(FROM)));
                assert_eq!(end.journal.record().unwrap().phase, Phase::RolledBack);
                break;
            }
            seen = perform(&end, &act);
            // Each bit says whether the machine was restarted before the next start.
            if restarts >> tries & 1 == 1 {
                seen.boot = boot(&(tries + 1).to_string());
            }
            tries += 1;
            assert!(tries <= 3 + 5);
        }
        if restarts == 0 {
            assert_eq!(tries, 3);
        }
        cases += 1;
    }
    println!("{cases} sequences of crashes and restarts");
}

#[test]
fn a_lost_record_of_the_switch_is_made_up_for() {
    let record =
        Record { phase: Phase::Armed, ..Record::new("attempt".into(), String::new(), name(FROM), name(TO)) };
    let links = Links { current: Points::To(name(TO)), previous: Points::To(name(FROM)) };
    let tree = tree([FROM, TO]);
    let seen = Seen { journal: Journal::Attempt(Box::new(record)), links, tree, boot: boot("now") };
    assert_eq!(decide(&seen), Act::Enter(Phase::Switched, None));
    assert!(matches!(settle(&seen).1, Act::Try(version, _) if version == name(TO)));
}
