//! `fixtures/git`: what real gits wrote, whole and damaged, read by the parser alone.

use std::path::PathBuf;

use super::*;
use crate::parse::{Commits, Limits};

fn folder(kind: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "fixtures", "git", kind].iter().collect()
}

/// Reads all commits of a file of what `git diff-tree` wrote.
fn read(bytes: &[u8], limits: Limits) -> Result<Vec<Value>, String> {
    let mut commits = Commits::new(bytes, "r", limits);
    let mut found = Vec::new();
    while let Some(commit) = commits.next().map_err(|err| err.to_string())? {
        found.push(serde_json::to_value(commit).unwrap());
    }
    Ok(found)
}

/// Each file of a folder with the file beside it that says what is expected.
fn cases(kind: &str, expected: &str) -> Vec<(String, Vec<u8>, String)> {
    let mut cases = Vec::new();
    for file in std::fs::read_dir(folder(kind)).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|it| it == "history") {
            let says = std::fs::read_to_string(path.with_extension(expected)).unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            cases.push((name, std::fs::read(&path).unwrap(), says));
        }
    }
    assert!(!cases.is_empty());
    cases
}

#[test]
fn what_git_wrote_becomes_the_objects_beside_it() {
    for (name, bytes, expected) in cases("valid", "json") {
        let expected: Value = serde_json::from_str(&expected).unwrap();
        assert_eq!(Value::Array(read(&bytes, Limits::default()).unwrap()), expected, "{name}");
    }
}

#[test]
fn what_is_damaged_is_refused_with_the_words_beside_it() {
    for (name, bytes, expected) in cases("invalid", "txt") {
        assert_eq!(read(&bytes, Limits::default()).unwrap_err(), expected.trim_end(), "{name}");
    }
}

#[test]
fn an_end_at_any_byte_is_an_error_or_a_whole_commit() {
    for (name, bytes, _) in cases("valid", "json") {
        let whole = read(&bytes, Limits::default()).unwrap().len();
        for end in 0..bytes.len() {
            if let Ok(commits) = read(&bytes[..end], Limits::default()) {
                assert!(commits.len() <= whole, "{name} cut at {end}");
            }
        }
    }
}

#[test]
fn limits_cut_the_lists_and_not_the_sums() {
    let limits = Limits { message_bytes: 5, files: 1, path_bytes: 100 };
    for (name, bytes, _) in cases("valid", "json") {
        let (cut, whole) = (read(&bytes, limits).unwrap(), read(&bytes, Limits::default()).unwrap());
        for (cut, whole) in cut.iter().zip(&whole) {
            for member in ["additions", "deletions", "files_changed", "parents", "sha"] {
                assert_eq!(cut[member], whole[member], "{name} {member}");
            }
            assert!(cut["files"].as_array().unwrap().len() <= 1);
            assert!(cut["message"].as_str().unwrap().len() <= 5 * 3);
            let many = whole["files"].as_array().unwrap().len() > 1;
            assert_eq!(cut["files_truncated"] == json!(true), many, "{name}");
        }
    }
}
