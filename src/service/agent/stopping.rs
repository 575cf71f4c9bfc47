//! The end of the service: runs are stopped, and the backend is told, within a bound.

use std::time::Duration;

use tokio::time::timeout;

use super::Agent;
use crate::outcome::Stop;
use crate::run::ServiceError;

/// The share of the time to stop that is left for telling the backend.
const FLUSH_MOST: Duration = Duration::from_secs(10);
/// The same when the backend is away: it may be back this instant.
const FLUSH_AWAY: Duration = Duration::from_secs(1);

impl Agent {
    /// Stops every run, within the time to stop less what telling the backend may take.
    pub(super) async fn stop_runs(&mut self) -> Result<(), ServiceError> {
        for id in self.commands.drain() {
            self.stop(&id, Stop::ServiceStops);
        }
        self.describing.stop();
        self.collecting.stop();
        let within = self.setup.config.limits.stop_timeout().saturating_sub(FLUSH_MOST).max(FLUSH_AWAY);
        let stopped = timeout(within, async {
            while self.commands.any_active() || self.describing.is_running() || self.collecting.is_running() {
                let event = self.next().await;
                self.on(event)?;
            }
            Ok(())
        });
        match stopped.await {
            Ok(stopped) => stopped,
            Err(_) => {
                tracing::warn!(
                    "Some actions did not stop in time; they are killed, and reported after the next start."
                );
                self.runs.shutdown().await;
                // The service did not go down of them, so this start does not count against them.
                for id in self.commands.active_exports() {
                    self.requeue(&id);
                }
                Ok(())
            }
        }
    }

    /// Gives the couriers time to tell how the commands ended, and what those said last that go on in the next life.
    pub(super) async fn flush(&mut self) -> Result<(), ServiceError> {
        let within = if self.link.borrow().is_connected() { FLUSH_MOST } else { FLUSH_AWAY };
        let flushed = timeout(within, async {
            while self.unreported() > 0 || self.held.values().any(|it| it.mail.is_retired() && !it.told) {
                let event = self.next().await;
                self.on(event)?;
            }
            Ok(())
        });
        flushed.await.unwrap_or(Ok(()))
    }

    /// Commands that have ended, and of which the backend has not answered the outcome.
    pub(super) fn unreported(&self) -> usize {
        self.held.values().filter(|it| it.mail.has_ended()).count()
    }
}
