//! Collecting on the host of an agent: the section that this backend orders, and what the agent says.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use outrider_protocol::Raw;
use outrider_protocol::action::Order;
use outrider_protocol::collect::ordered::CollectOrder;
use outrider_protocol::ids::AgentId;

use crate::admin::{AgentCollecting, Command, NewCommand};
use crate::app::{App, Shared};
use crate::http_error::{ApiError, InBody, InPath};
use crate::orders;

pub(super) async fn show(
    State(app): State<Shared>,
    InPath(agent): InPath<AgentId>,
) -> Result<Json<AgentCollecting>, ApiError> {
    Ok(Json(of_agent(&app, &agent).await?))
}

/// All that is known of collecting on the host of an agent.
pub(crate) async fn of_agent(app: &App, agent: &AgentId) -> Result<AgentCollecting, ApiError> {
    if app.store.agents(Some(agent)).await?.is_empty() {
        return Err(ApiError::not_found(format!("there is no agent {agent}")));
    }
    let (told, told_at) = app.store.collecting(agent).await?.unzip();
    let ordered = app.store.collect_ordered(agent).await?;
    Ok(AgentCollecting { agent: agent.clone(), told, told_at, ordered })
}

pub(super) async fn order(
    State(app): State<Shared>,
    InPath(agent): InPath<AgentId>,
    InBody(body): InBody,
) -> Result<Json<Command>, ApiError> {
    // Not repeated: it holds secrets.
    let section: Raw = serde_json::from_slice(&body).map_err(|err| {
        let (line, column) = (err.line(), err.column());
        ApiError::bad_request(format!(
            "the body cannot be read at line {line}, column {column}; expected a section `collect`, as it stands in \
             config.json"
        ))
    })?;
    take(&app, agent, Some(section)).await
}

pub(super) async fn clear(
    State(app): State<Shared>,
    InPath(agent): InPath<AgentId>,
) -> Result<Json<Command>, ApiError> {
    take(&app, agent, None).await
}

async fn take(app: &App, agent: AgentId, section: Option<Raw>) -> Result<Json<Command>, ApiError> {
    let order = Order::ConfigureCollect(CollectOrder { section, ..CollectOrder::default() });
    let id = orders::take(app, NewCommand::new(agent, order)).await?;
    let command = app.store.command(&id).await?;
    command.map(Json).ok_or_else(|| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the command {id} was stored and is gone"))
    })
}
