//! APIs polled by the built program: RabbitMQ's and NATS's own, and servers that misbehave.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::aggregator::influx;
use super::http::{ask, port};
use super::receiver::Receiver;
use super::simulator::{Answer, Simulator};
use super::{check, lines, write};
use crate::support::{Running, outrider, until};

/// One system with one VDC of these nodes.
fn system(nodes: &Value, login: &Value) -> Value {
    json!([{ "name": "s", "login": login, "vdcs": [{ "name": "v", "nodes": nodes }] }])
}

/// A section with one group of one system.
fn section(nodes: &Value, login: &Value, apis: &Value) -> Value {
    json!({ "apis": [{ "name": "g", "interval_ms": 100, "systems": system(nodes, login), "apis": apis }] })
}

/// `collect`, with the events in a file.
fn collect(folder: &Path, section: &Value) -> (Running, PathBuf) {
    let mut section = section.clone();
    let file = folder.join("events");
    section["outputs"] = json!([{ "kind": "json_lines", "path": file }]);
    let config = write(folder, &section);
    let mut command = outrider(&folder.join("root"));
    (Running::start(command.args(["collect", "--config"]).arg(config), &folder.join("out")), file)
}

/// A broker with its own port mapper, in a folder of its own.
struct Rabbit {
    http: u16,
    folder: PathBuf,
    _mapper: Running,
    script: Running,
}

const RABBITMQ: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

impl Rabbit {
    fn start(folder: &Path) -> Self {
        assert!(
            Path::new(RABBITMQ).exists(),
            "this test needs {RABBITMQ}, on Debian the package rabbitmq-server"
        );
        let (mapper, amqp, http) = (port().to_string(), port(), port());
        let place = |name: &str| folder.join(name);
        std::fs::write(place("plugins"), "[rabbitmq_management].").unwrap();
        let config = format!(
            "listeners.tcp.1 = 127.0.0.1:{amqp}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {http}\n\
             log.console = true\nlog.file = false\n"
        );
        std::fs::write(place("rabbit.conf"), config).unwrap();
        let mut epmd = Command::new("epmd");
        let epmd = Running::start(epmd.args(["-address", "127.0.0.1", "-port", &mapper]), &place("epmd.out"));
        let mut script = Command::new(RABBITMQ);
        script
            .env("HOME", folder)
            .envs([("ERL_EPMD_PORT", mapper.as_str()), ("ERL_EPMD_ADDRESS", "127.0.0.1")])
            .env("RABBITMQ_NODENAME", "outrider@localhost")
            .env("RABBITMQ_MNESIA_BASE", place("mnesia"))
            .env("RABBITMQ_LOG_BASE", place("log"))
            .env("RABBITMQ_CONF_ENV_FILE", place("none"))
            .env("RABBITMQ_CONFIG_FILE", place("rabbit.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", place("plugins"))
            .env("RABBITMQ_PID_FILE", place("pid"))
            .env("RABBITMQ_DIST_PORT", port().to_string())
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}");
        let script = Running::start(&mut script, &place("rabbit.out"));
        let mut it = Self { http, folder: folder.to_owned(), _mapper: epmd, script };
        until("RabbitMQ to answer", || {
            assert!(it.script.child_runs(), "{}", it.script.printed());
            ask(http, &format!("GET /api/nodes{AS_GUEST}"))
                // What it counts comes a while after it runs.
                .filter(|it| it.contains("\"running\":true") && it.contains("\"mem_used\":"))
        });
        it
    }
}

impl Drop for Rabbit {
    /// The script does not take the broker with it.
    fn drop(&mut self) {
        if let Ok(pid) = std::fs::read_to_string(self.folder.join("pid")) {
            drop(Command::new("kill").args(["-9", pid.trim()]).status());
        }
    }
}

/// The rest of a request's line and the login of a new broker's guest, for [`ask`], which adds the version.
const AS_GUEST: &str = "?x HTTP/1.0\r\nauthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\nx: x";

#[test]
fn rabbitmq_is_polled_page_by_page_and_node_by_node() {
    let dir = tempfile::tempdir().unwrap();
    let rabbit = Rabbit::start(dir.path());
    for queue in ["a", "b", "c", "d", "e"] {
        let made = ask(rabbit.http, &format!("PUT /api/queues/%2F/{queue}{AS_GUEST}"));
        assert_eq!(made.as_deref(), Some(""), "{queue}");
    }
    let node = json!([{ "url": format!("http://127.0.0.1:{}", rabbit.http), "id": "outrider@localhost" }]);
    let mut login = json!({ "kind": "basic", "user": "guest", "password": "guest" });
    let pages = json!({ "kind": "number", "query": "page", "size_query": "page_size", "size": 2, "last_field": "page_count" });
    let apis = json!([
        { "name": "queues", "level": "system", "path": "/api/queues", "pages": pages, "split": "items",
          "jq": "select(.name != \"c\") | {name, vhost, durable}" },
        { "name": "node", "level": "node", "path": "/api/nodes/{node.id}", "flatten": true, "drop": ["*_details"] },
    ]);
    let (events, told, code) = check(dir.path(), &section(&node, &login, &apis));
    assert_eq!(code, Some(0), "{told}");
    let mut queues: Vec<_> = events.iter().filter(|it| it["event"] == "queues").collect();
    queues.sort_by_key(|it| it["fields"]["name"].to_string());
    let names: Vec<_> = queues.iter().map(|it| it["fields"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b", "d", "e"], "all pages, without what the program leaves out");
    assert_eq!(queues[0]["fields"], json!({ "name": "a", "vhost": "/", "durable": false }));
    let node_event = events.iter().find(|it| it["event"] == "node").unwrap();
    let fields = node_event["fields"].as_object().unwrap();
    assert_eq!(node_event["tags"]["node_id"], "outrider@localhost");
    assert!(fields["mem_used"].as_u64().unwrap() > 1_000_000, "{fields:?}");
    assert!(fields.contains_key("metrics_gc_queue_length.queue_deleted"), "flattened: {fields:?}");
    assert!(!fields.keys().any(|it| it.ends_with("_details")), "{fields:?}");

    // Another password.
    login["password"] = "not-a-real-password".into();
    let (events, told, code) = check(dir.path(), &section(&node, &login, &apis));
    assert_eq!((events.len(), code), (0, Some(1)));
    assert!(told.contains("g/s/queues: 127.0.0.1:") && told.contains("it answers 401: {\"error\""), "{told}");
    assert!(!told.contains("not-a-real-password"), "{told}");
}

fn nats(folder: &Path, http: u16) -> Running {
    let there = Command::new("nats-server").arg("-v").output();
    assert!(there.is_ok(), "this test needs nats-server, on Debian the package nats-server: {there:?}");
    let ports = [port().to_string(), http.to_string()];
    let args = ["-a", "127.0.0.1", "-p", &ports[0], "-m", &ports[1]];
    Running::start(Command::new("nats-server").args(args), &folder.join("nats.out"))
}

#[test]
fn nats_is_polled_again_and_again_and_its_death_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let http = port();
    let mut server = nats(dir.path(), http);
    until("NATS to answer", || ask(http, "GET /healthz").filter(|it| it.contains("ok")));
    let node = json!([format!("http://127.0.0.1:{http}")]);
    let apis = json!([
        { "name": "varz", "level": "node", "path": "/varz", "time": { "field": "now" },
          "jq": "{now, cpu, mem, connections, in_msgs}" },
        { "name": "connz", "level": "vdc", "path": "/connz", "flatten": true },
    ]);
    let mut config = section(&node, &json!(null), &apis);
    config["apis"][0]["tries"] = 1.into();
    config["tags"] = json!({ "env": "test" });
    let (mut collect, file) = collect(dir.path(), &config);
    let of = |name: &str| lines(&file).into_iter().filter(|it| it["event"] == name).collect::<Vec<_>>();
    until("events of both", || {
        assert!(collect.child_runs(), "{}", collect.printed());
        (of("varz").len() > 3 && of("connz").len() > 3).then_some(())
    });
    let first = &of("varz")[0];
    assert!(first["fields"]["mem"].as_u64().unwrap() > 0 && first["fields"]["connections"] == 0, "{first}");
    assert_eq!(
        first["tags"],
        json!({ "env": "test", "system": "s", "vdc": "v", "node": format!("127.0.0.1:{http}") })
    );
    let times: Vec<_> = of("varz").iter().map(|it| it["time"].as_str().unwrap().to_owned()).collect();
    assert!(times.windows(2).all(|it| it[0] < it[1]), "the times are those of the server: {times:?}");

    drop(server.child.kill());
    server.ended();
    until("both deaths to be told", || {
        (collect.printed().matches("cannot be polled;").count() == 2).then_some(())
    });
    let before = collect.printed();
    server = nats(dir.path(), http);
    until("both to work again", || {
        assert!(server.child_runs(), "{}", server.printed());
        (collect.printed().matches("can be polled again").count() == 2).then_some(())
    });
    assert_eq!(collect.printed().matches("cannot be polled;").count(), 2, "{before}\n{}", collect.printed());
    let brought = of("varz").len();
    until("more events", || (of("varz").len() > brought).then_some(()));
    collect.signal("TERM");
    assert_eq!(collect.ended(), Some(0), "{}", collect.printed());
    assert!(!std::fs::read_to_string(&file).unwrap().contains("\"points\""), "the host was not measured");
}

#[test]
fn what_servers_say_in_place_of_json_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = Simulator::start(|_| Answer::ok("{}"));
    let there = elsewhere.url();
    let server = Simulator::start(move |asked| match asked.line.as_str() {
        "GET /html" => Answer::ok("<html>\n<b>Please   log in</b>"),
        "GET /cut" => Answer::ok("{\"a\": [1, 2"),
        "GET /endless" => Answer::Endless,
        "GET /hang" => Answer::Hang,
        "GET /moved" => {
            Answer::With(302, vec![("location".into(), format!("{there}/x?token=1"))], String::new())
        }
        "GET /odd" => Answer::ok("{\"a\": 1, \"a\": [{\"deep\": {\"b\": null}}], \"\\u0000\": \"x\"}"),
        "GET /scalar" => Answer::ok("3"),
        "GET /loop" => Answer::ok("{\"a\": 1}"),
        _ => Answer::With(404, Vec::new(), "no such page, not-a-real-token".into()),
    });
    let names = ["html", "cut", "endless", "hang", "moved", "odd", "scalar", "missing"];
    let mut apis: Vec<_> =
        names.iter().map(|it| json!({ "name": it, "level": "system", "path": format!("/{it}") })).collect();
    apis.push(json!({ "name": "loop", "level": "system", "path": "/loop", "jq": "def f: f; f" }));
    let login = json!({ "kind": "bearer", "token": "not-a-real-token" });
    let mut section = section(&json!([server.url()]), &login, &json!(apis));
    for (name, value) in [("timeout_ms", 2000), ("tries", 2), ("block_ms", 0), ("answer_bytes", 1 << 20)] {
        section["apis"][0][name] = value.into();
    }
    let (events, told, code) = check(dir.path(), &section);
    assert_eq!((events.len(), code), (1, Some(1)), "{told}");
    assert_eq!(events[0]["fields"], json!({ "a": [{ "deep": { "b": null } }], "\u{0}": "x" }));
    for said in [
        "g/s/html: 127.0.0.1:",
        "/html: it answers with a page of HTML or XML, not JSON: <html> <b>Please log in</b>",
        "/cut: its answer is no JSON (EOF",
        "/endless: its answer is larger than the 1048576 bytes of `answer_bytes`",
        "/hang: no answer within the time",
        &format!("/moved: it answers 302 and leads to {}, where no secret is sent", elsewhere.url()),
        "/scalar: an event would be a number; expected an object",
        "/missing: it answers 404: no such page, ***",
        "/loop: the program `jq` has not ended within 10 s",
    ] {
        assert!(told.contains(said), "{said}\n{told}");
    }
    assert!(!told.contains("not-a-real-token") && elsewhere.asked().is_empty(), "{told}");
    assert_eq!(server.of("GET /missing").len(), 1, "what cannot pass is not tried again");
    assert_eq!(server.of("GET /html").len(), 2);
}

#[test]
fn a_post_is_tried_again_whole_and_no_sooner_than_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let begun = std::time::Instant::now();
    let times = std::sync::Mutex::new(Vec::new());
    let server = Simulator::start(move |asked| {
        let mut times = times.lock().unwrap();
        times.push(begun.elapsed());
        match times.len() {
            1 => Answer::With(503, vec![("retry-after".into(), "2".into())], "busy".into()),
            2 => Answer::status(500),
            _ => Answer::ok(
                json!({ "after_s": (times[1] - times[0]).as_secs(), "body": asked.body }).to_string(),
            ),
        }
    });
    let apis = json!([{ "name": "p", "level": "system", "path": "/p", "body": { "of": "{system.name}" } }]);
    let (events, told, code) = check(dir.path(), &section(&json!([server.url()]), &json!(null), &apis));
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(events[0]["fields"]["body"], "{\"of\":\"s\"}");
    assert!(events[0]["fields"]["after_s"].as_u64().unwrap() >= 2, "{events:?}");
    assert!(server.of("POST /p").iter().all(|it| it.body == "{\"of\":\"s\"}"), "{:?}", server.asked());
}

/// The windows that were asked for, in order.
fn windows(server: &Simulator) -> Vec<(u64, u64)> {
    let number = |it: Option<&str>| it.unwrap().parse().unwrap();
    server.of("GET /w").iter().map(|it| (number(it.query("from")), number(it.query("to")))).collect()
}

#[test]
fn windows_join_across_kills_and_a_poll_never_overlaps() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    let dir = tempfile::tempdir().unwrap();
    let under_way = Arc::new(AtomicU32::new(0));
    let at_server = Arc::clone(&under_way);
    let server = Simulator::start(move |asked| {
        assert!(asked.is("GET /w"));
        // Longer than the interval.
        let overlaps = at_server.fetch_add(1, Ordering::SeqCst) > 0;
        std::thread::sleep(std::time::Duration::from_millis(150));
        at_server.fetch_sub(1, Ordering::SeqCst);
        Answer::ok(json!({ "overlaps": overlaps, "from": asked.query("from") }).to_string())
    });
    let window = json!({ "format": "unix_ms", "step_ms": 10, "first_ms": 1000 });
    let path = "/w?from={window.start}&to={window.end}";
    let apis = json!([{ "name": "w", "level": "system", "path": path, "window": window }]);
    let config = section(&json!([server.url()]), &json!(null), &apis);
    let file = dir.path().join("events");
    for round in 1..4 {
        let (mut collect, _) = collect(dir.path(), &config);
        until("some windows", || {
            assert!(collect.child_runs(), "{}", collect.printed());
            (lines(&file).len() >= round * 4).then_some(())
        });
        collect.signal("KILL");
        drop(collect.child.wait());
        // The server goes on with what a dead client asked.
        until("the server to be done", || (under_way.load(Ordering::SeqCst) == 0).then_some(()));
    }
    let events = lines(&file);
    assert!(events.iter().all(|it| it["fields"]["overlaps"] == false), "{events:?}");
    let asked = windows(&server);
    let mut ends = asked[0].0;
    for (from, to) in &asked {
        // One that was under way at a kill is asked for again from the same moment.
        let begins_anew = asked.iter().any(|it| it.0 == *from && it.1 == ends);
        assert!(*from == ends || begins_anew, "a gap or an overlap at {from}: {asked:?}");
        assert!(from < to);
        ends = *to;
    }
    let mut begun: Vec<_> = events.iter().map(|it| it["fields"]["from"].as_str().unwrap()).collect();
    let all = begun.len();
    begun.dedup();
    assert!(all - begun.len() <= 3, "at most one window twice for each kill: {events:?}");
}

/// The receiver is away while windows are asked for and the process is killed at moments that only the seed knows: what a window
/// brought whose end is kept arrives.
#[test]
fn what_a_window_brought_survives_every_kill_once_the_window_is_over() {
    const KILLS: u64 = 6;
    let dir = tempfile::tempdir().unwrap();
    let server = Simulator::start(|asked| Answer::ok(format!("{{\"end\": {}}}", asked.query("to").unwrap())));
    let away = port();
    let window = json!({ "format": "unix_ms", "step_ms": 10, "first_ms": 1000 });
    let path = "/w?from={window.start}&to={window.end}";
    let apis = json!([{ "name": "w", "level": "system", "path": path, "window": window }]);
    let mut section = section(&json!([server.url()]), &json!(null), &apis);
    let mut output = influx("one", away);
    output["queue_bytes"] = (8 << 20).into();
    section["outputs"] = json!([output]);
    let config = write(dir.path(), &section);
    let root = dir.path().join("root");
    let begin = || {
        let mut command = outrider(&root);
        Running::start(command.args(["collect", "--config"]).arg(&config), &dir.path().join("out"))
    };
    let mut collect = begin();
    for kill in 0..KILLS {
        let before = windows(&server).len();
        // At another place of a poll each time.
        let more = 2 + usize::try_from(kill.wrapping_mul(0x9E37_79B9) % 4).unwrap();
        until("some windows", || {
            assert!(collect.child_runs(), "{}", collect.printed());
            (windows(&server).len() > before + more).then_some(())
        });
        collect.child.kill().unwrap();
        collect.child.wait().unwrap();
        collect = begin();
    }
    let kept = std::fs::read(root.join("state/api-windows.json")).unwrap();
    let kept: Value = serde_json::from_slice(&kept).unwrap();
    let last = kept.as_object().unwrap().values().next().unwrap().as_u64().unwrap();
    let receiver = Receiver::at(away);
    // What was under way at a kill was asked for again from the same moment, to another end.
    let asked = windows(&server);
    let is_anew = |at: usize| asked[at + 1..].iter().any(|it| it.0 == asked[at].0);
    let over = asked.iter().enumerate().filter(|(at, it)| it.1 <= last && !is_anew(*at));
    let over: Vec<_> = over.map(|it| it.1.1).collect();
    assert!(over.len() as u64 > 2 * KILLS, "{over:?}");
    until("what all windows brought", || {
        assert!(collect.child_runs(), "{}", collect.printed());
        let got: String = receiver.got().iter().map(|it| String::from_utf8_lossy(&it.body)).collect();
        over.iter().all(|it| got.contains(&it.to_string())).then_some(())
    });
}

/// A clock that was a year ahead once is told, and windows go on.
#[test]
fn windows_that_ended_ahead_of_the_clock_begin_anew() {
    let dir = tempfile::tempdir().unwrap();
    let server = Simulator::start(|_| Answer::ok("{}"));
    let window = json!({ "format": "unix_ms", "step_ms": 10, "first_ms": 1000 });
    let path = "/w?from={window.start}&to={window.end}";
    let apis = json!([{ "name": "w", "level": "system", "path": path, "window": window }]);
    let config = section(&json!([server.url()]), &json!(null), &apis);
    let state = dir.path().join("root/state");
    std::fs::create_dir_all(&state).unwrap();
    let ahead = 4_102_444_800_000_u64;
    std::fs::write(state.join("api-windows.json"), json!({ "g/s/w": ahead }).to_string()).unwrap();
    let (mut collect, _) = collect(dir.path(), &config);
    until("windows", || {
        assert!(collect.child_runs(), "{}", collect.printed());
        (windows(&server).len() > 2).then_some(())
    });
    let asked = windows(&server);
    assert!(
        asked.iter().all(|it| it.1 < ahead) && asked.windows(2).all(|it| it[0].1 == it[1].0),
        "{asked:?}"
    );
    let printed = collect.printed();
    assert_eq!(printed.matches("ended ahead of this host's clock").count(), 1, "{printed}");
    assert!(printed.contains("g/s/w") && printed.contains("ahead_s"), "{printed}");
}

/// Ten seconds' worth may come at once; and one is under way.
const AT_ONCE: usize = 11;

/// A system with a bound of requests a minute, whatever its APIs' intervals ask for.
#[test]
fn a_system_is_asked_no_more_often_than_it_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let server = Simulator::start(|_| Answer::ok("{}"));
    let apis = json!([
        { "name": "a", "level": "system", "path": "/a" },
        { "name": "b", "level": "system", "path": "/b" },
    ]);
    let mut config = section(&json!([server.url()]), &json!(null), &apis);
    config["apis"][0]["requests_per_min"] = 60.into();
    let begun = std::time::Instant::now();
    let (mut collect, _) = collect(dir.path(), &config);
    until("some requests beyond what may come at once", || {
        assert!(collect.child_runs(), "{}", collect.printed());
        (begun.elapsed().as_secs() >= 6).then_some(())
    });
    let asked = server.asked().len();
    // Twenty a second would be asked for; one is allowed, and some in advance.
    let most = usize::try_from(begun.elapsed().as_secs()).unwrap() + AT_ONCE;
    assert!((3..=most).contains(&asked), "{asked} of {most}");
}

#[test]
fn each_way_of_login_sends_what_it_says_and_pages_are_followed_by_link_and_field() {
    let dir = tempfile::tempdir().unwrap();
    let server = Simulator::start(|asked| {
        let page = asked.query("page").unwrap_or("1");
        let next = |page: &str| format!("/{page}");
        match (asked.line.split(['?', ' ']).nth(1), page) {
            (Some("/field"), "1") => {
                Answer::ok(json!({ "all": [{ "n": 1 }], "next": "/field?page=2" }).to_string())
            }
            (Some("/field"), _) => Answer::ok(json!({ "all": [{ "n": 2 }], "next": null }).to_string()),
            (Some("/link"), "1") => {
                let link = format!("<{}>; rel=\"next\"", next("link?page=2"));
                Answer::With(200, vec![("link".into(), link)], json!([{ "n": 3 }]).to_string())
            }
            (Some("/link"), _) => Answer::ok(json!([{ "n": 4 }]).to_string()),
            (Some("/offset"), _) => {
                let start: u64 = asked.query("start").unwrap().parse().unwrap();
                let all: Vec<_> = (start..(start + 2).min(3)).map(|it| json!({ "n": 5 + it })).collect();
                Answer::ok(json!(all).to_string())
            }
            _ => Answer::status(404),
        }
    });
    let apis = json!([
        { "name": "field", "level": "system", "path": "/field", "split": "all", "pages": { "kind": "next_field", "field": "next" } },
        { "name": "link", "level": "system", "path": "/link", "pages": { "kind": "link_header" } },
        { "name": "offset", "level": "system", "path": "/offset",
          "pages": { "kind": "offset", "query": "start", "size_query": "count", "size": 2 } },
    ]);
    for (login, header, value) in [
        (
            json!({ "kind": "bearer", "token": "not-a-real-token" }),
            "authorization",
            "Bearer not-a-real-token",
        ),
        (json!({ "kind": "header", "name": "X-Key", "value": "not-a-real-key" }), "x-key", "not-a-real-key"),
        (json!({ "kind": "basic", "user": "u", "password": "p" }), "authorization", "Basic dTpw"),
    ] {
        let before = server.asked().len();
        let (events, told, code) = check(dir.path(), &section(&json!([server.url()]), &login, &apis));
        assert_eq!(code, Some(0), "{told}");
        let mut numbers: Vec<_> = events.iter().map(|it| it["fields"]["n"].as_u64().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7], "{told}");
        let asked = server.asked().split_off(before);
        assert!(asked.len() >= 6 && asked.iter().all(|it| it.header(header) == Some(value)), "{asked:?}");
    }
}

#[test]
fn tokens_are_renewed_before_their_time_is_over_and_intervals_have_an_effect() {
    let dir = tempfile::tempdir().unwrap();
    let number = std::sync::atomic::AtomicU32::new(0);
    let server = Simulator::start(move |asked| {
        if asked.is("GET /login") {
            let number = number.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            return Answer::With(200, vec![("x-token".into(), format!("t{number}"))], String::new());
        }
        let is_known = asked.header("x-token").is_some();
        if is_known { Answer::ok("{}") } else { Answer::status(401) }
    });
    let login = json!({
        "kind": "token", "user": "u", "password": "not-a-real-password", "path": "/login", "header": "X-Token",
        "logout": "/logout", "expires_ms": 1000,
    });
    let apis = json!([
        { "name": "often", "level": "node", "path": "/often" },
        { "name": "seldom", "level": "node", "path": "/seldom", "interval_ms": 900 },
    ]);
    let mut config = section(&json!([server.url()]), &login, &apis);
    config["apis"][0]["requests_per_min"] = 100_000.into();
    let (mut collect, _) = collect(dir.path(), &config);
    until("three tokens", || {
        assert!(collect.child_runs(), "{}", collect.printed());
        (server.of("GET /login").len() >= 3).then_some(())
    });
    until("the old ones to be given back", || (server.of("GET /logout").len() >= 2).then_some(()));
    let (often, seldom) = (server.of("GET /often").len(), server.of("GET /seldom").len());
    assert!(often > seldom * 2 && seldom > 0, "{often} and {seldom}");
    assert_eq!(collect.printed().matches("cannot be polled").count(), 0, "{}", collect.printed());
    collect.signal("TERM");
    assert_eq!(collect.ended(), Some(0), "{}", collect.printed());
    let given: Vec<_> =
        server.of("GET /logout").iter().map(|it| it.header("x-token").map(str::to_owned)).collect();
    assert_eq!(given[..2], [Some("t0".to_owned()), Some("t1".to_owned())]);
}

/// Each token is good for one request: what follows is refused, and asked again with a new one though a request has one try.
#[test]
fn a_token_whose_time_is_over_costs_no_try() {
    let dir = tempfile::tempdir().unwrap();
    let state = std::sync::Mutex::new((0, false));
    let server = Simulator::start(move |asked| {
        let mut state = state.lock().unwrap();
        if asked.is("GET /login") {
            *state = (state.0 + 1, true);
            return Answer::With(200, vec![("x-token".into(), format!("t{}", state.0))], String::new());
        }
        let is_good = asked.header("x-token") == Some(&format!("t{}", state.0)) && state.1;
        state.1 = false;
        if is_good { Answer::ok("{}") } else { Answer::status(401) }
    });
    let login =
        json!({ "kind": "token", "user": "u", "password": "p", "path": "/login", "header": "X-Token" });
    let api = |name: &str| json!({ "name": name, "level": "system", "path": format!("/{name}") });
    let mut config = section(&json!([server.url()]), &login, &json!([api("a"), api("b"), api("c")]));
    config["apis"][0]["tries"] = 1.into();
    let (events, told, code) = check(dir.path(), &config);
    assert_eq!((events.len(), code), (3, Some(0)), "{told}");
    assert_eq!(server.of("GET /login").len(), 3);
}

#[test]
fn events_beyond_the_bound_are_counted_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let server = Simulator::start(|_| Answer::ok(json!({ "all": [{}, {}], "last": 4 }).to_string()));
    let pages = json!({ "kind": "number", "query": "page", "last_field": "last" });
    let apis = json!([{ "name": "p", "level": "system", "path": "/p", "pages": pages, "split": "all" }]);
    let mut config = section(&json!([server.url()]), &json!(null), &apis);
    config["apis"][0]["events"] = 5.into();
    let (events, told, code) = check(dir.path(), &config);
    assert_eq!((events.len(), code), (5, Some(1)), "{told}");
    assert!(told.contains("g/s/p: 3 events beyond the bound `events`"), "{told}");
    assert_eq!(server.asked().len(), 4, "all pages are counted");
}

/// A server of Python's own library that wants a certificate of its client.
const MUTUAL: &str = "
import http.server, ssl, sys
class Says(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header('content-length', '8')
        self.end_headers()
        self.wfile.write(b'{\"a\": 1}')
server = http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), Says)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain('server.pem', 'server.key')
tls.load_verify_locations('client.pem')
tls.verify_mode = ssl.CERT_REQUIRED
server.socket = tls.wrap_socket(server.socket, server_side=True)
server.serve_forever()
";

#[test]
fn both_ends_prove_who_they_are() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["server", "client"] {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(dir.path().join(format!("{name}.pem")), made.cert.pem()).unwrap();
        std::fs::write(dir.path().join(format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
    }
    let https = port();
    let mut python = Command::new("python3");
    python.current_dir(dir.path()).args(["-c", MUTUAL, &https.to_string()]);
    let mut server = Running::start(&mut python, &dir.path().join("python.out"));
    until("the server to listen", || {
        assert!(server.child_runs(), "{}", server.printed());
        std::net::TcpStream::connect(("127.0.0.1", https)).ok()
    });
    let apis = json!([{ "name": "a", "level": "system", "path": "/a" }]);
    let mut config = section(&json!([format!("127.0.0.1:{https}")]), &json!(null), &apis);
    config["apis"][0]["tries"] = 1.into();
    let failing = |config: &Value, what: &str| {
        let (events, told, code) = check(dir.path(), config);
        assert_eq!((events.len(), code), (0, Some(1)), "{what}: {told}");
        assert!(told.contains("g/s/a: 127.0.0.1:"), "{what}: {told}");
    };
    failing(&config, "a server that nobody vouches for");
    config["apis"][0]["ca_file"] = json!(dir.path().join("server.pem"));
    failing(&config, "a client without a certificate");
    config["apis"][0]["client_cert_file"] = json!(dir.path().join("client.pem"));
    config["apis"][0]["client_key_file"] = json!(dir.path().join("client.key"));
    let (events, told, code) = check(dir.path(), &config);
    assert_eq!((events.len(), code), (1, Some(0)), "{told}");
    config["apis"][0]["ca_file"] = json!(null);
    config["apis"][0]["danger_accept_any_certificate"] = true.into();
    let (events, told, _) = check(dir.path(), &config);
    assert_eq!(events.len(), 1, "{told}");
}
