//! Whose the state is, for every version, link and journal; and on real folders.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Duration;

use outrider_versions::{BootId, Journal, Links, Points, Seen, Tree, VersionName};

use super::*;

const OLD: &str = "1.0.0-ffffffff";
const NEW: &str = "2.0.0-aaaaaaaa";
const OTHER: &str = "3.0.0-cccccccc";

fn name(text: &str) -> VersionName {
    text.parse().unwrap()
}

fn record(phase: Phase) -> Record {
    Record { phase, ..Record::new("attempt".into(), String::new(), name(OLD), name(NEW)) }
}

fn seen(journal: Journal, current: Points) -> Seen {
    Seen {
        journal,
        links: Links { current, previous: Points::Missing },
        tree: Tree { versions: [OLD, NEW].map(name).into(), leftovers: false },
        looked: BTreeMap::new(),
        boot: BootId("now".into()),
    }
}

fn journals() -> Vec<Journal> {
    let attempts = Phase::ALL.into_iter().map(|it| Journal::Attempt(Box::new(record(it))));
    [Journal::Absent, Journal::Unreadable].into_iter().chain(attempts).collect()
}

#[test]
fn only_the_version_that_is_current_changes_the_state_and_only_one_that_stays_lets_the_kept_one_go() {
    let mut cases = 0;
    let points = [Points::To(name(OLD)), Points::To(name(NEW)), Points::To(name(OTHER)), Points::Missing];
    for journal in journals() {
        for current in points.clone() {
            for own in [OLD, NEW, OTHER].map(name) {
                for stands_in in [false, true] {
                    let seen = seen(journal.clone(), current.clone());
                    let found = standing(Some(&seen), Some(&own), stands_in);
                    let case = format!("{journal:?} {current:?} {own} {stands_in}");
                    let is_whole = [OLD, NEW].map(|it| Points::To(name(it))).contains(&current);
                    let is_own = is_whole && current == Points::To(own.clone());
                    assert_eq!(matches!(found, Standing::Settles { .. }), is_own, "{case}");
                    assert_eq!(found == Standing::GoesOver, is_whole && !is_own && !stands_in, "{case}");
                    if let Standing::Settles { keep } = found {
                        assert_eq!(keep, may_go_back(&journal, &own), "{case}");
                        assert_eq!(keep, !stays(&seen, Some(&own)), "{case}");
                    } else {
                        assert!(!stays(&seen, Some(&own)) || !is_whole, "{case}");
                    }
                    cases += 1;
                }
            }
        }
    }
    println!("{cases} cases");
    assert_eq!(standing(None, Some(&name(OLD)), false), Standing::Looks);
}

/// Of the version that is current.
fn may_go_back(journal: &Journal, own: &VersionName) -> bool {
    match journal {
        Journal::Absent => false,
        Journal::Unreadable => true,
        Journal::Attempt(record) => match record.phase {
            Phase::Switched | Phase::Probation | Phase::RollingBack => true,
            Phase::Armed => *own == record.to,
            _ => false,
        },
    }
}

#[test]
fn a_program_that_is_no_version_of_the_root_goes_by_the_attempt_alone() {
    for journal in journals() {
        for current in [Points::To(name(NEW)), Points::Missing] {
            let seen = seen(journal.clone(), current);
            let is_switched = journal.record().is_some_and(|it| seen.is_switched(it));
            assert_eq!(standing(Some(&seen), None, false), Standing::Settles { keep: is_switched });
        }
    }
    assert_eq!(standing(None, None, false), Standing::Settles { keep: true });
}

/// A root with two versions, of which the new one was switched to, and with a state that is kept.
struct Place {
    dir: tempfile::TempDir,
    root: Root,
    versions: Versions,
}

impl Place {
    fn on_trial() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path().join("root"));
        root.create().unwrap();
        let versions = Versions::of(root.path());
        let place = Self { dir, root, versions };
        for version in [OLD, NEW] {
            let program = place.program(version);
            fs::create_dir_all(program.parent().unwrap()).unwrap();
            fs::write(&program, "#!/bin/sh\n").unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        symlink(format!("versions/{OLD}"), place.root.path().join("current")).unwrap();
        let writer = place.versions.write(Duration::ZERO).unwrap();
        writer.begin(record(Phase::Requested)).unwrap();
        writer.enter(Phase::Staged, None).unwrap();
        writer.enter(Phase::Armed, None).unwrap();
        writer.switch().unwrap();
        drop(writer);
        fs::create_dir(place.kept()).unwrap();
        fs::write(place.kept().join("schema.json"), r#"{"schema":1}"#).unwrap();
        place
    }

    fn program(&self, version: &str) -> PathBuf {
        self.versions.layout().program(&name(version))
    }

    fn kept(&self) -> PathBuf {
        self.root.path().join("state.kept")
    }

    fn prepare(&self, program: &Path) -> Result<Prepared, StateError> {
        let (root, versions) = (self.root.clone(), self.versions.clone());
        let lock = root.lock().unwrap();
        let work = Work { root, lock, versions, program: program.to_owned(), store_wait: Duration::ZERO };
        work.settle(&|| false)
    }
}

#[test]
fn a_version_that_was_taken_back_before_it_looked_leaves_the_kept_state_to_the_one_that_is_current() {
    let place = Place::on_trial();
    let prepared = place.prepare(&place.program(NEW)).unwrap();
    assert!(matches!(prepared, Prepared::Ready { on_trial: true }), "{prepared:?}");
    place.versions.write(Duration::ZERO).unwrap().roll_back(Reason::ByHand, "a person wanted it").unwrap();
    let prepared = place.prepare(&place.program(NEW)).unwrap();
    assert!(matches!(prepared, Prepared::GoesOver { .. }), "{prepared:?}");
    assert!(place.kept().exists());
    // The root by another way.
    let link = place.dir.path().join("link");
    symlink(place.root.path(), &link).unwrap();
    let program = link.join("versions").join(NEW).join("outrider");
    assert!(matches!(place.prepare(&program), Ok(Prepared::GoesOver { .. })));
    assert!(place.kept().exists());
}

#[test]
fn the_version_that_stays_lets_the_kept_state_go_and_one_without_current_does_not() {
    let place = Place::on_trial();
    place.versions.write(Duration::ZERO).unwrap().commit().unwrap();
    let current = place.root.path().join("current");
    fs::remove_file(&current).unwrap();
    let prepared = place.prepare(&place.program(NEW)).unwrap();
    assert!(matches!(prepared, Prepared::Ready { on_trial: true }), "{prepared:?}");
    assert!(place.kept().exists());
    symlink(format!("versions/{NEW}"), &current).unwrap();
    let prepared = place.prepare(&place.program(NEW)).unwrap();
    assert!(matches!(prepared, Prepared::Ready { on_trial: false }), "{prepared:?}");
    assert!(!place.kept().exists());
}
