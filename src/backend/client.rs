//! The admin API as a program calls it.

use std::path::Path;
use std::time::Duration;

use outrider_protocol::Raw;
use outrider_protocol::bulk::HttpError;
use outrider_protocol::ids::{AgentId, CommandId, IntegrationId};
use outrider_protocol::progress::Progress;
use reqwest::{Method, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::admin::{
    About, Agent, AgentCollecting, AgentIntegrations, CancelCommand, Code, Command, CommandFilter,
    CommandSummary, CrashFilter, CreatedCode, File, FileFilter, LogRange, LoginLink, NewCode, NewCommand,
    NumberedLine, OAuthInfo, OAuthRegistration, StoredCrash, WatchQuery, Watched,
};

/// The longest time to get a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// The longest time for a whole request; a watch adds what it is ready to wait.
const REQUEST: Duration = Duration::from_secs(60);

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is none.
    #[error("{url:?} is no address of a backend; expected one such as http://127.0.0.1:7878")]
    Url {
        /// What was found.
        url: String,
    },
    /// The additional certificate cannot be used.
    #[error("read the certificate {path}; expected a PEM file")]
    Certificate {
        /// The file.
        path: String,
        /// Why.
        #[source]
        err: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No client could be made.
    #[error("prepare HTTP")]
    Prepare(#[source] reqwest::Error),
    /// The backend cannot be reached, or the connection broke.
    #[error("call the backend at {url}; is it running?")]
    Unreachable {
        /// What was called.
        url: String,
        /// Why.
        #[source]
        err: reqwest::Error,
    },
    /// The backend refused.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the backend says.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The answer is not what this version expects.
    #[error("the answer of {url} is not what was expected; is that an outrider-backend of this version?")]
    Answer {
        /// What was called.
        url: String,
        /// Why.
        #[source]
        err: serde_json::Error,
    },
}

impl ClientError {
    /// What a person can do about it, where the backend said so.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Refused { hint, .. } => hint.as_deref(),
            _ => None,
        }
    }
}

/// A client of one backend's admin API. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: String,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the backend at `url`, with its admin token. `ca_file` is a PEM certificate to trust beside the
    /// system's.
    ///
    /// # Errors
    /// When the address or the certificate cannot be used.
    pub fn new(url: &str, token: &str, ca_file: Option<&Path>) -> Result<Self, ClientError> {
        // Whoever came first has chosen the provider; there is only one in this program.
        drop(rustls::crypto::ring::default_provider().install_default());
        let bad = || ClientError::Url { url: url.chars().take(200).collect() };
        let base: Url = url.parse().map_err(|_| bad())?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(bad());
        }
        let mut http = reqwest::Client::builder().connect_timeout(CONNECT);
        if let Some(path) = ca_file {
            let shown = || path.display().to_string();
            let pem = std::fs::read(path)
                .map_err(|err| ClientError::Certificate { path: shown(), err: err.into() })?;
            let certificate = reqwest::Certificate::from_pem(&pem)
                .map_err(|err| ClientError::Certificate { path: shown(), err: err.into() })?;
            http = http.tls_certs_merge([certificate]);
        }
        let http = http.build().map_err(ClientError::Prepare)?;
        Ok(Self { http, base, token: token.into() })
    }

    /// The backend's origin.
    #[must_use]
    pub fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// What the backend is.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn about(&self) -> Result<About, ClientError> {
        self.get(&["about"], &()).await
    }

    /// All agents.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn agents(&self) -> Result<Vec<Agent>, ClientError> {
        self.get(&["agents"], &()).await
    }

    /// One agent.
    ///
    /// # Errors
    /// When the call fails, or there is no such agent.
    pub async fn agent(&self, agent: &AgentId) -> Result<Agent, ClientError> {
        self.get(&["agents", agent.as_str()], &()).await
    }

    /// Takes an agent's token back.
    ///
    /// # Errors
    /// When the call fails, or there is no such agent.
    pub async fn revoke_agent(&self, agent: &AgentId) -> Result<Agent, ClientError> {
        self.send(Method::DELETE, &["agents", agent.as_str()], None::<&()>).await
    }

    /// The integrations of an agent.
    ///
    /// # Errors
    /// When the call fails, or there is no such agent.
    pub async fn integrations(&self, agent: &AgentId) -> Result<AgentIntegrations, ClientError> {
        self.get(&["agents", agent.as_str(), "integrations"], &()).await
    }

    /// Removes a configured integration.
    ///
    /// # Errors
    /// When the call fails, or there is no such agent or integration.
    pub async fn remove_integration(
        &self,
        agent: &AgentId,
        integration: &IntegrationId,
    ) -> Result<AgentIntegrations, ClientError> {
        let path = ["agents", agent.as_str(), "integrations", integration.as_str()];
        self.send(Method::DELETE, &path, None::<&()>).await
    }

    /// Whether an agent collects, by whose section, and which one of this backend it keeps.
    ///
    /// # Errors
    /// When the call fails, or there is no such agent.
    pub async fn collecting(&self, agent: &AgentId) -> Result<AgentCollecting, ClientError> {
        self.get(&["agents", agent.as_str(), "collect"], &()).await
    }

    /// Orders a section `collect`.
    ///
    /// # Errors
    /// When the call fails, or the agent cannot take a command.
    pub async fn order_collecting(&self, agent: &AgentId, section: &Raw) -> Result<Command, ClientError> {
        self.send(Method::PUT, &["agents", agent.as_str(), "collect"], Some(section)).await
    }

    /// Takes that section back.
    ///
    /// # Errors
    /// When the call fails, or the agent cannot take a command.
    pub async fn clear_collecting(&self, agent: &AgentId) -> Result<Command, ClientError> {
        self.send(Method::DELETE, &["agents", agent.as_str(), "collect"], None::<&()>).await
    }

    /// Registers how access tokens are made for an integration.
    ///
    /// # Errors
    /// When the call fails, there is no such agent, or the registration is not valid.
    pub async fn register_oauth(
        &self,
        agent: &AgentId,
        integration: &IntegrationId,
        new: &OAuthRegistration,
    ) -> Result<OAuthInfo, ClientError> {
        let path = ["agents", agent.as_str(), "integrations", integration.as_str(), "oauth"];
        self.send(Method::PUT, &path, Some(new)).await
    }

    /// Removes such a registration; answers those that are left.
    ///
    /// # Errors
    /// When the call fails, or there is no such agent or registration.
    pub async fn remove_oauth(
        &self,
        agent: &AgentId,
        integration: &IntegrationId,
    ) -> Result<Vec<OAuthInfo>, ClientError> {
        let path = ["agents", agent.as_str(), "integrations", integration.as_str(), "oauth"];
        self.send(Method::DELETE, &path, None::<&()>).await
    }

    /// Crashes, the newest first.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn crashes(&self, filter: &CrashFilter) -> Result<Vec<StoredCrash>, ClientError> {
        self.get(&["crashes"], filter).await
    }

    /// All enrollment codes.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn codes(&self) -> Result<Vec<Code>, ClientError> {
        self.get(&["codes"], &()).await
    }

    /// Makes an enrollment code.
    ///
    /// # Errors
    /// When the call fails, or the wish is not valid.
    pub async fn create_code(&self, new: &NewCode) -> Result<CreatedCode, ClientError> {
        self.send(Method::POST, &["codes"], Some(new)).await
    }

    /// Takes an enrollment code back, by its id.
    ///
    /// # Errors
    /// When the call fails, or there is no such code.
    pub async fn revoke_code(&self, id: &str) -> Result<Code, ClientError> {
        self.send(Method::DELETE, &["codes", id], None::<&()>).await
    }

    /// Gives a command to an agent.
    ///
    /// # Errors
    /// When the call fails, or the agent cannot take it.
    pub async fn create_command(&self, new: &NewCommand) -> Result<Command, ClientError> {
        self.send(Method::POST, &["commands"], Some(new)).await
    }

    /// Commands, the newest first.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn commands(&self, filter: &CommandFilter) -> Result<Vec<CommandSummary>, ClientError> {
        self.get(&["commands"], filter).await
    }

    /// One command.
    ///
    /// # Errors
    /// When the call fails, or there is no such command.
    pub async fn command(&self, command: &CommandId) -> Result<Command, ClientError> {
        self.get(&["commands", command.as_str()], &()).await
    }

    /// Cancels a command.
    ///
    /// # Errors
    /// When the call fails, there is no such command, or it has ended.
    pub async fn cancel(&self, command: &CommandId, reason: &str) -> Result<Command, ClientError> {
        let body = CancelCommand { reason: reason.into() };
        self.send(Method::POST, &["commands", command.as_str(), "cancel"], Some(&body)).await
    }

    /// A command's tree of sessions.
    ///
    /// # Errors
    /// When the call fails, or there is no such command.
    pub async fn progress(&self, command: &CommandId) -> Result<Progress, ClientError> {
        self.get(&["commands", command.as_str(), "progress"], &()).await
    }

    /// Lines of a command's log.
    ///
    /// # Errors
    /// When the call fails, or there is no such command.
    pub async fn logs(&self, command: &CommandId, range: LogRange) -> Result<Vec<NumberedLine>, ClientError> {
        self.get(&["commands", command.as_str(), "logs"], &range).await
    }

    /// A command when it is not as it was seen last, or after `query.wait_ms`.
    ///
    /// # Errors
    /// When the call fails, or there is no such command.
    pub async fn watch(&self, command: &CommandId, query: &WatchQuery) -> Result<Watched, ClientError> {
        let url = self.at(&["commands", command.as_str(), "watch"], query);
        let within = REQUEST + Duration::from_millis(query.wait_ms);
        self.answer(self.http.get(url.clone()).timeout(within), &url).await
    }

    /// Uploaded files, the newest first.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn files(&self, filter: &FileFilter) -> Result<Vec<File>, ClientError> {
        self.get(&["files"], filter).await
    }

    /// The content of an uploaded file, compressed as it is.
    ///
    /// # Errors
    /// When the call fails, or there is no such file.
    pub async fn download(&self, file: &File) -> Result<Vec<u8>, ClientError> {
        let number = file.number.to_string();
        let path = ["files", file.agent.as_str(), file.export.as_str(), file.model.as_str(), &number];
        let url = self.at(&path, &());
        self.bytes(self.http.get(url.clone()).timeout(REQUEST), &url).await
    }

    /// A link that logs one browser in, once: the whole address.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn login_link(&self) -> Result<String, ClientError> {
        let link: LoginLink = self.send(Method::POST, &["logins"], None::<&()>).await?;
        Ok(format!("{}{}", self.url(), link.path))
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &impl Serialize,
    ) -> Result<T, ClientError> {
        let url = self.at(path, query);
        self.answer(self.http.get(url.clone()).timeout(REQUEST), &url).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        let url = self.at(path, &());
        let mut request = self.http.request(method, url.clone()).timeout(REQUEST);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.answer(request, &url).await
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
        url: &Url,
    ) -> Result<T, ClientError> {
        let bytes = self.bytes(request, url).await?;
        serde_json::from_slice(&bytes).map_err(|err| ClientError::Answer { url: url.to_string(), err })
    }

    async fn bytes(&self, request: reqwest::RequestBuilder, url: &Url) -> Result<Vec<u8>, ClientError> {
        let broken =
            |err: reqwest::Error| ClientError::Unreachable { url: self.url().into(), err: err.without_url() };
        let response = request.bearer_auth(&self.token).send().await.map_err(broken)?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(broken)?;
        if status.is_success() {
            return Ok(bytes.into());
        }
        Err(refused(status, &bytes, url))
    }

    /// The address of a path of the admin API with the members of `query` that are set.
    fn at(&self, path: &[&str], query: &impl Serialize) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["admin", "v1"]).extend(path);
        }
        if let Ok(serde_json::Value::Object(members)) = serde_json::to_value(query) {
            let pairs = members.into_iter().filter_map(|(name, value)| match value {
                serde_json::Value::Null => None,
                serde_json::Value::String(text) => Some((name, text)),
                other => Some((name, other.to_string())),
            });
            let pairs: Vec<(String, String)> = pairs.collect();
            if !pairs.is_empty() {
                url.query_pairs_mut().extend_pairs(pairs);
            }
        }
        url
    }
}

/// What the backend said, or that it was no backend that said something.
fn refused(status: StatusCode, body: &[u8], url: &Url) -> ClientError {
    let status_code = status.as_u16();
    match serde_json::from_slice::<HttpError>(body) {
        Ok(HttpError { message, hint }) => ClientError::Refused { status: status_code, message, hint },
        Err(_) => ClientError::Refused {
            status: status_code,
            message: format!("{url} answered with status {status}"),
            hint: Some("is that the address of an outrider-backend, or a proxy's answer?".into()),
        },
    }
}
