//! The versions of a root: looking at them, and the right to change them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Moment, SystemClock};
use crate::error::{FileError, VersionsError};
use crate::fs::{Fs, RealFs, if_there};
use crate::journal::{self, SlotFault};
use crate::layout::Layout;
use crate::links::{self, Seen};
use crate::lock::{self, Lock, Post};
use crate::name::VersionName;
use crate::record::Record;
use crate::seal::{self, Seals};
use crate::writer::Writer;

/// The versions of a root. Looking changes nothing and needs no lock. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Versions {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) clock: Arc<dyn Clock + Send + Sync>,
    pub(crate) layout: Layout,
}

impl Versions {
    /// The versions of the root at `root`, an absolute path.
    #[must_use]
    pub fn of(root: impl Into<PathBuf>) -> Self {
        Self::with_clock(root, Arc::new(SystemClock))
    }

    /// The same by another clock.
    #[must_use]
    pub fn with_clock(root: impl Into<PathBuf>, clock: Arc<dyn Clock + Send + Sync>) -> Self {
        Self { fs: Arc::new(RealFs), clock, layout: Layout::new(root) }
    }

    /// Where everything lies.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What time it is, by the clock that deadlines are set by.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn now(&self) -> Result<Moment, FileError> {
        self.clock.now()
    }

    /// All that [`crate::decide`] wants to know.
    ///
    /// # Errors
    /// When a link or a folder cannot be looked at. A slot of the journal that cannot be read is no error here.
    pub fn see(&self) -> Result<Seen, FileError> {
        Ok(Seen {
            journal: journal::read(&*self.fs, &self.layout).journal,
            links: links::links(&*self.fs, &self.layout)?,
            tree: links::tree(&*self.fs, &self.layout)?,
            looked: BTreeMap::new(),
            boot: self.now().map(|it| it.boot).unwrap_or_default(),
        })
    }

    /// Takes the seals of the versions of an attempt, which is to be armed with them. That reads all their files; so do it
    /// while the old version runs.
    ///
    /// Take them *before* the new version is held against its list. What is changed in between is then found by one or the
    /// other.
    ///
    /// # Errors
    /// When not all of the new version can be read.
    pub fn seals(&self, record: &Record) -> Result<Seals, FileError> {
        let of = |version| seal::of_folder(&*self.fs, &self.layout.version(version));
        Ok(Seals { from: of(&record.from).ok(), to: of(&record.to)? })
    }

    /// Holds a version against its seal in an attempt's record, which reads all its files; nothing where it has none there.
    ///
    /// # Errors
    /// [`VersionsError::Changed`], which means that it is not to be used.
    pub fn look(&self, record: &Record, version: &VersionName) -> Option<Result<(), VersionsError>> {
        let (expected, folder) = (record.seal_of(version)?, self.layout.version(version));
        let take = || seal::of_folder(&*self.fs, &folder);
        // An error that passes is no change.
        let found = take().or_else(|_| take()).ok();
        if found == Some(expected) {
            return Some(Ok(()));
        }
        Some(Err(VersionsError::Changed { version: version.clone(), folder, expected, found }))
    }

    /// The slots of the journal that are there and cannot be used, with what was found in them.
    #[must_use]
    pub fn slot_faults(&self) -> Vec<SlotFault> {
        journal::read(&*self.fs, &self.layout).faults
    }

    /// Why a version is not tried again without force; nothing when it never was rolled back here.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn verdict(&self, version: &VersionName) -> Result<Option<String>, FileError> {
        let path = self.layout.verdict(version);
        let bytes = if_there(self.fs.read(&path, 4096)).map_err(FileError::at("read", &path))?;
        Ok(bytes.map(|it| String::from_utf8_lossy(&it).trim().to_owned()))
    }

    /// The right to change journal and links, waiting for it as long as `wait`. Hold it for the moment of a change only:
    /// the launcher waits for it, and runs `current` as it is when it cannot have it.
    ///
    /// # Errors
    /// [`VersionsError::Locked`] when another process has it all the while.
    pub fn write(&self, wait: Duration) -> Result<Writer<'_>, VersionsError> {
        Ok(Writer::new(self, self.take(Post::Writer, wait)?))
    }

    /// The right to carry out an attempt, or to watch a new version.
    ///
    /// # Errors
    /// [`VersionsError::Locked`] when another process has it all the while.
    pub fn take(&self, post: Post, wait: Duration) -> Result<Lock, VersionsError> {
        lock::take(&*self.fs, &self.layout, post, wait)
    }
}
