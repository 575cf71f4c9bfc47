//! The loop that owns all state of the service, and what it does about each event.

mod describing;
mod settings;
mod stopping;
mod telling;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use outrider_home::{Config, Entry, Journal, JournalError, Recorded, Root, State};
use outrider_protocol::action::{LogBatch, SealedFile};
use outrider_protocol::control::{Command, EndState, EndedParams, Envelope, HostInfo, Outcome};
use outrider_protocol::crash::Crash;
use outrider_protocol::fault::{Fault, Retry};
use outrider_protocol::ids::CommandId;
use outrider_protocol::log::{Fields, Level, LogLine};
use outrider_protocol::report::{ActionReport, Failure};
use outrider_spool::Spool;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::action::{Job, carry_out};
use crate::commands::{Cancel, Commands, Due, is_late};
use crate::crashes::{Crashes, of_action};
use crate::event::{Event, Said, SpoolUse, WAITING};
use crate::last_life::collect_panic;
use crate::mail::Mail;
use crate::notes::{Note, Notes, Written};
use crate::outcome::{Answer, RunEnd, Stop, not_delivered, outcome, without_run, word};
use crate::redaction::Redaction;
use crate::run::{ServiceError, Stopped};
use crate::snapshot::{LinkStatus, Snapshot};
use crate::task::{chain, guarded};
use crate::tokens::Tokens;
use crate::uplink::Timing;
use crate::uplink::courier::{Courier, Letters};
use crate::uplink::http::Http;
use crate::uplink::insist::Insist;
use crate::uplink::ledger::Ledger;
use crate::uplink::orders::Orders;
use crate::uplink::uploads::{self, Uploads, Wake};
use describing::Describing;
use settings::advise;

/// Files that may wait to be told to the uploads; more are found when the spool is looked through.
const WAKES: usize = 256;
/// How often the state is written down for `outrider status`.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(1);
/// How often what the disk refused is tried again.
const NOTES_EVERY: Duration = Duration::from_secs(10);
/// What the loop begins with.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) root: Root,
    pub(crate) config: Config,
    pub(crate) program: PathBuf,
    pub(crate) journal: Journal,
    pub(crate) http: Http,
    pub(crate) spool: Spool,
    pub(crate) timing: Timing,
    pub(crate) host: HostInfo,
    pub(crate) started_at: Timestamp,
    pub(crate) crashes: Crashes,
}

/// A command that the service has taken and of which the backend has not answered the outcome.
#[derive(Debug)]
struct Held {
    action: &'static str,
    taken_at: Timestamp,
    mail: Arc<Mail>,
    /// How often it was started before this service.
    attempts: u32,
    /// What is to be run, until it is started.
    command: Option<Command>,
    /// Ends its run.
    stop: Option<watch::Sender<Option<Stop>>>,
    /// Why the backend does not take a file of it.
    refused: Option<String>,
    /// What was wrong with config.json when it started.
    config_fault: Option<String>,
}

impl Held {
    fn new(taken_at: Timestamp, mail: Arc<Mail>) -> Self {
        Self {
            action: "",
            taken_at,
            mail,
            attempts: 0,
            command: None,
            stop: None,
            refused: None,
            config_fault: None,
        }
    }
}

/// The service's state.
#[derive(Debug)]
pub(crate) struct Agent {
    setup: Setup,
    commands: Commands,
    notes: Notes,
    held: HashMap<CommandId, Held>,
    link: watch::Sender<LinkStatus>,
    spool_use: SpoolUse,
    crashes: Crashes,
    tokens: Tokens,
    describing: Describing,
    events: mpsc::Sender<Event>,
    happened: mpsc::Receiver<Event>,
    wake: mpsc::Sender<Wake>,
    /// Orders, uploads, couriers: they end with the service.
    uplink: JoinSet<()>,
    /// One a run.
    runs: JoinSet<()>,
    /// What was written down last.
    snapshot: Option<Snapshot>,
    snapshot_at: Option<Instant>,
    notes_at: Option<Instant>,
}

impl Agent {
    /// Reads the journal, ends what was interrupted, and starts the tasks of the uplink.
    pub(crate) fn start(setup: Setup) -> Result<Self, JournalError> {
        for entry in setup.journal.recover(Timestamp::now(), setup.config.limits.command_attempts)? {
            let (command, starts) = (&entry.id, entry.starts.len());
            match entry.state {
                State::Queued(_) => {
                    tracing::warn!(%command, starts, "The service went down while an export ran; it is started again.");
                }
                _ => {
                    tracing::warn!(%command, starts, "A command was ended by the last death of the service.")
                }
            }
        }
        let entries = setup.journal.open_entries()?;
        let (events, happened) = mpsc::channel(WAITING);
        let (wake, woken) = mpsc::channel(WAKES);
        let mut agent = Self {
            commands: Commands::new(setup.config.limits.commands_at_once),
            notes: Notes::default(),
            held: HashMap::new(),
            link: watch::Sender::new(LinkStatus::Connecting),
            spool_use: SpoolUse { acknowledged: Ledger::open(&setup.root).files(), ..SpoolUse::default() },
            describing: Describing::new(),
            crashes: setup.crashes.clone(),
            tokens: Tokens::new(setup.http.clone(), setup.timing.clone()),
            events,
            happened,
            wake,
            uplink: JoinSet::new(),
            runs: JoinSet::new(),
            snapshot: None,
            snapshot_at: None,
            notes_at: None,
            setup,
        };
        entries.into_iter().for_each(|entry| agent.hold(entry));
        agent.save_snapshot();
        agent.start_uplink(woken);
        Ok(agent)
    }

    fn start_uplink(&mut self, woken: mpsc::Receiver<Wake>) {
        let Setup { root, http, timing, config, spool, host, started_at, .. } = &self.setup;
        let (http, timing) = (http.clone(), timing.clone());
        let uploads = Uploads::new(
            http.clone(),
            timing.clone(),
            (root, &config.limits),
            spool.clone(),
            self.events.clone(),
        );
        let orders =
            Orders { http, timing, events: self.events.clone(), host: host.clone(), started_at: *started_at };
        self.keep("uploads", uploads.run(woken));
        self.keep("orders", orders.run());
        self.keep("crashes", crate::uplink::crashes::tell(self.crashes.clone(), self.insist()));
        self.keep("integrations", crate::uplink::integrations::tell(self.describing.known(), self.insist()));
    }

    /// What calls the backend until it answers.
    fn insist(&self) -> Insist {
        let Setup { http, timing, .. } = &self.setup;
        Insist { http: http.clone(), timing: timing.clone(), link: self.link.subscribe() }
    }

    /// Runs a task of the uplink; its panic ends the service.
    fn keep(&mut self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let events = self.events.clone();
        self.uplink.spawn(async move {
            if guarded(name, work).await.is_none() {
                drop(events.send(Event::Died(name)).await);
            }
        });
    }

    /// Runs until `stop` is ready, and then until everything is stopped.
    pub(crate) async fn run(
        mut self,
        stop: impl Future<Output = &'static str>,
    ) -> Result<Stopped, ServiceError> {
        tokio::pin!(stop);
        let reason = loop {
            self.start_due();
            tokio::select! {
                biased;
                reason = &mut stop => break reason,
                event = self.next() => self.on(event)?,
            }
        };
        tracing::info!(reason, "The service stops.");
        self.stop_runs().await?;
        self.flush().await?;
        self.save_snapshot();
        let queued = self.commands.stages().count();
        let unreported = self.unreported();
        self.uplink.shutdown().await;
        tracing::info!(reason, unreported, queued, "The service has stopped.");
        Ok(Stopped { reason: reason.to_owned(), unreported, queued })
    }

    /// The next event. Does what is due by time meanwhile. May be dropped.
    async fn next(&mut self) -> Event {
        loop {
            while self.runs.try_join_next().is_some() || self.uplink.try_join_next().is_some() {}
            let due = [self.snapshot_at, self.notes_at, self.describing.at()].into_iter().flatten().min();
            let due = async {
                match due {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // This agent holds a sender, so that there is always one.
                Some(event) = self.happened.recv() => return event,
                () = due => self.on_time(),
            }
        }
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        self.describe_if_due(now);
        // One that a task survived is a bug all the same.
        collect_panic(&self.setup.root, &self.crashes);
        if self.snapshot_at.is_some_and(|at| at <= now) {
            self.save_snapshot();
        }
        if self.notes_at.is_some_and(|at| at <= now) {
            self.notes_at = None;
            self.write_notes();
        }
    }

    fn on(&mut self, event: Event) -> Result<(), ServiceError> {
        match event {
            Event::Ordered(order) => match *order {
                Envelope::Run(command) => self.ordered(command),
                Envelope::Cancel { command, reason } => self.cancelled(&command, reason),
            },
            Event::Unreadable { command, why } => self.unreadable(command, &why),
            Event::Link(status) => {
                self.link_is(status);
                self.save_snapshot();
            }
            Event::Said(command, said) => self.said(&command, said),
            Event::RunEnded(command, end) => self.run_ended(&command, *end),
            Event::Settled(command) => {
                self.held.remove(&command);
                self.note(Note::Acknowledged(command));
            }
            Event::Spool(spool) => self.spool_use = spool,
            Event::Refused { export, why, given_up } => self.refused(&export, &why, given_up),
            Event::BackendHas(files) => self.wake(Wake::BackendHas(files)),
            Event::Described(end) => self.described(*end),
            Event::Asked(answer) => drop(answer.send(self.view())),
            Event::Died(task) => return Err(ServiceError::Bug { task }),
        }
        // Counted from the first change, so that a busy service is not a reason to wait longer.
        self.snapshot_at.get_or_insert_with(|| Instant::now() + SNAPSHOT_EVERY);
        Ok(())
    }

    /// A command was delivered, perhaps not for the first time.
    fn ordered(&mut self, command: Command) {
        if self.commands.is_draining() {
            // Not accepted, so the backend delivers it again.
            return;
        }
        if let Some(held) = self.held.get(&command.id) {
            tracing::debug!(command = %command.id, "A command was delivered again.");
            return held.mail.accept_again(Timestamp::now());
        }
        tracing::info!(command = %command.id, action = command.order.action(), "Command received.");
        self.note(Note::Record(Box::new(command)));
    }

    /// Takes a command of the journal.
    fn hold(&mut self, entry: Entry) {
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
                held.action = command.order.action();
                held.command = Some(*command);
                if !entry.starts.is_empty() {
                    held.mail.log.push(started_again(entry.starts.len(), now));
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
        self.held.insert(id.clone(), held);
        let courier = Courier::new(letters, self.insist(), &self.setup.config.limits);
        let events = self.events.clone();
        self.keep("courier", async move {
            courier.run().await;
            drop(events.send(Event::Settled(id)).await);
        });
    }

    /// A command that cannot be read cannot be kept either; the backend is told as long as the service runs.
    fn unreadable(&mut self, id: CommandId, why: &str) {
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

    fn cancelled(&mut self, id: &CommandId, reason: String) {
        match self.commands.cancel(id) {
            Cancel::End => {
                tracing::info!(command = %id, reason, "Command cancelled while it waited for its turn.");
                let begun = self.held.get(id).is_some_and(|it| it.attempts > 0);
                let default = match begun {
                    true => "it was cancelled while it waited to be started again; what was durable is kept",
                    false => "it was cancelled before it began",
                };
                let message = if reason.is_empty() { default } else { &reason };
                self.end(id, without_run(EndState::Cancelled, message));
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

    fn stop(&mut self, id: &CommandId, why: Stop) {
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

    fn wake(&self, wake: Wake) {
        if self.wake.try_send(wake).is_err() {
            tracing::debug!("The uploads are busy; they find the file when they look through the spool.");
        }
    }

    fn start_due(&mut self) {
        // A disk that refuses notes would be asked again at every event.
        if self.notes_at.is_some() {
            return;
        }
        for due in self.commands.due(Timestamp::now()) {
            match due {
                Due::Start(id) => self.note(Note::Started(id, Timestamp::now())),
                Due::Expire(id) => self.expired(&id, "its time to begin had passed when its turn came"),
            }
        }
    }

    fn expired(&mut self, id: &CommandId, message: &str) {
        tracing::warn!(command = %id, message, "Command expired before it could begin.");
        self.end(id, without_run(EndState::Expired, message));
    }

    /// Starts the process of a command that the journal has as running.
    fn start_run(&mut self, id: CommandId) {
        let config_fault = self.setup.reload().err();
        let Some(held) = self.held.get_mut(&id) else { return };
        let Some(command) = held.command.take() else { return };
        tracing::info!(command = %id, action = held.action, "Command starts.");
        held.config_fault = config_fault;
        let (stop, stopped) = watch::channel(None);
        held.stop = Some(stop);
        let Setup { config, program, root, .. } = &self.setup;
        let Command { order, time_limit_ms, .. } = command;
        let order = crate::order::completed(order, &config.extra_integrations, config.customer_id.as_deref());
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

    fn said(&mut self, id: &CommandId, said: Said) {
        let Some(held) = self.held.get(id) else { return self.describing.said(id, said) };
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
        }
    }

    /// The backend refuses a file for what is in it. It stays in the spool; the export that it is of says so, as long as
    /// it has no outcome.
    fn refused(&mut self, export: &str, why: &str, given_up: bool) {
        let next = if given_up {
            "it stays in the spool and is tried again on the next connection to the backend"
        } else {
            "it is tried again"
        };
        tracing::error!(export, why, next, "The backend refuses a file.");
        let Ok(id) = CommandId::new(export) else { return };
        if let Some(held) = self.held.get_mut(&id).filter(|it| !it.mail.has_ended()) {
            let (message, source) = (format!("{why}; {next}"), "service".to_owned());
            let time = Timestamp::now();
            held.mail.log.push(LogLine { time, level: Level::Error, source, message, fields: Fields::new() });
            held.refused = Some(why.to_owned());
        }
    }

    fn sealed(&self, file: SealedFile) {
        self.wake(Wake::Sealed(Box::new(uploads::sealed(&self.setup.spool, file))));
    }

    fn run_ended(&mut self, id: &CommandId, end: RunEnd) {
        let Some(held) = self.held.get_mut(id) else { return };
        held.stop = None;
        let is_export = held.action == "export";
        let crash = of_action(held.action, Some(id), &end);
        let mut ended = outcome(held.action, end);
        if let Some(why) = held.refused.take() {
            not_delivered(&mut ended, why);
        }
        if let (Some(error), Some(fault)) = (&mut ended.error, held.config_fault.take()) {
            advise(error, &fault);
        }
        crash.into_iter().for_each(|it| self.crashes.add(it));
        if let Some(ActionReport::Export(report)) = &ended.report {
            for it in report.integrations.iter().filter_map(|it| it.crash.clone()) {
                self.crashes.add(Crash { command: Some(id.clone()), ..it });
            }
            self.keep_report(id, &ended);
        }
        if is_export {
            self.wake(Wake::Look);
        }
        if is_export && ended.state == EndState::Interrupted {
            return self.requeue(id);
        }
        self.commands.ended(id);
        self.end(id, ended);
    }

    /// An export that the service ends because it stops is started again by the next one, and goes on from its
    /// checkpoints.
    fn requeue(&mut self, id: &CommandId) {
        tracing::info!(command = %id, "An export waits for the next start of the service.");
        self.commands.requeued(id);
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

    /// A command has its outcome.
    fn end(&mut self, id: &CommandId, outcome: Outcome) {
        let error = outcome.error.as_ref().map(|it| it.message.as_str());
        match outcome.state {
            EndState::Failed => tracing::error!(command = %id, error, "Command failed."),
            state => tracing::info!(command = %id, state = word(state), error, "Command ended."),
        }
        let ended = EndedParams { command: id.clone(), outcome, ended_at: Timestamp::now() };
        self.note(Note::Ended(Box::new(ended)));
    }

    /// Writes into the journal, and does what may only be done then.
    fn note(&mut self, note: Note) {
        self.notes.add(note);
        if self.notes_at.is_none() {
            self.write_notes();
        }
    }

    fn write_notes(&mut self) {
        while let Some(written) = self.notes.write_next(&self.setup.journal) {
            match written {
                Ok(Written::Recorded(Recorded::New(entry) | Recorded::Known(entry))) => self.hold(entry),
                Ok(Written::Started(id)) => self.start_run(id),
                Ok(Written::Ended(ended)) => {
                    if let Some(held) = self.held.get(&ended.command) {
                        held.mail.ended(*ended);
                    }
                }
                Ok(Written::Nothing) => {}
                Err(err) => {
                    tracing::error!(error = chain(&err), "The journal cannot be written; trying again.");
                    self.notes_at = Some(Instant::now() + NOTES_EVERY);
                    return;
                }
            }
        }
    }
}

/// Says, in an export's log, why it begins anew.
fn started_again(starts: usize, time: Timestamp) -> LogLine {
    let message = format!(
        "the agent went down while this export ran (it was started {starts} times so far); it is started again and goes on \
         from what is durable"
    );
    LogLine { time, level: Level::Warn, source: "service".to_owned(), message, fields: Fields::new() }
}

/// Repeats an action's lines in the log of the service.
fn relay(command: &CommandId, batch: &LogBatch) {
    if batch.dropped > 0 {
        tracing::warn!(%command, lines = batch.dropped, "Lines of an action's log were dropped.");
    }
    batch.lines.iter().for_each(outrider_logs::relay);
}
