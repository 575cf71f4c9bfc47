//! How many files the backend has acknowledged, over restarts: a backend that has fewer came back with an older database.
//!
//! **Invariant:** the count is never higher than what was acknowledged less what was found to be lost: it is raised after
//! a file has moved to `sent/`. A crash in between leaves it one too low, which hides the loss of one file at most.
//!
//! **Invariant:** it counts what was acknowledged to one agent: a root that was enrolled anew is another one to the backend,
//! which has nothing of it yet and has lost nothing.

use std::fs::{DirBuilder, File};
use std::io;
use std::path::{Path, PathBuf};

use outrider_home::{FileError, Root, atomic};
use outrider_protocol::fault::chain;
use outrider_protocol::ids::AgentId;
use serde::{Deserialize, Serialize};

/// The count, and the file that keeps it. It lies in the root's `state`, which belongs to one backend.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    files: u64,
    agent: AgentId,
}

/// As it stands in the file.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    files: u64,
    /// To whom they were acknowledged; nothing where an older version wrote it, which knew of one agent.
    #[serde(default)]
    agent: Option<AgentId>,
}

impl Ledger {
    /// The count of a root; none where there is no file that can be read, which hides losses and makes up none.
    pub(crate) fn open(root: &Root, agent: &AgentId) -> Self {
        let path = root.state().join("acknowledged.json");
        let kept = std::fs::read(&path).ok().and_then(|it| serde_json::from_slice::<Kept>(&it).ok());
        let is_its = |it: &Kept| it.agent.as_ref().is_none_or(|it| it == agent);
        let files = kept.filter(is_its).map_or(0, |it| it.files);
        Self { path, files, agent: agent.clone() }
    }

    pub(crate) fn files(&self) -> u64 {
        self.files
    }

    /// Whose count it is.
    pub(crate) fn agent(&self) -> &AgentId {
        &self.agent
    }

    /// Another file was acknowledged.
    pub(crate) fn add(&mut self) {
        self.save(self.files.saturating_add(1));
    }

    /// The backend has lost so many, and what there was to do about it is done.
    pub(crate) fn lost(&mut self, files: u64) {
        self.save(self.files.saturating_sub(files));
    }

    fn save(&mut self, files: u64) {
        self.files = files;
        let kept = Kept { files, agent: Some(self.agent.clone()) };
        let saved: Result<(), FileError> =
            atomic::write(&self.path, &serde_json::to_vec(&kept).unwrap_or_default(), atomic::PRIVATE);
        if let Err(err) = saved {
            tracing::warn!(error = chain(&err), "The count of acknowledged files was not written.");
        }
    }
}

/// Tells the export action that the backend has forgotten objects, or will not get some: it must not leave any out as unchanged
/// that was put into the spool before. Durable when this returns; may be repeated.
///
/// # Errors
/// When the disk refuses it.
pub fn forget_unchanged(root: &Root) -> io::Result<()> {
    let folder = root.state().join("unchanged");
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(&folder)?;
    match File::create_new(folder.join("reset")) {
        Ok(file) => file.sync_all()?,
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
        Err(err) => return Err(err),
    }
    sync_folder(&folder)?;
    sync_folder(&root.state())
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Windows cannot sync a folder; its file systems journal such changes themselves.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_survives_a_restart_and_neither_another_agent_nor_a_broken_file() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        root.create().unwrap();
        let [agent, other] = ["a1", "a2"].map(|it| AgentId::new(it).unwrap());
        let mut ledger = Ledger::open(&root, &agent);
        (0..3).for_each(|_| ledger.add());
        ledger.lost(1);
        assert_eq!(Ledger::open(&root, &agent).files(), 2);
        assert_eq!(Ledger::open(&root, &other).files(), 0);
        std::fs::write(root.state().join("acknowledged.json"), r#"{"files":7}"#).unwrap();
        assert_eq!(Ledger::open(&root, &agent).files(), 7, "of an older version");
        std::fs::write(root.state().join("acknowledged.json"), "{").unwrap();
        assert_eq!(Ledger::open(&root, &agent).files(), 0);
    }

    #[test]
    fn the_export_action_is_told_once_or_more() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        root.create().unwrap();
        forget_unchanged(&root).unwrap();
        forget_unchanged(&root).unwrap();
        assert!(root.state().join("unchanged/reset").is_file());
    }
}
