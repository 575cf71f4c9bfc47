//! What an action answers: the outcome of a command, down to each integration and project.

use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::Raw;
use crate::fault::{Fault, Retry};
use crate::ids::{ExportId, IntegrationId, IntegrationName, Model};
use crate::integration::{ConfigError, ProjectResult, SourceInfo};
use crate::tagged::Tagged;

/// Something that failed, as it is reported to the backend and to people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Failure {
    /// What failed and how.
    pub message: String,
    /// Whose fault it is.
    pub fault: Fault,
    /// Whether trying again may help.
    pub retry: Retry,
    /// What a person can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The last lines that the process wrote to stderr or its log, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_lines: Vec<String>,
}

/// What an action answers when it could do its work; what was found may still be bad news.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum ActionReport {
    /// Of `export`.
    Export(ExportReport),
    /// Of `validate-config`.
    ValidateConfig(ValidateReport),
    /// Of `export-onboard-data`.
    ExportOnboardData(OnboardReport),
}

crate::tagged::tagged! { ActionReport by "action":
    "export" => Export,
    "validate-config" => ValidateConfig,
    "export-onboard-data" => ExportOnboardData,
}

/// How an export went.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ExportReport {
    /// Which run.
    pub export: ExportId,
    /// When it began.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub started_at: Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// Each integration, in the order given.
    pub integrations: Vec<IntegrationReport>,
}

impl ExportReport {
    /// Whether every integration, and every project of each, is done.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.integrations.iter().all(|it| it.state == IntegrationOutcome::Done && it.failed_projects() == 0)
    }
}

/// How one integration went.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct IntegrationReport {
    /// Which configured one.
    pub integration: IntegrationId,
    /// Its kind.
    pub name: IntegrationName,
    /// How it ended.
    pub state: IntegrationOutcome,
    /// Whether checkpoints of an earlier run were used.
    pub mode: ExportMode,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// What it delivered, by model: only what is durable.
    pub models: Vec<ModelCount>,
    /// Every project that it looked at.
    pub projects: Vec<ProjectResult>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// Whether it wants another configuration kept from now on. What that is stays on the host: it may hold secrets.
    #[serde(default)]
    pub config_changed: bool,
}

impl IntegrationReport {
    /// How many of its projects failed.
    #[must_use]
    pub fn failed_projects(&self) -> usize {
        self.projects.iter().filter(|it| it.state == crate::integration::ProjectState::Failed).count()
    }
}

/// How an integration's export ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum IntegrationOutcome {
    /// It answered `export`.
    Done,
    /// It failed; what was durable by then is kept.
    Failed,
    /// It was cancelled; what was durable by then is kept.
    Cancelled,
}

/// Whether an export began from nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ExportMode {
    /// No checkpoint was given back.
    Historical,
    /// At least one checkpoint of an earlier run was given back.
    Incremental,
}

/// How much of a model was exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModelCount {
    /// Which.
    pub model: Model,
    /// How many objects.
    pub objects: u64,
    /// Their JSON in bytes, before compression.
    pub bytes: u64,
    /// From the first session of the model to the end of the last, in milliseconds.
    pub duration_ms: u64,
}

/// What a configuration is worth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ValidateReport {
    /// Which configured integration.
    pub integration: IntegrationId,
    /// The version of its program.
    pub integration_version: String,
    /// Everything that is wrong; none means valid.
    pub errors: Vec<ConfigError>,
    /// What the source says of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceInfo>,
}

/// Lists from which a person chooses what to export.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OnboardReport {
    /// Which configured integration.
    pub integration: IntegrationId,
    /// `users`, `repos`, `projects`, or a kind of the integration's own.
    pub kind: String,
    /// What it answered.
    pub outcome: OnboardOutcome,
}

/// What an integration answered to a request for onboarding data.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum OnboardOutcome {
    /// The list.
    Records {
        /// In the integration's own shape; each has at least `id` and `name`.
        records: Vec<Raw>,
    },
    /// This integration does not offer that kind.
    NotSupported,
}

#[derive(Deserialize)]
struct OnboardRecords {
    records: Vec<Raw>,
}

impl<'de> Deserialize<'de> for OnboardOutcome {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let object = Tagged::read("outcome", from)?;
        match object.variant.as_str() {
            "records" => object.parse().map(|OnboardRecords { records }| Self::Records { records }),
            "not_supported" => Ok(Self::NotSupported),
            other => Err(D::Error::unknown_variant(other, &["records", "not_supported"])),
        }
    }
}
