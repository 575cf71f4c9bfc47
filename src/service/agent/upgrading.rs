//! Upgrades, as far as they are the service's. The upgrade action puts a version into place; then the service arms it: a
//! watcher is started, the other actions stop, and the process goes over to the new version. From the switch on the journal
//! of versions is the truth, whoever runs: the command that ordered the attempt waits for its end there, and its outcome is
//! told by the version that runs then.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use outrider_protocol::action::{AgentConfig, IntegrationConfig, Order, ValidateOrder};
use outrider_protocol::control::{Command, EndState};
use outrider_protocol::fault::{RpcError, chain, code};
use outrider_protocol::ids::CommandId;
use outrider_protocol::local::{BackendLink, HealthReply, SelfTest, TakenReply};
use outrider_protocol::progress::Progress;
use outrider_protocol::upgrade::{Build, UpgradeOrder, UpgradeProgress, UpgradeReport, UpgradeState};
use outrider_supervisor::Spawn;
use outrider_upgrade::{Diagnosis, check_in_place, forget_lists, installed};
use outrider_versions::{
    Duty, Journal, OldReach, Phase, Post, Reason, Record, Told, VersionName, Versions, VersionsError, back,
    duties,
};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Agent;
use crate::action::{Job, carry_out};
use crate::event::Event;
use crate::local::Asked;
use crate::notes::Note;
use crate::outcome::upgrade::{ended, report_of};
use crate::outcome::{Answer, RunEnd, Stop, without_run};
use crate::redaction::Redaction;
use crate::run::WRITER_WAIT;
use crate::snapshot::LinkStatus;
use crate::task::guarded;

/// How often the journal of versions is looked at while a version is on trial.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the watcher may take to be at its post.
const WATCHER_WAIT: Duration = Duration::from_secs(10);
/// How long the self-test may take.
const SELF_TEST_WAIT: Duration = Duration::from_secs(30);
/// How often it is looked whether a version on trial is watched.
const POST_EVERY: Duration = Duration::from_secs(5);
/// The name of the action.
pub(super) const UPGRADE: &str = "upgrade";
/// The name of the self-test's run, where a command's id would stand.
const SELF_TEST: &str = "self-test";

/// What the service knows of upgrades.
#[derive(Debug)]
pub(super) struct Upgrading {
    pub(super) versions: Versions,
    /// The command whose attempt was switched to, and has not ended.
    watched: Option<CommandId>,
    pub(super) look_at: Option<Instant>,
    /// When it is next looked whether the version on trial is watched.
    post_at: Option<Instant>,
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
            look_at: None,
            post_at: None,
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
        self.keep_missing_diagnosis(&seen.journal);
    }

    /// A version that the launcher took back, with no watcher beside it, leaves a diagnosis as well.
    fn keep_missing_diagnosis(&mut self, journal: &Journal) {
        let Some(record) = journal.record().filter(|it| it.phase == Phase::RolledBack) else { return };
        let folder = self.upgrading.versions.layout().diagnosis(&record.to);
        if Diagnosis::is_kept(&folder) {
            return;
        }
        let why = record.reason.map_or("no reason", |it| it.as_str());
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

    /// An attempt that is in progress and whose command is gone, as one by hand that was killed, would be in progress for ever.
    fn end_orphaned_attempt(&mut self, journal: &Journal) {
        let Some(record) = journal.record().filter(|it| it.phase.is_before_switch()) else { return };
        let is_held = CommandId::new(record.command.as_str()).is_ok_and(|id| self.held.contains_key(&id));
        if is_held || self.upgrading.versions.take(Post::Worker, Duration::ZERO).is_err() {
            return;
        }
        self.changed_versions("end an attempt that nobody carries out", |it| {
            it.enter(Phase::Failed, Some((Reason::Other, "whoever carried it out is gone"))).map(drop)
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
        let Some(id) = self.upgrading.watched.clone() else { return };
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

    /// A watcher that was killed is put at its post again, by the version that the one on trial came from.
    fn see_that_it_is_watched(&mut self, now: Instant) {
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

    /// The action has put the version into place: it is armed, and a watcher is put at its post. [`Event::Watched`] follows.
    pub(super) fn arm(&mut self, id: CommandId) {
        self.upgrade_is(&id, UpgradeState::Arming);
        let limits = &self.setup.config.limits;
        let (green, bound) = (limits.upgrade_green(), limits.upgrade_bound());
        let reach = match &*self.link.borrow() {
            LinkStatus::Connected { .. } => OldReach::Reached,
            LinkStatus::Away { .. } | LinkStatus::Refused { .. } => OldReach::Unreached,
            LinkStatus::Connecting => OldReach::Unknown,
        };
        let settings = move |record: &mut Record| {
            record.green_for_ms = u64::try_from(green.as_millis()).unwrap_or(u64::MAX);
            record.bound_ms = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
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

    /// The watcher is at its post, or not.
    pub(super) fn watched(&mut self, id: CommandId, watched: Result<(), String>) {
        if let Err(why) = watched {
            return self.unarmed(&id, &why);
        }
        tracing::info!(command = %id, "The new version is armed; the service goes over to it.");
        self.upgrade_is(&id, UpgradeState::Switching);
        self.requeue(&id);
        self.upgrading.going_over = Some(id);
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
        self.changed_versions("end the attempt", |it| it.enter(phase, Some((Reason::Other, &why))).map(drop));
        false
    }

    /// Nothing was switched, and nothing will be.
    fn unarmed(&mut self, id: &CommandId, why: &str) {
        self.changed_versions("end the attempt", |it| {
            it.enter(Phase::Failed, Some((Reason::Other, why))).map(drop)
        });
        match self.upgrading.record_of(id) {
            Some(record) if record.phase.is_terminal() => self.end_upgrade(id, &record),
            _ => {
                self.commands.ended(id);
                self.end(id, without_run(EndState::Failed, why));
            }
        }
    }

    /// Whether an action answers: an integration that there is none of has to be refused by it.
    fn begin_self_test(&mut self) {
        let (Ok(command), Ok(name)) = (CommandId::new(SELF_TEST), SELF_TEST.parse()) else { return };
        let integration = IntegrationConfig::new(name);
        let order =
            Order::ValidateConfig(ValidateOrder { agent: AgentConfig::default(), integration, seal: false });
        let config = &self.setup.config;
        let job = Job {
            command,
            redaction: Arc::new(Redaction::of(&order, &config.token)),
            tokens: self.tokens.clone(),
            order,
            time_limit: Some(SELF_TEST_WAIT),
            program: self.setup.program.clone(),
            root: self.setup.root.path().to_owned(),
            limits: config.limits.clone(),
        };
        let events = self.events.clone();
        self.runs.spawn(async move {
            let (_stop, stopped) = watch::channel(None);
            let end = guarded(SELF_TEST, carry_out(&job, &events, stopped)).await;
            let end = end.unwrap_or(RunEnd { answer: Answer::Broken, stopped: None, ended: None });
            drop(events.send(Event::SelfTested(Box::new(end))).await);
        });
    }

    pub(super) fn self_tested(&mut self, end: RunEnd) {
        self.upgrading.self_test = match end.answer {
            Answer::Report(_) | Answer::Error(_) => SelfTest::Answered,
            Answer::Nothing { what } => SelfTest::Failed { why: what },
            Answer::NotStarted { message, .. } => SelfTest::Failed { why: message },
            Answer::Broken => SelfTest::Failed { why: "the service's own task for it panicked".to_owned() },
        };
        if let SelfTest::Failed { why } = &self.upgrading.self_test {
            tracing::error!(why, "The self-test failed: no action can be carried out.");
        }
    }

    /// The backend has answered `agent.hello`.
    pub(super) fn checks_in(&mut self) {
        self.upgrading.checked_in = Some(Timestamp::now());
    }

    /// Somebody on the host asks.
    pub(super) fn asked(&mut self, question: Asked) {
        match question {
            Asked::Health(answer) => drop(answer.send(self.health())),
            Asked::Upgrade(order, answer) => drop(answer.send(self.upgrade_by_hand(*order))),
            Asked::Rollback(answer) => drop(answer.send(self.roll_back_by_hand())),
        }
    }

    fn health(&self) -> HealthReply {
        let backend = match (&*self.link.borrow(), self.upgrading.checked_in) {
            (LinkStatus::Refused { error, .. }, _) => BackendLink::Refused { error: error.clone() },
            (_, Some(at)) => BackendLink::CheckedIn { at },
            (LinkStatus::Away { error, busy: true, .. }, None) => BackendLink::Busy { error: error.clone() },
            (LinkStatus::Away { error, .. }, None) => BackendLink::Away { error: error.clone() },
            _ => BackendLink::Unknown,
        };
        HealthReply {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: self.setup.build.clone(),
            pid: std::process::id(),
            started_at: self.setup.started_at,
            self_test: self.upgrading.self_test.clone(),
            backend,
        }
    }

    fn upgrade_by_hand(&mut self, order: UpgradeOrder) -> Result<TakenReply, RpcError> {
        if self.commands.is_draining() {
            return Err(RpcError::new(code::CANCELLED, "the service stops"));
        }
        if *self.upgrading.state_kept.borrow() {
            let message = "a version is on trial that changed the state, which would forget this order if it were taken \
                           back; try again when the trial has ended (`outrider status`)";
            return Err(RpcError::new(code::FAILED, message));
        }
        let now = Timestamp::now();
        let id = by_hand(now)?;
        let command = Command {
            id: id.clone(),
            order: Order::Upgrade(order),
            created_at: now,
            expires_at: None,
            time_limit_ms: None,
        };
        tracing::info!(command = %id, "An upgrade is wanted on this host.");
        self.note(Note::Record(Box::new(command)));
        Ok(TakenReply { command: id })
    }

    /// Takes the version on trial back, or goes to `previous` by an attempt like any other, which needs no network.
    fn roll_back_by_hand(&mut self) -> Result<TakenReply, RpcError> {
        let failed = |err: VersionsError| RpcError::new(code::FAILED, chain(&err));
        let versions = self.upgrading.versions.clone();
        let writer = versions.write(WRITER_WAIT).map_err(failed)?;
        let seen = versions.see().map_err(|err| RpcError::new(code::FAILED, chain(&err)))?;
        if let Some(record) = seen.journal.record().filter(|it| it.phase == Phase::Probation) {
            let command = CommandId::new(record.command.as_str()).or_else(|_| by_hand(Timestamp::now()))?;
            writer.roll_back(Reason::ByHand, "a person on this host wanted it").map_err(failed)?;
            let seen = versions.see().map_err(|err| RpcError::new(code::FAILED, chain(&err)))?;
            if let Some(stays) = seen.journal.record().filter(|it| it.phase == Phase::Failed) {
                return Err(RpcError::new(code::FAILED, stays.detail.clone()));
            }
            self.upgrading.going_over = Some(command.clone());
            return Ok(TakenReply { command });
        }
        drop(writer);
        // A person means what they say: that it is older, and that it was taken back once, is no reason against it.
        self.upgrade_by_hand(UpgradeOrder {
            previous: true,
            allow_downgrade: true,
            force: true,
            ..UpgradeOrder::default()
        })
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

/// The id of what a person on this host wants.
fn by_hand(now: Timestamp) -> Result<CommandId, RpcError> {
    CommandId::new(format!("hand-{}", now.strftime("%Y%m%dT%H%M%S%f")))
        .map_err(|err| RpcError::new(code::INTERNAL, err.to_string()))
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
