//! An operation fails, or all that write do for a while: something whole runs all the time, and afterwards the upgrade
//! comes to its end.

use std::io::ErrorKind;
use std::path::Path;

use crate::fs::{Fs, texts};
use crate::model::Fault;
use crate::phase::{Phase, Reason};
use crate::system::{NEW, New, OLD, System, name};

const KINDS: [ErrorKind; 4] = [
    ErrorKind::StorageFull,
    // As `EIO` is read.
    ErrorKind::Other,
    ErrorKind::ReadOnlyFilesystem,
    ErrorKind::QuotaExceeded,
];

fn operations(new: New) -> std::ops::Range<u64> {
    let mut system = System::new(new);
    let first = system.fs.operations();
    system.run();
    first..system.fs.operations()
}

#[test]
fn any_one_operation_may_fail() {
    let mut cases = 0;
    for new in New::ALL {
        for at in operations(new) {
            let now = usize::try_from(at).unwrap();
            for kind in [KINDS[now % KINDS.len()], KINDS[(now + 1) % KINDS.len()]] {
                let mut system = System::new(new);
                system.fs.set_fault(Fault::Once(at, kind));
                system.run();
                system.fs.set_fault(Fault::None);
                system.check_end();
                cases += 1;
            }
        }
    }
    println!("{cases} single errors");
}

#[test]
fn a_disk_that_cannot_be_written_for_a_while_stops_no_version() {
    let mut cases = 0;
    for new in New::ALL {
        for at in operations(new).step_by(4) {
            for fault in [Fault::ReadOnly(at), Fault::Full(at)] {
                let mut system = System::new(new);
                system.fs.set_fault(fault);
                for _ in 0..6 {
                    // Each start finds a whole version, which the machine itself checks.
                    drop(system.start());
                }
                system.fs.set_fault(Fault::None);
                system.run();
                system.check_end();
                cases += 1;
            }
        }
    }
    println!("{cases} disks that were read-only or full for a while");
}

#[test]
fn a_full_disk_does_not_keep_a_version_from_being_taken_back() {
    for new in [New::Crashes, New::Unwell] {
        let mut system = on_trial(new);
        let now = system.fs.operations();
        system.fs.set_fault(Fault::Full(now));
        for _ in 0..6 {
            drop(system.start());
        }
        assert_eq!(system.phase(), Some(Phase::RolledBack), "{new:?}\n{}", system.fs.trace());
        let seen = system.versions.see().unwrap();
        assert_eq!(seen.tree.whole(&seen.links.current), Some(&name(OLD)));
    }
}

/// A machine with a version on trial.
fn on_trial(new: New) -> System {
    let mut system = System::new(new);
    while system.phase() != Some(Phase::Probation) {
        system.start().unwrap();
    }
    system
}

fn damage(system: &System, version: &str) {
    let program = system.versions.layout.program(&name(version));
    system.fs.damage(&program, b"the program of somebody else");
}

#[test]
fn a_version_that_changes_before_it_runs_is_never_run() {
    let mut cases = 0;
    for at in operations(New::Good) {
        let mut system = System::new(New::Good);
        system.fs.set_fault(Fault::Off(at));
        let _whether_more = system.start_unless_off();
        system.fs.set_fault(Fault::None);
        let Some(phase) = system.phase().filter(|it| matches!(it, Phase::Armed | Phase::Switched)) else {
            continue;
        };
        damage(&system, NEW);
        system.run();
        let seen = system.versions.see().unwrap();
        assert_eq!(seen.tree.whole(&seen.links.current), Some(&name(OLD)), "{phase}");
        let record = seen.journal.record().unwrap();
        assert_eq!(record.reason, Some(Reason::Changed), "{phase}");
        assert_eq!(system.told.len(), 1, "{:?}", system.told);
        assert!(system.told.is_subset(&[Phase::Failed, Phase::RolledBack].into()), "{:?}", system.told);
        cases += 1;
    }
    println!("{cases} versions that changed before their first start");
    assert!(cases > 10, "{cases}");
}

#[test]
fn a_version_that_changes_on_trial_is_taken_back_at_its_next_start() {
    let mut system = on_trial(New::Good);
    damage(&system, NEW);
    system.run();
    let record = system.versions.see().unwrap().journal.record().unwrap().clone();
    assert_eq!((record.phase, record.reason), (Phase::RolledBack, Some(Reason::Changed)));
    system.check_end_as(New::Unwell);
}

#[test]
fn a_version_before_that_has_changed_is_not_gone_back_to() {
    let mut system = on_trial(New::Unwell);
    damage(&system, OLD);
    system.run();
    let seen = system.versions.see().unwrap();
    assert_eq!(seen.tree.whole(&seen.links.current), Some(&name(NEW)));
    assert_eq!(system.told, [Phase::Failed].into());
    let record = seen.journal.record().unwrap();
    assert_eq!(record.reason, Some(Reason::RollbackImpossible));
    assert!(record.detail.contains("unhealthy: not well"), "{}", record.detail);
}

#[test]
fn damaged_slots_cost_no_version_and_are_kept() {
    let mut cases = 0;
    let garbage: [&[u8]; 5] =
        [b"", b"\0\0\0\0", b"garbage", b"outrider-upgrade-journal 9\n", &[b'x'; 70_000]];
    for new in New::ALL {
        for starts in 0..12 {
            for bad in garbage {
                for which in [&[0_usize][..], &[1], &[0, 1]] {
                    let mut system = System::new(new);
                    for _ in 0..starts {
                        drop(system.start());
                    }
                    let slots = system.versions.layout.slots();
                    let there: Vec<_> =
                        which.iter().map(|it| &slots[*it]).filter(|it| system.fs.meta(it).is_ok()).collect();
                    there.iter().for_each(|it| system.fs.damage(it, bad));
                    let before = system.versions.see().unwrap();
                    assert_eq!(system.versions.slot_faults().len(), there.len());
                    system.run();
                    let after = system.versions.see().unwrap();
                    assert!(after.tree.whole(&after.links.current).is_some(), "{before:?}");
                    let failed = texts(system.fs.list(Path::new("/root/upgrade/failed")).unwrap_or_default());
                    let kept = failed.iter().filter(|it| it.starts_with("journal.")).count();
                    let left = system.versions.slot_faults().len();
                    assert_eq!(kept + left, there.len(), "{failed:?}");
                    let ended = after.journal.record().is_none_or(|it| it.phase.is_terminal());
                    assert!(ended, "{after:?}");
                    if new != New::Good {
                        assert_eq!(after.tree.whole(&after.links.current), Some(&name(OLD)), "{before:?}");
                    }
                    cases += 1;
                }
            }
        }
    }
    println!("{cases} journals with damaged slots");
}
