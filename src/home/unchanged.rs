//! Which objects the backend has, and in which state: what lets an export leave out those that did not change.
//!
//! ```text
//! state/unchanged/FROM-TO.run                           sorted marks of acknowledged objects (`run`)
//! state/unchanged/pending/RUN.EXPORT/MODEL.marks        marks of objects that wait for the backend (`marks`)
//! state/unchanged/reset                                 there when nothing of this can be trusted any more
//! state/unchanged/damaged/                              what could not be read, for a person to look at
//! ```
//!
//! A *mark* is 20 bytes: a hash of (integration, model, id) and a hash of the object's own `hash`. While a session is open
//! its marks are held with it ([`SessionMarks`]); when its objects are in the spool they are appended to the files that
//! wait; when the spool says that the backend has acknowledged all of that export and model, the start of the next export
//! merges them into the runs. Where it knows nothing of them any more, they are merged as doubts. Runs are merged with each other as they grow, so that a lookup reads a
//! block of few files.
//!
//! **Invariant:** an object counts as unchanged only when the last state in which it was put into the spool is the one
//! that is asked for, and the backend has acknowledged that. In doubt it is sent again, which costs time and nothing else.
//!
//! From this follow:
//! - Before an object whose stored state differs is committed, a *doubt* about it is made durable. After a crash between
//!   the commit and its mark the object is then of an unknown state, not of the old one.
//! - What was accepted in this run, and what waits of earlier ones, is never unchanged (`filter`).
//! - Of one model, files that wait are merged in the order of the runs (`pending`).
//! - A run that was merged into another is never read again, whichever of the two removals a crash prevents: the names
//!   tell which runs a run replaces.
//!
//! **Invariant:** no failure here fails an export. What cannot be read is set aside and everything is sent.
//!
//! **Invariant:** memory does not grow with what is stored, but for 0.06 bytes a mark: 4 MiB for the filter, 12 MiB while
//! merging, 128 KiB for each open session.

mod filter;
mod held;
mod mark;
mod marks;
mod merge;
mod pending;
mod run;

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use outrider_protocol::ids::{ExportId, Model};

use self::filter::Filter;
pub use self::held::SessionMarks;
pub use self::mark::{Key, Mark, Scope};
use self::marks::MarkFiles;
use self::merge::Sorted;
use self::pending::PendingFile;
use self::run::Run;
use crate::atomic::{self, FileError};
use crate::root::make_private;
use crate::{Checkpoints, Root};

/// The beginning of the names of files that are being written.
const PART: &str = ".part-";
const RUN_ENDING: &str = ".run";
const PENDING: &str = "pending";
const RESET: &str = "reset";
const DAMAGED: &str = "damaged";

/// What is known of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// The backend has it in this state.
    Unchanged,
    /// The backend may have it, in another state or in one that is not known.
    Changed,
    /// Nothing says that the backend has it.
    New,
}

/// What became of the objects of a model that an earlier run put into the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// They wait for the backend, or some of them do.
    Waits,
    /// The backend has acknowledged all of them.
    Acknowledged,
    /// Nobody knows whether the backend has them.
    Unknown,
}

/// The store, open for one run of an export.
#[derive(Debug)]
pub struct Unchanged {
    folder: PathBuf,
    /// The newest first.
    runs: Vec<Run>,
    /// What this run accepted, and what waits of earlier ones.
    sent: Filter,
    files: Mutex<MarkFiles>,
    /// Why nothing is taken for unchanged any more.
    distrusted: OnceLock<String>,
}

/// Points of the opening after which tests look at what a crash would leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Merged,
    Removed,
}

type At<'a> = &'a mut dyn FnMut(Step) -> Result<(), FileError>;

impl Unchanged {
    /// Opens the root's store for a run of `export`, and merges what `delivery` (export, model) says the backend has
    /// acknowledged by now. That the store of checkpoints is open means that no other export runs.
    ///
    /// Never fails: the second value tells what went wrong, for the log.
    pub fn open(
        root: &Root,
        _alone: &Checkpoints,
        export: &ExportId,
        delivery: &dyn Fn(&str, &str) -> Delivery,
    ) -> (Self, Vec<String>) {
        Self::open_at(root.unchanged(), export, delivery, &mut |_| Ok(()))
    }

    fn open_at(
        folder: PathBuf,
        export: &ExportId,
        delivery: &dyn Fn(&str, &str) -> Delivery,
        at: At<'_>,
    ) -> (Self, Vec<String>) {
        let sent = Filter::default();
        let mut warnings = Vec::new();
        let begun = Folder(&folder).begin(delivery, &sent, &mut warnings, at);
        let (runs, number, distrust) = match begun {
            Ok((runs, number)) => (runs, number, None),
            Err(err) => match Folder(&folder).set_aside() {
                Ok(()) => {
                    warnings.push(format!(
                        "{}; the store of unchanged objects was moved to {}, and everything is sent",
                        told(&err),
                        folder.join(DAMAGED).display()
                    ));
                    (Vec::new(), 1, None)
                }
                Err(other) => (Vec::new(), 1, Some(format!("{}; {}", told(&err), told(&other)))),
            },
        };
        let files = MarkFiles::new(pending::folder_of(&folder.join(PENDING), number, export.as_str()));
        let store = Self { folder, runs, sent, files: Mutex::new(files), distrusted: OnceLock::new() };
        if let Some(why) = distrust {
            store.distrust(why);
        }
        (store, warnings)
    }

    /// What is known of an object.
    #[must_use]
    pub fn look_up(&self, mark: Mark) -> Known {
        if self.distrusted.get().is_some() || self.sent.contains(mark.key) {
            return Known::Changed;
        }
        for run in &self.runs {
            match run.find(mark.key) {
                Ok(None) => {}
                Ok(Some(found)) if found.is_doubt() => return Known::New,
                Ok(Some(found)) if found == mark => return Known::Unchanged,
                Ok(Some(_)) => return Known::Changed,
                Err(err) => {
                    self.distrust(told(&FileError::at("read", &run.path)(err)));
                    return Known::Changed;
                }
            }
        }
        Known::New
    }

    /// An object is accepted: until it is acknowledged, no state of it is unchanged. Its mark is held with its session.
    pub fn accept(&self, mark: Mark, known: Known, session: &mut SessionMarks) {
        if mark.is_doubt() && known == Known::New {
            return;
        }
        self.sent.insert(mark.key);
        if let Err(err) = session.push(&self.folder, mark, known == Known::Changed) {
            self.distrust(told(&FileError::at("write a temporary file in", &self.folder)(err)));
        }
    }

    /// A session is about to be committed: what its objects were before is in doubt as soon as
    /// [`Unchanged::sync_doubts`] returns, which must be called before the commit.
    pub fn doubt(&self, model: &Model, session: &mut SessionMarks) {
        if !session.doubts.is_empty() {
            let mut files = self.files();
            let written =
                session.doubts.drain(|marks| files.append(model, marks, true).map_err(io::Error::from));
            self.unless_failed(written);
        }
    }

    /// Makes all doubts durable.
    pub fn sync_doubts(&self) {
        let synced = self.files().sync();
        self.unless_failed(synced.map_err(io::Error::from));
    }

    /// A session's objects are in the spool.
    pub fn committed(&self, model: &Model, mut session: SessionMarks) {
        let mut files = self.files();
        let written = session.sent.drain(|marks| files.append(model, marks, false).map_err(io::Error::from));
        self.unless_failed(written);
    }

    /// Why nothing is taken for unchanged any more, if so. The next opening begins with an empty store.
    #[must_use]
    pub fn distrusted(&self) -> Option<&str> {
        self.distrusted.get().map(String::as_str)
    }

    /// How many marks there are in the runs, with what is there twice; for benchmarks and tests.
    #[must_use]
    pub fn marks(&self) -> u64 {
        self.runs.iter().map(|it| it.marks).sum()
    }

    fn unless_failed(&self, written: io::Result<()>) {
        if let Err(err) = written {
            self.distrust(told(&err));
        }
    }

    /// What is stored may be wrong. It must not be believed by a later run either, also where the disk takes no file
    /// any more.
    fn distrust(&self, why: String) {
        drop(self.distrusted.set(why));
        if atomic::write(&self.folder.join(RESET), b"", atomic::PRIVATE).is_err() {
            for run in &self.runs {
                drop(std::fs::remove_file(&run.path));
            }
            drop(atomic::sync_folder(&self.folder));
        }
    }

    fn files(&self) -> MutexGuard<'_, MarkFiles> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The exports of which marks wait: the spool has to know of them until they are merged.
///
/// # Errors
/// When a folder cannot be listed.
pub fn waiting_exports(root: &Root) -> Result<HashSet<String>, FileError> {
    let files = pending::list(&root.unchanged().join(PENDING))?;
    Ok(files.into_iter().map(|file| file.export).collect())
}

/// The store's folder while it is opened.
struct Folder<'a>(&'a Path);

impl Folder<'_> {
    /// The runs after merging, and the number of the run of an export that begins.
    fn begin(
        &self,
        delivery: &dyn Fn(&str, &str) -> Delivery,
        sent: &Filter,
        warnings: &mut Vec<String>,
        at: At<'_>,
    ) -> Result<(Vec<Run>, u64), FileError> {
        make_private(self.0).map_err(FileError::at("make the folder", self.0))?;
        let reset = self.0.join(RESET);
        if reset.exists() {
            self.clear()?;
            std::fs::remove_file(&reset).map_err(FileError::at("remove", &reset))?;
            atomic::sync_folder(self.0)?;
        }
        let mut runs = self.runs()?;
        let files = pending::list(&self.0.join(PENDING))?;
        let number = files.last().map_or(1, |file| file.run + 1);
        let (ready, mut held) = pending::split(files, delivery);
        match self.merge(&mut runs, &ready, at) {
            Ok(()) => {}
            Err(err) if err.err.kind() == io::ErrorKind::InvalidData => return Err(err),
            // As on a full disk: they wait on.
            Err(err) => {
                warnings.push(format!(
                    "{}; what the backend has acknowledged since is sent again if asked for",
                    told(&err)
                ));
                held.extend(ready.into_iter().filter(|file| file.path.exists()));
            }
        }
        for file in &held {
            marks::read(&file.path, &mut |mark| {
                sent.insert(mark.key);
                Ok(())
            })?;
        }
        Ok((runs, number))
    }

    /// Opens the runs, the newest first, and removes what is left of others.
    fn runs(&self) -> Result<Vec<Run>, FileError> {
        let mut found = Vec::new();
        for name in pending::names(self.0)? {
            if name.starts_with(PART) {
                let path = self.0.join(&name);
                std::fs::remove_file(&path).map_err(FileError::at("remove", &path))?;
            }
            found.extend(Span::parse(&name));
        }
        found.sort_unstable_by_key(|span| std::cmp::Reverse((span.to, u64::MAX - span.from)));
        let mut runs: Vec<Run> = Vec::new();
        let mut from = u64::MAX;
        for span in found {
            let path = self.0.join(span.name());
            if span.to >= from {
                // A newer run holds all of it.
                std::fs::remove_file(&path).map_err(FileError::at("remove", &path))?;
                continue;
            }
            from = span.from;
            runs.push(Run::open(path.clone()).map_err(FileError::at("open", &path))?);
        }
        Ok(runs)
    }

    /// Makes a run of the marks of files and of the newest runs, and removes both.
    fn merge(&self, runs: &mut Vec<Run>, files: &[PendingFile], at: At<'_>) -> Result<(), FileError> {
        if files.is_empty() {
            return Ok(());
        }
        let sorted = Sorted::read(files, self.0)?;
        let sizes: Vec<_> = runs.iter().map(|it| it.marks).collect();
        let absorbed = merge::absorbed(&sizes, sorted.len());
        let newest = runs.first().and_then(span_of).map_or(0, |it| it.to);
        let from =
            absorbed.checked_sub(1).and_then(|last| span_of(&runs[last])).map_or(newest + 1, |it| it.from);
        let span = Span { from, to: newest + 1 };
        let merged = sorted.merged(&runs[..absorbed], absorbed == runs.len());
        let run = run::write(&self.0.join(span.name()), merged)?;
        drop(sorted);
        let old: Vec<_> = runs.drain(..absorbed).collect();
        runs.insert(0, run);
        at(Step::Merged)?;
        for Run { path, .. } in old {
            std::fs::remove_file(&path).map_err(FileError::at("remove", &path))?;
        }
        at(Step::Removed)?;
        pending::remove(files)
    }

    /// Removes everything that is stored. Runs first: without them nothing is unchanged.
    fn clear(&self) -> Result<(), FileError> {
        for name in pending::names(self.0)? {
            if name.ends_with(RUN_ENDING) {
                let path = self.0.join(&name);
                std::fs::remove_file(&path).map_err(FileError::at("remove", &path))?;
            }
        }
        atomic::sync_folder(self.0)?;
        remove_folder(&self.0.join(PENDING))
    }

    /// Moves everything that is stored out of the way.
    fn set_aside(&self) -> Result<(), FileError> {
        make_private(self.0).map_err(FileError::at("make the folder", self.0))?;
        let aside = self.0.join(DAMAGED);
        remove_folder(&aside)?;
        make_private(&aside).map_err(FileError::at("make the folder", &aside))?;
        for name in pending::names(self.0)? {
            if name.ends_with(RUN_ENDING) || name == PENDING {
                let path = self.0.join(&name);
                std::fs::rename(&path, aside.join(&name)).map_err(FileError::at("move aside", &path))?;
            }
        }
        atomic::sync_folder(self.0)
    }
}

fn remove_folder(folder: &Path) -> Result<(), FileError> {
    match std::fs::remove_dir_all(folder) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(FileError::at("remove", folder)(err)),
        _ => Ok(()),
    }
}

/// Which merges a run holds: it replaces all runs within.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    from: u64,
    to: u64,
}

impl Span {
    fn name(self) -> String {
        format!("{:010}-{:010}{RUN_ENDING}", self.from, self.to)
    }

    fn parse(name: &str) -> Option<Self> {
        let (from, to) = name.strip_suffix(RUN_ENDING)?.split_once('-')?;
        let span = Self { from: from.parse().ok()?, to: to.parse().ok()? };
        (span.name() == name && span.from <= span.to).then_some(span)
    }
}

fn span_of(run: &Run) -> Option<Span> {
    Span::parse(run.path.file_name()?.to_str()?)
}

/// An error and its causes in one line.
fn told(err: &dyn std::error::Error) -> String {
    match err.source() {
        Some(cause) => format!("{err}: {}", told(cause)),
        None => err.to_string(),
    }
}

#[cfg(test)]
mod tests;
