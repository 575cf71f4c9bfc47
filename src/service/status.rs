//! What an agent is and does, for a person who asks.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use outrider_home::{Config, ConfigErrors, Journal, LockError, OrderedCollect, Root, State};
use outrider_protocol::fault::chain;
use outrider_protocol::ids::{AgentId, CommandId};
use outrider_protocol::upgrade::{Build, UpgradeReport, UpgradeState};
use outrider_upgrade::installed;
use outrider_versions::Versions;
use serde::Serialize;

use crate::collecting::CollectStatus;
use crate::crashes::Crashes;
use crate::outcome::upgrade::{last_upgrade, state};
use crate::snapshot::{CommandStatus, LinkStatus, Snapshot};
use crate::uplink::lost;
use crate::uplink::uploads;

/// How an agent is.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Its folder.
    pub root: PathBuf,
    /// Whether config.json is there and valid.
    pub enrolled: bool,
    /// What is wrong with config.json, if it is there and not valid.
    pub config_error: Option<String>,
    /// Its id.
    pub agent: Option<AgentId>,
    /// Its backend.
    pub backend: Option<String>,
    /// Which releases it wants.
    pub channel: Option<String>,
    /// The service.
    pub service: ServiceStatus,
    /// Commands that have not ended, in order of arrival.
    pub commands: Vec<CommandStatus>,
    /// Commands that have ended, and whose outcome the backend has not answered.
    pub unreported: usize,
    /// Deaths of processes of which the backend has not heard.
    pub crashes: usize,
    /// Export files that the backend refuses for what is in them, as a running service knows.
    pub refused_files: usize,
    /// Export files that the backend has lost and that are no longer kept here.
    pub lost_files: u64,
    /// Whether collecting runs, as a running service knows; nothing where it is not wanted.
    pub collect: Option<CollectStatus>,
    /// The section `collect` that the backend ordered, where one is kept.
    pub collect_ordered: Option<OrderedStatus>,
    /// Export files that the backend has not acknowledged.
    pub spool_files: u64,
    /// Their size.
    pub spool_bytes: u64,
    /// Which build `current` points to; nothing for an agent that cannot be upgraded.
    pub build: Option<Build>,
    /// The upgrade that is in progress: to which version, and how far it is.
    pub upgrade: Option<UpgradeStatus>,
    /// How the last upgrade ended.
    pub last_upgrade: Option<UpgradeReport>,
    /// Whether the state before an upgrade is kept until that stays; orders and commands wait meanwhile.
    pub state_kept: bool,
    /// What could not be found out, each as a sentence.
    pub unknown: Vec<String>,
}

/// A section `collect` of the backend.
#[derive(Debug, Clone, Serialize)]
pub struct OrderedStatus {
    /// By which command.
    pub command: CommandId,
    /// When it was kept.
    pub at: Timestamp,
    /// Why it is not in effect, where it is not.
    pub idle: Option<&'static str>,
}

/// An upgrade that is in progress.
#[derive(Debug, Clone, Serialize)]
pub struct UpgradeStatus {
    /// To which version.
    pub to: String,
    /// How far it is.
    pub state: UpgradeState,
}

/// How the service is.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ServiceStatus {
    /// It does not run.
    Stopped,
    /// It runs.
    Running {
        /// Its process id, where the system tells.
        pid: Option<u32>,
        /// Its version, once it said so.
        version: Option<String>,
        /// Its way to the backend, once it said so.
        link: Option<LinkStatus>,
    },
}

/// Looks at a root. Never waits for the service, and never fails: what cannot be found out is said so.
#[must_use]
pub fn status(root: &Root) -> Status {
    let mut status = Status {
        root: root.path().to_owned(),
        enrolled: false,
        config_error: None,
        agent: None,
        backend: None,
        channel: None,
        service: ServiceStatus::Stopped,
        commands: Vec::new(),
        unreported: 0,
        crashes: Crashes::of(root).waiting(),
        refused_files: 0,
        lost_files: lost::files(root),
        collect: None,
        collect_ordered: None,
        spool_files: 0,
        spool_bytes: 0,
        build: None,
        upgrade: None,
        last_upgrade: last_upgrade(root),
        state_kept: root.state_is_kept(),
        unknown: root.check_state().err().iter().map(|err| chain(err)).collect(),
    };
    status.versions(&Versions::of(root.path()));
    match Config::load(root) {
        Ok(config) => {
            match OrderedCollect::load(root) {
                Ok(Some(OrderedCollect { command, at, .. })) => {
                    let idle = config.overrules_backend();
                    status.collect_ordered = Some(OrderedStatus { command, at, idle });
                }
                Ok(None) => {}
                Err(err) => status.unknown.push(chain(&err)),
            }
            status.enrolled = true;
            status.agent = Some(config.agent);
            status.backend = Some(config.backend);
            status.channel = Some(config.channel);
        }
        Err(ConfigErrors::NotEnrolled { .. }) => {}
        Err(err) => status.config_error = Some(chain(&err)),
    }
    match root.in_use() {
        Err(LockError::InUse { pid, .. }) => status.running(Snapshot::load(root), pid),
        Ok(()) => status.stopped(root),
        Err(err @ LockError::File(_)) => status.unknown.push(chain(&err)),
    }
    if root.spool().is_dir() {
        match uploads::open(root.spool()).and_then(|spool| spool.usage()) {
            Ok(usage) => {
                (status.spool_files, status.spool_bytes) = (usage.files, usage.bytes);
                status.unknown.extend(usage.failed.iter().map(|(_, err)| chain(err)));
            }
            Err(err) => status.unknown.push(chain(&err)),
        }
    }
    status
}

impl Status {
    fn versions(&mut self, versions: &Versions) {
        let seen = match versions.see() {
            Ok(seen) => seen,
            Err(err) => return self.unknown.push(chain(&err)),
        };
        let current = seen.tree.whole(&seen.links.current);
        let current = current.and_then(|it| installed(&versions.layout().version(it)));
        self.build = current.as_ref().map(Build::from);
        let record = seen.journal.record().filter(|it| !it.phase.is_terminal());
        self.upgrade = record.map(|it| UpgradeStatus { to: it.to.to_string(), state: state(it.phase) });
        let faults = versions.slot_faults();
        self.unknown.extend(faults.iter().map(|it| format!("{}: {}", it.path.display(), it.found)));
    }

    fn running(&mut self, snapshot: Option<Snapshot>, pid: Option<u32>) {
        let (version, link) = snapshot.as_ref().map(|it| (it.version.clone(), it.link.clone())).unzip();
        self.service = ServiceStatus::Running { pid, version, link };
        if let Some(snapshot) = snapshot {
            self.commands = snapshot.commands;
            self.unreported = snapshot.unreported;
            self.refused_files = snapshot.refused_files;
            self.collect = snapshot.collect;
        }
    }

    /// Without a service, the journal itself tells, if it is one that this version reads.
    fn stopped(&mut self, root: &Root) {
        if !root.commands_db().exists() || root.check_state().is_err() {
            return;
        }
        let entries = match Journal::open(root, Duration::ZERO).and_then(|journal| journal.open_entries()) {
            Ok(entries) => entries,
            Err(err) => return self.unknown.push(chain(&err)),
        };
        for entry in entries {
            let (command, stage) = match entry.state {
                State::Queued(command) => (command, "queued"),
                // What became of it is decided by the next start of the service.
                State::Running(command) => (command, "interrupted"),
                State::Ended(_) | State::Acknowledged(_) => {
                    self.unreported += 1;
                    continue;
                }
            };
            self.commands.push(CommandStatus {
                command: command.id,
                action: command.order.action().to_owned(),
                stage: stage.to_owned(),
                taken_at: command.created_at,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_is_not_there_is_neither_enrolled_nor_made() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path().join("none"));
        let status = status(&root);
        assert!(!status.enrolled && status.config_error.is_none() && status.unknown.is_empty(), "{status:?}");
        assert!(!root.path().exists());
    }

    #[test]
    fn a_broken_configuration_and_a_running_service_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        root.create().unwrap();
        std::fs::write(root.config_path(), "{").unwrap();
        let _lock = root.lock().unwrap();
        let status = status(&root);
        assert!(status.config_error.is_some());
        assert!(matches!(status.service, ServiceStatus::Running { pid: Some(_), .. }), "{status:?}");
    }
}
