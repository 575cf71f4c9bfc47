//! Commands from their start to their outcome: what their processes say, and how they end.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use outrider_protocol::action::{LogBatch, Order, SealedFile};
use outrider_protocol::control::{Command, EndState, Outcome};
use outrider_protocol::crash::Crash;
use outrider_protocol::fault::chain;
use outrider_protocol::ids::CommandId;
use outrider_protocol::log::{Fields, Level, LogLine};
use outrider_protocol::report::ActionReport;
use outrider_protocol::upgrade::UpgradeState;
use tokio::sync::watch;

use super::settings::advise;
use super::upgrading::UPGRADE;
use super::{Agent, Setup};
use crate::action::{Job, carry_out};
use crate::crashes::of_action;
use crate::event::{Event, Said};
use crate::notes::Note;
use crate::outcome::{Answer, RunEnd, not_delivered, outcome};
use crate::redaction::Redaction;
use crate::task::guarded;
use crate::uplink::lost;
use crate::uplink::uploads::{self, Wake};

impl Agent {
    /// Starts the process of a command that the journal has as running.
    pub(super) fn start_run(&mut self, id: CommandId) {
        if self.held.get(&id).is_some_and(|it| it.action == UPGRADE) && self.is_beyond_action(&id) {
            return;
        }
        let config_fault = self.setup.reload().err();
        let Some(held) = self.held.get_mut(&id) else { return };
        let Some(command) = held.command.take() else { return };
        tracing::info!(command = %id, action = held.action, "Command starts.");
        held.config_fault = config_fault;
        held.reprocesses = matches!(&command.order, Order::Export(it) if it.reprocess_historical);
        if let Order::ConfigureCollect(order) = &command.order {
            return self.configure_collect(&id, order);
        }
        let (stop, stopped) = watch::channel(None);
        held.stop = Some(stop);
        let Setup { config, program, root, .. } = &self.setup;
        let Command { order, time_limit_ms, .. } = command;
        let order =
            match crate::order::completed(order, &config.extra_integrations, config.customer_id.as_deref()) {
                Ok(order) => order,
                Err(error) => {
                    self.commands.ended(&id);
                    let outcome = Outcome { state: EndState::Failed, report: None, error: Some(*error) };
                    return self.end(&id, outcome);
                }
            };
        let job = Job {
            command: id.clone(),
            redaction: Arc::new(Redaction::of(&order, &config.token)),
            tokens: self.tokens.clone(),
            order,
            time_limit: time_limit_ms.map(Duration::from_millis),
            program: program.clone(),
            root: root.path().to_owned(),
            limits: config.limits.clone(),
        };
        let events = self.events.clone();
        self.runs.spawn(async move {
            let end = guarded("action", carry_out(&job, &events, stopped)).await;
            let end = end.unwrap_or(RunEnd { answer: Answer::Broken, stopped: None, ended: None });
            drop(events.send(Event::RunEnded(id, Box::new(end))).await);
        });
    }

    pub(super) fn said(&mut self, id: &CommandId, said: Said) {
        let Some(held) = self.held.get_mut(id) else {
            return match said {
                // What the service does on its own account is no command.
                Said::Died(crash) => self.crashes.add(Crash { command: None, ..*crash }),
                said => self.describing.said(id, said),
            };
        };
        match said {
            Said::Started => {
                if self.commands.running(id) {
                    held.mail.running(Timestamp::now());
                }
            }
            Said::Progress(progress) => held.mail.progress(progress),
            Said::Log(batch) => {
                relay(id, &batch);
                held.mail.log(batch);
            }
            Said::Sealed(file) => self.sealed(file),
            Said::Died(crash) => self.crashes.add(Crash { command: Some(id.clone()), ..*crash }),
        }
    }

    /// The backend refuses a file for what is in it. It stays in the spool; the export that it is of says so, as long as
    /// it has no outcome.
    pub(super) fn refused(&mut self, export: &str, file: (String, u64), why: &str, given_up: bool) {
        let next = if given_up {
            "it stays in the spool and is tried again on the next connection to the backend, until `outrider data drop \
             --export ID --refused` drops it"
        } else {
            "it is tried again"
        };
        tracing::error!(export, why, next, "The backend refuses a file.");
        let Ok(id) = CommandId::new(export) else { return };
        if let Some(held) = self.held.get_mut(&id).filter(|it| !it.mail.has_ended()) {
            let (message, source) = (format!("{why}; {next}"), "service".to_owned());
            let time = Timestamp::now();
            held.mail.log.push(LogLine { time, level: Level::Error, source, message, fields: Fields::new() });
            held.refused.insert(file, why.to_owned());
        }
    }

    /// The backend has taken a file that it had refused: nothing is missing of it any more.
    pub(super) fn taken(&mut self, export: &str, file: &(String, u64)) {
        tracing::info!(
            export,
            model = file.0,
            number = file.1,
            "The backend has taken a file that it had refused."
        );
        if let Some(held) = CommandId::new(export).ok().and_then(|id| self.held.get_mut(&id)) {
            held.refused.remove(file);
        }
    }

    fn sealed(&self, file: SealedFile) {
        self.wake(Wake::Sealed(Box::new(uploads::sealed(&self.setup.spool, file))));
    }

    pub(super) fn run_ended(&mut self, id: &CommandId, end: RunEnd) {
        let Some(held) = self.held.get_mut(id) else { return };
        held.stop = None;
        let is_export = held.action == "export";
        if let Answer::Report(report) = &end.answer
            && let ActionReport::Upgrade(report) = &**report
            && report.state == UpgradeState::Arming
            && end.stopped.is_none()
        {
            return self.arm(id.clone());
        }
        let (upgrades, stopped) = (held.action == UPGRADE, end.stopped.clone());
        let (reprocesses, taken_at) = (held.reprocesses, held.taken_at);
        let crash = of_action(held.action, Some(id), &end);
        let mut ended = outcome(held.action, end);
        if let Some((_, why)) = std::mem::take(&mut held.refused).pop_first() {
            not_delivered(&mut ended, why);
        }
        if let (Some(error), Some(fault)) = (&mut ended.error, held.config_fault.take()) {
            advise(error, &fault);
        }
        crash.into_iter().for_each(|it| self.crashes.add(it));
        if let Some(ActionReport::Export(_)) = &ended.report {
            self.keep_report(id, &ended);
        }
        if reprocesses && ended.state == EndState::Done {
            lost::made_good(&self.setup.root, taken_at);
        }
        if is_export {
            self.wake(Wake::Look);
        }
        if is_export && ended.state == EndState::Interrupted {
            return self.requeue(id);
        }
        if upgrades && self.upgrade_ended(id, stopped.as_ref()) {
            return;
        }
        self.commands.ended(id);
        self.end(id, ended);
    }

    /// An export that the service ends because it stops is started again by the next one, and goes on from its
    /// checkpoints.
    pub(super) fn requeue(&mut self, id: &CommandId) {
        tracing::info!(command = %id, "The command waits for the next start of the service.");
        self.commands.requeued(id);
        if let Some(held) = self.held.get(id) {
            held.mail.retire();
        }
        self.note(Note::Requeued(id.clone()));
    }

    /// Keeps the report of an export in the root, for a person who looks there.
    fn keep_report(&self, id: &CommandId, outcome: &Outcome) {
        let path = self.setup.root.export_report(&id.clone().into());
        let text = serde_json::to_vec_pretty(outcome).unwrap_or_default();
        if let Err(err) = outrider_home::atomic::write(&path, &text, outrider_home::atomic::PRIVATE) {
            tracing::warn!(command = %id, error = chain(&err), "The report of an export was not kept in the root.");
        }
    }
}

/// Repeats an action's lines in the log of the service.
pub(super) fn relay(command: &CommandId, batch: &LogBatch) {
    if batch.dropped > 0 {
        tracing::warn!(%command, lines = batch.dropped, "Lines of an action's log were dropped.");
    }
    batch.lines.iter().for_each(outrider_logs::relay);
}
