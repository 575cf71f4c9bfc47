//! Going back: the version is taken back, and the one before is seen to run.

use std::time::Duration;

use outrider_protocol::fault::chain;
use outrider_supervisor::Spawn;
use outrider_versions::{Link, Points, Reason, Record, VersionsError};
use tokio::time::Instant;

use super::Settings;
use super::taking_back::{TakenBack, TakingBack, holder};
use super::watcher::Watcher;

/// How long a process must have the root until it counts as running where it gives no answer: an older version has no
/// socket.
const HELD_FOR: Duration = Duration::from_secs(5);
/// How often the service is started from here; the pause doubles each time.
const STARTS_MOST: u32 = 5;

impl Watcher {
    /// Takes the version back. What fails is logged, and tried again at the next look.
    pub(super) async fn go_back(&mut self, record: &Record, reason: Reason, detail: &str) {
        if self.diagnosed.as_ref() != Some(&record.attempt) {
            tracing::error!(version = %record.to, %reason, detail, "The new version is taken back.");
        }
        self.diagnose(record, holder(&self.root)).await;
        match self.try_to_go_back(record, reason, detail).await {
            Ok(TakenBack::Moved) => {
                tracing::info!("The journal, or the version before, has changed meanwhile.");
            }
            // That was logged.
            Ok(TakenBack::Stays { .. }) => {}
            went => self.told("Go back to the version before.", went.map(drop)),
        }
    }

    async fn try_to_go_back(
        &mut self,
        record: &Record,
        reason: Reason,
        detail: &str,
    ) -> Result<TakenBack, VersionsError> {
        let Settings { term, kill, .. } = self.settings;
        let taking = TakingBack { root: self.root.clone(), versions: self.versions.clone(), term, kill };
        let taken = taking.take_back(record, reason, detail).await;
        self.went_back |= match &taken {
            Ok(TakenBack::Moved) => false,
            // Started anew, one that hangs or is gone may do better.
            Ok(TakenBack::Stays { .. }) => reason == Reason::Hang,
            // It may have been stopped, and what was begun is finished at a later look.
            Ok(TakenBack::Back { .. }) | Err(_) => true,
        };
        taken
    }

    /// Sees that a service runs, and starts one where no system does.
    pub(super) async fn see_it_run(&mut self) {
        let (mut free_since, mut held_since) = (None, None);
        let mut starts = 0;
        loop {
            let now = Instant::now();
            if holder(&self.root).is_some() || self.root.in_use().is_err() {
                free_since = None;
                let held = *held_since.get_or_insert(now);
                if let Ok(reply) = self.asker.ask(self.settings.answer_within).await {
                    tracing::info!(version = reply.version, pid = reply.pid, "A service runs.");
                    return;
                }
                if held.elapsed() >= HELD_FOR {
                    tracing::info!(pid = holder(&self.root), "A service runs; it does not say how it is.");
                    return;
                }
            } else {
                held_since = None;
                let free = *free_since.get_or_insert(now);
                let patience = self.settings.restart_within.saturating_mul(1 << starts);
                if free.elapsed() >= patience {
                    if starts == STARTS_MOST {
                        tracing::error!(
                            starts,
                            "No service runs, however often it was started: somebody has to look."
                        );
                        return;
                    }
                    starts += 1;
                    free_since = None;
                    self.start_service();
                }
            }
            if self.pause(self.settings.every).await {
                return;
            }
        }
    }

    /// Starts what `current` points to. It goes on without this process.
    fn start_service(&self) {
        let current = match self.versions.see().map(|it| it.links.current) {
            Ok(Points::To(version)) => version,
            Ok(other) => {
                let path = self.versions.layout().link(Link::Current);
                tracing::error!(path = %path.display(), found = ?other, "No service is started: expected a link to a version.");
                return;
            }
            Err(err) => {
                tracing::error!(error = chain(&err), "No service is started.");
                return;
            }
        };
        let root = self.root.path();
        let program = self.versions.layout().program(&current);
        tracing::warn!(program = %program.display(), "Nobody starts the service; it is started from here.");
        let spawn = Spawn::new(program).arg("service-run").arg("--root").arg(root).cwd(root);
        match spawn.start_for_good() {
            Ok(pid) => tracing::info!(pid, "The service is started."),
            Err(err) => tracing::error!(error = chain(&err), "The service was not started."),
        }
    }
}
