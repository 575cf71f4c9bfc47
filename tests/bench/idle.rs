//! What a service weighs: idle for a minute, and with its action and integration during a large export.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::measure::{BACKEND, OUTRIDER, Table, cpu_ticks, descendants, memory_kib, mib};

const IDLE: Duration = Duration::from_secs(60);

/// Processes that end with the benchmark.
struct Ends(Vec<Child>);

impl Drop for Ends {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

pub(crate) fn run(table: &mut Table) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let data = dir.path().join("backend");
    let root = dir.path().join("root");
    let mut ends = Ends(vec![quiet(
        Command::new(BACKEND).args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data),
    )]);
    until(|| {
        data.join("backend.json").exists()
            && backend(&data, &["agents"]).status().is_ok_and(|it| it.success())
    });
    enroll(&data, &root);
    let service = quiet(Command::new(OUTRIDER).args(["service-run", "--root"]).arg(&root));
    let pid = service.id();
    ends.0.push(service);
    until(|| online(&data));

    std::thread::sleep(Duration::from_secs(2));
    let before = cpu_ticks(pid).unwrap_or_default();
    std::thread::sleep(IDLE);
    let ticks = cpu_ticks(pid).unwrap_or_default() - before;
    let resident = memory_kib(pid, "VmRSS").unwrap_or_default();
    table.row("idle service, resident", format!("{:.1} MiB", mib(resident << 10)), "below 15 MiB");
    table.row("idle service, CPU over 60 s", format!("{} ms", ticks * 10), "not measurable");

    let config = r#"{"organizations":1,"repos":10,"pull_requests":100000,"object_bytes":500}"#;
    let export = ["command", "export", "--integration", "mock", "--config", config, "--follow"];
    let mut follow = quiet(&mut backend(&data, &export));
    let mut peaks = std::collections::HashMap::new();
    let ended = loop {
        for pid in descendants(pid) {
            if let Some(kib) = memory_kib(pid, "VmHWM") {
                peaks.insert(pid, kib);
            }
        }
        if let Some(status) = follow.try_wait().expect("a status") {
            break status;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(ended.success(), "the export through the backend failed");
    let sum: u64 = peaks.values().sum();
    table.row(
        "peak memory of service, action and integration, 1,000,000 objects of 500 bytes",
        format!("{:.0} MiB", mib(sum << 10)),
        "below 60 MiB",
    );
}

fn quiet(command: &mut Command) -> Child {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("start a program")
}

/// The backend's command line, for the backend whose data lies in a folder.
fn backend(data: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(BACKEND);
    command.args(args).arg("--data").arg(data).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

fn json(data: &Path, args: &[&str]) -> serde_json::Value {
    let output = backend(data, args).arg("--json").output().expect("run the backend's command line");
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn enroll(data: &Path, root: &Path) {
    let code = json(data, &["code", "create"])["code"].as_str().map(str::to_owned).expect("a code");
    let text = std::fs::read_to_string(data.join("backend.json")).expect("the backend's address");
    let address: serde_json::Value = serde_json::from_str(&text).expect("the backend's address");
    let url = address["url"].as_str().expect("the backend's address");
    let enrolled = Command::new(OUTRIDER)
        .args(["enroll", &code, "--backend", url, "--no-service", "--root"])
        .arg(root)
        .stdout(Stdio::null())
        .status();
    assert!(enrolled.is_ok_and(|it| it.success()), "enroll");
}

fn online(data: &Path) -> bool {
    json(data, &["agents"])[0]["online"] == true
}

fn until(mut state: impl FnMut() -> bool) {
    let started = Instant::now();
    while !state() {
        assert!(started.elapsed() < Duration::from_secs(60), "the stack did not come up");
        std::thread::sleep(Duration::from_millis(50));
    }
}
