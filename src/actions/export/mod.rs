//! `export`: runs integrations side by side, takes their objects, makes them durable in the spool.
//!
//! The road of an object: `session.send` (`calls`) → the table of sessions says whether it may come (`sessions`) →
//! the keeper's queue, where it is accepted (`keeper`) → the spool. What a session sent stays invisible until
//! `session.done`; then its objects are synced, its checkpoint is stored, and the call is answered. Files that are
//! complete are told to the service, which uploads them while the export goes on.
//!
//! An integration that failed in a way that may pass is started again after a pause (`attempts`, `retry`); what was done
//! before stays done. Without room in the spool or on its disk everything waits (`room`). What each integration and each
//! project delivered is counted as it becomes durable (`tally`, `projects`), held against what stands in the sealed files
//! (`ending`), those of earlier lives of the export included (`lives`), and kept in the root (`kept`). Where config.json of
//! the host says so, the report carries the last-processed values that became durable (`shared`), without secrets
//! (`starred`).
//!
//! **Invariant:** one integration's failure touches neither the data nor the checkpoints of another.
//!
//! **Invariant:** what an integration sent in sessions that it did not finish is dropped.

mod attempts;
mod board;
mod calls;
mod ending;
mod keeper;
mod kept;
mod lives;
mod object;
mod projects;
mod retry;
mod room;
mod sessions;
mod shared;
mod starred;
mod tally;
mod unchanged;
mod values;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use outrider_home::{Checkpoints, Limits};
use outrider_protocol::action::{Compression, ExportOrder, IntegrationConfig, SealedFile};
use outrider_protocol::fault::{Fault, Retry, chain};
use outrider_protocol::ids::{ExportId, IntegrationId, SessionId};
use outrider_protocol::log::{Fields, Level};
use outrider_protocol::progress::{IntegrationState, Progress, SessionState};
use outrider_protocol::report::{ExportMode, ExportReport, Failure, IntegrationOutcome, IntegrationReport};
use outrider_spool::{Codec, ExportWriter, Sealed, Settings, Spool, SpoolError};
use tokio::sync::{Notify, Semaphore, mpsc};

use self::board::Board;
use self::keeper::{Keeper, Undecided};
use self::lives::{Counts, Lives};
use self::room::{Room, Shed, Shortage};
use self::sessions::Sessions;
use self::unchanged::Backend;
use self::values::Values;
use crate::context::Context;

/// How often changes of progress are told.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// How often what another process has open is tried again.
const STORE_TRIES: Duration = Duration::from_millis(50);
/// Sealed files that wait to be told.
const SEALED_FILES: usize = 64;

/// What all integrations of an export share.
#[derive(Debug)]
pub(crate) struct Export {
    sessions: Mutex<Sessions>,
    board: Mutex<Board>,
    keeper: Keeper,
    values: Arc<Values>,
    backend: Arc<Backend>,
    lives: Lives,
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
        let progress = Progress {
            integrations: self.board().take_changes(),
            sessions: self.sessions().take_changes(),
            upgrade: None,
        };
        (!progress.integrations.is_empty() || !progress.sessions.is_empty()).then_some(progress)
    }
}

/// Runs the action, and keeps its report in the root.
///
/// # Errors
/// When the export could not begin. A failed integration is no error of the action: it stands in the report.
pub async fn run(context: &Context, order: ExportOrder) -> Result<ExportReport, Box<Failure>> {
    check(&order)?;
    let result = export(context, order).await;
    kept::keep(context, &result);
    result
}

async fn export(context: &Context, order: ExportOrder) -> Result<ExportReport, Box<Failure>> {
    let (started, started_at) = (Instant::now(), Timestamp::now());
    let id = context.run_id().clone();
    let (sealed, files) = mpsc::channel(SEALED_FILES);
    let export = open(context, &order, &id, sealed).await?;
    let ExportOrder { agent, integrations, .. } = order;
    for config in &integrations {
        export.board().set(&config.id(), IntegrationState::Starting);
    }
    let soon = Mutex::new(vec![None; integrations.len()]);
    let report = |integrations| ExportReport {
        export: id.clone(),
        started_at,
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        integrations,
        files: None,
        continued: None,
    };
    let turns = Semaphore::new(context.limits().integrations_at_once.max(1));
    let work = async {
        room::admit(context, &export).await?;
        let one = |(place, config)| {
            let (export, agent, turns, soon) = (export.clone(), &agent, &turns, &soon);
            let report = &report;
            async move {
                let ended = attempts::export_one(context, export, agent, config, turns).await;
                keep_so_far(context, soon, place, ended, report);
            }
        };
        let all: FuturesUnordered<_> = integrations.into_iter().enumerate().map(one).collect();
        all.collect::<()>().await;
        Ok::<_, Box<Failure>>(export.keeper.finish().await)
    };
    let (finished, sealed) = tokio::join!(
        async {
            let mut ticker = std::pin::pin!(tell_progress(context, &export));
            let done = tokio::select! {
                done = work => done,
                never = &mut ticker => match never {},
            };
            if done.is_err() {
                // Nothing was begun; whoever reads what was sealed is let go.
                drop(export.keeper.finish().await);
            }
            done
        },
        tell_sealed(context, files, &id)
    );
    if let Some(progress) = export.take_changes() {
        context.outlet().progress(&progress).await;
    }
    room::tell_shed(context, export.keeper.room().disk.shed(), "files went early that the backend has");
    export.backend.tell_distrust(context);
    let finished = finished?;
    let ended = soon.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut report = report(ended.into_iter().flatten().collect());
    (report.files, report.continued) = export.lives.files(finished.as_deref().ok());
    for it in &mut report.integrations {
        match &finished {
            Err(err) => ending::unfinished_files(it, err),
            Ok(all) => ending::compare(it, &sealed, &lives::counts(all)),
        }
    }
    Ok(report)
}

/// Takes the report of an integration that has ended, and keeps all that have while others run.
fn keep_so_far(
    context: &Context,
    soon: &Mutex<Vec<Option<IntegrationReport>>>,
    place: usize,
    ended: IntegrationReport,
    report: &impl Fn(Vec<IntegrationReport>) -> ExportReport,
) {
    let mut soon = soon.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(place) = soon.get_mut(place) {
        *place = Some(ended);
    }
    if soon.iter().any(Option::is_none) {
        let so_far = soon.iter().flatten().cloned().collect();
        drop(soon);
        kept::keep_so_far(context, report(so_far));
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
    decide(context, &checkpoints, &spool).await?;
    let (backend, checkpoints) = Backend::open(context, checkpoints, order.reprocess_historical).await;
    let backend = Arc::new(backend);
    let writer =
        open_writer(context, &spool).await.map_err(|err| host("open the spool of this export", &err))?;
    let lives = Lives::new(writer.earlier());
    lives.tell(context);
    let values = if order.reprocess_historical {
        let integrations = order.integrations.iter().map(IntegrationConfig::id);
        Values::again(checkpoints, id.clone(), integrations)
            .map_err(|err| host("prepare the store of checkpoints", &err))?
    } else {
        Values::stored(checkpoints)
    };
    let values = Arc::new(values.sharing(context.shares_last_processed()));
    let room = Room::new(spool, limits, context.outlet().is_linked());
    let keeper = Keeper::start(writer, values.clone(), backend.clone(), room, sealed)
        .map_err(|err| host("start the thread that stores objects", &err))?;
    let export = Export {
        sessions: Mutex::default(),
        board: Mutex::default(),
        keeper,
        values,
        backend,
        lives,
        closed: Notify::new(),
        reprocess_historical: order.reprocess_historical,
        largest_object: limits.object_bytes,
    };
    Ok(Arc::new(export))
}

/// Decides about what a death left in doubt, and says so.
async fn decide(context: &Context, checkpoints: &Checkpoints, spool: &Spool) -> Result<(), Box<Failure>> {
    let in_use = |err: &Undecided| matches!(err, Undecided::Spool(SpoolError::InUse { .. }));
    let decided = until_free(context, "the folder of an export in the spool", in_use, |_| {
        keeper::decide(checkpoints, spool)
    });
    let (kept, dropped) = decided.await.map_err(|err| {
        let message =
            format!("find out whether the last commit of an export that died happened: {}", chain(&err));
        failure(message, Fault::Host, Retry::Later)
    })?;
    if kept + dropped > 0 {
        let fields =
            Fields::from_iter([("kept".to_owned(), kept.into()), ("dropped".to_owned(), dropped.into())]);
        let message =
            "an export died in the middle of a commit; its last values were kept where their objects were";
        context.log(Level::Info, message, fields);
    }
    Ok(())
}

/// Opens the store, which one process has at a time.
async fn open_checkpoints(context: &Context) -> Result<Checkpoints, outrider_home::StoreError> {
    use outrider_home::StoreError;
    let in_use = |err: &StoreError| matches!(err, StoreError::InUse { .. });
    until_free(context, "the store of checkpoints", in_use, |waited| {
        Checkpoints::open(context.root(), Duration::ZERO).map_err(|err| match err {
            StoreError::InUse { path, .. } => StoreError::InUse { path, waited },
            other => other,
        })
    })
    .await
}

/// Opens the export in the spool. A service that was just started has it as well for a moment: it seals what dead exports
/// left, this one among them.
async fn open_writer(context: &Context, spool: &Spool) -> Result<ExportWriter, SpoolError> {
    let in_use = |err: &SpoolError| matches!(err, SpoolError::InUse { .. });
    until_free(context, "the export's folder in the spool", in_use, |_| {
        spool.export(context.run_id().as_str())
    })
    .await
}

/// Opens what another process may have in use, for as long as a start may take. Waits without blocking, so that the end of
/// the service or a cancel is noticed meanwhile. `open` is told how long it was waited for.
async fn until_free<T, E>(
    context: &Context,
    what: &str,
    in_use: impl Fn(&E) -> bool,
    mut open: impl FnMut(Duration) -> Result<T, E>,
) -> Result<T, E> {
    let started = Instant::now();
    let mut told = false;
    loop {
        let waited = started.elapsed();
        match open(waited) {
            Err(err) if in_use(&err) => {
                if waited >= context.limits().start_timeout() || context.cancel().is_cancelled() {
                    return Err(err);
                }
                if !std::mem::replace(&mut told, true) {
                    let message = format!("another process has {what} open; waiting for its end");
                    context.log(Level::Info, message, Fields::new());
                }
                tokio::time::sleep(STORE_TRIES).await;
            }
            opened => return opened,
        }
    }
}

/// Tells progress for ever, and looks whether the keeper waits for room.
async fn tell_progress(context: &Context, export: &Export) -> std::convert::Infallible {
    let mut ticks = tokio::time::interval(PROGRESS_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut waited, mut shed) = (false, Shed::default());
    loop {
        ticks.tick().await;
        if shed == Shed::default() {
            shed = export.keeper.room().disk.shed();
            room::tell_shed(context, shed, "from now on files go early that the backend has");
        }
        let waits = export.keeper.waits();
        if waits.is_some() && context.cancel().is_cancelled() {
            let reason = context.cancel().cancelled().await;
            export.keeper.give_up(&format!("cancelled while it waited for room: {reason}"));
        }
        // Before the first integration runs, the wait for room is told by `room::admit`.
        if waits.is_some() || waited {
            tell_wait(context, export, waits.as_ref(), waited);
        }
        waited = waits.is_some();
        export.keeper.tick();
        if let Some(progress) = export.take_changes() {
            context.outlet().progress(&progress).await;
        }
    }
}

fn tell_wait(context: &Context, export: &Export, waits: Option<&Shortage>, waited: bool) {
    export.board().hold(waits.map(|it| it.why().to_owned()));
    match waits {
        Some(shortage) if !waited => {
            let message = format!("export paused: {}", shortage.told());
            context.log(Level::Warn, message, Fields::new());
        }
        None => context.log(Level::Info, "there is room again: the export goes on", Fields::new()),
        Some(_) => {}
    }
}

/// Tells sealed files until the keeper has finished, and counts what is in them.
async fn tell_sealed(context: &Context, mut files: mpsc::Receiver<Sealed>, id: &ExportId) -> Counts {
    let mut counts = Counts::new();
    while let Some(file) = files.recv().await {
        *counts.entry((file.origin.clone(), file.model.clone())).or_default() += file.records;
        let told = match sealed_file(id, file) {
            Ok(file) => context.outlet().sealed(&file).await.map_err(|err| chain(&err)),
            Err(err) => Err(err.to_string()),
        };
        if let Err(err) = told {
            let message = format!("tell the service of a sealed file: {err}; it will find it in the spool");
            context.log(Level::Warn, message, Fields::new());
        }
    }
    counts
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

/// The report of an integration of which nothing is known yet.
fn empty_report(config: &IntegrationConfig) -> IntegrationReport {
    IntegrationReport {
        integration: config.id(),
        name: config.name.clone(),
        state: IntegrationOutcome::Failed,
        mode: ExportMode::Historical,
        duration_ms: 0,
        models: Vec::new(),
        earlier: Vec::new(),
        projects: Vec::new(),
        more_projects: 0,
        attempts: 0,
        crash: None,
        error: None,
        config_changed: false,
        last_processed: None,
    }
}

fn failure(message: String, fault: Fault, retry: Retry) -> Box<Failure> {
    Box::new(Failure { message, fault, retry, hint: None, last_lines: Vec::new() })
}
