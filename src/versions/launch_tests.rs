//! The launcher's decisions on a real disk, and the steps that go before them.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::phase::{Phase, Reason};
use crate::record::{Record, TRIES, Told};
use crate::seal::Condition;
use crate::writer::{Begun, Writer};

const OLD: &str = "1.0.0-ffffffff";
const NEW: &str = "2.0.0-aaaaaaaa";

fn name(text: &str) -> VersionName {
    text.parse().unwrap()
}

fn put(root: &Path, version: &str) {
    let folder = root.join("versions").join(version);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("outrider"), version).unwrap();
}

/// A root in which the new version is in place, and `current` is the old one.
fn root() -> (tempfile::TempDir, Versions) {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), OLD);
    put(dir.path(), NEW);
    symlink(format!("versions/{OLD}"), dir.path().join("current")).unwrap();
    let versions = Versions::of(dir.path());
    (dir, versions)
}

fn writer(versions: &Versions) -> Writer<'_> {
    versions.write(Duration::ZERO).unwrap()
}

fn wish() -> Record {
    Record::new("attempt".into(), "command".into(), name(OLD), name(NEW))
}

fn switch(versions: &Versions) {
    let writer = writer(versions);
    assert!(matches!(writer.begin(wish()).unwrap(), Begun::New(_)));
    for phase in [Phase::Staged, Phase::Armed] {
        writer.enter(phase, None).unwrap();
    }
    assert!(matches!(writer.switch().unwrap(), Act::Try(version, _) if version == name(NEW)));
}

fn record(versions: &Versions) -> Record {
    versions.see().unwrap().journal.record().unwrap().clone()
}

#[test]
fn a_version_that_crashes_is_taken_back_after_its_tries() {
    let (_dir, versions) = root();
    switch(&versions);
    for _ in 0..TRIES {
        let start = prepare(&versions).unwrap();
        assert_eq!((start.version, start.on_trial), (name(NEW), true));
        assert_eq!(start.watcher, Some(versions.layout.program(&name(OLD))));
    }
    let start = prepare(&versions).unwrap();
    assert_eq!((start.version, start.on_trial, start.watcher), (name(OLD), false, None));
    let record = record(&versions);
    assert_eq!((record.phase, record.reason), (Phase::RolledBack, Some(Reason::CrashLoop)));
    assert_eq!(record.ended_at, Some(Phase::RollingBack));
    // It is not tried again without force, and the same command only hears how it ended.
    assert!(matches!(writer(&versions).begin(wish()).unwrap(), Begun::Before(_)));
    let again = || Record { command: "another".into(), attempt: "another".into(), ..wish() };
    let refused = writer(&versions).begin(again()).unwrap_err();
    assert!(
        matches!(&refused, VersionsError::FailedHere { why, .. } if why.starts_with("crash_loop")),
        "{refused}"
    );
    assert!(matches!(writer(&versions).begin(Record { force: true, ..again() }).unwrap(), Begun::New(_)));
    // How the first one ended is kept for the backend.
    let untold = writer(&versions).untold().unwrap();
    assert_eq!(untold.iter().map(|it| it.phase).collect::<Vec<_>>(), [Phase::RolledBack]);
    writer(&versions).tell("attempt", Told::Acknowledged).unwrap();
    assert!(writer(&versions).untold().unwrap().is_empty());
}

#[test]
fn a_stop_on_purpose_is_no_crash() {
    let (_dir, versions) = root();
    switch(&versions);
    for _ in 0..TRIES * 3 {
        assert_eq!(prepare(&versions).unwrap().version, name(NEW));
        writer(&versions).stopped_on_purpose().unwrap();
    }
    writer(&versions).commit().unwrap();
    assert_eq!(record(&versions).phase, Phase::Committed);
    assert_eq!(writer(&versions).prune(&[]).unwrap(), [], "both are in use");
}

#[test]
fn a_version_with_nothing_to_go_back_to_stays() {
    let (dir, versions) = root();
    switch(&versions);
    std::fs::remove_dir_all(dir.path().join("versions").join(OLD)).unwrap();
    for _ in 0..TRIES + 2 {
        assert_eq!(prepare(&versions).unwrap().version, name(NEW));
    }
    let record = record(&versions);
    assert_eq!((record.phase, record.reason), (Phase::Failed, Some(Reason::RollbackImpossible)));
}

#[test]
fn a_version_before_that_has_changed_is_not_gone_back_to() {
    let (dir, versions) = root();
    switch(&versions);
    std::fs::write(dir.path().join("versions").join(OLD).join("more"), "").unwrap();
    for _ in 0..TRIES {
        let start = prepare(&versions).unwrap();
        assert_eq!((start.version, start.on_trial, start.troubles.len()), (name(NEW), true, 0));
    }
    let start = prepare(&versions).unwrap();
    assert_eq!((start.version, start.on_trial), (name(NEW), false));
    assert!(
        matches!(&start.troubles[..], [VersionsError::Changed { version, .. }] if *version == name(OLD)),
        "{:?}",
        start.troubles
    );
    let record = record(&versions);
    assert_eq!((record.phase, record.reason), (Phase::Failed, Some(Reason::RollbackImpossible)));
    assert!(record.detail.contains("(crash_loop: "), "{}", record.detail);
    assert_eq!(prepare(&versions).unwrap().troubles.len(), 0, "it is over");
}

#[test]
fn a_version_that_changes_is_taken_back_at_its_next_start() {
    let (dir, versions) = root();
    switch(&versions);
    assert_eq!(prepare(&versions).unwrap().version, name(NEW));
    std::fs::remove_file(dir.path().join("versions").join(NEW).join("outrider")).unwrap();
    put(dir.path(), NEW);
    assert_eq!(prepare(&versions).unwrap().version, name(NEW), "written anew, and the same");
    std::fs::write(dir.path().join("versions").join(NEW).join("outrider"), "another").unwrap();
    let start = prepare(&versions).unwrap();
    assert_eq!((start.version, start.troubles.len()), (name(OLD), 1));
    let record = record(&versions);
    assert_eq!((record.phase, record.reason), (Phase::RolledBack, Some(Reason::Changed)));
}

#[test]
fn what_changes_once_it_is_armed_is_found_by_the_launcher_before_its_first_start() {
    let (dir, versions) = root();
    let writer = writer(&versions);
    writer.begin(wish()).unwrap();
    writer.enter(Phase::Staged, None).unwrap();
    writer.enter(Phase::Armed, None).unwrap();
    std::fs::write(dir.path().join("versions").join(NEW).join("outrider"), "another").unwrap();
    // It is not read under the lock once more: whoever waits for that waits for a moment only.
    assert!(matches!(writer.switch().unwrap(), Act::Try(version, _) if version == name(NEW)));
    drop(writer);
    let start = prepare(&versions).unwrap();
    assert_eq!((start.version, start.on_trial), (name(OLD), false));
    let record = record(&versions);
    assert_eq!((record.phase, record.reason), (Phase::RolledBack, Some(Reason::Changed)));
}

#[test]
fn what_was_found_before_the_lock_was_taken_is_not_looked_at_under_it() {
    let (dir, versions) = root();
    switch(&versions);
    let now = record(&versions);
    assert!(matches!(versions.look(&now, &name(OLD)), Some(Ok(()))));
    std::fs::write(dir.path().join("versions").join(OLD).join("more"), "").unwrap();
    let writer = writer(&versions);
    writer.found(&name(OLD), Condition::AsSealed);
    writer.roll_back(Reason::ByHand, "a person wanted it").unwrap();
    assert_eq!(record(&versions).phase, Phase::RolledBack);
}

#[test]
fn the_process_of_a_trial_is_known_no_longer_than_the_trial() {
    for ends in [Phase::Committed, Phase::RolledBack, Phase::Failed] {
        let (_dir, versions) = root();
        switch(&versions);
        crate::started::note(&versions).unwrap();
        assert!(versions.layout.started().exists());
        let writer = writer(&versions);
        match ends {
            Phase::RolledBack => drop(writer.roll_back(Reason::Hang, "no answer").unwrap()),
            phase => drop(writer.enter(phase, None).unwrap()),
        }
        assert_eq!(record(&versions).phase, ends);
        assert!(!versions.layout.started().exists(), "{ends}");
    }
}

#[test]
fn a_version_that_gives_another_reason_than_there_was_is_taken_back_and_its_word_is_kept() {
    let (_dir, versions) = root();
    switch(&versions);
    let writer = writer(&versions);
    writer.enter(Phase::RollingBack, Some((Reason::Other, "it ate 3 GB"))).unwrap();
    // As the new version writes it, which has one reason more.
    let newer = |it: &mut Record| drop(it.foreign.insert("reason", "memory".into()));
    writer.update(newer).unwrap();
    drop(writer);
    assert_eq!(prepare(&versions).unwrap().version, name(OLD));
    assert!(versions.slot_faults().is_empty());
    let record = record(&versions);
    assert_eq!((record.phase, record.reason_word()), (Phase::RolledBack, Some("memory")));
    let why = versions.verdict(&name(NEW)).unwrap().unwrap();
    assert!(why.starts_with("memory: it ate 3 GB"), "{why}");
    // It is not the reason of what comes after.
    let again = Record { command: "another".into(), attempt: "another".into(), force: true, ..wish() };
    let writer = self::writer(&versions);
    writer.begin(again).unwrap();
    let failed = writer.enter(Phase::Failed, Some((Reason::Other, "no"))).unwrap();
    assert_eq!(failed.reason_word(), Some("other"));
}

#[test]
fn what_failed_here_is_a_candidate_after_all_others() {
    let (dir, versions) = root();
    for version in ["0.9.0-cccccccc", "3.0.0-dddddddd"] {
        put(dir.path(), version);
    }
    switch(&versions);
    writer(&versions).roll_back(Reason::ByHand, "").unwrap();
    let found: Vec<_> = candidates(&versions).into_iter().map(|it| it.to_string()).collect();
    assert_eq!(found, [OLD, "3.0.0-dddddddd", "0.9.0-cccccccc", NEW]);
}

#[test]
fn a_lost_current_is_mended() {
    let (dir, versions) = root();
    let current = dir.path().join("current");
    std::fs::remove_file(&current).unwrap();
    assert_eq!(prepare(&versions).unwrap().version, name(NEW), "the newest");
    symlink(format!("versions/{OLD}"), dir.path().join("previous")).unwrap();
    for target in ["versions/3.0.0-gone", "/etc", "versions/../versions"] {
        std::fs::remove_file(&current).unwrap();
        symlink(target, &current).unwrap();
        assert_eq!(prepare(&versions).unwrap().version, name(OLD), "previous");
        assert_eq!(std::fs::read_link(&current).unwrap(), Path::new("versions").join(OLD));
    }
    // A folder in its place is not deleted.
    std::fs::remove_file(&current).unwrap();
    std::fs::create_dir(&current).unwrap();
    std::fs::write(current.join("mine"), "kept").unwrap();
    assert_eq!(prepare(&versions).unwrap().version, name(OLD));
    assert!(dir.path().join("upgrade/failed/current.1/mine").exists());
    std::fs::remove_dir_all(dir.path().join("versions")).unwrap();
    let nothing = prepare(&versions).unwrap_err();
    assert!(nothing.to_string().contains("found none"), "{nothing}");
}

#[test]
fn current_runs_while_another_holds_the_lock() {
    let (_dir, versions) = root();
    switch(&versions);
    let before = record(&versions);
    let held = writer(&versions);
    let refused = versions.write(Duration::ZERO).unwrap_err();
    assert!(matches!(refused, VersionsError::Locked { .. }), "{refused}");
    let start = prepare(&versions).unwrap();
    assert_eq!((start.version, start.on_trial, start.troubles.len()), (name(NEW), false, 1));
    assert_eq!(record(&versions), before, "nothing was written");
    drop(held);
    assert!(prepare(&versions).unwrap().on_trial);
}

#[test]
fn what_is_in_use_is_never_deleted() {
    let (dir, versions) = root();
    put(dir.path(), "0.9.0-cccccccc");
    for live in [OLD, NEW] {
        switch_if_needed(&versions);
        let refused = writer(&versions).discard(&name(live)).unwrap_err();
        assert!(matches!(refused, VersionsError::InUse { .. }), "{refused}");
    }
    assert_eq!(writer(&versions).prune(&[]).unwrap(), [], "an attempt is in progress");
    writer(&versions).commit().unwrap();
    assert_eq!(writer(&versions).prune(&[name("0.9.0-cccccccc")]).unwrap(), []);
    std::fs::create_dir_all(dir.path().join("versions/.trash-0.8.0-dddddddd/deep")).unwrap();
    assert_eq!(writer(&versions).prune(&[]).unwrap(), [name("0.9.0-cccccccc")]);
    let left: Vec<_> = std::fs::read_dir(dir.path().join("versions")).unwrap().collect();
    assert_eq!(left.len(), 2);
}

fn switch_if_needed(versions: &Versions) {
    if versions.see().unwrap().journal.record().is_none() {
        switch(versions);
    }
}

#[test]
fn one_attempt_at_a_time() {
    let (_dir, versions) = root();
    let writer = writer(&versions);
    let same = Record { to: name(OLD), ..wish() };
    assert!(matches!(writer.begin(same), Err(VersionsError::AlreadyCurrent { .. })));
    assert_eq!(versions.see().unwrap().journal.record(), None, "nothing was written");
    writer.begin(wish()).unwrap();
    assert!(matches!(writer.begin(wish()).unwrap(), Begun::Before(_)));
    let other = Record { command: "other".into(), attempt: "other".into(), ..wish() };
    assert!(matches!(writer.begin(other.clone()), Err(VersionsError::Busy { .. })));
    assert!(matches!(writer.enter(Phase::Switched, None), Err(VersionsError::IllegalStep { .. })));
    writer.enter(Phase::Superseded, Some((Reason::Other, "another command came"))).unwrap();
    assert!(matches!(writer.begin(other).unwrap(), Begun::New(_)));
    assert_eq!(writer.untold().unwrap().len(), 1);
}
