//! A service that a test plays: an action with the test at the other end of its stdin and stdout.

#![cfg(unix)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use serde_json::{Value, json};

use crate::support::SOON;

/// Begins each access token that the played service gives.
pub(crate) const TOKEN: &str = "a-t0ken-that-n0body-may-read";

/// An action, and all that it said.
pub(crate) struct Played {
    pub(crate) action: Child,
    stdin: ChildStdin,
    lines: Receiver<Value>,
    pub(crate) heard: Vec<Value>,
    tokens: u64,
}

/// The number of the call `run`.
const RUN: u64 = 2;

impl Played {
    /// Starts `outrider export --link` by a command that may do more, and orders.
    pub(crate) fn start(command: &mut Command, id: &str, order: &Value) -> Self {
        let mut action = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|err| panic!("start {command:?}: {err}"));
        let (stdin, stdout) = (action.stdin.take().unwrap(), action.stdout.take().unwrap());
        let (say, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if say.send(serde_json::from_str(&line).unwrap_or(Value::Null)).is_err() {
                    return;
                }
            }
        });
        let mut this = Self { action, stdin, lines, heard: Vec::new(), tokens: 0 };
        let hello = json!({ "protocol": { "min": 1, "max": 1 }, "service_version": "0" });
        this.say(&json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello }));
        let run = json!({ "command": id, "order": order });
        this.say(&json!({ "jsonrpc": "2.0", "id": RUN, "method": "run", "params": run }));
        this
    }

    /// Orders an export at a root.
    pub(crate) fn export(root: &Path, id: &str, order: &Value) -> Self {
        let mut order = order.clone();
        order["action"] = "export".into();
        Self::start(crate::support::outrider(root).args(["export", "--link"]), id, &order)
    }

    fn say(&mut self, message: &Value) {
        writeln!(self.stdin, "{message}").unwrap();
    }

    /// Ends the order early.
    pub(crate) fn cancel(&mut self) {
        self.say(&json!({ "jsonrpc": "2.0", "method": "cancel", "params": { "reason": "a test" } }));
    }

    /// Answers what the action asks until something that it says is what was waited for.
    pub(crate) fn until(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let until = std::time::Instant::now() + SOON;
        loop {
            let left = until.saturating_duration_since(std::time::Instant::now());
            let message = match self.lines.recv_timeout(left) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => panic!("waited {SOON:?} for {what}: {:#?}", self.heard),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the action ended before {what}: {:#?}", self.heard)
                }
            };
            if message.get("method").is_some() && message.get("id").is_some() {
                let result = self.answer(&message);
                self.say(&json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }));
            }
            self.heard.push(message.clone());
            if is_it(&message) {
                return message;
            }
        }
    }

    fn answer(&mut self, asked: &Value) -> Value {
        if asked["method"] != "oauth.access_token" {
            return json!({});
        }
        if self.tokens == 0 || asked["params"]["refused"] == self.tokens {
            self.tokens += 1;
        }
        json!({ "access_token": format!("{TOKEN}-{}", self.tokens), "generation": self.tokens })
    }

    /// Waits until an integration's progress says so.
    pub(crate) fn until_progress(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let rows =
            |message: &Value| message["params"]["integrations"].as_array().cloned().unwrap_or_default();
        let message =
            self.until(what, |message| message["method"] == "progress" && rows(message).iter().any(&is_it));
        rows(&message).into_iter().find(|row| is_it(row)).unwrap()
    }

    /// Waits until an integration is paused for that.
    pub(crate) fn until_paused(&mut self, why: &str) -> Value {
        self.until_progress(why, |row| {
            row["state"] == "paused" && row["paused_for"].as_str().is_some_and(|it| it.contains(why))
        })
    }

    /// What `run` was answered with: the message with `result` or `error`.
    pub(crate) fn answered(&mut self) -> Value {
        self.until("the answer to run", |message| message["id"] == RUN && message.get("method").is_none())
    }

    /// The report of an export, which is to be there.
    pub(crate) fn report(&mut self) -> Value {
        let answer = self.answered();
        assert!(answer["result"].is_object(), "expected a report, found {answer:#}");
        answer["result"].clone()
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        drop(self.action.kill());
        drop(self.action.wait());
    }
}
