//! What the acceptance tests share: the built programs, a whole stack of them, and waiting for a state.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use outrider_backend::DataFolder;
use outrider_backend::admin::{Agent, Command as Ordered, CommandState, FileFilter, NewCode, NewCommand};
use outrider_backend::client::{Client, ClientError};
use outrider_protocol::action::{AgentConfig, ExportOrder, IntegrationConfig, Order};
use outrider_protocol::ids::{AgentId, CommandId};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The agent.
pub(crate) const OUTRIDER: &str = env!("CARGO_BIN_EXE_outrider");
/// The backend.
pub(crate) const BACKEND: &str = env!("CARGO_BIN_EXE_outrider-backend");
/// The longest wait for something that is bound to happen. Long, since machines are shared; a state ends it at once.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The repository's top.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// Looks again and again until `look` finds something, and fails with `what` when it does not.
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_or(what, look, String::new)
}

/// The same, and tells more where it fails.
pub(crate) fn until_or<T>(
    what: &str,
    mut look: impl FnMut() -> Option<T>,
    more: impl FnOnce() -> String,
) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < SOON, "waited {SOON:?} for {what} {}", more());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A process that dies with its owner, and what it printed.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) child: Child,
    output: PathBuf,
}

impl Running {
    /// Starts a program; its stdout and stderr go to a file.
    pub(crate) fn start(command: &mut Command, output: &Path) -> Self {
        let file = std::fs::File::options().create(true).append(true).open(output).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|err| panic!("start {command:?}: {err}"));
        Self { child, output: output.to_owned() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    pub(crate) fn printed(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Whether it has not ended.
    pub(crate) fn child_runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends a signal by name, as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().unwrap();
        assert!(sent.success(), "kill -s {name} {}", self.pid());
    }

    /// Waits for its end, and returns the exit status.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        until("the end of a process", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|err| panic!("start {command:?}: {err}"))
}

/// The agent's program with a root.
pub(crate) fn outrider(root: &Path) -> Command {
    let mut command = Command::new(OUTRIDER);
    command.env_remove("OUTRIDER_LOG").env("OUTRIDER_ROOT", root);
    command
}

/// What a program printed, both ways, for messages.
pub(crate) fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A backend, an enrolled agent, and its service.
pub(crate) struct Stack {
    pub(crate) dir: TempDir,
    pub(crate) agent: AgentId,
    pub(crate) client: Client,
    pub(crate) backend: Running,
    pub(crate) service: Running,
    runtime: Runtime,
}

impl Stack {
    /// Starts everything. `limits` are set in config.json, as a person would by hand.
    pub(crate) fn start(limits: &Value) -> Self {
        Self::start_by(limits, str::to_owned)
    }

    /// The same, with the agent reaching the backend by another address.
    pub(crate) fn start_by(limits: &Value, address: impl FnOnce(&str) -> String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let backend = start_backend(dir.path(), "127.0.0.1:0");
        let client = client(&runtime, dir.path());
        let root = dir.path().join("root");
        let code = runtime.block_on(client.create_code(&NewCode::default())).unwrap().code;
        let backend_url = address(client.url());
        let enrolled =
            run(outrider(&root).args(["enroll", &code, "--backend", &backend_url, "--no-service"]));
        assert!(enrolled.status.success(), "{}", printed(&enrolled));
        edit_config(&root, |config| config["limits"] = limits.clone());
        let agent = runtime.block_on(client.agents()).unwrap().remove(0).id;
        let service = start_service(dir.path());
        Self { dir, agent, client, backend, service, runtime }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// What a call of the client comes to.
    pub(crate) fn ask<T>(&self, call: impl Future<Output = T>) -> T {
        self.runtime.block_on(call)
    }

    /// A link that logs a browser in.
    pub(crate) fn login_link(&self) -> String {
        self.runtime.block_on(self.client.login_link()).unwrap()
    }

    /// Kills the service as `kill -9` does.
    pub(crate) fn kill_service(&mut self) {
        self.service.child.kill().unwrap();
        self.service.child.wait().unwrap();
    }

    pub(crate) fn start_service(&mut self) {
        self.service = start_service(self.dir.path());
    }

    /// Waits until the service has reached the backend, and so listens to signals.
    pub(crate) fn until_connected(&self) {
        until("the service to connect", || {
            self.service.printed().contains("Connected to the backend").then_some(())
        });
    }

    /// Ends the backend.
    pub(crate) fn stop_backend(&mut self) {
        self.backend.signal("TERM");
        self.backend.ended();
    }

    /// Starts the backend again at the address it had.
    pub(crate) fn start_backend_again(&mut self) {
        let address = self.client.url().trim_start_matches("http://").trim_end_matches('/').to_owned();
        self.backend = start_backend(self.dir.path(), &address);
        drop(client(&self.runtime, self.dir.path()));
    }

    pub(crate) fn agent(&self) -> Agent {
        self.runtime.block_on(self.client.agent(&self.agent)).unwrap()
    }

    /// Orders something of the agent.
    pub(crate) fn order(&self, order: Order) -> CommandId {
        let new = NewCommand::new(self.agent.clone(), order);
        let ordered = self.runtime.block_on(self.client.create_command(&new));
        ordered.unwrap_or_else(|err| panic!("order an export: {err}\n{}", self.backend.printed())).summary.id
    }

    pub(crate) fn command(&self, id: &CommandId) -> Ordered {
        self.runtime.block_on(self.client.command(id)).unwrap()
    }

    /// How far a command is.
    pub(crate) fn progress(&self, id: &CommandId) -> outrider_protocol::progress::Progress {
        self.runtime.block_on(self.client.progress(id)).unwrap()
    }

    pub(crate) fn cancel(&self, id: &CommandId) {
        self.runtime.block_on(self.client.cancel(id, "a test")).unwrap();
    }

    /// The same for a command that may have ended by now, which the backend refuses.
    pub(crate) fn cancel_if_it_runs(&self, id: &CommandId) {
        match self.runtime.block_on(self.client.cancel(id, "a test")) {
            Ok(_) | Err(ClientError::Refused { status: 409, .. }) => {}
            Err(err) => panic!("{err}"),
        }
    }

    /// Waits until a command is in a state.
    pub(crate) fn until_state(&self, id: &CommandId, state: CommandState) -> Ordered {
        let mut last = None;
        let started = Instant::now();
        while started.elapsed() < SOON {
            let command = self.command(id);
            if command.summary.state == state {
                return command;
            }
            assert!(
                !command.summary.state.is_end(),
                "expected {state}, found {command:#?}\n{}",
                self.service.printed()
            );
            last = Some(command);
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("waited {SOON:?} for {state}: {last:#?}\n{}", self.service.printed());
    }

    /// The lines of a command's log.
    pub(crate) fn log(&self, id: &CommandId) -> Vec<String> {
        let lines = self.runtime.block_on(self.client.logs(id, Default::default())).unwrap();
        lines.into_iter().map(|it| it.line.to_string()).collect()
    }

    /// The objects of a model that the backend has from an export, once all its files are there.
    pub(crate) fn objects(&self, export: &CommandId, model: &str) -> Vec<Value> {
        let filter = FileFilter { export: Some(export.clone().into()), ..FileFilter::default() };
        let files = self.runtime.block_on(self.client.files(&filter)).unwrap();
        let mut objects = Vec::new();
        for file in files.into_iter().filter(|file| file.model.as_str() == model) {
            let bytes = self.runtime.block_on(self.client.download(&file)).unwrap();
            let found = unzip(&bytes);
            assert_eq!(found.len() as u64, file.objects, "objects of {}", file.path);
            objects.extend(found);
        }
        objects
    }

    /// Waits until nothing of the spool is left to upload.
    pub(crate) fn until_uploaded(&self) {
        let spool = self.root().join("spool");
        until("the upload of every spool file", || sealed(&spool).is_empty().then_some(()));
    }
}

/// Sealed files in the spool that are not acknowledged.
pub(crate) fn sealed(spool: &Path) -> Vec<PathBuf> {
    let find = run(Command::new("find").arg(spool).args(["-name", "*.json.gz", "-not", "-path", "*/sent/*"]));
    String::from_utf8_lossy(&find.stdout).lines().map(PathBuf::from).collect()
}

/// The objects of a spool file.
pub(crate) fn unzip(bytes: &[u8]) -> Vec<Value> {
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The objects of a model in a root's spool, from every export by hand.
pub(crate) fn spooled(root: &Path, model: &str) -> Vec<Value> {
    let files = sealed(&root.join("spool"));
    let of_model = files.into_iter().filter(|path| path.parent().is_some_and(|it| it.ends_with(model)));
    of_model.flat_map(|path| unzip(&std::fs::read(path).unwrap())).collect()
}

fn start_backend(dir: &Path, listen: &str) -> Running {
    let mut serve = Command::new(BACKEND);
    serve.arg("serve").arg("--data").arg(dir.join("backend")).args(["--listen", listen]);
    Running::start(&mut serve, &dir.join("backend.out"))
}

/// A client of the backend whose data lies in `dir`, once it answers.
fn client(runtime: &Runtime, dir: &Path) -> Client {
    let data = DataFolder::at(dir.join("backend"));
    until("the backend to answer", || {
        let address = data.address().ok()?;
        let client = Client::new(&address.url, &data.admin_token().ok()?, None).ok()?;
        runtime.block_on(client.about()).ok()?;
        Some(client)
    })
}

fn start_service(dir: &Path) -> Running {
    Running::start(outrider(&dir.join("root")).arg("service-run"), &dir.join("service.out"))
}

/// Changes config.json as a person would by hand, with an editor that replaces the file.
pub(crate) fn edit_config(root: &Path, edit: impl FnOnce(&mut Value)) {
    let path = root.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    edit(&mut config);
    let new = root.join("config.json.new");
    std::fs::copy(&path, &new).unwrap();
    std::fs::write(&new, serde_json::to_vec_pretty(&config).unwrap()).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// An order to export, from its integrations as JSON.
pub(crate) fn export(integrations: &Value) -> Order {
    let integrations: Vec<IntegrationConfig> = serde_json::from_str(&integrations.to_string()).unwrap();
    Order::Export(ExportOrder { agent: AgentConfig::default(), integrations, reprocess_historical: false })
}

/// One integration from JSON.
pub(crate) fn integration(config: &Value) -> IntegrationConfig {
    serde_json::from_str(&config.to_string()).unwrap()
}

/// Runs git in a repository; identities and dates are always the same.
pub(crate) fn git(repository: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.arg("-C").arg(repository).args(["-c", "commit.gpgsign=false"]).args(args);
    for who in ["AUTHOR", "COMMITTER"] {
        command
            .env(format!("GIT_{who}_NAME"), "Ada")
            .env(format!("GIT_{who}_EMAIL"), "ada@example.com")
            .env(format!("GIT_{who}_DATE"), "2026-01-02T03:04:05Z");
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    let output = run(&mut command);
    assert!(output.status.success(), "git {args:?}: {}", printed(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Makes a repository with some commits, branches, a merge and a tag.
pub(crate) fn make_repository(path: &Path) {
    std::fs::create_dir_all(path).unwrap();
    git(path, &["init", "-q", "-b", "main"]);
    for n in 0..5 {
        commit(path, &format!("file-{}.txt", n % 2), &format!("line {n}\nanother\n"));
    }
    git(path, &["checkout", "-q", "-b", "feature"]);
    commit(path, "feature.txt", "new\n");
    git(path, &["checkout", "-q", "main"]);
    commit(path, "main.txt", "on main\n");
    git(path, &["merge", "-q", "--no-ff", "-m", "merge the feature", "feature"]);
    git(path, &["tag", "-a", "v1.0", "-m", "first"]);
}

/// Writes a file and commits it.
pub(crate) fn commit(repository: &Path, file: &str, text: &str) {
    std::fs::write(repository.join(file), text).unwrap();
    git(repository, &["add", file]);
    git(repository, &["commit", "-q", "-m", &format!("change {file}\n\nwhy it was made")]);
}

/// Whether a process is alive (and not a zombie).
pub(crate) fn alive(pid: u32) -> bool {
    let state = run(Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]));
    let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
    !state.is_empty() && !state.starts_with('Z')
}

/// Every process below one, from the system's table.
pub(crate) fn descendants(pid: u32) -> Vec<u32> {
    let table = run(Command::new("ps").args(["-eo", "pid=,ppid="]));
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    let rows: Vec<(u32, u32)> = table
        .lines()
        .filter_map(|line| {
            let mut numbers = line.split_whitespace().filter_map(|it| it.parse().ok());
            Some((numbers.next()?, numbers.next()?))
        })
        .collect();
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(rows.iter().filter(|(_, it)| *it == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found.remove(0);
    found
}
