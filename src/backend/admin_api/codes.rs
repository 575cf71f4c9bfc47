//! Enrollment codes.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;

use super::after;
use crate::admin::{Code, CreatedCode, NewCode};
use crate::app::Shared;
use crate::http_error::{ApiError, InBody, InPath, json_body};

pub(super) async fn list(State(app): State<Shared>) -> Result<Json<Vec<Code>>, ApiError> {
    Ok(Json(app.store.codes(Timestamp::now()).await?))
}

pub(super) async fn create(
    State(app): State<Shared>,
    InBody(body): InBody,
) -> Result<Json<CreatedCode>, ApiError> {
    let new: NewCode = json_body(&body)?;
    if new.uses == 0 {
        return Err(ApiError::bad_request("`uses` is 0; expected at least 1"));
    }
    let now = Timestamp::now();
    let expires_at = after(now, Duration::from_secs(new.expires_in_s))?;
    let created = app.store.create_code(new, expires_at, now).await?;
    tracing::info!(code = created.stored.id, uses = created.stored.uses, "Enrollment code created.");
    Ok(Json(created))
}

pub(super) async fn revoke(
    State(app): State<Shared>,
    InPath(code): InPath<String>,
) -> Result<Json<Code>, ApiError> {
    let revoked = app.store.revoke_code(&code, Timestamp::now()).await?;
    revoked.map(Json).ok_or_else(|| {
        ApiError::not_found(format!("there is no enrollment code {code}")).hint(
            "codes are revoked by their id, which `outrider-backend code list` shows, not by the code itself",
        )
    })
}
