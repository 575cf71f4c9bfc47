//! An agent in the same process, for tests of an integration: it keeps what the integration exports, as the real one would,
//! and gives checkpoints back in the next export.
//!
//! ```no_run
//! # async fn example<I: outrider_integration::Integration>(mine: I) -> Result<(), Box<dyn std::error::Error>> {
//! let agent = outrider_integration::testing::Agent::greet(mine).await?;
//! agent.export(&serde_json::json!({ "url": "http://127.0.0.1:1" })).await?;
//! assert_eq!(agent.objects("work.Issue").len(), 1);
//! # Ok(())
//! # }
//! ```

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use outrider_peer::{CallError, Handlers, Limits, Peer, RawParams};
use outrider_protocol::Raw;
use outrider_protocol::fault::RpcError;
use outrider_protocol::ids::{BadId, ExportId, IntegrationId};
use outrider_protocol::integration::{
    Cancel, CancelParams, Empty, Export, ExportParams, ExportReply, Initialize, InitializeParams,
    InitializeReply, Log, LogParams, OAuthAccessToken, OAuthAccessTokenParams, OAuthAccessTokenReply,
    OnboardExport, OnboardExportParams, Pause, PauseParams, Resume, SessionBatch, SessionDone,
    SessionProgress, SessionProgressParams, SessionRollback, SessionSend, SessionStart, Shutdown,
    ValidateConfig, ValidateConfigParams, ValidateConfigReply,
};
use outrider_protocol::version::INTEGRATION;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

use crate::handler::{Integration, record};
use crate::serve::{Served, serve_on};

mod sessions;

/// Bytes on their way between the two; small, so that a test meets a full pipe as well.
const PIPE_BYTES: usize = 64 * 1024;

/// The longest line that this agent takes, unless a test says otherwise.
pub const MAX_LINE_BYTES: u64 = 1024 * 1024;

/// An agent in the same process, connected with one integration.
#[derive(Debug)]
pub struct Agent {
    peer: Peer,
    kept: Arc<Mutex<Kept>>,
    about: InitializeReply,
    /// The integration, where it is one of this process.
    served: Option<JoinHandle<Served>>,
}

/// Everything that the integration told.
#[derive(Debug, Default)]
struct Kept {
    sessions: sessions::Sessions,
    log: Vec<LogParams>,
    progress: Vec<SessionProgressParams>,
    pauses: Vec<PauseParams>,
    batches: usize,
    /// Access tokens that were given.
    tokens: u64,
}

impl Agent {
    /// Serves an integration as a task on the current runtime and greets it.
    ///
    /// # Errors
    /// What it answered to `initialize`.
    pub async fn greet(integration: impl Integration) -> Result<Self, CallError> {
        Self::greet_with(integration, MAX_LINE_BYTES).await
    }

    /// The same, as an agent that takes no longer lines than this.
    ///
    /// # Errors
    /// What it answered to `initialize`.
    pub async fn greet_with(integration: impl Integration, max_line_bytes: u64) -> Result<Self, CallError> {
        Self::greet_in(integration, max_line_bytes, &std::env::temp_dir()).await
    }

    /// The same, with a folder that the integration may keep between runs.
    ///
    /// # Errors
    /// What it answered to `initialize`.
    pub async fn greet_in(
        integration: impl Integration,
        max_line_bytes: u64,
        cache: &Path,
    ) -> Result<Self, CallError> {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let (reader, writer) = tokio::io::split(theirs);
        let served = tokio::spawn(serve_on(integration, reader, writer));
        let (reader, writer) = tokio::io::split(ours);
        let mut agent = Self::greet_as(reader, writer, max_line_bytes, cache).await?;
        agent.served = Some(served);
        Ok(agent)
    }

    /// Greets an integration of another process, in any language, over its stdout and stdin.
    ///
    /// # Errors
    /// What it answered to `initialize`.
    pub async fn greet_over(
        reader: impl AsyncRead + Send + 'static,
        writer: impl AsyncWrite + Send + 'static,
        max_line_bytes: u64,
    ) -> Result<Self, CallError> {
        Self::greet_as(reader, writer, max_line_bytes, &std::env::temp_dir()).await
    }

    async fn greet_as(
        reader: impl AsyncRead + Send + 'static,
        writer: impl AsyncWrite + Send + 'static,
        max_line_bytes: u64,
        cache: &Path,
    ) -> Result<Self, CallError> {
        let kept = Arc::new(Mutex::new(Kept::default()));
        let peer = outrider_peer::connect(reader, writer, handlers(kept.clone()), Limits::default());
        let params = InitializeParams {
            protocol: INTEGRATION,
            agent_version: "0.0.0".to_owned(),
            integration: IntegrationId::new("under-test").map_err(|err| bad_id(&err))?,
            max_line_bytes,
            cache_dir: cache.display().to_string(),
        };
        let about = peer.call::<Initialize>(&params).await?;
        Ok(Self { peer, kept, about, served: None })
    }

    /// What the integration said of itself.
    #[must_use]
    pub fn about(&self) -> &InitializeReply {
        &self.about
    }

    /// Orders an export. What the integration left unfinished is dropped at its end.
    ///
    /// # Errors
    /// What the integration answered.
    pub async fn export(&self, config: &Value) -> Result<ExportReply, CallError> {
        let params = ExportParams {
            export: ExportId::new("e1").map_err(|err| bad_id(&err))?,
            config: raw(config)?,
            customer_id: None,
            reprocess_historical: false,
        };
        let reply = self.peer.call_within::<Export>(None, &params).await;
        self.kept().sessions.end();
        reply
    }

    /// Lets the integration try a configuration.
    ///
    /// # Errors
    /// What the integration answered.
    pub async fn validate(&self, config: &Value) -> Result<ValidateConfigReply, CallError> {
        self.peer.call_within::<ValidateConfig>(None, &ValidateConfigParams { config: raw(config)? }).await
    }

    /// Asks for onboarding data.
    ///
    /// # Errors
    /// What the integration answered.
    pub async fn onboard(&self, kind: &str, config: &Value) -> Result<Vec<Value>, CallError> {
        let params = OnboardExportParams { kind: kind.to_owned(), config: raw(config)? };
        let reply = self.peer.call_within::<OnboardExport>(None, &params).await?;
        Ok(reply.records.iter().map(|it| parsed(it.get())).collect())
    }

    /// Tells the integration to end the running call.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn cancel(&self, reason: &str) -> Result<(), CallError> {
        self.peer.notify::<Cancel>(&CancelParams { reason: reason.to_owned() }).await
    }

    /// Ends the integration, and returns how it ended; that of another process is [`Served::Finished`] as far as its
    /// agent can tell.
    ///
    /// # Errors
    /// When it did not answer.
    pub async fn shut_down(self) -> Result<Served, CallError> {
        self.peer.call::<Shutdown>(&Empty {}).await?;
        Ok(self.hang_up().await)
    }

    /// Closes the link as an agent that dies does, and returns how the integration ended.
    pub async fn hang_up(self) -> Served {
        self.peer.close().await;
        match self.served {
            // A panic of the SDK itself is the only error.
            Some(served) => served.await.unwrap_or(Served::Panicked),
            None => Served::Finished,
        }
    }

    /// The durable objects of a model, over all exports, in the order in which their sessions were finished.
    #[must_use]
    pub fn objects(&self, model: &str) -> Vec<Value> {
        self.kept().sessions.durable(model).iter().map(|it| parsed(it)).collect()
    }

    /// Forgets the durable objects, not the checkpoints: what [`Agent::objects`] shows later is new.
    pub fn forget_objects(&self) {
        self.kept().sessions.forget_durable();
    }

    /// The stored last-processed value of a session, by its path: names, and ids of objects where there are any.
    #[must_use]
    pub fn checkpoint(&self, path: &[(&str, Option<&str>)]) -> Option<Value> {
        self.kept().sessions.checkpoint(path).map(|it| parsed(it.get()))
    }

    /// What the integration logged.
    #[must_use]
    pub fn log(&self) -> Vec<LogParams> {
        self.kept().log.clone()
    }

    /// The progress that it told.
    #[must_use]
    pub fn progress(&self) -> Vec<SessionProgressParams> {
        self.kept().progress.clone()
    }

    /// The pauses that it told.
    #[must_use]
    pub fn pauses(&self) -> Vec<PauseParams> {
        self.kept().pauses.clone()
    }

    /// How many batches of objects came.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.kept().batches
    }

    /// How many sessions are open.
    #[must_use]
    pub fn open_sessions(&self) -> usize {
        self.kept().sessions.open_count()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        lock(&self.kept)
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

fn handlers(kept: Arc<Mutex<Kept>>) -> Handlers<Arc<Mutex<Kept>>> {
    type Shared = Arc<Arc<Mutex<Kept>>>;
    let mut handlers = Handlers::new(kept);
    handlers
        .on::<SessionStart, _, _>(|kept: Shared, params| async move { lock(&kept).sessions.start(params) })
        .on_raw::<SessionSend, _, _>(|kept: Shared, params: RawParams| async move {
            let batch = params.parse_borrowed::<SessionBatch<'_>>()?;
            let mut kept = lock(&kept);
            kept.batches += 1;
            kept.sessions.send(&batch)
        })
        .on::<SessionDone, _, _>(|kept: Shared, params| async move { lock(&kept).sessions.done(params) })
        .on::<SessionRollback, _, _>(|kept: Shared, params| async move {
            lock(&kept).sessions.rollback(params.session)
        })
        .on::<Pause, _, _>(|kept: Shared, params| async move {
            lock(&kept).pauses.push(params);
            Ok(Empty {})
        })
        .on::<Resume, _, _>(|_: Shared, Empty {}| async move { Ok(Empty {}) })
        .on::<OAuthAccessToken, _, _>(|kept: Shared, params| async move { Ok(lock(&kept).token(params)) })
        .on_notice::<SessionProgress, _, _>(|kept: Shared, params| async move {
            lock(&kept).progress.push(params);
        })
        .on_notice::<Log, _, _>(|kept: Shared, params| async move {
            lock(&kept).log.push(params);
        });
    handlers
}

impl Kept {
    /// `access-token-N` of generation N: a new one where none was given yet, or the last was refused.
    fn token(&mut self, params: OAuthAccessTokenParams) -> OAuthAccessTokenReply {
        if self.tokens == 0 || params.refused == Some(self.tokens) {
            self.tokens += 1;
        }
        let access_token = format!("access-token-{}", self.tokens);
        OAuthAccessTokenReply { access_token, generation: self.tokens, expires_at: None }
    }
}

fn bad_id(err: &BadId) -> CallError {
    CallError::Rpc(RpcError::new(outrider_protocol::fault::code::INVALID_PARAMS, err.to_string()))
}

fn raw(value: &Value) -> Result<Raw, CallError> {
    record(value).map_err(|err| CallError::Rpc(err.into()))
}

/// The JSON was checked when it came in.
fn parsed(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or(Value::Null)
}
