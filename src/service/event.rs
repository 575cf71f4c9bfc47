//! Everything that can happen to the service: one closed list.

use outrider_protocol::action::{LogBatch, SealedFile};
use outrider_protocol::collect::CollectReport;
use outrider_protocol::control::Envelope;
use outrider_protocol::crash::Crash;
use outrider_protocol::ids::CommandId;
use outrider_protocol::progress::Progress;

use tokio::sync::oneshot;

use crate::local::Asked;
use crate::outcome::RunEnd;
use crate::snapshot::LinkStatus;

/// Events that may wait for the loop. Above it their senders wait, and with them the actions' pipes.
pub(crate) const WAITING: usize = 256;

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// The backend orders something.
    Ordered(Box<Envelope>),
    /// The backend orders a command that this version cannot read.
    Unreadable {
        /// Which.
        command: CommandId,
        /// Why not.
        why: String,
    },
    /// The way to the backend changed.
    Link(LinkStatus),
    /// A run's process says something.
    Said(CommandId, Said),
    /// A run is over, and its processes are gone.
    RunEnded(CommandId, Box<RunEnd>),
    /// The backend has answered a command's outcome: nothing is left to be told of it.
    Settled(CommandId),
    /// The backend was told what there is of a command that goes on in the next life of the service.
    Retired(CommandId),
    /// How full the spool is.
    Spool(SpoolUse),
    /// The backend refuses a file for what is in it.
    Refused {
        /// Of which export.
        export: String,
        /// Which of its files: model and number.
        file: (String, u64),
        /// What it says, and what this side says.
        why: String,
        /// Whether it is tried no more before the next connection.
        given_up: bool,
    },
    /// The backend has taken a file that it had refused.
    Taken {
        /// Of which export.
        export: String,
        /// Which of its files: model and number.
        file: (String, u64),
    },
    /// The backend has so many complete files, fewer than it had acknowledged.
    BackendHas(u64),
    /// Somebody on the host asks.
    Local(Asked),
    /// The backend has answered `agent.hello`.
    CheckedIn,
    /// The watcher of the version that a command upgrades to is at its post, or not.
    Watched(CommandId, Result<(), String>),
    /// The self-test of a version on trial is over.
    SelfTested(Box<RunEnd>),
    /// The installed integrations were asked what they are.
    Described(Box<RunEnd>),
    /// The process that collects says something.
    Collecting(CollectSaid),
    /// It is gone: after it had answered, or as this says.
    CollectEnded(Option<Box<RunEnd>>),
    /// Somebody wants to know what the service has taken.
    Asked(oneshot::Sender<View>),
    /// A task that must not end has panicked.
    Died(&'static str),
}

/// How full the spool is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SpoolUse {
    /// Files that are not acknowledged.
    pub(crate) files: u64,
    /// Their size.
    pub(crate) bytes: u64,
    /// Files that the backend has acknowledged, ever.
    pub(crate) acknowledged: u64,
    /// Files that are not acknowledged since the backend refuses them.
    pub(crate) refused: usize,
    /// Files that the backend has lost and that are no longer kept here.
    pub(crate) lost: u64,
}

/// What the service has taken, as the backend is told of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// Commands of which the backend has not answered the outcome.
    pub(crate) open: Vec<CommandId>,
    /// Commands that run.
    pub(crate) running: Vec<CommandId>,
    /// How full the spool is.
    pub(crate) spool: SpoolUse,
}

/// What an action says while it runs.
#[derive(Debug)]
pub(crate) enum Said {
    /// It answered the greeting and has its order.
    Started,
    /// What changed in its tree of sessions.
    Progress(Progress),
    /// Lines of its log.
    Log(LogBatch),
    /// A file is complete.
    Sealed(SealedFile),
    /// One of its own processes has died.
    Died(Box<Crash>),
}

/// What the process that collects says.
#[derive(Debug)]
pub(crate) enum CollectSaid {
    /// It is there.
    Started {
        /// Its process id.
        pid: u32,
    },
    /// How it goes.
    Report(CollectReport),
}
