//! Integrations that use their sessions in odd ways, played by `fixtures/integration/invalid/scripted.py`: what is
//! reported is what happened, and it is nobody else's trouble.

#![cfg(unix)]

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{outrider, printed, repository, run, spooled};

/// Exports by hand; returns the exit status, what was printed, and the report.
fn export(root: &Path, integrations: &Value) -> (Option<i32>, String, Value) {
    export_within(root, &json!({}), integrations)
}

/// The same with further limits.
fn export_within(root: &Path, limits: &Value, integrations: &Value) -> (Option<i32>, String, Value) {
    let programs = root.join("integrations");
    std::fs::create_dir_all(&programs).unwrap();
    let script = repository().join("fixtures/integration/invalid/scripted.py");
    let program = programs.join("integration-scripted");
    let text = format!("#!/bin/sh\nexec python3 {}\n", script.display());
    std::fs::write(&program, text).unwrap();
    run(std::process::Command::new("chmod").arg("755").arg(&program));
    let mut all =
        json!({ "integration_idle_s": 2, "cancel_grace_s": 1, "term_grace_s": 1, "integration_attempts": 1 });
    all.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
    let agent = json!({ "limits": all, "integrations_dir": programs });
    let report = root.join("report.json");
    let output = run(outrider(root)
        .arg("export")
        .arg("--output-file")
        .arg(&report)
        .arg(format!("--agent-config-json={agent}"))
        .arg(format!("--integrations-json={integrations}")));
    let report = std::fs::read(&report).map(|text| serde_json::from_slice(&text).unwrap_or_default());
    (output.status.code(), printed(&output), report.unwrap_or_default())
}

fn scripted(id: &str, steps: &Value) -> Value {
    json!({ "name": "scripted", "id": id, "config": { "steps": steps } })
}

fn start(object: &str) -> Value {
    let object = json!({ "id": object, "name": "an object" });
    json!({ "call": "session.start", "params": { "kind": "model", "name": "mock.Thing", "object": object } })
}

fn send() -> Value {
    let objects: Vec<_> = (0..50).map(|n| json!({ "id": n.to_string() })).collect();
    json!({ "call": "session.send", "params": { "session": "$SESSION", "objects": objects } })
}

/// Objects that the report counts for the first integration.
fn counted(report: &Value) -> u64 {
    let models = report["integrations"][0]["models"].as_array().unwrap().iter();
    models.map(|it| it["objects"].as_u64().unwrap()).sum()
}

#[test]
fn a_session_that_was_being_finished_at_the_end_is_counted_as_it_was_kept() {
    let done = json!({ "call": "session.done", "params": { "session": "$SESSION", "last_processed": "there" }, "wait": false });
    for end in [json!({ "sleep": 0 }), json!({ "exit": 1 })] {
        let root = tempfile::tempdir().unwrap();
        let steps = json!([start("1"), send(), done, end]);
        let (_, text, report) = export(root.path(), &json!([scripted("racy", &steps)]));
        let kept = spooled(root.path(), "mock.Thing").len() as u64;
        assert_eq!(counted(&report), kept, "{text}");
        let (_, text, _) = export(root.path(), &json!([scripted("racy", &json!([start("1")]))]));
        assert_eq!(text.contains("\"last_processed\": \"there\""), kept > 0, "{text}");
    }
}

#[test]
fn a_value_that_is_too_long_is_refused_and_hurts_nobody_else() {
    let root = tempfile::tempdir().unwrap();
    let long = json!({ "repeat": "x", "times": 17 << 20 });
    let done = |value: &str| json!({ "call": "session.done", "params": { "session": "$SESSION", "last_processed": value } });
    let steps = json!([start("1"), send(), long, done("$TEXT"), done("short")]);
    let mock = json!({ "name": "mock", "config": { "repos": 1, "pull_requests": 3 } });
    let (code, text, report) = export(root.path(), &json!([scripted("long", &steps), mock]));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("at most 16777216 are kept"), "{text}");
    assert_eq!(counted(&report), 50, "the second try is taken: {text}");
}

#[test]
fn a_batch_that_is_too_long_is_refused_and_the_same_objects_are_taken_in_smaller_ones() {
    let root = tempfile::tempdir().unwrap();
    let batch = |from: u64, to: u64| {
        let objects: Vec<_> = (from..to).map(|n| json!({ "id": n.to_string(), "text": "$TEXT" })).collect();
        json!({ "call": "session.send", "params": { "session": "$SESSION", "objects": objects } })
    };
    let text = json!({ "repeat": "x", "times": 10_000 });
    let done = json!({ "call": "session.done", "params": { "session": "$SESSION", "objects": 12 } });
    let steps = json!([text, start("1"), batch(0, 12), batch(0, 4), batch(4, 8), batch(8, 12), done]);
    let mock = json!({ "name": "mock", "config": { "repos": 1, "pull_requests": 3 } });
    let limits = json!({ "line_bytes": 65_536 });
    let (code, text, report) = export_within(root.path(), &limits, &json!([scripted("large", &steps), mock]));
    assert_eq!(code, Some(0), "{text}");
    let refused = text.lines().find(|it| it.contains("-32600")).unwrap_or_else(|| panic!("{text}"));
    for told in [
        "session.send: the line has 120",
        "a line may have 65536",
        "send fewer objects in one batch",
        "max_line_bytes",
    ] {
        assert!(refused.contains(told), "expected {told:?} in {refused}");
    }
    assert_eq!(report["integrations"][0]["state"], "done", "{report}");
    assert_eq!(counted(&report), 12, "{text}");
    let mut ids: Vec<u64> = spooled(root.path(), "mock.Thing")
        .iter()
        .map(|it| it["id"].as_str().unwrap().parse().unwrap())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..12).collect::<Vec<_>>());
}

#[test]
fn a_session_that_was_refused_is_not_open() {
    let root = tempfile::tempdir().unwrap();
    let long = json!({ "repeat": "x", "times": 70_000 });
    let steps = json!([
        long,
        start("$TEXT"),
        start("short"),
        send(),
        json!({ "call": "session.done", "params": { "session": "$SESSION" } })
    ]);
    let (code, text, report) = export(root.path(), &json!([scripted("path", &steps)]));
    assert_eq!((code, counted(&report)), (Some(0), 50), "{text}");
}

#[test]
fn who_waits_for_a_rate_limit_may_log_meanwhile() {
    let root = tempfile::tempdir().unwrap();
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(60);
    let log = json!({ "notify": "log", "params": { "level": "info", "message": "waiting" } });
    let pause = json!({ "call": "pause", "params": { "until": until.to_string(), "reason": "limit" } });
    let steps = json!([pause, log, { "sleep": 4 }, { "call": "resume" }]);
    let (code, text, _) = export(root.path(), &json!([scripted("patient", &steps)]));
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn secrets_of_a_configuration_stand_nowhere() {
    let root = tempfile::tempdir().unwrap();
    let (token, pat) = ("s3cr3t-t0ken-of-the-source", "p4t-that-the-schema-marks");
    let log = json!({ "notify": "log", "params": { "level": "info", "message": format!("{token} and {pat}"), "fields": { "url": format!("https://u:{token}@h/") } } });
    let project = json!({ "id": "1", "name": "one", "state": "failed", "error": format!("clone https://u:{token}@h failed with {pat}") });
    let config = json!({ "token": token, "pat": pat, "steps": [log], "projects": [project], "new_config": { "token": token } });
    let (code, text, report) = export(root.path(), &json!([{ "name": "scripted", "config": config }]));
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(report["integrations"][0]["config_changed"], true);
    let logs = ["export", "integrations/scripted"]
        .map(|it| std::fs::read_to_string(root.path().join("logs").join(it)).unwrap());
    for (place, text) in
        [("printed", &text), ("report", &report.to_string()), ("log", &logs[0]), ("own log", &logs[1])]
    {
        assert!(!text.contains(token) && !text.contains(pat), "{place}: {text}");
        assert!(text.contains("***") || place == "report", "{place}: {text}");
    }
}
