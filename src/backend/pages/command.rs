//! One command: where it is, its sessions, outcome, files and log.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use outrider_protocol::ids::CommandId;
use outrider_protocol::integration::ProjectState;
use outrider_protocol::report::{
    ActionReport, DescribeReport, ExportReport, Failure, IntegrationReport, OnboardOutcome, OnboardReport,
    ValidateReport,
};

use super::live::Fragment;
use super::login::Viewer;
use super::parts::{ago, bytes, chip, count, counted, ran, span};
use super::{PageError, tree};
use crate::admin::{Command, File, FileFilter, NumberedLine};
use crate::app::Shared;
use crate::http_error::{ApiError, InPath};

/// Files listed; the sums count all.
const FILES_SHOWN: u32 = 50;
/// Records of onboarding data listed.
const RECORDS_SHOWN: usize = 50;
/// Projects listed that were not exported.
const PROJECTS_SHOWN: usize = 50;

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
    Ok(vec![
        Fragment::new("head", head(&command)),
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

fn head(command: &Command) -> Markup {
    let summary = &command.summary;
    let integrations: Vec<&str> = summary.integrations.iter().map(|it| it.id.as_str()).collect();
    html! {
        div.title {
            h1 { (summary.action) }
            (chip(summary.state))
            @if let (Some(asked), false) = (summary.cancel_requested_at, summary.state.is_end()) {
                (tree::cancel_note(asked))
            } @else if !summary.state.is_end() {
                form method="post" action=(format!("/commands/{}/cancel", summary.id)) {
                    button.danger { "Cancel" }
                }
            }
        }
        dl.facts {
            div { dt { "Command" } dd.id { (summary.id) } }
            div { dt { "Integrations" } dd { (integrations.join(", ")) } }
            div { dt { "Ordered" } dd { (ago(summary.created_at)) } }
            div { dt { "Ran" } dd { (ran(summary.started_at, summary.ended_at)) } }
            div { dt { "Received" } dd {
                (counted(summary.objects, "object")) ", " (bytes(summary.bytes)) " in " (counted(summary.files, "file"))
            } }
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
        @if let Some(error) = &command.error { (failure(error)) }
        @match &command.report {
            Some(ActionReport::Export(report)) => (export(report)),
            Some(ActionReport::ValidateConfig(report)) => (validation(report)),
            Some(ActionReport::ExportOnboardData(report)) => (onboarding(report)),
            Some(ActionReport::DescribeIntegrations(report)) => (described(report)),
            None => {},
        }
    }
}

fn described(report: &DescribeReport) -> Markup {
    html! {
        h2 { "Installed integrations" }
        table.cards {
            thead { tr { th { "Integration" } th { "Version" } th { "Models" } } }
            tbody {
                @for it in &report.integrations {
                    tr {
                        td.main { (it.name) }
                        td data-label="Version" { (it.about.version) }
                        td data-label="Models" {
                            @for model in &it.about.models { (model.model) " " }
                        }
                    }
                }
            }
        }
        @for it in &report.failed { (failure(&it.error)) }
    }
}

fn export(report: &ExportReport) -> Markup {
    let any = report.integrations.iter().any(|it| !it.models.is_empty());
    html! {
        @for integration in &report.integrations { (problems(integration)) }
        @if any {
            h2 { "Exported" }
            table.cards {
                thead { tr {
                    th { "Model" } th { "Integration" } th.num { "Objects" } th.num { "Bytes" } th.num { "Time" }
                } }
                tbody {
                    @for integration in &report.integrations {
                        @for model in &integration.models {
                            tr {
                                td.main { (model.model) }
                                td data-label="Integration" { (integration.integration) }
                                td.num data-label="Objects" { (count(model.objects)) }
                                td.num data-label="Bytes" { (bytes(model.bytes)) }
                                td.num data-label="Time" { (span(std::time::Duration::from_millis(model.duration_ms))) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn problems(integration: &IntegrationReport) -> Markup {
    let failed: Vec<_> =
        integration.projects.iter().filter(|project| project.state == ProjectState::Failed).collect();
    html! {
        @if let Some(error) = &integration.error {
            h3 { (integration.integration) }
            (failure(error))
        }
        @if integration.config_changed {
            p.dim { (integration.integration) " reports a changed configuration, which stays on the agent's host." }
        }
        @if !failed.is_empty() {
            div.notice.bad {
                p { strong { (count(failed.len() as u64)) " of " (count(integration.projects.len() as u64))
                    " projects of " (integration.integration) " failed" } }
                ul {
                    @for project in failed.iter().take(PROJECTS_SHOWN) {
                        li { (project.name) @if let Some(error) = &project.error { ": " (error.message) } }
                    }
                    @if failed.len() > PROJECTS_SHOWN { li { "… and more" } }
                }
            }
        }
    }
}

fn validation(report: &ValidateReport) -> Markup {
    html! {
        @if report.errors.is_empty() {
            div.notice.good {
                p { "The configuration of " strong { (report.integration) } " is valid." }
                @if let Some(source) = &report.source {
                    @if let Some(version) = &source.version { p { "Source version: " (version) } }
                    @if let Some(account) = &source.account { p { "Logged in as: " (account) } }
                    @if !source.scopes.is_empty() { p { "Scopes: " (source.scopes.join(", ")) } }
                }
            }
        } @else {
            div.notice.bad {
                p { "The configuration of " strong { (report.integration) } " is not valid." }
                ul {
                    @for error in &report.errors {
                        li { code { (if error.path.is_empty() { "config" } else { &error.path }) } " " (error.message) }
                    }
                }
            }
        }
    }
}

fn onboarding(report: &OnboardReport) -> Markup {
    html! {
        @match &report.outcome {
            OnboardOutcome::NotSupported => {
                div.notice { p { (report.integration) " does not offer " code { (report.kind) } "." } }
            }
            OnboardOutcome::Records { records } => {
                h2 { (count(records.len() as u64)) " " (report.kind) }
                pre.records {
                    @for record in records.iter().take(RECORDS_SHOWN) { (record.get()) "\n" }
                    @if records.len() > RECORDS_SHOWN { "… and " (records.len() - RECORDS_SHOWN) " more\n" }
                }
            }
        }
    }
}

fn failure(failure: &Failure) -> Markup {
    html! {
        div.notice.bad {
            p { strong { (failure.message) } }
            @if let Some(hint) = &failure.hint { p { (hint) } }
            @if !failure.last_lines.is_empty() { pre { (failure.last_lines.join("\n")) } }
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
                                    (file.model) "/" (file.number) ".json.gz"
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
