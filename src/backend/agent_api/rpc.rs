//! `POST /agent/v1/rpc`: one JSON-RPC 2.0 request a body.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response as HttpResponse};
use jsonrpsee::types::{ErrorObject, Id, Request, Response, ResponsePayload};
use outrider_protocol::Raw;
use outrider_protocol::fault::{RpcError, code};

use super::{CallingAgent, calls};
use crate::app::Shared;
use crate::http_error::InBody;

/// How much of a body that does not parse goes to the log, in bytes.
const QUOTED_BYTES: usize = 200;

pub(super) async fn call(
    State(app): State<Shared>,
    CallingAgent(agent): CallingAgent,
    InBody(body): InBody,
) -> HttpResponse {
    let request: Request<'_> = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(err) => {
            let quoted = String::from_utf8_lossy(&body[..body.len().min(QUOTED_BYTES)]);
            tracing::warn!(%agent, %err, body = %quoted, "A call does not parse.");
            let (code, what) = if err.is_data() || body.trim_ascii_start().starts_with(b"[") {
                (code::INVALID_REQUEST, "the body is no JSON-RPC 2.0 request (batches are not taken)")
            } else {
                (code::PARSE, "the body is no JSON")
            };
            return answer(Id::Null, Err(RpcError::new(code, format!("{what}: {err}"))));
        }
    };
    let params = request.params.as_ref().map_or("{}", |params| params.get());
    let outcome = calls::dispatch(&app, &agent, &request.method, params).await;
    if let Err(err) = &outcome {
        tracing::warn!(%agent, method = %request.method, code = err.code, error = %err, "A call was refused.");
    }
    answer(request.id, outcome)
}

fn answer(id: Id<'_>, outcome: Result<Raw, RpcError>) -> HttpResponse {
    let payload = match outcome {
        Ok(reply) => ResponsePayload::success(reply),
        Err(err) => ResponsePayload::error(ErrorObject::owned(err.code, err.message, err.data)),
    };
    let text = serde_json::to_vec(&Response::new(payload, id)).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}
