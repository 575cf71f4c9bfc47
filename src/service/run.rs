//! The service from its start to its end.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use outrider_home::{Config, ConfigErrors, Journal, JournalError, LockError, Root, StateError};
use outrider_logs::{InitError, ServiceLog, init_service};
use outrider_protocol::control::HostInfo;
use outrider_protocol::fault::chain;
use outrider_protocol::upgrade::Build;
use outrider_spool::SpoolError;
use outrider_versions::{Versions, VersionsError};

use crate::agent::{Agent, Setup};
use crate::crashes::{Crashes, last_lines};
use crate::last_life::{Life, watch_panics};
use crate::local::Local;
use crate::state::{self, Prepared, Work};
use crate::uplink::http::{Http, SetupError};
use crate::uplink::{Timing, uploads};

/// How long to wait for a journal that another process has open: `status` and the like read it for an instant.
const JOURNAL_WAIT: Duration = Duration::from_secs(5);
/// How long to wait for the right to change the journal of versions; others have it for a moment only.
pub(crate) const WRITER_WAIT: Duration = Duration::from_secs(5);

/// What the service needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// The agent's folder.
    pub root: Root,
    /// The `outrider` program, which it starts for every action.
    pub program: PathBuf,
    /// What to log: a level, or a list as `info,outrider_service=debug`.
    pub log: String,
}

/// How the service ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Why, as `stop` said.
    pub reason: String,
    /// Commands whose outcome the backend has not heard; it will after the next start.
    pub unreported: usize,
    /// Commands that had not begun; they will after the next start.
    pub queued: usize,
    /// Another version was switched to: this process is to become it, by [`outrider_versions::launch::launch`].
    pub goes_over: bool,
}

/// Why the service could not run, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Another service uses the root.
    #[error(transparent)]
    RootInUse(LockError),
    /// config.json is missing or not valid.
    #[error("read the agent's configuration")]
    Config(#[source] ConfigErrors),
    /// A folder of the root could not be made, or the lock's file not be opened.
    #[error("prepare the root {}", root.path().display())]
    Root {
        /// Which root.
        root: Root,
        /// Why not.
        #[source]
        err: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The log could not be set up.
    #[error("set up the service's log")]
    Log(#[source] InitError),
    /// The state has another schema, and could not be brought to this version's.
    #[error("prepare the agent's state")]
    State(#[source] StateError),
    /// The journal of commands could not be opened.
    #[error("open the journal of commands")]
    Journal(#[source] JournalError),
    /// The spool could not be opened.
    #[error("open the spool")]
    Spool(#[source] SpoolError),
    /// The HTTP client could not be made.
    #[error("prepare the way to the backend")]
    Uplink(#[source] SetupError),
    /// A part of the service panicked.
    #[error("the service's task `{task}` panicked: this is a bug; the log says where")]
    Bug {
        /// Which part.
        task: &'static str,
    },
}

/// Runs the service on a root until `stop` is ready; its output says why, for the log. Sets up this process's log.
///
/// # Errors
/// When it cannot start, or when a part of it panicked; the root is as after a crash then, and the next start goes on.
pub async fn run(
    options: Options,
    stop: impl Future<Output = &'static str>,
) -> Result<Stopped, ServiceError> {
    let Options { root, program, log } = options;
    // Before the root is made: a root that is not enrolled stays untouched.
    let config = Config::load(&root).map_err(ServiceError::Config)?;
    root.create().map_err(|err| at_root(&root, err.into()))?;
    let lock = root.lock().map_err(|err| match err {
        LockError::InUse { .. } => ServiceError::RootInUse(err),
        err @ LockError::File(_) => at_root(&root, err.into()),
    })?;
    watch_panics(&root);
    let file = root.log_file("service-run");
    let files_kept = u32::try_from(config.limits.log_files_kept.saturating_sub(1)).unwrap_or(u32::MAX);
    let service_log = ServiceLog {
        file: &file,
        file_bytes: config.limits.log_file_bytes,
        files_kept,
        also_stdout: true,
        what: &log,
    };
    let log = init_service(&service_log).map_err(ServiceError::Log)?;
    let timing = Timing::new(&config.limits);
    tokio::pin!(stop);
    let versions = Versions::of(root.path());
    let store_wait = config.limits.upgrade_hang() / 2;
    let work =
        Work { root: root.clone(), lock, versions: versions.clone(), program: program.clone(), store_wait };
    let (lock, prepared) = state::prepare(work, stop.as_mut()).await;
    let stopped = match prepared {
        Ok(Prepared::Ready { on_trial }) => serve(root, config, program, timing, on_trial, stop).await,
        Ok(Prepared::GoesOver { reason }) => Ok(stopped_early(reason, true)),
        Ok(Prepared::Stopped { reason }) => {
            noted(Agent::stops_on_purpose(&versions));
            Ok(stopped_early(reason, false))
        }
        Err(err) => Err(ServiceError::State(err)),
    };
    if let Err(err) = &stopped {
        tracing::error!(error = chain(err), "The service ends.");
    }
    drop((log, lock));
    stopped
}

/// Before anything was begun.
fn stopped_early(reason: &str, goes_over: bool) -> Stopped {
    Stopped { reason: reason.to_owned(), unreported: 0, queued: 0, goes_over }
}

fn noted(written: Result<(), VersionsError>) {
    if let Err(err) = written {
        // Whatever is in between, the next start goes on from.
        tracing::error!(error = chain(&err), "The journal of versions was not written.");
    }
}

/// The service without its lock and log. `state_on_trial` says that the state before is kept until an upgrade is committed.
pub(crate) async fn serve(
    root: Root,
    config: Config,
    program: PathBuf,
    timing: Timing,
    state_on_trial: bool,
    stop: impl Future<Output = &'static str>,
) -> Result<Stopped, ServiceError> {
    // Before this service writes there.
    let before = last_lines(&root.log_file("service-run"));
    let journal = Journal::open(&root, JOURNAL_WAIT).map_err(ServiceError::Journal)?;
    let http = Http::new(&config).map_err(ServiceError::Uplink)?;
    let spool = uploads::open(root.spool()).map_err(ServiceError::Spool)?;
    let started_at = Timestamp::now();
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(
        version, agent = %config.agent, backend = config.backend, root = %root.path().display(), "The service starts."
    );
    let build = program.parent().and_then(outrider_upgrade::installed).as_ref().map(Build::from);
    let versions = Versions::of(root.path());
    let local = match Local::open(&root) {
        Ok(local) => Some(local),
        Err(err) => {
            // An upgrade would be taken back for it; everything else goes on.
            tracing::error!(%err, "The socket on which this host asks the service was not made.");
            None
        }
    };
    let (at, crashes) = (root.clone(), Crashes::of(&root));
    let setup = Setup {
        root,
        config,
        program,
        journal,
        http,
        spool,
        timing,
        host: host(),
        started_at,
        crashes: crashes.clone(),
        build,
        versions: versions.clone(),
        local,
        state_on_trial,
    };
    let agent = Agent::start(setup).map_err(ServiceError::Journal)?;
    let life = Life::begin(&at, &crashes, started_at, before).map_err(|err| at_root(&at, err.into()))?;
    let stopped = agent.run(stop).await?;
    life.end();
    noted(if stopped.goes_over { Agent::switch(&versions) } else { Agent::stops_on_purpose(&versions) });
    Ok(stopped)
}

fn at_root(root: &Root, err: Box<dyn std::error::Error + Send + Sync>) -> ServiceError {
    ServiceError::Root { root: root.clone(), err }
}

/// This machine.
pub(crate) fn host() -> HostInfo {
    HostInfo {
        hostname: hostname(),
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
    }
}

#[cfg(unix)]
fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn hostname() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_else(|_| "unknown".to_owned())
}
