//! The table of decisions, walked through for every state that there can be.

use std::collections::BTreeMap;

use super::*;
use crate::clock::BootId;
use crate::links::{Links, Tree};
use crate::record::Record;
use crate::seal::Condition;

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

/// Whether the versions of an attempt were sealed, and which of them have changed since.
const SEALS: [(bool, &[&str]); 5] =
    [(false, &[]), (true, &[]), (true, &[FROM]), (true, &[TO]), (true, &[FROM, TO])];

/// The same journal with seals in its record.
fn sealed(journal: &Journal) -> Journal {
    let mut journal = journal.clone();
    if let Journal::Attempt(record) = &mut journal {
        let seal = |text: &str| Some(text.repeat(64).parse().unwrap());
        (record.from_seal, record.to_seal) = (seal("1"), seal("2"));
    }
    journal
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

/// What the executor does, on paper, where these versions have changed.
fn perform(seen: &Seen, act: &Act, changed: &[&str]) -> Seen {
    let mut seen = seen.clone();
    match act {
        Act::Look(version) => {
            assert!(seen.tree.has(version), "{act:?}");
            assert!(seen.journal.record().unwrap().seal_of(version).is_some(), "{act:?}");
            let condition =
                if changed.contains(&version.as_str()) { Condition::Changed } else { Condition::AsSealed };
            seen.looked.insert(version.clone(), condition);
        }
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
fn settle(seen: &Seen, changed: &[&str]) -> (Seen, Act, usize) {
    let mut now = seen.clone();
    for acts in 0..11 {
        let act = decide(&now);
        let next = perform(&now, &act, changed);
        check_step(&now, &act, &next, changed);
        match act {
            Act::Run(_) | Act::Try(..) | Act::Nothing => return (now, act, acts),
            _ => now = next,
        }
    }
    panic!("no end from {seen:?}");
}

fn check_step(now: &Seen, act: &Act, next: &Seen, changed: &[&str]) {
    check_soundness(now, act, changed);
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

/// What has changed is not switched to, not tried, and not gone back to.
fn check_soundness(now: &Seen, act: &Act, changed: &[&str]) {
    let Some(record) = now.journal.record() else { return };
    let is_changed = |it: &VersionName| record.seal_of(it).is_some() && changed.contains(&it.as_str());
    match act {
        Act::Switch(version) | Act::Try(version, _) => assert!(!is_changed(version), "{act:?} from {now:?}"),
        Act::Point(Link::Current, version) if record.phase == Phase::RollingBack && *version != record.to => {
            assert!(!is_changed(version), "{act:?} from {now:?}");
        }
        Act::Look(version) => assert!(!now.looked.contains_key(version), "{act:?} from {now:?}"),
        _ => {}
    }
}

/// What holds for where it ends.
fn check_end(begin: &Seen, end: &Seen, act: &Act, changed: &[&str]) {
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
            && (first.counted(&begin.boot).is_none() || changed.contains(&TO));
    // P2, P10: with the old version in place, a rollback ends with the old version.
    let is_back = begin.links.current == Points::To(name(FROM));
    if goes_back && begin.tree.has(&name(FROM)) && (is_back || !changed.contains(&FROM)) {
        assert_eq!(record.unwrap().phase, Phase::RolledBack, "{begin:?}");
        assert_eq!(*act, Act::Run(name(FROM)), "{begin:?}");
    }
    // What there is nothing to go back from stays, loudly.
    let no_other = |it: &VersionName| *it == name(TO) || changed.contains(&it.as_str());
    let is_alone = begin.tree.versions.iter().all(no_other);
    if goes_back && is_alone && !is_back && begin.tree.has(&name(TO)) {
        let record = record.unwrap();
        assert_eq!((record.phase, record.reason), (Phase::Failed, Some(Reason::RollbackImpossible)));
        assert_eq!(*act, Act::Run(name(TO)), "{begin:?}");
    }
}

#[test]
fn every_state_ends_in_one_complete_version() {
    let mut cases = 0_u64;
    let mut acts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut longest = 0;
    for journal in all_journals() {
        for current in all_points() {
            for previous in all_points() {
                for tree in all_trees() {
                    for (is_sealed, changed) in SEALS {
                        if is_sealed && journal.record().is_none() {
                            continue;
                        }
                        let journal = if is_sealed { sealed(&journal) } else { journal.clone() };
                        let links = Links { current: current.clone(), previous: previous.clone() };
                        let seen = seen(journal, links, tree.clone(), "now");
                        *acts.entry(word(&decide(&seen))).or_default() += 1;
                        let (end, act, steps) = settle(&seen, changed);
                        check_end(&seen, &end, &act, changed);
                        longest = longest.max(steps);
                        cases += 1;
                    }
                }
            }
        }
    }
    println!("{cases} states, first acts {acts:?}, at most {longest} acts in a row");
    assert!(cases > 700_000, "{cases}");
}

fn seen(journal: Journal, links: Links, tree: Tree, boot: &str) -> Seen {
    Seen { journal, links, tree, looked: BTreeMap::new(), boot: BootId(boot.into()) }
}

fn word(act: &Act) -> &'static str {
    match act {
        Act::Quarantine => "quarantine",
        Act::Look(_) => "look",
        Act::Enter(..) => "enter",
        Act::Switch(_) => "switch",
        Act::Point(..) => "point",
        Act::Try(..) => "try",
        Act::Run(_) => "run",
        Act::Nothing => "nothing",
    }
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
        let mut seen = seen(journal, links, tree, "0");
        let mut tries = 0;
        loop {
            let (end, act, _) = settle(&seen, &[]);
            if !matches!(act, Act::Try(..)) {
                assert_eq!(act, Act::Run(name(FROM)));
                assert_eq!(end.journal.record().unwrap().phase, Phase::RolledBack);
                break;
            }
            seen = perform(&end, &act, &[]);
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
    let seen = seen(Journal::Attempt(Box::new(record)), links, tree, "now");
    assert_eq!(decide(&seen), Act::Enter(Phase::Switched, None));
    assert!(matches!(settle(&seen, &[]).1, Act::Try(version, _) if version == name(TO)));
}

/// The acts of a settling, in words, and how the attempt stands then.
fn story(phase: Phase, current: &str, changed: &[&str]) -> (Vec<&'static str>, Phase, Option<Reason>) {
    let record = Record { phase, ..Record::new("attempt".into(), String::new(), name(FROM), name(TO)) };
    let links = Links { current: Points::To(name(current)), previous: Points::To(name(FROM)) };
    let journal = sealed(&Journal::Attempt(Box::new(record)));
    let mut now = seen(journal, links, tree([FROM, TO]), "now");
    let mut words = Vec::new();
    loop {
        let act = decide(&now);
        words.push(word(&act));
        now = perform(&now, &act, changed);
        if matches!(act, Act::Run(_) | Act::Try(..) | Act::Nothing) {
            let record = now.journal.record().unwrap();
            return (words, record.phase, record.reason);
        }
    }
}

#[test]
fn a_version_is_looked_at_once_and_in_time() {
    assert_eq!(
        story(Phase::Switched, FROM, &[]),
        (vec!["look", "switch", "enter", "try"], Phase::Probation, None),
        "once for the switch and the first start together"
    );
    assert_eq!(
        story(Phase::Switched, FROM, &[TO]),
        (vec!["look", "enter", "run"], Phase::Failed, Some(Reason::Changed)),
        "nothing was switched"
    );
    assert_eq!(
        story(Phase::Probation, TO, &[TO]),
        (vec!["look", "enter", "look", "point", "enter", "run"], Phase::RolledBack, Some(Reason::Changed))
    );
    assert_eq!(
        story(Phase::RollingBack, TO, &[FROM]),
        (vec!["look", "enter", "run"], Phase::Failed, Some(Reason::RollbackImpossible))
    );
    assert_eq!(story(Phase::RollingBack, FROM, &[FROM]), (vec!["enter", "run"], Phase::RolledBack, None));
}
