//! Where everything about versions lies in a root.

use std::path::{Path, PathBuf};

use crate::lock::Post;
use crate::name::VersionName;
use crate::trial;

/// The program of a version, in its folder.
pub const PROGRAM: &str = "outrider";
/// The file that says why a version is not tried again.
pub(crate) const VERDICT: &str = "rolled-back";
/// What the name of a folder begins with that is about to be deleted.
pub(crate) const TRASH: &str = ".trash-";

/// The paths of a root. Makes nothing. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout(PathBuf);

/// One of the two links of a root. Each is relative, as `versions/0.2.0-1a2b3c4d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Link {
    /// What runs: the only truth about that.
    Current,
    /// What ran before: where a rollback goes.
    Previous,
}

impl Link {
    /// The name of the link in the root.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Previous => "previous",
        }
    }
}

impl Layout {
    /// The layout of the root at `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// The root itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// The folder of all versions.
    #[must_use]
    pub fn versions(&self) -> PathBuf {
        self.0.join("versions")
    }

    /// The folder of one version: immutable, and complete when it is there.
    #[must_use]
    pub fn version(&self, version: &VersionName) -> PathBuf {
        self.versions().join(version.as_str())
    }

    /// The program of one version.
    #[must_use]
    pub fn program(&self, version: &VersionName) -> PathBuf {
        self.version(version).join(PROGRAM)
    }

    /// One of the two links.
    #[must_use]
    pub fn link(&self, link: Link) -> PathBuf {
        self.0.join(link.name())
    }

    /// What a link to a version says.
    #[must_use]
    pub fn target(version: &VersionName) -> PathBuf {
        Path::new("versions").join(version.as_str())
    }

    /// The folder of the journal, the locks, and what is being made.
    #[must_use]
    pub fn upgrade(&self) -> PathBuf {
        self.0.join("upgrade")
    }

    /// The two slots of the journal.
    #[must_use]
    pub fn slots(&self) -> [PathBuf; 2] {
        ["journal.a", "journal.b"].map(|it| self.upgrade().join(it))
    }

    /// The record of the attempt that is armed or on trial once more, away from the journal.
    pub(crate) fn trial(&self) -> PathBuf {
        self.versions().join(trial::NAME)
    }

    /// Where packages are downloaded to and unpacked; nothing in it is ever run.
    #[must_use]
    pub fn staging(&self) -> PathBuf {
        self.upgrade().join("staging")
    }

    /// What failed: a folder a version, and slots of the journal that could not be read.
    #[must_use]
    pub fn failed(&self) -> PathBuf {
        self.upgrade().join("failed")
    }

    /// The diagnosis of a version that failed here.
    #[must_use]
    pub fn diagnosis(&self, version: &VersionName) -> PathBuf {
        self.failed().join(version.as_str())
    }

    /// Why a version is not tried again; a version is bad when this file is there.
    #[must_use]
    pub fn verdict(&self, version: &VersionName) -> PathBuf {
        self.diagnosis(version).join(VERDICT)
    }

    /// The file of a lock.
    #[must_use]
    pub fn lock(&self, post: Post) -> PathBuf {
        self.upgrade().join(match post {
            Post::Writer => "lock",
            Post::Worker => "worker.lock",
            Post::Watcher => "watcher.lock",
        })
    }

    /// Records of ended attempts that the backend has not acknowledged, after another attempt has taken the journal.
    pub(crate) fn untold(&self) -> PathBuf {
        self.upgrade().join("untold")
    }

    /// Which process the version on trial was started as last.
    pub(crate) fn started(&self) -> PathBuf {
        self.upgrade().join("started")
    }

    /// A file that is given up when a rollback finds the disk full.
    pub(crate) fn reserve(&self) -> PathBuf {
        self.upgrade().join("reserve")
    }
}
