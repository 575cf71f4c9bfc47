//! Why a repository, a release or a file is not taken.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::fetch::FetchError;
use crate::files::FileError;
use crate::version::{Platform, Version};

/// A role of The Update Framework.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Names the keys of all roles.
    Root,
    /// Lists the files.
    Targets,
    /// Names the current list of files.
    Snapshot,
    /// Names the current snapshot.
    Timestamp,
}

impl Role {
    /// All of them, in the order in which they are signed.
    pub const ALL: [Self; 4] = [Self::Root, Self::Targets, Self::Snapshot, Self::Timestamp];

    /// Its name, as in file names.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Targets => "targets",
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A repository, a release or a file is not taken. What was remembered is unchanged, but for a verified newer root.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// The repository offers what is older than what was seen before.
    #[error(
        "the repository offers version {found} of its {role} metadata, and version {seen} was verified before: it is an old \
         copy, or somebody replays one; take another source"
    )]
    Rollback {
        /// Which metadata.
        role: Role,
        /// The version that is offered.
        found: u64,
        /// The version that was verified before.
        seen: u64,
    },
    /// Signed metadata are too old to be believed.
    #[error(
        "the repository's {role} metadata expired at {since}, and this host's clock says {now}: nobody has signed them anew, \
         or somebody holds newer ones back, or the clock is wrong"
    )]
    Expired {
        /// Which metadata.
        role: Role,
        /// Until when they held.
        since: Timestamp,
        /// What the caller said the time is.
        now: Timestamp,
    },
    /// None of the keys that are trusted has signed.
    #[error(
        "the repository's {role} metadata are signed by none of the keys that are trusted for it ({needed} needed): it is not \
         our repository, or a step in the rotation of its keys is missing there"
    )]
    WrongKey {
        /// Which metadata.
        role: Role,
        /// How many signatures are needed.
        needed: u64,
    },
    /// Too few of the keys that are trusted have signed.
    #[error("the repository's {role} metadata have {found} valid signature(s), and {needed} are needed")]
    BelowThreshold {
        /// Which metadata.
        role: Role,
        /// Valid signatures by trusted keys.
        found: u64,
        /// How many are needed.
        needed: u64,
    },
    /// A part of the repository is of another time than what names it.
    #[error("{what} does not match what the signed metadata say of it: {found}, expected {expected}")]
    Mismatch {
        /// The file.
        what: String,
        /// What is there: a version, a length, a hash.
        found: String,
        /// What was signed.
        expected: String,
    },
    /// More data than there may be.
    #[error("{what} goes on after the {most} that it may have: it was cut off")]
    Endless {
        /// The file, or the chain of roots.
        what: String,
        /// The most, with its unit.
        most: String,
    },
    /// A file of the repository is not there.
    #[error("there is no {what} in the repository: it is incomplete, or no repository of releases")]
    Missing {
        /// The file.
        what: String,
    },
    /// Metadata that cannot be read.
    #[error("the repository's {role} metadata cannot be read")]
    Unreadable {
        /// Which metadata.
        role: Role,
        /// Where they are wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The source does not answer, or broke off.
    #[error("the repository cannot be reached")]
    NoWay(#[source] FetchError),
    /// Reading the metadata took too long.
    #[error("the repository's metadata did not arrive within {limit:?}")]
    TooSlow {
        /// [`crate::Settings::time`].
        limit: Duration,
    },
    /// Nothing of that version is listed.
    #[error("the repository has no version {version}; it has {there}")]
    NoSuchVersion {
        /// The version.
        version: Version,
        /// Those that it has.
        there: String,
    },
    /// The version is not listed for this system.
    #[error("version {version} is not there for {wanted}; it is there for {there}")]
    WrongPlatform {
        /// The version.
        version: Version,
        /// This system.
        wanted: Platform,
        /// Those that it is there for.
        there: String,
    },
    /// A signed file is of something else than its name says.
    #[error("{name} is listed with {field} {found:?}, expected {expected:?}")]
    Mislabelled {
        /// The file.
        name: String,
        /// What differs: `product`, `os`.
        field: &'static str,
        /// What is signed.
        found: String,
        /// What its name says, or is the only one of ours.
        expected: String,
    },
    /// A release lacks its list of files.
    #[error("version {version} for {platform} is listed without {what}")]
    Incomplete {
        /// The version.
        version: Version,
        /// For what.
        platform: Platform,
        /// What is not listed.
        what: String,
    },
    /// The version is older than what may still be installed.
    #[error(
        "version {version} is below {floor}, the oldest that is still to be installed: if it is meant, allow the downgrade on the host, \
         with `outrider upgrade --allow-downgrade`"
    )]
    BelowFloor {
        /// The version.
        version: Version,
        /// The highest floor that was seen.
        floor: Version,
    },
    /// The root that this program was built with is none.
    #[error("the root metadata that this program was built with cannot be used")]
    BadEmbeddedRoot {
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// Another process uses the folder.
    #[error("{} is in use by another process: wait for it", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// A later version of this program wrote what is remembered.
    #[error("{} is of form {found}, this program knows {known}: use the newer program", path.display())]
    NewerState {
        /// The file.
        path: PathBuf,
        /// Its form.
        found: u32,
        /// The latest that is known here.
        known: u32,
    },
    /// A file or folder of this host failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// What should not happen.
    #[error("the repository's metadata could not be processed")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl TrustError {
    pub(crate) fn internal(err: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(err.into())
    }

    /// Whether the same call can work later, or with another mirror, without anybody having done something wrong.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::NoWay(_) | Self::TooSlow { .. } | Self::InUse { .. } | Self::Missing { .. })
    }

    /// Whether it is what an attack looks like; an old mirror can look like one.
    #[must_use]
    pub fn is_attack(&self) -> bool {
        matches!(
            self,
            Self::Rollback { .. }
                | Self::WrongKey { .. }
                | Self::BelowThreshold { .. }
                | Self::Mismatch { .. }
                | Self::Endless { .. }
                | Self::Mislabelled { .. }
        )
    }
}

impl From<FetchError> for TrustError {
    fn from(err: FetchError) -> Self {
        match err {
            FetchError::Missing { name } => Self::Missing { what: name },
            FetchError::TooLarge { name, most } => {
                Self::Endless { what: name, most: format!("{most} bytes") }
            }
            err @ FetchError::NoWay { .. } => Self::NoWay(err),
        }
    }
}
