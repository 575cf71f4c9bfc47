//! What runs during the demo: a backend in this process, and the service of an agent as a child.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use outrider_backend::admin::NewCode;
use outrider_backend::client::Client;
use outrider_backend::{ServeError, Settings, start};
use outrider_protocol::ids::AgentId;
use outrider_supervisor::{Child, Ended, Spawn, StopBudget};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::level_filters::LevelFilter;

use super::build::program;
use crate::output::{line, note};
use crate::report::Error;
use crate::serve::log_to;

/// The longest time until the agent is online. It takes a fraction of a second.
const ONLINE: Duration = Duration::from_secs(30);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The longest time for an enrollment.
const ENROLL: Duration = Duration::from_secs(60);
/// The service ends its actions first, each of which has graces of its own.
const STOP: StopBudget =
    StopBudget { polite: Duration::ZERO, term: Duration::from_secs(30), kill: Duration::from_secs(5) };

/// See the module.
pub(super) struct Stack {
    dir: PathBuf,
    backend: Option<Backend>,
    agent: Option<AgentId>,
    service: Option<Child>,
}

struct Backend {
    client: Client,
    login: Option<String>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Stack {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, backend: None, agent: None, service: None }
    }

    /// The agent's root.
    pub(super) fn root(&self) -> PathBuf {
        self.dir.join("agent")
    }

    /// The backend's data folder.
    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("backend")
    }

    /// The backend's log.
    pub(super) fn backend_log(&self) -> PathBuf {
        self.dir.join("backend.log")
    }

    pub(super) fn client(&self) -> Result<&Client, Error> {
        self.backend
            .as_ref()
            .map(|backend| &backend.client)
            .ok_or_else(|| Error::failed("the backend does not run"))
    }

    /// A link to the backend's pages that works once.
    pub(super) fn login(&self) -> Option<&str> {
        self.backend.as_ref()?.login.as_deref()
    }

    pub(super) fn agent(&self) -> Result<&AgentId, Error> {
        self.agent.as_ref().ok_or_else(|| Error::failed("there is no agent"))
    }

    /// Starts the backend: at a free port, or where the agent of an earlier demo in the same folder expects it.
    pub(super) async fn start_backend(&mut self) -> Result<(), Error> {
        let path = self.backend_log();
        let log =
            File::create(&path).map_err(|err| Error::failed(format!("write {}: {err}", path.display())))?;
        log_to(LevelFilter::INFO, Mutex::new(log));
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let listen = earlier_backend(&self.root()).unwrap_or(free);
        let backend = start(Settings::new(self.data(), listen)).await.map_err(|err| Error::failure(&err))?;
        let token = backend.data().admin_token().map_err(|err| Error::failure(&err))?;
        let client = Client::new(&backend.url(), &token, None)?;
        let login = backend.login_link().await;
        line(&format!("backend  {} (data in {})", backend.url(), self.data().display()));
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(backend.run_until(async move { drop(stopped.await) }));
        self.backend = Some(Backend { client, login, stop, task });
        Ok(())
    }

    /// Enrolls an agent, if the folder has none yet.
    pub(super) async fn enroll(&mut self) -> Result<(), Error> {
        if self.root().join("config.json").is_file() {
            return Ok(());
        }
        let client = self.client()?;
        let new = NewCode { note: Some("the demo's agent".into()), ..NewCode::default() };
        let code = client.create_code(&new).await?.code;
        let spawn = Spawn::new(program("outrider")?)
            .args(["enroll", &code, "--backend", client.url(), "--channel", "dev", "--no-service", "--root"])
            .arg(self.root());
        let mut child = spawn.start().map_err(|err| Error::failure(&err))?;
        read_away(&mut child);
        let Ok(ended) = tokio::time::timeout(ENROLL, child.wait()).await else {
            return Err(Error::failed(format!(
                "`outrider enroll` did not end within {} s",
                ENROLL.as_secs()
            )));
        };
        if ended.how.is_ok() { Ok(()) } else { Err(failed("outrider enroll", &ended)) }
    }

    /// Starts the agent's service and waits until it is online.
    pub(super) async fn start_service(&mut self) -> Result<(), Error> {
        let spawn = Spawn::new(program("outrider")?).args(["service-run", "--root"]).arg(self.root());
        let mut child = spawn.start().map_err(|err| Error::failure(&err))?;
        // It writes its log to stdout as well as to a file; the file is enough.
        read_away(&mut child);
        let service = self.service.insert(child);
        let client = self.backend.as_ref().map(|backend| &backend.client);
        let client = client.ok_or_else(|| Error::failed("the backend does not run"))?;
        let agent = tokio::select! {
            agent = online(client) => agent?,
            ended = service.wait() => return Err(failed("outrider service-run", &ended)),
            () = tokio::time::sleep(ONLINE) => {
                return Err(Error::failed(format!("the agent was not online within {} s", ONLINE.as_secs()))
                    .hint(format!("its log is {}", self.root().join("logs/service-run").display())));
            }
        };
        line(&format!("agent    {agent} (root in {})", self.root().display()));
        self.agent = Some(agent);
        Ok(())
    }

    /// Waits for the service's end, which nobody asked for.
    pub(super) async fn service_ended(&mut self) -> String {
        match &mut self.service {
            Some(service) => service.wait().await.how.to_string(),
            None => std::future::pending().await,
        }
    }

    /// Ends everything, the agent first.
    pub(super) async fn stop(self) {
        if let Some(mut service) = self.service {
            service.stop(std::future::ready(()), STOP).await;
        }
        if let Some(backend) = self.backend {
            // It fails only if the backend has ended already.
            _ = backend.stop.send(());
            if let Ok(Err(err)) = backend.task.await {
                note(&format!("the backend ended badly: {err}"));
            }
        }
    }
}

/// Reads a child's stdout, so that it never waits for a reader nor loses one.
pub(super) fn read_away(child: &mut Child) {
    if let Some(mut stdout) = child.take_stdout() {
        tokio::spawn(async move { drop(tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await) });
    }
}

/// The first agent that is online.
async fn online(client: &Client) -> Result<AgentId, Error> {
    loop {
        if let Some(agent) = client.agents().await?.into_iter().find(|agent| agent.online) {
            return Ok(agent.id);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Where the agent in this root looks for its backend.
fn earlier_backend(root: &Path) -> Option<SocketAddr> {
    let text = std::fs::read(root.join("config.json")).ok()?;
    let config: serde_json::Value = serde_json::from_slice(&text).ok()?;
    config["backend"].as_str()?.strip_prefix("http://")?.trim_end_matches('/').parse().ok()
}

fn failed(what: &str, ended: &Ended) -> Error {
    let mut text = format!("`{what}` {}", ended.how);
    for last in &ended.last_stderr {
        text.push_str("\n  | ");
        text.push_str(last);
    }
    Error::failed(text)
}
