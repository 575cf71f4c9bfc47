//! The section `collect` that the backend ordered, in `state/collect-ordered.json`; and whose section is in effect.
//!
//! **Invariant:** what is in the file was read as a section of the backend's when it was written, and is again each time
//! that it is read: a file that was changed by hand names no file of the host either.
//!
//! The file is part of the state since schema 1, where it may be missing: a version that does not know it leaves it as it is.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use outrider_protocol::Raw;
use outrider_protocol::collect::ordered::CollectSource;
use outrider_protocol::ids::CommandId;
use serde::{Deserialize, Serialize};

use super::CollectConfig;
use crate::atomic::{self, FileError};
use crate::{Config, ConfigFault, Root};

/// A section that the backend ordered.
#[derive(Debug, Clone)]
pub struct OrderedCollect {
    /// By which command.
    pub command: CommandId,
    /// When it was kept.
    pub at: Timestamp,
    /// The section.
    pub section: CollectConfig,
}

/// What is kept cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OrderedError {
    /// The file.
    #[error(transparent)]
    File(FileError),
    /// It holds something else.
    #[error("read the backend's section `collect` in {}: found no such section; order it again, or remove the file", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        err: serde_json::Error,
    },
    /// This version does not take it.
    #[error(
        "the backend's section `collect` in {} cannot be used; order it again:{}",
        path.display(), faults.iter().map(|it| format!("\n  {it}")).collect::<String>()
    )]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong.
        faults: Vec<ConfigFault>,
    },
}

#[derive(Serialize, Deserialize)]
struct Saved {
    command: CommandId,
    at: Timestamp,
    section: Raw,
}

impl OrderedCollect {
    /// What is kept in a root, if anything is.
    ///
    /// # Errors
    /// When the file cannot be read, or this version does not take what it holds.
    pub fn load(root: &Root) -> Result<Option<Self>, OrderedError> {
        let path = root.ordered_collect();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(OrderedError::File(FileError::at("read", &path)(err))),
        };
        let Saved { command, at, section } = match serde_json::from_slice(&bytes) {
            Ok(saved) => saved,
            Err(err) => return Err(OrderedError::Unreadable { path, err }),
        };
        match CollectConfig::read_ordered(section.get()) {
            Ok(section) => Ok(Some(Self { command, at, section })),
            Err(faults) => Err(OrderedError::Invalid { path, faults }),
        }
    }

    /// Keeps it, in place of the one before. It is durable when this returns, and readable by the owner only.
    ///
    /// # Errors
    /// When it cannot be written; the one before is then untouched.
    pub fn save(&self, root: &Root) -> Result<(), FileError> {
        let path = root.ordered_collect();
        let section = self.section.raw().clone();
        let saved = Saved { command: self.command.clone(), at: self.at, section };
        let bytes =
            serde_json::to_vec(&saved).map_err(|err| FileError::at("put into JSON", &path)(err.into()))?;
        atomic::write(&path, &bytes, atomic::PRIVATE)
    }

    /// Forgets what is kept, durably, and with it what waits for its outputs.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn clear(root: &Root) -> Result<(), FileError> {
        let path = root.ordered_collect();
        match std::fs::remove_file(&path) {
            Ok(()) => atomic::sync_folder(&root.state())?,
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            Err(err) => return Err(FileError::at("remove", &path)(err)),
        }
        let waits = root.ordered_queues();
        match std::fs::remove_dir_all(&waits) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => Err(FileError::at("remove", &waits)(err)),
            _ => Ok(()),
        }
    }
}

impl Config {
    /// Whose section is in effect, and which: that of config.json, where there is one, as a whole; else the backend's, unless
    /// config.json forbids it.
    #[must_use]
    pub fn collects<'c>(
        &'c self,
        ordered: Option<&'c OrderedCollect>,
    ) -> Option<(CollectSource, &'c CollectConfig)> {
        match (&self.collect, ordered) {
            (Some(own), _) => Some((CollectSource::Config, own)),
            (None, Some(ordered)) if self.backend_collect => Some((CollectSource::Backend, &ordered.section)),
            (None, _) => None,
        }
    }

    /// Why a section of the backend's is not in effect, where it is not.
    #[must_use]
    pub fn overrules_backend(&self) -> Option<&'static str> {
        if !self.backend_collect {
            Some(
                "config.json of the host says `backend_collect`: false, so that no section of the backend is used",
            )
        } else if self.collect.is_some() {
            Some(
                "config.json of the host has a section `collect` of its own, which wins as a whole; the backend's is used \
                 once that is removed",
            )
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fresh;

    const SECTION: &str = r#"{"target": {"below": "/"}, "outputs": [
        {"kind": "otlp", "url": "http://127.0.0.1:4318", "token": "not-a-real-token"}],
        "apis": [{"name": "a", "systems": [{"name": "s", "vdcs": [{"name": "v", "nodes": ["10.0.0.1:1"]}],
            "login": {"kind": "header", "name": "X-Key", "value": "not-a-real-value"}}],
            "apis": [{"name": "b", "level": "system", "path": "/b?key=not-a-real-key",
                "body": {"again": "it is not-a-real-value", "client_secret": "not-a-real-secret"}}]}]}"#;

    fn ordered(section: &str) -> OrderedCollect {
        let section = CollectConfig::read_ordered(section).unwrap();
        OrderedCollect { command: "c1".parse().unwrap(), at: Timestamp::UNIX_EPOCH, section }
    }

    #[test]
    fn what_is_kept_is_found_again_as_it_came_and_is_for_the_owner_alone() {
        let (_folder, root) = fresh();
        assert!(OrderedCollect::load(&root).unwrap().is_none());
        ordered(SECTION).save(&root).unwrap();
        let kept = OrderedCollect::load(&root).unwrap().unwrap();
        assert_eq!((kept.section.raw().get(), kept.command.as_str()), (SECTION, "c1"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(root.ordered_collect()).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let waits = root.ordered_queues().join("influx");
        std::fs::create_dir_all(&waits).unwrap();
        OrderedCollect::clear(&root).unwrap();
        OrderedCollect::clear(&root).unwrap();
        assert!(!root.ordered_queues().exists(), "nor does anything wait for its outputs");
        assert!(OrderedCollect::load(&root).unwrap().is_none());
    }

    #[test]
    fn what_is_shown_of_it_holds_no_secret() {
        let shown = ordered(SECTION).section.shown();
        assert!(!shown.to_string().contains("not-a-real"), "{shown}");
        assert_eq!(shown["outputs"][0]["token"], "***");
        assert_eq!(shown["apis"][0]["systems"][0]["login"]["value"], "***");
        assert_eq!(shown["outputs"][0]["url"], "http://127.0.0.1:4318");
        assert_eq!(
            (&shown["apis"][0]["apis"][0]["path"], &shown["apis"][0]["apis"][0]["body"]),
            (&"/b?***".into(), &"***".into())
        );
    }

    #[test]
    fn what_it_takes_of_the_host_is_bounded() {
        let output = |at: usize, more: &str| {
            format!(r#"{{"kind": "statsd", "name": "{at}", "address": "h:1"{more}}}"#)
        };
        let outputs = |count: usize, more: &str| {
            let all: Vec<_> = (0..count).map(|at| output(at, more)).collect();
            format!(r#"{{"outputs": [{}]}}"#, all.join(","))
        };
        let nodes: Vec<_> = (0..100).map(|at| format!(r#""10.0.0.1:{}""#, at + 1)).collect();
        let apis: Vec<_> =
            (0..51).map(|at| format!(r#"{{"name": "{at}", "level": "node", "path": "/"}}"#)).collect();
        let polled = |more: &str| {
            format!(
                r#"{{"apis": [{{"name": "a"{more}, "systems": [{{"name": "s", "vdcs": [{{"name": "v", "nodes": [{}]}}]}}],
                    "apis": [{}]}}]}}"#,
                nodes.join(","),
                apis.join(",")
            )
        };
        for (section, expected) in [
            (outputs(17, ""), "17 outputs, expected at most 16"),
            (outputs(5, r#", "queue_points": 1000000"#), "5000000 points that may wait in memory"),
            (outputs(1, r#", "queue_bytes": 67108865"#), "from 1048576 to 67108864"),
            (polled(""), "5100 APIs of nodes"),
            (polled(r#", "answer_bytes": 1073741824"#), "1073741824 bytes of an answer"),
            (polled(r#", "events": 10000000"#), "10000000 events of a poll"),
        ] {
            let faults = CollectConfig::read_ordered(&section).unwrap_err();
            let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
            assert!(told.iter().any(|it| it.contains(expected)), "{expected}: {told:?}");
            let (_folder, root) = fresh();
            let operators = CollectConfig::read(&section, &root);
            assert!(operators.is_ok(), "an operator may: {operators:?}");
        }
        let aggregator = r#"{"outputs": [{"kind": "aggregator", "address": "h:1"}]}"#;
        let section = CollectConfig::read_ordered(aggregator).unwrap();
        assert_eq!(section.outputs[0].queue_bytes, Some(64 << 20));
    }

    #[test]
    fn a_file_that_was_changed_is_no_way_around_what_a_backend_may_name() {
        let (_folder, root) = fresh();
        for (text, expected) in [
            ("{", "order it again, or remove the file"),
            (
                r#"{"command": "c1", "at": "2026-01-01T00:00:00Z", "section": {"mount_path": "/"}}"#,
                "/mount_path: found a path on the host",
            ),
        ] {
            std::fs::write(root.ordered_collect(), text).unwrap();
            let err = OrderedCollect::load(&root).unwrap_err().to_string();
            assert!(err.contains(expected), "{err}");
        }
    }
}
