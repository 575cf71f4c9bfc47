//! The acts on the folders of a state. Each may be done again after it was cut short anywhere.

use std::path::PathBuf;
use std::time::Duration;

use super::decide::{Next, Seen, decide};
use super::schema::{self, Schema};
use super::{Settled, StateError, copy};
use crate::Root;
use crate::atomic::{FileError, sync_folder};

/// More acts in a row than any root needs.
pub(super) const MOST_ACTS: usize = 16;

/// Asked before each change of the disk, which is named; tests let one fail, or be the last one.
pub(super) type Point<'a> = &'a mut dyn FnMut(&'static str) -> Result<(), FileError>;

/// A place of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Folder {
    State,
    New,
    Kept,
    Undone,
    Scrap,
}

impl Folder {
    pub(super) fn of(self, root: &Root) -> PathBuf {
        match self {
            Self::State => root.state(),
            Self::New => root.new_state(),
            Self::Kept => root.kept_state(),
            Self::Undone => root.undone_state(),
            Self::Scrap => root.path().join("state.scrap"),
        }
    }
}

/// What acts, on a root whose lock is held.
pub(super) struct Acts<'a> {
    pub(super) root: &'a Root,
    /// How long a store that somebody has open is waited for.
    pub(super) store_wait: Duration,
    pub(super) at: Point<'a>,
}

impl Acts<'_> {
    /// Act by act, until nothing is to be done.
    pub(super) fn settle(mut self, ours: &Schema, keep: bool) -> Result<Settled, StateError> {
        self.clear_scrap();
        let mut settled = Settled::default();
        for _ in 0..MOST_ACTS {
            let seen = Seen::of(self.root)?;
            match decide(&seen, ours.number, keep) {
                Next::Ready => {
                    self.clear_scrap();
                    settled.is_kept = seen.kept.is_some();
                    return Ok(settled);
                }
                Next::Refuse { found } => {
                    return Err(StateError::Newer { path: self.root.state(), found, ours: ours.number });
                }
                Next::Discard(folder) => self.discard(folder)?,
                Next::Take(folder) => self.take(folder)?,
                Next::SetAside { found } => {
                    settled.put_back_from = Some(found);
                    self.set_aside()?;
                }
                Next::Migrate { from } => {
                    settled.migrated_from = Some(from);
                    self.migrate(ours, from)?;
                }
            }
        }
        Err(StateError::Unsettled { path: self.root.state() })
    }

    /// Deletes what is of no worth. What cannot be deleted is no hindrance, as long as its name is not needed.
    pub(super) fn clear_scrap(&mut self) {
        let scrap = Folder::Scrap.of(self.root);
        if scrap.exists() && (self.at)("delete").is_ok() {
            drop(std::fs::remove_dir_all(scrap));
        }
    }

    pub(super) fn discard(&mut self, folder: Folder) -> Result<(), StateError> {
        self.forget(folder)?;
        self.clear_scrap();
        Ok(())
    }

    /// Lets a folder lose its name, if it is there; it is deleted with the scrap.
    pub(super) fn forget(&mut self, folder: Folder) -> Result<(), StateError> {
        if !folder.of(self.root).exists() {
            return Ok(());
        }
        self.clear_scrap();
        self.rename(folder, Folder::Scrap)
    }

    /// What is in its place is no state.
    pub(super) fn take(&mut self, folder: Folder) -> Result<(), StateError> {
        if Folder::State.of(self.root).exists() {
            self.discard(Folder::State)?;
        }
        self.rename(folder, Folder::State)
    }

    pub(super) fn set_aside(&mut self) -> Result<(), StateError> {
        self.rename(Folder::State, Folder::Undone)
    }

    /// Nobody has a store of the state open until it is the kept one: what was written into it meanwhile would be missing
    /// from the copy.
    pub(super) fn migrate(&mut self, ours: &Schema, from: u32) -> Result<(), StateError> {
        let (state, scrap) = (Folder::State.of(self.root), Folder::Scrap.of(self.root));
        let held = copy::hold_stores(&state, self.store_wait, self.at)?;
        let made = self.make_new(ours, from);
        if made.is_err() && scrap.exists() {
            // The room that it took may be what is missing.
            self.clear_scrap();
        }
        made?;
        self.rename(Folder::State, Folder::Kept)?;
        drop(held);
        Ok(())
    }

    fn make_new(&mut self, ours: &Schema, from: u32) -> Result<(), StateError> {
        let (state, scrap) = (Folder::State.of(self.root), Folder::Scrap.of(self.root));
        copy::admit(&state, self.root.path())?;
        copy::copy_tree(&state, &scrap, self.at)?;
        (self.at)("migrate")?;
        ours.migrate(&scrap, from)?;
        (self.at)("write")?;
        schema::write(&scrap, ours.number)?;
        copy::sync_tree(&scrap, self.at)?;
        self.rename(Folder::Scrap, Folder::New)
    }

    fn rename(&mut self, from: Folder, to: Folder) -> Result<(), StateError> {
        let (from, to) = (from.of(self.root), to.of(self.root));
        (self.at)("rename")?;
        std::fs::rename(&from, &to).map_err(FileError::at("rename", &from))?;
        (self.at)("sync")?;
        Ok(sync_folder(self.root.path())?)
    }
}
