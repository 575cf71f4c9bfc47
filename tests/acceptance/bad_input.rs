//! What a newcomer gets wrong: each mistake has its exit status and a message that names it.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::support::{Stack, edit_config, outrider, printed, run};

/// Runs the agent's program; it must end with this status and say this.
fn refused(root: &Path, args: &[&str], status: i32, told: &[&str]) {
    let output = run(outrider(root).args(args));
    let text = printed(&output);
    assert_eq!(output.status.code(), Some(status), "{args:?}: {text}");
    for told in told {
        assert!(text.contains(told), "{args:?}: expected {told:?} in {text}");
    }
}

#[test]
fn flags_that_do_not_parse_are_shown_with_their_position() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    refused(root, &["export"], 2, &["--integrations-json"]);
    refused(
        root,
        &["export", "--integrations-json", "[{\"name\":mock}]"],
        2,
        &["--integrations-json", "line 1 column", "^"],
    );
    refused(root, &["export", "--integrations-json", "@nowhere.json"], 2, &["nowhere.json"]);
    refused(
        root,
        &["export", "--integrations-json", r#"[{"name":"../x"}]"#],
        2,
        &["no valid integration name"],
    );
    refused(root, &["export", "--integrations-json", r#"[{"name":"mock","confg":{}}]"#], 2, &["confg"]);
    refused(root, &["export", "--integrations-json", "[]"], 2, &["names no integration"]);
    refused(root, &["validate-config", "--integrations-json", "[]"], 2, &["expected exactly one"]);
    refused(root, &["nonsense"], 2, &["nonsense"]);
    let limits = r#"{"limits":{"line_bytes":1}}"#;
    let mock = r#"[{"name":"mock"}]"#;
    refused(
        root,
        &["export", "--agent-config-json", limits, "--integrations-json", mock],
        2,
        &["line_bytes", "found 1"],
    );
}

#[test]
fn an_integration_or_a_repository_that_is_none_is_named() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let missing = r#"[{"name":"gitt"}]"#;
    refused(
        root,
        &["export", "--integrations-json", missing],
        1,
        &["\"gitt\" is not installed", "installed are:"],
    );
    let nowhere = r#"[{"name":"git","config":{"repositories":["/nowhere/at/all"]}}]"#;
    refused(root, &["export", "--integrations-json", nowhere], 1, &["/nowhere/at/all"]);
    refused(
        root,
        &["validate-config", "--integrations-json", nowhere],
        1,
        &["/repositories/0", "/nowhere/at/all"],
    );
}

#[cfg(unix)]
#[test]
fn an_integration_that_cannot_be_run_is_explained() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let program = root.path().join("integration-plain");
    std::fs::write(&program, "#!/bin/sh\nexit 0\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o644)).unwrap();
    let dir = root.path().to_str().unwrap();
    let plain = r#"[{"name":"plain"}]"#;
    refused(
        root.path(),
        &["export", "--integrations-dir", dir, "--integrations-json", plain],
        1,
        &["integration-plain", "execut"],
    );
}

#[test]
fn enrolling_tells_what_is_wrong() {
    let stack = Stack::start(&json!({}));
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let url = stack.client.url();
    let enroll = |root: &Path, code: &str, backend: &str, status: i32, told: &[&str]| {
        refused(root, &["enroll", code, "--backend", backend, "--no-service"], status, told);
    };
    enroll(&root, "not-a-code", url, 1, &["code"]);
    enroll(&root, "not-a-code", "http://127.0.0.1:1", 1, &["http://127.0.0.1:1"]);
    enroll(&root, "not-a-code", "nonsense", 2, &["nonsense"]);
    enroll(&root, "not-a-code", "http://outrider.example.com", 2, &["https"]);
    assert!(!root.join("config.json").exists());
    enroll(&stack.root(), "not-a-code", url, 2, &["enrolled already"]);
}

#[test]
fn a_broken_configuration_is_explained() {
    let stack = Stack::start(&json!({}));
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    refused(root, &["service-run"], 2, &["not enrolled", "outrider enroll"]);

    let config = root.join("config.json");
    let restore = || {
        run(Command::new("cp").arg("-p").arg(stack.root().join("config.json")).arg(&config));
    };
    restore();
    edit_config(root, |config| config["limits"] = json!({ "line_bytes": "many", "lime_bytes": 7 }));
    refused(root, &["service-run"], 2, &["line_bytes", "lime_bytes"]);
    restore();
    edit_config(root, |config| config["version"] = json!(99));
    refused(root, &["service-run"], 2, &["version", "99"]);
    restore();
    let whole = std::fs::read(&config).unwrap();
    std::fs::write(&config, &whole[..whole.len() / 2]).unwrap();
    refused(root, &["service-run"], 2, &["config.json"]);
    restore();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o644)).unwrap();
        refused(root, &["service-run"], 2, &["config.json", "600"]);
    }
}

#[test]
fn a_token_that_the_backend_refuses_is_said_in_the_log_and_nothing_is_lost() {
    let mut stack = Stack::start(&json!({ "reconnect_max_s": 1 }));
    stack.until_connected();
    stack.service.signal("TERM");
    stack.service.ended();
    let mut token = json!(null);
    edit_config(&stack.root(), |config| token = std::mem::replace(&mut config["token"], json!("wrong")));
    stack.start_service();
    crate::support::until("the refusal in the log", || {
        stack.service.printed().contains("token").then_some(())
    });
    stack.service.signal("TERM");
    assert_eq!(stack.service.ended(), Some(0));
    edit_config(&stack.root(), |config| config["token"] = token);
    stack.start_service();
    let id = stack.order(crate::support::export(&json!([{ "name": "mock", "config": { "repos": 1 } }])));
    stack.until_state(&id, outrider_backend::admin::CommandState::Done);
}
