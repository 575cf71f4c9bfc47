//! Link B: service and action, a JSON-RPC 2.0 message a line on the action's stdin and stdout.
//!
//! The service calls `initialize`, then `run`, which is answered when the work is over. `cancel` ends it early: `run`
//! then answers with what was kept, or with [`crate::fault::code::CANCELLED`]. The end of stdin means that the service
//! is gone: the action stops its own children and exits with [`crate::exit::Exit::Orphaned`].

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Raw;
use crate::call::{calls, notices};
use crate::collect::ordered::CollectOrder;
use crate::crash::Crash;
use crate::ids::{CommandId, ExportId, IntegrationId, IntegrationName, Model};
use crate::integration::{CancelParams, Empty, OAuthAccessTokenReply};
use crate::log::LogLine;
use crate::progress::Progress;
use crate::report::ActionReport;
use crate::upgrade::UpgradeOrder;
use crate::version::Versions;

calls! {
    /// Service → action: the first call.
    Initialize = "initialize": InitializeParams => InitializeReply;
    /// Service → action: the work. Answered when it is over.
    Run = "run": RunParams => ActionReport;
    /// Action → service: a spool file is complete and durable. The upload may begin.
    Sealed = "sealed": SealedFile => Empty;
    /// Action → service: an access token for an integration; the service asks the backend.
    OAuthAccessToken = "oauth.access_token": OAuthParams => OAuthAccessTokenReply;
}

notices! {
    /// Service → action: end `run` early.
    Cancel = "cancel": CancelParams;
    /// Action → service: what changed in the tree of sessions; at most a few times a second.
    ProgressChanged = "progress": Progress;
    /// Action → service: lines of the log.
    Log = "log": LogBatch;
    /// Action → service: a child of the action runs in this process group, so that the service can end it should the
    /// action die first.
    ChildStarted = "child.started": ChildProcess;
    /// Action → service: that child has ended.
    ChildEnded = "child.ended": ChildProcess;
    /// Action → service: a child of the action has died, for the backend. Each death is told once; the report of an export
    /// repeats that of the last attempt.
    ChildDied = "child.died": Crash;
}

/// What the service says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InitializeParams {
    /// The versions of link B that it speaks.
    pub protocol: Versions,
    /// Its version, for logs.
    pub service_version: String,
}

/// What the action says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InitializeReply {
    /// The version that both ends will speak.
    pub protocol: u32,
    /// The action's name.
    pub action: String,
    /// Its version.
    pub version: String,
}

/// The work to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunParams {
    /// The command that ordered it.
    pub command: CommandId,
    /// What to do.
    pub order: Order,
}

/// What an action is to do: also what the backend sends (see [`crate::control::Command`]).
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Order {
    /// Export everything that is new.
    Export(ExportOrder),
    /// Try an integration's configuration against its source.
    ValidateConfig(ValidateOrder),
    /// Make the lists from which a person chooses what to export.
    ExportOnboardData(OnboardOrder),
    /// Ask each installed integration what it is.
    DescribeIntegrations(DescribeOrder),
    /// Put another version of the agent into the root.
    Upgrade(UpgradeOrder),
    /// Keep another section `collect` for the backend, or none. The service does it itself.
    ConfigureCollect(CollectOrder),
}

crate::tagged::tagged! { Order by "action":
    "export" => Export,
    "validate-config" => ValidateConfig,
    "export-onboard-data" => ExportOnboardData,
    "describe-integrations" => DescribeIntegrations,
    "upgrade" => Upgrade,
    "configure-collect" => ConfigureCollect,
}

impl Order {
    /// The action's name: the hidden subcommand, and the log file, that carries the order out; but for
    /// `configure-collect`, which takes no process.
    #[must_use]
    pub fn action(&self) -> &'static str {
        match self {
            Self::Export(_) => "export",
            Self::ValidateConfig(_) => "validate-config",
            Self::ExportOnboardData(_) => "export-onboard-data",
            Self::DescribeIntegrations(_) => "describe-integrations",
            Self::Upgrade(_) => "upgrade",
            Self::ConfigureCollect(_) => "configure-collect",
        }
    }

    /// What holds for the whole agent.
    #[must_use]
    pub fn agent(&self) -> &AgentConfig {
        match self {
            Self::Export(order) => &order.agent,
            Self::ValidateConfig(order) => &order.agent,
            Self::ExportOnboardData(order) => &order.agent,
            Self::DescribeIntegrations(order) => &order.agent,
            Self::Upgrade(order) => &order.agent,
            Self::ConfigureCollect(order) => &order.agent,
        }
    }

    /// The same, to be changed.
    pub fn agent_mut(&mut self) -> &mut AgentConfig {
        match self {
            Self::Export(order) => &mut order.agent,
            Self::ValidateConfig(order) => &mut order.agent,
            Self::ExportOnboardData(order) => &mut order.agent,
            Self::DescribeIntegrations(order) => &mut order.agent,
            Self::Upgrade(order) => &mut order.agent,
            Self::ConfigureCollect(order) => &mut order.agent,
        }
    }

    /// The configured integrations that it is about.
    #[must_use]
    pub fn integrations(&self) -> &[IntegrationConfig] {
        match self {
            Self::Export(order) => &order.integrations,
            Self::ValidateConfig(order) => std::slice::from_ref(&order.integration),
            Self::ExportOnboardData(order) => std::slice::from_ref(&order.integration),
            Self::DescribeIntegrations(_) | Self::Upgrade(_) | Self::ConfigureCollect(_) => &[],
        }
    }

    /// The same, to be changed.
    pub fn integrations_mut(&mut self) -> &mut [IntegrationConfig] {
        match self {
            Self::Export(order) => &mut order.integrations,
            Self::ValidateConfig(order) => std::slice::from_mut(&mut order.integration),
            Self::ExportOnboardData(order) => std::slice::from_mut(&mut order.integration),
            Self::DescribeIntegrations(_) | Self::Upgrade(_) | Self::ConfigureCollect(_) => &mut [],
        }
    }
}

/// An order to export.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ExportOrder {
    /// What holds for the whole agent.
    #[serde(default)]
    pub agent: AgentConfig,
    /// What to export from. The service adds `extra_integrations` of config.json.
    pub integrations: Vec<IntegrationConfig>,
    /// Export everything again, as if no checkpoint were stored.
    #[serde(default)]
    pub reprocess_historical: bool,
}

/// An order to validate.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ValidateOrder {
    /// What holds for the whole agent.
    #[serde(default)]
    pub agent: AgentConfig,
    /// What to validate.
    pub integration: IntegrationConfig,
    /// Answer with the configuration as it is to be kept: its secrets encrypted for this host.
    #[serde(default)]
    pub seal: bool,
}

/// An order for onboarding data.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OnboardOrder {
    /// What holds for the whole agent.
    #[serde(default)]
    pub agent: AgentConfig,
    /// Whom to ask.
    pub integration: IntegrationConfig,
    /// `users`, `repos`, `projects`, or a kind of the integration's own.
    pub object_type: String,
}

/// An order to ask each installed integration what it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct DescribeOrder {
    /// What holds for the whole agent.
    pub agent: AgentConfig,
}

/// `--agent-config-json`: what holds for the whole agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct AgentConfig {
    /// Whose data it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<String>,
    /// Where the programs of integrations are looked up first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub integrations_dir: Option<String>,
    /// Leave out the processing of git repositories on behalf of other integrations.
    pub skip_git: bool,
    /// Limits for this order alone, by the names they have under `limits` in config.json.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub limits: serde_json::Map<String, serde_json::Value>,
}

/// One element of `--integrations-json`: one configured integration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct IntegrationConfig {
    /// Its kind: the name of its program.
    pub name: IntegrationName,
    /// Tells several of one kind apart; the name where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<IntegrationId>,
    /// Its configuration, in its own shape.
    #[serde(default = "empty_config")]
    pub config: Raw,
    /// The secrets that belong into `config`, encrypted for the host that is to use them (see
    /// [`crate::report::ValidateReport::sealed`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<String>,
}

impl IntegrationConfig {
    /// One of this kind, with nothing configured.
    #[must_use]
    pub fn new(name: IntegrationName) -> Self {
        Self { name, id: None, config: empty_config(), secrets: None }
    }

    /// The id by which checkpoints, logs and reports know it.
    #[must_use]
    pub fn id(&self) -> IntegrationId {
        self.id.clone().unwrap_or_else(|| self.name.clone().into())
    }

    /// As it is exported where config.json adds it (see [`IntegrationId::extra`]).
    #[must_use]
    pub fn extra(&self) -> Self {
        Self { id: Some(self.id().extra()), ..self.clone() }
    }
}

fn empty_config() -> Raw {
    serde_json::value::to_raw_value(&Empty {}).unwrap_or_default()
}

/// A spool file that is complete and durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SealedFile {
    /// Which run.
    pub export: ExportId,
    /// Whose objects they are.
    pub integration: IntegrationId,
    /// Of which model.
    pub model: Model,
    /// The file's number within the run and the model.
    pub number: u64,
    /// How many objects it holds.
    pub objects: u64,
    /// Their JSON in bytes, before compression.
    pub raw_bytes: u64,
    /// The file's size.
    pub bytes: u64,
    /// The file's SHA-256, in lower-case hex.
    pub sha256: String,
    /// How it is compressed.
    #[serde(default)]
    pub compression: Compression,
}

/// How a spool file is compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// As a sequence of gzip members.
    #[default]
    Gzip,
    /// As a sequence of Zstandard frames.
    Zstd,
}

impl Compression {
    /// The end of a file's name, as in `1.json.gz`.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Gzip => "gz",
            Self::Zstd => "zst",
        }
    }
}

/// Who wants an access token, and which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OAuthParams {
    /// For which configured integration.
    pub integration: IntegrationId,
    /// The generation of the token that the source refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<u64>,
}

/// Lines of a log.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LogBatch {
    /// Oldest first.
    pub lines: Vec<LogLine>,
    /// How many lines before these were dropped because too many waited.
    #[serde(default)]
    pub dropped: u64,
}

/// A child of an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChildProcess {
    /// Its process id, which is also its group's.
    pub pid: u32,
    /// Its program, for the log.
    pub program: String,
    /// When it was started.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub started_at: Timestamp,
}
