//! What several tests need: the fixtures, a small version, archives made byte by byte.

use std::error::Error;
use std::path::{Path, PathBuf};

use crate::{
    CommitHash, FileList, Identity, ListedFile, Manifest, Mode, PathMappings, RelPath, Release, digest,
};

pub(crate) mod tar_bytes;
pub(crate) mod zip_bytes;

/// The hash of the packages in the tests.
pub(crate) const HASH: &str = "0123456789abcdef0123456789abcdef01234567";
/// Their top folder.
pub(crate) const TOP: &str = "outrider-1.2.3-linux-x86_64";
/// Bytes that all files of a list may have here.
pub(crate) const MOST: u64 = 1 << 30;

/// A folder that goes away with the test. In memory where the system has such a place, since thousands of packages are
/// unpacked and synced.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// A folder of `fixtures/upgrade`. `UPDATE_FIXTURES=1 cargo test -p outrider-upgrade` writes what is made by tests anew.
pub(crate) fn fixtures(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/upgrade").join(kind)
}

/// The files of a folder of fixtures with that ending, in their order.
pub(crate) fn files_of(kind: &str, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(fixtures(kind)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_str().unwrap().ends_with(ending));
    files.sort();
    files
}

/// Holds a fixture against what it should be, byte by byte.
#[track_caller]
pub(crate) fn is_current(path: &Path, expected: &[u8]) {
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, expected).unwrap();
    }
    let found = std::fs::read(path).unwrap_or_default();
    assert!(
        found == expected,
        "{} is not what the tests make: run `UPDATE_FIXTURES=1 cargo test -p outrider-upgrade`; expected {}",
        path.display(),
        String::from_utf8_lossy(&expected[..expected.len().min(400)])
    );
}

/// Holds the text beside a fixture against what was said of it.
#[track_caller]
pub(crate) fn says(fixture: &Path, found: &str) {
    let mut beside = fixture.as_os_str().to_owned();
    beside.push(".txt");
    is_current(Path::new(&beside), format!("{found}\n").as_bytes());
}

/// Every line of a chain of errors.
pub(crate) fn chain(err: &dyn Error) -> String {
    let mut lines = err.to_string();
    let mut next = err.source();
    while let Some(err) = next {
        lines += &format!(": {err}");
        next = err.source();
    }
    lines
}

pub(crate) fn identity() -> Identity {
    Identity::new(Release::parse("1.2.3").unwrap(), CommitHash::parse(HASH).unwrap())
}

/// The list of files with these contents; those in `integrations/` and `outrider` are programs.
pub(crate) fn list(files: &[(&str, &[u8])]) -> FileList {
    let listed = |(path, content): &(&str, &[u8])| ListedFile {
        path: RelPath::parse(path).unwrap(),
        size: content.len() as u64,
        sha512: digest::sum(&mut &content[..], MOST, &mut Vec::new()).unwrap().1,
        mode: if path.starts_with("integrations/") || *path == "outrider" {
            Mode::Program
        } else {
            Mode::Data
        },
    };
    FileList::new(identity(), "linux", "x86_64", files.iter().map(listed).collect(), MOST).unwrap()
}

/// Writes a version's folder; programs as in [`list`].
#[cfg(unix)]
pub(crate) fn write_files(folder: &Path, files: &[(&str, &[u8])]) {
    use std::os::unix::fs::PermissionsExt;
    for (path, content) in files {
        let at = folder.join(path);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(&at, content).unwrap();
        let program = path.starts_with("integrations/") || *path == "outrider";
        let mode = if program { 0o755 } else { 0o644 };
        std::fs::set_permissions(&at, std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// The program of the version in the fixtures.
pub(crate) const PROGRAM: &[u8] = b"#!/bin/sh\nexit 0\n";

/// The manifest of the fixtures.
pub(crate) fn manifest() -> String {
    let target = format!("versions/{}", identity().directory_name());
    let own = format!("{target}/manifest.yaml");
    let mappings =
        PathMappings::new([("data/outrider-012345", &*target), ("manifest.yaml", &*own)], None).unwrap();
    let home = RelPath::parse("data/outrider-012345").unwrap();
    Manifest { identity: identity(), home, mappings }.to_yaml()
}

/// The list of the fixtures.
pub(crate) fn small_list() -> FileList {
    list(&[("outrider", PROGRAM), ("manifest.yaml", manifest().as_bytes())])
}
