//! Files that a backend with an older database has lost and that are no longer kept here: what is missing there until somebody
//! exports it again. It lies in the root's `state`, which belongs to one backend; an agent that is enrolled anew has lost
//! nothing of its own.
//!
//! **Invariant:** what was lost stays counted, over restarts, until an export of everything that was ordered later is done.

use std::path::PathBuf;

use jiff::Timestamp;
use outrider_home::{FileError, Root, atomic};
use outrider_protocol::fault::chain;
use outrider_protocol::ids::AgentId;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Lost {
    files: u64,
    /// Of which agent the backend had them.
    agent: AgentId,
    /// When it was noticed last.
    at: Timestamp,
}

fn path(root: &Root) -> PathBuf {
    root.state().join("lost.json")
}

/// Nothing where there is no file that can be read.
fn read(root: &Root) -> Option<Lost> {
    serde_json::from_slice(&std::fs::read(path(root)).ok()?).ok()
}

/// How many files are missing.
pub(crate) fn files(root: &Root) -> u64 {
    read(root).map_or(0, |it| it.files)
}

/// An agent begins with this root: what another one had lost is none of its own.
pub(crate) fn begin(root: &Root, agent: &AgentId) {
    if read(root).is_some_and(|it| it.agent != *agent) {
        remove(root);
    }
}

/// So many more are.
pub(crate) fn add(root: &Root, agent: &AgentId, files: u64, at: Timestamp) {
    let lost = Lost { files: self::files(root).saturating_add(files), agent: agent.clone(), at };
    let saved: Result<(), FileError> =
        atomic::write(&path(root), &serde_json::to_vec(&lost).unwrap_or_default(), atomic::PRIVATE);
    if let Err(err) = saved {
        tracing::error!(
            files,
            error = chain(&err),
            "That the backend has lost files is not kept; it will not show it."
        );
    }
}

/// An export of everything is done that was ordered then: what had been lost before is there again.
pub(crate) fn made_good(root: &Root, ordered: Timestamp) {
    if read(root).is_none_or(|it| it.at >= ordered) {
        return;
    }
    remove(root);
}

fn remove(root: &Root) {
    if let Err(err) = std::fs::remove_file(path(root)) {
        tracing::warn!(%err, "Files that the backend had lost and has again still count as lost.");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_counts_until_everything_is_exported_that_was_ordered_later() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        root.create().unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        let [agent, other] = ["a1", "a2"].map(|it| AgentId::new(it).unwrap());
        assert_eq!(files(&root), 0);
        add(&root, &agent, 2, at(10));
        add(&root, &agent, 3, at(20));
        made_good(&root, at(15));
        assert_eq!(files(&root), 5, "ordered before the last loss");
        made_good(&root, at(21));
        made_good(&root, at(22));
        assert_eq!(files(&root), 0);
        add(&root, &agent, 1, at(30));
        begin(&root, &agent);
        assert_eq!(files(&root), 1);
        begin(&root, &other);
        assert_eq!(files(&root), 0);
    }
}
