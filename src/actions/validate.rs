//! `validate-config`: an integration tries its configuration against its source.

use outrider_protocol::action::ValidateOrder;
use outrider_protocol::integration::{ConfigError, SourceInfo, ValidateConfig, ValidateConfigParams};
use outrider_protocol::report::{Failure, ValidateReport};

use crate::context::Context;
use crate::host::{self, Gone, Host};
use crate::integration_log::IntegrationLog;
use crate::sealing;

/// Runs the action. Where the order asks for it, a valid configuration is answered with its secrets encrypted.
///
/// # Errors
/// When the integration could not be started or did not answer, and when its secrets could not be decrypted or
/// encrypted. A configuration that is not valid is no error of the action: it stands in the report.
pub async fn run(context: &Context, order: ValidateOrder) -> Result<ValidateReport, Box<Failure>> {
    let integration = order.integration;
    let log = context.integration_log(&integration)?;
    let handlers = host::quiet_handlers(log.clone());
    let mut host = Host::start(context, &order.agent, &integration, &log, handlers).await?;
    let params = ValidateConfigParams { config: integration.config.clone() };
    let answered = host.call::<ValidateConfig>(&params).await;
    let Gone { about, ended, .. } = host.end(answered.as_ref().err()).await;
    let reply = answered.map_err(|stopped| stopped.failure(ended.as_ref(), &log))?;
    let sealed = if order.seal && reply.errors.is_empty() {
        Some(sealing::seal(context.root(), &integration, about.config_schema.as_deref())?)
    } else {
        None
    };
    Ok(ValidateReport {
        integration: integration.id(),
        integration_version: log.redact(&about.version),
        errors: reply.errors.iter().map(|it| without_secrets(it, &log)).collect(),
        source: reply.source.map(|it| source_without_secrets(it, &log)),
        sealed,
    })
}

fn without_secrets(error: &ConfigError, log: &IntegrationLog) -> ConfigError {
    ConfigError { path: log.redact(&error.path), message: log.redact(&error.message) }
}

fn source_without_secrets(source: SourceInfo, log: &IntegrationLog) -> SourceInfo {
    let SourceInfo { version, account, scopes } = source;
    let redact = |it: String| log.redact(&it);
    SourceInfo {
        version: version.map(redact),
        account: account.map(redact),
        scopes: scopes.into_iter().map(redact).collect(),
    }
}
