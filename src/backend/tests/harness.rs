//! A backend in a fresh folder, and an agent that says what a test wants it to say.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use outrider_protocol::Call;
use outrider_protocol::action::{Compression, ExportOrder, IntegrationConfig, Order, SealedFile};
use outrider_protocol::bulk::{
    COMPRESSION, ENROLL_PATH, EnrollReply, EnrollRequest, INTEGRATION, OBJECTS, RAW_BYTES, SHA256,
    UPLOAD_COMPLETE, UPLOAD_LENGTH, UPLOAD_OFFSET, upload_path,
};
use outrider_protocol::control::{
    Accepted, CommandParams, EndState, Ended, EndedParams, Envelope, Hello, HelloParams, HelloReply,
    HostInfo, ORDERS_PATH, Outcome, Poll, PollParams, RPC_PATH, Running,
};
use outrider_protocol::ids::{AgentId, CommandId};
use outrider_protocol::version::CONTROL;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::admin::{Command, NewCode, NewCommand};
use crate::client::Client;
use crate::{Limits, ServeError, Settings, start};

/// Far above what anything here takes: only a hang reaches it.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A backend under test.
pub(super) struct Rig {
    pub(super) dir: TempDir,
    pub(super) url: String,
    pub(super) client: Client,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Rig {
    pub(super) async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    pub(super) async fn with(limits: Limits) -> Self {
        Self::in_folder(tempfile::tempdir().unwrap(), limits).await
    }

    pub(super) async fn in_folder(dir: TempDir, limits: Limits) -> Self {
        let mut settings = Settings::new(dir.path().join("data"), "127.0.0.1:0".parse().unwrap());
        settings.limits = limits;
        let backend = start(settings).await.unwrap();
        let url = backend.url();
        let client = Client::new(&url, &backend.data().admin_token().unwrap(), None).unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(backend.run_until(async move { drop(stopped.await) }));
        Self { dir, url, client, stop: Some(stop), task }
    }

    /// Stops the backend; its folder stays.
    pub(super) async fn stop(mut self) -> TempDir {
        self.stop.take().unwrap().send(()).unwrap();
        within(self.task).await.unwrap().unwrap();
        self.dir
    }

    /// A new agent.
    pub(super) async fn agent(&self) -> FakeAgent {
        self.agent_again("request-0123456789").await
    }

    /// One more agent, by a request of its own.
    pub(super) async fn agent_again(&self, request: &str) -> FakeAgent {
        let code = self.client.create_code(&NewCode::default()).await.unwrap().code;
        FakeAgent::new(&self.url, self.enroll(&enroll_request(&code, request)).await.unwrap())
    }

    /// Asks to enroll; the status and text of a refusal.
    pub(super) async fn enroll(&self, request: &EnrollRequest) -> Result<EnrollReply, (StatusCode, String)> {
        let http = reqwest::Client::new();
        let answer = http.post(format!("{}{ENROLL_PATH}", self.url)).json(request).send().await.unwrap();
        match answer.status() {
            StatusCode::OK => Ok(answer.json().await.unwrap()),
            status => Err((status, answer.text().await.unwrap())),
        }
    }

    /// A page as somebody who is logged in sees it.
    pub(super) async fn page(&self, path: &str) -> String {
        let (browser, cookie) = self.browser().await;
        let answer =
            browser.get(format!("{}{path}", self.url)).header("cookie", cookie).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer.text().await.unwrap()
    }

    /// A browser that follows no redirects, and the cookie with which it is logged in.
    pub(super) async fn browser(&self) -> (reqwest::Client, String) {
        let browser = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let opened = browser.get(self.client.login_link().await.unwrap()).send().await.unwrap();
        let cookie = opened.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        (browser, cookie)
    }

    /// Orders an export of an agent.
    pub(super) async fn order(&self, agent: &FakeAgent) -> Command {
        self.client.create_command(&new_command(&agent.id)).await.unwrap()
    }
}

pub(crate) fn enroll_request(code: &str, request: &str) -> EnrollRequest {
    EnrollRequest {
        code: code.into(),
        version: "0.1.0".into(),
        host: host(),
        channel: "dev".into(),
        request: request.into(),
    }
}

fn host() -> HostInfo {
    HostInfo { hostname: "Build Host.example".into(), os: "linux".into(), arch: "x86_64".into() }
}

pub(crate) fn new_command(agent: &AgentId) -> NewCommand {
    let config = serde_json::value::to_raw_value(&json!({ "token": "hunter2" })).unwrap();
    let integration = IntegrationConfig { name: "mock".parse().unwrap(), id: None, config, secrets: None };
    let order = ExportOrder {
        agent: outrider_protocol::action::AgentConfig::default(),
        integrations: vec![integration],
        reprocess_historical: false,
    };
    NewCommand::new(agent.clone(), Order::Export(order))
}

/// An agent made by hand.
pub(super) struct FakeAgent {
    pub(super) id: AgentId,
    pub(super) token: String,
    url: String,
    http: reqwest::Client,
}

impl FakeAgent {
    pub(super) fn new(url: &str, reply: EnrollReply) -> Self {
        Self { id: reply.agent, token: reply.token, url: url.into(), http: reqwest::Client::new() }
    }

    /// The same agent at a backend that was started again.
    pub(super) fn at(mut self, url: &str) -> Self {
        self.url = url.into();
        self
    }

    /// Calls, and gives the whole answer.
    pub(super) async fn call_raw(&self, body: String) -> Value {
        let request = self.http.post(format!("{}{RPC_PATH}", self.url)).bearer_auth(&self.token).body(body);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json().await.unwrap()
    }

    /// Calls; the error object of a refusal.
    pub(super) async fn call<M: Call>(&self, params: &M::Params) -> Result<M::Reply, Value> {
        let body = json!({ "jsonrpc": "2.0", "id": 7, "method": M::NAME, "params": params });
        let mut answer = self.call_raw(body.to_string()).await;
        assert_eq!(answer["id"], 7);
        match answer.get("error") {
            Some(error) => Err(error.clone()),
            None => Ok(serde_json::from_value(answer["result"].take()).unwrap()),
        }
    }

    pub(super) async fn hello(&self, commands: Vec<CommandId>) -> HelloReply {
        let params = HelloParams {
            protocol: CONTROL,
            version: "0.1.0".into(),
            build: None,
            host: host(),
            started_at: Timestamp::now(),
            commands,
        };
        self.call::<Hello>(&params).await.unwrap()
    }

    pub(super) async fn poll(&self, wait_ms: u64) -> Vec<Envelope> {
        self.call::<Poll>(&PollParams { wait_ms }).await.unwrap().orders
    }

    pub(super) async fn accept(&self, command: &CommandId) {
        let params = CommandParams { command: command.clone(), at: Timestamp::now() };
        self.call::<Accepted>(&params).await.unwrap();
    }

    pub(super) async fn run(&self, command: &CommandId) {
        let params = CommandParams { command: command.clone(), at: Timestamp::now() };
        self.call::<Running>(&params).await.unwrap();
    }

    pub(super) async fn end(&self, command: &CommandId, state: EndState) {
        let outcome = Outcome { state, report: None, error: None };
        let params = EndedParams { command: command.clone(), outcome, ended_at: Timestamp::now() };
        self.call::<Ended>(&params).await.unwrap();
    }

    /// Opens the stream of orders.
    pub(super) async fn orders(&self) -> Orders {
        let request = self.http.get(format!("{}{ORDERS_PATH}", self.url)).bearer_auth(&self.token);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Orders { events: Box::pin(sse_stream::SseStream::from_bytes_stream(answer.bytes_stream())) }
    }

    /// Asks how much of a file the backend has: the status, the offset, whether it is complete.
    pub(super) async fn head(&self, file: &SealedFile) -> (StatusCode, u64, bool) {
        state_of(&self.ask(file).await)
    }

    /// The hash of the file that the backend has under this name.
    pub(super) async fn known_hash(&self, file: &SealedFile) -> Option<String> {
        self.ask(file).await.headers().get(SHA256).map(|it| it.to_str().unwrap().to_owned())
    }

    async fn ask(&self, file: &SealedFile) -> reqwest::Response {
        let url = format!("{}{}", self.url, upload_path(file));
        self.http.head(url).bearer_auth(&self.token).send().await.unwrap()
    }

    /// Sends bytes of a file.
    pub(super) async fn patch(
        &self,
        file: &SealedFile,
        offset: u64,
        body: impl Into<reqwest::Body>,
    ) -> (StatusCode, u64, bool) {
        state_of(&self.patch_request(file, offset).body(body).send().await.unwrap())
    }

    pub(super) fn patch_request(&self, file: &SealedFile, offset: u64) -> reqwest::RequestBuilder {
        self.http
            .patch(format!("{}{}", self.url, upload_path(file)))
            .bearer_auth(&self.token)
            .header(UPLOAD_OFFSET, offset)
            .header(UPLOAD_LENGTH, file.bytes)
            .header(SHA256, &file.sha256)
            .header(OBJECTS, file.objects)
            .header(RAW_BYTES, file.raw_bytes)
            .header(INTEGRATION, file.integration.as_str())
            .header(
                COMPRESSION,
                match file.compression {
                    Compression::Gzip => "gzip",
                    Compression::Zstd => "zstd",
                },
            )
    }
}

fn state_of(answer: &reqwest::Response) -> (StatusCode, u64, bool) {
    let header = |name| answer.headers().get(name).map(|value| value.to_str().unwrap());
    let offset = header(UPLOAD_OFFSET).map_or(u64::MAX, |text| text.parse().unwrap());
    (answer.status(), offset, header(UPLOAD_COMPLETE) == Some("?1"))
}

/// Lines as a spool file holds them.
pub(crate) fn compressed(lines: &[u8], compression: Compression) -> Vec<u8> {
    use std::io::Write as _;
    match compression {
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(lines).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Zstd => zstd::stream::encode_all(lines, 1).unwrap(),
    }
}

/// A file of an export that holds `content`: three objects in 300 bytes.
pub(crate) fn sealed(command: &CommandId, number: u64, content: &[u8]) -> SealedFile {
    SealedFile {
        export: command.clone().into(),
        integration: "mock".parse().unwrap(),
        model: "sourcecode.Repo".parse().unwrap(),
        number,
        objects: 3,
        raw_bytes: 300,
        bytes: content.len() as u64,
        sha256: Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect(),
        compression: Compression::Gzip,
    }
}

type Events = dyn futures_util::Stream<Item = Result<sse_stream::Sse, sse_stream::Error>> + Send;

/// A stream of orders.
pub(super) struct Orders {
    events: std::pin::Pin<Box<Events>>,
}

impl Orders {
    /// The next order; `None` at the end of the stream.
    pub(super) async fn next(&mut self) -> Option<Envelope> {
        use futures_util::StreamExt as _;
        loop {
            let event = within(self.events.next()).await?.ok()?;
            if event.event.as_deref() == Some(outrider_protocol::control::ORDER_EVENT) {
                return Some(serde_json::from_str(&event.data.unwrap()).unwrap());
            }
        }
    }
}

/// Waits for something that must come.
pub(super) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it must not hang")
}

/// The id of a command that is to be run.
pub(super) fn run_id(order: &Envelope) -> &CommandId {
    match order {
        Envelope::Run(command) => &command.id,
        Envelope::Cancel { .. } => panic!("expected a run, found {order:?}"),
    }
}

/// The id of a command that is to be cancelled.
pub(super) fn cancel_id(order: &Envelope) -> &CommandId {
    match order {
        Envelope::Cancel { command, .. } => command,
        Envelope::Run(_) => panic!("expected a cancel, found {order:?}"),
    }
}
