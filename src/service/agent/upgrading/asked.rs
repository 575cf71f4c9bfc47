//! What is asked of the service on its own host, and what it answers about itself: the watcher asks how it is, people order
//! upgrades and the way back.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use outrider_protocol::action::{AgentConfig, IntegrationConfig, Order, ValidateOrder};
use outrider_protocol::control::Command;
use outrider_protocol::fault::{RpcError, chain, code};
use outrider_protocol::ids::CommandId;
use outrider_protocol::local::{BackendLink, HealthReply, SelfTest, TakenReply};
use outrider_protocol::upgrade::UpgradeOrder;
use outrider_versions::{Condition, Phase, Reason, Record, VersionsError, back};
use tokio::sync::watch;

use crate::action::{Job, carry_out};
use crate::agent::Agent;
use crate::event::Event;
use crate::local::Asked;
use crate::notes::Note;
use crate::outcome::{Answer, RunEnd};
use crate::redaction::Redaction;
use crate::run::WRITER_WAIT;
use crate::snapshot::LinkStatus;
use crate::task::guarded;

/// How long the self-test may take.
const SELF_TEST_WAIT: Duration = Duration::from_secs(30);
/// The name of the self-test's run, where a command's id would stand.
const SELF_TEST: &str = "self-test";

impl Agent {
    /// Whether an action answers: an integration that there is none of has to be refused by it.
    pub(super) fn begin_self_test(&mut self) {
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

    pub(in crate::agent) fn self_tested(&mut self, end: RunEnd) {
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
    pub(in crate::agent) fn checks_in(&mut self) {
        self.upgrading.checked_in = Some(Timestamp::now());
    }

    /// Somebody on the host asks.
    pub(in crate::agent) fn asked(&mut self, question: Asked) {
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
        let look = || versions.see().map_err(|err| RpcError::new(code::FAILED, chain(&err)));
        let seen = look()?;
        let is_on_trial = |it: &&Record| matches!(it.phase, Phase::Switched | Phase::Probation);
        if let Some(record) = seen.journal.record().filter(is_on_trial) {
            let command = CommandId::new(record.command.as_str()).or_else(|_| by_hand(Timestamp::now()))?;
            // The version before is read without the lock, for which the launcher waits.
            let before = back(&seen, record).and_then(|it| Some((it, versions.look(record, it)?)));
            let writer = versions.write(WRITER_WAIT).map_err(failed)?;
            let now = look()?;
            if now.journal.record().filter(is_on_trial).is_none_or(|it| it.attempt != record.attempt) {
                return Err(RpcError::new(code::FAILED, "the trial has just ended: see `outrider status`"));
            }
            if let Some((version, found)) = before {
                let condition = found.map_or(Condition::Changed, |()| Condition::AsSealed);
                writer.found(version, condition);
            }
            writer.roll_back(Reason::ByHand, "a person on this host wanted it").map_err(failed)?;
            if let Some(stays) = look()?.journal.record().filter(|it| it.phase == Phase::Failed) {
                return Err(RpcError::new(code::FAILED, stays.detail.clone()));
            }
            self.upgrading.going_over = Some(command.clone());
            return Ok(TakenReply { command });
        }
        self.upgrade_by_hand(UpgradeOrder::to_previous())
    }
}

/// The id of what a person on this host wants.
fn by_hand(now: Timestamp) -> Result<CommandId, RpcError> {
    CommandId::new(format!("hand-{}", now.strftime("%Y%m%dT%H%M%S%f")))
        .map_err(|err| RpcError::new(code::INTERNAL, err.to_string()))
}
