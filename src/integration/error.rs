//! Why a call to an integration fails, and how that is told to the agent.

use std::error::Error as StdError;

use outrider_peer::CallError;
use outrider_protocol::fault::{ErrorData, Fault, Retry, RpcError, chain, code};
use outrider_protocol::ids::SessionId;
use outrider_protocol::integration::ConfigError;

/// Why a call to an integration fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The agent wants the call to end.
    #[error("cancelled: {reason}")]
    Cancelled {
        /// Why, as the agent says.
        reason: String,
    },
    /// The call is valid, but this integration does not offer it.
    #[error("{what} is not offered by this integration")]
    NotSupported {
        /// What was asked for.
        what: String,
    },
    /// The configuration is wrong.
    #[error("the configuration is not valid: {}", listed(.0))]
    Config(Vec<ConfigError>),
    /// The work failed: made with [`Error::source`] or [`Error::failed`].
    #[error("{message}")]
    Failed {
        /// Operation and thing, what was found, what was expected.
        message: String,
        /// Whose fault it is.
        fault: Fault,
        /// Whether trying again may help.
        retry: Retry,
        /// What a person can do about it.
        hint: Option<String>,
        /// What caused it.
        #[source]
        cause: Option<Box<dyn StdError + Send + Sync>>,
    },
    /// The agent did not do what it was asked for.
    #[error("{method} for session {session}")]
    Session {
        /// The call.
        method: &'static str,
        /// The session as people know it.
        session: String,
        /// What the agent answered, or why it did not.
        #[source]
        err: Box<CallError>,
    },
    /// The agent did not do what it was asked for.
    #[error("{method}")]
    Agent {
        /// The call.
        method: &'static str,
        /// What the agent answered, or why it did not.
        #[source]
        err: Box<CallError>,
    },
    /// An object has no JSON.
    #[error("write an object of {what} as JSON")]
    Serialize {
        /// The model, or what else was to be written.
        what: String,
        /// Why not.
        #[source]
        err: serde_json::Error,
    },
    /// An object is larger than a message may be. The session goes on without it if the caller does.
    #[error(
        "an object of {model} has {bytes} bytes; expected at most {limit}, which is what fits a message to the agent"
    )]
    TooLarge {
        /// The model.
        model: String,
        /// The object's JSON in bytes.
        bytes: usize,
        /// The most that fits.
        limit: usize,
    },
    /// What an earlier run stored has another shape.
    #[error("read the last-processed value {found} of session {session}")]
    LastProcessed {
        /// The session as people know it.
        session: String,
        /// The stored JSON, shortened.
        found: String,
        /// What was expected.
        #[source]
        err: serde_json::Error,
    },
    /// The agent counted other objects than were sent: a bug on one of the two sides.
    #[error("session {session} ({name}) was finished with {counted} objects, but {accepted} were accepted")]
    Count {
        /// The session.
        session: SessionId,
        /// Its name.
        name: String,
        /// As the agent answered to `session.done`.
        counted: u64,
        /// As it answered to `session.send`.
        accepted: u64,
    },
}

impl Error {
    /// The system that the data comes from failed or refused; trying again later may help.
    pub fn source(message: impl Into<String>) -> Self {
        Self::failed(Fault::Source, Retry::Later, message)
    }

    /// The work failed.
    pub fn failed(fault: Fault, retry: Retry, message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), fault, retry, hint: None, cause: None }
    }

    /// One fault of the configuration; `path` is a JSON Pointer into it.
    pub fn config(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Config(vec![ConfigError { path: path.into(), message: message.into() }])
    }

    /// The same error with its cause; only for [`Error::Failed`].
    #[must_use]
    pub fn caused_by(mut self, err: impl StdError + Send + Sync + 'static) -> Self {
        if let Self::Failed { cause, .. } = &mut self {
            *cause = Some(Box::new(err));
        }
        self
    }

    /// The same error with what a person can do about it; only for [`Error::Failed`].
    #[must_use]
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        if let Self::Failed { hint, .. } = &mut self {
            *hint = Some(text.into());
        }
        self
    }

    /// Whether the call ends because the agent wants so, or is gone. Not a project's failure: pass it on.
    #[must_use]
    pub fn ends_the_call(&self) -> bool {
        match self {
            Self::Cancelled { .. } => true,
            Self::Session { err, .. } | Self::Agent { err, .. } => match err.as_ref() {
                CallError::Lost(_) => true,
                CallError::Rpc(err) => matches!(err.code, code::CANCELLED | code::STORAGE),
                _ => false,
            },
            _ => false,
        }
    }

    /// The message with those of all causes.
    #[must_use]
    pub fn chain(&self) -> String {
        chain(self)
    }
}

fn listed(errors: &[ConfigError]) -> String {
    let parts: Vec<_> = errors
        .iter()
        .map(
            |it| if it.path.is_empty() { it.message.clone() } else { format!("{}: {}", it.path, it.message) },
        )
        .collect();
    parts.join("; ")
}

impl From<Error> for RpcError {
    fn from(err: Error) -> Self {
        let message = err.chain();
        match err {
            Error::Cancelled { .. } => Self::new(code::CANCELLED, message),
            Error::NotSupported { .. } => Self::new(code::NOT_SUPPORTED, message),
            Error::Config(_) => {
                let data =
                    ErrorData { fault: Some(Fault::Caller), retry: Some(Retry::No), ..ErrorData::default() };
                Self { code: code::INVALID_PARAMS, message, data: Some(data) }
            }
            Error::Failed { fault, retry, hint, .. } => {
                let data = ErrorData { fault: Some(fault), retry: Some(retry), hint, ..ErrorData::default() };
                Self { code: code::FAILED, message, data: Some(data) }
            }
            Error::Session { err, .. } | Error::Agent { err, .. } => match *err {
                // The agent's own error goes back to it with its own code and blame, and the place added.
                CallError::Rpc(err) => Self { code: err.code, message, data: err.data },
                err => Self::failed(err.fault(), err.retry(), message),
            },
            Error::Serialize { .. }
            | Error::TooLarge { .. }
            | Error::LastProcessed { .. }
            | Error::Count { .. } => Self::failed(Fault::Peer, Retry::No, message),
        }
    }
}
