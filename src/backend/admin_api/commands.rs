//! Commands, their progress and logs.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use outrider_protocol::ids::CommandId;
use outrider_protocol::progress::Progress;
use tokio::sync::broadcast::error::RecvError;

use crate::admin::{
    CancelCommand, Command, CommandFilter, CommandSummary, LogRange, NewCommand, NumberedLine, WatchQuery,
    Watched,
};
use crate::app::{App, LINES_AT_ONCE, Shared};
use crate::http_error::{ApiError, InBody, InPath, InQuery, json_body};
use crate::hub::Change;
use crate::orders;
use crate::store::CancelOutcome;

/// The longest time a watch may wait; proxies cut longer ones.
const LONGEST_WATCH: Duration = Duration::from_secs(30);
/// Changes within this time are told together.
const GATHER: Duration = Duration::from_millis(100);
/// Lines of a log in one answer, at most.
const MOST_LINES: u32 = 10_000;

pub(super) async fn list(
    State(app): State<Shared>,
    InQuery(filter): InQuery<CommandFilter>,
) -> Result<Json<Vec<CommandSummary>>, ApiError> {
    Ok(Json(app.store.commands(&filter).await?))
}

pub(super) async fn create(
    State(app): State<Shared>,
    InBody(body): InBody,
) -> Result<Json<Command>, ApiError> {
    let new: NewCommand = json_body(&body)?;
    let id = orders::take(&app, new).await?;
    Ok(Json(find(&app, &id).await?))
}

pub(super) async fn show(
    State(app): State<Shared>,
    InPath(command): InPath<CommandId>,
) -> Result<Json<Command>, ApiError> {
    Ok(Json(find(&app, &command).await?))
}

pub(super) async fn cancel(
    State(app): State<Shared>,
    InPath(command): InPath<CommandId>,
    InBody(body): InBody,
) -> Result<Json<Command>, ApiError> {
    let wish: CancelCommand = json_body(&body)?;
    match app.cancel(&command, &wish.reason).await? {
        CancelOutcome::NoCommand => Err(no_command(&command)),
        CancelOutcome::AlreadyEnded(state) => Err(ApiError::new(
            StatusCode::CONFLICT,
            format!("command {command} has ended already: it is {state}"),
        )),
        CancelOutcome::Ended | CancelOutcome::Asked(_) => Ok(Json(find(&app, &command).await?)),
    }
}

pub(super) async fn progress(
    State(app): State<Shared>,
    InPath(command): InPath<CommandId>,
) -> Result<Json<Progress>, ApiError> {
    find(&app, &command).await?;
    Ok(Json(app.store.progress(&command).await?))
}

pub(super) async fn logs(
    State(app): State<Shared>,
    InPath(command): InPath<CommandId>,
    InQuery(range): InQuery<LogRange>,
) -> Result<Json<Vec<NumberedLine>>, ApiError> {
    find(&app, &command).await?;
    let limit = range.limit.unwrap_or(LINES_AT_ONCE).min(MOST_LINES);
    Ok(Json(app.store.log_lines(&command, range.after, limit).await?))
}

/// Answers as soon as something is not as the asker saw it last, or after the time it is ready to wait.
pub(super) async fn watch(
    State(app): State<Shared>,
    InPath(command): InPath<CommandId>,
    InQuery(query): InQuery<WatchQuery>,
) -> Result<Json<Watched>, ApiError> {
    let deadline = tokio::time::Instant::now() + Duration::from_millis(query.wait_ms).min(LONGEST_WATCH);
    let mut changes = app.hub.watch_changes();
    loop {
        let now = app.watched(&command, query.after_line).await?.ok_or_else(|| no_command(&command))?;
        let same = query.mark.as_ref() == Some(&now.mark) && now.lines.is_empty();
        if !same || tokio::time::Instant::now() >= deadline || app.stopping.is_cancelled() {
            return Ok(Json(now));
        }
        tokio::select! {
            () = tokio::time::sleep_until(deadline) => {}
            () = app.stopping.cancelled() => {}
            () = changed(&mut changes, &command) => tokio::time::sleep(GATHER).await,
        }
    }
}

async fn changed(changes: &mut tokio::sync::broadcast::Receiver<Change>, command: &CommandId) {
    loop {
        match changes.recv().await {
            Ok(Change::Command(changed)) if changed == *command => return,
            Ok(_) => {}
            Err(RecvError::Lagged(_) | RecvError::Closed) => return,
        }
    }
}

async fn find(app: &App, command: &CommandId) -> Result<Command, ApiError> {
    app.store.command(command).await?.ok_or_else(|| no_command(command))
}

fn no_command(command: &CommandId) -> ApiError {
    ApiError::not_found(format!("there is no command {command}"))
}
