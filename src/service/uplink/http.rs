//! The HTTP client, and JSON-RPC calls by POST.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use outrider_home::{Config, Limits, Secret};
use outrider_protocol::Call;
use outrider_protocol::bulk::HttpError;
use outrider_protocol::control::RPC_PATH;
use outrider_protocol::fault::{Retry, RpcError, code};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Certificate, Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde::{Deserialize, Serialize};

/// The longest body of an error that is read, in bytes: a message and a hint, or a proxy's page.
const ERROR_BYTES: usize = 64 << 10;
/// How much of a body that is no message of ours is quoted, in characters.
const QUOTED: usize = 200;

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The file of certificates cannot be read.
    #[error("read the certificates in {} (`ca_file`)", path.display())]
    CaFile {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        err: std::io::Error,
    },
    /// The file of certificates holds none.
    #[error("the file {} (`ca_file`) holds no certificate: expected PEM, `-----BEGIN CERTIFICATE-----`", path.display())]
    NoCertificate {
        /// Which file.
        path: PathBuf,
    },
    /// The backend's address is none.
    #[error("the backend's address {found:?} is no URL: expected one as https://backend.example:8443")]
    Address {
        /// What was found.
        found: String,
    },
    /// The client itself: its certificates or a proxy's address.
    #[error("set up the HTTP client (certificates, the proxies that the environment names)")]
    Client(#[source] reqwest::Error),
}

/// Why a request to the backend has no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It could not be sent, or its answer did not come.
    #[error("{method} {url}")]
    Unreachable {
        /// The HTTP method.
        method: Method,
        /// Where to.
        url: String,
        /// What went wrong.
        #[source]
        err: reqwest::Error,
    },
    /// The backend does not take this agent's token.
    #[error(
        "the backend refuses this agent's token ({status}: {message}); it may have been revoked: enroll again"
    )]
    Token {
        /// 401 or 403.
        status: StatusCode,
        /// What it said.
        message: String,
    },
    /// Another status than one of success.
    #[error("the backend answered {status}: {message}")]
    Status {
        /// Which.
        status: StatusCode,
        /// What it said.
        message: String,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The backend answered a call with an error.
    #[error("{method}: the backend answered with error {}: {}", error.code, error.message)]
    Rpc {
        /// The call.
        method: &'static str,
        /// Its error.
        error: RpcError,
    },
    /// The body is no answer.
    #[error("{method}: the answer does not fit: {found}")]
    BadReply {
        /// The call.
        method: &'static str,
        /// What is wrong with it.
        found: String,
    },
}

/// What to do after a call has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may work later.
    Again,
    /// It would fail the same way: the backend has understood it and does not take it.
    GiveUp,
}

impl CallError {
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            Self::Rpc { error, .. } => match error.data.as_ref().and_then(|it| it.retry) {
                Some(Retry::Later) => Verdict::Again,
                Some(Retry::No) => Verdict::GiveUp,
                None if [code::INVALID_PARAMS, code::METHOD_NOT_FOUND, code::NO_COMMAND]
                    .contains(&error.code) =>
                {
                    Verdict::GiveUp
                }
                None => Verdict::Again,
            },
            Self::Status { status, .. } if refuses_content(*status) => Verdict::GiveUp,
            Self::Unreachable { .. } | Self::Token { .. } | Self::Status { .. } | Self::BadReply { .. } => {
                Verdict::Again
            }
        }
    }

    /// Whether the backend has no such command of this agent, so that there is nobody to tell.
    pub(crate) fn is_no_command(&self) -> bool {
        matches!(self, Self::Rpc { error, .. } if error.code == code::NO_COMMAND)
    }

    /// How long the backend asks to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Unreachable { .. } | Self::Token { .. } | Self::Rpc { .. } | Self::BadReply { .. } => None,
        }
    }

    pub(crate) fn is_token(&self) -> bool {
        matches!(self, Self::Token { .. })
    }

    /// Whether the backend is there, and is busy or has an error of its own.
    pub(crate) fn is_busy(&self) -> bool {
        match self {
            Self::Status { status, .. } => {
                *status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
            }
            Self::Rpc { error, .. } => {
                error.code == code::INTERNAL
                    || error.data.as_ref().is_some_and(|it| it.retry == Some(Retry::Later))
            }
            Self::Unreachable { .. } | Self::Token { .. } | Self::BadReply { .. } => false,
        }
    }
}

/// Requests to one backend with one token. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Http(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    origin: String,
    token: Option<Secret>,
    timeout: Duration,
    answer_bytes: usize,
    calls: AtomicU64,
}

impl Http {
    /// For an enrolled agent.
    pub(crate) fn new(config: &Config) -> Result<Self, SetupError> {
        Self::build(&config.backend, config.ca_file.as_deref(), Some(config.token.clone()), &config.limits)
    }

    /// For an agent that is yet to enroll.
    pub(crate) fn anonymous(
        backend: &str,
        ca_file: Option<&Path>,
        limits: &Limits,
    ) -> Result<Self, SetupError> {
        Self::build(backend, ca_file, None, limits)
    }

    fn build(
        backend: &str,
        ca_file: Option<&Path>,
        token: Option<Secret>,
        limits: &Limits,
    ) -> Result<Self, SetupError> {
        if !Url::parse(backend).is_ok_and(|url| url.has_host()) {
            return Err(SetupError::Address { found: backend.to_owned() });
        }
        // Whoever set one before us chose it for the whole process; there is nothing to do about it here.
        drop(rustls::crypto::ring::default_provider().install_default());
        // Proxies are taken from the environment by default. A redirect would carry the token elsewhere.
        let mut builder = Client::builder()
            .user_agent(concat!("outrider/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(limits.connect_timeout())
            .redirect(reqwest::redirect::Policy::none());
        if let Some(path) = ca_file {
            builder = builder.tls_certs_merge(certificates(path)?);
        }
        let inner = Inner {
            client: builder.build().map_err(SetupError::Client)?,
            origin: backend.trim_end_matches('/').to_owned(),
            token,
            timeout: limits.request_timeout(),
            answer_bytes: limits.line_bytes,
            calls: AtomicU64::new(1),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// A request to a path of the backend, with the token. It has no time limit yet.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.0.client.request(method, format!("{}{path}", self.0.origin));
        match &self.0.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        }
    }

    /// How long a request may wait for its answer.
    pub(crate) fn timeout(&self) -> Duration {
        self.0.timeout
    }

    /// Sends a request; an answer that is none of success is an error.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, CallError> {
        let response = self.send_any(request).await?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }

    /// Sends a request and takes any answer.
    pub(crate) async fn send_any(&self, request: RequestBuilder) -> Result<Response, CallError> {
        let (client, request) = request.build_split();
        let (method, url) = match &request {
            Ok(request) => (request.method().clone(), request.url().to_string()),
            Err(_) => (Method::GET, self.0.origin.clone()),
        };
        let sent = async { client.execute(request?).await };
        sent.await.map_err(|err| CallError::Unreachable { method, url, err: err.without_url() })
    }

    /// Calls the backend, within the usual time.
    pub(crate) async fn call<M: Call>(&self, params: &M::Params) -> Result<M::Reply, CallError> {
        self.call_within::<M>(self.0.timeout, params).await
    }

    /// Calls the backend.
    pub(crate) async fn call_within<M: Call>(
        &self,
        within: Duration,
        params: &M::Params,
    ) -> Result<M::Reply, CallError> {
        let id = self.0.calls.fetch_add(1, Ordering::Relaxed);
        let body = RpcRequest { jsonrpc: "2.0", id, method: M::NAME, params };
        let request = self.request(Method::POST, RPC_PATH).timeout(within).json(&body);
        let response = self.send(request).await?;
        let bad = |found: String| CallError::BadReply { method: M::NAME, found };
        let bytes = body_of(response, self.0.answer_bytes).await.map_err(bad)?;
        let answer: RpcAnswer<M::Reply> =
            serde_json::from_slice(&bytes).map_err(|err| bad(format!("{err}, in {}", quoted(&bytes))))?;
        match answer {
            RpcAnswer { error: Some(error), .. } => Err(CallError::Rpc { method: M::NAME, error }),
            RpcAnswer { result: Some(result), .. } => Ok(result),
            RpcAnswer { .. } => Err(bad("it has neither result nor error".to_owned())),
        }
    }
}

/// Whether a status says that this body is not taken, by the backend or by something on the way.
fn refuses_content(status: StatusCode) -> bool {
    [StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE, StatusCode::UNPROCESSABLE_ENTITY]
        .contains(&status)
}

#[derive(Serialize)]
struct RpcRequest<'a, P> {
    jsonrpc: &'static str,
    id: u64,
    method: &'static str,
    params: &'a P,
}

#[derive(Deserialize)]
struct RpcAnswer<R> {
    #[serde(default = "Option::default")]
    result: Option<R>,
    #[serde(default)]
    error: Option<RpcError>,
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, SetupError> {
    let bytes = std::fs::read(path).map_err(|err| SetupError::CaFile { path: path.to_owned(), err })?;
    match Certificate::from_pem_bundle(&bytes) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(_) => Err(SetupError::NoCertificate { path: path.to_owned() }),
    }
}

/// What an answer that is none of success says.
pub(crate) async fn refusal(response: Response) -> CallError {
    let status = response.status();
    let retry_after = retry_after(response.headers(), Timestamp::now());
    let bytes = body_of(response, ERROR_BYTES).await.unwrap_or_default();
    let message = match serde_json::from_slice::<HttpError>(&bytes) {
        Ok(HttpError { message, hint: Some(hint) }) => format!("{message}; {hint}"),
        Ok(HttpError { message, hint: None }) => message,
        Err(_) if bytes.is_empty() => "no reason given".to_owned(),
        Err(_) => quoted(&bytes),
    };
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => CallError::Token { status, message },
        _ => CallError::Status { status, message, retry_after },
    }
}

/// How long a `Retry-After` asks to wait: it holds seconds, or a time. Bounded, since a wrong one must not silence an
/// agent.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    /// The longest that is obeyed.
    const MOST: Duration = Duration::from_secs(600);
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
            Duration::try_from(at.duration_since(now)).unwrap_or_default()
        }
    };
    Some(wait.min(MOST))
}

async fn body_of(mut response: Response, limit: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|err| format!("its body broke off: {err}"))? {
        if bytes.len() + chunk.len() > limit {
            return Err(format!("its body is longer than {limit} bytes"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn quoted(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let short: String = text.chars().take(QUOTED).collect();
    if short.len() < text.len() { format!("{short:?}…") } else { format!("{short:?}") }
}

#[cfg(test)]
mod tests;
