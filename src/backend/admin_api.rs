//! The admin API, `/admin/v1`: what operators, the command line and other programs use. Every request carries the admin
//! token; agents' tokens open nothing here. [`crate::openapi`] describes it.

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{any, delete, get, post, put};
use axum::{Json, Router};
use jiff::Timestamp;

use crate::admin::{About, LoginLink};
use crate::app::Shared;
use crate::http_error::{ApiError, bearer};
use crate::secret::Hash;
use crate::store::Pass;

mod agents;
mod codes;
mod collecting;
mod commands;
mod files;
mod integrations;

pub(crate) use collecting::of_agent as collecting_of;
pub(crate) use files::send as send_file;
pub(crate) use integrations::of_agent as integrations_of;

pub(crate) fn routes(app: &Shared) -> Router<Shared> {
    let api = Router::new()
        .route("/about", get(about))
        .route("/agents", get(agents::list))
        .route("/agents/{agent}", get(agents::show).delete(agents::revoke))
        .route("/agents/{agent}/integrations", get(integrations::list))
        .route("/agents/{agent}/integrations/{integration}", delete(integrations::remove))
        .route(
            "/agents/{agent}/integrations/{integration}/oauth",
            put(integrations::register_oauth).delete(integrations::remove_oauth),
        )
        .route(
            "/agents/{agent}/collect",
            get(collecting::show).put(collecting::order).delete(collecting::clear),
        )
        .route("/crashes", get(integrations::crashes))
        .route("/codes", get(codes::list).post(codes::create))
        .route("/codes/{code}", delete(codes::revoke))
        .route("/commands", get(commands::list).post(commands::create))
        .route("/commands/{command}", get(commands::show))
        .route("/commands/{command}/cancel", post(commands::cancel))
        .route("/commands/{command}/progress", get(commands::progress))
        .route("/commands/{command}/logs", get(commands::logs))
        .route("/commands/{command}/watch", get(commands::watch))
        .route("/files", get(files::list))
        .route("/files/{agent}/{export}/{model}/{number}", get(files::download))
        .route("/logins", post(login))
        .route("/openapi.json", get(openapi))
        .route(
            "/{*rest}",
            any(async || ApiError::not_found("the admin API has no such path; see /admin/v1/openapi.json")),
        )
        .layer(DefaultBodyLimit::max(app.limits.message_bytes))
        .layer(middleware::from_fn_with_state(app.clone(), with_token));
    Router::new().nest("/admin/v1", api)
}

async fn with_token(State(app): State<Shared>, request: Request, next: Next) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    if !Hash::of(bearer(&parts)?).is(app.admin.as_bytes()) {
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, "this is not the admin token of this backend")
            .hint("it stands in the file admin-token in the backend's data folder"));
    }
    Ok(next.run(Request::from_parts(parts, body)).await)
}

async fn about() -> Json<About> {
    Json(About { version: env!("CARGO_PKG_VERSION").into() })
}

async fn openapi() -> Json<serde_json::Value> {
    Json(crate::openapi::document())
}

async fn login(State(app): State<Shared>) -> Result<Json<LoginLink>, ApiError> {
    Ok(Json(login_link(&app).await?))
}

/// A link that logs one browser in, once.
pub(crate) async fn login_link(app: &Shared) -> Result<LoginLink, ApiError> {
    let expires_at = after(Timestamp::now(), app.limits.login_link)?;
    let secret = app.store.issue_pass(Pass::Link, expires_at).await?;
    Ok(LoginLink { path: format!("/login/{secret}"), expires_at })
}

/// A time from now, or an error if it lies beyond what a calendar holds.
pub(crate) fn after(now: Timestamp, time: std::time::Duration) -> Result<Timestamp, ApiError> {
    let too_far = |_| ApiError::bad_request(format!("{} seconds from now is too far away", time.as_secs()));
    now.checked_add(time).map_err(too_far)
}
