//! A section that the backend orders: kept, delivered by, shown, overruled, refused and taken back.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use outrider_backend::admin::{AgentCollecting, Command as Ordered, CommandState};
use outrider_protocol::Raw;
use outrider_protocol::collect::ordered::{CollectEnd, CollectOrderReport, CollectSource};
use outrider_protocol::ids::CommandId;
use outrider_protocol::report::ActionReport;
use serde_json::{Value, json};

use super::browser::Browser;
use super::receiver::Receiver;
use super::simulator::{Answer as SimulatorAnswer, Simulator};
use super::{fixtures, lines, process, status, with_outputs};
use crate::support::{Stack, alive, edit_config, outrider, printed, run, until};

const TOKEN: &str = "not-a-real-token-of-influx";

fn order(stack: &Stack, section: &Value) -> CommandId {
    let section: Raw = serde_json::value::to_raw_value(section).unwrap();
    stack.ask(stack.client.order_collecting(&stack.agent, &section)).unwrap().summary.id
}

fn clear(stack: &Stack) -> CommandId {
    stack.ask(stack.client.clear_collecting(&stack.agent)).unwrap().summary.id
}

fn told(stack: &Stack) -> AgentCollecting {
    stack.ask(stack.client.collecting(&stack.agent)).unwrap()
}

fn report(command: Ordered) -> CollectOrderReport {
    match command.report {
        Some(ActionReport::ConfigureCollect(report)) => report,
        other => panic!("{other:?} {:?}", command.error),
    }
}

/// What the backend may order: this machine, into a receiver.
fn section(receiver: &Receiver, env: &str) -> Value {
    json!({
        "target": { "below": "/" },
        "interval_ms": 200,
        "tags": { "env": env },
        "outputs": [{ "kind": "influx", "url": receiver.url(), "org": "o", "bucket": "b", "token": TOKEN }],
    })
}

fn until_delivered(receiver: &Receiver, env: &str) {
    let before = receiver.got().len();
    let tag = format!("env={env}");
    until("points with the tag", || {
        let new = receiver.got().split_off(before);
        new.iter().any(|it| String::from_utf8_lossy(&it.body).contains(&tag)).then_some(())
    });
}

fn until_source(stack: &Stack, source: &str) {
    until("the status to name the source", || {
        let it = &status(stack)["collect"];
        (it["state"] == "running" && it["source"] == source).then_some(())
    });
}

/// Whether any file below a folder holds a text.
fn holds(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return holds(&path, text);
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        bytes.windows(text.len()).any(|it| it == text.as_bytes())
    })
}

#[test]
fn a_section_of_the_backend_is_kept_until_it_is_taken_back_and_that_of_the_operator_wins() {
    let mut stack = Stack::start(&json!({ "reconnect_max_s": 2 }));
    stack.until_connected();
    let receiver = Receiver::answering(&[]);
    let browser = Browser::log_in(&stack.login_link());
    let page = format!("/agents/{}", stack.agent);
    let is_shown = |parts: &[&str]| {
        until("the page", || {
            let html = browser.get(&page);
            assert!(!html.contains(TOKEN), "{html}");
            parts.iter().all(|it| html.contains(it)).then_some(())
        });
    };

    let first = order(&stack, &section(&receiver, "first"));
    let answer = report(stack.until_state(&first, CommandState::Done));
    assert_eq!((answer.kept, answer.in_effect, answer.idle), (true, Some(CollectSource::Backend), None));
    let kept = stack.root().join("state/collect-ordered.json");
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    until_delivered(&receiver, "first");
    until_source(&stack, "backend");
    is_shown(&["Collecting", "running", "the backend", first.as_str(), "&quot;env&quot;: &quot;first&quot;"]);
    let read = until("the section at the backend", || told(&stack).told.and_then(|it| it.ordered));
    assert_eq!((read.command, read.idle), (first, None));
    assert_eq!(
        (&read.section["tags"]["env"], &read.section["outputs"][0]["token"]),
        (&json!("first"), &json!("***"))
    );

    // A kill of the service does not lose it.
    stack.kill_service();
    stack.start_service();
    until_delivered(&receiver, "first");
    until_source(&stack, "backend");

    // The operator's section wins as a whole, and whoever orders one is told so.
    let outputs = json!([{ "kind": "json_lines", "path": "samples" }]);
    edit_config(&stack.root(), |config| config["collect"] = with_outputs(&outputs));
    until_source(&stack, "config");
    until("its lines", || (!lines(&stack.root().join("samples")).is_empty()).then_some(()));
    is_shown(&["config.json", "is not in effect", "wins as a whole"]);
    let second = order(&stack, &section(&receiver, "second"));
    let answer = report(stack.until_state(&second, CommandState::Done));
    assert_eq!((answer.kept, answer.in_effect), (true, Some(CollectSource::Config)));
    assert!(answer.idle.unwrap().contains("wins as a whole"));
    let shown = printed(&run(outrider(&stack.root()).arg("status")));
    assert!(shown.contains("as config.json says: running") && shown.contains("not in effect"), "{shown}");
    edit_config(&stack.root(), |config| drop(config.as_object_mut().unwrap().remove("collect")));
    until_source(&stack, "backend");
    until_delivered(&receiver, "second");

    // Taken back, it ends.
    let pid = process(&stack);
    let third = clear(&stack);
    let answer = report(stack.until_state(&third, CommandState::Done));
    assert_eq!((answer.kept, answer.in_effect), (false, None));
    assert!(!kept.exists());
    until("its end", || (!alive(pid)).then_some(()));
    until("the status to say so", || status(&stack)["collect"].is_null().then_some(()));
    until("the backend to hear of it", || {
        told(&stack).told.filter(|it| it.ordered.is_none() && it.source.is_none())
    });
    assert!(told(&stack).ordered.unwrap().clears);
    for text in [stack.service.printed(), stack.backend.printed()] {
        assert!(!text.contains(TOKEN), "{text}");
    }
    assert!(!holds(&stack.root().join("logs"), TOKEN));
    until("the backend to forget the secret", || {
        (!holds(&stack.dir.path().join("backend"), TOKEN)).then_some(())
    });
}

#[test]
fn a_bad_section_is_refused_with_all_that_is_wrong_and_changes_nothing() {
    let stack = Stack::start(&json!({}));
    stack.until_connected();
    let receiver = Receiver::answering(&[]);
    let good = order(&stack, &section(&receiver, "good"));
    stack.until_state(&good, CommandState::Done);
    let mut bad = fixtures();
    bad["interval_ms"] = 1.into();
    bad["outputs"] = json!([
        { "kind": "json_lines", "path": "/etc/cron.d/outrider" },
        { "kind": "otlp", "url": receiver.url(), "token_file": "/etc/shadow" },
    ]);
    let refused = stack.until_state(&order(&stack, &bad), CommandState::Failed);
    let error = refused.error.clone().unwrap();
    let places: Vec<_> = report(refused).errors.into_iter().map(|it| it.path).collect();
    for place in ["/interval_ms", "/cgroup_path", "/proc_path", "/outputs/0/kind", "/outputs/1/token_file"] {
        assert!(places.iter().any(|it| it == place), "{place}: {places:?}");
        assert!(error.message.contains(place), "{place}: {}", error.message);
    }
    until_delivered(&receiver, "good");

    // The operator may forbid it altogether.
    edit_config(&stack.root(), |config| config["backend_collect"] = false.into());
    until("its end", || status(&stack)["collect"].is_null().then_some(()));
    let forbidden = stack.until_state(&order(&stack, &section(&receiver, "new")), CommandState::Failed);
    assert!(forbidden.error.unwrap().message.contains("backend_collect"));
    stack.until_state(&clear(&stack), CommandState::Done);
}

/// A program that takes memory without end costs the process that runs it, which is started again, and nothing else.
#[test]
fn a_program_that_takes_all_memory_ends_its_own_process_alone() {
    let stack = Stack::start(&json!({ "reconnect_max_s": 2, "collect_memory_bytes": 128 << 20 }));
    stack.until_connected();
    let server = Simulator::start(|_| SimulatorAnswer::ok("{}"));
    let receiver = Receiver::answering(&[]);
    let service = stack.service.pid();
    let mut section = section(&receiver, "bounded");
    section["apis"] = json!([{
        "name": "g", "interval_ms": 100,
        "systems": [{ "name": "s", "vdcs": [{ "name": "v", "nodes": [server.url()] }] }],
        "apis": [{ "name": "a", "level": "system", "path": "/a", "jq": "{ n: ([range(1e12)] | length) }" }],
    }]);
    let command = order(&stack, &section);
    stack.until_state(&command, CommandState::Done);
    let end = until("its end to be told", || told(&stack).told?.last_end);
    let CollectEnd { at, error: end } = end;
    assert!(end.contains("SIGABRT") && end.contains("memory allocation of"), "{end}");
    until("another start, and its end", || (told(&stack).told?.last_end?.at > at).then_some(()));
    assert!(alive(service), "the service goes on");
    let command = clear(&stack);
    stack.until_state(&command, CommandState::Done);
    until("its end", || (status(&stack)["collect"]["state"] != "running").then_some(()));
}

#[test]
fn an_address_of_a_clouds_metadata_is_refused_when_it_is_ordered() {
    let stack = Stack::start(&json!({}));
    stack.until_connected();
    let system = |node: &str| json!([{ "name": "s", "vdcs": [{ "name": "v", "nodes": [node] }] }]);
    let api = json!([{ "name": "a", "level": "system", "path": "/latest/meta-data" }]);
    for node in
        ["http://169.254.169.254", "http://[fd00:ec2::254]", "http://[::ffff:a9fe:a9fe]", "http://0xa9fea9fe"]
    {
        let section = json!({ "apis": [{ "name": "g", "systems": system(node), "apis": api }] });
        let answer = report(stack.until_state(&order(&stack, &section), CommandState::Failed));
        let told: Vec<_> = answer.errors.iter().map(|it| (it.path.as_str(), it.message.as_str())).collect();
        assert!(
            told.iter().any(|it| it.0 == "/apis" && it.1.contains("cloud's metadata")),
            "{node}: {told:?}"
        );
    }
}
