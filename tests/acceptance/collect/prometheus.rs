//! Into a real Prometheus by remote write, and out of it again.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::http::{ask, port};
use super::{configure, with_outputs};
use crate::support::{Running, outrider, until};

/// Starts one, and waits until it takes something.
pub(super) fn start(folder: &Path, http: u16) -> Running {
    let there = Command::new("prometheus").arg("--version").output();
    assert!(there.is_ok(), "this test needs prometheus, on Debian the package prometheus: {there:?}");
    let config = folder.join("prometheus.yml");
    std::fs::write(&config, "global: {}\n").unwrap();
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{http}"))
        .arg("--web.enable-remote-write-receiver");
    let mut prometheus = Running::start(&mut command, &folder.join("prometheus.out"));
    until("Prometheus to be ready", || {
        assert!(prometheus.child_runs(), "{}", prometheus.printed());
        ask(http, "GET /-/ready").filter(|it| it.contains("Ready"))
    });
    prometheus
}

/// All that a query finds.
pub(super) fn found(http: u16, text: &str) -> Option<Vec<Value>> {
    let text: String = text.bytes().map(|it| format!("%{it:02X}")).collect();
    let answer = ask(http, &format!("GET /api/v1/query?query={text}"))?;
    let mut answer: Value = serde_json::from_str(&answer).ok()?;
    match answer["data"]["result"].take() {
        Value::Array(all) => Some(all),
        _ => None,
    }
}

/// The one value that a query gives, with its labels.
fn query(http: u16, text: &str) -> Option<(String, Value)> {
    let found = found(http, text)?.into_iter().next()?;
    Some((found["value"][1].as_str()?.to_owned(), found["metric"].clone()))
}

#[test]
fn what_is_measured_comes_out_of_a_real_prometheus() {
    let dir = tempfile::tempdir().unwrap();
    let http = port();
    let _prometheus = start(dir.path(), http);
    let outputs = json!([
        { "kind": "remote_write", "url": format!("http://127.0.0.1:{http}/api/v1/write") },
        { "kind": "json_lines", "path": dir.path().join("samples") },
    ]);
    configure(&dir.path().join("root"), &with_outputs(&outputs));
    let mut collect =
        Running::start(outrider(&dir.path().join("root")).arg("collect"), &dir.path().join("out"));
    let counted = || query(http, "count_over_time(container_cpu_usage_total{env=\"test\"}[1h])");
    until("points in it", || {
        assert!(collect.child_runs(), "{}", collect.printed());
        counted().filter(|(count, _)| count.parse::<u64>().is_ok_and(|it| it > 3))
    });
    collect.signal("TERM");
    assert_eq!(collect.ended(), Some(0), "{}", collect.printed());

    let rounds = super::lines(&dir.path().join("samples")).len().to_string();
    assert_eq!(counted().map(|it| it.0), Some(rounds), "each round is there once");
    let (usage, labels) = query(http, "last_over_time(container_cpu_usage_total[1h])").unwrap();
    assert_eq!((usage.as_str(), &labels["cgroup"]), ("730565764", &json!("/docker/c0ffee")), "{labels}");
    let (running, _) = query(http, "last_over_time(container_running[1h])").unwrap();
    assert_eq!(running, "1");
}
