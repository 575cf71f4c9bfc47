//! A backend by script, over real HTTP on a loopback port: it notes every call, and answers as it is told to.

mod uploads;

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::{StreamExt, stream};
use outrider_protocol::bulk::ENROLL_PATH;
use outrider_protocol::control::{ORDER_EVENT, ORDERS_PATH, RPC_PATH};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

/// The token of the tests' agent.
pub(super) const TOKEN: &str = "token-of-the-test";
/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the scripted backend has heard and how it behaves.
#[derive(Clone)]
pub(super) struct Backend(Arc<Shared>);

struct Shared {
    script: Mutex<Script>,
    /// Counts what happened, so that a test can wait for more.
    happened: watch::Sender<u64>,
}

/// How orders are given out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Works,
    /// The path is not known, as behind an old proxy.
    Missing,
    /// It is answered, and nothing ever comes.
    Silent,
    /// It ends after the greeting.
    Cut,
}

/// How a call is refused.
#[derive(Clone, Copy)]
pub(super) enum Refusal {
    /// With 413, as by a proxy.
    TooLong,
    /// With a JSON-RPC error of this code, for ever.
    Code(i32),
}

/// How a call or an upload goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// 500.
    Broken,
    /// 429, with so many seconds to wait.
    Throttled(u64),
    /// It is taken, and the answer's body ends early.
    CutBody,
    /// It is taken, and the answer comes twice in one body.
    Twice,
    /// Nothing is answered.
    Stalls,
}

#[derive(Default)]
struct Script {
    /// What goes wrong with the next calls of a method; of uploads as `upload`.
    troubles: HashMap<String, VecDeque<Trouble>>,
    /// Whether hello says how many files there are.
    counts_files: bool,
    /// The last generation of an access token.
    generation: u64,
    calls: Vec<(String, Value)>,
    /// The answers that were successes.
    taken: Vec<(String, Value)>,
    /// So many calls of a method are answered with a status of 500.
    failing: HashMap<String, u32>,
    /// How calls of a method are refused whose body is longer than so many bytes.
    refusing: HashMap<String, (usize, Refusal)>,
    ping_every_ms: Option<u64>,
    orders: VecDeque<Value>,
    stream: Option<Stream>,
    refuse_token: bool,
    files: HashMap<String, File>,
    /// As an older backend.
    tells_no_hash: bool,
    /// The next `PATCH` breaks off after so many bytes.
    cut_after: Option<usize>,
    /// So many complete files are said to have the wrong hash.
    wrong_hash: u32,
    patches: u32,
    enrollments: VecDeque<(StatusCode, Value)>,
}

#[derive(Default)]
struct File {
    bytes: Vec<u8>,
    complete: bool,
}

/// A running server; it and every connection end when it is dropped.
pub(super) struct Server {
    pub(super) addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Backend {
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared { script: Mutex::default(), happened: watch::Sender::new(0) }))
    }

    /// Serves on a free port, or on one that an earlier server had.
    pub(super) fn serve(&self, at: Option<SocketAddr>) -> Server {
        let (stop, stopped) = oneshot::channel();
        let (bound, addr) = std::sync::mpsc::channel();
        let app = self.router();
        let at = at.unwrap_or_else(|| "127.0.0.1:0".parse().unwrap());
        // A runtime of its own, which takes every connection with it when it ends.
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind(at).await.unwrap();
                bound.send(listener.local_addr().unwrap()).unwrap();
                tokio::select! {
                    served = async { axum::serve(listener, app).await } => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Server { addr: addr.recv().unwrap(), stop: Some(stop), thread: Some(thread) }
    }

    fn router(&self) -> Router {
        Router::new()
            .route(RPC_PATH, post(call))
            .route(ORDERS_PATH, get(orders))
            .route(ENROLL_PATH, post(enroll))
            .route(
                "/agent/v1/uploads/{export}/{model}/{number}",
                get(uploads::missing).head(uploads::head).patch(uploads::patch),
            )
            .with_state(self.clone())
    }

    fn change<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        let changed = change(&mut self.0.script.lock().unwrap());
        self.0.happened.send_modify(|it| *it += 1);
        changed
    }

    fn look<T>(&self, look: impl FnOnce(&Script) -> T) -> T {
        look(&self.0.script.lock().unwrap())
    }

    /// Gives an order out: on the stream that is open, or the next one, or to the next poll.
    pub(super) fn order(&self, order: Value) {
        self.change(|it| it.orders.push_back(order));
    }

    /// Orders a command.
    pub(super) fn run(&self, id: &str, order: &Value) {
        self.order(command(id, order));
    }

    pub(super) fn stream_is(&self, stream: Stream) {
        self.change(|it| it.stream = Some(stream));
    }

    pub(super) fn fail(&self, method: &str, times: u32) {
        self.change(|it| it.failing.insert(method.to_owned(), times));
    }

    /// Refuses every call of a method whose body is longer than so many bytes.
    pub(super) fn refuse_above(&self, bytes: usize, method: &str, refusal: Refusal) {
        self.change(|it| it.refusing.insert(method.to_owned(), (bytes, refusal)));
    }

    pub(super) fn refuse_no_more(&self) {
        self.change(|it| it.refusing.clear());
    }

    /// Lets the next calls of a method go wrong, of uploads as `upload`.
    pub(super) fn trouble(&self, method: &str, troubles: &[Trouble]) {
        self.change(|it| it.troubles.entry(method.to_owned()).or_default().extend(troubles));
    }

    /// No trouble is left.
    pub(super) fn is_well(&self) -> bool {
        self.look(|it| it.troubles.values().all(VecDeque::is_empty))
    }

    /// Hello says how many files there are from now on.
    pub(super) fn count_files(&self) {
        self.change(|it| it.counts_files = true);
    }

    /// It comes back with a database of before all uploads.
    pub(super) fn forget_files(&self) {
        self.change(|it| it.files.clear());
    }

    /// It has a whole file of this name.
    pub(super) fn has_file(&self, path: &str, bytes: &[u8]) {
        let file = File { bytes: bytes.to_vec(), complete: true };
        self.change(|it| it.files.insert(path.to_owned(), file));
    }

    /// It no longer tells which file it has.
    pub(super) fn tell_no_hash(&self) {
        self.change(|it| it.tells_no_hash = true);
    }

    pub(super) fn ping_every_ms(&self, every: u64) {
        self.change(|it| it.ping_every_ms = Some(every));
    }

    pub(super) fn refuse_token(&self, refuse: bool) {
        self.change(|it| it.refuse_token = refuse);
    }

    pub(super) fn cut_next_upload_after(&self, bytes: usize) {
        self.change(|it| it.cut_after = Some(bytes));
    }

    pub(super) fn say_wrong_hash(&self, times: u32) {
        self.change(|it| it.wrong_hash = times);
    }

    pub(super) fn answer_enrollment(&self, status: StatusCode, body: Value) {
        self.change(|it| it.enrollments.push_back((status, body)));
    }

    /// The parameters of every call of a method that was answered with success.
    pub(super) fn taken(&self, method: &str) -> Vec<Value> {
        self.look(|it| {
            it.taken.iter().filter(|(name, _)| name == method).map(|(_, params)| params.clone()).collect()
        })
    }

    /// The methods of the calls about a command, in order, that were answered with success.
    pub(super) fn told_of(&self, id: &str) -> Vec<String> {
        self.look(|it| {
            it.taken
                .iter()
                .filter(|(_, params)| params["command"] == id)
                .map(|(name, _)| name.clone())
                .collect()
        })
    }

    /// Every call, answered or not: its method and parameters.
    pub(super) fn all_calls(&self) -> Vec<(String, Value)> {
        self.look(|it| it.calls.clone())
    }

    /// How often a method was called, answered or not.
    pub(super) fn called(&self, method: &str) -> usize {
        self.look(|it| it.calls.iter().filter(|(name, _)| name == method).count())
    }

    pub(super) fn patches(&self) -> u32 {
        self.look(|it| it.patches)
    }

    /// The content of a complete file.
    pub(super) fn file(&self, path: &str) -> Option<Vec<u8>> {
        self.look(|it| it.files.get(path).filter(|it| it.complete).map(|it| it.bytes.clone()))
    }

    /// The messages of a command's log, in order.
    pub(super) fn log_of(&self, id: &str) -> Vec<String> {
        let mut batches = self.taken("command.log");
        batches.retain(|it| it["command"] == id);
        // One whose answer was lost came twice.
        batches.dedup_by_key(|it| it["batch"].clone());
        let lines = batches.into_iter().flat_map(|it| it["log"]["lines"].as_array().unwrap().clone());
        lines.map(|it| it["message"].as_str().unwrap().to_owned()).collect()
    }

    /// The outcome of a command, once it was told.
    pub(super) async fn ended(&self, id: &str) -> Value {
        let ended = |it: &Self| it.taken("command.ended").into_iter().find(|it| it["command"] == id);
        self.until(&format!("the outcome of {id}"), ended).await["outcome"].clone()
    }

    /// Waits until something has happened.
    pub(super) async fn until<T>(&self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        let mut happened = self.0.happened.subscribe();
        let wait = async {
            loop {
                if let Some(found) = look(self) {
                    return found;
                }
                happened.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(found) => found,
            Err(_) => panic!("{what} did not come; calls: {:#?}", self.look(|it| it.calls.clone())),
        }
    }
}

/// An order to run a command.
pub(super) fn command(id: &str, order: &Value) -> Value {
    json!({"kind": "run", "id": id, "created_at": "2026-11-21T08:00:00Z", "order": order})
}

async fn call(State(backend): State<Backend>, headers: HeaderMap, body: Bytes) -> Response {
    if backend.look(|it| it.refuse_token) || headers["authorization"] != format!("Bearer {TOKEN}") {
        let error = json!({"message": "this token was revoked"});
        return (StatusCode::UNAUTHORIZED, error.to_string()).into_response();
    }
    let request: Value = serde_json::from_slice(&body).unwrap();
    let (method, params) = (request["method"].as_str().unwrap().to_owned(), request["params"].clone());
    let fails = backend.change(|it| {
        it.calls.push((method.clone(), params.clone()));
        let left = it.failing.get_mut(&method).filter(|it| **it > 0);
        left.map(|it| *it -= 1).is_some()
    });
    if fails {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let trouble = backend.change(|it| it.troubles.get_mut(&method).and_then(VecDeque::pop_front));
    if let Some(refused) = refused(trouble).await {
        return refused;
    }
    let refusal = backend.look(|it| it.refusing.get(&method).copied());
    match refusal.filter(|(longest, _)| body.len() > *longest) {
        Some((_, Refusal::TooLong)) => return StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        Some((_, Refusal::Code(code))) => {
            let error = json!({"code": code, "message": "refused", "data": {"retry": "no"}});
            return json!({"jsonrpc": "2.0", "id": request["id"], "error": error})
                .to_string()
                .into_response();
        }
        None => {}
    }
    let result = match method.as_str() {
        "agent.hello" => {
            let every = backend.look(|it| it.ping_every_ms).unwrap_or(60_000);
            let files = backend
                .look(|it| it.counts_files.then(|| it.files.values().filter(|it| it.complete).count()));
            json!({"protocol": 1, "agent": "a1", "ping_every_ms": every, "files": files})
        }
        "oauth.access_token" => {
            // Long enough for others to ask meanwhile.
            tokio::time::sleep(Duration::from_millis(300)).await;
            let generation = backend.change(|it| {
                it.generation += 1;
                it.generation
            });
            json!({"access_token": format!("very-secret-{generation}"), "generation": generation})
        }
        "orders.poll" => json!({"orders": poll(&backend).await}),
        _ => json!({}),
    };
    backend.change(|it| it.taken.push((method, params)));
    let text = json!({"jsonrpc": "2.0", "id": request["id"], "result": result}).to_string();
    match trouble {
        Some(Trouble::CutBody) => {
            let half = text.as_bytes()[..text.len() / 2].to_vec();
            let pieces = [Ok(Bytes::from(half)), Err(std::io::Error::other("cut"))];
            Body::from_stream(stream::iter(pieces)).into_response()
        }
        Some(Trouble::Twice) => format!("{text}{text}").into_response(),
        _ => text.into_response(),
    }
}

/// The answer of a backend that takes nothing.
async fn refused(trouble: Option<Trouble>) -> Option<Response> {
    match trouble? {
        Trouble::Broken => Some(StatusCode::INTERNAL_SERVER_ERROR.into_response()),
        Trouble::Throttled(seconds) => {
            Some((StatusCode::TOO_MANY_REQUESTS, [("retry-after", seconds.to_string())]).into_response())
        }
        Trouble::Stalls => std::future::pending().await,
        Trouble::CutBody | Trouble::Twice => None,
    }
}

async fn poll(backend: &Backend) -> Vec<Value> {
    let mut happened = backend.0.happened.subscribe();
    let wait = async {
        while backend.look(|it| it.orders.is_empty()) {
            happened.changed().await.unwrap();
        }
    };
    drop(tokio::time::timeout(Duration::from_millis(200), wait).await);
    backend.change(|it| it.orders.drain(..).collect())
}

async fn orders(State(backend): State<Backend>) -> Response {
    match backend.look(|it| it.stream.unwrap_or(Stream::Works)) {
        Stream::Missing => StatusCode::NOT_FOUND.into_response(),
        Stream::Silent => {
            let nothing = stream::pending::<Result<Bytes, Infallible>>();
            ([("content-type", "text/event-stream")], Body::from_stream(nothing)).into_response()
        }
        Stream::Cut => ([("content-type", "text/event-stream")], ": orders\n\n").into_response(),
        Stream::Works => {
            let events = stream::unfold(backend, |backend| async move {
                let mut happened = backend.0.happened.subscribe();
                loop {
                    if let Some(order) = backend.change_quietly(|it| it.orders.pop_front()) {
                        let event = Event::default().event(ORDER_EVENT).data(order.to_string());
                        return Some((Ok::<_, Infallible>(event), backend));
                    }
                    happened.changed().await.ok()?;
                }
            });
            let hello = stream::iter([Ok(Event::default().comment("orders"))]);
            let alive = KeepAlive::new().interval(Duration::from_millis(100));
            Sse::new(hello.chain(events)).keep_alive(alive).into_response()
        }
    }
}

impl Backend {
    fn change_quietly<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        change(&mut self.0.script.lock().unwrap())
    }
}

async fn enroll(State(backend): State<Backend>, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap();
    let answer = backend.change(|it| {
        it.calls.push(("enroll".into(), request.clone()));
        it.taken.push(("enroll".into(), request));
        it.enrollments.pop_front()
    });
    let (status, body) = answer.unwrap_or((StatusCode::IM_A_TEAPOT, json!({"message": "not scripted"})));
    (status, body.to_string()).into_response()
}
