//! The loop that owns all state of the service, and what it does about each event.

mod collecting;
mod configuring;
mod describing;
mod kept_state;
mod running;
mod settings;
mod stopping;
mod taking;
mod telling;
mod upgrading;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use outrider_home::{Config, Journal, JournalError, Recorded, Root, State};
use outrider_protocol::control::{Command, EndState, EndedParams, Envelope, HostInfo, Outcome};
use outrider_protocol::fault::chain;
use outrider_protocol::ids::CommandId;
use outrider_protocol::report::ActionReport;
use outrider_protocol::upgrade::Build;
use outrider_spool::Spool;
use outrider_versions::Versions;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::collecting::Collecting;
use crate::commands::{Commands, Due};
use crate::crashes::Crashes;
use crate::event::{Event, SpoolUse, WAITING};
use crate::last_life::collect_panic;
use crate::local::Local;
use crate::mail::Mail;
use crate::notes::{Note, Notes, Written};
use crate::outcome::upgrade::keep;
use crate::outcome::{Stop, word};
use crate::redaction::Redaction;
use crate::run::{ServiceError, Stopped};
use crate::snapshot::{LinkStatus, Snapshot};
use crate::task::guarded;
use crate::tokens::Tokens;
use crate::uplink::Timing;
use crate::uplink::collecting::Told;
use crate::uplink::http::Http;
use crate::uplink::insist::Insist;
use crate::uplink::ledger::Ledger;
use crate::uplink::lost;
use crate::uplink::orders::Orders;
use crate::uplink::uploads::{Uploads, Wake};
use configuring::Ordered;
use describing::Describing;
use upgrading::Upgrading;

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
    /// Which build this is, when it runs from a version of the root.
    pub(crate) build: Option<Build>,
    pub(crate) versions: Versions,
    /// Where questions come in.
    pub(crate) local: Option<Local>,
    /// Whether the state before is kept, for the version before.
    pub(crate) state_on_trial: bool,
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
    /// Why the backend does not take files of it, by model and number.
    refused: BTreeMap<(String, u64), String>,
    /// Whether the backend was told all that there is of it in this life of the service.
    told: bool,
    /// What was wrong with config.json when it started.
    config_fault: Option<String>,
    /// Whether it exports everything again.
    reprocesses: bool,
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
            refused: BTreeMap::new(),
            told: false,
            config_fault: None,
            reprocesses: false,
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
    /// Their ids, as the spool knows exports: what it has of them is not forgotten, since they may be gone on with.
    open: watch::Sender<HashSet<String>>,
    link: watch::Sender<LinkStatus>,
    spool_use: SpoolUse,
    crashes: Crashes,
    tokens: Tokens,
    describing: Describing,
    collecting: Collecting,
    /// What the backend ordered to be collected.
    ordered: Ordered,
    /// The secrets of what is collected.
    collect_redaction: Arc<Redaction>,
    /// What the backend is told of it.
    told_collecting: watch::Sender<Told>,
    /// What config.json looked like when it was read last for what it wants collected.
    config_seen: Option<(SystemTime, u64)>,
    upgrading: Upgrading,
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
                    tracing::warn!(%command, starts, "The service went down while this command ran; it is started again.");
                }
                _ => {
                    tracing::warn!(%command, starts, "A command was ended by the last death of the service.");
                }
            }
        }
        lost::begin(&setup.root, &setup.config.agent);
        let entries = setup.journal.open_entries()?;
        let (events, happened) = mpsc::channel(WAITING);
        let (wake, woken) = mpsc::channel(WAKES);
        let mut agent = Self {
            commands: Commands::new(setup.config.limits.commands_at_once),
            notes: Notes::default(),
            held: HashMap::new(),
            open: watch::Sender::default(),
            link: watch::Sender::new(LinkStatus::Connecting),
            spool_use: SpoolUse {
                acknowledged: Ledger::open(&setup.root, &setup.config.agent).files(),
                lost: lost::files(&setup.root),
                ..SpoolUse::default()
            },
            describing: Describing::new(),
            collecting: Collecting::new(Instant::now()),
            ordered: Ordered::load(&setup.root),
            collect_redaction: Arc::new(Redaction::of_texts(std::iter::empty(), &setup.config.token)),
            told_collecting: watch::Sender::new(None),
            config_seen: None,
            upgrading: Upgrading::new(setup.versions.clone()),
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
        if agent.setup.state_on_trial {
            agent.begin_with_kept_state();
        }
        entries.into_iter().for_each(|entry| agent.hold(entry));
        agent.take_up_upgrades();
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
            (root, &config.limits, Ledger::open(root, &config.agent)),
            (spool.clone(), self.open.subscribe()),
            self.events.clone(),
        );
        let (events, build) = (self.events.clone(), self.setup.build.clone());
        let (host, started_at, wait) = (host.clone(), *started_at, self.upgrading.orders_wait());
        let orders = Orders { http, timing, events, build, host, started_at, wait };
        self.keep("uploads", uploads.run(woken));
        self.keep("orders", orders.run());
        if let Some(local) = self.setup.local.take() {
            self.keep("local", local.run(self.events.clone()));
        }
        self.keep("crashes", crate::uplink::crashes::tell(self.crashes.clone(), self.insist()));
        self.keep("measured", crate::uplink::measured::tell(self.collecting.latest(), self.insist()));
        let told = self.told_collecting.subscribe();
        self.keep("collecting", crate::uplink::collecting::tell(told, self.insist()));
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

    /// Runs until `stop` is ready, and then until everything is stopped. Where that comes while another version is to take
    /// over, none does: whoever stops a service wants none.
    pub(crate) async fn run(
        mut self,
        stop: impl Future<Output = &'static str>,
    ) -> Result<Stopped, ServiceError> {
        tokio::pin!(stop);
        let reason = loop {
            // Before anything else is started: the upgrade itself waits for its turn again, in the next life.
            if self.upgrading.goes_over() {
                break "another version takes over";
            }
            self.start_due();
            tokio::select! {
                biased;
                reason = &mut stop => break reason,
                event = self.next() => self.on(event)?,
            }
        };
        tracing::info!(reason, "The service stops.");
        let mut is_told = !self.upgrading.goes_over();
        {
            let ending = async {
                self.stop_runs().await?;
                self.flush().await
            };
            tokio::pin!(ending);
            loop {
                tokio::select! {
                    ended = &mut ending => break ended?,
                    reason = &mut stop, if !is_told => {
                        tracing::info!(reason, "The service is told to stop: no version takes over.");
                        is_told = true;
                    }
                }
            }
        }
        self.save_snapshot();
        let queued = self.commands.stages().count();
        let unreported = self.unreported();
        self.uplink.shutdown().await;
        let goes_over = self.upgrading.goes_over() && !is_told;
        tracing::info!(reason, unreported, queued, "The service has stopped.");
        Ok(Stopped { reason: reason.to_owned(), unreported, queued, goes_over })
    }

    /// The next event. Does what is due by time meanwhile. May be dropped.
    async fn next(&mut self) -> Event {
        loop {
            while self.runs.try_join_next().is_some() || self.uplink.try_join_next().is_some() {}
            let window = self.commands.next_at(Timestamp::now()).map(|at| Instant::now() + until(at));
            let due = [
                self.snapshot_at,
                self.notes_at,
                self.describing.at(),
                self.collecting.at(),
                self.upgrading.at(),
                window,
            ];
            let due = due.into_iter().flatten().min();
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
        self.start_due();
        let now = Instant::now();
        self.describe_if_due(now);
        self.collect_if_due(now);
        self.look_at_trial(now);
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
            Event::Local(question) => self.asked(question),
            Event::CheckedIn => self.checks_in(),
            Event::Watched(command, watched) => self.watched(command, watched),
            Event::SelfTested(end) => self.self_tested(*end),
            Event::Settled(command) => {
                self.upgrade_told(&command);
                self.held.remove(&command);
                self.open.send_if_modified(|it| it.remove(command.as_str()));
                self.note(Note::Acknowledged(command));
            }
            Event::Retired(command) => {
                self.held.entry(command).and_modify(|it| it.told = true);
            }
            Event::Spool(spool) => self.spool_use = spool,
            Event::Refused { export, file, why, given_up } => self.refused(&export, file, &why, given_up),
            Event::Taken { export, file } => self.taken(&export, &file),
            Event::BackendHas(files) => self.wake(Wake::BackendHas(files)),
            Event::Described(end) => self.described(*end),
            Event::Collecting(said) => self.collecting_says(said),
            Event::CollectEnded(end) => self.collect_ended(end.as_deref()),
            Event::Asked(answer) => drop(answer.send(self.view())),
            Event::Died(task) => return Err(ServiceError::Bug { task }),
        }
        // Counted from the first change, so that a busy service is not a reason to wait longer.
        self.snapshot_at.get_or_insert_with(|| Instant::now() + SNAPSHOT_EVERY);
        Ok(())
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

    /// A command has its outcome.
    fn end(&mut self, id: &CommandId, outcome: Outcome) {
        let error = outcome.error.as_ref().map(|it| it.message.as_str());
        match outcome.state {
            EndState::Failed => tracing::error!(command = %id, error, "Command failed."),
            state => tracing::info!(command = %id, state = word(state), error, "Command ended."),
        }
        if let Some(ActionReport::Upgrade(report)) = &outcome.report
            && let Err(err) = keep(&self.setup.root, report)
        {
            tracing::warn!(error = chain(&err), "The report of an upgrade was not kept in the root.");
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
                Ok(Written::Recorded(Recorded::New(entry) | Recorded::Known(entry))) => {
                    let id = entry.id.clone();
                    self.hold(entry);
                    if self.held.get(&id).is_some_and(|it| it.action == upgrading::UPGRADE) {
                        self.supersede_upgrades(&id);
                    }
                }
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

/// How long it is until then, by the host's clock; looked at again within a minute, since that may be set anew.
fn until(at: Timestamp) -> Duration {
    const LONGEST: Duration = Duration::from_secs(60);
    Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default().min(LONGEST)
}
