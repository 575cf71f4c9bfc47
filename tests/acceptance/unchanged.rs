//! Unchanged objects are left out: those that the backend has acknowledged, and no others.

use std::path::Path;

use outrider_backend::admin::CommandState;
use outrider_protocol::report::{ActionReport, ExportReport};
use outrider_spool::{Settings, Spool};
use serde_json::{Value, json};

use crate::support::{Stack, export, outrider, printed, run, spooled, until};

const MODELS: [&str; 3] = ["sourcecode.Repo", "sourcecode.User", "sourcecode.PullRequest"];
/// 3 users, 2 repositories, 10 pull requests in each.
const OBJECTS: u64 = 25;

fn integrations(seed: u64) -> Value {
    json!([{ "name": "mock", "config": { "skip_unchanged": true, "seed": seed } }])
}

/// Sent and left out.
fn counts(report: &ExportReport) -> (u64, u64) {
    let models = report.integrations.iter().flat_map(|it| &it.models);
    models.fold((0, 0), |(sent, unchanged), it| (sent + it.objects, unchanged + it.unchanged))
}

#[test]
fn what_the_backend_has_is_left_out_until_it_changes() {
    let stack = Stack::start(&json!({}));
    let order = |seed| {
        let id = stack.order(export(&integrations(seed)));
        let done = stack.until_state(&id, CommandState::Done);
        stack.until_uploaded();
        let at_backend: usize = MODELS.iter().map(|model| stack.objects(&id, model).len()).sum();
        let Some(ActionReport::Export(report)) = done.report else { panic!("no report of an export") };
        assert_eq!(at_backend as u64, counts(&report).0);
        counts(&report)
    };
    assert_eq!(order(1), (OBJECTS, 0));
    assert_eq!(order(1), (0, OBJECTS));
    assert_eq!(order(2), (OBJECTS, 0), "another seed changes every hash");
    assert_eq!(order(1), (OBJECTS, 0), "what it was before is a change, too");
    assert_eq!(order(1), (0, OBJECTS));
}

fn by_hand(root: &Path, seed: u64, flags: &[&str]) -> (u64, u64) {
    let result = root.with_extension("json");
    let exported = run(outrider(root)
        .args(["export", "--integrations-json", &integrations(seed).to_string(), "--output-file"])
        .arg(&result)
        .args(flags));
    assert!(exported.status.success(), "{}", printed(&exported));
    let report = serde_json::from_slice(&std::fs::read(&result).unwrap()).unwrap();
    let ActionReport::Export(report) = report else { panic!("no report of an export") };
    counts(&report)
}

#[test]
fn what_waits_in_the_spool_is_sent_again_and_so_is_all_on_demand_and_after_a_reset() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    assert_eq!(by_hand(&root, 1, &[]), (OBJECTS, 0));
    assert_eq!(by_hand(&root, 1, &[]), (OBJECTS, 0), "the backend does not have it yet");
    assert_eq!(spooled(&root, "sourcecode.PullRequest").len(), 40);
    acknowledge(&root);
    assert_eq!(by_hand(&root, 1, &[]), (0, OBJECTS));
    assert_eq!(by_hand(&root, 1, &["--reprocess-historical"]), (OBJECTS, 0));
    acknowledge(&root);
    assert_eq!(by_hand(&root, 1, &[]), (0, OBJECTS));
    std::fs::write(root.join("state/unchanged/reset"), "").unwrap();
    assert_eq!(by_hand(&root, 1, &[]), (OBJECTS, 0), "the backend may have lost it");
}

/// Leaves the spool as the uploads do.
fn acknowledge(root: &Path) {
    let spool = Spool::open(root.join("spool"), Settings::default()).unwrap();
    let files = spool.pending().unwrap().files;
    assert!(!files.is_empty());
    files.iter().for_each(|file| spool.acknowledge(file).unwrap());
}

#[test]
fn what_was_removed_from_the_spool_by_hand_is_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    assert_eq!(by_hand(&root, 1, &[]), (OBJECTS, 0));
    std::fs::remove_dir_all(root.join("spool")).unwrap();
    assert_eq!(by_hand(&root, 1, &[]), (OBJECTS, 0), "no backend ever had it");
    acknowledge(&root);
    assert_eq!(by_hand(&root, 1, &[]), (0, OBJECTS));
}

#[test]
fn what_was_sent_and_expired_long_ago_is_left_out() {
    let mut stack = Stack::start(&json!({ "sent_keep_hours": 0 }));
    let mut order = || {
        let id = stack.order(export(&integrations(1)));
        let done = stack.until_state(&id, CommandState::Done);
        stack.until_uploaded();
        let Some(ActionReport::Export(report)) = done.report else { panic!("no report of an export") };
        // It looks for what has expired at its start, and rarely later.
        stack.kill_service();
        stack.start_service();
        let sent = stack.root().join("spool/sent").join(id.as_str());
        until("the files to expire", || (!sent.exists()).then_some(()));
        counts(&report)
    };
    assert_eq!(order(), (OBJECTS, 0));
    assert_eq!(order(), (0, OBJECTS));
}

#[test]
fn a_store_that_cannot_be_read_costs_time_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    by_hand(&root, 1, &[]);
    acknowledge(&root);
    by_hand(&root, 1, &[]);
    let state = std::fs::read_dir(root.join("state/unchanged")).unwrap().flatten();
    let runs: Vec<_> =
        state.map(|it| it.path()).filter(|it| it.extension().is_some_and(|it| it == "run")).collect();
    assert_eq!(runs.len(), 1);
    std::fs::write(&runs[0], "none of ours").unwrap();
    assert_eq!(by_hand(&root, 1, &[]), (OBJECTS, 0));
    let log = std::fs::read_to_string(root.join("logs/export")).unwrap();
    assert!(log.contains("everything is sent") && log.contains("state/unchanged/damaged"), "{log}");
}
