//! The integrations of an agent, what is registered for their access tokens, and crashes.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use outrider_protocol::ids::{AgentId, IntegrationId};

use crate::admin::{AgentIntegrations, CrashFilter, OAuthInfo, OAuthRegistration, StoredCrash};
use crate::app::{App, Shared};
use crate::http_error::{ApiError, InBody, InPath, InQuery};
use crate::hub::Change;
use crate::oauth;

/// The longest member of a registration, in bytes.
const LONGEST: usize = 16 * 1024;

pub(super) async fn list(
    State(app): State<Shared>,
    InPath(agent): InPath<AgentId>,
) -> Result<Json<AgentIntegrations>, ApiError> {
    Ok(Json(of_agent(&app, &agent).await?))
}

/// All that is known of the integrations of an agent.
pub(crate) async fn of_agent(app: &App, agent: &AgentId) -> Result<AgentIntegrations, ApiError> {
    let known = app.store.agents(Some(agent)).await?;
    if known.is_empty() {
        return Err(ApiError::not_found(format!("there is no agent {agent}")));
    }
    let installed = app.store.installed(agent).await?;
    Ok(AgentIntegrations {
        agent: agent.clone(),
        installed: installed.report.integrations,
        failed: installed.report.failed,
        told_at: installed.told_at,
        configured: app.store.configured(agent).await?,
        oauth: app.store.oauth_infos(agent).await?,
    })
}

pub(super) async fn remove(
    State(app): State<Shared>,
    InPath((agent, id)): InPath<(AgentId, IntegrationId)>,
) -> Result<Json<AgentIntegrations>, ApiError> {
    let left = of_agent(&app, &agent).await?;
    if !app.store.remove_configured(&agent, &id).await? {
        let ids: Vec<&str> = left.configured.iter().map(|it| it.id.as_str()).collect();
        let message = format!("agent {agent} has no configured integration {id}; it has: {}", ids.join(", "));
        return Err(ApiError::not_found(message));
    }
    tracing::info!(%agent, integration = %id, "Configured integration removed.");
    removed(&app);
    Ok(Json(of_agent(&app, &agent).await?))
}

pub(super) async fn register_oauth(
    State(app): State<Shared>,
    InPath((agent, id)): InPath<(AgentId, IntegrationId)>,
    InBody(body): InBody,
) -> Result<Json<OAuthInfo>, ApiError> {
    of_agent(&app, &agent).await?;
    let new = read(&body)?;
    app.store.register_oauth(&agent, &id, &new, Timestamp::now()).await?;
    tracing::info!(%agent, integration = %id, "Registered for access tokens.");
    removed(&app);
    let infos = app.store.oauth_infos(&agent).await?;
    let info = infos.into_iter().find(|info| info.integration == id);
    info.map(Json)
        .ok_or_else(|| ApiError::new(StatusCode::CONFLICT, "the registration was removed meanwhile"))
}

pub(super) async fn remove_oauth(
    State(app): State<Shared>,
    InPath((agent, id)): InPath<(AgentId, IntegrationId)>,
) -> Result<Json<Vec<OAuthInfo>>, ApiError> {
    of_agent(&app, &agent).await?;
    if !app.store.remove_oauth(&agent, &id).await? {
        let message = format!("nothing is registered for access tokens of integration {id} of agent {agent}");
        return Err(ApiError::not_found(message));
    }
    tracing::info!(%agent, integration = %id, "Registration for access tokens removed.");
    removed(&app);
    Ok(Json(app.store.oauth_infos(&agent).await?))
}

/// Secrets were taken out of the database, or replaced.
fn removed(app: &App) {
    app.unfolded.store(true, Ordering::Relaxed);
    app.hub.changed(Change::Agents);
}

/// Reads a registration. What is wrong with it is said without a word of it: it holds secrets.
fn read(body: &[u8]) -> Result<OAuthRegistration, ApiError> {
    const MEMBERS: &str = "expected an object with token_url, client_id and refresh_token, and perhaps client_secret \
                           and scopes (an array of texts)";
    let new: OAuthRegistration = serde_json::from_slice(body).map_err(|err| {
        let (line, column) = (err.line(), err.column());
        ApiError::bad_request(format!(
            "the registration cannot be read at line {line}, column {column}; {MEMBERS}"
        ))
    })?;
    oauth::check_url(&new.token_url).map_err(|err| ApiError::bad_request(err.to_string()))?;
    let texts = [("client_id", Some(&new.client_id)), ("client_secret", new.client_secret.as_ref())];
    let texts = texts.into_iter().chain([("refresh_token", Some(&new.refresh_token))]);
    for (name, text) in texts.chain(new.scopes.iter().map(|scope| ("scopes", Some(scope)))) {
        let Some(text) = text else { continue };
        if text.is_empty() || text.len() > LONGEST {
            let found = text.len();
            return Err(ApiError::bad_request(format!(
                "`{name}` has {found} bytes; expected 1 to {LONGEST}"
            )));
        }
    }
    Ok(new)
}

pub(super) async fn crashes(
    State(app): State<Shared>,
    InQuery(filter): InQuery<CrashFilter>,
) -> Result<Json<Vec<StoredCrash>>, ApiError> {
    Ok(Json(app.store.crashes(&filter).await?))
}
