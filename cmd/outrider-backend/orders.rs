//! Makes an order of flags.

use outrider_backend::admin::NewCommand;
use outrider_backend::client::Client;
use outrider_protocol::Raw;
use outrider_protocol::action::{
    AgentConfig, ExportOrder, IntegrationConfig, OnboardOrder, Order as WireOrder, ValidateOrder,
};
use outrider_protocol::collect::ordered::CollectOrder;
use outrider_protocol::ids::{AgentId, IntegrationId, IntegrationName};

use crate::args::{Collect, Export, Onboard, Order};
use crate::connect::find_agent;
use crate::input;
use crate::output::note;
use crate::report::Error;

/// What was ordered, and how the answer is to be shown.
pub(crate) struct Wish {
    pub(crate) order: Order,
    kind: Kind,
}

enum Kind {
    Export { reprocess_historical: bool },
    Validate,
    Onboard { object_type: String },
}

/// What an order is about.
struct Meant {
    integrations: Vec<IntegrationConfig>,
    /// Whether the backend knows how they are configured.
    configured: bool,
}

pub(crate) fn export(flags: Export) -> Wish {
    let Export { order, reprocess_historical } = flags;
    Wish { order, kind: Kind::Export { reprocess_historical } }
}

pub(crate) fn validate(order: Order) -> Wish {
    Wish { order, kind: Kind::Validate }
}

pub(crate) fn onboard(flags: Onboard) -> Wish {
    let Onboard { order, object_type } = flags;
    Wish { order, kind: Kind::Onboard { object_type } }
}

impl Wish {
    /// What is sent to the backend.
    pub(crate) async fn into_new(self, client: &Client) -> Result<NewCommand, Error> {
        let order = self.order;
        let agent_config: AgentConfig = input::json("--agent-config-json", &order.agent_config_json)?;
        let agent = find_agent(client, order.agent.as_deref()).await?;
        let meant = integrations(client, &agent, &order).await?;
        let configured = meant.configured;
        let wire = match self.kind {
            Kind::Export { reprocess_historical } => WireOrder::Export(ExportOrder {
                agent: agent_config,
                integrations: meant.integrations,
                reprocess_historical,
            }),
            Kind::Validate => {
                let integration = only(meant.integrations)?;
                WireOrder::ValidateConfig(ValidateOrder { agent: agent_config, integration, seal: false })
            }
            Kind::Onboard { object_type } => {
                let integration = only(meant.integrations)?;
                WireOrder::ExportOnboardData(OnboardOrder { agent: agent_config, integration, object_type })
            }
        };
        Ok(NewCommand {
            configured,
            expires_in_s: order.expires.map(|time| time.as_secs()),
            time_limit_ms: order.time_limit.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            ..NewCommand::new(agent, wire)
        })
    }
}

/// An order about the section `collect`.
pub(crate) async fn collect(flags: Collect, client: &Client) -> Result<NewCommand, Error> {
    let section = flags.section.as_deref().map(|it| input::json::<Raw>("--section", it)).transpose()?;
    // On the way it would be the same as none, which takes back what is kept.
    if section.as_ref().is_some_and(|it| it.get().trim() == "null") {
        return Err(Error::usage("--section: found null, expected a section; --clear takes one back"));
    }
    let agent = find_agent(client, flags.agent.as_deref()).await?;
    let order = CollectOrder { section, ..CollectOrder::default() };
    Ok(NewCommand::new(agent, WireOrder::ConfigureCollect(order)))
}

async fn integrations(client: &Client, agent: &AgentId, order: &Order) -> Result<Meant, Error> {
    if let Some(list) = &order.integrations_json {
        let integrations = input::json("--integrations-json", list)?;
        return Ok(Meant { integrations, configured: false });
    }
    let Some(name) = order.integration.as_deref() else {
        return Ok(Meant { integrations: Vec::new(), configured: true });
    };
    let bad = |err| Error::usage(format!("--integration: {err}"));
    if let Some(config) = &order.config {
        let name = IntegrationName::new(name).map_err(bad)?;
        let config: Raw = input::json("--config", config)?;
        return Ok(one(IntegrationConfig { name, id: None, config, secrets: None }, false));
    }
    let id = IntegrationId::new(name).map_err(bad)?;
    let known = client.integrations(agent).await?.configured;
    let nothing: Raw = input::json("--config", "{}")?;
    if let Some(it) = known.into_iter().find(|it| it.id == id) {
        let integration = IntegrationConfig { name: it.name, id: Some(id), config: nothing, secrets: None };
        return Ok(one(integration, true));
    }
    note(&format!(
        "agent {agent} has no configured integration {id}: it is ordered with the configuration {{}}"
    ));
    let name = IntegrationName::new(name).map_err(bad)?;
    Ok(one(IntegrationConfig { name, id: None, config: nothing, secrets: None }, false))
}

fn one(integration: IntegrationConfig, configured: bool) -> Meant {
    Meant { integrations: vec![integration], configured }
}

fn only(mut all: Vec<IntegrationConfig>) -> Result<IntegrationConfig, Error> {
    match (all.pop(), all.is_empty()) {
        (Some(one), true) => Ok(one),
        (None, _) => Err(Error::usage("the order is about no integration; name one with --integration")),
        (Some(_), false) => Err(Error::usage(format!(
            "--integrations-json names {} integrations; expected one",
            all.len() + 1
        ))),
    }
}
