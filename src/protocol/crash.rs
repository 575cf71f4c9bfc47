//! A process that died instead of ending: what is known of it, as it is reported to the backend.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::CommandId;

/// The death of a process of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Crash {
    /// Whose: `service`, `action/NAME`, `integration/ID`.
    pub component: String,
    /// Of what it died.
    pub cause: CrashCause,
    /// The same for a person to read.
    pub detail: String,
    /// When it was noticed.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub at: Timestamp,
    /// The version of the program.
    pub version: String,
    /// The command that was carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandId>,
    /// Its last words, oldest first, without secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_lines: Vec<String>,
}

/// Of what a process died. Told from its exit status, from the signals that its parent sent, and from what the system
/// counts of its memory; the words of its last lines only name the language's own kind of death.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CrashCause {
    /// It gave up by the means of its language: a panic, an uncaught exception.
    Panic,
    /// It exited before its work was over, with this or that status.
    Exit,
    /// A signal that its parent did not send.
    Signal,
    /// The system killed it to get memory back.
    OutOfMemory,
    /// Its parent killed it, since it took longer than it may or was silent for too long.
    KilledForTime,
}

impl fmt::Display for CrashCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Panic => "panic",
            Self::Exit => "early exit",
            Self::Signal => "signal",
            Self::OutOfMemory => "out of memory",
            Self::KilledForTime => "killed for time",
        })
    }
}
