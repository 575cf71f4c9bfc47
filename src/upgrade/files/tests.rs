//! Lists that are taken, and why others are not.

use serde_json::{Value, json};

use super::*;
use crate::testing::{HASH, MOST, chain, list};

fn sample() -> Value {
    let hash = "ab".repeat(64);
    json!({
        "schema": 1,
        "package": {"version": "1.2.3", "snapshot": true, "hash": HASH},
        "os": "linux",
        "arch": "x86_64",
        "files": [
            {"path": "outrider", "size": 10, "sha512": hash, "mode": "0755"},
            {"path": "integrations/integration-git", "size": 20, "sha512": hash, "mode": "0755"},
        ],
    })
}

/// What is said of the sample when it is changed.
fn refused(change: impl FnOnce(&mut Value)) -> String {
    let mut value = sample();
    change(&mut value);
    chain(&FileList::parse(value.to_string().as_bytes(), MOST).unwrap_err())
}

#[test]
fn a_list_is_read_and_written_without_a_loss() {
    let list = FileList::parse(sample().to_string().as_bytes(), 30).unwrap();
    assert_eq!(list.package().directory_name(), "1.2.3-SNAPSHOT-01234567");
    assert_eq!((list.os(), list.arch(), list.total_bytes()), ("linux", "x86_64", 30));
    let paths: Vec<_> = list.files().iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["integrations/integration-git", "outrider"]);
    assert_eq!(list.find(&RelPath::parse("outrider").unwrap()), Some(1));
    assert_eq!(list.find(&RelPath::parse("outride").unwrap()), None);
    assert_eq!(FileList::parse(&list.to_json().unwrap(), 30).unwrap(), list);
}

#[test]
fn what_is_no_list_is_refused() {
    for (found, expected) in [
        (refused(|it| it["schema"] = json!(2)), "is of schema 2: expected 1"),
        (refused(|it| it["extra"] = json!(2)), "unknown field `extra`"),
        (refused(|it| it["files"][0]["link"] = json!("x")), "unknown field `link`"),
        (refused(|it| it["files"][0]["mode"] = json!("4755")), "unknown variant `4755`"),
        (refused(|it| it["files"][0]["size"] = json!(-1)), "invalid value"),
        (refused(|it| it["files"][0]["sha512"] = json!("AB".repeat(64))), "the hash of outrider is \"ABAB"),
        (refused(|it| it["files"][0]["path"] = json!("../outrider")), "has a segment `..`"),
        (refused(|it| it["files"][0]["path"] = json!("/outrider")), "is absolute"),
        (refused(|it| it["files"] = json!([])), "0 files: expected 1 to 10000"),
        (refused(|it| it["os"] = json!("Linux/x")), "\"Linux/x\" is no os"),
        (refused(|it| it["arch"] = json!("")), "\"\" is no arch"),
        (refused(|it| it["package"]["version"] = json!("1.2.3-SNAPSHOT")), "expected `snapshot: true`"),
        (refused(|it| it["package"]["hash"] = json!("0123")), "no hash of a commit"),
        (refused(|it| it["files"][1]["path"] = json!("outrider")), "outrider is there twice"),
        (refused(|it| it["files"][1]["path"] = json!("Outrider")), "the same file on some systems"),
        (refused(|it| it["files"][1]["path"] = json!("outrider/x")), "both a file and a folder"),
        (refused(|it| it["files"][1]["size"] = json!(MOST)), "more than 1073741824 bytes together"),
        (refused(|it| it["files"][1]["size"] = json!(u64::MAX)), "more than 1073741824 bytes together"),
    ] {
        assert!(found.contains(expected), "{found} has no {expected}");
    }
}

#[test]
fn a_list_has_bounds() {
    let long = vec![b' '; LIST_BYTES + 1];
    assert!(matches!(FileList::parse(&long, MOST), Err(ListError::TooLong { .. })));
    let one = list(&[("a", b"")]).files()[0].clone();
    let file = |n: usize| ListedFile { path: RelPath::parse(&format!("f{n}")).unwrap(), ..one.clone() };
    let of = |n: usize| {
        FileList::new(list(&[("a", b"")]).package().clone(), "linux", "arm64", (0..n).map(file).collect(), 0)
    };
    assert!(of(LIST_FILES).is_ok());
    assert!(matches!(of(LIST_FILES + 1), Err(ListError::Files { found: 10_001 })));
}
