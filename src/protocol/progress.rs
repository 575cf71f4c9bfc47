//! How far an export is: the tree of its sessions as a list of nodes, sent whole or in part. The latest state of a
//! node wins, so a lost or merged update harms nothing.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{IntegrationId, SessionId};
use crate::integration::{SessionKind, SessionObject};
use crate::upgrade::UpgradeProgress;

/// Nodes of the progress tree that changed since the last update.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Progress {
    /// Integrations that changed.
    pub integrations: Vec<IntegrationProgress>,
    /// Sessions that changed. Of many finished sessions below one parent only the last are kept: the parent's
    /// `children_done` counts them all.
    pub sessions: Vec<SessionProgress>,
    /// How far an upgrade is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<UpgradeProgress>,
}

/// Where one integration is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct IntegrationProgress {
    /// Which one.
    pub integration: IntegrationId,
    /// What it does.
    pub state: IntegrationState,
    /// Until when it waits, when the state is `paused`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub paused_until: Option<Timestamp>,
    /// Why it waits, when the state is `paused`: the source's rate limit, a full spool, a failure before another try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_for: Option<String>,
    /// Objects accepted so far.
    pub objects: u64,
    /// Their JSON in bytes.
    pub bytes: u64,
}

/// What an integration does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum IntegrationState {
    /// Its process is being started.
    Starting,
    /// It exports.
    Running,
    /// It waits for its source.
    Paused,
    /// It is finished.
    Done,
    /// It failed.
    Failed,
    /// It was cancelled.
    Cancelled,
}

/// Where one session is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionProgress {
    /// The session.
    pub session: SessionId,
    /// The session it is nested in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<SessionId>,
    /// Whose it is.
    pub integration: IntegrationId,
    /// Whether it carries objects.
    pub kind: SessionKind,
    /// Its name; a model's for a model session.
    pub name: String,
    /// The object of the parent that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<SessionObject>,
    /// Where it is.
    pub state: SessionState,
    /// Steps done, as the integration counts them.
    pub current: u64,
    /// Steps in all, where the integration knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Objects accepted in it.
    pub objects: u64,
    /// Finished sessions right below it.
    pub children_done: u64,
}

/// Where a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// It is open.
    Open,
    /// It is done and durable.
    Done,
    /// What it sent was dropped, by the integration or because the integration ended without finishing it.
    RolledBack,
}
