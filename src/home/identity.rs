//! Whose work lies in a root: remembered beside it, so that no agent of another backend or customer goes on with it.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::atomic::{self, FileError, sync_folder};
use crate::root::make_private;
use crate::{Config, Root, RootLock};

/// How many folders of one second are told apart. More than one comes of a clock that was set back.
const SAME_SECOND: u32 = 100;

/// For whom a root works. What waits in it, the last-processed values and the caches are theirs alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The backend's origin, as [`Config::backend`].
    pub backend: String,
    /// Whose data is exported, where the backend says so.
    pub customer_id: Option<String>,
}

impl Identity {
    /// The identity of an enrolled agent.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self { backend: config.backend.clone(), customer_id: config.customer_id.clone() }
    }

    /// Makes the root this one's. Work of another backend or customer is moved into a folder `before-<time>` of the
    /// root, which is the answer; so is work of which nobody knows whose it is. What was run by hand in a root that never
    /// was an agent counts as this one's. May be repeated after a crash.
    ///
    /// # Errors
    /// When a file or folder cannot be read, moved or written, naming it. What was moved until then stays moved, and the
    /// root remains the other's.
    pub fn take(&self, root: &Root, lock: &RootLock, now: Timestamp) -> Result<Option<PathBuf>, FileError> {
        let found = found(root)?;
        if found == Found::Is(self.clone()) {
            return Ok(None);
        }
        let set_aside = if found == Found::Nobody { None } else { set_aside(root, now)? };
        self.remember(root, lock)?;
        Ok(set_aside)
    }

    /// Notes that the root's work is this one's, whatever was noted before.
    ///
    /// # Errors
    /// When the note cannot be written.
    pub fn remember(&self, root: &Root, _lock: &RootLock) -> Result<(), FileError> {
        // A full disk is no hindrance where nothing is new.
        if found(root).is_ok_and(|found| found == Found::Is(self.clone())) {
            return Ok(());
        }
        make_at(&root.exports())?;
        let path = root.identity_path();
        let text = serde_json::to_vec_pretty(self)
            .map_err(|err| FileError::at("put into JSON", &path)(err.into()))?;
        atomic::write(&path, &text, atomic::PRIVATE)
    }
}

/// Whose a root's work is.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// The root never was an agent.
    Nobody,
    /// It was, and the note is missing or cannot be understood.
    Unknown,
    Is(Identity),
}

fn found(root: &Root) -> Result<Found, FileError> {
    let path = root.identity_path();
    match std::fs::read(&path) {
        Ok(text) => Ok(serde_json::from_slice(&text).map_or(Found::Unknown, Found::Is)),
        // Only the service of an agent makes a journal.
        Err(err) if err.kind() == io::ErrorKind::NotFound && !root.commands_db().exists() => {
            Ok(Found::Nobody)
        }
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Found::Unknown),
        Err(err) => Err(FileError::at("read", &path)(err)),
    }
}

/// Moves all work into a new folder of the root; answers with it, if there was any.
fn set_aside(root: &Root, now: Timestamp) -> Result<Option<PathBuf>, FileError> {
    // The note goes last: until then a repeated call finds whose the rest is.
    let identity = root.identity_path();
    let stays = [root.enrollment_path(), root.startup_path(), root.schema_path()];
    let state = entries(&root.state())?;
    let state = state.into_iter().filter(|it| *it != identity && !stays.contains(it));
    let beside = [root.caches(), root.spool(), root.kept_state(), root.undone_state()];
    let work = beside.into_iter().chain(state);
    let mut full = Vec::new();
    for path in work {
        let has_any = if path.is_dir() { !entries(&path)?.is_empty() } else { path.exists() };
        if has_any {
            full.push(path);
        }
    }
    if full.is_empty() {
        return Ok(None);
    }
    let aside = new_folder(root, now)?;
    let state = aside.join("state");
    make_at(&state)?;
    copy_schema(root, &state)?;
    let note = identity.exists().then_some(identity);
    for from in full.into_iter().chain(note) {
        let name = from.file_name().unwrap_or_default();
        let is_state = from.parent() == Some(&root.state());
        let to = if is_state { state.join(name) } else { aside.join(name) };
        std::fs::rename(&from, &to).map_err(FileError::at("move aside", &from))?;
        sync_folder(if is_state { &state } else { &aside })?;
    }
    for folder in [&root.state(), root.path()] {
        sync_folder(folder)?;
    }
    root.create().map_err(FileError::at("make the folders of", root.path()))?;
    Ok(Some(aside))
}

/// What is moved says which schema it has, as what stays does.
fn copy_schema(root: &Root, to: &Path) -> Result<(), FileError> {
    let from = root.schema_path();
    match std::fs::read(&from) {
        Ok(text) => atomic::write(&to.join(from.file_name().unwrap_or_default()), &text, atomic::PRIVATE),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(err) => Err(FileError::at("read", &from)(err)),
    }
}

fn new_folder(root: &Root, now: Timestamp) -> Result<PathBuf, FileError> {
    let plain = format!("before-{}", now.strftime("%Y%m%dT%H%M%SZ"));
    let named = |n: u32| match n {
        1 => root.path().join(&plain),
        n => root.path().join(format!("{plain}-{n}")),
    };
    let path = (1..SAME_SECOND).map(named).find(|it| !it.exists()).unwrap_or_else(|| named(SAME_SECOND));
    make_at(&path)?;
    Ok(path)
}

fn make_at(folder: &Path) -> Result<(), FileError> {
    make_private(folder).map_err(FileError::at("make the folder", folder))
}

/// What a folder holds; nothing when it is missing.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => return Err(FileError::at("list", folder)(err)),
    };
    let paths = entries.map(|entry| entry.map(|it| it.path()));
    paths.collect::<io::Result<_>>().map_err(FileError::at("list", folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fresh;

    fn identity(backend: &str, customer: Option<&str>) -> Identity {
        Identity { backend: backend.into(), customer_id: customer.map(Into::into) }
    }

    fn take(root: &Root, who: &Identity) -> Option<PathBuf> {
        who.take(root, &root.lock().unwrap(), Timestamp::from_second(1_800_000_000).unwrap()).unwrap()
    }

    /// A file in every place where work lies.
    fn work(root: &Root) -> [PathBuf; 4] {
        let files = [
            root.spool().join("e1/sourcecode.Commit/0.json.gz"),
            root.caches().join("git/clone"),
            root.checkpoints_db(),
            root.exports().join("e1.json"),
        ];
        for file in &files {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "work").unwrap();
        }
        files
    }

    #[test]
    fn work_stays_for_the_same_backend_and_customer_only() {
        let one = identity("https://a.example", Some("c1"));
        for (other, stays) in [
            (one.clone(), true),
            (identity("https://b.example", Some("c1")), false),
            (identity("https://a.example", Some("c2")), false),
            (identity("https://a.example", None), false),
        ] {
            let (_folder, root) = fresh();
            assert_eq!(take(&root, &one), None);
            let files = work(&root);
            for own in [root.enrollment_path(), root.startup_path()] {
                std::fs::write(own, "the agent's own").unwrap();
            }
            let aside = take(&root, &other);
            assert_eq!(aside.is_none(), stays, "{other:?}");
            for file in &files {
                assert_eq!(file.exists(), stays, "{}", file.display());
                if let Some(aside) = &aside {
                    let moved = aside.join(file.strip_prefix(root.path()).unwrap());
                    assert_eq!(std::fs::read_to_string(moved).unwrap(), "work");
                }
            }
            if let Some(aside) = &aside {
                let kept = std::fs::read(aside.join("state/identity.json")).unwrap();
                assert_eq!(serde_json::from_slice::<Identity>(&kept).unwrap(), one);
            }
            assert!(root.enrollment_path().exists() && root.startup_path().exists() && root.spool().is_dir());
            assert_eq!(take(&root, &other), None);
        }
    }

    #[test]
    fn a_move_that_was_cut_short_is_ended_by_the_next_and_overwrites_nothing() {
        let (_folder, root) = fresh();
        take(&root, &identity("https://a.example", None));
        work(&root);
        // As after a crash: the spool is moved, and there is new work besides.
        let first = root.path().join("before-20270115T080000Z");
        std::fs::create_dir(&first).unwrap();
        std::fs::rename(root.spool(), first.join("spool")).unwrap();
        let second = take(&root, &identity("https://b.example", None)).unwrap();
        assert_eq!(second, root.path().join("before-20270115T080000Z-2"));
        assert!(first.join("spool/e1").exists() && second.join("cache/git/clone").exists());
        assert!(!root.checkpoints_db().exists());
    }

    #[test]
    fn work_of_nobody_becomes_the_first_agents_and_work_of_an_unknown_agent_does_not() {
        let (_folder, root) = fresh();
        let files = work(&root);
        assert_eq!(take(&root, &identity("https://a.example", None)), None);
        assert!(files.iter().all(|it| it.exists()));

        let (_folder, root) = fresh();
        work(&root);
        std::fs::write(root.commands_db(), "journal").unwrap();
        let aside = take(&root, &identity("https://a.example", None)).unwrap();
        assert!(aside.join("state/commands.redb").exists());

        std::fs::write(root.identity_path(), "{").unwrap();
        work(&root);
        assert!(take(&root, &identity("https://a.example", None)).is_some());
    }

    #[test]
    fn a_root_without_work_gets_no_folder_of_work_set_aside() {
        let (_folder, root) = fresh();
        take(&root, &identity("https://a.example", None));
        assert_eq!(take(&root, &identity("https://b.example", None)), None);
        assert_eq!(take(&root, &identity("https://b.example", None)), None);
    }
}
