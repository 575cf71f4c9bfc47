//! Link A: backend and service. The agent opens every connection.
//!
//! Its calls go as JSON-RPC 2.0 requests by `POST` to [`RPC_PATH`], one request a body, with the header
//! `Authorization: Bearer TOKEN`. Orders of the backend come on the stream of server-sent events at [`ORDERS_PATH`]: an
//! event `order` carries an [`Envelope`] as JSON, a comment comes at least every 15 s as a sign of life. Where a proxy
//! holds streams back, the call `orders.poll` answers the same envelopes.
//!
//! The backend repeats, on every new stream and every poll, whatever the agent has not yet answered: a run until
//! `command.accepted`, a cancel until `command.ended`. The agent takes each once.
//!
//! A call about a command that is not this agent's, or that the backend does not have, is answered with
//! [`crate::fault::code::NO_COMMAND`]: the agent has nothing more to say about it.

use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::action::{LogBatch, OAuthParams, Order};
use crate::call::calls;
use crate::collect::Reading;
use crate::collect::ordered::CollectingParams;
use crate::crash::Crash;
use crate::ids::{AgentId, CommandId};
use crate::integration::{Empty, OAuthAccessTokenReply};
use crate::progress::Progress;
use crate::report::{ActionReport, DescribeReport, Failure};
use crate::tagged::Tagged;
use crate::upgrade::Build;
use crate::version::Versions;

/// Where the agent's calls go.
pub const RPC_PATH: &str = "/agent/v1/rpc";
/// Where the backend's orders come from.
pub const ORDERS_PATH: &str = "/agent/v1/orders";
/// The name of the server-sent event that carries an [`Envelope`].
pub const ORDER_EVENT: &str = "order";
/// The longest the backend may keep a stream without a sign of life, in seconds.
pub const STREAM_QUIET_S: u64 = 15;

calls! {
    /// The first call of every connection: who the agent is, and what it is doing.
    Hello = "agent.hello": HelloParams => HelloReply;
    /// A sign of life, with the agent's state.
    Ping = "agent.ping": PingParams => Empty;
    /// Orders that wait, for an agent whose stream is held back; answered at once, or when one comes in.
    Poll = "orders.poll": PollParams => PollReply;
    /// The command is in the agent's journal: from now on the agent answers for it.
    Accepted = "command.accepted": CommandParams => Empty;
    /// The command's action is started.
    Running = "command.running": CommandParams => Empty;
    /// What changed in a command's tree of sessions.
    ProgressChanged = "command.progress": ProgressParams => Empty;
    /// Lines of a command's log.
    Log = "command.log": LogParams => Empty;
    /// The command's one and only outcome, sent until it is answered.
    Ended = "command.ended": EndedParams => Empty;
    /// What the installed integrations say of themselves; sent when the agent knows, and again when it changed.
    Integrations = "agent.integrations": DescribeReport => Empty;
    /// What the agent measured last, in short, for people to look at. The latest wins; one that is lost is of no value.
    Measured = "agent.measured": MeasuredParams => Empty;
    /// Whether it collects, by whose section, and what does not work; sent on each connection, and when it changed. A backend
    /// that does not know this call does not order a section either.
    CollectingChanged = "agent.collecting": CollectingParams => Empty;
    /// A process of the agent died. Sent until it is answered.
    Crashed = "agent.crashed": CrashedParams => Empty;
    /// An access token for an integration. Asked again after a lost answer, it gives the same token.
    OAuthAccessToken = "oauth.access_token": OAuthParams => OAuthAccessTokenReply;
}

/// Who the agent is, and what it is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HelloParams {
    /// The versions of link A that it speaks.
    pub protocol: Versions,
    /// The agent's version.
    pub version: String,
    /// Its build, when it runs from a version of its root: one that can be upgraded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
    /// Its host.
    pub host: HostInfo,
    /// When the service started.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub started_at: Timestamp,
    /// The commands that it has taken and not yet reported as ended.
    pub commands: Vec<CommandId>,
}

/// The machine that an agent runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HostInfo {
    /// Its name.
    pub hostname: String,
    /// `linux`, `macos`, `windows`.
    pub os: String,
    /// `x86_64`, `aarch64`.
    pub arch: String,
}

/// What the backend answers to `agent.hello`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HelloReply {
    /// The version that both ends will speak.
    pub protocol: u32,
    /// The agent as the backend knows it.
    pub agent: AgentId,
    /// How often to call `agent.ping`, in milliseconds.
    pub ping_every_ms: u64,
    /// How many complete files of this agent the backend has. Fewer than the agent has had acknowledged means that the
    /// backend came back with an older database; the agent then offers again what it still has in `sent/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
}

/// A sign of life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PingParams {
    /// The commands that run now.
    pub running: Vec<CommandId>,
    /// The commands that it has accepted and not yet reported as ended, as in [`HelloParams::commands`]. A ping may be
    /// under way while `command.accepted` overtakes it: a command accepted a moment ago may be missing.
    pub commands: Vec<CommandId>,
    /// Files in the spool that are not acknowledged.
    pub spool_files: u64,
    /// Their size.
    pub spool_bytes: u64,
    /// How many of them the backend refuses for what is in them: they wait for a person. An older agent says nothing of it.
    #[serde(default)]
    pub refused_files: u64,
    /// Files that the backend has lost, since it came back with an older database, and that the agent no longer has: until an
    /// export with `reprocess_historical` that is ordered later is done. An older agent says nothing of it.
    #[serde(default)]
    pub lost_files: u64,
}

/// How long to wait for an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PollParams {
    /// In milliseconds; the backend may answer earlier, with nothing.
    pub wait_ms: u64,
}

/// What the agent measured last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MeasuredParams {
    /// Of the busiest sources, the busiest first.
    pub readings: Vec<Reading>,
}

/// A process of the agent died.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CrashedParams {
    /// Made up by the agent, so that a crash told twice is kept once.
    pub id: String,
    /// What is known of it.
    pub crash: Crash,
}

/// The orders that wait.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PollReply {
    /// Oldest first; may be none.
    pub orders: Vec<Envelope>,
}

/// One order of the backend.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "orders come one at a time, and nearly all of them are runs")]
pub enum Envelope {
    /// Carry a command out.
    Run(Command),
    /// End a command early.
    Cancel {
        /// Which.
        command: CommandId,
        /// Why, for the log.
        #[serde(default)]
        reason: String,
    },
}

#[derive(Deserialize)]
struct CancelEnvelope {
    command: CommandId,
    #[serde(default)]
    reason: String,
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let object = Tagged::read("kind", from)?;
        match object.variant.as_str() {
            "run" => object.parse().map(Self::Run),
            "cancel" => {
                object.parse().map(|CancelEnvelope { command, reason }| Self::Cancel { command, reason })
            }
            other => Err(D::Error::unknown_variant(other, &["run", "cancel"])),
        }
    }
}

/// A command: an order with an id, carried out at most once.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Command {
    /// Its id, which is also the export's.
    pub id: CommandId,
    /// What to do.
    pub order: Order,
    /// When the backend took it.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub created_at: Timestamp,
    /// When it is too late to begin; answered as `expired` then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub expires_at: Option<Timestamp>,
    /// How long it may run, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit_ms: Option<u64>,
}

/// A command by its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CommandParams {
    /// Which.
    pub command: CommandId,
    /// When that was.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub at: Timestamp,
}

/// What changed in a command's tree of sessions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProgressParams {
    /// Which command.
    pub command: CommandId,
    /// The changed nodes.
    pub progress: Progress,
}

/// Lines of a command's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LogParams {
    /// Which command.
    pub command: CommandId,
    /// Counts the batches of a command upwards, with gaps, so that one sent twice is kept once.
    pub batch: u64,
    /// The lines.
    pub log: LogBatch,
}

/// A command's outcome.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EndedParams {
    /// Which command.
    pub command: CommandId,
    /// How it ended.
    pub outcome: Outcome,
    /// When it ended.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub ended_at: Timestamp,
}

/// How a command ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Outcome {
    /// In one word.
    pub state: EndState,
    /// What the action answered, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<ActionReport>,
    /// Why it did not end well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// How a command ended, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EndState {
    /// Everything that was asked for was done.
    Done,
    /// Something failed; the report says what was done all the same.
    Failed,
    /// It was cancelled; the report says what was done before.
    Cancelled,
    /// The service went down while it ran. What was durable by then is kept; it was not run again.
    Interrupted,
    /// It was too old when the agent got it.
    Expired,
    /// It was started as often as a command may be, and each time the agent went down with it. It is not tried again.
    SetAside,
}
