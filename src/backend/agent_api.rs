//! Link A as the backend speaks it: enrollment, calls, orders, uploads. Each request but the enrollment carries the
//! agent's token, and reaches that agent's commands and files only.

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::routing::{any, get, post};
use jiff::Timestamp;
use outrider_protocol::bulk::ENROLL_PATH;
use outrider_protocol::control::{ORDERS_PATH, RPC_PATH};
use outrider_protocol::ids::AgentId;

use crate::app::Shared;
use crate::http_error::{ApiError, bearer};
use crate::store::Caller;

mod calls;
mod enroll;
mod orders;
mod rpc;
mod upload;

/// The longest enrollment request, in bytes: a code and a few names.
const ENROLL_BYTES: usize = 64 * 1024;

pub(crate) fn routes(app: &Shared) -> Router<Shared> {
    Router::new()
        .route(ENROLL_PATH, post(enroll::enroll).layer(DefaultBodyLimit::max(ENROLL_BYTES)))
        .route(RPC_PATH, post(rpc::call).layer(DefaultBodyLimit::max(app.limits.message_bytes)))
        .route(ORDERS_PATH, get(orders::stream))
        .route(
            "/agent/v1/uploads/{export}/{model}/{number}",
            axum::routing::head(upload::head).patch(upload::patch).layer(DefaultBodyLimit::disable()),
        )
        .route("/agent/{*rest}", any(async || ApiError::not_found("the agent API has no such path")))
}

/// The agent that sent a request.
#[derive(Debug)]
pub(crate) struct CallingAgent(pub(crate) AgentId);

impl FromRequestParts<Shared> for CallingAgent {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, ApiError> {
        let agent = match app.store.caller(bearer(parts)?).await? {
            Caller::Agent(agent) => agent,
            Caller::Revoked => {
                return Err(ApiError::new(StatusCode::FORBIDDEN, "this agent's token was revoked")
                    .hint("enroll it again with a new code"));
            }
            Caller::Unknown => {
                return Err(ApiError::new(StatusCode::UNAUTHORIZED, "the agent's token is not known here")
                    .hint("is this the backend that it enrolled with? If so, enroll it again"));
            }
        };
        if app.hub.seen(&agent) {
            app.store.agent_seen(&agent, Timestamp::now()).await?;
        }
        Ok(Self(agent))
    }
}
