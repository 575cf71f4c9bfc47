//! Integrations that misbehave: each fault has an outcome, and it touches nobody else.

use std::path::Path;

use outrider_backend::admin::CommandState;
use outrider_protocol::report::{ActionReport, ExportMode, IntegrationOutcome};
use serde_json::{Value, json};

use crate::support::{Stack, alive, export, outrider, printed, repository, run, spooled};

/// Limits that make waiting short.
fn impatient() -> Value {
    json!({ "integration_idle_s": 2, "start_timeout_s": 2, "cancel_grace_s": 1, "term_grace_s": 1, "integration_attempts": 1 })
}

/// Exports by hand with one fault; returns the exit status and what was printed.
fn by_hand(root: &Path, name: &str, config: &Value) -> (Option<i32>, String) {
    let agent = json!({ "limits": impatient(), "integrations_dir": root.join("integrations") });
    let integrations = json!([{ "name": name, "config": config }]);
    let output = run(outrider(root)
        .arg("export")
        .arg(format!("--agent-config-json={agent}"))
        .arg(format!("--integrations-json={integrations}")));
    (output.status.code(), printed(&output))
}

/// What each fault that shows during `export` comes to: the exit status, and what the person is told.
const FAULTS: &[(&str, i32, &str)] = &[
    ("good", 0, "done: 10 objects"),
    ("chatter", 0, "done: 10 objects"),
    ("stderr-flood", 0, "done: 10 objects"),
    ("duplicate-ids", 0, "done: 10 objects"),
    ("unknown-ids", 0, "done: 10 objects"),
    ("unknown-method", 0, "done: 10 objects"),
    ("batch-array", 0, "done: 10 objects"),
    ("wrong-session", 0, "done: 10 objects"),
    ("torn-line", 1, "closed the link in the middle of a line"),
    ("long-line", 0, "done: 10 objects"),
    ("endless-line", 1, "sent a line of more than 33554432 bytes"),
    ("ignore-term", 1, "sent nothing for 2 s while export was to be answered"),
    ("silent", 1, "sent nothing for 2 s while export was to be answered"),
    ("dies-in-batch", 1, "ended before it answered export: it exited with status 1"),
    ("killed", 1, "it was killed with SIGKILL"),
    ("panic-like", 1, "index out of bounds"),
    ("grandchild", 1, "ended before it answered export"),
    ("close-stdout", 1, "closed its stdout before it answered export"),
];

#[test]
fn every_fault_during_an_export_has_its_outcome() {
    let dir = tempfile::tempdir().unwrap();
    for (fault, status, told) in FAULTS {
        let root = dir.path().join(fault);
        let (code, text) = by_hand(&root, "faulty", &json!({ "fault": fault }));
        assert_eq!(code, Some(*status), "{fault}: {text}");
        assert!(text.contains(told), "{fault}: expected {told:?} in {text}");
        let things = spooled(&root, "mock.Thing").len();
        assert_eq!(things, if *status == 0 { 10 } else { 0 }, "{fault}: what was not finished is dropped");
        let log = std::fs::read_to_string(root.join("logs/integrations/faulty")).unwrap();
        assert!(*fault != "panic-like" || log.contains("panicked at"), "{log}");
    }
}

/// Faults that show before the configuration is known are chosen by the program's name.
const EARLY: &[(&str, &str)] = &[
    ("no-hello", "sent nothing for 2 s while initialize was to be answered"),
    ("wrong-version", "protocol version 99"),
    ("exit-before-hello", "ended before it answered initialize"),
];

#[cfg(unix)]
#[test]
fn every_fault_before_the_greeting_has_its_outcome() {
    let dir = tempfile::tempdir().unwrap();
    for (fault, told) in EARLY {
        let root = dir.path().join(fault);
        let programs = root.join("integrations");
        std::fs::create_dir_all(&programs).unwrap();
        let program = programs.join(format!("integration-faulty-{fault}"));
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_integration-faulty"), program).unwrap();
        let (code, text) = by_hand(&root, &format!("faulty-{fault}"), &json!({}));
        assert_eq!(code, Some(1), "{fault}: {text}");
        assert!(text.contains(told), "{fault}: expected {told:?} in {text}");
    }
}

#[test]
fn the_list_of_faults_is_walked_whole() {
    let source = std::fs::read_to_string(repository().join("cmd/integration-faulty/main.rs")).unwrap();
    let known: Vec<_> = FAULTS.iter().map(|it| it.0).chain(EARLY.iter().map(|it| it.0)).collect();
    let documented: Vec<_> = source
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `")?.split_once('`'))
        .map(|(fault, _)| fault)
        .collect();
    assert!(documented.len() >= known.len(), "the table of faults in integration-faulty: {documented:?}");
    for fault in documented {
        assert!(known.contains(&fault) || fault == "grandchild-escapes", "no test walks the fault {fault}");
    }
}

#[test]
fn one_that_fails_leaves_the_others_and_the_service_alone() {
    let stack = Stack::start(&impatient());
    let id = stack.order(export(&json!([
        { "name": "faulty", "id": "dies", "config": { "fault": "dies-in-batch" } },
        { "name": "mock", "config": { "repos": 2, "pull_requests": 3 } },
        { "name": "faulty", "id": "hangs", "config": { "fault": "ignore-term" } },
    ])));
    let command = stack.until_state(&id, CommandState::Failed);
    let Some(ActionReport::Export(report)) = command.report else { panic!("no report: {command:?}") };
    let states: Vec<_> = report.integrations.iter().map(|it| (it.integration.as_str(), it.state)).collect();
    let (failed, done) = (IntegrationOutcome::Failed, IntegrationOutcome::Done);
    assert_eq!(states, [("dies", failed), ("mock", done), ("hangs", failed)]);
    let error = report.integrations[0].error.as_ref().unwrap();
    assert!(error.last_lines.iter().any(|line| line.contains("fatal: the source went away")), "{error:?}");
    stack.until_uploaded();
    assert_eq!(stack.objects(&id, "sourcecode.PullRequest").len(), 6);
    assert!(stack.objects(&id, "mock.Thing").is_empty());
    assert!(alive(stack.service.pid()));
    // What the one that succeeded had done is known, and nobody else's failure has touched it.
    let again =
        stack.order(export(&json!([{ "name": "mock", "config": { "repos": 2, "pull_requests": 3 } }])));
    let command = stack.until_state(&again, CommandState::Done);
    let Some(ActionReport::Export(report)) = command.report else { panic!("no report: {command:?}") };
    let mock = &report.integrations[0];
    let objects: u64 = mock.models.iter().map(|it| it.objects).sum();
    assert_eq!((mock.mode, objects), (ExportMode::Incremental, 0), "{mock:?}");
}
