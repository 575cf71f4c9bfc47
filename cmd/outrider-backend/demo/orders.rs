//! The three commands of the demo, one after the other.

use std::path::PathBuf;

use outrider_backend::admin::{Command, NewCommand};
use outrider_protocol::Raw;
use outrider_protocol::action::{
    AgentConfig, ExportOrder, IntegrationConfig, OnboardOrder, Order, ValidateOrder,
};
use outrider_protocol::ids::IntegrationName;
use outrider_protocol::report::{ActionReport, OnboardOutcome};
use serde_json::json;

use super::stack::Stack;
use crate::follow::{Shown, to_end};
use crate::output::{count, line, ran};
use crate::report::Error;
use crate::show;

/// How the three commands ended.
pub(super) struct Done {
    pub(super) all: bool,
    pub(super) export: Command,
}

/// Orders everything and follows it.
pub(super) async fn give(stack: &Stack, repositories: &[PathBuf]) -> Result<Done, Error> {
    let config = serde_json::value::to_raw_value(&json!({ "repositories": repositories }));
    let config = config.map_err(|err| Error::failure(&err))?;
    let validated = one(stack, Order::ValidateConfig(validate(&config)?)).await?;
    let listed = one(stack, Order::ExportOnboardData(onboard(&config)?)).await?;
    let export = one(stack, Order::Export(export(&config)?)).await?;
    let all = [&validated, &listed, &export].iter().all(|it| show::is_good(it));
    Ok(Done { all, export })
}

async fn one(stack: &Stack, order: Order) -> Result<Command, Error> {
    let client = stack.client()?;
    let new = NewCommand::new(stack.agent()?.clone(), order);
    let command = client.create_command(&new).await?;
    let ended = to_end(client, &command.summary.id, Shown::progress_only()).await?;
    let summary = &ended.summary;
    let took = ran(summary.started_at, summary.ended_at);
    line(&format!("{:<20} {} in {took}{}", summary.action, summary.state, found(&ended)));
    if !show::is_good(&ended) {
        show::command(&ended);
    }
    Ok(ended)
}

/// What a command found, in a few words.
fn found(command: &Command) -> String {
    match &command.report {
        Some(ActionReport::ValidateConfig(report)) if report.errors.is_empty() => {
            ": the configuration is valid".into()
        }
        Some(ActionReport::ExportOnboardData(report)) => match &report.outcome {
            OnboardOutcome::Records { records } => {
                format!(": {} {} to choose from", count(records.len() as u64), report.kind)
            }
            OnboardOutcome::NotSupported => String::new(),
        },
        _ => String::new(),
    }
}

fn git(config: &Raw) -> Result<IntegrationConfig, Error> {
    let name = IntegrationName::new("git").map_err(|err| Error::failure(&err))?;
    Ok(IntegrationConfig { name, id: None, config: config.clone(), secrets: None })
}

fn validate(config: &Raw) -> Result<ValidateOrder, Error> {
    Ok(ValidateOrder { agent: AgentConfig::default(), integration: git(config)?, seal: false })
}

fn onboard(config: &Raw) -> Result<OnboardOrder, Error> {
    Ok(OnboardOrder { agent: AgentConfig::default(), integration: git(config)?, object_type: "repos".into() })
}

fn export(config: &Raw) -> Result<ExportOrder, Error> {
    Ok(ExportOrder {
        agent: AgentConfig::default(),
        integrations: vec![git(config)?],
        reprocess_historical: false,
    })
}
