//! What is asked of a running service on its own host: over the socket `state/service.sock` of the root, that its owner alone may use, JSON-RPC 2.0
//! with a message a line, as on the other links. The commands that people type ask here, and the watcher of an upgrade.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::call::calls;
use crate::ids::CommandId;
use crate::integration::Empty;
use crate::upgrade::{Build, UpgradeOrder};

calls! {
    /// How the service is. Answered at once, whatever else it does.
    Health = "health": Empty => HealthReply;
    /// Upgrade the agent, as if the backend had ordered it.
    Upgrade = "upgrade": UpgradeOrder => TakenReply;
    /// Take the version on trial back; where none is, go to the version before by an attempt like any other, which needs no
    /// network.
    Rollback = "rollback": Empty => TakenReply;
}

/// The order is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TakenReply {
    /// As this command.
    pub command: CommandId,
}

/// How the service is. That it answers says that its configuration is loaded and its state is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HealthReply {
    /// Its version, as the program says.
    pub version: String,
    /// Its build, when it runs from a version of a root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
    /// Its process.
    pub pid: u32,
    /// When it started.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub started_at: Timestamp,
    /// Whether an action that it starts answers.
    pub self_test: SelfTest,
    /// What the backend says of it.
    pub backend: BackendLink,
}

/// Whether an action that the service starts answers. Tried once after each start that an upgrade leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum SelfTest {
    /// It was not tried, or runs.
    Pending,
    /// It answered.
    Answered,
    /// It did not.
    Failed {
        /// What happened.
        why: String,
    },
}

/// What the backend says of the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum BackendLink {
    /// Nothing yet.
    Unknown,
    /// It has answered this service's `agent.hello`, which names the build.
    CheckedIn {
        /// When it did last.
        #[cfg_attr(feature = "schema", schemars(with = "String"))]
        at: Timestamp,
    },
    /// It cannot be reached.
    Away {
        /// What went wrong last.
        error: String,
    },
    /// It is reached, and is busy or has an error of its own: HTTP 429 or 5xx. No fault of this service.
    Busy {
        /// What it said last.
        error: String,
    },
    /// It does not take this agent.
    Refused {
        /// What it said.
        error: String,
    },
}
