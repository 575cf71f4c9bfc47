//! One integration of an export: started, called, ended, and where it may help started again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use outrider_protocol::action::{AgentConfig, IntegrationConfig};
use outrider_protocol::crash::Crash;
use outrider_protocol::fault::{Fault, Retry};
use outrider_protocol::integration::{Export as ExportCall, ExportParams, ProjectResult};
use outrider_protocol::log::{Fields, Level};
use outrider_protocol::progress::IntegrationState;
use outrider_protocol::report::{Failure, IntegrationOutcome, IntegrationReport};
use tokio::sync::Semaphore;

use super::calls::{Calls, handlers};
use super::retry::Attempts;
use super::{Export, empty_report, ending, failure, unchanged};
use crate::context::Context;
use crate::host::{Gone, Host, NotStarted};
use crate::integration_log::IntegrationLog;

/// The longest failure that is shown while the integration waits for another try, in characters.
const SHOWN: usize = 300;

/// Exports one integration, whatever happens to it. It runs when it has one of the `turns`; between two attempts it has
/// none.
pub(super) async fn export_one(
    context: &Context,
    export: Arc<Export>,
    agent: &AgentConfig,
    config: IntegrationConfig,
    turns: &Semaphore,
) -> IntegrationReport {
    let mut report = empty_report(&config);
    report.earlier = export.lives.earlier_of(&report.integration);
    let mut started = Instant::now();
    match context.integration_log(&config) {
        Ok(log) => {
            let turn = turns.acquire().await;
            started = Instant::now();
            let all = All { context, export: &export, agent, config: &config, log: &log, turns };
            all.run(&mut report, turn.ok()).await;
            log.close();
        }
        Err(failed) => report.error = Some(*failed),
    }
    report.duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    report.last_processed = export.values.shared(&report.integration, &|it| context.redact(it));
    ending::conclude(context, &export, &report);
    report
}

/// What all attempts of one integration share.
struct All<'a> {
    context: &'a Context,
    export: &'a Arc<Export>,
    agent: &'a AgentConfig,
    config: &'a IntegrationConfig,
    log: &'a IntegrationLog,
    turns: &'a Semaphore,
}

impl All<'_> {
    async fn run(&self, report: &mut IntegrationReport, mut turn: Option<tokio::sync::SemaphorePermit<'_>>) {
        let tally = Arc::default();
        let mut attempts = Attempts::new(self.context.limits());
        loop {
            if self.context.cancel().is_cancelled() {
                let reason = self.context.cancel().cancelled().await;
                return not_started(report, &reason);
            }
            report.attempts += 1;
            self.export.board().set(&report.integration, IntegrationState::Starting);
            let calls =
                Calls::new(self.config.id(), self.export.clone(), self.log.clone(), Arc::clone(&tally));
            let calls = Arc::new(calls);
            let (ran, crash) = self.drive(&calls).await;
            report.crash = crash.map(|it| *it);
            ending::settle(report, ran, &calls).await;
            if self.export.keeper.intact().is_err() {
                // Nothing more is stored in this run.
                return;
            }
            let Some((pause, failed)) = attempts.next(report) else { return };
            calls.tally().another_attempt();
            drop(turn.take());
            if let Err(reason) = self.wait(pause, &failed).await {
                cancelled_between(report, &reason, &failed);
                return;
            }
            turn = self.turns.acquire().await.ok();
        }
    }

    /// Waits before another try.
    ///
    /// # Errors
    /// The reason of a cancel that came meanwhile.
    async fn wait(&self, pause: Duration, failed: &Failure) -> Result<(), String> {
        let until = Timestamp::now() + SignedDuration::try_from(pause).unwrap_or_default();
        let shown: String = failed.message.chars().take(SHOWN).collect();
        let seconds = until.strftime("%Y-%m-%dT%H:%M:%SZ");
        let why = format!("failed: {shown}; trying again at {seconds}");
        self.log.note(Level::Warn, &why, Fields::new());
        self.export.board().pause(&self.config.id(), Some(until), why);
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            reason = self.context.cancel().cancelled() => Err(reason),
        }
    }

    /// Starts the process, calls `export`, ends the process. Also says whether that died.
    async fn drive(&self, calls: &Arc<Calls>) -> (Ran, Option<Box<Crash>>) {
        let (context, log) = (self.context, self.log);
        let started = Host::start(context, self.agent, self.config, log, handlers(calls.clone())).await;
        let mut host = match started {
            Ok(host) => host,
            Err(NotStarted { failure, crash }) if context.cancel().is_cancelled() => {
                return (Ran::Cancelled(failure), crash);
            }
            Err(NotStarted { failure, crash }) => return (Ran::Failed(failure), crash),
        };
        let needs_id =
            host.about().models.iter().filter(|it| it.needs_id).map(|it| it.model.clone()).collect();
        drop(calls.needs_id.set(needs_id));
        drop(calls.skip_unchanged.set(unchanged::scopes(&calls.integration, &host.about().models)));
        let about = host.about();
        log.note(Level::Info, &format!("{} {} started", about.name, about.version), Fields::new());
        calls.export.board().set(&calls.integration, IntegrationState::Running);

        let params = ExportParams {
            export: context.run_id().clone(),
            config: self.config.config.clone(),
            customer_id: self.agent.customer_id.clone(),
            reprocess_historical: calls.export.reprocess_historical,
        };
        let answered = host.call::<ExportCall>(&params).await;
        let Gone { ended, crash, .. } = host.end(answered.as_ref().err()).await;
        let ran = match answered {
            Ok(reply) => {
                Ran::Answered { projects: reply.projects, config_changed: reply.new_config.is_some() }
            }
            Err(stopped) if stopped.was_cancelled() && context.cancel().is_cancelled() => {
                Ran::Cancelled(stopped.failure(ended.as_ref(), log))
            }
            Err(stopped) => Ran::Failed(stopped.failure(ended.as_ref(), log)),
        };
        (ran, crash)
    }
}

/// What an integration's process came to.
pub(super) enum Ran {
    Answered { projects: Vec<ProjectResult>, config_changed: bool },
    Cancelled(Box<Failure>),
    Failed(Box<Failure>),
}

/// The order ended while the integration waited for its turn.
fn not_started(report: &mut IntegrationReport, reason: &str) {
    report.state = IntegrationOutcome::Cancelled;
    let message = format!("{} was cancelled before it was started: {reason}", report.integration);
    report.error = Some(*failure(message, Fault::Caller, Retry::No));
}

/// The order ended while the integration waited for another try.
fn cancelled_between(report: &mut IntegrationReport, reason: &str, failed: &Failure) {
    report.state = IntegrationOutcome::Cancelled;
    let id = &report.integration;
    let message =
        format!("{id} was cancelled before it was tried again: {reason}; it had failed: {}", failed.message);
    let mut cancelled = *failure(message, Fault::Caller, Retry::No);
    cancelled.last_lines.clone_from(&failed.last_lines);
    report.error = Some(cancelled);
}
