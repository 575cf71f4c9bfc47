//! The backend's folder on disk.
//!
//! ```text
//! lock                held while a backend runs: two never share a folder
//! admin-token         the admin API's credential, 0600
//! backend.json        where the running backend listens, for programs on the same machine
//! outrider.db         the database (with -wal and -shm beside it)
//! exports/<agent>/<export>/<model>/<n>.json.gz    uploaded files; .part while they grow
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::secret::{self, NoRandomness};
use crate::store::FileKey;

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

    /// The file that holds the admin token.
    #[must_use]
    pub fn admin_token_file(&self) -> PathBuf {
        self.path.join("admin-token")
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path.join("outrider.db")
    }

    /// Where an uploaded file lies. Each part of the path is an id, which cannot leave the folder.
    pub(crate) fn file(&self, key: &FileKey) -> PathBuf {
        let folder =
            self.exports().join(key.agent.as_str()).join(key.export.as_str()).join(key.model.as_str());
        folder.join(format!("{}.json.gz", key.number))
    }

    /// Makes the folder where it is missing, for this user alone.
    pub(crate) fn create(&self) -> Result<(), DataError> {
        for path in [self.path.clone(), self.exports()] {
            private_folder(&path).map_err(|err| DataError::Io { what: "make the folder", path, err })?;
        }
        Ok(())
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
            write_private(&path, format!("{token}\n").as_bytes())?;
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
        let text = serde_json::to_vec(address).map_err(|err| DataError::Io {
            what: "write",
            path: path.clone(),
            err: err.into(),
        })?;
        write_private(&path, &text)
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

/// Writes a file that only this user may read, whole or not at all.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    let io = |err| DataError::Io { what: "write", path: path.into(), err };
    let next = path.with_extension("new");
    drop(fs::remove_file(&next));
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&next).map_err(io)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io)?;
    fs::rename(&next, path).map_err(io)
}

fn private_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
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

    #[test]
    fn a_missing_address_asks_whether_a_backend_runs() {
        let dir = tempfile::tempdir().unwrap();
        let err = DataFolder::at(dir.path()).address().unwrap_err().to_string();
        assert!(err.contains("is one running there?"), "{err}");
    }
}
