//! Access tokens for integrations, made of refresh tokens that stay here (RFC 6749, section 6).
//!
//! **Invariant:** a refresh token and a client secret leave this process in one way: in the body of a POST to the
//! registered token URL, which is not followed elsewhere. They are in no log, error, page or answer.
//!
//! **Invariant:** for one integration, one refresh is under way, however many ask; who asked while it was has its
//! outcome. It goes on to its end when those who asked are gone: the token server may have replaced the refresh token.
//!
//! **Invariant:** a new refresh token is on disk before the access token that came with it is answered. An access token
//! is in memory only; after a restart the next one has a higher generation.
//!
//! A refresh token that the server refuses (`invalid_grant`) is not tried again: a person has to authorize anew, and
//! registers the new one. Everything that may pass by itself is [`Retry::Later`].

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use outrider_protocol::action::OAuthParams;
use outrider_protocol::fault::{ErrorData, Fault, Retry, RpcError, code};
use outrider_protocol::ids::{AgentId, IntegrationId};
use outrider_protocol::integration::OAuthAccessTokenReply;

use crate::app::Shared;
use crate::store::{Refreshed, Registration, StoreError};

mod token_server;
use token_server::{Grant, GrantFault, TokenServer};
pub(crate) use token_server::{check_url, shown_url};

/// An access token that ends within this time is not given again: it has to last for the calls that it is meant for.
const LEAST_LEFT: Duration = Duration::from_secs(60);

/// The access tokens of all integrations.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    slots: Mutex<HashMap<(AgentId, IntegrationId), Arc<Slot>>>,
    server: TokenServer,
}

/// One integration's. Whoever holds the lock is the one who asks the token server.
type Slot = tokio::sync::Mutex<Held>;

#[derive(Debug, Default)]
struct Held {
    token: Option<Token>,
    /// A new refresh token that could not be stored, with the access token that came with it.
    unsaved: Option<(i64, Grant)>,
    failed: Option<(Instant, RpcError)>,
}

#[derive(Clone)]
struct Token {
    revision: i64,
    reply: OAuthAccessTokenReply,
    good_until: Option<Timestamp>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("generation", &self.reply.generation).finish_non_exhaustive()
    }
}

impl Token {
    /// Whether it can be given to somebody of whom a token was refused.
    fn serves(&self, registration: &Registration, refused: Option<u64>, now: Timestamp) -> bool {
        self.revision == registration.revision
            && refused.is_none_or(|refused| self.reply.generation > refused)
            && self.good_until.is_none_or(|until| now < until)
    }
}

impl Tokens {
    fn slot(&self, agent: &AgentId, integration: &IntegrationId) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry((agent.clone(), integration.clone())).or_default())
    }

    /// Waits until no refresh is under way: what one brings has to be stored.
    pub(crate) async fn settle(&self) {
        let slots: Vec<Arc<Slot>> = {
            let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.values().map(Arc::clone).collect()
        };
        for slot in slots {
            drop(slot.lock().await);
        }
    }
}

/// An access token for an integration of an agent.
pub(crate) async fn access_token(
    app: &Shared,
    agent: &AgentId,
    params: OAuthParams,
) -> Result<OAuthAccessTokenReply, RpcError> {
    // Nobody makes slots for integrations that there are not.
    if app.store.oauth(agent, &params.integration).await.map_err(|err| storage(&err))?.is_none() {
        return Err(not_registered(agent, &params.integration));
    }
    let asked = Instant::now();
    let ask = Ask { app: Arc::clone(app), agent: agent.clone(), params, asked };
    // A task of its own goes on to its end when the connection breaks and this request is dropped.
    let task = tokio::spawn(async move { ask.answer().await });
    task.await.map_err(|_| RpcError::new(code::INTERNAL, "the refresh of an access token ended by a bug"))?
}

struct Ask {
    app: Shared,
    agent: AgentId,
    params: OAuthParams,
    asked: Instant,
}

impl Ask {
    async fn answer(&self) -> Result<OAuthAccessTokenReply, RpcError> {
        let slot = self.app.tokens.slot(&self.agent, &self.params.integration);
        let mut held = slot.lock().await;
        let found = self.app.store.oauth(&self.agent, &self.params.integration).await;
        let found = found.map_err(|err| storage(&err))?;
        let registration = found.ok_or_else(|| not_registered(&self.agent, &self.params.integration))?;
        if let Some((revision, grant)) = held.unsaved.take()
            && revision == registration.revision
        {
            self.keep(&mut held, &registration, grant).await?;
        }
        if let Some(token) = &held.token
            && token.serves(&registration, self.params.refused, Timestamp::now())
        {
            return Ok(token.reply.clone());
        }
        if let Some(why) = &registration.refused {
            return Err(refused(&self.params.integration, why));
        }
        if let Some((at, err)) = &held.failed
            && *at >= self.asked
        {
            return Err(err.clone());
        }
        let outcome = self.refresh(&mut held, &registration).await;
        held.failed = outcome.as_ref().err().map(|err| (Instant::now(), err.clone()));
        outcome
    }

    async fn refresh(
        &self,
        held: &mut Held,
        registration: &Registration,
    ) -> Result<OAuthAccessTokenReply, RpcError> {
        let (agent, integration) = (&self.agent, &self.params.integration);
        match self.app.tokens.server.refresh(registration).await {
            Ok(grant) => self.keep(held, registration, grant).await,
            Err(fault) => {
                tracing::warn!(%agent, %integration, error = %fault, "An access token could not be refreshed.");
                if let GrantFault::InvalidGrant(why) = &fault {
                    let noted =
                        self.app.store.oauth_refused(agent, integration, registration.revision, why).await;
                    noted.map_err(|err| storage(&err))?;
                    self.app.hub.changed(crate::hub::Change::Agents);
                }
                Err(told(integration, fault))
            }
        }
    }

    /// Stores what the token server gave, then answers it.
    async fn keep(
        &self,
        held: &mut Held,
        registration: &Registration,
        grant: Grant,
    ) -> Result<OAuthAccessTokenReply, RpcError> {
        let (agent, integration) = (&self.agent, &self.params.integration);
        // After a return to an older database the agent may know of later ones.
        let generation = registration.generation.max(self.params.refused.unwrap_or(0)).saturating_add(1);
        let now = Timestamp::now();
        let revision = registration.revision;
        let news = Refreshed { revision, generation, refresh_token: grant.refresh_token.as_deref() };
        let stored = self.app.store.oauth_refreshed(agent, integration, news, now);
        match stored.await {
            Ok(true) => {}
            Ok(false) => return Err(changed_meanwhile(integration)),
            Err(err) => {
                held.unsaved = Some((revision, grant));
                return Err(storage(&err));
            }
        }
        if grant.refresh_token.is_some() {
            self.app.unfolded.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        let expires_at = grant.expires_in.and_then(|time| now.checked_add(time).ok());
        let good_until = expires_at.and_then(|at| {
            let spare = grant.expires_in.unwrap_or_default() / 10;
            at.checked_sub(spare.min(LEAST_LEFT)).ok()
        });
        let reply = OAuthAccessTokenReply { access_token: grant.access_token, generation, expires_at };
        held.token = Some(Token { revision, reply: reply.clone(), good_until });
        tracing::info!(%agent, %integration, generation, rotated = grant.refresh_token.is_some(), "Access token refreshed.");
        self.app.hub.changed(crate::hub::Change::Agents);
        Ok(reply)
    }
}

fn storage(err: &StoreError) -> RpcError {
    tracing::error!(error = outrider_protocol::fault::chain(err), "The store failed.");
    let data = ErrorData { fault: Some(Fault::Backend), retry: Some(Retry::Later), ..ErrorData::default() };
    RpcError {
        code: code::STORAGE,
        message: "the backend could not read or store the registration for access tokens; its log says why"
            .into(),
        data: Some(data),
    }
}

fn not_registered(agent: &AgentId, integration: &IntegrationId) -> RpcError {
    let message = format!(
        "the backend has no registration for access tokens of integration {integration} of agent {agent}"
    );
    RpcError::failed(Fault::Caller, Retry::No, message)
        .hint("register one with `outrider-backend integration oauth set`")
}

fn changed_meanwhile(integration: &IntegrationId) -> RpcError {
    let message = format!("the registration for access tokens of {integration} was changed during a refresh");
    RpcError::failed(Fault::Backend, Retry::Later, message)
}

fn refused(integration: &IntegrationId, why: &str) -> RpcError {
    let message = format!(
        "refresh the access token of {integration}: the token server refuses the refresh token: {why}"
    );
    RpcError::failed(Fault::Source, Retry::No, message).hint(
        "a person has to authorize again, and to register the new refresh token with `outrider-backend integration \
         oauth set`",
    )
}

fn told(integration: &IntegrationId, fault: GrantFault) -> RpcError {
    match fault {
        GrantFault::InvalidGrant(why) => refused(integration, &why),
        GrantFault::Refused(why) => {
            let message =
                format!("refresh the access token of {integration}: the token server refuses it: {why}");
            RpcError::failed(Fault::Caller, Retry::No, message)
                .hint("check the client id, its secret, the scopes and the token URL of the registration")
        }
        fault @ (GrantFault::Away(_) | GrantFault::Answer(_)) => RpcError::failed(
            Fault::Source,
            Retry::Later,
            format!("refresh the access token of {integration}: {fault}"),
        ),
    }
}
