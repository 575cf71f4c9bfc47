//! What several tests need: the fixtures, and errors as texts.

use std::error::Error;
use std::path::{Path, PathBuf};

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

/// The hash of the packages in the tests.
pub(crate) const HASH: &str = "0123456789abcdef0123456789abcdef01234567";
