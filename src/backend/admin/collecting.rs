//! What the admin API says of collecting on the hosts of agents.

use jiff::Timestamp;
use outrider_protocol::collect::ordered::CollectingParams;
use outrider_protocol::ids::AgentId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Command;

/// Collecting on the host of an agent.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AgentCollecting {
    /// Whose.
    pub agent: AgentId,
    /// What the agent last said: whether it collects, by whose section, what does not work, and which section of this
    /// backend it keeps. Nothing for an agent that never said anything: it may be older than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<CollectingParams>,
    /// When the agent said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub told_at: Option<Timestamp>,
    /// The latest order of this backend about it, as long as it is kept here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered: Option<CollectOrdered>,
}

/// An order about the section `collect` of an agent.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct CollectOrdered {
    /// Whether it takes a section back.
    pub clears: bool,
    /// The command, and what became of it.
    pub command: Command,
}
