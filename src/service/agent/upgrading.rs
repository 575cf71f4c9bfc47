//! Upgrades, as far as they are the service's. The upgrade action puts a version into place; then the service arms it: a
//! watcher is started, the other actions stop, and the process goes over to the new version. From the switch on the journal
//! of versions is the truth, whoever runs: the command that ordered the attempt waits for its end there, and its outcome is
//! told by the version that runs then.

mod arming;
mod asked;

use std::time::Duration;

use jiff::Timestamp;
use outrider_protocol::fault::chain;
use outrider_protocol::ids::CommandId;
use outrider_protocol::local::SelfTest;
use outrider_protocol::progress::Progress;
use outrider_protocol::upgrade::{Build, UpgradeOrder, UpgradeProgress, UpgradeReport, UpgradeState};
use outrider_upgrade::{Diagnosis, forget_lists, installed};
use outrider_versions::{
    Duty, Journal, Phase, Post, Reason, Record, Seen, Told, VersionName, Versions, VersionsError, duties,
};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Agent;
use crate::outcome::Stop;
use crate::outcome::upgrade::{ended, keep, report_of};
use crate::run::WRITER_WAIT;

/// How often the journal of versions is looked at while a version is on trial.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The name of the action.
pub(super) const UPGRADE: &str = "upgrade";

/// What the service knows of upgrades.
#[derive(Debug)]
pub(super) struct Upgrading {
    pub(super) versions: Versions,
    /// The command whose attempt was switched to, and has not ended.
    watched: Option<CommandId>,
    /// The attempt on trial that no command of this service ordered: a person did, while no service ran.
    unordered: Option<String>,
    pub(super) look_at: Option<Instant>,
    /// When it is next looked whether the version on trial is watched.
    post_at: Option<Instant>,
    /// The command whose version is being armed, which no process does any more, and why that is to end there.
    arming: Option<(CommandId, Option<Stop>)>,
    /// The command whose version this process is to go over to.
    going_over: Option<CommandId>,
    self_test: SelfTest,
    /// When the backend last answered this life's `agent.hello`.
    checked_in: Option<Timestamp>,
    /// Whether the state before is kept: see `kept_state`.
    pub(super) state_kept: watch::Sender<bool>,
}

impl Upgrading {
    pub(super) fn new(versions: Versions) -> Self {
        Self {
            versions,
            watched: None,
            unordered: None,
            look_at: None,
            post_at: None,
            arming: None,
            going_over: None,
            self_test: SelfTest::Pending,
            checked_in: None,
            state_kept: watch::Sender::new(false),
        }
    }

    /// When there is something to do.
    pub(super) fn at(&self) -> Option<Instant> {
        self.look_at
    }

    /// Whether the service is to stop, and the process to go over to another version.
    pub(super) fn goes_over(&self) -> bool {
        self.going_over.is_some()
    }

    /// Whether the process goes over to the version of this command: it is too late to cancel that.
    pub(super) fn goes_over_for(&self, command: &CommandId) -> bool {
        self.going_over.as_ref() == Some(command)
    }

    /// Notes that arming is to end, where this command is armed. The first reason counts.
    pub(super) fn stop_arming(&mut self, command: &CommandId, why: &Stop) -> bool {
        match &mut self.arming {
            Some((armed, stop)) if armed == command => {
                stop.get_or_insert_with(|| why.clone());
                true
            }
            _ => false,
        }
    }

    fn record_of(&self, command: &CommandId) -> Option<Record> {
        let seen = self.versions.see().ok()?;
        let last = seen.journal.record().filter(|it| it.command == command.as_str()).cloned();
        last.or_else(|| {
            let untold = self.versions.write(WRITER_WAIT).ok()?.untold().ok()?;
            untold.into_iter().find(|it| it.command == command.as_str())
        })
    }
}

impl Agent {
    /// Sees to what the last life left: at the start, before anything else.
    pub(super) fn take_up_upgrades(&mut self) {
        let versions = self.upgrading.versions.clone();
        for fault in versions.slot_faults() {
            tracing::error!(%fault, "A slot of the journal of versions cannot be used.");
        }
        let seen = match versions.see() {
            Ok(seen) => seen,
            Err(err) => {
                tracing::error!(error = chain(&err), "The versions of this root cannot be looked at.");
                return;
            }
        };
        for duty in duties(&seen) {
            match duty {
                Duty::Watch => self.begin_self_test(),
                Duty::Settle => self.changed_versions("settle what was begun", |it| it.settle().map(drop)),
                Duty::Prune => self.remove_old_versions(),
                // The command that ordered the attempt is in the journal of commands, and comes to it.
                Duty::GoOn(_) | Duty::Tell => {}
            }
        }
        self.end_orphaned_attempt(&seen.journal);
        self.take_up_unordered(&seen.journal);
        self.clear_staging();
        self.keep_missing_diagnosis(&seen.journal);
    }

    /// A version that the launcher took back, with no watcher beside it, leaves a diagnosis as well.
    fn keep_missing_diagnosis(&mut self, journal: &Journal) {
        let Some(record) = journal.record().filter(|it| it.phase == Phase::RolledBack) else { return };
        let folder = self.upgrading.versions.layout().diagnosis(&record.to);
        if Diagnosis::is_kept(&folder) {
            return;
        }
        let why = record.reason_word().unwrap_or("no reason");
        let health = format!("Nobody watched when it was taken back: {why}: {}\n", record.detail);
        let diagnosis = Diagnosis::of(&self.setup.root, folder, health);
        self.runs.spawn(async move {
            match tokio::task::spawn_blocking(move || diagnosis.keep()).await {
                Ok(faults) if faults.is_empty() => {
                    tracing::info!("A diagnosis is kept of the version that was taken back.");
                }
                Ok(faults) => tracing::warn!(faults = faults.join("; "), "The diagnosis is not whole."),
                Err(err) => tracing::error!(%err, "The diagnosis is not kept."),
            }
        });
    }

    /// Whether the command that ordered an attempt is one of this service's.
    fn holds_command_of(&self, record: &Record) -> bool {
        CommandId::new(record.command.as_str()).is_ok_and(|id| self.held.contains_key(&id))
    }

    /// An attempt that is in progress and whose command is gone, as one by hand that was killed, would be in progress for ever.
    fn end_orphaned_attempt(&mut self, journal: &Journal) {
        let Some(record) = journal.record().filter(|it| it.phase.is_before_switch()) else { return };
        if self.holds_command_of(record)
            || self.upgrading.versions.take(Post::Worker, Duration::ZERO).is_err()
        {
            return;
        }
        self.end_unswitched(&record.attempt, Phase::Failed, "whoever carried it out is gone");
    }

    /// What a person ordered while no service ran is seen to as any other upgrade, but that there is no command to end.
    fn take_up_unordered(&mut self, journal: &Journal) {
        let Some(record) = journal.record() else { return };
        if self.holds_command_of(record) {
            return;
        }
        if record.phase.is_terminal() {
            if record.told != Told::Acknowledged {
                self.end_unordered(record);
            }
        } else if !record.phase.is_before_switch() {
            self.upgrading.unordered = Some(record.attempt.clone());
            self.upgrading.look_at = Some(Instant::now());
        }
    }

    /// The root tells how it ended; the backend sees which build runs, and never heard of the attempt.
    fn end_unordered(&self, record: &Record) {
        let now = Timestamp::now();
        let report = report_of(record, |it| self.build_of(it), now, now);
        if let Err(err) = keep(&self.setup.root, &report) {
            tracing::warn!(error = chain(&err), "The report of an upgrade was not kept in the root.");
        }
        self.changed_versions("note that nobody is to be told", |it| {
            it.tell(&record.attempt, Told::Acknowledged)
        });
    }

    /// Ends an attempt that has not come to the switch, which is looked at under the lock: somebody else may have gone on with
    /// it.
    fn end_unswitched(&self, attempt: &str, phase: Phase, why: &str) {
        let versions = self.upgrading.versions.clone();
        self.changed_versions("end the attempt", |writer| {
            let seen = versions.see()?;
            let is_it =
                |it: &&Record| it.attempt == attempt && it.phase.is_before_switch() && !seen.is_switched(it);
            match seen.journal.record().filter(is_it) {
                Some(_) => {
                    // Nothing was wrong with the version.
                    writer.update(|it| it.retryable = phase == Phase::Failed)?;
                    writer.enter(phase, Some((Reason::Other, why))).map(drop)
                }
                None => Ok(()),
            }
        });
    }

    fn changed_versions(
        &self,
        what: &str,
        change: impl FnOnce(&outrider_versions::Writer<'_>) -> Result<(), VersionsError>,
    ) {
        let changed = self.upgrading.versions.write(WRITER_WAIT).and_then(|writer| change(&writer));
        if let Err(err) = changed {
            tracing::error!(error = chain(&err), what, "The versions of this root were not changed.");
        }
    }

    /// A later order takes the place of those that are not armed yet.
    pub(super) fn supersede_upgrades(&mut self, by: &CommandId) {
        for id in self.commands.other_upgrades(by) {
            let settled = [&self.upgrading.watched, &self.upgrading.going_over];
            if settled.iter().any(|it| it.as_ref() == Some(&id)) {
                // That one is finished first; the later one waits for its turn.
                continue;
            }
            tracing::info!(command = %id, %by, "A later order takes the place of an upgrade.");
            let reason = format!("command {by}, which came later, takes its place");
            match self.commands.cancel(&id) {
                crate::commands::Cancel::End => {
                    self.end_upgrade_unbegun(&id, UpgradeState::Superseded, &reason);
                }
                crate::commands::Cancel::Stop => self.stop(&id, Stop::Superseded { reason }),
                crate::commands::Cancel::Nothing => {}
            }
        }
    }

    /// Ends an upgrade of which nothing was begun.
    pub(super) fn end_upgrade_unbegun(&mut self, id: &CommandId, state: UpgradeState, reason: &str) {
        let now = Timestamp::now();
        let started_at = self.held.get(id).map_or(now, |it| it.taken_at);
        self.end(
            id,
            ended(UpgradeReport {
                attempt: id.to_string(),
                command: Some(id.clone()),
                state,
                from: self.setup.build.clone(),
                to: None,
                reason: Some(reason.to_owned()),
                failed_at: None,
                retryable: false,
                started_at,
                ended_at: now,
            }),
        );
    }

    /// Whether an upgrade's attempt is beyond what the action does. Then it is waited for here, or ends.
    pub(super) fn is_beyond_action(&mut self, id: &CommandId) -> bool {
        let Some(record) = self.upgrading.record_of(id) else { return false };
        match record.phase {
            phase if phase.is_terminal() => self.end_upgrade(id, &record),
            Phase::Switched | Phase::Probation | Phase::RollingBack => {
                self.upgrading.watched = Some(id.clone());
                self.upgrading.look_at = Some(Instant::now());
                if let Some(held) = self.held.get_mut(id) {
                    held.command = None;
                    held.mail.running(Timestamp::now());
                }
                self.commands.running(id);
                self.upgrade_is(id, UpgradeState::Watching);
            }
            _ => return false,
        }
        true
    }

    /// Looks what has become of a version on trial.
    pub(super) fn look_at_trial(&mut self, now: Instant) {
        if self.upgrading.look_at.is_none_or(|at| at > now) {
            return;
        }
        self.upgrading.look_at = None;
        self.look_at_kept_state(now);
        let Some(id) = self.upgrading.watched.clone() else { return self.look_at_unordered(now) };
        match self.upgrading.record_of(&id) {
            Some(record) if record.phase.is_terminal() => {
                self.upgrading.watched = None;
                self.end_upgrade(&id, &record);
                self.remove_old_versions();
            }
            _ => {
                self.upgrading.look_at = Some(now + LOOK_EVERY);
                self.see_that_it_is_watched(now);
            }
        }
    }

    fn look_at_unordered(&mut self, now: Instant) {
        let Some(attempt) = &self.upgrading.unordered else { return };
        let record = self.upgrading.versions.see().ok().and_then(|it| it.journal.record().cloned());
        match record.filter(|it| it.attempt == *attempt) {
            Some(record) if record.phase.is_terminal() => {
                self.upgrading.unordered = None;
                self.end_unordered(&record);
                self.remove_old_versions();
            }
            Some(_) => {
                self.upgrading.look_at = Some(now + LOOK_EVERY);
                self.see_that_it_is_watched(now);
            }
            None => self.upgrading.unordered = None,
        }
    }

    fn end_upgrade(&mut self, id: &CommandId, record: &Record) {
        let taken_at = self.held.get(id).map_or_else(Timestamp::now, |it| it.taken_at);
        let report = report_of(record, |it| self.build_of(it), taken_at, Timestamp::now());
        self.commands.ended(id);
        self.end(id, ended(report));
    }

    fn build_of(&self, version: &VersionName) -> Option<Build> {
        installed(&self.upgrading.versions.layout().version(version)).as_ref().map(Build::from)
    }

    /// Never the one that this process runs from, whatever the links say.
    fn remove_old_versions(&self) {
        let own = self.setup.program.parent().and_then(|it| it.file_name()?.to_str()?.parse().ok());
        let own: Vec<VersionName> = own.into_iter().collect();
        self.changed_versions("remove old versions", |it| {
            it.prune(&own)?;
            it.clear_staging()
        });
        let layout = self.upgrading.versions.layout();
        let forgotten =
            forget_lists(layout.root(), |it| it.parse().is_ok_and(|it| layout.version(&it).exists()));
        if let Err(err) = forgotten {
            tracing::warn!(%err, "The lists of files of old versions were not removed.");
        }
    }

    /// Removes what attempts left that have ended.
    fn clear_staging(&self) {
        let versions = &self.upgrading.versions;
        let ended = |seen: &Seen| seen.journal.record().is_none_or(|it| it.phase.is_terminal());
        if versions.see().is_ok_and(|seen| ended(&seen))
            && versions.take(Post::Worker, Duration::ZERO).is_ok()
        {
            self.changed_versions("remove what was staged", |it| it.clear_staging());
        }
    }

    /// The backend has acknowledged a command's outcome.
    pub(super) fn upgrade_told(&mut self, id: &CommandId) {
        let Some(record) = self.upgrading.record_of(id) else { return };
        self.changed_versions("note that the backend knows", |it| {
            it.tell(&record.attempt, Told::Acknowledged)
        });
    }

    fn upgrade_is(&self, id: &CommandId, state: UpgradeState) {
        let Some(held) = self.held.get(id) else { return };
        let progress = UpgradeProgress::new(id.to_string(), state);
        held.mail.progress(Progress { upgrade: Some(progress), ..Progress::default() });
    }

    /// One that waits for its window says so.
    pub(super) fn scheduled(&self, id: &CommandId, order: &UpgradeOrder) {
        let (Some(held), Some(at)) = (self.held.get(id), order.start_at) else { return };
        let progress = UpgradeProgress {
            scheduled_at: Some(at),
            ..UpgradeProgress::new(id.to_string(), UpgradeState::Scheduled)
        };
        held.mail.progress(Progress { upgrade: Some(progress), ..Progress::default() });
    }

    /// The action of an upgrade has ended otherwise than well. Whether it is started again by the service's next life; where it
    /// was cancelled, the attempt ends in the journal of versions as well.
    pub(super) fn upgrade_ended(&mut self, id: &CommandId, stopped: Option<&Stop>) -> bool {
        let Some(record) = self.upgrading.record_of(id).filter(|it| it.phase.is_before_switch()) else {
            return false;
        };
        let (phase, why) = match stopped {
            Some(Stop::ServiceStops) => {
                self.requeue(id);
                return true;
            }
            Some(why @ Stop::Superseded { .. }) if record.phase.may_be_superseded() => {
                (Phase::Superseded, why.reason())
            }
            Some(why @ (Stop::Cancelled { .. } | Stop::Superseded { .. })) => {
                (Phase::Cancelled, why.reason())
            }
            Some(why @ Stop::TimeLimit(_)) => (Phase::Failed, why.reason()),
            None => (Phase::Failed, "the upgrade action ended before it was done".to_owned()),
        };
        self.end_unswitched(&record.attempt, phase, &why);
        if phase != Phase::Failed {
            // Nobody goes on with what was fetched.
            self.clear_staging();
        }
        false
    }
}
