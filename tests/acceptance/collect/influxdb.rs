//! Into a real InfluxDB, and out of it again.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::http::{ask, port};
use super::simulator::{Answer, Simulator};
use super::{configure, with_outputs};
use crate::support::{Running, outrider, until};

const DATABASE: &str = "outrider";

fn start(folder: &Path, http: u16) -> Running {
    let there = Command::new("influxd").arg("version").output();
    assert!(there.is_ok(), "this test needs influxd, on Debian the package influxdb: {there:?}");
    let config = folder.join("influxdb.conf");
    let data = folder.display();
    let text = format!(
        "reporting-disabled = true\nbind-address = \"127.0.0.1:{}\"\n[meta]\ndir = \"{data}/meta\"\n\
         [data]\ndir = \"{data}/data\"\nwal-dir = \"{data}/wal\"\n\
         [http]\nbind-address = \"127.0.0.1:{http}\"\nlog-enabled = false\n[monitor]\nstore-enabled = false\n",
        port()
    );
    std::fs::write(&config, text).unwrap();
    Running::start(Command::new("influxd").arg("-config").arg(config), &folder.join("influxd.out"))
}

/// The same when it answers.
fn started(folder: &Path, http: u16) -> Running {
    let mut influxd = start(folder, http);
    until("InfluxDB to answer", || {
        assert!(influxd.child_runs(), "{}", influxd.printed());
        ask(http, "GET /ping")
    });
    influxd
}

fn query(http: u16, text: &str) -> Value {
    let text = text.replace(' ', "%20").replace('"', "%22").replace('\'', "%27");
    let answer = ask(http, &format!("GET /query?db={DATABASE}&q={text}")).unwrap_or_default();
    serde_json::from_str(&answer).unwrap_or(Value::Null)
}

/// The database is made after the first tries, which it refuses: what was measured until then is not lost.
#[test]
fn what_is_measured_comes_out_of_a_real_influxdb() {
    let dir = tempfile::tempdir().unwrap();
    let http = port();
    let _influxd = started(dir.path(), http);
    let url = format!("http://127.0.0.1:{http}");
    let outputs = json!([
        { "kind": "influx", "url": url, "database": DATABASE, "measurement": "host" },
        { "kind": "json_lines", "path": dir.path().join("samples") },
    ]);
    configure(&dir.path().join("root"), &with_outputs(&outputs));
    let mut collect =
        Running::start(outrider(&dir.path().join("root")).arg("collect"), &dir.path().join("out"));
    until("the missing database to be told", || {
        collect.printed().contains("database not found").then_some(())
    });
    ask(http, &format!("POST /query?q=CREATE%20DATABASE%20{DATABASE}")).unwrap();
    until("points in it", || {
        assert!(collect.child_runs(), "{}", collect.printed());
        query(http, "SELECT count(\"container.cpu.usage\") FROM host")["results"][0]["series"][0]["values"][0]
            [1]
        .as_u64()
    });
    collect.signal("TERM");
    assert_eq!(collect.ended(), Some(0), "{}", collect.printed());

    let rounds = super::lines(&dir.path().join("samples")).len() as u64;
    let counted = query(http, "SELECT count(\"container.cpu.usage\") FROM host WHERE env = 'test'");
    assert_eq!(counted["results"][0]["series"][0]["values"][0][1].as_u64(), Some(rounds), "{counted}");
    let last = query(http, "SELECT last(\"container.cpu.usage\"), cgroup FROM host");
    let row = &last["results"][0]["series"][0]["values"][0];
    assert_eq!((&row[1], &row[2]), (&json!(730_565_764), &json!("/docker/c0ffee")), "{last}");
    let running = query(http, "SELECT last(\"container.running\") FROM host");
    assert_eq!(running["results"][0]["series"][0]["values"][0][1], true, "{running}");
}

/// A field that is a text there already: what the database refuses is told and counted, and the rest of the same body is there.
#[test]
fn what_a_real_influxdb_refuses_of_a_body_costs_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let http = port();
    let _influxd = started(dir.path(), http);
    ask(http, &format!("POST /query?q=CREATE%20DATABASE%20{DATABASE}")).unwrap();
    let path = format!("/write?db={DATABASE}");
    assert_eq!(post(http, &path, "host w.n=\"a text\""), Some(204));
    let server = Simulator::start(|_| Answer::ok("[{\"n\": 1}, {\"m\": 2}]"));
    let system = json!({ "name": "s", "vdcs": [{ "name": "v", "nodes": [server.url()] }] });
    let api = json!({ "name": "w", "level": "system", "path": "/w" });
    let url = format!("http://127.0.0.1:{http}");
    let section = json!({
        "apis": [{ "name": "g", "interval_ms": 100, "systems": [system], "apis": [api] }],
        "outputs": [{ "kind": "influx", "url": url, "database": DATABASE, "measurement": "host" }],
    });
    configure(&dir.path().join("root"), &section);
    let mut collect =
        Running::start(outrider(&dir.path().join("root")).arg("collect"), &dir.path().join("out"));
    let of = |field: &str| {
        let counted = query(http, &format!("SELECT count(\"{field}\") FROM host"));
        counted["results"][0]["series"][0]["values"][0][1].as_u64().unwrap_or_default()
    };
    until("points beside those that are refused", || {
        assert!(collect.child_runs(), "{}", collect.printed());
        (of("w.m") > 3).then_some(())
    });
    collect.signal("TERM");
    assert_eq!(collect.ended(), Some(0), "{}", collect.printed());
    let printed = collect.printed();
    assert!(
        printed.contains("field type conflict") && printed.contains("they are not sent again"),
        "{printed}"
    );
    assert_eq!(of("w.n"), 1, "the text alone");
    // A poll that is under way at the end is given up.
    let asked = server.asked().len() as u64;
    assert!((asked - 1..=asked).contains(&of("w.m")), "each once: {asked}, {}", of("w.m"));
    let refused = |it: &str| it.split("refused=").nth(1)?.split_whitespace().next()?.parse::<u64>().ok();
    let last = printed.lines().find(|it| it.contains("Collecting has ended.")).and_then(refused);
    assert!(last.is_some_and(|it| it > 0), "{printed}");
}

/// The status of what is posted.
fn post(http: u16, path: &str, body: &str) -> Option<u16> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", http)).ok()?;
    write!(stream, "POST {path} HTTP/1.0\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

/// By the aggregator into the database, and out of it again: each point that was measured is there once.
#[test]
fn what_an_aggregator_sends_on_comes_out_of_a_real_influxdb() {
    let dir = tempfile::tempdir().unwrap();
    let (http, link) = (port(), port());
    let _influxd = started(dir.path(), http);
    ask(http, &format!("POST /query?q=CREATE%20DATABASE%20{DATABASE}")).unwrap();
    let output = json!({ "kind": "influx", "url": format!("http://127.0.0.1:{http}"), "database": DATABASE, "measurement": "host" });
    let config = json!({ "listen": format!("127.0.0.1:{link}"), "data": "kept", "outputs": [output], "bounds": { "batch_ms": 50 } });
    let path = dir.path().join("aggregator.json");
    std::fs::write(&path, config.to_string()).unwrap();
    let program = env!("CARGO_BIN_EXE_outrider-aggregator");
    let mut aggregator =
        Running::start(Command::new(program).arg("--config").arg(&path), &dir.path().join("aggregator.out"));
    let outputs = json!([
        { "kind": "aggregator", "address": format!("127.0.0.1:{link}") },
        { "kind": "json_lines", "path": dir.path().join("samples") },
    ]);
    configure(&dir.path().join("root"), &with_outputs(&outputs));
    let mut collect =
        Running::start(outrider(&dir.path().join("root")).arg("collect"), &dir.path().join("out"));
    let counted = || {
        let counted = query(http, "SELECT count(\"container.cpu.usage\") FROM host WHERE env = 'test'");
        counted["results"][0]["series"][0]["values"][0][1].as_u64()
    };
    until("points in it", || {
        assert!(collect.child_runs() && aggregator.child_runs(), "{}", collect.printed());
        counted().filter(|it| *it > 3)
    });
    collect.signal("TERM");
    assert_eq!(collect.ended(), Some(0), "{}", collect.printed());
    let rounds = super::lines(&dir.path().join("samples")).len() as u64;
    until("all of them", || counted().filter(|it| *it >= rounds));
    assert_eq!(counted(), Some(rounds));
    let last = query(http, "SELECT last(\"container.cpu.usage\"), cgroup FROM host");
    let row = &last["results"][0]["series"][0]["values"][0];
    assert_eq!((&row[1], &row[2]), (&json!(730_565_764), &json!("/docker/c0ffee")), "{last}");
    aggregator.signal("TERM");
    assert_eq!(aggregator.ended(), Some(0), "{}", aggregator.printed());
}
