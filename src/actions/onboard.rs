//! `export-onboard-data`: the lists from which a person chooses what to export.

use outrider_protocol::action::OnboardOrder;
use outrider_protocol::fault::code;
use outrider_protocol::integration::{OnboardExport, OnboardExportParams};
use outrider_protocol::report::{Failure, OnboardOutcome, OnboardReport};

use crate::context::Context;
use crate::host::{self, Host, Stopped};

/// Runs the action.
///
/// # Errors
/// When the integration could not be started, failed, or did not answer. That it does not offer this kind of list is
/// no error: it is an outcome of its own.
pub async fn run(context: &Context, order: OnboardOrder) -> Result<OnboardReport, Box<Failure>> {
    let integration = order.integration;
    let log = context.integration_log(&integration)?;
    let handlers = host::quiet_handlers(log.clone());
    let mut host = Host::start(context, &order.agent, &integration, &log, handlers).await?;
    let params = OnboardExportParams { kind: order.object_type.clone(), config: integration.config.clone() };
    let answered = host.call::<OnboardExport>(&params).await;
    let ended = host.end(answered.as_ref().err()).await.ended;
    let outcome = match answered {
        Ok(reply) => OnboardOutcome::Records { records: reply.records },
        Err(Stopped::Answered(error)) if error.code == code::NOT_SUPPORTED => OnboardOutcome::NotSupported,
        Err(stopped) => return Err(stopped.failure(ended.as_ref(), &log)),
    };
    Ok(OnboardReport { integration: integration.id(), kind: order.object_type, outcome })
}
