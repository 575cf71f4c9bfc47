//! Errors as they cross a boundary: a JSON-RPC code, whose fault it is, and whether trying again may help.

use serde::{Deserialize, Serialize};

/// JSON-RPC error codes. Those below -32000 are the standard's.
pub mod code {
    /// The line was no JSON.
    pub const PARSE: i32 = -32700;
    /// The line was JSON but no JSON-RPC 2.0 request (a batch array is none either), or longer than a line may be.
    pub const INVALID_REQUEST: i32 = -32600;
    /// The method is not known.
    pub const METHOD_NOT_FOUND: i32 = -32601;
    /// The parameters do not fit the method.
    pub const INVALID_PARAMS: i32 = -32602;
    /// A bug, such as a panic of the handler.
    pub const INTERNAL: i32 = -32603;
    /// The call was cancelled.
    pub const CANCELLED: i32 = -32800;
    /// The two ends speak no common protocol version.
    pub const VERSION: i32 = -32001;
    /// The call is valid, but this integration does not offer it (such as a kind of onboarding data).
    pub const NOT_SUPPORTED: i32 = -32002;
    /// A session was used in a way it does not allow.
    pub const SESSION: i32 = -32003;
    /// The work itself failed: the message says how.
    pub const FAILED: i32 = -32004;
    /// The host could not store what was sent (full disk, broken store).
    pub const STORAGE: i32 = -32005;
    /// The backend has no such command of this agent: there is nobody to report to, and nothing more to report.
    pub const NO_COMMAND: i32 = -32006;
}

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Whoever asked: a wrong flag, config or parameter.
    Caller,
    /// The process at the other end of a link, or the integration's code.
    Peer,
    /// The system that the data comes from.
    Source,
    /// This machine: disk, permissions, memory.
    Host,
    /// The backend or the way to it.
    Backend,
    /// Outrider itself.
    Bug,
}

/// Whether trying again may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// The same request would fail the same way.
    No,
    /// It may work later as it is.
    Later,
}

/// The `data` of a JSON-RPC error between Outrider's processes. Every field may be missing: an integration in another
/// language need not send any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct ErrorData {
    /// Whose fault it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// Whether trying again may help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// What a person can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The last lines that the process behind the error wrote, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub last_lines: Vec<String>,
}

/// An error as it is told across a link: the `error` member of a JSON-RPC response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[error("{message}")]
pub struct RpcError {
    /// One of [`code`], or the other end's own.
    pub code: i32,
    /// What happened, for a person to read.
    pub message: String,
    /// Whose fault, whether again, what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<ErrorData>,
}

impl RpcError {
    /// An error with nothing but a code and a message.
    #[must_use]
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// The work failed: [`code::FAILED`].
    #[must_use]
    pub fn failed(fault: Fault, retry: Retry, message: impl Into<String>) -> Self {
        let data = ErrorData { fault: Some(fault), retry: Some(retry), ..ErrorData::default() };
        Self { code: code::FAILED, message: message.into(), data: Some(data) }
    }

    /// The same error with what a person can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.data.get_or_insert_default().hint = Some(hint.into());
        self
    }
}

/// An error and all that led to it, in one line: `read a.json: open a file: no such file`.
#[must_use]
pub fn chain(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(err) = cause {
        text = format!("{text}: {err}");
        cause = err.source();
    }
    text
}
