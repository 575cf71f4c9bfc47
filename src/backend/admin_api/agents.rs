//! Agents.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use outrider_protocol::ids::AgentId;

use crate::admin::Agent;
use crate::app::Shared;
use crate::http_error::{ApiError, InPath};
use crate::hub::Change;

pub(super) async fn list(State(app): State<Shared>) -> Result<Json<Vec<Agent>>, ApiError> {
    Ok(Json(app.agents(None).await?))
}

pub(super) async fn show(
    State(app): State<Shared>,
    InPath(agent): InPath<AgentId>,
) -> Result<Json<Agent>, ApiError> {
    let found = app.agents(Some(&agent)).await?.pop();
    found.map(Json).ok_or_else(|| ApiError::not_found(format!("there is no agent {agent}")))
}

pub(super) async fn revoke(
    State(app): State<Shared>,
    InPath(agent): InPath<AgentId>,
) -> Result<Json<Agent>, ApiError> {
    if app.store.revoke_agent(&agent, Timestamp::now()).await? {
        tracing::info!(%agent, "Agent revoked.");
        app.hub.orders_changed(&agent);
        app.hub.changed(Change::Agents);
    }
    show(State(app), InPath(agent)).await
}
