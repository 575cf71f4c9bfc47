//! Makes an order of flags.

use outrider_backend::admin::NewCommand;
use outrider_backend::client::Client;
use outrider_protocol::Raw;
use outrider_protocol::action::{
    AgentConfig, ExportOrder, IntegrationConfig, OnboardOrder, Order as WireOrder, ValidateOrder,
};
use outrider_protocol::ids::IntegrationName;

use crate::args::{Export, Onboard, Order};
use crate::connect::find_agent;
use crate::input;
use crate::report::Error;

/// What was ordered, and how the answer is to be shown.
pub(crate) struct Wish {
    pub(crate) order: Order,
    pub(crate) wire: WireOrder,
}

pub(crate) fn export(flags: Export) -> Result<Wish, Error> {
    let Export { order, reprocess_historical } = flags;
    let wire = ExportOrder {
        agent: agent_config(&order)?,
        integrations: integrations(&order)?,
        reprocess_historical,
    };
    Ok(Wish { order, wire: WireOrder::Export(wire) })
}

pub(crate) fn validate(order: Order) -> Result<Wish, Error> {
    let wire =
        ValidateOrder { agent: agent_config(&order)?, integration: only_integration(&order)?, seal: false };
    Ok(Wish { order, wire: WireOrder::ValidateConfig(wire) })
}

pub(crate) fn onboard(flags: Onboard) -> Result<Wish, Error> {
    let Onboard { order, object_type } = flags;
    let wire =
        OnboardOrder { agent: agent_config(&order)?, integration: only_integration(&order)?, object_type };
    Ok(Wish { order, wire: WireOrder::ExportOnboardData(wire) })
}

impl Wish {
    /// What is sent to the backend.
    pub(crate) async fn into_new(self, client: &Client) -> Result<NewCommand, Error> {
        let order = self.order;
        Ok(NewCommand {
            agent: find_agent(client, order.agent.as_deref()).await?,
            order: self.wire,
            expires_in_s: order.expires.map(|time| time.as_secs()),
            time_limit_ms: order.time_limit.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        })
    }
}

fn agent_config(order: &Order) -> Result<AgentConfig, Error> {
    input::json("--agent-config-json", &order.agent_config_json)
}

fn integrations(order: &Order) -> Result<Vec<IntegrationConfig>, Error> {
    if let Some(list) = &order.integrations_json {
        return input::json("--integrations-json", list);
    }
    let name = order.integration.as_deref().unwrap_or_default();
    let name = IntegrationName::new(name).map_err(|err| Error::usage(format!("--integration: {err}")))?;
    let config: Raw = input::json("--config", &order.config)?;
    Ok(vec![IntegrationConfig { name, id: None, config, secrets: None }])
}

fn only_integration(order: &Order) -> Result<IntegrationConfig, Error> {
    let mut all = integrations(order)?;
    match (all.pop(), all.is_empty()) {
        (Some(one), true) => Ok(one),
        (None, _) => Err(Error::usage("--integrations-json names no integration; expected one")),
        (Some(_), false) => Err(Error::usage(format!(
            "--integrations-json names {} integrations; expected one",
            all.len() + 1
        ))),
    }
}
