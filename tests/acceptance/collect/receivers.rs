//! Receivers that are played, in Python, with the official libraries of what they play: `receivers/` has them.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::lines;
use crate::support::{Running, printed, repository, run, until};

/// A running one, on a free port.
pub(super) struct Played {
    process: Running,
    folder: PathBuf,
    port: u16,
    /// Where it speaks gRPC, if it does.
    grpc: Option<u16>,
}

impl Played {
    /// Starts one of them, with its own flags.
    pub(super) fn start(kind: &str, folder: &Path, flags: &[(&str, &str)]) -> Self {
        let folder = folder.join(kind);
        std::fs::create_dir_all(&folder).unwrap();
        let mut command = python();
        command.arg(script(&format!("{kind}.py"))).arg("--folder").arg(&folder);
        for (name, value) in flags {
            command.arg(format!("--{name}={value}"));
        }
        let mut process = Running::start(&mut command, &folder.join("out"));
        let (port, grpc) = until("a played receiver to listen", || {
            assert!(process.child_runs(), "{}", process.printed());
            let told = process.printed();
            let behind = |words: &str| {
                let digits = told.split(words).nth(1)?.chars().take_while(char::is_ascii_digit);
                digits.collect::<String>().parse().ok()
            };
            told.contains('\n').then(|| Some((behind("listens on ")?, behind("by gRPC on "))))?
        });
        Self { process, folder, port, grpc }
    }

    pub(super) fn grpc_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.grpc.unwrap())
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The requests that it has answered.
    pub(super) fn requests(&self) -> Vec<Value> {
        self.read("requests")
    }

    /// What it has taken, as it understands it.
    pub(super) fn taken(&self) -> Vec<Value> {
        self.read("taken")
    }

    /// How much that is, for whoever asks often.
    pub(super) fn taken_count(&self) -> usize {
        let bytes = std::fs::read(self.folder.join("taken")).unwrap_or_default();
        bytes.iter().filter(|it| **it == b'\n').count()
    }

    /// The statuses that it has answered, in order.
    pub(super) fn statuses(&self) -> Vec<u64> {
        self.requests().iter().filter_map(|it| it["status"].as_u64()).collect()
    }

    fn read(&self, name: &str) -> Vec<Value> {
        // Its own errors, which end no process.
        let out = self.process.printed();
        assert!(!out.contains("Traceback"), "{out}");
        lines(&self.folder.join(name))
    }
}

fn script(name: &str) -> PathBuf {
    repository().join("tests/acceptance/collect/receivers").join(name)
}

/// A Python with the packages in `receivers/packages.txt`, which are installed on first use.
fn python() -> Command {
    let mut make = Command::new("python3");
    let made = run(make.arg(script("environment.py")).arg(repository().join("target/test-tools/receivers")));
    assert!(
        made.status.success(),
        "this test needs python3 with its module venv, on Debian the packages python3 and python3-venv, and the \
         packages in receivers/packages.txt: {}",
        printed(&made)
    );
    let mut command = Command::new(String::from_utf8(made.stdout).unwrap().trim());
    // Its caches would lie among the sources.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Has the official clients try a played receiver.
fn official_clients(kind: &str) {
    let dir = tempfile::tempdir().unwrap();
    let tried = run(python().arg(script("clients.py")).arg(kind).arg(dir.path()));
    assert!(tried.status.success(), "{}", printed(&tried));
    assert_eq!(String::from_utf8_lossy(&tried.stdout).trim(), format!("{kind}: as documented"));
}

#[test]
fn the_client_of_elasticsearch_is_told_what_its_documentation_says() {
    official_clients("bulk");
}

#[test]
fn the_client_of_datadog_is_told_what_its_documentation_says() {
    official_clients("datadog");
}

#[test]
fn the_exporters_of_opentelemetry_are_understood_by_http_and_by_grpc() {
    official_clients("otlp");
}
