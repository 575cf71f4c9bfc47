//! The section `collect` that a backend orders: the order, its answer, and what the agent tells of collecting.
//!
//! **Invariant:** the section travels once, in the order. Whatever is told back has stars in the place of its secrets.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Raw;
use crate::action::AgentConfig;
use crate::ids::CommandId;
use crate::integration::ConfigError;

/// An order about the section `collect` that the agent keeps for its backend.
#[derive(Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CollectOrder {
    /// What holds for the whole agent.
    #[serde(default)]
    pub agent: AgentConfig,
    /// The section, as it would stand in config.json, but that it names no file of the host. It may hold secrets. `null`
    /// takes the one back that is kept; that has to be said, so that no misspelt name does it.
    #[serde(deserialize_with = "Option::deserialize")]
    #[cfg_attr(feature = "schema", schemars(required))]
    pub section: Option<Raw>,
}

impl fmt::Debug for CollectOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The section holds secrets.
        f.debug_struct("CollectOrder").field("clears", &self.section.is_none()).finish_non_exhaustive()
    }
}

/// Whose section it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CollectSource {
    /// The operator's: it stands in config.json.
    #[default]
    Config,
    /// The backend's: it was ordered.
    Backend,
}

impl CollectSource {
    /// For people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Config => "config.json",
            Self::Backend => "the backend",
        }
    }
}

/// What became of a [`CollectOrder`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct CollectOrderReport {
    /// Everything that is wrong with the section. Where there is anything, nothing was changed.
    pub errors: Vec<ConfigError>,
    /// Whether the agent keeps a section of the backend now.
    pub kept: bool,
    /// Whose section is in effect now; nothing where none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_effect: Option<CollectSource>,
    /// Why the section that is kept is not in effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<String>,
}

/// Whether an agent collects, by whose section, and what does not work.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct CollectingParams {
    /// Whose section is in effect; nothing where none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<CollectSource>,
    /// Whether it runs.
    pub state: CollectingState,
    /// Since when it runs, or waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub since: Option<Timestamp>,
    /// How it last ended by itself, since the section is in effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_end: Option<CollectEnd>,
    /// What does not work while it runs: outputs that take nothing, APIs that cannot be polled, what is not measured. What
    /// is wrong with what is kept as well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<String>,
    /// What the backend ordered, where the agent keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordered: Option<OrderedSection>,
}

/// Whether collecting runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CollectingState {
    /// No section is in effect.
    #[default]
    Off,
    /// It runs.
    Running,
    /// It ended by itself, and is started again.
    Waiting,
}

impl CollectingState {
    /// The word for it, in JSON and on screens.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Running => "running",
            Self::Waiting => "waiting",
        }
    }
}

/// Collecting ended by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CollectEnd {
    /// When.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub at: Timestamp,
    /// Why.
    pub error: String,
}

/// A section that was ordered, as the agent keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OrderedSection {
    /// By which command.
    pub command: CommandId,
    /// When it was kept.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub at: Timestamp,
    /// The section, with stars in the place of its secrets.
    pub section: serde_json::Value,
    /// Why it is not in effect, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Order;

    #[test]
    fn an_order_keeps_its_section_as_it_came_and_shows_no_word_of_it() {
        let text = r#"{"action":"configure-collect","section":{"outputs": [{"token": "hunter2"}]}}"#;
        let order: Order = serde_json::from_str(text).unwrap();
        assert!(!format!("{order:?}").contains("hunter2"));
        let Order::ConfigureCollect(order) = order else { panic!("{order:?}") };
        assert_eq!(order.section.unwrap().get(), r#"{"outputs": [{"token": "hunter2"}]}"#);
        let clears = r#"{"action":"configure-collect","section":null}"#;
        let Order::ConfigureCollect(order) = serde_json::from_str(clears).unwrap() else { panic!() };
        assert!(order.section.is_none());
        let misspelt = r#"{"action":"configure-collect","sektion":{}}"#;
        let refused = serde_json::from_str::<Order>(misspelt).unwrap_err().to_string();
        assert!(refused.contains("missing field `section`"), "{refused}");
    }

    #[test]
    fn what_an_older_agent_leaves_out_has_a_meaning() {
        let told: CollectingParams = serde_json::from_str("{}").unwrap();
        assert_eq!((told.state, told.source), (CollectingState::Off, None));
    }
}
