//! The launcher becomes the right program.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use outrider_versions::{Phase, Reason, Record, Versions, launch};

use crate::agent::{NEW, OLD, name};

const SAYS: &str = "#!/bin/sh\n[ \"$1\" = watch ] && echo $OUTRIDER_ROOT > $OUTRIDER_ROOT/watched && exit\n\
                    echo $0 $OUTRIDER_ROOT $MARK $*${OUTRIDER_STANDS_IN+ stands in}\nexit 7\n";

fn put(root: &Path, version: &str, program: &str) {
    let folder = root.join("versions").join(version);
    std::fs::create_dir_all(&folder).unwrap();
    let program_path = folder.join("outrider");
    std::fs::write(&program_path, program).unwrap();
    std::fs::set_permissions(program_path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn root(old: &str, new: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), OLD, old);
    put(dir.path(), NEW, new);
    symlink(format!("versions/{OLD}"), dir.path().join("current")).unwrap();
    dir
}

fn switch(root: &Path) -> Versions {
    let versions = Versions::of(root);
    let writer = versions.write(Duration::ZERO).unwrap();
    writer.begin(Record::new("a".into(), String::new(), name(OLD), name(NEW))).unwrap();
    writer.enter(Phase::Staged, None).unwrap();
    writer.enter(Phase::Armed, None).unwrap();
    writer.switch().unwrap();
    drop(writer);
    versions
}

fn launch(root: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_versions-probe"))
        .arg("--root")
        .arg(root)
        .args(["service-run", "--flag", "a b"])
        .env("MARK", "kept")
        // As of a program that stood in and goes over to another.
        .env("OUTRIDER_STANDS_IN", "1")
        .output()
        .unwrap()
}

fn check(run: &Output, root: &Path, version: &str) {
    check_said(run, root, version, "");
}

/// The program of a version ran, and said of itself what it was given, and this.
fn check_said(run: &Output, root: &Path, version: &str, more: &str) {
    let errors = String::from_utf8_lossy(&run.stderr);
    let root = root.display();
    let said = format!("{root}/versions/{version}/outrider {root} kept service-run --flag a b{more}\n");
    assert_eq!(String::from_utf8_lossy(&run.stdout), said, "{errors}");
    assert_eq!(run.status.code(), Some(7), "the program's own status");
}

#[test]
fn becomes_current_with_arguments_and_environment() {
    let dir = root(SAYS, SAYS);
    let run = launch(dir.path());
    check(&run, dir.path(), OLD);
    assert!(run.stderr.is_empty(), "{run:?}");
}

#[test]
fn a_version_on_trial_is_watched_by_the_old_one() {
    let dir = root(SAYS, SAYS);
    switch(dir.path());
    check(&launch(dir.path()), dir.path(), NEW);
    let began = Instant::now();
    while !dir.path().join("watched").exists() {
        assert!(began.elapsed() < Duration::from_secs(10), "nobody watches");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_program_that_cannot_be_started_is_taken_back_at_once() {
    for broken in ["\x7fELF no program", "", "#!/no/such/interpreter\n", "\0\0\0\0"] {
        let dir = root(SAYS, broken);
        let versions = switch(dir.path());
        check(&launch(dir.path()), dir.path(), OLD);
        let seen = versions.see().unwrap();
        let record = seen.journal.record().unwrap();
        assert_eq!((record.phase, record.reason), (Phase::RolledBack, Some(Reason::CrashLoop)), "{broken:?}");
    }
}

#[test]
fn a_crash_loop_ends_with_the_old_version() {
    let dir = root(SAYS, "#!/bin/sh\nkill -ILL $$\n");
    switch(dir.path());
    let ends: Vec<_> = (0..5).map(|_| launch(dir.path()).status.code()).collect();
    assert_eq!(ends, [None, None, None, Some(7), Some(7)]);
}

#[test]
fn another_version_is_run_where_current_cannot_be_and_no_link_is_changed() {
    let dir = root("garbage", SAYS);
    let run = launch(dir.path());
    check_said(&run, dir.path(), NEW, " stands in");
    assert!(!run.stderr.is_empty());
    let current = std::fs::read_link(dir.path().join("current")).unwrap();
    assert_eq!(current, Path::new("versions").join(OLD));
}

#[test]
fn a_version_that_failed_is_run_where_no_other_can_be_started() {
    let dir = root("garbage", SAYS);
    let versions = switch(dir.path());
    versions.write(Duration::ZERO).unwrap().roll_back(Reason::ByHand, "a person wanted it").unwrap();
    check_said(&launch(dir.path()), dir.path(), NEW, " stands in");
    let current = std::fs::read_link(dir.path().join("current")).unwrap();
    assert_eq!(current, Path::new("versions").join(OLD), "no link is changed for it");
}

#[test]
fn says_that_nothing_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let run = launch(dir.path());
    assert_eq!(run.status.code(), Some(i32::from(launch::EXIT_NOTHING)));
    let errors = String::from_utf8(run.stderr).unwrap();
    assert!(errors.contains("expected a complete version"), "{errors}");
    let dir = root("garbage", "garbage");
    assert_eq!(launch(dir.path()).status.code(), Some(i32::from(launch::EXIT_NOT_STARTED)));
}
