//! What can go wrong with the spool.

use std::io;
use std::path::{Path, PathBuf};

/// A failed operation of the spool.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// The disk, or the user's share of it, is full.
    #[error(
        "{operation} {} ({bytes} bytes): the disk is full; free some space, what is committed is kept",
        path.display()
    )]
    DiskFull {
        /// What was tried, as `append to`.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// How large the file is or would have become, as far as that is known.
        bytes: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// An operation on a file or folder failed.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was tried, as `append to`.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Too much waits to be acknowledged.
    #[error(
        "the spool {} holds {used} bytes that the backend has not acknowledged, and {limit} are allowed: wait for the \
         uploads, or raise the limit of the spool",
        spool.display()
    )]
    Full {
        /// The spool.
        spool: PathBuf,
        /// What waits, in bytes.
        used: u64,
        /// [`crate::Settings::total_bytes`].
        limit: u64,
    },
    /// Another process writes this export.
    #[error(
        "the export {export} is being written by another process: wait for it, or take another export id"
    )]
    InUse {
        /// The export's id.
        export: String,
    },
    /// A name that cannot be a folder's.
    #[error(
        "{name:?} is no name for {what}: expected letters, digits, `.`, `-` and `_`, beginning with a letter or \
         digit, at most {longest} bytes, and not `sent`, `lock` or `manifest`"
    )]
    BadName {
        /// Of what: `an export`, `a model`.
        what: &'static str,
        /// The name, shortened.
        name: String,
        /// The longest name, in bytes.
        longest: usize,
    },
    /// A record that is not one line.
    #[error("a record of {bytes} bytes {found}: expected {expected}")]
    BadRecord {
        /// Its size.
        bytes: usize,
        /// What is wrong with it.
        found: &'static str,
        /// What a right one is like.
        expected: &'static str,
    },
    /// A session was given to the writer of another export.
    #[error(
        "a session of the export {found} was given to the writer of {expected}: commit it where it was opened"
    )]
    OtherExport {
        /// The session's export.
        found: String,
        /// The writer's.
        expected: String,
    },
    /// A manifest of a later version of this program.
    #[error("{} is of version {found}, this program knows {known}: use the newer program", path.display())]
    NewerManifest {
        /// The manifest.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The latest that is known here.
        known: u32,
    },
}

impl SpoolError {
    /// Names the operation and the file; `bytes` is the size that was wanted, for a full disk.
    pub(crate) fn io(operation: &'static str, path: &Path, bytes: u64, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { operation, path, bytes, source }
            }
            _ => Self::Io { operation, path, source },
        }
    }

    /// Whether a file or folder is missing.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether the same call can work later with no change to the program: space was freed, files were uploaded.
    #[must_use]
    pub fn is_space(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::Full { .. })
    }
}

/// Names the operation and the path of a failed `io::Result`.
pub(crate) trait At<T> {
    fn at(self, operation: &'static str, path: &Path) -> Result<T, SpoolError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, operation: &'static str, path: &Path) -> Result<T, SpoolError> {
        self.map_err(|source| SpoolError::io(operation, path, 0, source))
    }
}
