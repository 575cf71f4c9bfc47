//! Where an action's news go: to the service over link B, or to a person at a terminal.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use outrider_logs::Outbox;
use outrider_peer::{CallError, Peer};
use outrider_protocol::action::{
    ChildDied, ChildEnded, ChildProcess, ChildStarted, OAuthAccessToken, OAuthParams, ProgressChanged,
    Sealed, SealedFile,
};
use outrider_protocol::crash::Crash;
use outrider_protocol::integration::OAuthAccessTokenReply;
use outrider_protocol::log::LogLine;
use outrider_protocol::progress::Progress;

/// Where an action's news go.
#[derive(Clone)]
pub enum Outlet {
    /// To the service.
    Link {
        /// The service's end of link B.
        service: Peer,
        /// Log lines on their way; a task of its own sends them in batches.
        log: Arc<Outbox>,
    },
    /// To a person: log lines, one a line of text.
    Hand(Arc<Mutex<dyn Write + Send>>),
}

impl std::fmt::Debug for Outlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Link { .. } => "Link",
            Self::Hand(_) => "Hand",
        })
    }
}

impl Outlet {
    /// A line of the log. Never waits for the service.
    pub(crate) fn log(&self, line: &LogLine) {
        match self {
            Self::Link { log, .. } => log.push(line.clone()),
            Self::Hand(out) => {
                let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
                // A closed terminal or pipe is no reason to stop: the same line is in the log file.
                drop(writeln!(out, "{line}").and_then(|()| out.flush()));
            }
        }
    }

    /// What changed in the tree of sessions.
    pub(crate) async fn progress(&self, progress: &Progress) {
        if let Self::Link { service, .. } = self {
            // A lost link is noticed, and answered, where the service's end is watched.
            drop(service.notify::<ProgressChanged>(progress).await);
        }
    }

    /// A spool file is complete. By hand it stays in the spool until a service finds it there.
    pub(crate) async fn sealed(&self, file: &SealedFile) -> Result<(), CallError> {
        match self {
            Self::Link { service, .. } => service.call::<Sealed>(file).await.map(drop),
            Self::Hand(_) => Ok(()),
        }
    }

    /// Whether a service is there, which uploads.
    pub(crate) fn is_linked(&self) -> bool {
        matches!(self, Self::Link { .. })
    }

    /// An access token for an integration, from the service; nothing by hand, where nobody can be asked.
    pub(crate) async fn access_token(
        &self,
        params: &OAuthParams,
    ) -> Option<Result<OAuthAccessTokenReply, CallError>> {
        match self {
            Self::Link { service, .. } => Some(service.call::<OAuthAccessToken>(params).await),
            Self::Hand(_) => None,
        }
    }

    /// A process of this action was started.
    pub(crate) async fn child_started(&self, pid: u32, program: &str) {
        if let Self::Link { service, .. } = self {
            drop(service.notify::<ChildStarted>(&child(pid, program)).await);
        }
    }

    /// A process of this action has ended, and its group with it.
    pub(crate) async fn child_ended(&self, pid: u32, program: &str) {
        if let Self::Link { service, .. } = self {
            drop(service.notify::<ChildEnded>(&child(pid, program)).await);
        }
    }

    /// A process of this action has died. By hand its log and the outcome say so.
    pub(crate) async fn child_died(&self, crash: &Crash) {
        if let Self::Link { service, .. } = self {
            drop(service.notify::<ChildDied>(crash).await);
        }
    }
}

fn child(pid: u32, program: &str) -> ChildProcess {
    ChildProcess { pid, program: program.to_owned(), started_at: Timestamp::now() }
}
