//! What an agent remembers of a repository: the last verified metadata and the highest floor, in one file.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tough::schema::{RoleType, Root, Signed};

use crate::error::TrustError;
use crate::files::{self, FileError};
use crate::version::Version;

/// The form of the file.
const SCHEMA: u32 = 1;
/// The file's name.
const FILE: &str = "trust.json";
/// The name of one that could not be read, moved aside.
const DAMAGED: &str = "trust.json.damaged";
/// The files that `tough` keeps, by the fields they become.
const ROOT: &str = "root.json";
const TIMESTAMP: &str = "timestamp.json";
const SNAPSHOT: &str = "snapshot.json";
const TARGETS: &str = "targets.json";

/// The remembered state. Nothing in it is a time of this host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct State {
    schema: u32,
    /// The newest verified root.
    root: Option<Box<RawValue>>,
    timestamp: Option<Box<RawValue>>,
    snapshot: Option<Box<RawValue>>,
    targets: Option<Box<RawValue>>,
    /// The highest floor that a verified targets.json named.
    pub(crate) floor: Option<Version>,
}

impl Default for State {
    fn default() -> Self {
        Self { schema: SCHEMA, root: None, timestamp: None, snapshot: None, targets: None, floor: None }
    }
}

/// The folder `state/trust` of an agent's root.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    /// Held as long as the store is used.
    _lock: std::fs::File,
}

impl Store {
    /// Opens the folder; makes it, for the owner only, where it is missing. A second opener gets [`TrustError::InUse`].
    pub(crate) fn open(folder: &Path) -> Result<Self, TrustError> {
        files::make_folder(folder, true)?;
        let path = folder.join("lock");
        let at = |err| FileError::at("open", &path)(err);
        let lock =
            std::fs::File::options().create(true).truncate(false).write(true).open(&path).map_err(at)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { folder: folder.to_owned(), _lock: lock }),
            Err(std::fs::TryLockError::WouldBlock) => Err(TrustError::InUse { folder: folder.to_owned() }),
            Err(std::fs::TryLockError::Error(err)) => Err(FileError::at("lock", &path)(err).into()),
        }
    }

    /// What is remembered. A file that cannot be read is moved aside: its path is the second value.
    pub(crate) fn load(&self) -> Result<(State, Option<PathBuf>), TrustError> {
        let path = self.folder.join(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok((State::default(), None)),
            Err(err) => return Err(FileError::at("read", &path)(err).into()),
        };
        match serde_json::from_slice::<State>(&bytes) {
            Ok(state) if state.schema == SCHEMA => Ok((state, None)),
            Ok(state) if state.schema > SCHEMA => {
                Err(TrustError::NewerState { path, found: state.schema, known: SCHEMA })
            }
            _ => {
                let aside = self.folder.join(DAMAGED);
                std::fs::rename(&path, &aside).map_err(FileError::at("move aside", &path))?;
                Ok((State::default(), Some(aside)))
            }
        }
    }

    pub(crate) fn save(&self, state: &State) -> Result<(), TrustError> {
        let bytes = serde_json::to_vec(state).map_err(TrustError::internal)?;
        Ok(files::write(&self.folder.join(FILE), &bytes, files::PRIVATE)?)
    }

    /// A folder with a copy of the state, for `tough` to work in; it is gone when it is dropped.
    pub(crate) fn copy(&self, state: &State) -> Result<tempfile::TempDir, TrustError> {
        self.sweep();
        let at = FileError::at("make a folder in", &self.folder);
        let copy = tempfile::Builder::new().prefix(COPY).tempdir_in(&self.folder).map_err(at)?;
        for (name, value) in
            [(TIMESTAMP, &state.timestamp), (SNAPSHOT, &state.snapshot), (TARGETS, &state.targets)]
        {
            if let Some(value) = value {
                let path = copy.path().join(name);
                std::fs::write(&path, value.get()).map_err(FileError::at("write", &path))?;
            }
        }
        Ok(copy)
    }

    /// Removes the copies of processes that were killed; the lock says that nobody uses them.
    fn sweep(&self) {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(COPY.as_bytes()) {
                // What cannot be removed now does no harm, and is tried again.
                std::fs::remove_dir_all(entry.path()).ok();
            }
        }
    }
}

/// How the names of copies begin.
const COPY: &str = ".copy-";

impl State {
    /// The root to begin with: the remembered one where it is newer than the embedded one, which is the caller's.
    pub(crate) fn trusted_root(&self, embedded: &[u8]) -> Result<Vec<u8>, TrustError> {
        let embedded_root = root(embedded).map_err(|source| TrustError::BadEmbeddedRoot { source })?;
        let kept = self.root.as_deref().filter(|kept| {
            root(kept.get().as_bytes()).is_ok_and(|kept| kept.signed.version > embedded_root.signed.version)
        });
        Ok(kept.map_or_else(|| embedded.to_vec(), |kept| kept.get().as_bytes().to_vec()))
    }

    /// The state after `tough` verified everything and wrote it to `copy`.
    pub(crate) fn verified(copy: &Path, floor: Option<Version>) -> Result<Self, TrustError> {
        let read = |name: &str| {
            let path = copy.join(name);
            let text = std::fs::read_to_string(&path).map_err(FileError::at("read", &path))?;
            RawValue::from_string(text).map(Some).map_err(TrustError::internal)
        };
        let (root, timestamp) = (read(ROOT)?, read(TIMESTAMP)?);
        Ok(Self {
            schema: SCHEMA,
            root,
            timestamp,
            snapshot: read(SNAPSHOT)?,
            targets: read(TARGETS)?,
            floor,
        })
    }

    /// The state after a failure, if the roots in `copy` went beyond `before`, the one that it began with. Where the keys
    /// of timestamp or snapshot were changed, what these had signed is forgotten, so that a stolen key cannot have made
    /// all later versions look old.
    pub(crate) fn with_newer_root(&self, before: &[u8], copy: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(copy.join(ROOT)).ok()?;
        let (old, new) = (root(before).ok()?, root(text.as_bytes()).ok()?);
        (new.signed.version > old.signed.version).then_some(())?;
        let mut state = Self { root: Some(RawValue::from_string(text).ok()?), ..self.clone() };
        let are_same = |role| old.signed.keys(role).eq(new.signed.keys(role));
        if !(are_same(RoleType::Timestamp) && are_same(RoleType::Snapshot)) {
            (state.timestamp, state.snapshot) = (None, None);
        }
        Some(state)
    }
}

fn root(bytes: &[u8]) -> Result<Signed<Root>, serde_json::Error> {
    serde_json::from_slice(bytes)
}
