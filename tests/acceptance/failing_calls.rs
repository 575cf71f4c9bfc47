//! A disk whose syncs and renames fail, one at a time, at every place of an export: the export ends with an error that
//! names what failed, or gets over it; the next one has everything, and nothing twice.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::source;
use crate::support::{outrider, printed, run};

/// Calls of one kind that are made to fail, the first of them one by one.
const PLACES: u64 = if cfg!(debug_assertions) { 12 } else { 60 };

/// The library that lets calls fail.
fn library(dir: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/acceptance/failing_calls.c");
    let library = dir.join("failing_calls.so");
    let made = run(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl"));
    assert!(made.status.success(), "{}", printed(&made));
    library
}

/// An export by hand in which a call fails; answers whether it ended well. When the call comes, the library makes a file.
fn export(root: &Path, library: &Path, failing: Option<(&str, &Path)>) -> (bool, String) {
    let integrations = format!("--integrations-json={}", source::integrations("mock"));
    // One attempt, as it is the next run that is to have everything; small files, so that there are many renames.
    let agent = r#"--agent-config-json={"limits":{"integration_attempts":1,"spool_file_bytes":65536,"session_buffer_bytes":4096}}"#;
    let mut command = outrider(root);
    command.args(["export", &integrations, agent]);
    if let Some((failing, failed)) = failing {
        command.env("LD_PRELOAD", library).env("FAILING_CALL", failing).env("FAILED_CALL", failed);
    }
    let output = run(&mut command);
    (output.status.success(), printed(&output))
}

#[test]
fn a_sync_or_a_rename_that_fails_loses_nothing_and_repeats_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (library, truth) = (library(dir.path()), source::truth());
    let came = dir.path().join("came");
    for call in ["fsync", "fdatasync", "rename"] {
        let (mut failed, mut survived) = (0, 0);
        for n in 1..=PLACES {
            let case = format!("{call}:{n}");
            let root = dir.path().join(&case);
            let (done, told) = export(&root, &library, Some((&case, &came)));
            let called = std::fs::remove_file(&came).is_ok();
            if done {
                survived += u64::from(called);
            } else {
                assert!(called, "{case}: an export without a failing call: {told}");
                failed += 1;
                assert!(told.contains("Input/output error"), "{case}: the error says what failed: {told}");
            }
            let (done, told) = export(&root, &library, None);
            assert!(done, "{case}: the next export: {told}");
            let repeated = source::compare_objects(&case, &source::stored_objects(&root), &truth);
            assert_eq!(repeated, 0, "{case}: nothing is there twice");
            std::fs::remove_dir_all(root).unwrap();
        }
        println!(
            "{call}: {} calls failed: {failed} exports with them, {survived} got over it",
            failed + survived
        );
        assert!(failed + survived > 1, "calls of {call} are made, and can be made to fail");
        assert!(failed > 0 || call == "rename", "some call of {call} is needed");
    }
}
