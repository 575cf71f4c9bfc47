//! The hidden actions: linked to the service, or by hand with JSON in flags.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use outrider_actions::{Finished, PrepareError, run_by_hand, run_linked};
use outrider_home::Root;
use outrider_protocol::action::{
    AgentConfig, DescribeOrder, ExportOrder, IntegrationConfig, OnboardOrder, Order, ValidateOrder,
};
use outrider_protocol::exit::Exit;
use outrider_protocol::report::{ActionReport, Failure, OnboardOutcome};

use crate::args::{Action, Describe, Export, Onboard};
use crate::input;
use crate::report::Error;
use crate::say::say;
use crate::service::{runtime, signals};

pub(crate) fn export(root: Root, flags: Export) -> Result<Exit, Error> {
    let reprocess_historical = flags.reprocess_historical;
    run("export", root, flags.action, |agent, integrations| {
        Ok(Order::Export(ExportOrder { agent, integrations, reprocess_historical }))
    })
}

pub(crate) fn validate_config(root: Root, flags: Action) -> Result<Exit, Error> {
    run("validate-config", root, flags, |agent, integrations| {
        let integration = only_one(integrations)?;
        Ok(Order::ValidateConfig(ValidateOrder { agent, integration, seal: false }))
    })
}

pub(crate) fn export_onboard_data(root: Root, flags: Onboard) -> Result<Exit, Error> {
    let object_type = flags.object_type.unwrap_or_default();
    run("export-onboard-data", root, flags.action, |agent, integrations| {
        let integration = only_one(integrations)?;
        Ok(Order::ExportOnboardData(OnboardOrder { agent, integration, object_type }))
    })
}

pub(crate) fn describe_integrations(root: Root, flags: Describe) -> Result<Exit, Error> {
    run("describe-integrations", root, flags.into(), |agent, _| {
        Ok(Order::DescribeIntegrations(DescribeOrder { agent }))
    })
}

fn only_one(integrations: Vec<IntegrationConfig>) -> Result<IntegrationConfig, Error> {
    let found = integrations.len();
    let mut integrations = integrations.into_iter();
    match (integrations.next(), integrations.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(Error::usage(format!(
            "--integrations-json: found {found} integrations, expected exactly one"
        ))),
    }
}

/// Carries an order out that needs no integration, and tells how that went.
pub(crate) fn by_hand(root: Root, order: Order) -> Result<Finished, Error> {
    let finished = finished(root, programs()?, order)?;
    say(&finished.told);
    Ok(finished)
}

fn finished(root: Root, programs: PathBuf, order: Order) -> Result<Finished, Error> {
    runtime()?.block_on(async {
        let stop = signals()?;
        run_by_hand(root, programs, order, std::io::stdout(), stop).await.map_err(|err| cannot_begin(&err))
    })
}

fn run(
    action: &'static str,
    root: Root,
    flags: Action,
    order: impl FnOnce(AgentConfig, Vec<IntegrationConfig>) -> Result<Order, Error>,
) -> Result<Exit, Error> {
    let programs = programs()?;
    if flags.link {
        let linked = runtime()?.block_on(run_linked(action, root, programs));
        return linked.map_err(|err| Error::of(Exit::Usage, &err));
    }
    let mut agent: AgentConfig = input::json("--agent-config-json", &flags.agent_config_json)?;
    let integrations = flags.integrations_json.as_deref().unwrap_or("[]");
    let integrations = input::json("--integrations-json", integrations)?;
    if let Some(dir) = flags.integrations_dir {
        agent.integrations_dir = Some(dir.display().to_string());
    }
    let order = order(agent, integrations)?;
    // Before any work: a place that cannot be written would cost its result.
    let output = flags.output_file.as_deref().map(create).transpose()?;
    conclude(finished(root, programs, order)?, output)
}

fn cannot_begin(err: &PrepareError) -> Error {
    match err {
        PrepareError::Config(_) | PrepareError::Limits { .. } => Error::of(Exit::Usage, err),
        PrepareError::Root { .. } | PrepareError::Log { .. } | PrepareError::State(_) => Error::failure(err),
    }
}

/// The folder of this program, where the integrations stand that came with it.
pub(crate) fn programs() -> Result<PathBuf, Error> {
    let exe = std::env::current_exe().map_err(|err| Error::failure(&err))?;
    Ok(exe.parent().unwrap_or(Path::new(".")).to_owned())
}

/// Gives the result to a file or a person.
fn conclude(finished: Finished, output: Option<File>) -> Result<Exit, Error> {
    let Finished { exit, told, result, worker: _ } = finished;
    match (output, &result) {
        (Some(file), result) => write_result(file, result)?,
        (None, Ok(ActionReport::ExportOnboardData(report))) => {
            if let OnboardOutcome::Records { records } = &report.outcome {
                records.iter().for_each(say);
            }
        }
        _ => {}
    }
    say(told);
    Ok(exit)
}

/// The records of onboarding data as a JSON array, any other report as it is, and `{"error": …}` where there is none: the
/// file answers in each case.
fn write_result(mut file: File, result: &Result<ActionReport, Box<Failure>>) -> Result<(), Error> {
    let text = match result {
        Ok(report @ ActionReport::ExportOnboardData(onboard)) => match &onboard.outcome {
            OnboardOutcome::Records { records } => serde_json::to_string_pretty(records),
            OnboardOutcome::NotSupported => serde_json::to_string_pretty(report),
        },
        Ok(report) => serde_json::to_string_pretty(report),
        Err(failure) => serde_json::to_string_pretty(&serde_json::json!({ "error": failure })),
    };
    let text = text.map_err(|err| Error::failure(&err))?;
    writeln!(file, "{text}").map_err(|err| Error::failed(format!("--output-file: write the result: {err}")))
}

/// Makes the file for the result, for its owner alone: a result may tell what not everybody should know.
fn create(path: &Path) -> Result<File, Error> {
    let mut options = File::options();
    options.create(true).write(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|err| Error::usage(format!("--output-file: open {}: {err}", path.display())))
}
