//! `validate-config`: an integration tries its configuration against its source.

use outrider_protocol::action::ValidateOrder;
use outrider_protocol::integration::{ConfigError, ValidateConfig, ValidateConfigParams};
use outrider_protocol::report::{Failure, ValidateReport};

use crate::context::Context;
use crate::host::{self, Host};

/// Runs the action.
///
/// # Errors
/// When the integration could not be started or did not answer. A configuration that is not valid is no error of the
/// action: it stands in the report.
pub async fn run(context: &Context, order: ValidateOrder) -> Result<ValidateReport, Box<Failure>> {
    let integration = order.integration;
    let log = context.integration_log(&integration)?;
    let handlers = host::quiet_handlers(log.clone());
    let mut host = Host::start(context, &order.agent, &integration, &log, handlers).await?;
    let params = ValidateConfigParams { config: integration.config.clone() };
    let answered = host.call::<ValidateConfig>(&params).await;
    let (about, ended) = host.end().await;
    let reply = answered.map_err(|stopped| stopped.failure(ended.as_ref(), &log))?;
    Ok(ValidateReport {
        integration: integration.id(),
        integration_version: about.version,
        errors: reply
            .errors
            .into_iter()
            .map(|it| ConfigError { message: log.redact(&it.message), ..it })
            .collect(),
        source: reply.source,
        sealed: None,
    })
}
