//! What the service is doing, written down for people who ask while it runs: the journal itself is locked then.

use std::path::PathBuf;

use jiff::Timestamp;
use outrider_home::{FileError, Root, atomic};
use outrider_protocol::ids::CommandId;
use serde::{Deserialize, Serialize};

use crate::collecting::CollectStatus;

/// The state of a running service, in the root's folder `state`. It only informs: nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// The service's version.
    pub(crate) version: String,
    /// When it started.
    pub(crate) started_at: Timestamp,
    /// The way to the backend.
    pub(crate) link: LinkStatus,
    /// The commands that have not ended, in order of arrival.
    pub(crate) commands: Vec<CommandStatus>,
    /// Commands that have ended, and whose outcome the backend has not answered yet.
    pub(crate) unreported: usize,
    /// Deaths of processes of which the backend has not heard.
    #[serde(default)]
    pub(crate) crashes: usize,
    /// Files that the backend refuses for what is in them.
    #[serde(default)]
    pub(crate) refused_files: usize,
    /// Files that the backend has lost and that are no longer kept here.
    #[serde(default)]
    pub(crate) lost_files: u64,
    /// Whether collecting runs; nothing where it is not wanted.
    #[serde(default)]
    pub(crate) collect: Option<CollectStatus>,
}

/// The way to the backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum LinkStatus {
    /// The first try is under way.
    Connecting,
    /// Orders come in.
    Connected {
        /// Since when.
        since: Timestamp,
        /// Whether by long poll, because something on the way holds streams back.
        polling: bool,
    },
    /// The backend cannot be reached; it is tried again and again.
    Away {
        /// Since when.
        since: Timestamp,
        /// What went wrong last.
        error: String,
        /// Whether it is reached, and is busy or has an error of its own.
        #[serde(default)]
        busy: bool,
    },
    /// The backend does not take this agent's token. It is tried again now and then.
    Refused {
        /// Since when.
        since: Timestamp,
        /// What it said.
        error: String,
    },
}

impl LinkStatus {
    /// This status after another one: what goes on goes on since then.
    pub(crate) fn after(self, before: &Self) -> Self {
        match (self, before) {
            (Self::Away { error, busy, .. }, Self::Away { since, .. }) => {
                Self::Away { since: *since, error, busy }
            }
            (Self::Refused { error, .. }, Self::Refused { since, .. }) => {
                Self::Refused { since: *since, error }
            }
            (status, _) => status,
        }
    }

    /// Whether calls may be expected to work.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Connected { .. })
    }
}

/// A command that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandStatus {
    /// Its id.
    pub command: CommandId,
    /// What it does: `export`, `validate-config`, `export-onboard-data`.
    pub action: String,
    /// `queued`, `starting`, `running` or `stopping`.
    pub stage: String,
    /// When it was taken.
    pub taken_at: Timestamp,
}

fn path(root: &Root) -> PathBuf {
    root.state().join("service.json")
}

impl Snapshot {
    /// Writes it down.
    pub(crate) fn save(&self, root: &Root) -> Result<(), FileError> {
        // A struct of texts and numbers can always be written.
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        atomic::write(&path(root), &text, atomic::PRIVATE)
    }

    /// The last one that was written; `None` when there is none that can be read.
    pub(crate) fn load(root: &Root) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path(root)).ok()?).ok()
    }
}
