//! What every call of an author may do: log, pause, learn of a cancel.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use outrider_peer::{CallError, Peer};
use outrider_protocol::Call;
use outrider_protocol::ids::{IntegrationId, SessionId};
use outrider_protocol::integration::{
    Empty, InitializeParams, Log, LogParams, OAuthAccessToken, OAuthAccessTokenParams, OAuthAccessTokenReply,
    Pause, PauseParams, Resume, SessionRollback, SessionRollbackParams,
};
use outrider_protocol::log::{Fields, Level};
use tokio::sync::watch;

use crate::error::Error;

/// A long pause is repeated to the agent this often, so that it never takes the silence for death.
const PAUSE_REPEATED: Duration = Duration::from_secs(60);

/// What every call of an author may do. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    peer: Peer,
    agent: Arc<InitializeParams>,
    cancel: watch::Receiver<Option<String>>,
    /// Sessions that were dropped unfinished, the earliest first: rolled back before the next one opens or ends.
    abandoned: Mutex<Vec<SessionId>>,
}

impl Context {
    pub(crate) fn new(
        peer: Peer,
        agent: Arc<InitializeParams>,
        cancel: watch::Receiver<Option<String>>,
    ) -> Self {
        Self(Arc::new(Inner { peer, agent, cancel, abandoned: Mutex::default() }))
    }

    /// Which configured integration of the agent this process is.
    #[must_use]
    pub fn integration(&self) -> &IntegrationId {
        &self.0.agent.integration
    }

    /// The agent's version, for logs.
    #[must_use]
    pub fn agent_version(&self) -> &str {
        &self.0.agent.agent_version
    }

    /// A folder that this integration may keep between runs, for clones and caches. It may not exist yet.
    #[must_use]
    pub fn cache_dir(&self) -> PathBuf {
        Path::new(&self.0.agent.cache_dir).to_owned()
    }

    /// The longest line that the agent takes, in bytes.
    pub(crate) fn max_line_bytes(&self) -> usize {
        usize::try_from(self.0.agent.max_line_bytes).unwrap_or(usize::MAX)
    }

    /// Writes a line to the integration's log. Waits while the agent is slow to take it; is dropped when the agent is gone.
    pub async fn log(&self, level: Level, message: &str, fields: Fields) {
        let line = LogParams { level, message: message.to_owned(), fields };
        // An agent that is gone is noticed by every call that matters.
        drop(self.0.peer.notify::<Log>(&line).await);
    }

    /// Logs what an author wants to see.
    pub async fn debug(&self, message: &str) {
        self.log(Level::Debug, message, Fields::new()).await;
    }

    /// Logs what an operator wants to see.
    pub async fn info(&self, message: &str) {
        self.log(Level::Info, message, Fields::new()).await;
    }

    /// Logs what is odd while the work goes on.
    pub async fn warn(&self, message: &str) {
        self.log(Level::Warn, message, Fields::new()).await;
    }

    /// Logs what failed while the work goes on.
    pub async fn error(&self, message: &str) {
        self.log(Level::Error, message, Fields::new()).await;
    }

    /// Waits until a time that the source asked for, and shows the agent that it does.
    ///
    /// # Errors
    /// [`Error::Cancelled`], at once when the cancel comes; or when the agent is gone.
    pub async fn pause(&self, until: Timestamp, reason: &str) -> Result<(), Error> {
        self.check()?;
        while let Ok(left) = Duration::try_from(until.duration_since(Timestamp::now()))
            && !left.is_zero()
        {
            self.call::<Pause>(&PauseParams { until, reason: reason.to_owned() }).await?;
            tokio::select! {
                () = tokio::time::sleep(left.min(PAUSE_REPEATED)) => {}
                reason = self.cancelled() => {
                    self.call::<Resume>(&Empty {}).await?;
                    return Err(Error::Cancelled { reason });
                }
            }
        }
        self.call::<Resume>(&Empty {}).await?;
        Ok(())
    }

    /// An access token for the source, which the backend makes of a refresh token that stays there. When the source
    /// refused one, give its `generation`: then a newer one comes. Ask for each use, or keep it until it is refused; the agent
    /// stars it out of every log.
    ///
    /// # Errors
    /// When the backend could not make one, or cannot be asked, as in a run by hand.
    pub async fn access_token(&self, refused: Option<u64>) -> Result<OAuthAccessTokenReply, Error> {
        self.check()?;
        self.call::<OAuthAccessToken>(&OAuthAccessTokenParams { refused }).await
    }

    /// Whether the agent wants the call to end.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancel.borrow().is_some()
    }

    /// Waits until the agent wants the call to end; says why.
    pub async fn cancelled(&self) -> String {
        cancelled(self.0.cancel.clone()).await
    }

    /// An error if the agent wants the call to end: for loops that neither send nor open sessions.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub fn check(&self) -> Result<(), Error> {
        match &*self.0.cancel.borrow() {
            Some(reason) => Err(Error::Cancelled { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.0.peer
    }

    async fn call<M: Call>(&self, params: &M::Params) -> Result<M::Reply, Error> {
        self.0
            .peer
            .call::<M>(params)
            .await
            .map_err(|err| Error::Agent { method: M::NAME, err: Box::new(err) })
    }

    /// Remembers a session that was dropped unfinished.
    pub(crate) fn abandon(&self, session: SessionId) {
        self.0.abandoned.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    }

    /// Rolls back what was dropped unfinished, children before parents.
    pub(crate) async fn roll_back_abandoned(&self) -> Result<(), Error> {
        let mut sessions =
            std::mem::take(&mut *self.0.abandoned.lock().unwrap_or_else(PoisonError::into_inner));
        sessions.sort_unstable_by(|a, b| b.cmp(a));
        for session in sessions {
            let params = SessionRollbackParams { session };
            match self.0.peer.call::<SessionRollback>(&params).await {
                // The agent forgot it already, with a parent of it or after an error of its own.
                Ok(_) | Err(CallError::Rpc(_)) => {}
                Err(err) => return Err(Error::Agent { method: SessionRollback::NAME, err: Box::new(err) }),
            }
        }
        Ok(())
    }
}

/// Waits for a cancel; for ever when none can come any more.
pub(crate) async fn cancelled(mut cancel: watch::Receiver<Option<String>>) -> String {
    let reason = cancel.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
    match reason {
        Some(reason) => reason,
        None => std::future::pending().await,
    }
}
