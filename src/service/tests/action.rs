//! Actions by script: programs that speak link B in raw JSON lines.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What every scripted action begins with: it answers `initialize`, and takes `run`.
const BEGIN: &str = r#"#!/usr/bin/env python3
import json, os, signal, subprocess, sys, time

def send(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()

def receive():
    line = sys.stdin.readline()
    if not line:
        os._exit(3)
    return json.loads(line)

def notify(method, params):
    send({"jsonrpc": "2.0", "method": method, "params": params})

def call(method, params):
    send({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    while True:
        message = receive()
        if "method" not in message:
            return message["result"]

def log(message):
    notify("log", {"lines": [{"time": "2026-11-21T08:00:00Z", "level": "info", "source": "mock", "message": message}]})

def report(state="done"):
    return {"action": "export", "export": command, "started_at": "2026-11-21T08:00:00Z", "duration_ms": 5,
            "integrations": [{"integration": "mock", "name": "mock", "state": state, "mode": "historical",
                              "duration_ms": 5, "models": [], "projects": []}]}

def answer(result):
    send({"jsonrpc": "2.0", "id": run["id"], "result": result})

def until_cancelled():
    while receive().get("method") != "cancel":
        pass

def note(name, text):
    with open(os.path.join(root, name), "a") as file:
        file.write(str(text) + "\n")

root = sys.argv[sys.argv.index("--root") + 1]
greeting = receive()
send({"jsonrpc": "2.0", "id": greeting["id"], "result": {"protocol": 1, "action": sys.argv[1], "version": "0"}})
run = receive()
command = run["params"]["command"]
order = run["params"]["order"]
if sys.argv[1] == "describe-integrations":
    about = {"protocol": 1, "name": "mock", "version": "1"}
    answer({"action": "describe-integrations", "integrations": [{"name": "mock", "about": about}], "failed": []})
    sys.stdin.read()
    sys.exit(0)
note("started", command)
"#;

/// And what it ends with: the end of stdin says that the service has read the answer.
const END: &str = "\nsys.stdin.read()\n";

/// Answers at once that everything is done.
pub(super) const DONE: &str = "answer(report())";

pub(super) fn write(path: &Path, script: &str) {
    std::fs::write(path, format!("{BEGIN}{script}{END}")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
