//! How a link ends, and how a call over it fails.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use outrider_protocol::fault::{Fault, Retry, RpcError};

/// Why a link is gone. The first cause is kept, and told to everyone who waits or asks later.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Lost {
    /// The other end closed its side after a whole line.
    #[error("the other end closed the link")]
    Ended,
    /// The other end closed its side in the middle of a line: it most likely died while writing.
    #[error(
        "the other end closed the link in the middle of a line: {have} bytes of it had come, no line feed"
    )]
    Torn {
        /// Bytes of the line that had come.
        have: usize,
    },
    /// A line exceeds the limit, and nobody can know who waits for an answer to it, or it does not end.
    #[error(
        "the other end sent a line of more than {limit} bytes, the longest that is taken; send smaller batches"
    )]
    TooLong {
        /// The longest line that is taken, in bytes without its line feed.
        limit: usize,
    },
    /// The system refused to read or write.
    #[error("cannot {doing} the link")]
    Io {
        /// `read from` or `write to`.
        doing: &'static str,
        /// What the system said.
        #[source]
        error: Arc<io::Error>,
    },
    /// This end closed it.
    #[error("the link was closed by this end")]
    Closed,
}

/// Why a call has no result, or a notification was not sent.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The other end answered with an error.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The link was lost before the answer came.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// No answer (for a notification: no room to send it) in time. A later answer is dropped.
    #[error("call {method}: no answer within {after:?}")]
    TimedOut {
        /// What was called.
        method: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// The answer does not have the shape that the protocol gives it, or is longer than a line may be.
    #[error("call {method}: the answer does not fit: {found}")]
    BadReply {
        /// What was called.
        method: &'static str,
        /// What is wrong with it.
        found: String,
    },
    /// The parameters are longer than a line may be. Nothing was sent.
    #[error("call {method}: the parameters have {bytes} bytes, a line may have {limit}; send less at once")]
    TooLong {
        /// What was to be called.
        method: &'static str,
        /// Bytes of the parameters.
        bytes: usize,
        /// The longest line.
        limit: usize,
    },
    /// The parameters cannot be written as JSON. Nothing was sent.
    #[error("call {method}: the parameters cannot be written as JSON")]
    NotJson {
        /// What was to be called.
        method: &'static str,
        /// What serde found.
        #[source]
        error: Arc<serde_json::Error>,
    },
}

impl CallError {
    /// Whose fault it is, as far as this end can tell.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Rpc(error) => error.data.as_ref().and_then(|data| data.fault).unwrap_or(Fault::Peer),
            Self::Lost(Lost::Io { .. }) => Fault::Host,
            Self::Lost(_) | Self::TimedOut { .. } | Self::BadReply { .. } => Fault::Peer,
            Self::TooLong { .. } => Fault::Caller,
            Self::NotJson { .. } => Fault::Bug,
        }
    }

    /// Whether the same call may work later, on a new link where this one is lost.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Rpc(error) => error.data.as_ref().and_then(|data| data.retry).unwrap_or(Retry::No),
            Self::Lost(Lost::TooLong { .. }) => Retry::No,
            Self::Lost(_) | Self::TimedOut { .. } => Retry::Later,
            Self::BadReply { .. } | Self::TooLong { .. } | Self::NotJson { .. } => Retry::No,
        }
    }
}
