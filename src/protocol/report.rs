//! What an action answers: the outcome of a command, down to each integration and project.

use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::Raw;
use crate::action::IntegrationConfig;
use crate::collect::ordered::CollectOrderReport;
use crate::crash::Crash;
use crate::fault::{Fault, Retry};
use crate::ids::{ExportId, IntegrationId, IntegrationName, Model};
use crate::integration::{ConfigError, InitializeReply, ProjectState, SourceInfo};
use crate::tagged::Tagged;
use crate::upgrade::UpgradeReport;

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
    /// Of `describe-integrations`.
    DescribeIntegrations(DescribeReport),
    /// Of `upgrade`.
    Upgrade(UpgradeReport),
    /// Of `configure-collect`.
    ConfigureCollect(CollectOrderReport),
}

crate::tagged::tagged! { ActionReport by "action":
    "export" => Export,
    "validate-config" => ValidateConfig,
    "export-onboard-data" => ExportOnboardData,
    "describe-integrations" => DescribeIntegrations,
    "upgrade" => Upgrade,
    "configure-collect" => ConfigureCollect,
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
    /// How many files were sealed, from which the backend knows when it has them all. Missing where that stands in
    /// `continued`, where some could not be completed (whoever opens the spool next does that, and counts them), and while
    /// the export runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// Of an export that was gone on with after a death, when its earlier lives had sealed files. Those are not in `files`'
    /// place, since a backend that does not know of `earlier` would hold them against the counts of the last life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continued: Option<Continued>,
}

impl ExportReport {
    /// Whether every integration, and every project of each, is done.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.integrations.iter().all(|it| it.state == IntegrationOutcome::Done && it.failed_projects() == 0)
    }

    /// How many files were sealed in all lives of the export, if it is known.
    #[must_use]
    pub fn all_files(&self) -> Option<u64> {
        self.continued.as_ref().map_or(self.files, |it| it.files)
    }
}

/// The files of an export whose service or action died, and that was gone on with under the same id.
///
/// They are read from the spool's manifest, which survives a `kill -9` and a power cut and speaks of all files, also of those
/// that were acknowledged and have expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Continued {
    /// How many files its earlier lives had left when the last one began.
    pub earlier_files: u64,
    /// How many there are in all. Missing where some could not be completed, as in [`ExportReport::files`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
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
    /// What it delivered, by model: only what is durable. Where an export was gone on with after a death, in its last life.
    pub models: Vec<ModelCount>,
    /// What was durable of it when the last life of the export began, by model: all that earlier lives delivered, no matter
    /// whether they came to count it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<EarlierCount>,
    /// The projects that it looked at: all of them, or, of very many, those that failed and as many others as there is
    /// room for. Where it died, failed or was cancelled before it named them, here stands what its sessions are about, the
    /// first two objects of each path, so also what projects are a part of: done where its sessions were, failed where one
    /// was open.
    pub projects: Vec<ProjectReport>,
    /// How many more there were than are listed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_projects: u64,
    /// How often it was started: more than once where it failed and was tried again.
    #[serde(default = "once")]
    pub attempts: u32,
    /// How its process died, if it did, in the last attempt. The agent tells the backend of the deaths of all attempts as it
    /// tells of any crash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash: Option<Crash>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// Whether it wants another configuration kept from now on. What that is stays on the host: it may hold secrets.
    #[serde(default)]
    pub config_changed: bool,
    /// The last-processed values that it stored. Only where the operator of the agent's host has set
    /// `share_last_processed` in config.json: otherwise this is missing, and they stay on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_processed: Option<LastProcessed>,
}

impl IntegrationReport {
    /// How many of its projects failed.
    #[must_use]
    pub fn failed_projects(&self) -> usize {
        self.projects.iter().filter(|it| it.state == ProjectState::Failed).count()
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn once() -> u32 {
    1
}

/// How one project of an integration went.
///
/// Its numbers are those of its sessions: a session belongs to each object on the first four sessions of its path, its own
/// included, and to a project when the project's id is one of theirs. They are of all attempts together, and 0 where no
/// session belongs to it. (An agent counts 131,072 objects of an integration, the first that it meets.)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProjectReport {
    /// The source's id of the project.
    pub id: String,
    /// A name for people.
    pub name: String,
    /// How it went.
    pub state: ProjectState,
    /// Whether checkpoints of an earlier run were used.
    pub mode: ExportMode,
    /// How many objects of its sessions are durable.
    pub objects: u64,
    /// Their JSON in bytes, before compression.
    pub bytes: u64,
    /// How many objects were left out because the backend has them unchanged.
    #[serde(default)]
    pub unchanged: u64,
    /// From the start of its first session to the end of its last, in milliseconds.
    pub duration_ms: u64,
    /// Why it failed or was skipped, with the last lines of the log about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// Last-processed values of one integration, as an agent shares them.
///
/// They are those that became durable since the export was last begun or gone on with, in the order in which they did: of
/// each session the last one. Of an export of everything again there are none until they have taken the place of the old ones.
/// Secrets that the agent knows have stars in their place. An agent lists the first sessions for which there is room: 1,000 of
/// an integration, with 256 KiB of paths and values, and 4 MiB of all integrations together.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LastProcessed {
    /// A session each.
    #[serde(default)]
    pub values: Vec<SessionValue>,
    /// How many more sessions stored one than are listed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
}

/// The last-processed value of a session.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionValue {
    /// The sessions from the root down: the name of each, and the id of the object that it is about.
    pub path: Vec<(String, Option<String>)>,
    /// How long the value is on the host, as JSON in bytes.
    pub bytes: u64,
    /// The value, in the integration's own shape; missing where it is longer than an agent shares, which is 4 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Raw>,
}

impl SessionValue {
    /// Its session for people: `organization 42 / sourcecode.Repo`. Two may read alike.
    #[must_use]
    pub fn session(&self) -> String {
        let part = |(name, object): &(String, Option<String>)| match object {
            Some(object) => format!("{name} {object}"),
            None => name.clone(),
        };
        self.path.iter().map(part).collect::<Vec<_>>().join(" / ")
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
    /// How many were left out because the backend has them unchanged.
    #[serde(default)]
    pub unchanged: u64,
    /// How many could not be taken; the log names the first of each batch.
    #[serde(default)]
    pub rejected: u64,
    /// From the first session of the model to the end of the last, in milliseconds.
    pub duration_ms: u64,
}

/// How much of a model earlier lives of an export left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EarlierCount {
    /// Which.
    pub model: Model,
    /// How many objects.
    pub objects: u64,
    /// Their JSON in bytes, before compression, a line feed each included.
    pub bytes: u64,
    /// In how many files.
    pub files: u64,
}

/// What a configuration is worth.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    /// What the backend is to keep and to send from now on in place of the configuration: its secrets are encrypted
    /// for this host. Only where [`crate::action::ValidateOrder::seal`] asked for it and the configuration is valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<IntegrationConfig>,
}

/// What the integrations that are installed on a host say of themselves.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DescribeReport {
    /// Each that answered, by name.
    pub integrations: Vec<InstalledIntegration>,
    /// Each that did not, and why.
    #[serde(default)]
    pub failed: Vec<BrokenIntegration>,
}

/// An integration that is installed on a host.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InstalledIntegration {
    /// Its kind: the name of its program.
    pub name: IntegrationName,
    /// What it says of itself, its configuration's schema included.
    pub about: InitializeReply,
}

/// An integration that is installed on a host and does not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BrokenIntegration {
    /// Its kind: the name of its program.
    pub name: IntegrationName,
    /// Why it could not say anything of itself.
    pub error: Failure,
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

#[cfg(test)]
mod tests {
    use super::*;

    const INTEGRATION: &str = r#""integration":"git","name":"git","state":"done","mode":"historical","duration_ms":1,"models":[],"projects":[],"attempts":1,"config_changed":false"#;

    #[test]
    fn the_files_of_all_lives_are_those_of_the_only_one_or_what_is_said_of_all() {
        let files = |said: &str| {
            let text = format!(
                r#"{{"export":"e1","started_at":"2026-11-21T08:00:00Z","duration_ms":1,"integrations":[]{said}}}"#
            );
            let report: ExportReport = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&report).unwrap(), text);
            report.all_files()
        };
        assert_eq!(files(""), None);
        assert_eq!(files(r#","files":3"#), Some(3));
        assert_eq!(files(r#","continued":{"earlier_files":2,"files":5}"#), Some(5));
        assert_eq!(files(r#","continued":{"earlier_files":2}"#), None);
    }

    #[test]
    fn a_report_without_last_processed_values_is_read_and_written_without_them() {
        let text = format!("{{{INTEGRATION}}}");
        let report: IntegrationReport = serde_json::from_str(&text).unwrap();
        assert!(report.last_processed.is_none());
        assert_eq!(serde_json::to_string(&report).unwrap(), text);
    }

    #[test]
    fn last_processed_values_pass_through_a_report_as_they_came() {
        let shared = r#"{"values":[{"path":[["organization",null],["a.Repo","1"]],"bytes":31,"value":{ "z": 12345678901234567890123, "a": 1.10 }},{"path":[["a.Repo","2"]],"bytes":4097}],"more":3}"#;
        let text = format!(
            r#"{{"action":"export","export":"e1","started_at":"2026-11-21T08:00:00Z","duration_ms":1,"integrations":[{{{INTEGRATION},"last_processed":{shared}}}]}}"#
        );
        let report: ActionReport = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&report).unwrap(), text);
        let ActionReport::Export(report) = report else { panic!() };
        let values = &report.integrations[0].last_processed.as_ref().unwrap().values;
        assert_eq!(values[0].session(), "organization / a.Repo 1");
        assert!(values[1].value.is_none());
    }

    #[test]
    fn what_a_later_agent_says_of_a_value_beside_is_no_obstacle() {
        let shared = r#"{"values":[{"path":[["a.Repo","2"]],"bytes":4097,"why":"long"}],"since":7}"#;
        let found: LastProcessed = serde_json::from_str(shared).unwrap();
        assert_eq!((found.values.len(), found.more), (1, 0));
        assert!(serde_json::from_str::<LastProcessed>("{}").unwrap().values.is_empty());
    }
}
