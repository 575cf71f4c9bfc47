//! What can go wrong on the release side.

use std::path::PathBuf;

use crate::error::{Role, TrustError};
use crate::files::FileError;
use crate::keys::KeyError;
use crate::names::NameError;
use crate::version::Version;

/// An operation on a repository failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepositoryError {
    /// There is one already.
    #[error("{} holds a repository already", folder.display())]
    Exists {
        /// Where.
        folder: PathBuf,
    },
    /// There is none.
    #[error("{} holds no repository: make one with `outrider-backend release init`", folder.display())]
    None {
        /// Where.
        folder: PathBuf,
    },
    /// Another process edits it.
    #[error("the repository {} is being edited by another process: wait for it", folder.display())]
    InUse {
        /// Where.
        folder: PathBuf,
    },
    /// A metadata file is not what the roots of this repository say.
    #[error("{} is not signed as the repository's root says: do not sign anything here before you know why", path.display())]
    Unsigned {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A metadata file cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A metadata file does not name the next one.
    #[error("the {role} metadata do not name {missing}")]
    Unnamed {
        /// Whose.
        role: Role,
        /// The file.
        missing: String,
    },
    /// The version of a file is not the one in its name.
    #[error("{} is of version {found}", path.display())]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// The version in it.
        found: u64,
    },
    /// A threshold that no role can reach.
    #[error(
        "the {role} role has {keys} key(s), and {threshold} are to sign: make more keys, or lower the threshold"
    )]
    Threshold {
        /// The role.
        role: Role,
        /// Its keys.
        keys: usize,
        /// The threshold.
        threshold: u64,
    },
    /// A file's name is no archive's.
    #[error("{}", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// What is wrong with its name.
        #[source]
        source: NameError,
    },
    /// What should lie beside an archive is not there.
    #[error("{} needs {needed} beside it", archive.display())]
    NothingBeside {
        /// The archive.
        archive: PathBuf,
        /// The file that is missing.
        needed: String,
    },
    /// A file beside an archive says something else than the archive.
    #[error("{}: {found}, expected {expected}", path.display())]
    Differs {
        /// The file.
        path: PathBuf,
        /// What it says or is.
        found: String,
        /// What would fit.
        expected: String,
    },
    /// A release is there already, and releases do not change.
    #[error("{name} is released already, as another build: raise the version (a snapshot may be replaced)")]
    Released {
        /// The file.
        name: String,
    },
    /// A floor above the release that names it.
    #[error("the floor {floor} is above version {version}, which is to name it")]
    Floor {
        /// The floor.
        floor: Version,
        /// The release.
        version: Version,
    },
    /// A key is missing or no good.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A file or folder failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A copied file is not what was signed, or cannot be listed.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// What should not happen.
    #[error("the metadata could not be made")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl RepositoryError {
    pub(crate) fn internal(err: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(err.into())
    }
}
