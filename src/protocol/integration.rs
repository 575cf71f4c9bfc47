//! Link C: action and integration, a JSON-RPC 2.0 message a line on the integration's stdin and stdout.
//!
//! The action calls `initialize` first and waits for its answer. Then come `validate_config`, `onboard_export` or
//! `export`, one at a time; while `export` runs, the integration calls back. `cancel` ends the running call, which
//! answers with [`crate::fault::code::CANCELLED`]; after `shutdown`, or at the end of stdin, the process exits.
//!
//! **Sessions.** A session is known by its path: the integration, then (name, object id) of each session from the root
//! down. A *model session* is named by its model and may send objects; a *tracking session* only nests. `session.done`
//! is answered when every object of the session is durable, and only then does a later run see its last-processed
//! value. It may be called when all `session.send` of that session were answered and all its children are finished.
//! Whatever an integration sent in a session that it did not finish is dropped.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Raw;
use crate::call::{calls, notices};
use crate::ids::{ExportId, IntegrationId, Model, SessionId};
use crate::log::{Fields, Level};
use crate::version::Versions;

calls! {
    /// Agent → integration: the first call; each end says which versions it speaks.
    Initialize = "initialize": InitializeParams => InitializeReply;
    /// Agent → integration: export everything that is new. Answered when the export is over.
    Export = "export": ExportParams => ExportReply;
    /// Agent → integration: try the configuration against the source.
    ValidateConfig = "validate_config": ValidateConfigParams => ValidateConfigReply;
    /// Agent → integration: the lists from which a person chooses what to export.
    OnboardExport = "onboard_export": OnboardExportParams => OnboardExportReply;
    /// Agent → integration: exit when this is answered.
    Shutdown = "shutdown": Empty => Empty;

    /// Integration → agent: open a session.
    SessionStart = "session.start": SessionStartParams => SessionStartReply;
    /// Integration → agent: objects of a model session. Answered when accepted.
    SessionSend = "session.send": SessionSendParams => SessionSendReply;
    /// Integration → agent: the session is complete. Answered when durable.
    SessionDone = "session.done": SessionDoneParams => SessionDoneReply;
    /// Integration → agent: forget what this session, and every open session below it, sent.
    SessionRollback = "session.rollback": SessionRollbackParams => Empty;
    /// Integration → agent: an access token for its source, made of a refresh token that stays with the backend.
    OAuthAccessToken = "oauth.access_token": OAuthAccessTokenParams => OAuthAccessTokenReply;
    /// Integration → agent: waiting for the source's rate limit.
    Pause = "pause": PauseParams => Empty;
    /// Integration → agent: going on.
    Resume = "resume": Empty => Empty;
}

notices! {
    /// Agent → integration: end the running call.
    Cancel = "cancel": CancelParams;
    /// Integration → agent: how far a session is; the latest wins.
    SessionProgress = "session.progress": SessionProgressParams;
    /// Integration → agent: a line for the log.
    Log = "log": LogParams;
}

/// Nothing to say; further members may come later.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Empty {}

/// What the agent says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InitializeParams {
    /// The versions of link C that the agent speaks.
    pub protocol: Versions,
    /// The agent's version, for logs.
    pub agent_version: String,
    /// Which configured integration this process is.
    pub integration: IntegrationId,
    /// The longest line the agent takes, in bytes without the line feed.
    pub max_line_bytes: u64,
    /// A folder that this integration may keep between runs (clones, caches).
    pub cache_dir: String,
}

/// What the integration says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InitializeReply {
    /// The version that both ends will speak: the newest that both know.
    pub protocol: u32,
    /// The integration's name.
    pub name: String,
    /// The integration's version.
    pub version: String,
    /// The models it may export.
    #[serde(default)]
    pub models: Vec<ModelInfo>,
    /// The kinds of onboarding data it offers: `users`, `repos`, `projects`, or its own.
    #[serde(default)]
    pub onboard_kinds: Vec<String>,
    /// JSON Schema of its configuration. Fields with `writeOnly: true` are secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_schema: Option<Raw>,
    /// Abilities beyond the version, by name.
    #[serde(default)]
    pub features: Vec<String>,
}

/// A model that an integration may export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModelInfo {
    /// Its name.
    pub model: Model,
    /// Whether each object must carry a text member `id`; objects without are rejected.
    #[serde(default)]
    pub needs_id: bool,
    /// Whether its objects carry the text members `id` and `hash`, and one that the backend has already with the same
    /// hash may be left out. The hash changes whenever the object does.
    #[serde(default)]
    pub skip_unchanged: bool,
}

/// What to export.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ExportParams {
    /// This run.
    pub export: ExportId,
    /// The integration's configuration, in its own shape.
    pub config: Raw,
    /// Whose data it is, to be put into objects where the model asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<String>,
    /// Export everything again: last-processed values are not given back in this run.
    #[serde(default)]
    pub reprocess_historical: bool,
}

/// How an export went, project by project.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ExportReply {
    /// Every project (repository, board, …) that was looked at.
    #[serde(default)]
    pub projects: Vec<ProjectResult>,
    /// The configuration to keep from now on, if it changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_config: Option<Raw>,
}

/// How one project went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProjectResult {
    /// The source's id of the project.
    pub id: String,
    /// A name for people.
    pub name: String,
    /// How it went.
    pub state: ProjectState,
    /// Why it failed or was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl ProjectResult {
    /// A project that was exported, or in which nothing was new.
    #[must_use]
    pub fn done(id: impl Into<String>, name: impl Into<String>) -> Self {
        Self { id: id.into(), name: name.into(), state: ProjectState::Done, error: None }
    }

    /// A project with nothing to export, and why.
    #[must_use]
    pub fn skipped(id: impl Into<String>, name: impl Into<String>, why: impl Into<String>) -> Self {
        Self { id: id.into(), name: name.into(), state: ProjectState::Skipped, error: Some(why.into()) }
    }

    /// A project that was not exported, or not fully, and why.
    #[must_use]
    pub fn failed(id: impl Into<String>, name: impl Into<String>, why: impl Into<String>) -> Self {
        Self { id: id.into(), name: name.into(), state: ProjectState::Failed, error: Some(why.into()) }
    }
}

/// How a project went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ProjectState {
    /// Exported, or nothing was new.
    Done,
    /// Nothing to export, such as an empty repository.
    Skipped,
    /// Not exported, or not fully.
    Failed,
}

/// The configuration to try.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ValidateConfigParams {
    /// The integration's configuration, in its own shape.
    pub config: Raw,
}

/// What is wrong with a configuration, and what the source says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ValidateConfigReply {
    /// Everything that is wrong; none means valid.
    #[serde(default)]
    pub errors: Vec<ConfigError>,
    /// The source, where it could be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceInfo>,
}

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ConfigError {
    /// Where in the configuration, as a JSON Pointer; empty for the whole of it.
    pub path: String,
    /// What was found, what was expected, what to do.
    pub message: String,
}

/// What a source says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct SourceInfo {
    /// The version of its software.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// As whom the agent is logged in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// What that account may do.
    pub scopes: Vec<String>,
}

/// Which lists to make.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OnboardExportParams {
    /// `users`, `repos`, `projects`, or a kind of the integration's own. One it does not know is answered with
    /// [`crate::fault::code::NOT_SUPPORTED`].
    pub kind: String,
    /// The integration's configuration, in its own shape.
    pub config: Raw,
}

/// The list.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OnboardExportReply {
    /// Records in the integration's own shape; each has at least `id` and `name`.
    pub records: Vec<Raw>,
}

/// Why the running call should end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct CancelParams {
    /// For the log.
    pub reason: String,
}

/// Whether a session carries objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SessionKind {
    /// It may send objects of the model that it is named by.
    Model,
    /// It nests other sessions and reports progress.
    Tracking,
}

/// The object that a session belongs to: a session of pull requests belongs to a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionObject {
    /// The source's id of it; a part of the session's path.
    pub id: String,
    /// A name for people.
    pub name: String,
}

/// The session to open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionStartParams {
    /// Whether it carries objects.
    pub kind: SessionKind,
    /// The model of a model session; any text for a tracking session.
    pub name: String,
    /// The open session to nest it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<SessionId>,
    /// The object it belongs to. A session with a parent must have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<SessionObject>,
}

/// The open session.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionStartReply {
    /// Its number in the calls that follow.
    pub session: SessionId,
    /// What `session.done` stored under the same path in an earlier run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_processed: Option<Raw>,
}

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionProgressParams {
    /// Which one.
    pub session: SessionId,
    /// Steps done.
    pub current: u64,
    /// Steps in all, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

/// Objects of a model session.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionSendParams {
    /// Which session.
    pub session: SessionId,
    /// How many there are; held against `objects` where it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The objects; 100 and more in one call are much faster than one. Each is a JSON object.
    pub objects: Vec<Raw>,
}

/// [`SessionSendParams`] as the receiver reads it, without a copy of the objects.
#[derive(Debug, Deserialize)]
pub struct SessionBatch<'a> {
    /// Which session.
    pub session: SessionId,
    /// How many there are, as the sender counted.
    #[serde(default)]
    pub count: Option<u64>,
    /// The objects as they stand in the message.
    #[serde(borrow)]
    pub objects: Vec<&'a serde_json::value::RawValue>,
}

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionSendReply {
    /// How many objects were taken to be exported.
    pub accepted: u64,
    /// How many were left out because the backend has them with the same hash (see [`ModelInfo::skip_unchanged`]).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unchanged: u64,
    /// Those that were not, and why. The others of the batch are taken all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<Rejected>,
}

/// An object that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Rejected {
    /// Its place in the batch, from 0.
    pub index: u64,
    /// Its id, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What was found and what was expected.
    pub reason: String,
}

/// The session that is complete.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionDoneParams {
    /// Which one.
    pub session: SessionId,
    /// How many objects were accepted in it, as the sender counted; held against the agent's own count where it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<u64>,
    /// What the next run gets back under this session's path; the stored value stays as it is where this is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_processed: Option<Raw>,
}

/// The session is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionDoneReply {
    /// How many objects it carried, to be held against the sender's own count.
    pub objects: u64,
}

/// The session to forget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionRollbackParams {
    /// Which one.
    pub session: SessionId,
}

/// What kind of access token is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct OAuthAccessTokenParams {
    /// The generation of the token that the source refused. A token of that generation is not given again; without it,
    /// one that is still good is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<u64>,
}

/// An access token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OAuthAccessTokenReply {
    /// The token: a secret.
    pub access_token: String,
    /// Counts the tokens of this integration, so that a refused one can be named without being repeated.
    pub generation: u64,
    /// When it ends, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub expires_at: Option<Timestamp>,
}

impl std::fmt::Debug for OAuthAccessTokenReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OAuthAccessTokenReply")
            .field("access_token", &"***")
            .field("generation", &self.generation)
            .field("expires_at", &self.expires_at)
            .finish()
    }
}

/// Until when the integration waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PauseParams {
    /// When it goes on.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub until: Timestamp,
    /// Why it waits.
    #[serde(default)]
    pub reason: String,
}

/// A line for the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LogParams {
    /// How much it matters.
    pub level: Level,
    /// What it says.
    pub message: String,
    /// Named facts.
    #[serde(default, skip_serializing_if = "Fields::is_empty")]
    pub fields: Fields,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}
