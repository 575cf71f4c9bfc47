//! Commands from their delivery to their start: what is taken, what waits, what is too old, what is cancelled.

use std::sync::Arc;

use jiff::Timestamp;
use outrider_home::{Entry, State};
use outrider_protocol::action::Order;
use outrider_protocol::control::{Command, EndState, EndedParams, Outcome};
use outrider_protocol::fault::{Fault, Retry};
use outrider_protocol::ids::CommandId;
use outrider_protocol::log::{Fields, Level, LogLine};
use outrider_protocol::report::Failure;
use outrider_protocol::upgrade::UpgradeState;

use super::upgrading::UPGRADE;
use super::{Agent, Held};
use crate::commands::{Cancel, is_late};
use crate::event::Event;
use crate::mail::Mail;
use crate::notes::Note;
use crate::outcome::{Answer, RunEnd, Stop, without_run};
use crate::uplink::courier::{Courier, Letters};

impl Agent {
    /// A command was delivered, perhaps not for the first time.
    pub(super) fn ordered(&mut self, command: Command) {
        if self.commands.is_draining() {
            // Not accepted, so the backend delivers it again.
            return;
        }
        if let Some(held) = self.held.get(&command.id) {
            tracing::debug!(command = %command.id, "A command was delivered again.");
            return held.mail.accept_again(Timestamp::now());
        }
        tracing::info!(command = %command.id, action = command.order.action(), "Command received.");
        let command = match command.order {
            Order::Upgrade(order) => Command { order: Order::Upgrade(order.from_afar()), ..command },
            _ => command,
        };
        self.note(Note::Record(Box::new(command)));
    }

    /// Takes a command of the journal.
    pub(super) fn hold(&mut self, entry: Entry) {
        let (id, now) = (entry.id, Timestamp::now());
        let mail = Arc::new(Mail::new(now, &self.setup.config.limits));
        let mut held = Held { attempts: entry.attempts, ..Held::new(now, mail) };
        let begun = entry.attempts > 0;
        match entry.state {
            State::Queued(command) if !begun && is_late(command.expires_at, now) => {
                held.action = command.order.action();
                self.hold_mail(id.clone(), held);
                return self.expired(&id, "it was too old when the agent took it");
            }
            State::Queued(command) => {
                self.commands.add(&command, begun);
                let upgrade = match &command.order {
                    Order::Upgrade(order) if !begun => Some(order.clone()),
                    _ => None,
                };
                held.action = command.order.action();
                held.command = Some(*command);
                if !entry.starts.is_empty() {
                    held.mail.log.push(started_again(entry.starts.len(), now));
                }
                if let Some(order) = upgrade {
                    self.hold_mail(id.clone(), held);
                    return self.scheduled(&id, &order);
                }
            }
            State::Running(_) => {
                tracing::error!(command = %id, "The journal has a running command that nobody runs: this is a bug.");
                self.hold_mail(id.clone(), held);
                let message = "the service does not know what became of it";
                return self.end(&id, without_run(EndState::Interrupted, message));
            }
            State::Ended(ended) => held.mail.ended(*ended),
            // The backend lost its answer, or all of its memory: it is told again, as far as it is remembered.
            State::Acknowledged(state) => {
                let message = "it was carried out before, and its report was delivered then";
                let outcome = Outcome { error: None, ..without_run(state, message) };
                held.mail.ended(EndedParams { command: id.clone(), outcome, ended_at: now });
            }
        }
        self.hold_mail(id, held);
    }

    fn hold_mail(&mut self, id: CommandId, held: Held) {
        let letters = Letters { command: id.clone(), mail: held.mail.clone(), attempts: held.attempts };
        self.open.send_if_modified(|it| it.insert(id.to_string()));
        self.held.insert(id.clone(), held);
        let courier = Courier::new(letters, self.insist(), &self.setup.config.limits);
        let events = self.events.clone();
        self.keep("courier", async move {
            let event = if courier.run().await { Event::Settled(id) } else { Event::Retired(id) };
            drop(events.send(event).await);
        });
    }

    /// A command that cannot be read cannot be kept either; the backend is told as long as the service runs.
    pub(super) fn unreadable(&mut self, id: CommandId, why: &str) {
        if self.held.contains_key(&id) {
            return;
        }
        tracing::error!(command = %id, why, "The backend ordered a command that this version cannot read.");
        let now = Timestamp::now();
        let mail = Arc::new(Mail::new(now, &self.setup.config.limits));
        let error = Failure {
            message: format!("this agent cannot read the command: {why}"),
            fault: Fault::Host,
            retry: Retry::No,
            hint: Some("update the agent, or the backend, whichever is older".to_owned()),
            last_lines: Vec::new(),
        };
        let outcome = Outcome { state: EndState::Failed, report: None, error: Some(error) };
        mail.ended(EndedParams { command: id.clone(), outcome, ended_at: now });
        self.hold_mail(id, Held::new(now, mail));
    }

    pub(super) fn cancelled(&mut self, id: &CommandId, reason: String) {
        if self.upgrading.goes_over_for(id) {
            tracing::info!(command = %id, reason, "A cancel comes too late: the service goes over to the new version.");
            return;
        }
        match self.commands.cancel(id) {
            Cancel::End => {
                tracing::info!(command = %id, reason, "Command cancelled while it waited for its turn.");
                let begun = self.held.get(id).is_some_and(|it| it.attempts > 0);
                let default = match begun {
                    true => "it was cancelled while it waited to be started again; what was durable is kept",
                    false => "it was cancelled before it began",
                };
                let message = if reason.is_empty() { default } else { &reason };
                match self.held.get(id).is_some_and(|it| it.action == UPGRADE) {
                    true => self.end_upgrade_unbegun(id, UpgradeState::Cancelled, message),
                    false => self.end(id, without_run(EndState::Cancelled, message)),
                }
            }
            Cancel::Stop => {
                tracing::info!(command = %id, reason, "Cancelling a command.");
                self.stop(id, Stop::Cancelled { reason });
            }
            Cancel::Nothing => {
                tracing::debug!(command = %id, "A cancel changes nothing: it ended, or was cancelled.");
            }
        }
    }

    pub(super) fn stop(&mut self, id: &CommandId, why: Stop) {
        if self.upgrading.stop_arming(id, &why) {
            return;
        }
        let Some(held) = self.held.get_mut(id) else { return };
        if let Some(stop) = &held.stop {
            // The first reason counts: what is cancelled stays so when the service stops, too.
            stop.send_if_modified(|it| {
                let first = it.is_none();
                it.get_or_insert(why);
                first
            });
        } else if held.command.take().is_some() {
            // The journal could not be written, so its process is not there yet.
            self.run_ended(
                id,
                RunEnd {
                    answer: Answer::NotStarted { message: why.reason(), hint: None },
                    stopped: Some(why),
                    ended: None,
                },
            );
        }
    }

    pub(super) fn expired(&mut self, id: &CommandId, message: &str) {
        tracing::warn!(command = %id, message, "Command expired before it could begin.");
        match self.held.get(id).is_some_and(|it| it.action == UPGRADE) {
            true => self.end_upgrade_unbegun(id, UpgradeState::Expired, message),
            false => self.end(id, without_run(EndState::Expired, message)),
        }
    }
}

/// Says, in a command's log, why it begins anew.
fn started_again(starts: usize, time: Timestamp) -> LogLine {
    let message = format!(
        "the agent went down while this command ran (it was started {starts} times so far); it is started again and goes on \
         from what is durable"
    );
    LogLine { time, level: Level::Warn, source: "service".to_owned(), message, fields: Fields::new() }
}
