//! Real traffic of an export is what the schemas say, on every link.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use outrider_backend::admin::CommandState;
use serde_json::{Value, json};

use crate::support::{Stack, export, outrider, repository};

/// The schema of a link, and what has to fit it.
struct Link {
    schema: Value,
    /// How many messages of each kind were held against it.
    seen: HashMap<String, usize>,
    /// Requests that have no answer yet, by who asked and the id.
    asked: HashMap<(bool, String), String>,
}

impl Link {
    fn new(file: &str) -> Self {
        let text = std::fs::read_to_string(repository().join("schemas").join(file)).unwrap();
        Self { schema: serde_json::from_str(&text).unwrap(), seen: HashMap::new(), asked: HashMap::new() }
    }

    fn fits(&mut self, part: &Value, value: &Value, what: &str) {
        let mut schema = part.clone();
        schema["$defs"] = self.schema["$defs"].clone();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<_> = validator.iter_errors(value).map(|it| it.to_string()).collect();
        assert!(errors.is_empty(), "{what}: {errors:#?} in {value}");
        *self.seen.entry(what.to_owned()).or_default() += 1;
    }

    fn defined(&mut self, name: &str, value: &Value) {
        assert!(self.schema["$defs"][name].is_object(), "no schema of {name}");
        self.fits(&json!({ "$ref": format!("#/$defs/{name}") }), value, name);
    }

    /// A JSON-RPC message. `first` says which of the two ends wrote it.
    fn message(&mut self, first: bool, message: &Value) {
        assert_eq!(message["jsonrpc"], "2.0", "{message}");
        let id = message.get("id").map(Value::to_string);
        if let Some(method) = message["method"].as_str() {
            let known = self.schema["x-methods"][method].clone();
            assert!(known.is_object(), "no schema of {method}");
            self.fits(&known["params"], &message["params"], &format!("{method} params"));
            if let Some(id) = id {
                self.asked.insert((first, id), method.to_owned());
            }
        } else if let Some(error) = message.get("error") {
            self.defined("RpcError", error);
        } else {
            let method = self.asked.remove(&(!first, id.unwrap())).expect("an answer to a request");
            let reply = self.schema["x-methods"][&method]["reply"].clone();
            self.fits(&reply, &message["result"], &format!("{method} reply"));
        }
    }

    fn saw(&self, kinds: &[&str]) {
        for kind in kinds {
            assert!(self.seen.contains_key(*kind), "no {kind} among {:?}", self.seen);
        }
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// An integration that records what passes between the agent and the real one.
#[cfg(unix)]
fn tapped(dir: &Path, name: &str, program: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join(format!("integration-{name}"));
    let (asked, said) = (dir.join(format!("{name}.asked")), dir.join(format!("{name}.said")));
    let script = format!("#!/bin/sh\ntee {} | {program} | tee {}\n", asked.display(), said.display());
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[cfg(unix)]
#[test]
fn links_b_and_c_of_an_export_fit_their_schemas() {
    let dir = tempfile::tempdir().unwrap();
    tapped(dir.path(), "tapped-mock", env!("CARGO_BIN_EXE_integration-mock"));
    // The mock does not log; this one does.
    tapped(dir.path(), "tapped-faulty", env!("CARGO_BIN_EXE_integration-faulty"));
    let order = json!({
        "action": "export",
        "agent": { "integrations_dir": dir.path(), "customer_id": "c1" },
        "integrations": [
            { "name": "tapped-mock", "config": { "repos": 2, "pull_requests": 3 } },
            { "name": "tapped-faulty", "config": { "fault": "good" } },
            { "name": "nowhere" },
        ],
    });
    let mut action = outrider(&dir.path().join("root"))
        .args(["export", "--link"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = action.stdin.take().unwrap();
    let mut stdout = BufReader::new(action.stdout.take().unwrap()).lines();
    let mut link = Link::new("action.json");
    let mut say = |link: &mut Link, message: Value| {
        link.message(true, &message);
        writeln!(stdin, "{message}").unwrap();
    };
    let versions = json!({ "min": 1, "max": 1 });
    let initialize = json!({ "protocol": versions, "service_version": "0" });
    say(&mut link, json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": initialize }));
    let run = json!({ "command": "c1", "order": order });
    say(&mut link, json!({ "jsonrpc": "2.0", "id": 2, "method": "run", "params": run }));
    loop {
        let message: Value = serde_json::from_str(&stdout.next().unwrap().unwrap()).unwrap();
        link.message(false, &message);
        if message.get("method").is_some() && message.get("id").is_some() {
            say(&mut link, json!({ "jsonrpc": "2.0", "id": message["id"], "result": {} }));
        } else if message["id"] == 2 {
            assert_eq!(message["result"]["action"], "export", "{message}");
            break;
        }
    }
    drop(stdin);
    assert!(action.wait().unwrap().success());
    link.saw(&[
        "initialize reply",
        "run reply",
        "sealed params",
        "progress params",
        "log params",
        "child.started params",
    ]);

    link_c(dir.path(), "tapped-mock").saw(&[
        "initialize reply",
        "export reply",
        "session.start reply",
        "session.send reply",
        "session.done reply",
        "session.progress params",
        "shutdown reply",
    ]);
    link_c(dir.path(), "tapped-faulty").saw(&["initialize reply", "export reply", "log params"]);
}

/// Holds what passed between the agent and a tapped integration against link C's schema. The two files do not say what
/// came first: requests of both sides are read before answers of both.
#[cfg(unix)]
fn link_c(dir: &Path, name: &str) -> Link {
    let mut link = Link::new("integration.json");
    let of = |first: bool, way: &str| {
        lines(&dir.join(format!("{name}.{way}"))).into_iter().map(move |it| (first, it))
    };
    let (requests, answers): (Vec<_>, Vec<_>) =
        of(true, "asked").chain(of(false, "said")).partition(|(_, it)| it.get("method").is_some());
    for (first, message) in requests.iter().chain(&answers) {
        link.message(*first, message);
    }
    link
}

/// What passed through one connection: what the agent wrote, what the backend wrote.
type Recorded = Arc<Mutex<Vec<[Vec<u8>; 2]>>>;

/// Stands between agent and backend and records everything. Its threads end with the test's process.
fn record(backend: &str, recorded: Recorded) -> String {
    let backend = backend.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for agent in listener.incoming() {
            let (agent, backend) = (agent.unwrap(), TcpStream::connect(&backend).unwrap());
            let connection = {
                let mut all = recorded.lock().unwrap();
                all.push([Vec::new(), Vec::new()]);
                all.len() - 1
            };
            let ways = [(agent.try_clone().unwrap(), backend.try_clone().unwrap()), (backend, agent)];
            for (way, (mut from, mut to)) in ways.into_iter().enumerate() {
                let recorded = recorded.clone();
                std::thread::spawn(move || {
                    let mut buffer = [0; 65_536];
                    while let Ok(read @ 1..) = from.read(&mut buffer) {
                        recorded.lock().unwrap()[connection][way].extend_from_slice(&buffer[..read]);
                        if to.write_all(&buffer[..read]).is_err() {
                            break;
                        }
                    }
                    drop(to.shutdown(std::net::Shutdown::Write));
                });
            }
        }
    });
    format!("http://{address}")
}

/// The JSON values in a stream of HTTP that begin with `start`.
fn values(stream: &[u8], start: &str) -> Vec<Value> {
    let text = String::from_utf8_lossy(stream);
    let places = text.match_indices(start).map(|(at, _)| at).collect::<Vec<_>>();
    let value = |at: usize| serde_json::Deserializer::from_str(&text[at..]).into_iter::<Value>().next();
    places.into_iter().filter_map(|at| value(at)?.ok()).collect()
}

#[test]
fn link_a_of_an_export_fits_its_schemas() {
    let recorded = Recorded::default();
    let stack = Stack::start_by(&json!({}), |backend| record(backend, recorded.clone()));
    let id = stack.order(export(&json!([{ "name": "mock", "config": { "repos": 2, "pull_requests": 3 } }])));
    stack.until_state(&id, CommandState::Done);
    stack.until_uploaded();
    let (mut control, mut bulk) = (Link::new("control.json"), Link::new("bulk.json"));
    let recorded = recorded.lock().unwrap().clone();
    for [agent, backend] in &recorded {
        for message in values(agent, r#"{"jsonrpc""#) {
            control.message(true, &message);
        }
        for message in values(backend, r#"{"jsonrpc""#) {
            control.message(false, &message);
        }
        values(agent, r#"{"code":"#).iter().for_each(|it| bulk.defined("EnrollRequest", it));
        values(backend, r#"{"agent":"#)
            .iter()
            .filter(|it| it.get("token").is_some())
            .for_each(|it| bulk.defined("EnrollReply", it));
        values(backend, r#"{"kind":"run""#).iter().for_each(|it| control.defined("Envelope", it));
    }
    control.saw(&[
        "agent.hello reply",
        "command.accepted reply",
        "command.running params",
        "command.log params",
    ]);
    control.saw(&["command.progress params", "command.ended reply", "Envelope"]);
    bulk.saw(&["EnrollRequest", "EnrollReply"]);
}
