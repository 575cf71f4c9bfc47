//! How a browser gets in: by a link that works once, or by the admin token; then by a cookie.

use axum::extract::{Form, FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use jiff::Timestamp;
use serde::Deserialize;

use super::{PageError, layout};
use crate::admin_api::after;
use crate::app::Shared;
use crate::http_error::{ApiError, InPath};
use crate::secret::Hash;
use crate::store::Pass;

/// The cookie of a browser that is logged in.
const COOKIE: &str = "outrider_session";

/// Somebody who may look.
#[derive(Debug)]
pub(crate) struct Viewer;

impl FromRequestParts<Shared> for Viewer {
    type Rejection = PageError;
    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, PageError> {
        let good = match cookie(&parts.headers) {
            Some(secret) => {
                app.store.session_is_good(secret, Timestamp::now()).await.map_err(ApiError::from)?
            }
            None => false,
        };
        if !good {
            return Err(ApiError::new(StatusCode::UNAUTHORIZED, "Log in first.").into());
        }
        // A form on somebody else's page cannot make this browser do things here.
        let foreign = parts.headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site");
        if foreign && parts.method != axum::http::Method::GET {
            return Err(ApiError::new(StatusCode::FORBIDDEN, "This request came from another site.").into());
        }
        Ok(Self)
    }
}

#[derive(Deserialize)]
pub(super) struct TokenForm {
    token: String,
}

pub(super) async fn form() -> Response {
    layout::login(None).into_response()
}

pub(super) async fn with_token(
    State(app): State<Shared>,
    Form(form): Form<TokenForm>,
) -> Result<Response, PageError> {
    if !Hash::of(form.token.trim()).is(app.admin.as_bytes()) {
        let page = layout::login(Some("That is not the admin token of this backend."));
        return Ok((StatusCode::UNAUTHORIZED, page).into_response());
    }
    log_in(&app).await
}

pub(super) async fn with_link(
    State(app): State<Shared>,
    InPath(secret): InPath<String>,
) -> Result<Response, PageError> {
    if !app.store.redeem_link(&secret, Timestamp::now()).await.map_err(ApiError::from)? {
        let page = layout::login(Some("This link was used already, or is too old."));
        return Ok((StatusCode::UNAUTHORIZED, page).into_response());
    }
    log_in(&app).await
}

async fn log_in(app: &Shared) -> Result<Response, PageError> {
    let expires_at = after(Timestamp::now(), app.limits.login)?;
    let secret = app.store.issue_pass(Pass::Session, expires_at).await.map_err(ApiError::from)?;
    let secure = if app.secure { "; Secure" } else { "" };
    let age = app.limits.login.as_secs();
    let cookie = format!("{COOKIE}={secret}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}");
    Ok((AppendHeaders([(header::SET_COOKIE, cookie)]), Redirect::to("/")).into_response())
}

pub(super) async fn logout(
    _: Viewer,
    State(app): State<Shared>,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    if let Some(secret) = cookie(&headers) {
        app.store.end_session(secret).await.map_err(ApiError::from)?;
    }
    let gone = format!("{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax");
    Ok((AppendHeaders([(header::SET_COOKIE, gone)]), Redirect::to("/login")).into_response())
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}
