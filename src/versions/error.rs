//! What can go wrong with the versions of a root.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::journal::SlotFault;
use crate::name::VersionName;
use crate::phase::Phase;
use crate::seal::Seal;

/// An operation on a file, link or folder of the root failed.
#[derive(Debug)]
pub struct FileError {
    /// What was tried: `write`, `rename into place`.
    pub operation: &'static str,
    /// The file, link or folder.
    pub path: PathBuf,
    /// What the system said.
    pub err: io::Error,
}

impl FileError {
    pub(crate) fn at(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |err| Self { operation, path, err }
    }

    /// Whether the disk, or the user's share of it, is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self.err.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.operation, self.path.display())
    }
}

impl Error for FileError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.err)
    }
}

/// Something about the versions of a root could not be done.
#[derive(Debug)]
#[non_exhaustive]
pub enum VersionsError {
    /// An operation on a file failed.
    File(FileError),
    /// A slot of the journal cannot be used.
    Slot(SlotFault),
    /// Another process writes to the versions now.
    Locked {
        /// The file of the lock.
        path: PathBuf,
    },
    /// There is no folder with a program for this version.
    Incomplete {
        /// The version.
        version: VersionName,
        /// The program that was expected.
        expected: PathBuf,
    },
    /// A version is not what it was when it was sealed.
    Changed {
        /// The version.
        version: VersionName,
        /// Its folder.
        folder: PathBuf,
        /// Its seal in the journal.
        expected: Seal,
        /// What it is now; nothing where not all of it can be read.
        found: Option<Seal>,
    },
    /// An upgrade is in progress.
    Busy {
        /// The id of the attempt.
        attempt: String,
        /// How far it is.
        phase: Phase,
    },
    /// The version is the one that runs.
    AlreadyCurrent {
        /// The version.
        version: VersionName,
    },
    /// The version was rolled back here, and is not tried again without force.
    FailedHere {
        /// The version.
        version: VersionName,
        /// How it failed.
        why: String,
    },
    /// There is no record of an attempt to go on with.
    NoAttempt,
    /// An attempt cannot go from its phase to the wanted one.
    IllegalStep {
        /// Where it is.
        from: Phase,
        /// Where it should have gone.
        to: Phase,
    },
    /// `current` points to no complete version.
    NoCurrent {
        /// The link.
        path: PathBuf,
    },
    /// A version that is in use, or may be needed again, was to be deleted.
    InUse {
        /// The version.
        version: VersionName,
    },
    /// Act after act was carried out, and still nothing can be run.
    Unsettled {
        /// The act that would have been next.
        act: String,
    },
    /// A value is too long for the journal.
    TooLong {
        /// The size of the record in bytes.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
}

impl From<FileError> for VersionsError {
    fn from(err: FileError) -> Self {
        Self::File(err)
    }
}

impl fmt::Display for VersionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(err) => err.fmt(f),
            Self::Slot(fault) => write!(f, "{fault}; it is kept in upgrade/failed/ when it is written next"),
            Self::Locked { path } => {
                write!(f, "lock {}: another process changes the versions now; try again", path.display())
            }
            Self::Incomplete { version, expected } => {
                write!(f, "use the version {version}: expected its program at {}", expected.display())
            }
            Self::Changed { version, folder, expected, found } => {
                let found = found.map_or_else(|| "some that cannot be read".to_owned(), |it| it.to_string());
                write!(
                    f,
                    "use the version {version}: expected the files of {} to have the seal {expected}, as when the \
                     upgrade was armed, found {found}: install that version again",
                    folder.display()
                )
            }
            Self::Busy { attempt, phase } => {
                write!(f, "begin an upgrade: the attempt {attempt} is in progress ({phase})")
            }
            Self::AlreadyCurrent { version } => write!(f, "begin an upgrade: {version} is already current"),
            Self::FailedHere { version, why } => {
                write!(f, "begin an upgrade: {version} was rolled back here ({why}); force it to try again")
            }
            Self::NoAttempt => f.write_str("go on with an upgrade: the journal holds no attempt"),
            Self::IllegalStep { from, to } => {
                write!(f, "go on with an upgrade: it is {from} and cannot become {to}")
            }
            Self::NoCurrent { path } => {
                write!(f, "use {}: expected a link to a complete version", path.display())
            }
            Self::InUse { version } => {
                write!(f, "delete the version {version}: `current`, `previous` or an attempt names it")
            }
            Self::Unsettled { act } => {
                write!(
                    f,
                    "settle the versions: expected to be done, found that {act} is next, again and again"
                )
            }
            Self::TooLong { bytes, limit } => {
                write!(f, "write the journal: the record has {bytes} bytes, and {limit} are allowed")
            }
        }
    }
}

impl Error for VersionsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::File(err) => Some(&err.err),
            _ => None,
        }
    }
}
