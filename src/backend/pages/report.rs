//! What an action answered, for people.

use std::time::Duration;

use maud::{Markup, html};
use outrider_protocol::collect::ordered::{CollectOrderReport, CollectSource};
use outrider_protocol::crash::Crash;
use outrider_protocol::ids::IntegrationId;
use outrider_protocol::integration::{ConfigError, ProjectState};
use outrider_protocol::report::{
    ActionReport, DescribeReport, ExportMode, ExportReport, IntegrationOutcome, IntegrationReport,
    LastProcessed, ModelCount, OnboardOutcome, OnboardReport, ProjectReport, ValidateReport,
};

use super::integrations::installed_table;
use super::parts::{bytes, count, counted, failure, last_lines, span};
use super::upgrades;
use crate::admin::{ExportCounts, IntegrationCounts};

/// Records of onboarding data listed.
const RECORDS_SHOWN: usize = 50;
/// Projects of one integration listed: those that failed come first.
const PROJECTS_SHOWN: usize = 200;
/// Last-processed values of one integration listed; the API has all that came.
const VALUES_SHOWN: usize = 200;

pub(super) fn report(report: &ActionReport, counts: Option<&ExportCounts>) -> Markup {
    match report {
        ActionReport::Export(report) => export(report, counts),
        ActionReport::ValidateConfig(report) => validation(report),
        ActionReport::ExportOnboardData(report) => onboarding(report),
        ActionReport::DescribeIntegrations(report) => described(report),
        ActionReport::Upgrade(report) => upgrades::outcome(report, None),
        ActionReport::ConfigureCollect(report) => collect_order(report),
    }
}

fn collect_order(report: &CollectOrderReport) -> Markup {
    let in_effect = report.in_effect.map_or("none", CollectSource::word);
    html! {
        @if report.errors.is_empty() {
            div.notice.good {
                p {
                    @if report.kept { "The agent keeps the section." } @else { "The agent keeps no section of this backend." }
                    " In effect: " (in_effect) "."
                }
                @if let Some(idle) = &report.idle { p { "It is not in effect: " (idle) } }
            }
        } @else {
            ul { @for it in &report.errors { (place(it)) } }
        }
    }
}

/// What is wrong, with its place.
fn place(error: &ConfigError) -> Markup {
    html! { li { code { (if error.path.is_empty() { "config" } else { &error.path }) } " " (error.message) } }
}

fn described(report: &DescribeReport) -> Markup {
    html! {
        h2 { "Installed integrations" }
        (installed_table(&report.integrations, &report.failed))
    }
}

fn export(report: &ExportReport, counts: Option<&ExportCounts>) -> Markup {
    let of = |id: &IntegrationId| counts?.integrations.iter().find(|it| it.integration == *id);
    html! {
        @if !report.integrations.is_empty() { h2 { "Report" } }
        @for it in &report.integrations { (integration(it, of(&it.integration))) }
    }
}

fn integration(report: &IntegrationReport, counts: Option<&IntegrationCounts>) -> Markup {
    let (class, word) = match report.state {
        IntegrationOutcome::Done => ("done", "done"),
        IntegrationOutcome::Failed => ("failed", "failed"),
        IntegrationOutcome::Cancelled => ("cancelled", "cancelled"),
    };
    html! {
        section.integration.report {
            div.row.integration-head {
                strong { (report.integration) }
                @if report.integration.as_str() != report.name.as_str() { span.dim { (report.name) } }
                span.chip.(class) { (word) }
                span.dim { (mode(report.mode)) }
                @if report.attempts > 1 { span.dim { (report.attempts) " attempts" } }
                span.count { (took(report.duration_ms)) }
            }
            @if let Some(error) = &report.error { (failure(error)) }
            @if let Some(crash) = &report.crash { (crashed(crash)) }
            @if report.config_changed {
                p.dim { "It reports a changed configuration, which stays on the agent's host." }
            }
            @if let Some(it) = counts {
                p.dim {
                    "Received " (count(it.received)) " of " (counted(it.reported, "object"))
                    @if it.earlier > 0 { ", " (count(it.earlier)) " of them from before the export was started again" }
                }
            }
            @if !report.models.is_empty() { (models(&report.models)) }
            @if !report.projects.is_empty() { (projects(&report.projects)) }
            @if let Some(it) = &report.last_processed { (last_processed(it)) }
        }
    }
}

/// How a process died, with its last words.
pub(super) fn crashed(crash: &Crash) -> Markup {
    html! {
        div.notice.bad {
            p { strong { (crash.component) " died: " (crash.cause) } }
            p { (crash.detail) }
            (last_lines(&crash.last_lines))
        }
    }
}

fn mode(mode: ExportMode) -> &'static str {
    match mode {
        ExportMode::Historical => "historical",
        ExportMode::Incremental => "incremental",
    }
}

fn took(milliseconds: u64) -> String {
    span(Duration::from_millis(milliseconds))
}

fn models(models: &[ModelCount]) -> Markup {
    let any_rejected = models.iter().any(|model| model.rejected > 0);
    html! {
        table.cards {
            thead { tr {
                th { "Model" } th.num { "Objects" } th.num { "Bytes" } th.num { "Unchanged" }
                @if any_rejected { th.num { "Rejected" } }
                th.num { "Time" }
            } }
            tbody {
                @for model in models {
                    tr {
                        td.main { (model.model) }
                        td.num data-label="Objects" { (count(model.objects)) }
                        td.num data-label="Bytes" { (bytes(model.bytes)) }
                        td.num data-label="Unchanged" { (count(model.unchanged)) }
                        @if any_rejected { td.num data-label="Rejected" { (count(model.rejected)) } }
                        td.num data-label="Time" { (took(model.duration_ms)) }
                    }
                }
            }
        }
    }
}

fn projects(projects: &[ProjectReport]) -> Markup {
    let rank = |project: &&ProjectReport| match project.state {
        ProjectState::Failed => 0,
        ProjectState::Skipped => 1,
        ProjectState::Done => 2,
    };
    let mut sorted: Vec<&ProjectReport> = projects.iter().collect();
    sorted.sort_by_key(rank);
    let failed = sorted.iter().filter(|project| project.state == ProjectState::Failed).count();
    html! {
        h3 {
            (count(projects.len() as u64)) " project" @if projects.len() != 1 { "s" }
            @if failed > 0 { ", " (count(failed as u64)) " failed" }
        }
        table.cards {
            thead { tr {
                th { "Project" } th { "State" } th { "Mode" } th.num { "Objects" } th.num { "Bytes" }
                th.num { "Unchanged" } th.num { "Time" }
            } }
            tbody { @for project in sorted.iter().take(PROJECTS_SHOWN) { (project_row(project)) } }
        }
        @if sorted.len() > PROJECTS_SHOWN {
            p.dim { "… and " (count((sorted.len() - PROJECTS_SHOWN) as u64)) " more" }
        }
    }
}

/// What the operator of the agent's host lets the backend see, folded away.
fn last_processed(shared: &LastProcessed) -> Markup {
    let all = shared.values.len() as u64 + shared.more;
    let shown = shared.values.len().min(VALUES_SHOWN);
    html! {
        @if all > 0 {
            details.last-processed {
                summary { (counted(all, "last-processed value")) }
                pre {
                    @for it in &shared.values[..shown] {
                        (it.session()) ": "
                        @match &it.value {
                            Some(value) => (value.get()),
                            None => { "left out, " (bytes(it.bytes)) },
                        }
                        "\n"
                    }
                    @if all > shown as u64 { "… and " (count(all - shown as u64)) " more\n" }
                }
            }
        }
    }
}

fn project_row(project: &ProjectReport) -> Markup {
    let (class, word) = match project.state {
        ProjectState::Done => ("done", "done"),
        ProjectState::Skipped => ("queued", "skipped"),
        ProjectState::Failed => ("failed", "failed"),
    };
    html! {
        tr {
            td.main {
                span title=(project.id) { (project.name) }
                @if let Some(error) = &project.error {
                    div.why.(class) {
                        (error.message)
                        @if let Some(hint) = &error.hint { br; (hint) }
                        (last_lines(&error.last_lines))
                    }
                }
            }
            td data-label="State" { span.chip.(class) { (word) } }
            td data-label="Mode" { (mode(project.mode)) }
            td.num data-label="Objects" { (count(project.objects)) }
            td.num data-label="Bytes" { (bytes(project.bytes)) }
            td.num data-label="Unchanged" { (count(project.unchanged)) }
            td.num data-label="Time" { (took(project.duration_ms)) }
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
                    @for error in &report.errors { (place(error)) }
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
