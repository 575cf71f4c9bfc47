//! The service as a whole, in this process: real HTTP against a scripted backend, real processes as actions.

mod action;
mod backend;
mod bad_backend;
mod cancelling;
mod collecting;
mod commands;
mod crashing;
mod enrolling;
mod relay;
mod surviving;
mod uplink;

use std::path::{Path, PathBuf};
use std::time::Duration;

use outrider_home::{CONFIG_VERSION, Config, Limits, Root, Secret};
use outrider_protocol::ids::AgentId;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::run::{ServiceError, Stopped, serve};
use crate::uplink::Timing;

use backend::{Backend, Server, TOKEN};

/// A root, the program that its service runs for actions, and where its backend is.
struct Agent {
    dir: tempfile::TempDir,
    config: Config,
}

/// A running service.
struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<Stopped, ServiceError>>,
}

impl Agent {
    /// An enrolled agent whose actions are carried out by `script`, the body of a Python program.
    fn new(server: &Server, script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits {
            cancel_grace_s: 2,
            term_grace_s: 1,
            start_timeout_s: 20,
            request_timeout_s: 10,
            stop_timeout_s: 20,
            upload_chunk_bytes: 65_536,
            ..Limits::default()
        };
        let config = Config {
            version: CONFIG_VERSION,
            agent: AgentId::new("a1").unwrap(),
            customer_id: None,
            backend: format!("http://{}", server.addr),
            token: Secret::new(TOKEN),
            channel: "dev".into(),
            integrations_dir: None,
            ca_file: None,
            extra_integrations: Vec::new(),
            collect: None,
            backend_collect: true,
            share_last_processed: false,
            limits,
        };
        let agent = Self { dir, config };
        agent.root().create().unwrap();
        action::write(&agent.program(), script);
        agent
    }

    fn root(&self) -> Root {
        Root::at(self.dir.path())
    }

    fn program(&self) -> PathBuf {
        self.dir.path().join("program.py")
    }

    /// Starts the service, with short pauses.
    fn start(&self) -> Running {
        let timing = Timing {
            retry_first: Duration::from_millis(10),
            retry_most: Duration::from_millis(200),
            stream_quiet: Duration::from_secs(5),
            poll_wait: Duration::from_millis(100),
            progress_every: Duration::from_millis(10),
            log_linger: Duration::from_millis(20),
            ..Timing::new(&self.config.limits)
        };
        self.start_with(timing)
    }

    fn start_with(&self, timing: Timing) -> Running {
        self.config.save(&self.root()).unwrap();
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            stopped.await.unwrap();
            "the test"
        };
        let (root, config) = (self.root(), self.config.clone());
        let is_kept = root.state_is_kept();
        let task = tokio::spawn(serve(root, config, self.program(), timing, is_kept, stopped));
        Running { stop, task }
    }

    /// The commands whose process was started, in order.
    fn started(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("started")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Running {
    async fn stop(self) -> Stopped {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap()
    }

    /// Ends it as `kill -9` would: nothing of it runs on.
    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

fn export() -> Value {
    json!({"action": "export", "integrations": [{"name": "mock", "config": {"k": "v"}}]})
}

fn validate() -> Value {
    json!({"action": "validate-config", "integration": {"name": "mock"}})
}

/// Waits until a file is there.
async fn until_file(path: &Path) -> String {
    for _ in 0..6000 {
        match std::fs::read_to_string(path) {
            Ok(text) if !text.is_empty() => return text,
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    panic!("{} did not appear", path.display())
}
