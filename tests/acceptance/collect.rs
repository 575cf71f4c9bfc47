//! `outrider collect` by its built program: by hand, under the service, and into a real InfluxDB.

mod aggregator;
mod bulk;
mod datadog;
mod ecs;
mod http;
mod influxdb;
mod jetstream;
mod kills;
mod ordered;
mod otlp;
mod poller;
mod prometheus;
mod receiver;
mod receivers;
mod simulator;
mod told;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::browser;
use crate::support::{
    Running, Stack, alive, descendants, edit_config, outrider, printed, repository, run, until,
};
use receiver::Receiver;

/// A host as the crate's fixtures have it: hybrid, with one container.
fn fixtures() -> Value {
    let cgroups = repository().join("fixtures/collect/valid/cgroup/hybrid");
    json!({
        "target": { "container": "c0ffee" },
        "cgroup_path": cgroups,
        "proc_path": "/nowhere",
        "interval_ms": 100,
        "tags": { "env": "test" },
    })
}

fn with_outputs(outputs: &Value) -> Value {
    let mut section = fixtures();
    section["outputs"] = outputs.clone();
    section
}

fn write(folder: &Path, section: &Value) -> PathBuf {
    let path = folder.join("collect.json");
    std::fs::write(&path, section.to_string()).unwrap();
    path
}

/// What `collect check` says of a section: its events, all that it printed, and its status.
fn check(folder: &Path, section: &Value) -> (Vec<Value>, String, Option<i32>) {
    let config = write(folder, section);
    let output = run(outrider(&folder.join("root")).args(["collect", "check", "--config"]).arg(config));
    let events = output.stdout.split(|it| *it == b'\n').filter(|it| !it.is_empty());
    let events = events.map(|it| serde_json::from_slice(it).unwrap()).collect();
    (events, printed(&output), output.status.code())
}

/// A root that is no agent of any backend, with a section and short pauses.
fn configure(root: &Path, section: &Value) {
    let config = json!({
        "version": 1, "agent": "a", "backend": "http://127.0.0.1:1", "token": "not-a-real-agent-token",
        "limits": { "reconnect_max_s": 1 }, "collect": section,
    });
    std::fs::create_dir_all(root).unwrap();
    let path = root.join("config.json");
    std::fs::write(&path, config.to_string()).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // The last line may be on its way.
    text.lines().filter_map(|it| serde_json::from_str(it).ok()).collect()
}

fn value(sample: &Value, metric: &str) -> Value {
    let points = sample["points"].as_array().unwrap();
    points.iter().find(|it| it["metric"] == metric).unwrap_or_else(|| panic!("{metric}: {sample}"))["value"]
        .clone()
}

#[test]
fn one_look_prints_what_the_files_say() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let config = write(dir.path(), &fixtures());
    let once = run(outrider(&root).args(["collect", "--once", "--config"]).arg(&config));
    assert!(once.status.success() && once.stderr.is_empty(), "{}", printed(&once));
    let sample: Value = serde_json::from_slice(&once.stdout).unwrap();
    assert_eq!(sample["tags"]["env"], "test");
    assert_eq!(value(&sample, "container.cpu.usage"), 730_565_764);
    assert_eq!(value(&sample, "container.memory.events.oom_kill"), 1);
    assert!(!root.exists(), "one look writes nothing");

    let mut absent = fixtures();
    absent["target"] = json!({ "container": "absent" });
    let once = run(outrider(&root).args(["collect", "--once", "--config"]).arg(write(dir.path(), &absent)));
    assert_eq!(once.status.code(), Some(1));
    assert!(printed(&once).contains("no such cgroup"), "{}", printed(&once));
}

#[test]
fn this_machine_has_something_to_measure() {
    let dir = tempfile::tempdir().unwrap();
    let once = run(outrider(&dir.path().join("root")).args(["collect", "--once"]));
    assert!(once.status.success(), "{}", printed(&once));
    let first = once.stdout.split(|it| *it == b'\n').next().unwrap();
    let sample: Value = serde_json::from_slice(first).unwrap();
    assert!(!sample["points"].as_array().unwrap().is_empty());
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let nothing = run(outrider(&root).arg("collect"));
    assert_eq!(nothing.status.code(), Some(2));
    assert!(printed(&nothing).contains("--config FILE"), "{}", printed(&nothing));
    let mut section = fixtures();
    section["interval"] = 5.into();
    section["outputs"] = json!([{ "kind": "statsd", "address": "localhost" }]);
    let wrong = run(outrider(&root).args(["collect", "--config"]).arg(write(dir.path(), &section)));
    assert_eq!(wrong.status.code(), Some(2));
    let told = printed(&wrong);
    assert!(
        told.contains("/interval: found the unknown field") && told.contains("/outputs/0/address"),
        "{told}"
    );
}

#[test]
fn a_second_one_in_a_root_leaves_the_log_of_the_first_alone() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let start = |name: &str| {
        let outputs = json!([{ "kind": "json_lines", "path": dir.path().join(name) }]);
        let config = dir.path().join(format!("{name}.json"));
        std::fs::write(&config, with_outputs(&outputs).to_string()).unwrap();
        let mut collect = outrider(&root);
        collect.args(["collect", "--config"]).arg(config);
        Running::start(&mut collect, &dir.path().join(format!("{name}.out")))
    };
    let measures = |name: &str| {
        until("a sample", || (!lines(&dir.path().join(name)).is_empty()).then_some(()));
    };
    let mut first = start("first");
    measures("first");
    let mut second = start("second");
    measures("second");
    second.signal("TERM");
    assert_eq!(second.ended(), Some(0), "{}", second.printed());
    assert!(
        second.printed().contains("Another `outrider collect` runs in this root"),
        "{}",
        second.printed()
    );
    first.signal("TERM");
    assert_eq!(first.ended(), Some(0), "{}", first.printed());
    let log = std::fs::read_to_string(root.join("logs/collect")).unwrap();
    assert!(log.contains("Collecting has ended.") && !log.contains("Another"), "{log}");
    // It ended with its process.
    let mut third = start("third");
    measures("third");
    third.signal("TERM");
    assert_eq!(third.ended(), Some(0), "{}", third.printed());
    assert!(!third.printed().contains("Another"), "{}", third.printed());
}

/// By hand, with an output to a receiver and one to a file.
fn by_hand(folder: &Path, receiver: &Receiver) -> Running {
    let outputs = json!([
        { "kind": "json_lines", "path": folder.join("samples") },
        { "kind": "influx", "url": receiver.url(), "org": "o", "bucket": "b", "token": "not-a-real-token" },
    ]);
    configure(&folder.join("root"), &with_outputs(&outputs));
    Running::start(outrider(&folder.join("root")).arg("collect"), &folder.join("out"))
}

#[test]
fn a_receiver_that_fails_gets_everything_that_it_can_take_and_holds_no_file_up() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::answering(&[
        (500, "no"),
        (500, "no"),
        (204, ""),
        (400, r#"{"error":"partial write: field type conflict dropped=1"}"#),
        (401, "who is not-a-real-token?"),
    ]);
    let mut collect = by_hand(dir.path(), &receiver);
    let got = until("what comes after the refused key", || {
        assert!(collect.child_runs(), "{}", collect.printed());
        let got = receiver.got();
        (got.len() > 5).then_some(got)
    });
    assert_eq!(got[0].body, got[2].body, "what failed is sent again, as it was");
    assert_ne!(got[3].body, got[4].body, "what was written in part is not");
    assert_eq!(got[4].body, got[5].body, "a refused key keeps what waits");
    assert!(got[0].head.contains("POST /api/v2/write?org=o&bucket=b&precision=ns "), "{}", got[0].head);
    assert!(got[0].head.to_lowercase().contains("authorization: token not-a-real-token"));
    let written = lines(&dir.path().join("samples"));
    assert!(written.len() >= 3, "the file does not wait");
    collect.signal("TERM");
    assert_eq!(collect.ended(), Some(0), "{}", collect.printed());
    let (said, logged) =
        (collect.printed(), std::fs::read_to_string(dir.path().join("root/logs/collect")).unwrap());
    for text in [&said, &logged] {
        assert!(!text.contains("not-a-real-token"), "{text}");
        assert_eq!(text.matches("it answers 500: no").count(), 1, "told once: {text}");
        assert_eq!(text.matches("it answers 401: who is ***?").count(), 1, "{text}");
        assert!(text.contains("refuses points") && text.contains("Collecting has ended."), "{text}");
    }
    let rounds = lines(&dir.path().join("samples")).len();
    let arrived: usize = receiver.got()[2..4].iter().chain(&receiver.got()[5..]).count();
    assert_eq!(arrived, rounds, "each round arrived once in both");
}

/// The process that collects, once it is there.
fn process(stack: &Stack) -> u32 {
    until("the process that collects", || {
        descendants(stack.service.pid()).into_iter().find(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|it| it == b"collect")
        })
    })
}

fn status(stack: &Stack) -> Value {
    let output = run(outrider(&stack.root()).args(["status", "--json"]));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", printed(&output)))
}

#[test]
fn the_service_keeps_it_running_as_config_says_and_shows_it() {
    let mut stack = Stack::start(&json!({ "reconnect_max_s": 2 }));
    stack.until_connected();
    assert_eq!(status(&stack)["collect"], Value::Null);
    let hanging = Receiver::hanging();
    let file = stack.root().join("samples");
    let outputs = json!([
        { "kind": "influx", "url": hanging.url(), "database": "d", "queue_points": 500 },
        { "kind": "json_lines", "path": "samples" },
    ]);
    edit_config(&stack.root(), |config| config["collect"] = with_outputs(&outputs));
    let first = process(&stack);
    until("lines, and drops of the output that hangs", || {
        let status = status(&stack);
        let outputs = &status["collect"]["report"]["outputs"];
        let is = |it: &Value, above: u64| it.as_u64().is_some_and(|it| it > above);
        (is(&outputs[0]["dropped"], 0) && is(&outputs[1]["sent"], 500)).then_some(())
    });
    let shown = printed(&run(outrider(&stack.root()).arg("status")));
    assert!(shown.contains(&format!("process {first}: 1 sources")), "{shown}");
    assert!(shown.contains("json_lines: ") && shown.contains("points sent"), "{shown}");

    // Killed, it is started again, and the death is told to the backend.
    assert!(run(std::process::Command::new("kill").args(["-9", &first.to_string()])).status.success());
    let second = until("the next process", || Some(process(&stack)).filter(|it| *it != first));
    let before = lines(&file).len();
    until("more lines", || (lines(&file).len() > before).then_some(()));
    assert!(
        std::fs::read_to_string(&file)
            .unwrap()
            .lines()
            .rev()
            .skip(1)
            .all(|it| serde_json::from_str::<Value>(it).is_ok())
    );

    // Another section: another process.
    edit_config(&stack.root(), |config| config["collect"]["tags"]["env"] = "changed".into());
    let third =
        until("the process for the changed section", || Some(process(&stack)).filter(|it| *it != second));
    until("its lines", || lines(&file).iter().any(|it| it["tags"]["env"] == "changed").then_some(()));

    // A clean stop leaves none.
    stack.service.signal("TERM");
    assert_eq!(stack.service.ended(), Some(0), "{}", stack.service.printed());
    assert!(!alive(third));

    // Without the section there is none.
    stack.start_service();
    let fourth = process(&stack);
    edit_config(&stack.root(), |config| drop(config.as_object_mut().unwrap().remove("collect")));
    until("its end", || (!alive(fourth)).then_some(()));
    until("the status to say so", || status(&stack)["collect"].is_null().then_some(()));
}

#[test]
fn it_does_not_outlive_a_killed_service() {
    let mut stack = Stack::start(&json!({}));
    // Until then it may find half of what is written below, and end.
    stack.until_connected();
    let outputs = json!([{ "kind": "influx", "url": Receiver::hanging().url(), "database": "d" }]);
    edit_config(&stack.root(), |config| config["collect"] = with_outputs(&outputs));
    let pid = process(&stack);
    stack.kill_service();
    until("its end", || (!alive(pid)).then_some(()));
}

#[test]
fn the_page_of_an_agent_plots_what_it_measured_last() {
    let stack = Stack::start(&json!({}));
    stack.until_connected();
    let browser = browser::Browser::log_in(&stack.login_link());
    let page = format!("/agents/{}", stack.agent);
    assert!(!browser.get(&page).contains("Measured"));
    edit_config(&stack.root(), |config| config["collect"] = fixtures());
    let html = until("a plot", || Some(browser.get(&page)).filter(|it| it.contains("<polyline")));
    assert!(html.contains("/docker/c0ffee") && html.contains("MiB now, at most"), "{html}");
    assert!(status(&stack)["collect"]["report"].get("latest").is_none(), "that is for the backend alone");
}
