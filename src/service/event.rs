//! Everything that can happen to the service: one closed list.

use outrider_protocol::action::{LogBatch, SealedFile};
use outrider_protocol::control::Envelope;
use outrider_protocol::ids::CommandId;
use outrider_protocol::progress::Progress;

use tokio::sync::oneshot;

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
    /// How full the spool is.
    Spool {
        /// Files that are not acknowledged.
        files: u64,
        /// Their size.
        bytes: u64,
    },
    /// Somebody wants to know what the service has taken.
    Asked(oneshot::Sender<View>),
    /// A task that must not end has panicked.
    Died(&'static str),
}

/// What the service has taken, as the backend is told of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// Commands of which the backend has not answered the outcome.
    pub(crate) open: Vec<CommandId>,
    /// Commands that run.
    pub(crate) running: Vec<CommandId>,
    /// Files in the spool that are not acknowledged.
    pub(crate) spool_files: u64,
    /// Their size.
    pub(crate) spool_bytes: u64,
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
}
