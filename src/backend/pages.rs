//! The pages, for people with a browser: agents, one agent, one command with its sessions, log and files.
//!
//! Everything is rendered here, as fragments with an id each. An open page holds a stream of server-sent events that
//! replaces the fragments which have changed and appends new lines to the log. Without JavaScript the pages show the
//! same, as it is at that moment.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use outrider_protocol::ids::{AgentId, CommandId, ExportId, Model};

use crate::admin_api::send_file;
use crate::app::Shared;
use crate::http_error::{ApiError, InPath};
use crate::store::FileKey;

mod agents;
mod collecting;
mod command;
mod integrations;
mod layout;
mod live;
mod login;
mod measured;
mod parts;
mod report;
mod tree;
mod upgrades;

use live::Page;
use login::Viewer;

pub(crate) fn routes(app: &Shared) -> Router<Shared> {
    Router::new()
        .route("/", get(agents_page))
        .route("/live", get(live::agents))
        .route("/agents/{agent}", get(agent_page))
        .route("/agents/{agent}/live", get(live::agent))
        .route("/agents/{agent}/export", post(integrations::export))
        .route("/agents/{agent}/upgrade", post(upgrades::order))
        .route("/commands/{command}", get(command_page))
        .route("/commands/{command}/live", get(live::command))
        .route("/commands/{command}/cancel", post(command::cancel))
        .route("/files/{agent}/{export}/{model}/{number}", get(download))
        .route("/login", get(login::form).post(login::with_token))
        .route("/login/{secret}", get(login::with_link))
        .route("/logout", post(login::logout))
        .route(
            "/assets/outrider.css",
            get(async || asset("text/css; charset=utf-8", include_str!("pages/outrider.css"))),
        )
        .route(
            "/assets/outrider.js",
            get(async || asset("text/javascript; charset=utf-8", include_str!("pages/outrider.js"))),
        )
        .fallback(not_found)
        .layer(axum::middleware::map_response_with_state(app.clone(), harden))
}

async fn agents_page(_: Viewer, State(app): State<Shared>) -> Result<Response, PageError> {
    Ok(live::whole(&app, &Page::Agents).await?)
}

async fn agent_page(
    _: Viewer,
    State(app): State<Shared>,
    InPath(agent): InPath<AgentId>,
) -> Result<Response, PageError> {
    Ok(live::whole(&app, &Page::Agent(agent)).await?)
}

async fn command_page(
    _: Viewer,
    State(app): State<Shared>,
    InPath(command): InPath<CommandId>,
) -> Result<Response, PageError> {
    Ok(live::whole(&app, &Page::Command(command)).await?)
}

async fn download(
    _: Viewer,
    State(app): State<Shared>,
    InPath((agent, export, model, number)): InPath<(AgentId, ExportId, Model, u64)>,
) -> Result<Response, PageError> {
    Ok(send_file(&app, FileKey { agent, export, model, number }).await?)
}

async fn not_found() -> PageError {
    PageError(ApiError::not_found("There is no such page."))
}

fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    // A short time: the files change with the program, under the same name.
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "private, max-age=60")], text)
}

/// An error as a page.
#[derive(Debug)]
pub(crate) struct PageError(ApiError);

impl From<ApiError> for PageError {
    fn from(err: ApiError) -> Self {
        Self(err)
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let status = self.0.status();
        if status == StatusCode::UNAUTHORIZED {
            return Redirect::to("/login").into_response();
        }
        (status, layout::error(status, self.0.message())).into_response()
    }
}

/// What a page may load and do: nothing from elsewhere, and no frame around it.
async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; \
                  form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
