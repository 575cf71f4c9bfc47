//! Upgrades of the agent: the order, how far an attempt is, and how it ended.
//!
//! An *attempt* goes `requested` → `scheduled` → `downloading` → `verifying` → `extracting` → `arming` → `switching` →
//! `restarting` → `watching`, and ends in exactly one of the others. `done` is said by the new version alone; that nothing
//! is heard says nothing.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::action::AgentConfig;
use crate::ids::CommandId;

/// An order to upgrade the agent.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UpgradeOrder {
    /// What holds for the whole agent.
    #[serde(default)]
    pub agent: AgentConfig,
    /// Which version, as `1.4.2` or `1.5.0-SNAPSHOT`; the newest of the agent's channel where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Where signed releases lie, the first choice first: `https://` addresses, or folders of the host. The backend's own
    /// where none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// Not before this time. The command's `expires_at` is the end of the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub start_at: Option<Timestamp>,
    /// An older version than the running one may be installed.
    #[serde(default)]
    pub allow_downgrade: bool,
    /// A version that was rolled back here before is tried again.
    #[serde(default)]
    pub force: bool,
    /// The version that ran before is meant, which is on the host already: nothing is looked up or fetched. Only people on
    /// the host may want that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub previous: bool,
    /// A version below the floor may be installed, which whoever signs releases has set. Only people on the host may want
    /// that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub below_floor: bool,
}

/// A build of the agent. Two are the same only when all three are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Build {
    /// As `1.4.2`.
    pub version: String,
    /// Whether it was made between releases.
    pub snapshot: bool,
    /// The commit that it was made of, in hex.
    pub hash: String,
}

impl std::fmt::Display for Build {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        /// Enough of a commit to tell it from others.
        const SHOWN: usize = 8;
        let snapshot = if self.snapshot { "-SNAPSHOT" } else { "" };
        let hash: String = self.hash.chars().take(SHOWN).collect();
        write!(f, "{}{snapshot} ({hash})", self.version)
    }
}

/// Where an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum UpgradeState {
    /// The agent has the order.
    Requested,
    /// It waits for the beginning of its window.
    Scheduled,
    /// The package is being fetched.
    Downloading,
    /// The package is held against what was signed.
    Verifying,
    /// The package is being unpacked.
    Extracting,
    /// The watcher is started, and the actions are stopped.
    Arming,
    /// `current` is being set to the new version.
    Switching,
    /// The service goes over to the new version.
    Restarting,
    /// The new version runs and has to prove itself.
    Watching,
    /// The new version runs for good. An end.
    Done,
    /// The version before runs again. An end.
    RolledBack,
    /// Nothing was changed. An end.
    Failed,
    /// It was cancelled before the switch. An end.
    Cancelled,
    /// Its window had passed. An end.
    Expired,
    /// A later order took its place before the switch. An end.
    Superseded,
    /// That very build runs already. An end.
    AlreadyCurrent,
}

impl UpgradeOrder {
    /// To the version before. A person means what they say: that it is older, and that it was taken back once, is no reason
    /// against it.
    #[must_use]
    pub fn to_previous() -> Self {
        Self { previous: true, allow_downgrade: true, force: true, ..Self::default() }
    }

    /// The same without what only people on the host may want, whoever sent it.
    #[must_use]
    pub fn from_afar(self) -> Self {
        Self { previous: false, below_floor: false, ..self }
    }
}

impl UpgradeState {
    /// Whether the attempt is over.
    #[must_use]
    pub fn is_end(self) -> bool {
        matches!(
            self,
            Self::Done
                | Self::RolledBack
                | Self::Failed
                | Self::Cancelled
                | Self::Expired
                | Self::Superseded
                | Self::AlreadyCurrent
        )
    }

    /// Whether the attempt is over, and the wanted version runs.
    #[must_use]
    pub fn is_good(self) -> bool {
        matches!(self, Self::Done | Self::AlreadyCurrent)
    }

    /// Whether `current` may be, or is, the new version already: from here on an attempt is not cancelled.
    #[must_use]
    pub fn is_switched(self) -> bool {
        matches!(self, Self::Switching | Self::Restarting | Self::Watching)
    }

    /// In one word, for people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Scheduled => "scheduled",
            Self::Downloading => "downloading",
            Self::Verifying => "verifying",
            Self::Extracting => "extracting",
            Self::Arming => "arming",
            Self::Switching => "switching",
            Self::Restarting => "restarting",
            Self::Watching => "watching",
            Self::Done => "done",
            Self::RolledBack => "rolled back",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Superseded => "superseded",
            Self::AlreadyCurrent => "already current",
        }
    }
}

/// How far an attempt is. The latest wins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UpgradeProgress {
    /// Which attempt.
    pub attempt: String,
    /// Where it is.
    pub state: UpgradeState,
    /// What it upgrades to, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Build>,
    /// When it begins, where the state is `scheduled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub scheduled_at: Option<Timestamp>,
    /// How much is fetched, from 0 to 100, where the state is `downloading`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// How fast, in bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_s: Option<u64>,
    /// What went wrong with the last try, where there will be another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_error: Option<String>,
    /// Until when it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub retry_until: Option<Timestamp>,
}

impl UpgradeProgress {
    /// Where an attempt is, and nothing else of it.
    #[must_use]
    pub fn new(attempt: impl Into<String>, state: UpgradeState) -> Self {
        Self {
            attempt: attempt.into(),
            state,
            to: None,
            scheduled_at: None,
            percent: None,
            bytes_per_s: None,
            retry_error: None,
            retry_until: None,
        }
    }
}

/// How an attempt ended: the one terminal record of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UpgradeReport {
    /// Which attempt.
    pub attempt: String,
    /// The command that ordered it; nothing when a person did, on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandId>,
    /// An end.
    pub state: UpgradeState,
    /// What ran before, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Build>,
    /// What it was to upgrade to, once that was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Build>,
    /// Why it ended so, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where it was when it failed or was rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<UpgradeState>,
    /// Whether the same order may do better later.
    #[serde(default)]
    pub retryable: bool,
    /// When the agent took the order.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub started_at: Timestamp,
    /// When it ended.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub ended_at: Timestamp,
}

impl UpgradeReport {
    /// How it ended, in a line for people: `upgraded to 1.4.2 (0123abcd)`, `failed while downloading: …`.
    #[must_use]
    pub fn outcome(&self) -> String {
        let name = |build: &Option<Build>, unknown: &str| {
            build.as_ref().map_or(unknown.to_owned(), Build::to_string)
        };
        let (at, why) = (self.failed_at, self.reason.as_deref());
        let what = match self.state {
            UpgradeState::Done => format!("upgraded to {}", name(&self.to, "another version")),
            UpgradeState::RolledBack => format!("rolled back to {}", name(&self.from, "the version before")),
            UpgradeState::AlreadyCurrent => {
                let build = self.to.as_ref().or(self.from.as_ref());
                build.map_or_else(|| self.state.word().to_owned(), |it| format!("already current: {it}"))
            }
            state => state.word().to_owned(),
        };
        let at = at.map(|it| format!(" while {}", it.word())).unwrap_or_default();
        let why = why.filter(|it| !it.is_empty() && !self.state.is_good()).map(|it| format!(": {it}"));
        format!("{what}{at}{}", why.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(version: &str) -> Option<Build> {
        Some(Build { version: version.into(), snapshot: false, hash: "0123abcd4567".into() })
    }

    #[test]
    fn an_outcome_is_said_in_one_line() {
        let mut report = UpgradeReport {
            attempt: "c1".into(),
            command: None,
            state: UpgradeState::Done,
            from: build("1.4.1"),
            to: build("1.4.2"),
            reason: None,
            failed_at: None,
            retryable: false,
            started_at: Timestamp::UNIX_EPOCH,
            ended_at: Timestamp::UNIX_EPOCH,
        };
        assert_eq!(report.outcome(), "upgraded to 1.4.2 (0123abcd)");
        report.state = UpgradeState::AlreadyCurrent;
        assert_eq!(report.outcome(), "already current: 1.4.2 (0123abcd)");
        report.state = UpgradeState::RolledBack;
        (report.failed_at, report.reason) = (Some(UpgradeState::Watching), Some("it does not answer".into()));
        assert_eq!(report.outcome(), "rolled back to 1.4.1 (0123abcd) while watching: it does not answer");
        report.state = UpgradeState::Failed;
        report.failed_at = Some(UpgradeState::Downloading);
        assert_eq!(report.outcome(), "failed while downloading: it does not answer");
        (report.state, report.failed_at, report.reason) = (UpgradeState::Expired, None, None);
        assert_eq!(report.outcome(), "expired");
    }

    #[test]
    fn a_build_is_shown_as_people_name_it() {
        let build = Build { version: "1.5.0".into(), snapshot: true, hash: "0123456789abcdef".into() };
        assert_eq!(build.to_string(), "1.5.0-SNAPSHOT (01234567)");
    }

    #[test]
    fn an_order_of_nothing_is_for_the_newest() {
        let order: UpgradeOrder = serde_json::from_str("{}").unwrap();
        assert!(order.version.is_none() && !order.allow_downgrade && !order.force);
    }
}
