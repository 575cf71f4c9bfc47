//! Migrations and their way back over real folders, with trouble at each change of the disk.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::testing::fresh;
use crate::{Checkpoints, StoreError};

/// What a service of schema 1 leaves, with stores that are none.
fn used() -> (tempfile::TempDir, Root) {
    let (folder, root) = fresh();
    fs::write(root.checkpoints_db(), "values").unwrap();
    fs::write(root.commands_db(), "commands").unwrap();
    fs::create_dir_all(root.unchanged().join("pending/1.e1")).unwrap();
    fs::write(root.unchanged().join("1-1.run"), "marks").unwrap();
    fs::write(root.unchanged().join("pending/1.e1/sourcecode.Repo.marks"), "more").unwrap();
    fs::write(root.exports().join("e1.json"), "{}").unwrap();
    (folder, root)
}

/// All files below a folder, but for what says the schema.
fn contents(folder: &Path) -> BTreeMap<PathBuf, String> {
    fn walk(top: &Path, folder: &Path, all: &mut BTreeMap<PathBuf, String>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() {
                walk(top, &path, all);
            } else if kind.is_file() && !path.ends_with("schema.json") {
                all.insert(path.strip_prefix(top).unwrap().to_owned(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut all = BTreeMap::new();
    walk(folder, folder, &mut all);
    all
}

fn schema_of(root: &Root) -> u32 {
    schema::read(&root.state()).unwrap()
}

/// That waits for nobody.
const HASTE: Patience<'static> = Patience { store: Duration::ZERO, stop: &|| false };

fn settle(root: &Root, schema: u32, does: &str, keep: bool) -> Result<Settled, StateError> {
    root.settle_state_as(&Schema::played(schema, does), keep, &HASTE, &mut |_| Ok(()))
}

/// What goes wrong at a change of the disk.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Trouble {
    /// The process is killed before it.
    Kill,
    /// The disk is full for it.
    Full,
}

/// Settles with trouble at the n-th change; whether there were so many.
fn settle_in_trouble(
    root: &Root,
    schema: u32,
    trouble: (Trouble, usize),
) -> (Result<Settled, StateError>, bool) {
    let (mut done, mut met) = (0, false);
    let settled = root.settle_state_as(&Schema::played(schema, "well"), true, &HASTE, &mut |what| {
        done += 1;
        let hit = if trouble.0 == Trouble::Kill { done > trouble.1 } else { done == trouble.1 + 1 };
        met |= hit;
        match hit {
            true => Err(FileError::at(what, Path::new("a disk"))(io::ErrorKind::StorageFull.into())),
            false => Ok(()),
        }
    });
    (settled, met)
}

#[test]
fn a_migration_changes_a_copy_and_the_state_before_is_kept_until_it_is_forgotten() {
    let (_folder, root) = used();
    let before = contents(&root.state());
    assert_eq!(schema_of(&root), 1);
    #[cfg(unix)]
    let _socket = crate::socket::listen(&root).unwrap();

    let settled = settle(&root, 2, "well", true).unwrap();
    assert_eq!(settled, Settled { migrated_from: Some(1), put_back_from: None, is_kept: true });
    assert_eq!((schema_of(&root), contents(&root.kept_state())), (2, before.clone()));
    let mut now = contents(&root.state());
    assert!(now.remove(Path::new("played-1")).is_some());
    assert_eq!(now, before);

    // Another start of the trial.
    assert_eq!(settle(&root, 2, "well", true).unwrap(), Settled { is_kept: true, ..Settled::default() });
    root.forget_kept_state().unwrap();
    assert!(!root.state_is_kept() && schema_of(&root) == 2);
    assert_eq!(settle(&root, 2, "well", true).unwrap(), Settled::default());
}

#[test]
fn where_nothing_is_on_trial_nothing_is_kept_and_several_steps_are_one_migration() {
    let (_folder, root) = used();
    assert_eq!(settle(&root, 4, "well", false).unwrap().migrated_from, Some(1));
    let made = contents(&root.state());
    assert!((1..4).all(|step| made.contains_key(Path::new(&format!("played-{step}")))));
    assert!(!root.state_is_kept());
    assert!(matches!(settle(&root, 1, "", false), Err(StateError::Newer { found: 4, ours: 1, .. })));
    assert_eq!(contents(&root.state()), made);
}

#[test]
fn the_version_before_puts_the_kept_state_back_and_one_newer_one_stays_to_be_looked_at() {
    let (_folder, root) = used();
    let before = contents(&root.state());
    for turn in 0..2 {
        settle(&root, 2, "well", true).unwrap();
        fs::write(root.state().join("since"), turn.to_string()).unwrap();
        let settled = settle(&root, 1, "", false).unwrap();
        assert_eq!(settled, Settled { migrated_from: None, put_back_from: Some(2), is_kept: false });
        assert_eq!((contents(&root.state()), schema_of(&root)), (before.clone(), 1));
        let undone = fs::read_to_string(root.undone_state().join("since")).unwrap();
        assert_eq!(undone, turn.to_string());
    }
    settle(&root, 2, "well", true).unwrap();
    root.forget_kept_state().unwrap();
    assert!(!root.state_is_kept() && root.undone_state().exists());
    root.delete_old_states().unwrap();
    assert!(!root.undone_state().exists() && !act::Folder::Scrap.of(&root).exists());
}

#[test]
fn wherever_a_migration_is_cut_short_either_version_goes_on_with_all_that_there_was() {
    let mut places = 0;
    for trouble in [Trouble::Kill, Trouble::Full] {
        for place in 0.. {
            let (_folder, root) = used();
            let before = contents(&root.state());
            let (settled, met) = settle_in_trouble(&root, 2, (trouble, place));
            if !met {
                assert!(settled.is_ok());
                break;
            }
            places += 1;
            if root.state().exists() && schema_of(&root) == 1 {
                assert_eq!(contents(&root.state()), before, "{trouble:?} at {place}");
            }
            if place % 2 == 0 {
                settle(&root, 2, "well", true).unwrap();
                assert_eq!(contents(&root.kept_state()), before, "{trouble:?} at {place}");
                assert_eq!(schema_of(&root), 2);
            }
            settle(&root, 1, "", false).unwrap();
            assert_eq!((contents(&root.state()), schema_of(&root)), (before, 1), "{trouble:?} at {place}");
            assert!(!root.state_is_kept() && !root.new_state().exists());
        }
    }
    println!("{places} places");
    assert!(places > 30, "{places}");
}

#[test]
fn wherever_putting_back_is_cut_short_the_next_start_ends_it() {
    let mut places = 0;
    for trouble in [Trouble::Kill, Trouble::Full] {
        for place in 0.. {
            let (_folder, root) = used();
            let before = contents(&root.state());
            // A second time, so that there is one that was undone before.
            settle(&root, 2, "well", true).unwrap();
            settle(&root, 1, "", false).unwrap();
            settle(&root, 2, "well", true).unwrap();
            let (settled, met) = settle_in_trouble(&root, 1, (trouble, place));
            if !met {
                assert!(settled.is_ok());
                break;
            }
            places += 1;
            settle(&root, 1, "", false).unwrap();
            assert_eq!((contents(&root.state()), schema_of(&root)), (before, 1), "{trouble:?} at {place}");
            assert!(!root.state_is_kept() && root.undone_state().exists());
        }
    }
    println!("{places} places");
    assert!(places > 8, "{places}");
}

#[test]
fn a_folder_made_where_the_state_is_missing_is_no_state() {
    let (_folder, root) = used();
    let before = contents(&root.state());
    settle(&root, 2, "well", true).unwrap();
    fs::rename(root.state(), root.new_state()).unwrap();
    // As by an action by hand.
    root.create().unwrap();
    assert!(!root.schema_path().exists());
    assert!(matches!(root.check_state(), Err(StateError::Unfinished { .. })));
    settle(&root, 2, "well", true).unwrap();
    assert_eq!((schema_of(&root), contents(&root.kept_state())), (2, before));
}

#[test]
fn what_is_written_where_the_state_is_missing_is_never_preferred_to_a_state() {
    // By a program that does not look: the file alone, or all that an earlier version makes.
    let stray = |root: &Root| {
        fs::create_dir_all(root.state().join("trust")).unwrap();
        fs::write(root.state().join("trust/trust.json"), "{}").unwrap();
        root.create().unwrap();
        assert!(!root.schema_path().exists());
        assert!(matches!(root.check_state(), Err(StateError::Unfinished { .. })));
    };
    for ours in [1, 2] {
        // The migration is cut short at its end.
        let (_folder, root) = used();
        let before = contents(&root.state());
        settle(&root, 2, "well", true).unwrap();
        fs::rename(root.state(), root.new_state()).unwrap();
        stray(&root);
        for keep in [true, false] {
            settle(&root, ours, "well", keep).unwrap();
        }
        let mut now = contents(&root.state());
        assert_eq!(now.remove(Path::new("played-1")).is_some(), ours == 2);
        assert_eq!((now, schema_of(&root)), (before, ours));

        // So is putting back.
        let (_folder, root) = used();
        let before = contents(&root.state());
        settle(&root, 2, "well", true).unwrap();
        fs::rename(root.state(), root.undone_state()).unwrap();
        stray(&root);
        settle(&root, ours, "well", false).unwrap();
        let mut now = contents(&root.state());
        now.remove(Path::new("played-1"));
        assert_eq!((now, schema_of(&root)), (before, ours));
    }
    // A state of a version before there was a schema, in the middle of its migration, is one.
    let (_folder, root) = used();
    let before = contents(&root.state());
    fs::remove_file(root.schema_path()).unwrap();
    fs::create_dir(root.new_state()).unwrap();
    settle(&root, 1, "", false).unwrap();
    assert_eq!(contents(&root.state()), before);
}

#[test]
fn a_migration_that_fails_leaves_the_state_and_no_copy() {
    let (_folder, root) = used();
    let before = contents(&root.state());
    let err = settle(&root, 2, "fails", true).unwrap_err();
    assert!(err.to_string().contains("from schema 1 to 2"), "{err}");
    assert!(std::error::Error::source(&err).unwrap().to_string().contains("played to fail"));
    assert_eq!((contents(&root.state()), schema_of(&root)), (before, 1));
    assert!(!root.state_is_kept() && !root.new_state().exists());
    assert!(!act::Folder::Scrap.of(&root).exists());
}

#[test]
fn a_store_that_somebody_works_with_is_not_copied() {
    let (_folder, root) = fresh();
    let store = Checkpoints::open(&root, Duration::ZERO).unwrap();
    let err = copy::hold_stores(&root.state(), Duration::ZERO, &mut |_| Ok(())).unwrap_err();
    assert!(matches!(&err, StateError::Store(StoreError::InUse { .. })), "{err}");
    drop(store);
    let held = copy::hold_stores(&root.state(), Duration::ZERO, &mut |_| Ok(())).unwrap();
    assert!(matches!(Checkpoints::open(&root, Duration::ZERO), Err(StoreError::InUse { .. })));
    drop(held);
}

#[test]
fn a_migration_ends_early_at_once_also_while_it_waits_and_the_next_one_goes_on() {
    let (_folder, root) = fresh();
    let store = Checkpoints::open(&root, Duration::ZERO).unwrap();
    let asked = Cell::new(0);
    for most in [0, 3] {
        asked.set(0);
        let stop = || asked.replace(asked.get() + 1) >= most;
        let patience = Patience { store: Duration::from_hours(1), stop: &stop };
        let schema = Schema::played(2, "well");
        let err = root.settle_state_as(&schema, true, &patience, &mut |_| Ok(())).unwrap_err();
        assert!(matches!(err, StateError::Stopped { .. }) && !err.comes_again(), "{err}");
        assert!(asked.get() <= most + 2, "{}", asked.get());
    }
    drop(store);
    for most in 0.. {
        asked.set(0);
        let stop = || asked.replace(asked.get() + 1) >= most;
        let patience = Patience { store: Duration::ZERO, stop: &stop };
        match root.settle_state_as(&Schema::played(2, "well"), true, &patience, &mut |_| Ok(())) {
            Err(err) => assert!(matches!(err, StateError::Stopped { .. }), "{err}"),
            Ok(_) => break,
        }
    }
    assert_eq!(schema_of(&root), 2);
}

#[test]
fn only_what_comes_again_at_each_start_speaks_against_a_version() {
    let (_folder, root) = fresh();
    assert!(settle(&root, 2, "fails", true).unwrap_err().comes_again());
    let migration = |err: io::Error| StateError::Migration { from: 1, to: 2, err: err.into() };
    assert!(migration(io::ErrorKind::NotFound.into()).comes_again());
    let disk = FileError::at("write", Path::new("it"));
    assert!(!migration(io::Error::other(disk(io::ErrorKind::StorageFull.into()))).comes_again());
    #[cfg(unix)]
    assert!(!migration(io::Error::from_raw_os_error(5)).comes_again());

    let store = Checkpoints::open(&root, Duration::ZERO).unwrap();
    let err = settle(&root, 2, "well", true).unwrap_err();
    assert!(matches!(err, StateError::Store(StoreError::InUse { .. })) && !err.comes_again(), "{err}");
    drop(store);
    schema::write(&root.state(), 3).unwrap();
    assert!(settle(&root, 2, "well", true).unwrap_err().comes_again());
}

#[test]
fn what_does_not_fit_or_cannot_be_copied_is_refused_before_anything_is_written() {
    let (_folder, root) = used();
    let large = root.state().join("large");
    fs::File::create(&large).unwrap().set_len(1 << 43).unwrap();
    let err = settle(&root, 2, "well", true).unwrap_err();
    assert!(matches!(err, StateError::NoRoom { need, free, .. } if need > 1 << 43 && free > 0), "{err}");
    assert!(!err.comes_again());
    fs::remove_file(large).unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("elsewhere", root.state().join("link")).unwrap();
        let err = settle(&root, 2, "well", true).unwrap_err();
        assert!(matches!(&err, StateError::Strange { path } if path.ends_with("state/link")), "{err}");
    }
    assert_eq!(schema_of(&root), 1);
}

#[test]
fn commands_by_hand_look_and_migrate_only_where_no_service_can_be() {
    let (_folder, root) = used();
    root.settle_state_by_hand().unwrap();
    schema::write(&root.state(), 7).unwrap();
    for checked in [root.check_state(), root.settle_state_by_hand()] {
        let told = checked.unwrap_err().to_string();
        assert!(told.contains("has schema 7") && told.contains("knows 1 at most"), "{told}");
    }
    schema::write(&root.state(), 1).unwrap();
    fs::create_dir(root.kept_state()).unwrap();
    root.settle_state_by_hand().unwrap();
    assert!(!root.state_is_kept(), "somebody was cut short, and there is nobody else");
    fs::write(root.config_path(), "{}").unwrap();
    fs::create_dir(root.kept_state()).unwrap();
    root.check_state().unwrap();
    assert!(matches!(root.settle_state_by_hand(), Err(StateError::OnTrial { .. })));

    // Cut short: the service goes on, or who works alone.
    fs::rename(root.state(), root.new_state()).unwrap();
    assert!(matches!(root.settle_state_by_hand(), Err(StateError::Unfinished { .. })));
    fs::remove_file(root.config_path()).unwrap();
    root.settle_state_by_hand().unwrap();
    assert!(root.checkpoints_db().exists() && !root.state_is_kept());
}

#[test]
fn a_new_root_says_its_schema_and_one_of_an_earlier_version_has_the_first() {
    let (_folder, root) = fresh();
    assert_eq!(fs::read_to_string(root.schema_path()).unwrap(), r#"{"schema":1}"#);
    let (_folder, root) = used();
    fs::remove_file(root.schema_path()).unwrap();
    root.create().unwrap();
    assert!(!root.schema_path().exists() && schema_of(&root) == 1);
    for text in ["", "{", r#"{"schema":0}"#, r#"{"schema":"2"}"#] {
        fs::write(root.schema_path(), text).unwrap();
        let err = root.check_state().unwrap_err();
        assert!(matches!(err, StateError::Unreadable { .. }), "{text}: {err}");
    }
    fs::write(root.schema_path(), r#"{"schema":1,"more":true}"#).unwrap();
    root.check_state().unwrap();
}
