//! A command with its outcome, for people.

use outrider_backend::admin::{Command, CommandState};
use outrider_protocol::report::{
    ActionReport, DescribeReport, ExportReport, Failure, IntegrationReport, OnboardOutcome, OnboardReport,
    ValidateReport,
};

use crate::output::{Column, bytes, count, line, ran, span, table};

/// Records of onboarding data that are shown; `--json` shows all.
const RECORDS_SHOWN: usize = 20;

/// Whether a command did what was asked for, and found nothing wrong.
pub(crate) fn is_good(command: &Command) -> bool {
    let is_valid = match &command.report {
        Some(ActionReport::ValidateConfig(report)) => report.errors.is_empty(),
        _ => true,
    };
    command.summary.state == CommandState::Done && is_valid
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
    if let Some(error) = &command.error {
        failure("", error);
    }
}

fn export(report: &ExportReport) {
    let columns = [
        Column::Text("integration"),
        Column::Text("model"),
        Column::Number("objects"),
        Column::Number("bytes"),
        Column::Number("time"),
    ];
    let rows = report.integrations.iter().flat_map(|integration| {
        integration.models.iter().map(|model| {
            vec![
                integration.integration.to_string(),
                model.model.to_string(),
                count(model.objects),
                bytes(model.bytes),
                span(std::time::Duration::from_millis(model.duration_ms)),
            ]
        })
    });
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        line(&table(&columns, rows));
    }
    report.integrations.iter().for_each(integration);
}

fn integration(report: &IntegrationReport) {
    let id = &report.integration;
    if report.config_changed {
        line(&format!("{id}: reports a changed configuration, which stays on the agent's host"));
    }
    for project in &report.projects {
        if let Some(error) = &project.error {
            line(&format!("{id}: {}: {:?}: {}", project.name, project.state, error.message));
        }
    }
    if let Some(error) = &report.error {
        failure(&format!("{id}: "), error);
    }
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

fn failure(prefix: &str, failure: &Failure) {
    line(&format!("{prefix}{}", failure.message));
    if let Some(hint) = &failure.hint {
        line(&format!("  hint: {hint}"));
    }
    for last in &failure.last_lines {
        line(&format!("  | {last}"));
    }
}
