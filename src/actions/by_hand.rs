//! An action run from a shell: the order was made of flags, the log goes to stdout.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use outrider_home::{Root, StateError};
use outrider_protocol::action::Order;
use outrider_protocol::exit::Exit;
use outrider_protocol::ids::ExportId;
use outrider_protocol::integration::SourceInfo;
use outrider_protocol::report::{
    ActionReport, DescribeReport, ExportReport, Failure, IntegrationOutcome, OnboardOutcome, OnboardReport,
    ValidateReport,
};
use outrider_protocol::upgrade::{UpgradeReport, UpgradeState};
use outrider_versions::Lock;

use crate::context::{Context, PrepareError, Run};
use crate::{Cancel, Outlet, carry_out, export};

/// How a run by hand ended.
#[derive(Debug)]
pub struct Finished {
    /// The exit status.
    pub exit: Exit,
    /// What a person reads: a line or a few.
    pub told: String,
    /// What the action answered, or why it did not.
    pub result: Result<ActionReport, Box<Failure>>,
    /// Of an upgrade: the right to carry the attempt out. Whoever switches next holds it until then, so that nobody takes
    /// the attempt for one that was given up.
    pub worker: Option<Lock>,
}

/// Carries an order out and tells a person how it went. `programs` is the folder of the `outrider` program, `out` takes
/// the log, `stop` ends the action early.
///
/// # Errors
/// When the action cannot begin.
pub async fn run_by_hand(
    root: Root,
    programs: PathBuf,
    mut order: Order,
    out: impl Write + Send + 'static,
    stop: impl Future<Output = &'static str>,
) -> Result<Finished, PrepareError> {
    if let Order::Export(export) = &order
        && let Err(failure) = export::check(export)
    {
        let told = tell_failure(&failure);
        return Ok(Finished { exit: Exit::Usage, told, result: Err(failure), worker: None });
    }
    settle_state(&root, &order).map_err(PrepareError::State)?;
    let cancel = Cancel::default();
    let outlet = Outlet::Hand(Arc::new(Mutex::new(out)));
    let run = Run { id: made_up_id(), programs, outlet, cancel: cancel.clone() };
    let context = Context::prepare(root, run, &mut order)?;
    let work = carry_out(&context, order);
    tokio::pin!(work, stop);
    let result = tokio::select! {
        result = &mut work => result,
        reason = stop => {
            cancel.cancel(reason);
            work.await
        }
    };
    context.flush_log();
    let worker = context.take_kept();
    Ok(match result {
        Ok(report) => {
            let (exit, told) = tell(&report, cancel.is_cancelled());
            Finished { exit, told, result: Ok(report), worker }
        }
        Err(failure) => {
            let exit = if cancel.is_cancelled() { Exit::Cancelled } else { Exit::Failure };
            Finished { exit, told: tell_failure(&failure), result: Err(failure), worker }
        }
    })
}

/// Sees to the state before an order that writes in it; the service has done so before it starts an action.
fn settle_state(root: &Root, order: &Order) -> Result<(), StateError> {
    match order {
        // Its values are to be found by the next one, whichever version that is.
        Order::Export(_) => root.settle_state_by_hand(),
        // What it knows of releases is in the state, and would be in the place of one that is just being migrated.
        Order::Upgrade(_) => root.check_state(),
        Order::ValidateConfig(_)
        | Order::ExportOnboardData(_)
        | Order::DescribeIntegrations(_)
        | Order::ConfigureCollect(_) => Ok(()),
    }
}

/// As `hand-20261121T080000-4711`.
fn made_up_id() -> ExportId {
    let now = Timestamp::now().strftime("%Y%m%dT%H%M%S");
    let text = format!("hand-{now}-{}", std::process::id());
    ExportId::new(text).unwrap_or_else(|_| unreachable!("digits and letters make a valid id"))
}

/// Whether an id was made up here. The service makes such as `hand-20261121T080000123456789` for what people order through
/// it, and comes back to them; to one that was made up nobody does when its process is gone.
pub(crate) fn is_made_up(id: &str) -> bool {
    let parts = id.strip_prefix("hand-").and_then(|it| it.split_once('-'));
    parts.is_some_and(|(_, pid)| !pid.is_empty() && pid.bytes().all(|it| it.is_ascii_digit()))
}

fn tell(report: &ActionReport, cancelled: bool) -> (Exit, String) {
    match report {
        ActionReport::Export(report) => tell_export(report, cancelled),
        ActionReport::ValidateConfig(report) => tell_validation(report),
        ActionReport::ExportOnboardData(report) => tell_onboarding(report),
        ActionReport::DescribeIntegrations(report) => tell_description(report),
        ActionReport::Upgrade(report) => tell_upgrade(report),
        // No action answers it.
        ActionReport::ConfigureCollect(_) => (Exit::Ok, String::new()),
    }
}

fn tell_export(report: &ExportReport, cancelled: bool) -> (Exit, String) {
    let models = || report.integrations.iter().flat_map(|it| &it.models);
    let objects: u64 = models().map(|it| it.objects).sum();
    let bytes: u64 = models().map(|it| it.bytes).sum();
    let (exit, word) = match (report.succeeded(), cancelled) {
        (_, true) => (Exit::Cancelled, "cancelled"),
        (true, false) => (Exit::Ok, "done"),
        (false, false) => (Exit::Failure, "failed"),
    };
    let seconds = std::time::Duration::from_millis(report.duration_ms).as_secs_f64();
    let mut told =
        format!("export {} {word}: {objects} objects, {bytes} bytes in {seconds:.1} s", report.export);
    for it in &report.integrations {
        if it.state != IntegrationOutcome::Done {
            let failure = it.error.as_ref().map(tell_failure).unwrap_or_default();
            let often =
                if it.attempts > 1 { format!(" (started {} times)", it.attempts) } else { String::new() };
            told.push_str(&format!("\n{}{often}: {failure}", it.integration));
        }
        for project in
            it.projects.iter().filter(|it| it.state == outrider_protocol::integration::ProjectState::Failed)
        {
            let error = project.error.as_ref().map_or("failed without saying why", |it| &it.message);
            told.push_str(&format!("\n{}: {}: {error}", it.integration, project.name));
        }
    }
    (exit, told)
}

fn tell_validation(report: &ValidateReport) -> (Exit, String) {
    if report.errors.is_empty() {
        let source = report.source.as_ref().map(tell_source).unwrap_or_default();
        return (Exit::Ok, format!("{}: the configuration is valid{source}", report.integration));
    }
    let mut told = format!("{}: the configuration is not valid:", report.integration);
    for error in &report.errors {
        let path = if error.path.is_empty() { "(whole)" } else { &error.path };
        told.push_str(&format!("\n  {path}: {}", error.message));
    }
    (Exit::Failure, told)
}

/// What a source says of itself, each on a line.
fn tell_source(source: &SourceInfo) -> String {
    let version = source.version.iter().map(|it| format!("\n  version: {it}"));
    let account = source.account.iter().map(|it| format!("\n  account: {it}"));
    let scopes = (!source.scopes.is_empty()).then(|| format!("\n  scopes: {}", source.scopes.join(", ")));
    version.chain(account).chain(scopes).collect()
}

fn tell_onboarding(report: &OnboardReport) -> (Exit, String) {
    match &report.outcome {
        OnboardOutcome::Records { records } => {
            (Exit::Ok, format!("{}: {} {}", report.integration, records.len(), report.kind))
        }
        OnboardOutcome::NotSupported => (
            Exit::NotSupported,
            format!("{}: {} are not supported by this integration", report.integration, report.kind),
        ),
    }
}

fn tell_description(report: &DescribeReport) -> (Exit, String) {
    let mut told = format!("{} integrations are installed", report.integrations.len());
    for it in &report.integrations {
        told.push_str(&format!("\n{} {}", it.name, it.about.version));
    }
    for it in &report.failed {
        told.push_str(&format!("\n{}: {}", it.name, tell_failure(&it.error)));
    }
    (if report.failed.is_empty() { Exit::Ok } else { Exit::Failure }, told)
}

fn tell_upgrade(report: &UpgradeReport) -> (Exit, String) {
    let to = report.to.as_ref().map(|it| format!(" to {it}")).unwrap_or_default();
    match report.state {
        UpgradeState::Arming => (Exit::Ok, format!("upgrade{to}: verified and in place")),
        UpgradeState::AlreadyCurrent => (Exit::Ok, format!("upgrade{to}: it runs already")),
        UpgradeState::Cancelled => (Exit::Cancelled, format!("upgrade{to}: cancelled")),
        state => {
            let failure = crate::upgrade::failure(report);
            (Exit::Failure, format!("upgrade{to}: {}: {}", state.word(), tell_failure(&failure)))
        }
    }
}

fn tell_failure(failure: &Failure) -> String {
    let mut told = failure.message.clone();
    if let Some(hint) = &failure.hint {
        told.push_str(&format!("\n  hint: {hint}"));
    }
    for line in &failure.last_lines {
        told.push_str(&format!("\n  | {line}"));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_run_by_hand_is_called_is_told_from_the_commands_of_a_service() {
        assert!(is_made_up(made_up_id().as_str()));
        for of_a_service in ["hand-20261121T080000123456789", "01a2-7f", "hand-", "hand-1-", "hand-1-x", ""] {
            assert!(!is_made_up(of_a_service), "{of_a_service}");
        }
    }
}
