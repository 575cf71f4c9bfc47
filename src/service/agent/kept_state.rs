//! What a version on trial leaves undone while the state before is kept: if it is taken back, the version before goes on with
//! that one, and would know nothing of what was taken or carried out meanwhile.

use std::time::Duration;

use outrider_protocol::fault::chain;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Agent;
use super::upgrading::{LOOK_EVERY, Upgrading};
use crate::state::{own_version, stays};

/// How often it is tried to let the state before go.
const FORGET_EVERY: Duration = Duration::from_secs(2);

impl Upgrading {
    /// Whether the backend's orders are to be left where they are.
    pub(super) fn orders_wait(&self) -> watch::Receiver<bool> {
        self.state_kept.subscribe()
    }
}

impl Agent {
    /// The state before is kept: orders and commands wait.
    pub(super) fn begin_with_kept_state(&mut self) {
        tracing::info!(
            "The state before is kept until this version stays; orders and commands wait for that."
        );
        self.upgrading.state_kept.send_replace(true);
        self.upgrading.look_at = Some(Instant::now());
        let seen = self.upgrading.versions.see();
        let upgrade = seen.ok().and_then(|it| it.journal.record().map(|it| it.command.clone()));
        self.commands.wait_for(Some(upgrade.unwrap_or_default()));
    }

    /// Looks whether this version stays.
    pub(super) fn look_at_kept_state(&mut self, now: Instant) {
        if !*self.upgrading.state_kept.borrow() {
            return;
        }
        let versions = &self.upgrading.versions;
        let own = own_version(versions, &self.setup.program);
        let stays = versions.see().is_ok_and(|seen| stays(&seen, own.as_ref()));
        if !stays {
            self.upgrading.look_at = Some(now + LOOK_EVERY);
            return;
        }
        // First of all: what is done from now on must not be forgotten for a state that is still there.
        if let Err(err) = self.setup.root.forget_kept_state() {
            tracing::error!(
                error = chain(&err),
                "The state before does not go, so orders and commands wait on."
            );
            self.upgrading.look_at = Some(now + FORGET_EVERY);
            return;
        }
        tracing::info!("This version stays: the state before goes, and what waited goes on.");
        let root = self.setup.root.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(err) = root.delete_old_states() {
                tracing::warn!(error = chain(&err), "Old states stay until the next start.");
            }
        });
        self.upgrading.state_kept.send_replace(false);
        self.commands.wait_for(None);
        self.start_due();
    }
}
