//! Folders that are what their list says, and every way in which they are not.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::testing::{MOST, identity, list, write_files};

const FILES: &[(&str, &[u8])] =
    &[("outrider", b"program"), ("integrations/integration-git", b"git"), ("docs/a/b/readme", b"")];

fn version() -> tempfile::TempDir {
    let folder = crate::testing::folder();
    write_files(folder.path(), FILES);
    folder
}

/// The differences after a change.
fn differences(change: impl FnOnce(&Path)) -> Vec<String> {
    let folder = version();
    change(folder.path());
    match verify_tree(folder.path(), &list(FILES)) {
        Ok(()) => Vec::new(),
        Err(TreeError::Differs { differences, .. }) => differences.iter().map(ToString::to_string).collect(),
        Err(err) => panic!("{err}"),
    }
}

#[test]
fn a_folder_is_what_its_list_says() {
    let folder = version();
    let made = list_folder(folder.path(), identity(), "linux", "x86_64", MOST).unwrap();
    assert_eq!(made, list(FILES));
    verify_tree(folder.path(), &made).unwrap();
}

#[test]
fn every_difference_is_found() {
    let write = |path: &'static str, text: &'static str| {
        move |folder: &Path| std::fs::write(folder.join(path), text).unwrap()
    };
    let mode = |bits| {
        move |folder: &Path| {
            std::fs::set_permissions(folder.join("outrider"), Permissions::from_mode(bits)).unwrap();
        }
    };
    assert_eq!(differences(|_| ()), [""; 0]);
    assert_eq!(
        differences(write("outrider", "PROGRAM")),
        ["outrider has another SHA-512 than the listed one"]
    );
    assert_eq!(differences(write("outrider", "progra")), ["outrider has 6 bytes or more: expected 7"]);
    assert_eq!(
        differences(write("outrider", "programs and more")),
        ["outrider has 8 bytes or more: expected 7"]
    );
    assert_eq!(differences(write("docs/a/new", "")), ["docs/a/new is not listed"]);
    assert_eq!(differences(mode(0o700)), ["outrider has the permissions 0700: expected 0755"]);
    assert_eq!(differences(mode(0o4755)), ["outrider has the permissions 4755: expected 0755"]);
    assert_eq!(differences(|it| std::fs::create_dir(it.join("empty")).unwrap()), ["empty is not listed"]);
    assert_eq!(differences(|it| std::fs::remove_file(it.join("outrider")).unwrap()), ["outrider is missing"]);
    assert_eq!(
        differences(|it| std::fs::remove_dir_all(it.join("docs")).unwrap()),
        ["docs/a/b/readme is missing"]
    );
}

#[test]
fn links_and_devices_are_no_files() {
    let found = differences(|folder| {
        std::fs::rename(folder.join("outrider"), folder.join("other")).unwrap();
        symlink("other", folder.join("outrider")).unwrap();
    });
    assert_eq!(found, ["other is not listed", "outrider is Link", "outrider is missing"]);
    let found = differences(|folder| {
        let outside = folder.join("moved");
        std::fs::rename(folder.join("docs"), &outside).unwrap();
        symlink(&outside, folder.join("docs")).unwrap();
    });
    assert_eq!(found, ["docs is Link", "moved is not listed", "docs/a/b/readme is missing"]);
    let found = differences(|folder| {
        drop(std::os::unix::net::UnixListener::bind(folder.join("socket")).unwrap());
    });
    assert_eq!(found, ["socket is Special"]);
    let found = differences(|folder| {
        std::fs::remove_file(folder.join("outrider")).unwrap();
        std::fs::create_dir(folder.join("outrider")).unwrap();
    });
    assert_eq!(found, ["outrider is Folder", "outrider is missing"]);
    let found = differences(|folder| {
        std::fs::remove_dir_all(folder.join("docs")).unwrap();
        std::fs::write(folder.join("docs"), "").unwrap();
    });
    assert_eq!(found, ["docs is File", "docs/a/b/readme is missing"]);
}

#[test]
fn names_that_no_list_has_are_differences() {
    let found = differences(|folder| std::fs::write(folder.join("a\nb"), "").unwrap());
    assert_eq!(found, ["a name cannot be used"]);
}

#[test]
fn a_flood_of_differences_is_cut() {
    let found = differences(|folder| {
        for n in 0..3 * DIFFERENCES {
            std::fs::write(folder.join(format!("f{n}")), "").unwrap();
        }
    });
    assert_eq!(found.len(), DIFFERENCES);
}

#[test]
fn what_no_package_can_hold_is_not_listed() {
    let folder = version();
    symlink("outrider", folder.path().join("link")).unwrap();
    let err = list_folder(folder.path(), identity(), "linux", "x86_64", MOST).unwrap_err();
    assert!(
        matches!(err, TreeError::Unfit { what: Difference::Kind { found: Kind::Link, .. }, .. }),
        "{err}"
    );
    assert!(verify_tree(&folder.path().join("link"), &list(FILES)).is_err());
    assert!(matches!(
        list_folder(version().path(), identity(), "linux", "x86_64", 5),
        Err(TreeError::List { err: ListError::TooLarge { .. }, .. })
    ));
}
