//! What the loop tells of itself: to the backend, to `outrider status`, to the log.

use outrider_protocol::fault::chain;
use outrider_protocol::ids::CommandId;

use super::Agent;
use crate::commands::Stage;
use crate::event::View;
use crate::snapshot::{CommandStatus, LinkStatus, Snapshot};
use crate::uplink::uploads::Wake;

impl Agent {
    /// The way to the backend has changed, or was tried again.
    pub(super) fn link_is(&mut self, status: LinkStatus) {
        let status = status.after(&self.link.borrow());
        let before = self.link.send_replace(status.clone());
        match (&before, &status) {
            (_, LinkStatus::Connected { .. }) => self.wake(Wake::Connected),
            (LinkStatus::Away { .. } | LinkStatus::Refused { .. }, LinkStatus::Away { error, .. }) => {
                tracing::debug!(error, "The backend is still away.");
            }
            (_, LinkStatus::Away { error, .. }) => {
                tracing::warn!(error, "The backend is away; trying again.");
            }
            (LinkStatus::Refused { .. }, LinkStatus::Refused { .. }) | (_, LinkStatus::Connecting) => {}
            (_, LinkStatus::Refused { error, .. }) => {
                tracing::error!(error, "The backend refuses this agent.");
            }
        }
    }

    pub(super) fn view(&self) -> View {
        let active = self.commands.stages().filter(|(_, stage)| *stage != Stage::Queued);
        View {
            open: self.held.keys().cloned().collect(),
            running: active.map(|(id, _)| id.clone()).collect(),
            spool: self.spool_use,
        }
    }

    /// Writes the state down, if it has changed.
    pub(super) fn save_snapshot(&mut self) {
        self.snapshot_at = None;
        let status = |(id, stage): (&CommandId, Stage)| {
            let held = self.held.get(id)?;
            let (action, stage) = (held.action.to_owned(), stage.name().to_owned());
            Some(CommandStatus { command: id.clone(), action, stage, taken_at: held.taken_at })
        };
        let commands = self.commands.stages().filter_map(status).collect();
        let (link, unreported) = (self.link.borrow().clone(), self.unreported());
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let (started_at, crashes) = (self.setup.started_at, self.crashes.waiting());
        let (refused_files, lost_files) = (self.spool_use.refused, self.spool_use.lost);
        let collect = self.collecting.status().cloned();
        let snapshot = Snapshot {
            version,
            started_at,
            link,
            commands,
            unreported,
            crashes,
            refused_files,
            lost_files,
            collect,
        };
        if self.snapshot.as_ref() == Some(&snapshot) {
            return;
        }
        if let Err(err) = snapshot.save(&self.setup.root) {
            tracing::debug!(error = chain(&err), "The state for `outrider status` was not written.");
        }
        self.snapshot = Some(snapshot);
    }
}
