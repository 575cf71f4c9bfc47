//! `export`: runs integrations side by side, takes their objects, makes them durable in the spool.
//!
//! The road of an object: `session.send` (`calls`) → the table of sessions says whether it may come (`sessions`) →
//! the keeper's queue, where it is accepted (`keeper`) → the spool. What a session sent stays invisible until
//! `session.done`; then its objects are synced, its checkpoint is stored, and the call is answered. Files that are
//! complete are told to the service, which uploads them while the export goes on.
//!
//! **Invariant:** one integration's failure touches neither the data nor the checkpoints of another.
//!
//! **Invariant:** what an integration sent in sessions that it did not finish is dropped.

mod board;
mod calls;
mod keeper;
mod sessions;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use jiff::Timestamp;
use outrider_home::{Checkpoints, Limits, SessionPath};
use outrider_protocol::Raw;
use outrider_protocol::action::{AgentConfig, Compression, ExportOrder, IntegrationConfig, SealedFile};
use outrider_protocol::fault::{Fault, Retry, RpcError};
use outrider_protocol::ids::{ExportId, IntegrationId, SessionId};
use outrider_protocol::integration::{Export as ExportCall, ExportParams, ProjectResult};
use outrider_protocol::log::{Fields, Level};
use outrider_protocol::progress::{IntegrationState, Progress, SessionState};
use outrider_protocol::report::{
    ExportMode, ExportReport, Failure, IntegrationOutcome, IntegrationReport, ProjectReport,
};
use outrider_spool::{Codec, Sealed, Settings, Spool};
use tokio::sync::{Notify, mpsc};

use self::board::Board;
use self::calls::{Calls, handlers, storage};
use self::keeper::{Keeper, StoreError};
use self::sessions::Sessions;
use crate::context::{Context, IntegrationLog, chain};
use crate::host::Host;

/// How often changes of progress are told.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// How often a store that another process has open is tried again.
const STORE_TRIES: Duration = Duration::from_millis(50);
/// Sealed files that wait to be told.
const SEALED_FILES: usize = 64;

/// What all integrations of an export share.
#[derive(Debug)]
pub(crate) struct Export {
    sessions: Mutex<Sessions>,
    board: Mutex<Board>,
    keeper: Keeper,
    checkpoints: Arc<Checkpoints>,
    /// Told of each session's end.
    closed: Notify,
    reprocess_historical: bool,
    largest_object: usize,
}

impl Export {
    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an earlier run stored for a session, unless everything is to be exported again.
    fn last_processed(&self, path: &SessionPath) -> Result<Option<Raw>, RpcError> {
        let stored = self.checkpoints.get(path).map_err(|err| storage(&err))?;
        Ok(stored.filter(|_| !self.reprocess_historical))
    }

    /// A session is over.
    fn close(&self, session: SessionId, state: SessionState) {
        self.sessions().close(session, state);
        self.closed.notify_waiters();
    }

    /// Waits until no session of an integration is being made durable: what was asked for in time is done, and counts.
    async fn until_committed(&self, integration: &IntegrationId) {
        loop {
            let closed = self.closed.notified();
            if !self.sessions().any_finishing(integration) {
                return;
            }
            closed.await;
        }
    }

    fn take_changes(&self) -> Option<Progress> {
        let progress =
            Progress { integrations: self.board().take_changes(), sessions: self.sessions().take_changes() };
        (!progress.integrations.is_empty() || !progress.sessions.is_empty()).then_some(progress)
    }
}

/// Runs the action.
///
/// # Errors
/// When the export could not begin, or the spool could not be completed. A failed integration is no error of the action:
/// it stands in the report.
pub async fn run(context: &Context, order: ExportOrder) -> Result<ExportReport, Box<Failure>> {
    let (started, started_at) = (Instant::now(), Timestamp::now());
    let id = context.run_id().clone();
    check(&order)?;
    let (sealed, files) = mpsc::channel(SEALED_FILES);
    let export = open(context, &order, &id, sealed).await?;
    let ExportOrder { agent, integrations, .. } = order;

    let at_once = context.limits().integrations_at_once.max(1);
    let work = async {
        let one = |(place, config)| {
            let (export, agent) = (export.clone(), &agent);
            async move { (place, export_one(context, export, agent, config).await) }
        };
        let mut reports: Vec<_> = futures_util::stream::iter(integrations.into_iter().enumerate().map(one))
            .buffer_unordered(at_once)
            .collect()
            .await;
        reports.sort_unstable_by_key(|(place, _)| *place);
        let finished = export.keeper.finish().await;
        (reports.into_iter().map(|(_, report)| report).collect::<Vec<_>>(), finished)
    };
    let ((reports, finished), ()) = tokio::join!(
        async {
            let mut ticker = std::pin::pin!(tell_progress(context, &export));
            tokio::select! {
                done = work => done,
                never = &mut ticker => match never {},
            }
        },
        tell_sealed(context, files, &id)
    );
    if let Some(progress) = export.take_changes() {
        context.outlet().progress(&progress).await;
    }
    let mut integrations = reports;
    if let Err(err) = finished {
        integrations.iter_mut().for_each(|report| unfinished_files(report, &err));
    }
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(ExportReport { export: id, started_at, duration_ms, integrations })
}

/// The last files could not be completed. Their objects are durable all the same, and whoever opens the spool next
/// completes them; but this run cannot say that all went well.
fn unfinished_files(report: &mut IntegrationReport, err: &StoreError) {
    if report.state == IntegrationOutcome::Done {
        report.state = IntegrationOutcome::Failed;
        let message = format!("complete the spool files of {}: {err}", report.integration);
        let mut failed = failure(message, Fault::Host, Retry::Later);
        failed.hint = Some(
            "its objects are durable; the files are completed and uploaded when the disk can be written again".into(),
        );
        report.error = Some(*failed);
    }
}

/// A project's result as it is reported, without the secrets of the integration's configuration.
fn reported(project: ProjectResult, log: &IntegrationLog) -> ProjectReport {
    let ProjectResult { id, name, state, error } = project;
    let error = error.map(|error| *failure(log.redact(&error), Fault::Source, Retry::Later));
    ProjectReport {
        id: log.redact(&id),
        name: log.redact(&name),
        state,
        mode: ExportMode::Historical,
        objects: 0,
        bytes: 0,
        unchanged: 0,
        duration_ms: 0,
        error,
    }
}

/// An order that would do nothing, or confuse two integrations, is refused.
pub(crate) fn check(order: &ExportOrder) -> Result<(), Box<Failure>> {
    if order.integrations.is_empty() {
        let message = "the order names no integration: expected at least one in `integrations`".to_owned();
        return Err(failure(message, Fault::Caller, Retry::No));
    }
    let mut seen = HashSet::new();
    match order.integrations.iter().map(IntegrationConfig::id).find(|id| !seen.insert(id.clone())) {
        Some(twice) => {
            let message =
                format!("two integrations have the id {twice}: give each of them an `id` of its own");
            Err(failure(message, Fault::Caller, Retry::No))
        }
        None => Ok(()),
    }
}

async fn open(
    context: &Context,
    order: &ExportOrder,
    id: &ExportId,
    sealed: mpsc::Sender<Sealed>,
) -> Result<Arc<Export>, Box<Failure>> {
    let host = |what: &str, err: &dyn std::error::Error| {
        failure(format!("{what}: {}", chain(err)), Fault::Host, Retry::Later)
    };
    let limits = context.limits();
    let checkpoints =
        open_checkpoints(context).await.map_err(|err| host("open the store of checkpoints", &err))?;
    let settings = Settings {
        seal_bytes: limits.spool_file_bytes,
        seal_age: limits.spool_file_age(),
        buffer_bytes: limits.session_buffer_bytes,
        total_bytes: limits.spool_bytes,
        codec: codec(limits),
        ..Settings::default()
    };
    let spool = Spool::open(context.root().spool(), settings).map_err(|err| host("open the spool", &err))?;
    let writer = spool.export(id.as_str()).map_err(|err| host("open the spool of this export", &err))?;
    let checkpoints = Arc::new(checkpoints);
    let keeper = Keeper::start(writer, checkpoints.clone(), sealed)
        .map_err(|err| host("start the thread that stores objects", &err))?;
    Ok(Arc::new(Export {
        sessions: Mutex::default(),
        board: Mutex::default(),
        keeper,
        checkpoints,
        closed: Notify::new(),
        reprocess_historical: order.reprocess_historical,
        largest_object: limits.object_bytes,
    }))
}

/// Opens the store, which one process has at a time. Waits for it without blocking, so that the end of the service or a
/// cancel is noticed meanwhile.
async fn open_checkpoints(context: &Context) -> Result<Checkpoints, outrider_home::StoreError> {
    let started = Instant::now();
    let mut told = false;
    loop {
        match Checkpoints::open(context.root(), Duration::ZERO) {
            Err(outrider_home::StoreError::InUse { path, .. }) => {
                let waited = started.elapsed();
                if waited >= context.limits().start_timeout() || context.cancel().is_cancelled() {
                    return Err(outrider_home::StoreError::InUse { path, waited });
                }
                if !std::mem::replace(&mut told, true) {
                    let message = "another process has the store of checkpoints open; waiting for its end";
                    context.log(Level::Info, message, Fields::new());
                }
                tokio::time::sleep(STORE_TRIES).await;
            }
            opened => return opened,
        }
    }
}

/// Tells progress for ever.
async fn tell_progress(context: &Context, export: &Export) -> std::convert::Infallible {
    let mut ticks = tokio::time::interval(PROGRESS_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        export.keeper.tick();
        if let Some(progress) = export.take_changes() {
            context.outlet().progress(&progress).await;
        }
    }
}

/// Tells sealed files until the keeper has finished.
async fn tell_sealed(context: &Context, mut files: mpsc::Receiver<Sealed>, id: &ExportId) {
    while let Some(file) = files.recv().await {
        let told = match sealed_file(id, file) {
            Ok(file) => context.outlet().sealed(&file).await.map_err(|err| chain(&err)),
            Err(err) => Err(err.to_string()),
        };
        if let Err(err) = told {
            let message = format!("tell the service of a sealed file: {err}; it will find it in the spool");
            context.log(Level::Warn, message, Fields::new());
        }
    }
}

fn sealed_file(id: &ExportId, file: Sealed) -> Result<SealedFile, outrider_protocol::ids::BadId> {
    Ok(SealedFile {
        export: id.clone(),
        integration: IntegrationId::new(file.origin)?,
        model: outrider_protocol::ids::Model::new(file.model)?,
        number: file.number,
        objects: file.records,
        raw_bytes: file.raw_bytes,
        bytes: file.bytes,
        sha256: file.sha256,
        compression: compression(file.compression),
    })
}

/// How the limits want new files to be compressed.
fn codec(limits: &Limits) -> Codec {
    match limits.zstd_level {
        0 => Codec::Gzip { level: limits.gzip_level },
        level => Codec::Zstd { level },
    }
}

/// As the link says it.
fn compression(found: outrider_spool::Compression) -> Compression {
    match found {
        outrider_spool::Compression::Gzip => Compression::Gzip,
        outrider_spool::Compression::Zstd => Compression::Zstd,
    }
}

/// Exports one integration, whatever happens to it.
async fn export_one(
    context: &Context,
    export: Arc<Export>,
    agent: &AgentConfig,
    config: IntegrationConfig,
) -> IntegrationReport {
    let started = Instant::now();
    let id = config.id();
    export.board().set(&id, IntegrationState::Starting);
    let mut report = IntegrationReport {
        integration: id.clone(),
        name: config.name.clone(),
        state: IntegrationOutcome::Failed,
        mode: ExportMode::Historical,
        duration_ms: 0,
        models: Vec::new(),
        projects: Vec::new(),
        attempts: 1,
        crash: None,
        error: None,
        config_changed: false,
    };
    match context.integration_log(&config) {
        Ok(log) => {
            let calls = Arc::new(Calls::new(id.clone(), export.clone(), log.clone()));
            let ran = drive(context, &calls, agent, &config, &log).await;
            settle(&mut report, ran, &calls).await;
            log.close();
        }
        Err(failed) => report.error = Some(*failed),
    }
    report.duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    conclude(context, &export, &report);
    report
}

/// What an integration's process came to.
enum Ran {
    Answered { projects: Vec<ProjectResult>, config_changed: bool },
    Cancelled(Box<Failure>),
    Failed(Box<Failure>),
}

/// Starts the process, calls `export`, ends the process.
async fn drive(
    context: &Context,
    calls: &Arc<Calls>,
    agent: &AgentConfig,
    config: &IntegrationConfig,
    log: &IntegrationLog,
) -> Ran {
    let started = Host::start(context, agent, config, log, handlers(calls.clone())).await;
    let mut host = match started {
        Ok(host) => host,
        Err(failed) if context.cancel().is_cancelled() => return Ran::Cancelled(failed),
        Err(failed) => return Ran::Failed(failed),
    };
    let needs_id = host.about().models.iter().filter(|it| it.needs_id).map(|it| it.model.clone()).collect();
    drop(calls.needs_id.set(needs_id));
    let about = host.about();
    log.note(Level::Info, &format!("{} {} started", about.name, about.version), Fields::new());
    calls.export.board().set(&calls.integration, IntegrationState::Running);

    let params = ExportParams {
        export: context.run_id().clone(),
        config: config.config.clone(),
        customer_id: agent.customer_id.clone(),
        reprocess_historical: calls.export.reprocess_historical,
    };
    let answered = host.call::<ExportCall>(&params).await;
    let (_, ended) = host.end().await;
    match answered {
        Ok(reply) => Ran::Answered { projects: reply.projects, config_changed: reply.new_config.is_some() },
        Err(stopped) if stopped.was_cancelled() && context.cancel().is_cancelled() => {
            Ran::Cancelled(stopped.failure(ended.as_ref(), log))
        }
        Err(stopped) => Ran::Failed(stopped.failure(ended.as_ref(), log)),
    }
}

/// Turns what happened into the report. Unfinished sessions are dropped.
async fn settle(report: &mut IntegrationReport, ran: Ran, calls: &Calls) {
    let unfinished = calls.abandon().await;
    report.models = calls.delivered();
    report.mode = calls.mode();
    let intact = calls.export.keeper.intact();
    match ran {
        Ran::Answered { projects, config_changed } => {
            report.projects = projects.into_iter().map(|it| reported(it, &calls.log)).collect();
            report.config_changed = config_changed;
            report.state = IntegrationOutcome::Done;
            if unfinished > 0 {
                report.state = IntegrationOutcome::Failed;
                let message = format!(
                    "{} answered export while {unfinished} of its sessions were open; what they sent was dropped",
                    report.integration
                );
                report.error = Some(*failure(message, Fault::Peer, Retry::No));
            }
        }
        Ran::Cancelled(failed) => {
            report.state = IntegrationOutcome::Cancelled;
            report.error = Some(*failed);
        }
        Ran::Failed(failed) => report.error = Some(*failed),
    }
    if let Err(broken) = intact {
        report.state = IntegrationOutcome::Failed;
        let mut failed =
            *failure(format!("store what {} sent: {broken}", report.integration), Fault::Host, Retry::Later);
        failed.hint =
            Some("make room on the disk of the root, or repair it; what was acknowledged is safe".into());
        report.error = Some(failed);
    }
}

fn conclude(context: &Context, export: &Export, report: &IntegrationReport) {
    let (state, level) = match report.state {
        IntegrationOutcome::Done => (IntegrationState::Done, Level::Info),
        IntegrationOutcome::Failed => (IntegrationState::Failed, Level::Error),
        IntegrationOutcome::Cancelled => (IntegrationState::Cancelled, Level::Warn),
    };
    export.board().set(&report.integration, state);
    let mut fields = Fields::new();
    fields.insert("integration".into(), report.integration.as_str().into());
    fields.insert("objects".into(), report.models.iter().map(|it| it.objects).sum::<u64>().into());
    fields.insert("duration_ms".into(), report.duration_ms.into());
    if let Some(error) = &report.error {
        fields.insert("error".into(), error.message.clone().into());
    }
    context.log(level, format!("integration {}", word(report.state)), fields);
}

fn word(outcome: IntegrationOutcome) -> &'static str {
    match outcome {
        IntegrationOutcome::Done => "done",
        IntegrationOutcome::Failed => "failed",
        IntegrationOutcome::Cancelled => "cancelled",
    }
}

fn failure(message: String, fault: Fault, retry: Retry) -> Box<Failure> {
    Box::new(Failure { message, fault, retry, hint: None, last_lines: Vec::new() })
}
