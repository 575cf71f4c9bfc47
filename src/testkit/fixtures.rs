//! Data for tests: the files of `fixtures/` at the top of the repository.

use std::fs;
use std::path::{Path, PathBuf};

fn path(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(of)
}

/// The text of one file, such as `config/valid/full.json`.
///
/// # Panics
/// When it cannot be read.
#[must_use]
pub fn fixture(file: &str) -> String {
    match fs::read_to_string(path(file)) {
        Ok(text) => text,
        Err(err) => panic!("cannot read fixtures/{file}: {err}"),
    }
}

/// The files of one folder whose names end with `.` and `extension`, as (name, text), in the order of their names.
///
/// # Panics
/// When the folder or a file cannot be read, or there is no such file: a test of no data tests nothing.
#[must_use]
pub fn fixtures(folder: &str, extension: &str) -> Vec<(String, String)> {
    let entries = match fs::read_dir(path(folder)) {
        Ok(entries) => entries,
        Err(err) => panic!("cannot read fixtures/{folder}: {err}"),
    };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(&format!(".{extension}"))).collect();
    names.sort();
    assert!(!names.is_empty(), "fixtures/{folder} has no file .{extension}");
    names
        .into_iter()
        .map(|name| (fixture(&format!("{folder}/{name}")), name))
        .map(|(text, name)| (name, text))
        .collect()
}
