//! The backend's folder on disk.
//!
//! ```text
//! lock                held while a backend runs: two never share a folder
//! admin-token         the admin API's credential, 0600
//! backend.json        where the running backend listens, for programs on the same machine
//! outrider.db         the database (with -wal and -shm beside it), 0600
//! exports/<agent>/<export>/<model>/<n>.json.gz    uploaded files, or .json.zst; with .part while they grow
//! releases/           signed releases, which anybody may read through the backend, unless it is told of another folder
//! ```
//!
//! **Invariant:** while a backend runs, no other user of the machine can look into the folder. One that was left open is
//! closed; one that is open and not the backend's alone is refused, since others may need it as it is.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use outrider_protocol::action::Compression;
use serde::{Deserialize, Serialize};

use crate::private;
use crate::secret::{self, NoRandomness};
use crate::store::FileKey;

/// What lies in a data folder, by the beginnings of names.
const OURS: [&str; 6] = ["lock", "admin-token", "backend.", "outrider.db", "exports", "releases"];

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Another backend runs in it.
    #[error(
        "the data folder {path} is in use by another outrider-backend; stop that one or name another folder"
    )]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// Others use it, and could read it.
    #[error(
        "the data folder {path} can be used by other users of this machine (mode {mode:o}) and holds {found:?}, which \
         is not the backend's; name a folder of its own, or close this one with `chmod 700`"
    )]
    Shared {
        /// The folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// Something in it that the backend did not put there.
        found: String,
    },
    /// A file or folder in it cannot be made, read or written.
    #[error("{what} {path}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        err: io::Error,
    },
    /// The admin token is not one.
    #[error(
        "the admin token in {path} is empty; remove the file, and the next start of the backend makes a new one"
    )]
    EmptyToken {
        /// The file.
        path: PathBuf,
    },
    /// The address file is not valid.
    #[error(
        "{path} does not say where the backend listens; is one running there? (`outrider-backend serve`)"
    )]
    NoAddress {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        err: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No token could be made.
    #[error("make the admin token")]
    Secret(#[source] NoRandomness),
}

/// Where a running backend listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Its origin: `http://127.0.0.1:7878`.
    pub url: String,
    /// Its process.
    pub pid: u32,
}

/// The paths of a data folder.
#[derive(Debug, Clone)]
pub struct DataFolder {
    path: PathBuf,
}

/// The right to run a backend in a folder, until it is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct DataLock {
    _file: File,
}

impl DataFolder {
    /// The folder at `path`; nothing is touched.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The uploaded files.
    #[must_use]
    pub fn exports(&self) -> PathBuf {
        self.path.join("exports")
    }

    /// The signed releases that the backend serves, where it is told of no other folder.
    #[must_use]
    pub fn releases(&self) -> PathBuf {
        self.path.join("releases")
    }

    /// The file that holds the admin token.
    #[must_use]
    pub fn admin_token_file(&self) -> PathBuf {
        self.path.join("admin-token")
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path.join("outrider.db")
    }

    /// Where an uploaded file lies. Each part of the path is an id, which cannot leave the folder.
    pub(crate) fn file(&self, key: &FileKey, compression: Compression) -> PathBuf {
        let folder =
            self.exports().join(key.agent.as_str()).join(key.export.as_str()).join(key.model.as_str());
        folder.join(format!("{}.json.{}", key.number, compression.extension()))
    }

    /// Makes what is missing, for this user alone, and takes from others what they could have read so far.
    pub(crate) fn create(&self) -> Result<(), DataError> {
        let io = |what, path: &Path| {
            let path = path.to_owned();
            move |err| DataError::Io { what, path, err }
        };
        private::folder(&self.path).map_err(io("make the folder", &self.path))?;
        if let Some(mode) = private::open_to_others(&self.path).map_err(io("look at", &self.path))? {
            if let Some(found) = self.foreign().map_err(io("list", &self.path))? {
                return Err(DataError::Shared { path: self.path.clone(), mode, found });
            }
            tracing::warn!(data = %self.path.display(), mode = format!("{mode:o}"),
                "The data folder could be used by other users of this machine; it is closed now.");
        }
        let (exports, database) = (self.exports(), self.database());
        private::folder(&exports).map_err(io("make the folder", &exports))?;
        private::file(&database).map_err(io("make the database", &database))?;
        // The database gives the files that it makes beside its own the mode of its own.
        let beside = ["-wal", "-shm", "-journal"].map(|end| {
            let mut path = database.clone().into_os_string();
            path.push(end);
            PathBuf::from(path)
        });
        for path in [self.path.clone(), exports, database].iter().chain(&beside) {
            private::tighten(path).map_err(io("close to other users", path))?;
        }
        Ok(())
    }

    /// Something in the folder that no backend put there.
    fn foreign(&self) -> io::Result<Option<String>> {
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !OURS.iter().any(|ours| name.starts_with(ours)) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Takes the folder for this process. The system gives the lock back when the process ends, however it ends.
    pub(crate) fn lock(&self) -> Result<DataLock, DataError> {
        let path = self.path.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|err| DataError::Io { what: "open the lock", path: path.clone(), err })?;
        match file.try_lock() {
            Ok(()) => Ok(DataLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(DataError::InUse { path: self.path.clone() }),
            Err(TryLockError::Error(err)) => Err(DataError::Io { what: "lock", path, err }),
        }
    }

    /// The admin token of this folder.
    ///
    /// # Errors
    /// When the file is missing, cannot be read or is empty.
    pub fn admin_token(&self) -> Result<String, DataError> {
        read_token(&self.admin_token_file())
    }

    pub(crate) fn make_admin_token(&self) -> Result<String, DataError> {
        let path = self.admin_token_file();
        if !path.exists() {
            let token = secret::token().map_err(DataError::Secret)?;
            let written = private::write(&path, format!("{token}\n").as_bytes());
            written.map_err(|err| DataError::Io { what: "write", path: path.clone(), err })?;
        }
        self.admin_token()
    }

    /// Where the backend of this folder listens.
    ///
    /// # Errors
    /// When no backend has ever run there, or the file is broken.
    pub fn address(&self) -> Result<Address, DataError> {
        let path = self.path.join("backend.json");
        let no =
            |err: Box<dyn std::error::Error + Send + Sync>| DataError::NoAddress { path: path.clone(), err };
        let text = fs::read_to_string(&path).map_err(|err| no(err.into()))?;
        serde_json::from_str(&text).map_err(|err| no(err.into()))
    }

    pub(crate) fn write_address(&self, address: &Address) -> Result<(), DataError> {
        let path = self.path.join("backend.json");
        let text = serde_json::to_vec(address).map_err(io::Error::from);
        let written = text.and_then(|text| private::write(&path, &text));
        written.map_err(|err| DataError::Io { what: "write", path, err })
    }

    pub(crate) fn remove_address(&self) {
        // A file that stays names a backend that does not answer, which its reader finds out anyway.
        drop(fs::remove_file(self.path.join("backend.json")));
    }
}

/// Reads an admin token from a file.
///
/// # Errors
/// When the file cannot be read or is empty.
pub fn read_token(path: &Path) -> Result<String, DataError> {
    let text = fs::read_to_string(path).map_err(|err| DataError::Io {
        what: "read the admin token",
        path: path.into(),
        err,
    })?;
    match text.trim() {
        "" => Err(DataError::EmptyToken { path: path.into() }),
        token => Ok(token.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_belongs_to_one_backend_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataFolder::at(dir.path().join("data"));
        data.create().unwrap();
        let lock = data.lock().unwrap();
        let err = data.lock().unwrap_err().to_string();
        assert!(err.contains("in use by another outrider-backend"), "{err}");
        drop(lock);
        data.lock().unwrap();
    }

    #[test]
    fn the_admin_token_stays_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataFolder::at(dir.path());
        let token = data.make_admin_token().unwrap();
        assert_eq!(data.make_admin_token().unwrap(), token);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(data.admin_token_file()).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[cfg(unix)]
    fn mode(path: &Path) -> u32 {
        use std::os::unix::fs::PermissionsExt as _;
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[cfg(unix)]
    fn set_mode(path: &Path, mode: u32) {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_data_folder_that_was_left_open_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataFolder::at(dir.path().join("data"));
        fs::create_dir(data.path()).unwrap();
        set_mode(data.path(), 0o755);
        data.create().unwrap();
        assert_eq!((mode(data.path()), mode(&data.database())), (0o700, 0o600));
        // As an older backend left them.
        let files = ["outrider.db", "outrider.db-wal", "outrider.db-shm"].map(|name| data.path().join(name));
        for file in &files {
            fs::write(file, "").unwrap();
            set_mode(file, 0o664);
        }
        set_mode(&data.exports(), 0o755);
        set_mode(data.path(), 0o755);
        data.create().unwrap();
        assert_eq!((mode(data.path()), mode(&data.exports())), (0o700, 0o700));
        for file in &files {
            assert_eq!(mode(file), 0o600, "{}", file.display());
        }
    }

    #[cfg(unix)]
    #[test]
    fn an_open_folder_with_things_of_others_is_refused_and_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.txt"), "").unwrap();
        set_mode(dir.path(), 0o755);
        let data = DataFolder::at(dir.path());
        let err = data.create().unwrap_err().to_string();
        assert!(err.contains("(mode 755) and holds \"thesis.txt\"") && err.contains("chmod 700"), "{err}");
        assert!(mode(dir.path()) == 0o755 && !data.database().exists());
        set_mode(dir.path(), 0o700);
        data.create().unwrap();
    }

    #[test]
    fn a_missing_address_asks_whether_a_backend_runs() {
        let dir = tempfile::tempdir().unwrap();
        let err = DataFolder::at(dir.path()).address().unwrap_err().to_string();
        assert!(err.contains("is one running there?"), "{err}");
    }
}
