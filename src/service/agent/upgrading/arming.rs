//! From a version in its place to the process that becomes it: it is sealed and armed, a watcher is put at its post, and once
//! everything has stopped, the switch is begun.

use std::time::Duration;

use outrider_protocol::control::EndState;
use outrider_protocol::fault::chain;
use outrider_protocol::ids::CommandId;
use outrider_protocol::upgrade::UpgradeState;
use outrider_supervisor::Spawn;
use outrider_upgrade::check_in_place;
use outrider_versions::{OldReach, Phase, Post, Record, Versions, VersionsError, back};
use tokio::time::Instant;

use crate::agent::Agent;
use crate::event::Event;
use crate::outcome::without_run;
use crate::run::WRITER_WAIT;
use crate::snapshot::LinkStatus;

/// How long the watcher may take to be at its post.
const WATCHER_WAIT: Duration = Duration::from_secs(10);
/// How often it is looked whether a version on trial is watched.
const POST_EVERY: Duration = Duration::from_secs(5);

impl Agent {
    /// The action has put the version into place: it is armed, and a watcher is put at its post. [`Event::Watched`] follows.
    pub(in crate::agent) fn arm(&mut self, id: CommandId) {
        self.upgrade_is(&id, UpgradeState::Arming);
        self.upgrading.arming = Some((id.clone(), None));
        let limits = &self.setup.config.limits;
        let (green, bound) = (limits.upgrade_green(), limits.upgrade_bound());
        let reach = match &*self.link.borrow() {
            LinkStatus::Connected { .. } => OldReach::Reached,
            LinkStatus::Away { .. } | LinkStatus::Refused { .. } => OldReach::Unreached,
            LinkStatus::Connecting => OldReach::Unknown,
        };
        let settings = move |record: &mut Record| {
            record.set_trial(green, bound);
            record.old_reach = reach;
        };
        let versions = self.upgrading.versions.clone();
        let (events, program, root) =
            (self.events.clone(), self.setup.program.clone(), self.setup.root.path().to_owned());
        self.runs.spawn(async move {
            let watched = match armed(&versions, settings).await {
                Ok(()) => watcher_at_post(&versions, &program, &root)
                    .await
                    .map_err(|why| format!("start the watcher: {why}")),
                Err(why) => Err(format!("arm the new version: {why}")),
            };
            drop(events.send(Event::Watched(id, watched)).await);
        });
    }

    /// The watcher is at its post, or not. Where the upgrade was cancelled meanwhile, or the service is to stop, nothing is
    /// switched.
    pub(in crate::agent) fn watched(&mut self, id: CommandId, watched: Result<(), String>) {
        let stop = self.upgrading.arming.take().and_then(|(_, stop)| stop);
        if let Err(why) = watched {
            return self.unarmed(&id, &why);
        }
        if let Some(stop) = stop {
            if !self.upgrade_ended(&id, Some(&stop)) {
                self.end_as_noted(&id, &stop.reason());
            }
            return;
        }
        tracing::info!(command = %id, "The new version is armed; the service goes over to it.");
        self.upgrade_is(&id, UpgradeState::Switching);
        self.requeue(&id);
        self.upgrading.going_over = Some(id);
    }

    /// Nothing was switched, and nothing will be.
    fn unarmed(&mut self, id: &CommandId, why: &str) {
        if let Some(record) = self.upgrading.record_of(id) {
            self.end_unswitched(&record.attempt, Phase::Failed, why);
        }
        self.end_as_noted(id, why);
    }

    /// Ends a command as the journal of versions says that its attempt has ended.
    fn end_as_noted(&mut self, id: &CommandId, why: &str) {
        match self.upgrading.record_of(id) {
            Some(record) if record.phase.is_terminal() => self.end_upgrade(id, &record),
            _ => {
                self.commands.ended(id);
                self.end(id, without_run(EndState::Failed, why));
            }
        }
    }

    /// A watcher that was killed is put at its post again, by the version that the one on trial came from.
    pub(super) fn see_that_it_is_watched(&mut self, now: Instant) {
        if self.upgrading.post_at.is_some_and(|at| at > now) {
            return;
        }
        self.upgrading.post_at = Some(now + POST_EVERY);
        let versions = &self.upgrading.versions;
        let Ok(seen) = versions.see() else { return };
        let on_trial = seen.journal.record().filter(|it| it.phase == Phase::Probation);
        let Some(version) = on_trial.and_then(|record| back(&seen, record)) else { return };
        if versions.take(Post::Watcher, Duration::ZERO).map(drop).is_err() {
            return;
        }
        tracing::warn!("Nobody watches the version on trial; a watcher is started again.");
        let root = self.setup.root.path();
        let watcher = Spawn::new(versions.layout().program(version)).arg("watch").arg("--root").arg(root);
        if let Err(err) = watcher.cwd(root).start_for_good() {
            tracing::error!(error = chain(&err), "The watcher was not started.");
        }
    }

    /// Begins the switch to the version that was armed, once everything has stopped. This process becomes the launcher next,
    /// which looks at the version once, for the switch and for its first start.
    pub(crate) fn switch(versions: &Versions) -> Result<(), VersionsError> {
        let writer = versions.write(WRITER_WAIT)?;
        let seen = versions.see()?;
        match seen.journal.record().map(|it| it.phase) {
            Some(Phase::Armed) => writer.enter(Phase::Switched, None).map(drop),
            _ => writer.settle().map(drop),
        }
    }

    /// A stop in good order is no crash of a version on trial.
    pub(crate) fn stops_on_purpose(versions: &Versions) -> Result<(), VersionsError> {
        match versions.see()?.journal.record().map(|it| it.phase) {
            Some(Phase::Probation) => versions.write(WRITER_WAIT)?.stopped_on_purpose(),
            _ => Ok(()),
        }
    }
}

/// Seals the version that is in place, holds it against its signed list once more, since it lay on the disk after it was
/// unpacked, and arms it. To read it takes a while; the service goes on with its work meanwhile.
async fn armed(
    versions: &Versions,
    settings: impl FnOnce(&mut Record) + Send + 'static,
) -> Result<(), String> {
    let versions = versions.clone();
    let armed = tokio::task::spawn_blocking(move || {
        let seen = versions.see().map_err(|err| chain(&err))?;
        let record = seen.journal.record().ok_or("the journal of versions has no attempt")?;
        let seals = versions.seals(record).map_err(|err| chain(&err))?;
        if seals.from.is_none() {
            tracing::warn!(version = %record.from, "This version cannot be read as a whole: a rollback to it is not checked.");
        }
        check_in_place(versions.layout().root(), record.to.as_str()).map_err(|err| chain(&err))?;
        let armed = versions.write(WRITER_WAIT).and_then(|it| it.arm(seals, settings));
        armed.map(drop).map_err(|err| chain(&err))
    });
    armed.await.unwrap_or_else(|err| Err(err.to_string()))
}

/// Starts the watcher and waits until it has its post.
async fn watcher_at_post(
    versions: &Versions,
    program: &std::path::Path,
    root: &std::path::Path,
) -> Result<(), String> {
    let watcher = Spawn::new(program).arg("watch").arg("--root").arg(root).cwd(root);
    watcher.start_for_good().map_err(|err| chain(&err))?;
    let until = Instant::now() + WATCHER_WAIT;
    loop {
        // Taken for an instant, where it is free: the watcher waits for it a moment longer.
        match versions.take(Post::Watcher, Duration::ZERO) {
            Err(VersionsError::Locked { .. }) => return Ok(()),
            Err(err) => return Err(chain(&err)),
            Ok(free) => drop(free),
        }
        if Instant::now() >= until {
            return Err(format!(
                "it was not at its post within {} s; see logs/watch",
                WATCHER_WAIT.as_secs()
            ));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
