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
    /// Why everything waits: shown in the place of what those do that have not ended.
    held: Option<String>,
}

impl Board {
    /// The integration does something else now.
    pub(crate) fn set(&mut self, integration: &IntegrationId, state: IntegrationState) {
        let row = self.row(integration);
        row.state = state;
        row.paused_until = None;
        row.paused_for = None;
    }

    /// The integration waits until then, and why.
    pub(crate) fn pause(&mut self, integration: &IntegrationId, until: Option<Timestamp>, why: String) {
        let row = self.row(integration);
        row.state = IntegrationState::Paused;
        row.paused_until = until;
        row.paused_for = Some(why);
    }

    /// Everything that has not ended waits, and why; or goes on.
    pub(crate) fn hold(&mut self, why: Option<String>) {
        if self.held != why {
            self.held = why;
            self.changed.extend(self.rows.values().filter(|it| !ended(it)).map(|it| it.integration.clone()));
        }
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
        changed.iter().filter_map(|id| self.rows.get(id)).map(|row| self.shown(row)).collect()
    }

    fn shown(&self, row: &IntegrationProgress) -> IntegrationProgress {
        let mut row = row.clone();
        if let Some(why) = self.held.as_ref().filter(|_| !ended(&row)) {
            row.state = IntegrationState::Paused;
            row.paused_until = None;
            row.paused_for = Some(why.clone());
        }
        row
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

fn ended(row: &IntegrationProgress) -> bool {
    matches!(row.state, IntegrationState::Done | IntegrationState::Failed | IntegrationState::Cancelled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_is_shown_for_what_has_not_ended_and_then_what_was_before() {
        let [git, mock] = ["git", "mock"].map(|id| IntegrationId::new(id).unwrap());
        let mut board = Board::default();
        board.set(&git, IntegrationState::Done);
        board.pause(&mock, Some(Timestamp::UNIX_EPOCH), "rate limit".into());
        drop(board.take_changes());
        board.hold(Some("spool full".into()));
        board.hold(Some("spool full".into()));
        let shown = board.take_changes();
        assert_eq!(shown.len(), 1);
        assert_eq!((&shown[0].integration, shown[0].state), (&mock, IntegrationState::Paused));
        assert_eq!((shown[0].paused_for.as_deref(), shown[0].paused_until), (Some("spool full"), None));
        board.hold(None);
        let shown = board.take_changes();
        assert_eq!(shown[0].paused_for.as_deref(), Some("rate limit"));
        board.set(&mock, IntegrationState::Running);
        assert_eq!(board.take_changes()[0].paused_for, None);
    }
}
