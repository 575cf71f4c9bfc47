//! Archives that are taken, and every one that is refused before anything is written.

use std::path::Path;

use crate::testing::{chain, files_of, fixtures, is_current, says, small_list};
use crate::{Archive, ArchiveError, FileList, RelPath, unpack, verify_tree};

mod bombs;
mod damaged;
mod older;
mod tar_tricks;
mod zip_tricks;

/// Takes a package as an upgrade does; the folder holds what was written.
pub(super) fn take(archive: &Path, list: &FileList) -> (Result<(), ArchiveError>, tempfile::TempDir) {
    let staging = crate::testing::folder();
    let running = RelPath::parse("versions/1.0.0-aaaaaaaa").unwrap();
    let taken = Archive::open(archive).and_then(|mut archive| {
        let plan = archive.inspect(list, Some(&running))?;
        unpack(&mut archive, &plan, list, staging.path())
    });
    (taken, staging)
}

/// Takes a package that has to be refused with nothing written; tells why, without where it is.
#[track_caller]
pub(super) fn refused(archive: &Path, list: &FileList) -> String {
    let (taken, staging) = take(archive, list);
    let err = taken.expect_err(&archive.display().to_string());
    assert!(matches!(err, ArchiveError::Refused { .. }), "{}: {}", archive.display(), chain(&err));
    let written = std::fs::read_dir(staging.path()).unwrap().count();
    assert_eq!(written, 0, "{}: {}", archive.display(), chain(&err));
    chain(&err).replace(&archive.display().to_string(), "ARCHIVE")
}

#[test]
fn every_invalid_archive_is_refused_with_the_text_beside_it() {
    // Made first, so that this test can run by itself.
    let made = [tar_tricks::write(), zip_tricks::write()].concat();
    let mut files = files_of("invalid", ".tar.gz");
    files.extend(files_of("invalid", ".zip"));
    for file in &files {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(made.iter().any(|it| it == name), "{name} is made by no test");
        says(file, &refused(file, &small_list()));
    }
    assert_eq!(files.len(), made.len());
    println!("{} malicious archives refused", files.len());
}

#[test]
fn no_text_is_without_its_fixture() {
    for text in files_of("invalid", ".txt") {
        assert!(text.with_extension("").exists(), "{}", text.display());
    }
}

/// The fuzz targets read it from there.
#[test]
fn the_list_of_the_fixtures_is_current() {
    is_current(&fixtures("valid").join("files.json"), &small_list().to_json().unwrap());
}

#[test]
fn the_valid_archives_are_taken() {
    tar_tricks::write();
    zip_tricks::write();
    for name in ["package.tar.gz", "package.zip"] {
        let (taken, staging) = take(&fixtures("valid").join(name), &small_list());
        taken.unwrap_or_else(|err| panic!("{name}: {}", chain(&err)));
        verify_tree(staging.path(), &small_list()).unwrap();
    }
}
