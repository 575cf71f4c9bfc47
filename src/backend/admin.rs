//! What the admin API says and takes: the types shared by the server, [`crate::client`] and the OpenAPI document.

use jiff::Timestamp;
use outrider_protocol::action::{Compression, Order};
use outrider_protocol::ids::{AgentId, CommandId, ExportId, IntegrationId, IntegrationName, Model};
use outrider_protocol::log::LogLine;
use outrider_protocol::progress::Progress;
use outrider_protocol::report::{ActionReport, Failure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod collecting;
mod integrations;
pub use collecting::{AgentCollecting, CollectOrdered};
pub use integrations::{
    AgentIntegrations, ConfiguredIntegration, CrashFilter, OAuthInfo, OAuthRegistration, StoredCrash,
};

/// An enrolled agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// The name of its host.
    pub hostname: String,
    /// `linux`, `macos`, `windows`.
    pub os: String,
    /// `x86_64`, `aarch64`.
    pub arch: String,
    /// The version it runs.
    pub version: String,
    /// The build it runs, as `1.4.2 (0123abcd)`; nothing where it runs outside of its root's versions, and so cannot be
    /// upgraded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// Which releases it wants.
    pub channel: String,
    /// Whose agent it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<String>,
    /// Whether it can be reached now, as far as one can know.
    pub online: bool,
    /// When it enrolled.
    #[schemars(with = "String")]
    pub enrolled_at: Timestamp,
    /// When it last called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub seen_at: Option<Timestamp>,
    /// When its service started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub service_started_at: Option<Timestamp>,
    /// Files in its spool that this backend has not acknowledged, as it last said.
    pub spool_files: u64,
    /// Their size in bytes.
    pub spool_bytes: u64,
    /// Those of them that this backend refuses for what is in them. Their exports may have ended well before.
    #[serde(default)]
    pub refused_files: u64,
    /// Files that this backend has lost, since it came back with an older database, and that the agent no longer has. Their
    /// objects come again with an export with `reprocess_historical`, of which this ends.
    #[serde(default)]
    pub lost_files: u64,
    /// Its commands that have not ended.
    pub open_commands: u64,
    /// When its token was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub revoked_at: Option<Timestamp>,
}

/// An enrollment code to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewCode {
    /// How many agents may enroll with it.
    pub uses: u32,
    /// How long it is valid, in seconds.
    pub expires_in_s: u64,
    /// Whose agents these will be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<String>,
    /// What it is for, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Default for NewCode {
    fn default() -> Self {
        Self { uses: 1, expires_in_s: 3600, customer_id: None, note: None }
    }
}

/// An enrollment code, without the code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Code {
    /// Its id, by which it is revoked.
    pub id: String,
    /// Whether agents can enroll with it.
    pub state: CodeState,
    /// How many agents may enroll with it.
    pub uses: u32,
    /// How many have.
    pub used: u32,
    /// Whose agents these are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When it was made.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
    /// Until when it is valid.
    #[schemars(with = "String")]
    pub expires_at: Timestamp,
}

/// What an enrollment code is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CodeState {
    /// Agents can enroll with it.
    Active,
    /// As many agents as it allows have enrolled.
    UsedUp,
    /// Its time is over.
    Expired,
    /// It was taken back.
    Revoked,
}

/// A new enrollment code: the only time that the code itself is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreatedCode {
    /// The code to hand to `outrider enroll`.
    pub code: String,
    /// What is stored of it.
    #[serde(flatten)]
    pub stored: Code,
}

/// A command to give to an agent.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCommand {
    /// Who is to carry it out.
    pub agent: AgentId,
    /// What to do.
    pub order: Order,
    /// Take the configurations of the order's integrations, which are named by their ids, from those that are configured
    /// at the agent; of an export that names none, all of them.
    #[serde(default)]
    pub configured: bool,
    /// After how many seconds it is too late to begin. Where neither this nor `expires_at` is said: a week from now, or
    /// from the start of an upgrade that is not to begin before a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
    /// From when on it is too late to begin, in the place of `expires_in_s`: the end of an upgrade's window, whose
    /// beginning is the order's `start_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub expires_at: Option<Timestamp>,
    /// How long it may run, in milliseconds; the agent's own limit where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit_ms: Option<u64>,
}

impl NewCommand {
    /// An order of which nothing more is said.
    #[must_use]
    pub fn new(agent: AgentId, order: Order) -> Self {
        Self { agent, order, configured: false, expires_in_s: None, expires_at: None, time_limit_ms: None }
    }
}

/// Where a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CommandState {
    /// It waits for its agent.
    Queued,
    /// It is in the agent's journal: the agent answers for it.
    Delivered,
    /// The agent carries it out.
    Running,
    /// Everything that was asked for was done.
    Done,
    /// Something failed; the report says what was done all the same.
    Failed,
    /// It was cancelled; the report says what was done before.
    Cancelled,
    /// The agent's service went down while it ran, or forgot it.
    Interrupted,
    /// It was too late to begin.
    Expired,
    /// Each time it was started its agent went down with it, so it is not tried again.
    SetAside,
}

impl CommandState {
    /// Every state, in the order in which a command may pass them.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Delivered,
        Self::Running,
        Self::Done,
        Self::Failed,
        Self::Cancelled,
        Self::Interrupted,
        Self::Expired,
        Self::SetAside,
    ];

    /// The word for it, in JSON, the store and on screens.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Delivered => "delivered",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
            Self::Expired => "expired",
            Self::SetAside => "set_aside",
        }
    }

    /// Whether nothing comes after it.
    #[must_use]
    pub const fn is_end(self) -> bool {
        !matches!(self, Self::Queued | Self::Delivered | Self::Running)
    }
}

impl std::fmt::Display for CommandState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A configured integration, without its configuration, which may hold secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IntegrationRef {
    /// Which configured one.
    pub id: IntegrationId,
    /// Its kind.
    pub name: IntegrationName,
}

/// A command as listings show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommandSummary {
    /// Its id, which is also the export's.
    pub id: CommandId,
    /// Who carries it out.
    pub agent: AgentId,
    /// `export`, `validate-config`, `export-onboard-data`, `upgrade`, `configure-collect`.
    pub action: String,
    /// On which integrations.
    pub integrations: Vec<IntegrationRef>,
    /// Where it is.
    pub state: CommandState,
    /// When this backend took it.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
    /// When it is too late to begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub expires_at: Option<Timestamp>,
    /// When the agent took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub accepted_at: Option<Timestamp>,
    /// When the agent began, by its clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub started_at: Option<Timestamp>,
    /// When it ended, by the agent's clock where the agent had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub ended_at: Option<Timestamp>,
    /// When somebody asked to cancel it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub cancel_requested_at: Option<Timestamp>,
    /// Files that this backend has of it.
    pub files: u64,
    /// The objects in them.
    pub objects: u64,
    /// Their size in bytes, compressed.
    pub bytes: u64,
}

/// A command with its outcome.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Command {
    /// What listings show.
    #[serde(flatten)]
    pub summary: CommandSummary,
    /// How long it may run, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit_ms: Option<u64>,
    /// Why somebody asked to cancel it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_reason: Option<String>,
    /// What the action answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<ActionReport>,
    /// Of an export with a report: its counts against what was received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<ExportCounts>,
    /// Why it did not end well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// What an export's report counts, against what this backend has of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExportCounts {
    /// How many files the agent sealed, in all lives of the export; nothing where nobody counted them, and then no
    /// difference is a fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_files: Option<u64>,
    /// How many of them it had sealed before it died and went on with the export.
    #[serde(default)]
    pub earlier_files: u64,
    /// Whether the counts are compared: the files that the agent sealed are here. Until then no difference is a fault.
    #[serde(default)]
    pub judged: bool,
    /// Each integration of the report.
    pub integrations: Vec<IntegrationCounts>,
    /// The first difference, once all of the export's files are here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// The objects of one integration in an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IntegrationCounts {
    /// Which configured one.
    pub integration: IntegrationId,
    /// How many the report counts, in all lives of the export.
    pub reported: u64,
    /// How many of them were durable before the agent died and went on with the export.
    #[serde(default)]
    pub earlier: u64,
    /// How many this backend has.
    pub received: u64,
}

/// Why a command is to be cancelled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CancelCommand {
    /// For the agent's log.
    pub reason: String,
}

/// Which commands to list. All conditions hold together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CommandFilter {
    /// Of this agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// In this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<CommandState>,
    /// At most so many, the newest; 100 where nothing is said, at most 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A line of a command's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NumberedLine {
    /// Its place in the command's log, from 1. Numbers may be missing at the beginning, where old lines were dropped.
    pub number: u64,
    /// The line.
    #[serde(flatten)]
    pub line: LogLine,
}

/// Which lines of a log to show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogRange {
    /// Those after this number, oldest first. Without it: the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// At most so many; 1,000 where nothing is said, at most 10,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// What somebody who follows a command has seen already.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WatchQuery {
    /// The `mark` of the last answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    /// The number of the last line seen; 0 for all that are kept.
    pub after_line: u64,
    /// How long to wait for something new, in milliseconds; at most 30,000.
    pub wait_ms: u64,
}

/// A command as it is now, and what its log says since.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Watched {
    /// The command.
    pub command: Command,
    /// Its tree of sessions.
    pub progress: Progress,
    /// New lines of its log, oldest first.
    pub lines: Vec<NumberedLine>,
    /// To be sent with the next question: stands for this state of the command and its progress.
    pub mark: String,
}

/// An uploaded file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct File {
    /// Who uploaded it.
    pub agent: AgentId,
    /// Of which run; also the command's id, where a command ordered the run.
    pub export: ExportId,
    /// Whose objects they are.
    pub integration: IntegrationId,
    /// Of which model.
    pub model: Model,
    /// Its number within the run and the model.
    pub number: u64,
    /// How many objects it holds.
    pub objects: u64,
    /// Their JSON in bytes, before compression.
    pub raw_bytes: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its SHA-256, in lower-case hex.
    pub sha256: String,
    /// How it is compressed.
    pub compression: Compression,
    /// When it was complete.
    #[schemars(with = "String")]
    pub received_at: Timestamp,
    /// Where it lies on the backend's disk.
    pub path: String,
}

/// Which files to list. All conditions hold together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FileFilter {
    /// Of this agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// Of this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export: Option<ExportId>,
    /// At most so many, the newest; 1,000 where nothing is said, at most 10,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A link that logs one browser in, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoginLink {
    /// The path on the backend's origin.
    pub path: String,
    /// Until when it works.
    #[schemars(with = "String")]
    pub expires_at: Timestamp,
}

/// What this backend is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct About {
    /// Its version.
    pub version: String,
}
