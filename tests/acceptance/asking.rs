//! `validate-config` and `export-onboard-data` from a shell: every request is answered, in a file or on stdout.

use std::path::Path;
use std::time::{Duration, Instant};

use outrider_backend::admin::CommandState;
use outrider_protocol::action::{AgentConfig, IntegrationConfig, OnboardOrder, Order, ValidateOrder};
use outrider_protocol::report::{ActionReport, ValidateReport};
use serde_json::{Value, json};

use crate::bad_days::scripted;
use crate::support::{
    Stack, alive, descendants, integration, make_repository, outrider, printed, run, until,
};

/// What an action left in its output file, its exit status, and what it printed.
fn ask(root: &Path, args: &[&str], integrations: &Value) -> (Value, Option<i32>, String) {
    let file = root.with_extension("json");
    let mut command = outrider(root);
    command.args(args).args(["--integrations-json", &integrations.to_string(), "--output-file"]).arg(&file);
    let output = run(&mut command);
    let answer = serde_json::from_slice(&std::fs::read(&file).unwrap());
    let printed = printed(&output);
    (answer.unwrap_or_else(|err| panic!("{err}: {printed}")), output.status.code(), printed)
}

fn validation(answer: &Value) -> ValidateReport {
    match serde_json::from_value(answer.clone()).unwrap() {
        ActionReport::ValidateConfig(report) => report,
        other => panic!("expected a validation, found {other:?}"),
    }
}

#[test]
fn a_validation_tells_every_error_with_its_path_and_what_the_source_says() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let args = ["validate-config"];
    let (answer, status, text) = ask(&root, &args, &json!([{ "name": "mock", "config": { "repos": 2 } }]));
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("account: mock") && text.contains("scopes: read"), "{text}");
    assert_eq!(validation(&answer).source.unwrap().account.as_deref(), Some("mock"));

    let wrong = json!([{ "name": "mock", "config": { "repos": -1, "batch": 0, "fault": { "kind": "fail", "at": 0 } } }]);
    let (answer, status, text) = ask(&root, &args, &wrong);
    assert_eq!(status, Some(1), "{text}");
    let report = validation(&answer);
    let paths: Vec<_> = report.errors.iter().map(|it| it.path.as_str()).collect();
    assert_eq!(paths, ["/repos", "/batch", "/fault/at"]);
    assert!(paths.iter().all(|path| text.contains(&format!("{path}: "))), "{text}");

    for (config, path) in
        [(json!({ "repo": 1 }), "/repo"), (json!({ "fault": { "kind": "x" } }), "/fault/kind")]
    {
        let (answer, status, text) = ask(&root, &args, &json!([{ "name": "mock", "config": config }]));
        assert_eq!((status, validation(&answer).errors[0].path.as_str()), (Some(1), path), "{text}");
    }
}

#[test]
fn lists_are_made_and_one_that_is_not_offered_is_an_answer_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let repository = dir.path().join("repository");
    make_repository(&repository);
    let mock = json!([{ "name": "mock" }]);
    for (kind, count) in [("users", 3), ("repos", 2), ("projects", 1)] {
        let (answer, status, text) = ask(&root, &["export-onboard-data", "--object-type", kind], &mock);
        assert_eq!((status, answer.as_array().map(Vec::len)), (Some(0), Some(count)), "{text}");
        assert!(answer[0]["id"].is_string() && answer[0]["name"].is_string(), "{answer}");
    }
    let git = json!([{ "name": "git", "config": { "repositories": [repository] } }]);
    for integrations in [mock, git] {
        let args = ["export-onboard-data", "--object-type", "calendars"];
        let (answer, status, text) = ask(&root, &args, &integrations);
        assert_eq!(status, Some(6), "{text}");
        assert_eq!(
            (&answer["action"], &answer["kind"]),
            (&json!("export-onboard-data"), &json!("calendars"))
        );
        assert!(text.contains("calendars are not supported"), "{text}");
    }
}

#[test]
fn what_fails_is_answered_too() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let missing = json!([{ "name": "nowhere" }]);
    let broken = json!([{ "name": "mock", "config": { "leak": { "texts": ["nothing"] } } }]);
    for (args, integrations) in [
        (["validate-config"].as_slice(), &missing),
        (&["export-onboard-data", "--object-type", "users"], &missing),
        (&["export-onboard-data", "--object-type", "users"], &broken),
    ] {
        let (answer, status, text) = ask(&root, args, integrations);
        assert_eq!(status, Some(1), "{text}");
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(!message.is_empty() && text.contains(message), "{answer}: {text}");
    }
}

#[test]
fn secrets_that_cannot_be_read_fail_their_integration_alone() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let mut sealed = IntegrationConfig::clone(&integration(&json!({ "name": "mock", "id": "sealed" })));
    sealed.secrets = Some("outrider-sealed:1:0a1b2c3d:AAAA".into());
    let integrations = json!([sealed, { "name": "mock", "config": { "repos": 1 } }]);
    let (answer, status, text) = ask(&root, &["export"], &integrations);
    assert_eq!(status, Some(1), "{text}");
    let (first, second) = (&answer["integrations"][0], &answer["integrations"][1]);
    assert_eq!((&first["state"], &second["state"]), (&json!("failed"), &json!("done")), "{answer}");
    let error = &first["error"];
    assert!(error["message"].as_str().unwrap().contains("a root that was lost"), "{error}");
    assert!(error["hint"].as_str().unwrap().contains("outrider-backend integration set"), "{error}");
}

#[test]
fn a_list_of_a_kind_that_only_its_integration_knows_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let boards =
        json!([{ "id": "b1", "name": "The board", "columns": 3 }, { "id": "b2", "name": "Another" }]);
    let (integrations, programs) = scripted(dir.path(), &json!({ "lists": { "kanban-boards": boards } }));
    let agent = format!("--agent-config-json={}", json!({ "integrations_dir": programs }));
    for (kind, expected) in [("kanban-boards", Some(0)), ("repos", Some(6))] {
        let args = ["export-onboard-data", "--object-type", kind, &agent];
        let (answer, status, text) = ask(&dir.path().join("root"), &args, &integrations);
        assert_eq!(status, expected, "{kind}: {text}");
        assert_eq!(answer == boards, kind == "kanban-boards", "{answer}");
    }
}

#[cfg(target_os = "linux")]
/// The process of an action below the service, once it has started its integration; with that.
fn at_work(stack: &Stack, action: &str) -> Vec<u32> {
    let is_it = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|it| it == action.as_bytes())
    };
    until("the integration of an action", || {
        let action = descendants(stack.service.pid()).into_iter().find(is_it)?;
        let below = descendants(action);
        (!below.is_empty()).then(|| [vec![action], below].concat())
    })
}

#[cfg(target_os = "linux")]
#[test]
fn a_cancel_from_the_backend_ends_a_validation_and_a_list_in_bounded_time() {
    let stack = Stack::start(&json!({ "cancel_grace_s": 1, "term_grace_s": 1 }));
    let silent = |within: &str| {
        integration(&json!({ "name": "faulty", "config": { "fault": "silent", "in": within } }))
    };
    let agent = AgentConfig::default;
    let validate = ValidateOrder { agent: agent(), integration: silent("validate_config"), seal: false };
    let onboard = OnboardOrder {
        agent: agent(),
        integration: silent("onboard_export"),
        object_type: "projects".into(),
    };
    for order in [Order::ValidateConfig(validate), Order::ExportOnboardData(onboard)] {
        let action = order.action();
        let id = stack.order(order);
        let processes = at_work(&stack, action);
        let asked = Instant::now();
        stack.cancel(&id);
        let ended = stack.until_state(&id, CommandState::Cancelled);
        let took = asked.elapsed();
        assert!(took < Duration::from_secs(20), "{action} took {took:?}");
        let message = ended.error.expect("why it has no answer").message;
        assert!(message.contains("a test"), "{action}: {message}");
        until("the end of its processes", || (!processes.iter().any(|pid| alive(*pid))).then_some(()));
    }
}
