//! Packages without a manifest; packages whose files nobody asked for; what happens while one is unpacked.

use std::path::Path;

use super::take;
use crate::testing::tar_bytes::{Item, file, gzip, tar};
use crate::testing::{HASH, PROGRAM, TOP, chain, list};
use crate::{Archive, ArchiveError, FileList, Refusal, unpack, verify_tree};

/// A package without a manifest.
fn items() -> Vec<Item> {
    vec![
        file(&format!("{TOP}/.outrider.active.commit"), HASH.as_bytes()),
        file(&format!("{TOP}/data/outrider-012345/outrider"), PROGRAM),
        file(&format!("{TOP}/data/outrider-012345/integrations/integration-git"), b"git"),
        file(&format!("{TOP}/data/outrider-012345/not-listed"), b"x"),
        file(&format!("{TOP}/config.json"), b"{}"),
    ]
}

fn older_list() -> FileList {
    list(&[("outrider", PROGRAM), ("integrations/integration-git", b"git")])
}

fn written(folder: &Path, items: &[Item]) -> Archive {
    let path = folder.join("package.tar.gz");
    std::fs::write(&path, gzip(&tar(items))).unwrap();
    Archive::open(&path).unwrap()
}

#[test]
fn a_package_without_a_manifest_is_taken() {
    let folder = crate::testing::folder();
    let mut archive = written(folder.path(), &items());
    let plan = archive.inspect(&older_list(), None).unwrap();
    assert_eq!(plan.target_home.as_str(), "data/outrider-012345");
    assert_eq!(plan.manifest.identity, *older_list().package());
    let (taken, staging) = take(archive.path(), &older_list());
    taken.unwrap();
    verify_tree(staging.path(), &older_list()).unwrap();
}

#[test]
fn another_content_of_the_listed_size_is_refused() {
    let folder = crate::testing::folder();
    let mut items = items();
    items[2].content = b"gut".to_vec();
    let archive = written(folder.path(), &items);
    let (taken, _staging) = take(archive.path(), &older_list());
    assert!(matches!(taken, Err(ArchiveError::Refused { why: Refusal::Hash { .. }, .. })));
}

#[test]
fn a_package_that_changes_between_the_readings_is_refused() {
    let folder = crate::testing::folder();
    let mut archive = written(folder.path(), &items());
    let plan = archive.inspect(&older_list(), None).unwrap();
    let staging = crate::testing::folder();
    let mut fewer = items();
    fewer.remove(1);
    std::fs::write(archive.path(), gzip(&tar(&fewer))).unwrap();
    let err = unpack(&mut archive, &plan, &older_list(), staging.path()).unwrap_err();
    assert!(chain(&err).contains("it changed while it was read"), "{}", chain(&err));
}

#[test]
fn only_an_empty_folder_is_unpacked_into() {
    let folder = crate::testing::folder();
    let mut archive = written(folder.path(), &items());
    let plan = archive.inspect(&older_list(), None).unwrap();
    let staging = crate::testing::folder();
    let outside = crate::testing::folder();
    std::os::unix::fs::symlink(outside.path(), staging.path().join("integrations")).unwrap();
    let err = unpack(&mut archive, &plan, &older_list(), staging.path()).unwrap_err();
    assert!(matches!(err, ArchiveError::File(_)), "{}", chain(&err));
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(outside.path(), &link).unwrap();
    assert!(unpack(&mut archive, &plan, &older_list(), &link).is_err());
    assert!(unpack(&mut archive, &plan, &older_list(), &folder.path().join("missing")).is_err());
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn what_the_system_cannot_read_is_no_refusal() {
    let folder = crate::testing::folder();
    let missing = Archive::open(&folder.path().join("missing")).unwrap_err();
    assert!(matches!(missing, ArchiveError::File(_)));
    // A folder opens, and cannot be read.
    assert!(matches!(Archive::open(folder.path()), Err(ArchiveError::File(_))));
}
