//! Where each integration of an export is, for the progress report.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use outrider_protocol::ids::IntegrationId;
use outrider_protocol::progress::{IntegrationProgress, IntegrationState};

/// The state of each integration, and which changed since they were last told.
#[derive(Debug, Default)]
pub(crate) struct Board {
    rows: BTreeMap<IntegrationId, IntegrationProgress>,
    changed: BTreeSet<IntegrationId>,
}

impl Board {
    /// The integration does something else now.
    pub(crate) fn set(&mut self, integration: &IntegrationId, state: IntegrationState) {
        let row = self.row(integration);
        row.state = state;
        row.paused_until = None;
    }

    /// The integration waits for its source.
    pub(crate) fn pause(&mut self, integration: &IntegrationId, until: Option<Timestamp>) {
        let row = self.row(integration);
        row.state = IntegrationState::Paused;
        row.paused_until = until;
    }

    /// Objects were accepted.
    pub(crate) fn count(&mut self, integration: &IntegrationId, objects: u64, bytes: u64) {
        let row = self.row(integration);
        row.objects += objects;
        row.bytes += bytes;
    }

    /// The rows that changed since the last call.
    pub(crate) fn take_changes(&mut self) -> Vec<IntegrationProgress> {
        let changed = std::mem::take(&mut self.changed);
        changed.iter().filter_map(|id| self.rows.get(id).cloned()).collect()
    }

    fn row(&mut self, integration: &IntegrationId) -> &mut IntegrationProgress {
        if !self.changed.contains(integration) {
            self.changed.insert(integration.clone());
        }
        self.rows.entry(integration.clone()).or_insert_with(|| IntegrationProgress {
            integration: integration.clone(),
            state: IntegrationState::Starting,
            paused_until: None,
            paused_for: None,
            objects: 0,
            bytes: 0,
        })
    }
}
