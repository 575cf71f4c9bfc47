//! Why a state cannot be used, or not be brought to this version's schema.

use std::io;
use std::path::PathBuf;

use crate::atomic::FileError;
use crate::{LockError, StoreError};

/// A migration's own failure.
pub(crate) type MigrateError = Box<dyn std::error::Error + Send + Sync>;

/// The state cannot be used, or not be brought to this version's schema.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A later version wrote it, and nothing older is kept.
    #[error(
        "open the state {}: it has schema {found}, and this version of Outrider knows {ours} at most; run the version \
         that wrote it, or a later one",
        path.display()
    )]
    Newer {
        /// The folder.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// This version's.
        ours: u32,
    },
    /// An earlier version wrote it, and this command does not migrate.
    #[error(
        "open the state {}: it has schema {found}, and this version of Outrider works with {ours}; start the service of \
         this version, which brings it there, or run the version that the service has",
        path.display()
    )]
    Older {
        /// The folder.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// This version's.
        ours: u32,
    },
    /// Whoever changed it was cut short.
    #[error("open the state {}: a start of the service was cut short while it changed it; start the service, which goes on there", path.display())]
    Unfinished {
        /// The folder.
        path: PathBuf,
    },
    /// An upgrade has migrated it, and may be taken back.
    #[error(
        "work with the state {}: an upgrade brought it to schema {ours} and is on trial, and what is done now would be \
         forgotten if it were taken back; try again when it has ended (`outrider status`)",
        path.display()
    )]
    OnTrial {
        /// The folder.
        path: PathBuf,
        /// Its schema.
        ours: u32,
    },
    /// What says its schema cannot be understood.
    #[error(
        "read {}: expected {{\"schema\": NUMBER}}, found {found}; restore the file, or move the folder it is in away to \
         begin with an empty one",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is in it, shortened.
        found: String,
    },
    /// The copy does not fit onto the disk.
    #[error(
        "copy the state {}, to bring it to another schema: it takes {need} bytes, and {free} are free; make room on that \
         disk, then try again",
        path.display()
    )]
    NoRoom {
        /// The folder.
        path: PathBuf,
        /// What is wanted, in bytes.
        need: u64,
        /// What is there, in bytes.
        free: u64,
    },
    /// There is something in it that cannot be copied.
    #[error("copy {}: expected a file or a folder, found something else; move it out of the state", path.display())]
    Strange {
        /// Where.
        path: PathBuf,
    },
    /// A migration failed; the state is as it was.
    #[error("bring the state from schema {from} to {to}; it is left as it was")]
    Migration {
        /// From which schema.
        from: u32,
        /// To which.
        to: u32,
        /// What the migration says.
        #[source]
        err: MigrateError,
    },
    /// It was to end early.
    #[error("settle the state {}: stopped before it was done; the next start of the service goes on there", path.display())]
    Stopped {
        /// The folder.
        path: PathBuf,
    },
    /// A store in it is open elsewhere.
    #[error(transparent)]
    Store(StoreError),
    /// The root is in use.
    #[error(transparent)]
    Lock(LockError),
    /// An operation on a file or a folder failed.
    #[error(transparent)]
    File(FileError),
    /// Act after act was carried out, and the state still is not settled.
    #[error("settle the state {}: expected to be done, found that there is always something next: this is a bug", path.display())]
    Unsettled {
        /// The folder.
        path: PathBuf,
    },
}

impl StateError {
    /// Whether this version would fail in the same way whenever it is started: it finds a later schema, or its migration
    /// fails by itself. A store that is open elsewhere, a disk that is full or ill, and whatever is not clear, may be better
    /// the next time.
    #[must_use]
    pub fn comes_again(&self) -> bool {
        match self {
            Self::Newer { .. } => true,
            Self::Migration { err, .. } => !is_disk_trouble(&**err),
            _ => false,
        }
    }
}

fn is_disk_trouble(err: &(dyn std::error::Error + 'static)) -> bool {
    /// No kind of its own stands for it.
    const EIO: i32 = 5;
    let is_trouble = |err: &io::Error| {
        let kinds =
            [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::ReadOnlyFilesystem];
        kinds.contains(&err.kind()) || cfg!(unix) && err.raw_os_error() == Some(EIO)
    };
    let mut next = Some(err);
    while let Some(err) = next {
        if err.downcast_ref().is_some_and(is_trouble) {
            return true;
        }
        next = err.source();
    }
    false
}

impl From<FileError> for StateError {
    fn from(err: FileError) -> Self {
        Self::File(err)
    }
}
