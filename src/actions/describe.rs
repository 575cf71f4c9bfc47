//! `describe-integrations`: every installed integration is started and asked what it is.

use outrider_protocol::action::{DescribeOrder, IntegrationConfig};
use outrider_protocol::ids::IntegrationName;
use outrider_protocol::integration::{Empty, InitializeReply};
use outrider_protocol::report::{BrokenIntegration, DescribeReport, Failure, InstalledIntegration};

use crate::context::Context;
use crate::host::{self, Host};
use crate::locate;

/// Runs the action. An integration that cannot say what it is stands in the report beside those that can.
///
/// # Errors
/// When the order was cancelled.
pub async fn run(context: &Context, order: DescribeOrder) -> Result<DescribeReport, Box<Failure>> {
    let mut report = DescribeReport::default();
    for name in locate::installed(&context.integration_folders(&order.agent)) {
        match ask(context, &order, name.clone()).await {
            Ok(about) => report.integrations.push(InstalledIntegration { name, about }),
            Err(failure) if context.cancel().is_cancelled() => return Err(failure),
            Err(failure) => report.failed.push(BrokenIntegration { name, error: *failure }),
        }
    }
    Ok(report)
}

async fn ask(
    context: &Context,
    order: &DescribeOrder,
    name: IntegrationName,
) -> Result<InitializeReply, Box<Failure>> {
    let config = serde_json::value::to_raw_value(&Empty {}).unwrap_or_default();
    let integration = IntegrationConfig { name, id: None, config, secrets: None };
    let log = context.integration_log(&integration)?;
    let handlers = host::quiet_handlers(log.clone());
    let host = Host::start(context, &order.agent, &integration, &log, handlers).await?;
    Ok(host.end(None).await.about)
}
