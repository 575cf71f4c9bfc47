//! Exports on a bad day: what fails is tried again or reported, what finds no room waits, what is counted twice must
//! agree, and what was done is kept.

#![cfg(unix)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, SystemTime};

use outrider_backend::admin::{CommandState, CrashFilter};
use outrider_protocol::crash::CrashCause;
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::played::{Played, TOKEN};
use crate::support::{Running, Stack, export, outrider, printed, repository, run, sealed, spooled, until};

pub(crate) const PULL_REQUEST: &str = "sourcecode.PullRequest";

/// Limits that make waiting short.
pub(crate) fn limits(more: &Value) -> Value {
    let mut limits =
        json!({ "cancel_grace_s": 1, "term_grace_s": 1, "retry_first_s": 1, "integration_attempts": 1 });
    for (name, value) in more.as_object().cloned().unwrap_or_default() {
        limits[name] = value;
    }
    json!({ "limits": limits })
}

/// Exports by hand; returns what came of it and the report.
pub(crate) fn by_hand(root: &Path, agent: &Value, integrations: &Value, flags: &[&str]) -> (Output, Value) {
    std::fs::create_dir_all(root).unwrap();
    let place = root.join("report.json");
    let output = run(outrider(root)
        .arg("export")
        .args(flags)
        .arg("--output-file")
        .arg(&place)
        .arg(format!("--agent-config-json={agent}"))
        .arg(format!("--integrations-json={integrations}")));
    let report = std::fs::read(place).unwrap_or_default();
    (output, serde_json::from_slice(&report).unwrap_or_default())
}

/// The integration of `fixtures/integration/invalid/scripted.py`, with its folder.
pub(crate) fn scripted(root: &Path, config: &Value) -> (Value, Value) {
    let programs = root.join("integrations");
    std::fs::create_dir_all(&programs).unwrap();
    let script = repository().join("fixtures/integration/invalid/scripted.py");
    let program = programs.join("integration-scripted");
    std::fs::write(&program, format!("#!/bin/sh\nexec python3 {}\n", script.display())).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    (json!([{ "name": "scripted", "config": config }]), json!(programs))
}

pub(crate) fn start(object: &str) -> Value {
    let object = json!({ "id": object, "name": "an object" });
    json!({ "call": "session.start", "params": { "kind": "model", "name": "mock.Thing", "object": object } })
}

pub(crate) fn send(objects: u64, count: u64) -> Value {
    let objects: Vec<_> = (0..objects).map(|n| json!({ "id": n.to_string() })).collect();
    json!({ "call": "session.send", "params": { "session": "$SESSION", "count": count, "objects": objects } })
}

pub(crate) fn done(params: Value) -> Value {
    let mut params = params;
    params["session"] = "$SESSION".into();
    json!({ "call": "session.done", "params": params })
}

/// Objects of a model in the report's first integration.
pub(crate) fn counted(report: &Value, model: &str) -> u64 {
    let models = report["integrations"][0]["models"].as_array().unwrap().iter();
    models.filter(|it| it["model"] == model).map(|it| it["objects"].as_u64().unwrap()).sum()
}

fn kept_reports(root: &Path) -> Vec<(std::path::PathBuf, Value)> {
    let entries = root.join("state/exports").read_dir().unwrap();
    let paths = entries.map(|it| it.unwrap().path());
    paths.map(|path| (path.clone(), serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())).collect()
}

#[test]
fn a_project_that_fails_fails_alone_and_the_report_says_why_and_what_each_delivered() {
    let root = tempfile::tempdir().unwrap();
    let mock = |fault: Value| json!([{ "name": "mock", "config": { "repos": 3, "pull_requests": 10, "fault": fault } }]);
    let (output, report) =
        by_hand(root.path(), &limits(&json!({})), &mock(json!({ "kind": "project", "at": 10 })), &[]);
    let text = printed(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let it = &report["integrations"][0];
    assert_eq!((&it["state"], &it["attempts"]), (&json!("done"), &json!(1)), "{report:#}");
    let projects = it["projects"].as_array().unwrap();
    let states: Vec<_> = projects.iter().map(|it| (&it["state"], it["objects"].as_u64().unwrap())).collect();
    assert_eq!(states, [(&json!("failed"), 0), (&json!("done"), 10), (&json!("done"), 10)]);
    assert!(
        projects[1]["bytes"].as_u64().unwrap() > 1000 && projects[1]["mode"] == "historical",
        "{report:#}"
    );
    let error = &projects[0]["error"];
    assert!(error["message"].as_str().unwrap().contains("the made-up source failed"), "{error:#}");
    let lines = error["last_lines"].as_array().unwrap();
    assert!(lines.iter().any(|it| it.as_str().unwrap().contains("at object 10")), "{error:#}");
    let name = projects[0]["name"].as_str().unwrap();
    let told = format!("mock: {name}: the made-up source failed");
    assert_eq!(
        text.lines().filter(|line| line.starts_with(&told)).count(),
        1,
        "one line for a project: {text}"
    );

    let kept = kept_reports(root.path());
    assert_eq!((kept.len(), &kept[0].1["state"], &kept[0].1["report"]), (1, &json!("failed"), &report));
    assert_eq!(kept[0].0.metadata().unwrap().permissions().mode() & 0o777, 0o600);

    let (output, report) = by_hand(root.path(), &limits(&json!({})), &mock(Value::Null), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
    let projects = &report["integrations"][0]["projects"];
    let modes = [0, 1].map(|n| (&projects[n]["mode"], projects[n]["objects"].as_u64()));
    assert_eq!(modes, [(&json!("historical"), Some(10)), (&json!("incremental"), Some(0))]);
    assert_eq!(kept_reports(root.path()).len(), 2);
}

#[test]
fn what_may_pass_is_tried_again_and_what_was_done_stays_done() {
    // In an export of everything again the second attempt gets what the first one stored.
    for flags in [&[][..], &["--reprocess-historical"][..]] {
        try_again(flags);
    }
}

fn try_again(flags: &[&str]) {
    let root = tempfile::tempdir().unwrap();
    let steps = json!([
        start("1"),
        send(5, 5),
        done(json!({ "objects": 5, "last_processed": "there" })),
        start("2"),
        send(3, 3),
        { "exit": 7, "unless": "tried" },
        done(json!({ "objects": 3 })),
    ]);
    let (integrations, programs) = scripted(root.path(), &json!({ "steps": steps }));
    let mut agent = limits(&json!({ "integration_attempts": 3 }));
    agent["integrations_dir"] = programs;
    let (output, report) = by_hand(root.path(), &agent, &integrations, flags);
    let text = printed(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let it = &report["integrations"][0];
    assert_eq!((&it["attempts"], &it["crash"], &it["mode"]), (&json!(2), &Value::Null, &json!("historical")));
    assert!(
        text.contains("failed: scripted ended before it answered export: it exited with status 7"),
        "{text}"
    );
    assert!(text.contains("trying again at"), "{text}");
    assert!(text.contains("\"last_processed\": \"there\""), "the second attempt gets the value: {text}");
    assert_eq!(counted(&report, "mock.Thing"), 5 + 5 + 3);
    assert_eq!(
        spooled(root.path(), "mock.Thing").len(),
        13,
        "what the first attempt left unfinished is dropped"
    );
}

#[test]
fn an_integration_is_started_as_often_as_its_limit_says_and_its_death_is_reported() {
    let root = tempfile::tempdir().unwrap();
    let agent = |idle_s: u64| limits(&json!({ "integration_attempts": 2, "integration_idle_s": idle_s }));
    let faulty = |fault: &str| json!([{ "name": "faulty", "config": { "fault": fault } }]);
    for (fault, idle_s, cause) in [
        ("dies-in-batch", 1800, "exit"),
        ("killed", 1800, "signal"),
        ("panic-like", 1800, "panic"),
        ("silent", 1, "killed_for_time"),
    ] {
        let (output, report) = by_hand(&root.path().join(fault), &agent(idle_s), &faulty(fault), &[]);
        let it = &report["integrations"][0];
        assert_eq!(it["attempts"], 2, "{}", printed(&output));
        assert_eq!(
            (&it["crash"]["cause"], &it["crash"]["component"]),
            (&json!(cause), &json!("integration/faulty"))
        );
        assert!(!it["crash"]["last_lines"].as_array().unwrap().is_empty(), "{it:#}");
    }
    // What would fail the same way is not tried again.
    let wrong = json!([{ "name": "mock", "config": { "repos": -1 } }]);
    let (output, report) = by_hand(&root.path().join("wrong"), &agent(1800), &wrong, &[]);
    assert_eq!(report["integrations"][0]["attempts"], 1, "{}", printed(&output));
    assert!(report["integrations"][0]["crash"].is_null());
}

#[test]
fn a_backend_shows_that_an_integration_was_killed_for_its_silence() {
    let limits =
        json!({ "integration_idle_s": 1, "integration_attempts": 1, "cancel_grace_s": 1, "term_grace_s": 1 });
    let stack = Stack::start(&limits);
    let id = stack.order(export(&json!([{ "name": "faulty", "config": { "fault": "silent" } }])));
    stack.until_state(&id, CommandState::Failed);
    let crash =
        until("the crash", || stack.ask(stack.client.crashes(&CrashFilter::default())).unwrap().pop());
    assert_eq!(crash.crash.cause, CrashCause::KilledForTime, "{crash:?}");
    let browser = Browser::log_in(&stack.login_link());
    for page in [format!("/commands/{id}"), format!("/agents/{}", stack.agent)] {
        let html = browser.get(&page);
        assert!(html.contains("killed for time") && html.contains("integration/faulty"), "{html}");
    }
}

/// Fills the spool with a file of an earlier export, up to its smallest limit.
fn fill(root: &Path, age: Duration) -> std::path::PathBuf {
    let blocker = root.join("spool/earlier/a.B/0.json.gz");
    std::fs::create_dir_all(blocker.parent().unwrap()).unwrap();
    let file = std::fs::File::create(&blocker).unwrap();
    file.set_len(67_108_864).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
    blocker
}

pub(crate) fn mock(config: &Value) -> Value {
    json!([{ "name": "mock", "config": config }])
}

#[test]
fn a_full_spool_pauses_an_export_until_there_is_room_or_it_is_cancelled() {
    for cancelled in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let blocker = fill(root.path(), Duration::ZERO);
        let agent = limits(&json!({ "spool_bytes": 67_108_864 }));
        let order = json!({ "agent": agent, "integrations": mock(&json!({})) });
        let mut action = Played::export(root.path(), "c1", &order);
        action.until_paused("spool full, waiting for the backend");
        if cancelled {
            action.cancel();
            let answer = action.answered();
            assert_eq!(answer["error"]["code"], -32800, "{answer:#}");
            assert!(
                answer["error"]["message"].as_str().unwrap().contains("while it waited for room"),
                "{answer:#}"
            );
            assert_eq!(kept_reports(root.path())[0].1["state"], "cancelled");
        } else {
            std::fs::remove_file(blocker).unwrap();
            action.until_progress("the export to go on", |row| row["state"] != "paused");
            assert_eq!(counted(&action.report(), PULL_REQUEST), 20);
        }
    }
}

#[test]
fn by_hand_a_spool_that_is_full_or_too_old_is_an_error_at_once() {
    for (age, limit, told) in [
        (0, json!({ "spool_bytes": 67_108_864 }), "the spool is full: it holds 67108864 bytes"),
        (4000, json!({ "spool_age_s": 3600 }), "limits.spool_age_s allows 3600 s"),
        (
            0,
            json!({ "spool_free_bytes": 1_u64 << 50 }),
            "limits.spool_free_bytes leaves 1125899906842624 free",
        ),
    ] {
        let root = tempfile::tempdir().unwrap();
        fill(root.path(), Duration::from_secs(age));
        let (output, _) = by_hand(root.path(), &limits(&limit), &mock(&json!({})), &[]);
        let text = printed(&output);
        assert!(output.status.code() == Some(1) && text.contains(told) && text.contains("hint: "), "{text}");
    }
}

#[test]
fn everything_again_leaves_the_stored_values_alone_until_it_is_done() {
    let root = tempfile::tempdir().unwrap();
    let again = ["--reprocess-historical"];
    let config = |fault: Value| mock(&json!({ "repos": 2, "pull_requests": 5, "fault": fault }));
    let (agent, whole) = (limits(&json!({})), config(Value::Null));
    let run = |integrations: &Value, flags: &[&str]| {
        let (output, report) = by_hand(root.path(), &agent, integrations, flags);
        let mode = report["integrations"][0]["mode"].as_str().unwrap().to_owned();
        (output.status.code(), counted(&report, PULL_REQUEST), mode)
    };
    assert_eq!(run(&whole, &[]), (Some(0), 10, "historical".to_owned()));
    // It fails when one repository is done again: what was stored before stands.
    let fails = config(json!({ "kind": "fail", "at": 12 }));
    assert_eq!(run(&fails, &again), (Some(1), 5, "historical".to_owned()));
    assert_eq!(run(&whole, &[]), (Some(0), 0, "incremental".to_owned()));
    // A repository that fails in an export of everything is begun from nothing by the next one.
    let partly = config(json!({ "kind": "project", "at": 12 }));
    assert_eq!(run(&partly, &again), (Some(1), 5, "historical".to_owned()));
    assert_eq!(run(&whole, &[]), (Some(0), 5, "incremental".to_owned()));
    assert_eq!(run(&whole, &again), (Some(0), 10, "historical".to_owned()));
    assert_eq!(run(&whole, &[]), (Some(0), 0, "incremental".to_owned()));
}

#[test]
fn an_interrupted_run_of_everything_again_goes_on_under_its_id() {
    let root = tempfile::tempdir().unwrap();
    let order = |again: bool, fault: Value| {
        let config = json!({ "repos": 2, "pull_requests": 5, "delay_ms": 20, "fault": fault });
        json!({ "agent": limits(&json!({})), "integrations": mock(&config), "reprocess_historical": again })
    };
    let exported =
        |id: &str, order: &Value| counted(&Played::export(root.path(), id, order).report(), PULL_REQUEST);
    assert_eq!(exported("c1", &order(false, Value::Null)), 10);
    // Killed when the first repository was done again.
    let mut killed = Played::export(root.path(), "c2", &order(true, json!({ "kind": "hang", "at": 12 })));
    killed.until("the integration to hang", |it| it.to_string().contains("hanging at object 12"));
    drop(killed);
    assert_eq!(exported("c2", &order(true, Value::Null)), 5, "the same run exports the rest");
    assert_eq!(exported("c3", &order(true, Value::Null)), 10, "another run everything");
    assert_eq!(exported("c3", &order(true, Value::Null)), 0, "what is done stays done within a run");
    assert_eq!(exported("c4", &order(false, Value::Null)), 0);
}

#[test]
fn counts_that_differ_fail_the_integration_and_are_named() {
    let twice = done(json!({ "objects": 6 }));
    for (steps, told) in [
        (
            json!([start("1"), send(5, 7), done(json!({}))]),
            "session.send counts 7 objects, but the batch holds 5",
        ),
        (json!([start("1"), send(5, 5), twice]), "session.done counts 6 objects, but the agent accepted 5"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let (integrations, programs) = scripted(root.path(), &json!({ "steps": steps }));
        let mut agent = limits(&json!({ "integration_attempts": 3 }));
        agent["integrations_dir"] = programs;
        let (output, report) = by_hand(root.path(), &agent, &integrations, &[]);
        let it = &report["integrations"][0];
        assert_eq!((output.status.code(), &it["attempts"]), (Some(1), &json!(1)), "{}", printed(&output));
        assert!(it["error"]["message"].as_str().unwrap().contains(told), "{it:#}");
        assert_eq!(spooled(root.path(), "mock.Thing").len(), 0);
    }
}

#[test]
fn rejected_objects_are_named_in_the_answer_and_counted() {
    let long = json!({ "id": "3", "text": "$TEXT", "hash": "a" });
    let given = json!([{ "id": "1", "hash": "a" }, [], { "id": "2", "hash": "a" }, 7, long, { "hash": "a" }]);
    let no_object =
        |index, found| json!({ "index": index, "reason": format!("found {found}, expected a JSON object") });
    let too_long =
        json!({ "index": 4, "id": "3", "reason": "it has 2036 bytes, more than limits.object_bytes = 1024" });
    let no_id = json!({ "index": 5, "reason": "it has no text member `id`, which its model needs" });
    for (model, needs_id) in [("mock.Thing", false), ("mock.Named", true), ("mock.Kept", true)] {
        let root = tempfile::tempdir().unwrap();
        let start = json!({ "call": "session.start", "params":
            { "kind": "model", "name": model, "object": { "id": "1", "name": "an object" } } });
        let batch = json!({ "call": "session.send", "params": { "session": "$SESSION", "count": 6, "objects": given } });
        let accepted = if needs_id { 2 } else { 3 };
        let text = json!({ "repeat": "x", "times": 2000 });
        let steps = json!([text, start, batch, done(json!({ "objects": accepted }))]);
        let (integrations, programs) = scripted(root.path(), &json!({ "steps": steps }));
        let mut agent = limits(&json!({ "object_bytes": 1024 }));
        agent["integrations_dir"] = programs;
        let (output, report) = by_hand(root.path(), &agent, &integrations, &[]);
        let text = printed(&output);
        let mut rejected = vec![no_object(1, "[]"), no_object(3, "7"), too_long.clone()];
        rejected.extend(needs_id.then(|| no_id.clone()));
        let answer =
            text.lines().find_map(|it| it.split_once("session.send: ")).unwrap_or_else(|| panic!("{text}")).1;
        let answer: Value = serde_json::from_str(answer).unwrap();
        assert_eq!(
            (&answer["accepted"], &answer["rejected"]),
            (&json!(accepted), &json!(rejected)),
            "{model}: {text}"
        );
        let counted = &report["integrations"][0]["models"][0];
        let counts = (&counted["objects"], &counted["rejected"]);
        assert_eq!(counts, (&json!(accepted), &json!(rejected.len())), "{model}: {text}");
        assert_eq!(spooled(root.path(), model).len(), accepted, "{model}: the stream goes on without them");
    }
}

#[test]
fn a_rate_limit_is_shown_with_its_end_and_reason() {
    let root = tempfile::tempdir().unwrap();
    let order = json!({ "agent": limits(&json!({})), "integrations": mock(&json!({ "pause_s": 2, "delay_ms": 50 })) });
    let mut action = Played::export(root.path(), "c1", &order);
    let row = action.until_paused("rate limit of the source: the made-up source allows no more for now");
    assert!(row["paused_until"].is_string(), "{row:#}");
    let row = action.until_progress("it to go on", |row| row["state"] == "running");
    assert!(row.get("paused_for").is_none(), "{row:#}");
    assert_eq!(counted(&action.report(), PULL_REQUEST), 20);
}

#[test]
fn access_tokens_come_from_the_service_and_are_read_by_nobody_else() {
    let root = tempfile::tempdir().unwrap();
    let order = json!({ "agent": limits(&json!({})), "integrations": mock(&json!({ "access_tokens": 3 })) });
    let mut action = Played::export(root.path(), "c1", &order);
    let report = action.report();
    assert_eq!(counted(&report, PULL_REQUEST), 20);
    let asked: Vec<_> = action.heard.iter().filter(|it| it["method"] == "oauth.access_token").collect();
    let refused: Vec<_> = asked.iter().map(|it| it["params"]["refused"].as_u64()).collect();
    assert_eq!(refused, [None, Some(1), Some(2)]);
    let logs = ["export", "integrations/mock"]
        .map(|it| std::fs::read_to_string(root.path().join("logs").join(it)).unwrap());
    let heard = Value::from(action.heard.clone()).to_string();
    for text in [&logs[0], &logs[1], &heard] {
        assert!(text.contains("logging in with 3, ***") && !text.contains(TOKEN), "{text}");
    }

    let (output, _) = by_hand(root.path(), &limits(&json!({})), &mock(&json!({ "access_tokens": 1 })), &[]);
    let text = printed(&output);
    assert!(
        text.contains("no backend to ask for an access token") && text.contains("hint: order it"),
        "{text}"
    );
}

#[test]
fn a_cancel_while_an_integration_waits_to_be_tried_again_is_answered_at_once() {
    let root = tempfile::tempdir().unwrap();
    let config = json!({ "pull_requests": 5, "fault": { "kind": "crash", "at": 12 } });
    let agent = limits(&json!({ "integration_attempts": 3, "retry_first_s": 3600 }));
    let mut action =
        Played::export(root.path(), "c1", &json!({ "agent": agent, "integrations": mock(&config) }));
    action.until_paused("failed: mock ended before it answered export");
    action.cancel();
    let report = action.report();
    let it = &report["integrations"][0];
    assert_eq!((&it["state"], counted(&report, PULL_REQUEST)), (&json!("cancelled"), 5), "{it:#}");
    assert!(it["error"]["message"].as_str().unwrap().contains("before it was tried again: a test"), "{it:#}");
    assert_eq!(kept_reports(root.path())[0].1["state"], "cancelled");
}

#[test]
fn what_waits_for_its_turn_at_a_cancel_is_not_started() {
    let root = tempfile::tempdir().unwrap();
    let agent = limits(&json!({ "integrations_at_once": 1 }));
    let integrations = json!([
        { "name": "mock", "id": "first", "config": { "fault": { "kind": "hang", "at": 2 } } },
        { "name": "mock", "id": "second" },
    ]);
    let mut action =
        Played::export(root.path(), "c1", &json!({ "agent": agent, "integrations": integrations }));
    action.until("the first to hang", |it| it.to_string().contains("hanging at object 2"));
    action.cancel();
    let report = action.report();
    let [first, second] = [0, 1].map(|n| &report["integrations"][n]);
    assert_eq!((&first["state"], &second["state"]), (&json!("cancelled"), &json!("cancelled")));
    assert_eq!((&first["attempts"], &second["attempts"]), (&json!(1), &json!(0)), "{report:#}");
    assert!(second["error"]["message"].as_str().unwrap().contains("before it was started"), "{second:#}");
}

#[test]
fn ctrl_c_ends_each_action_and_what_was_done_is_kept() {
    let root = tempfile::tempdir().unwrap();
    let agent = limits(&json!({}));
    let hangs =
        json!([{ "name": "mock", "config": { "pull_requests": 5, "fault": { "kind": "hang", "at": 12 } } }]);
    let silent = |within: &str| json!([{ "name": "faulty", "config": { "fault": "silent", "in": within } }]);
    for (action, integrations, flags, runs) in [
        ("export", hangs, &[][..], "hanging at object 12"),
        ("validate-config", silent("validate_config"), &[][..], ""),
        ("export-onboard-data", silent("onboard_export"), &["--object-type=projects"][..], ""),
    ] {
        let mut command = outrider(root.path());
        command
            .arg(action)
            .args(flags)
            .arg(format!("--agent-config-json={agent}"))
            .arg(format!("--integrations-json={integrations}"));
        let mut action = Running::start(&mut command, &root.path().join(format!("{action}.out")));
        until("the integration to be at work", || {
            let started = !crate::support::descendants(action.pid()).is_empty();
            (started && action.printed().contains(runs)).then_some(())
        });
        action.signal("INT");
        assert_eq!(action.ended(), Some(5), "{}", action.printed());
        assert!(action.printed().contains("Ctrl-C"), "{}", action.printed());
    }
    assert_eq!(spooled(root.path(), PULL_REQUEST).len(), 5, "{:?}", sealed(&root.path().join("spool")));
    assert_eq!(kept_reports(root.path())[0].1["state"], "cancelled");
}
