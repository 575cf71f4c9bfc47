//! How long an action takes to start, answer and exit, beside `/bin/true`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::measure::{OUTRIDER, Table, median};

const RUNS: usize = 200;

pub(crate) fn run(table: &mut Table) {
    let root = tempfile::tempdir().expect("a temporary folder");
    let nothing = median(RUNS, || {
        drop(Command::new("/bin/true").status());
    });
    let action = median(RUNS, || one_action(root.path()));
    let mut accepted: Vec<_> = (0..RUNS).map(|_| one_object(root.path())).collect();
    accepted.sort_unstable();
    table.row(
        "start of an export with a Rust integration, to its first accepted object",
        format!("{:.2} ms", millis(accepted[RUNS / 2])),
        &format!("2 × `/bin/true` + 20 ms = {:.2} ms", millis(nothing * 2 + Duration::from_millis(20))),
    );
    let goal = nothing * 3 + Duration::from_millis(5);
    table.row(
        "start of an action: spawn, initialize, result, exit",
        format!("{:.2} ms (`/bin/true` {:.2} ms)", millis(action), millis(nothing)),
        &format!("3 × `/bin/true` + 5 ms = {:.2} ms", millis(goal)),
    );
}

/// Until the integration has heard that its first object was accepted, and the export by hand has told of it.
fn one_object(root: &std::path::Path) -> Duration {
    let config = r#"[{"name":"mock","config":{"users":1,"repos":0,"announce":true}}]"#;
    let started = Instant::now();
    let mut child = Command::new(OUTRIDER)
        .args(["export", "--reprocess-historical", "--integrations-json", config, "--root"])
        .arg(root)
        .stdout(Stdio::piped())
        .spawn()
        .expect("start the export");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let told = lines.any(|line| line.is_ok_and(|it| it.contains("the first object was accepted")));
    let took = started.elapsed();
    lines.for_each(drop);
    assert!(told && child.wait().is_ok_and(|it| it.success()), "the export failed");
    took
}

/// An export of nothing, which is answered with an error after everything was started.
fn one_action(root: &std::path::Path) {
    let mut child = Command::new(OUTRIDER)
        .args(["export", "--link", "--root"])
        .arg(root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("start the action");
    let mut stdin = child.stdin.take().expect("a pipe");
    let mut answers = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let calls = [
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocol":{"min":1,"max":1},"service_version":"0"}}"#,
        r#"{"jsonrpc":"2.0","id":2,"method":"run","params":{"command":"c1","order":{"action":"export","integrations":[]}}}"#,
    ];
    for call in calls {
        writeln!(stdin, "{call}").expect("write to the action");
        let answer = answers.next().and_then(Result::ok).expect("an answer");
        assert!(answer.contains("\"jsonrpc\""), "{answer}");
    }
    drop(stdin);
    assert!(child.wait().expect("an exit").success());
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
