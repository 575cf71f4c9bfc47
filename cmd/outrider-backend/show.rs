//! A command with its outcome, for people.

use outrider_backend::admin::{Command, CommandState, ExportCounts};
use outrider_protocol::collect::ordered::{CollectOrderReport, CollectSource};
use outrider_protocol::integration::ProjectState;
use outrider_protocol::report::{
    ActionReport, DescribeReport, ExportMode, ExportReport, Failure, IntegrationOutcome, IntegrationReport,
    LastProcessed, ModelCount, OnboardOutcome, OnboardReport, ProjectReport, ValidateReport,
};
use outrider_protocol::upgrade::UpgradeReport;

use crate::output::{Column, bytes, count, line, ran, span, table};

/// Records of onboarding data that are shown; `--json` shows all.
const RECORDS_SHOWN: usize = 20;
/// Last-processed values of an integration that are shown; `--json` shows all.
const VALUES_SHOWN: usize = 20;
/// Of each, in characters.
const VALUE_SHOWN: usize = 200;

/// Whether a command did what was asked for, and found nothing wrong.
pub(crate) fn is_good(command: &Command) -> bool {
    let is_valid = match &command.report {
        Some(ActionReport::ValidateConfig(report)) => report.errors.is_empty(),
        Some(ActionReport::Upgrade(report)) => report.state.is_good(),
        _ => true,
    };
    let is_whole = command.counts.as_ref().is_none_or(|it| it.fault.is_none());
    command.summary.state == CommandState::Done && is_valid && is_whole
}

fn describe(report: &DescribeReport) {
    for it in &report.integrations {
        line(&format!("{} {}", it.name, it.about.version));
    }
    for it in &report.failed {
        failure(it.name.as_str(), &it.error);
    }
}

/// Writes everything that matters of a command.
pub(crate) fn command(command: &Command) {
    let summary = &command.summary;
    line(&format!("{} {} by {}: {}", summary.action, summary.id, summary.agent, summary.state));
    if summary.started_at.is_some() {
        line(&format!("ran {}", ran(summary.started_at, summary.ended_at)));
    }
    if let Some(report) = &command.report {
        match report {
            ActionReport::Export(report) => export(report),
            ActionReport::ValidateConfig(report) => validate(report),
            ActionReport::ExportOnboardData(report) => onboard(report),
            ActionReport::DescribeIntegrations(report) => describe(report),
            ActionReport::ConfigureCollect(report) => collect_order(report),
            ActionReport::Upgrade(report) => return upgrade(report, command.error.as_ref()),
        }
    }
    if summary.files > 0 {
        let files = count(summary.files);
        line(&format!(
            "{files} file(s) uploaded: {} objects, {}",
            count(summary.objects),
            bytes(summary.bytes)
        ));
    }
    command.counts.iter().for_each(|it| counts(it, command.summary.files));
    if let Some(error) = &command.error {
        failure("", error);
    }
}

/// What was received of what was counted, and loudly where that is not all.
fn counts(counts: &ExportCounts, files: u64) {
    for it in &counts.integrations {
        let (received, reported) = (count(it.received), count(it.reported));
        let earlier = match it.earlier {
            0 => String::new(),
            earlier => format!(", {} of them from before the export was started again", count(earlier)),
        };
        line(&format!("received {received} of {reported} objects of {}{earlier}", it.integration));
    }
    if let (false, Some(sealed)) = (counts.judged, counts.sealed_files) {
        let (sealed, here) = (count(sealed), count(files));
        line(&format!("the counts are not compared: the agent sealed {sealed} file(s), here are {here}"));
    }
    if let Some(fault) = &counts.fault {
        line(&format!("THE COUNTS DIFFER: {fault}"));
    }
}

fn collect_order(report: &CollectOrderReport) {
    // What is wrong stands in the error, too.
    if !report.errors.is_empty() {
        return;
    }
    let kept = if report.kept {
        "the agent keeps the section"
    } else {
        "the agent keeps no section of this backend"
    };
    line(&format!("{kept}; in effect: {}", report.in_effect.map_or("none", CollectSource::word)));
    if let Some(idle) = &report.idle {
        line(&format!("  it is not in effect: {idle}"));
    }
}

/// The outcome in one line, which says why as well; then what can be done about it.
fn upgrade(report: &UpgradeReport, error: Option<&Failure>) {
    line(&report.outcome());
    if report.retryable {
        line("  the same order may do better later");
    }
    if let Some(error) = error {
        advice(error);
    }
}

fn export(report: &ExportReport) {
    report.integrations.iter().for_each(integration);
}

fn took(milliseconds: u64) -> String {
    span(std::time::Duration::from_millis(milliseconds))
}

fn mode(mode: ExportMode) -> &'static str {
    match mode {
        ExportMode::Historical => "historical",
        ExportMode::Incremental => "incremental",
    }
}

fn integration(report: &IntegrationReport) {
    let id = &report.integration;
    let state = match report.state {
        IntegrationOutcome::Done => "done",
        IntegrationOutcome::Failed => "failed",
        IntegrationOutcome::Cancelled => "cancelled",
    };
    let attempts =
        if report.attempts > 1 { format!(", {} attempts", report.attempts) } else { String::new() };
    line(&format!("\n{id}: {state}, {}, {}{attempts}", mode(report.mode), took(report.duration_ms)));
    if let Some(error) = &report.error {
        failure("  ", error);
    }
    if let Some(crash) = &report.crash {
        line(&format!("  {} died: {}: {}", crash.component, crash.cause, crash.detail));
        crash.last_lines.iter().for_each(|last| line(&format!("  | {last}")));
    }
    if report.config_changed {
        line("  it reports a changed configuration, which stays on the agent's host");
    }
    if !report.models.is_empty() {
        line(&models(&report.models));
    }
    if !report.projects.is_empty() {
        line("");
        line(&projects(&report.projects));
    }
    for project in &report.projects {
        if let Some(error) = &project.error {
            failure(&format!("{}: ", project.name), error);
        }
    }
    report.last_processed.iter().for_each(last_processed);
}

/// What the operator of the agent's host lets the backend see.
fn last_processed(shared: &LastProcessed) {
    let all = shared.values.len() as u64 + shared.more;
    if all == 0 {
        return;
    }
    line(&format!("\n  {} last-processed value(s)", count(all)));
    for it in shared.values.iter().take(VALUES_SHOWN) {
        let value = match &it.value {
            Some(value) => start(value.get()),
            None => format!("left out, {}", bytes(it.bytes)),
        };
        line(&format!("  {}: {value}", it.session()));
    }
    let more = all - shared.values.len().min(VALUES_SHOWN) as u64;
    if more > 0 {
        line(&format!("  … {} more (--json shows all that came)", count(more)));
    }
}

/// The start of a value that may be long.
fn start(value: &str) -> String {
    match value.char_indices().nth(VALUE_SHOWN) {
        Some((at, _)) => format!("{}…", &value[..at]),
        None => value.to_owned(),
    }
}

fn models(models: &[ModelCount]) -> String {
    let columns = [
        Column::Text("model"),
        Column::Number("objects"),
        Column::Number("bytes"),
        Column::Number("unchanged"),
        Column::Number("rejected"),
        Column::Number("time"),
    ];
    let rows = models.iter().map(|model| {
        vec![
            model.model.to_string(),
            count(model.objects),
            bytes(model.bytes),
            count(model.unchanged),
            count(model.rejected),
            took(model.duration_ms),
        ]
    });
    table(&columns, rows.collect())
}

fn projects(projects: &[ProjectReport]) -> String {
    let columns = [
        Column::Text("project"),
        Column::Text("state"),
        Column::Text("mode"),
        Column::Number("objects"),
        Column::Number("bytes"),
        Column::Number("unchanged"),
        Column::Number("time"),
    ];
    let rows = projects.iter().map(|project| {
        let state = match project.state {
            ProjectState::Done => "done",
            ProjectState::Skipped => "skipped",
            ProjectState::Failed => "failed",
        };
        vec![
            project.name.clone(),
            state.into(),
            mode(project.mode).into(),
            count(project.objects),
            bytes(project.bytes),
            count(project.unchanged),
            took(project.duration_ms),
        ]
    });
    table(&columns, rows.collect())
}

fn validate(report: &ValidateReport) {
    if let Some(source) = &report.source {
        let facts = [("version", &source.version), ("account", &source.account)];
        for (name, fact) in facts.into_iter().filter_map(|(name, fact)| Some((name, fact.as_ref()?))) {
            line(&format!("{name}: {fact}"));
        }
    }
    if report.errors.is_empty() {
        line(&format!("the configuration of {} is valid", report.integration));
    }
    for error in &report.errors {
        let place = if error.path.is_empty() { "config" } else { &error.path };
        line(&format!("{place}: {}", error.message));
    }
}

fn onboard(report: &OnboardReport) {
    match &report.outcome {
        OnboardOutcome::NotSupported => line(&format!("{} offers no {}", report.integration, report.kind)),
        OnboardOutcome::Records { records } => {
            line(&format!("{} {} of {}", count(records.len() as u64), report.kind, report.integration));
            for record in records.iter().take(RECORDS_SHOWN) {
                line(&format!("  {}", record.get()));
            }
            if records.len() > RECORDS_SHOWN {
                line(&format!("  … {} more (--json shows all)", records.len() - RECORDS_SHOWN));
            }
        }
    }
}

/// What failed, with what can be done and the last lines.
pub(crate) fn failure(prefix: &str, failure: &Failure) {
    line(&format!("{prefix}{}", failure.message));
    advice(failure);
}

fn advice(failure: &Failure) {
    if let Some(hint) = &failure.hint {
        line(&format!("  hint: {hint}"));
    }
    for last in &failure.last_lines {
        line(&format!("  | {last}"));
    }
}
