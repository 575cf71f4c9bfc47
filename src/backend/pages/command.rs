//! One command: where it is, its sessions, outcome, files and log.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use outrider_protocol::ids::CommandId;
use outrider_protocol::report::ActionReport;

use super::live::Fragment;
use super::login::Viewer;
use super::parts::{ago, bytes, chip, count, counted, failure, ran};
use super::{PageError, report, tree, upgrades};
use crate::admin::{Command, ExportCounts, File, FileFilter, NumberedLine};
use crate::app::Shared;
use crate::http_error::{ApiError, InPath};

/// Files listed; the sums count all.
const FILES_SHOWN: u32 = 50;

/// Everything but the log, and whether the command has ended.
pub(super) async fn fragments(app: &Shared, id: &CommandId) -> Result<Vec<Fragment>, ApiError> {
    let command = app.store.command(id).await?;
    let command = command.ok_or_else(|| ApiError::not_found(format!("There is no command {id}.")))?;
    let progress = app.store.progress(id).await?;
    let filter = FileFilter {
        agent: Some(command.summary.agent.clone()),
        export: Some(id.clone().into()),
        limit: Some(FILES_SHOWN),
    };
    let files = app.files(&filter).await?;
    let upgrade = app.store.upgrades(&command.summary.agent, Some(id), 1).await?.pop();
    let can_cancel = !upgrades::is_switched(progress.upgrade.as_ref());
    Ok(vec![
        Fragment::new("head", head(&command, upgrade.is_some(), can_cancel)),
        Fragment::new(
            "upgrade",
            html! { @if let Some(upgrade) = &upgrade { (upgrades::in_progress(upgrade)) } },
        ),
        Fragment::new("outcome", outcome(&command)),
        Fragment::new("sessions", sessions(&tree::tree(&progress), progress.integrations.is_empty())),
        Fragment::new("files", file_list(&command, &files)),
    ])
}

/// Lines of the log as they are appended.
pub(super) fn log_lines(lines: &[NumberedLine]) -> Markup {
    html! {
        @for NumberedLine { line, .. } in lines {
            div.line.(format!("{:?}", line.level).to_lowercase()) {
                span.time { (format!("{:.3}", line.time).split('T').nth(1).unwrap_or_default().trim_end_matches('Z')) }
                " " span.level { (format!("{:<5}", line.level)) } " " span.source { (line.source) } " "
                span.text { (line.message) }
                @for (name, value) in &line.fields {
                    " " span.field { (name) "=" (value.as_str().map_or_else(|| value.to_string(), str::to_owned)) }
                }
            }
        }
    }
}

/// The box around the log, with its first lines.
pub(super) fn log_box(lines: &[NumberedLine]) -> Markup {
    html! {
        h2 { "Log" }
        div.log #log role="log" tabindex="0" aria-label="Log" { (log_lines(lines)) }
    }
}

pub(super) async fn cancel(
    _: Viewer,
    State(app): State<Shared>,
    InPath(command): InPath<CommandId>,
) -> Result<Response, PageError> {
    app.cancel(&command, "cancelled on the backend's page").await.map_err(ApiError::from)?;
    Ok(Redirect::to(&format!("/commands/{command}")).into_response())
}

fn head(command: &Command, is_upgrade: bool, can_cancel: bool) -> Markup {
    let summary = &command.summary;
    let integrations: Vec<&str> = summary.integrations.iter().map(|it| it.id.as_str()).collect();
    html! {
        div.title {
            h1 { (summary.action) }
            (chip(summary.state))
            @if let (Some(asked), false) = (summary.cancel_requested_at, summary.state.is_end()) {
                (tree::cancel_note(asked))
            } @else if can_cancel && !summary.state.is_end() {
                form method="post" action=(format!("/commands/{}/cancel", summary.id)) {
                    button.danger { "Cancel" }
                }
            }
        }
        dl.facts {
            div { dt { "Command" } dd.id { (summary.id) } }
            @if is_upgrade {
                div { dt { "Agent" } dd { a href=(format!("/agents/{}", summary.agent)) { (summary.agent) } } }
            } @else {
                div { dt { "Integrations" } dd { (integrations.join(", ")) } }
            }
            div { dt { "Ordered" } dd { (ago(summary.created_at)) } }
            div { dt { "Ran" } dd { (ran(summary.started_at, summary.ended_at)) } }
            @if !is_upgrade {
                div { dt { "Received" } dd {
                    (counted(summary.objects, "object")) ", " (bytes(summary.bytes)) " in " (counted(summary.files, "file"))
                } }
            }
            @if let (Some(expires), false) = (summary.expires_at, summary.accepted_at.is_some() || summary.state.is_end()) {
                div { dt { "Expires" } dd { (ago(expires)) } }
            }
        }
    }
}

fn sessions(tree: &Markup, is_empty: bool) -> Markup {
    html! { @if !is_empty { h2 { "Sessions" } (tree) } }
}

fn outcome(command: &Command) -> Markup {
    html! {
        @if let Some(counts) = &command.counts { (difference(counts, command.summary.files)) }
        // The report of an upgrade says itself why it failed.
        @if let Some(ActionReport::Upgrade(report)) = &command.report {
            (upgrades::outcome(report, command.error.as_ref()))
        } @else {
            @if let Some(error) = &command.error { (failure(error)) }
            @if let Some(answer) = &command.report { (report::report(answer, command.counts.as_ref())) }
        }
    }
}

/// What was counted and what was received differ: that is never shown as a number alone.
fn difference(counts: &ExportCounts, files: u64) -> Markup {
    html! {
        @if let Some(fault) = &counts.fault {
            div.notice.bad {
                p { strong { "The counts of this export differ." } }
                p { (fault) }
            }
        }
        @if let (false, Some(sealed)) = (counts.judged, counts.sealed_files) {
            p.dim {
                "The counts are not compared: the agent sealed " (counted(sealed, "file")) ", and here "
                (if files == 1 { "is " } else { "are " }) (files) "."
            }
        }
    }
}

fn file_list(command: &Command, files: &[File]) -> Markup {
    let all = command.summary.files;
    html! {
        @if !files.is_empty() {
            h2 { "Files" }
            table.cards {
                thead { tr {
                    th { "File" } th { "Integration" } th.num { "Objects" } th.num { "Size" } th { "Received" }
                } }
                tbody {
                    @for file in files {
                        tr {
                            td.main {
                                a href=(format!("/files/{}/{}/{}/{}", file.agent, file.export, file.model, file.number)) {
                                    (file.model) "/" (file.number) ".json." (file.compression.extension())
                                }
                            }
                            td data-label="Integration" { (file.integration) }
                            td.num data-label="Objects" { (count(file.objects)) }
                            td.num data-label="Size" { (bytes(file.bytes)) }
                            td data-label="Received" { (ago(file.received_at)) }
                        }
                    }
                }
            }
            @if all > files.len() as u64 { p.dim { "… and " (count(all - files.len() as u64)) " earlier ones" } }
        }
    }
}
