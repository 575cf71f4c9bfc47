//! The schema of `state/`: which one lies there, and how a root gets from one to another and back.
//!
//! ```text
//! state/schema.json   {"schema": 1}; a state without it has schema 1, but beside a kept one it is none
//! state.kept/         the state before a migration, until the upgrade that made it is committed
//! state.undone/       a state that was given up for the kept one, for a person to look at; the last one only
//! state.new/          a state that was migrated and takes its place next
//! state.scrap/        of no worth: a copy that is being made, or what is being deleted
//! ```
//!
//! All of `state/` has one schema, and only that. Spool, caches, logs, `config.json` and keys are outside of it: they are
//! read by two versions in turn, so whoever changes what they hold must let the version before read it. So are
//! `identity.json`, `enroll.json` and `startup`, which `enroll` writes whatever schema it finds: no migration changes them.
//!
//! **Invariant:** a migration changes a copy. What `state/` held before lies in `state.kept/`, untouched, until
//! [`Root::forget_kept_state`], or until a version that stays settles the state.
//!
//! **Invariant:** a folder is whole when it has its name, so that nothing but which of them are there, and their schemas,
//! says what is next (`decide`). Whoever is cut short anywhere, the next [`Root::settle_state`] goes on.
//!
//! **Invariant:** no state is deleted that is not replaced by one which holds the same, but for the last but one that was
//! undone.
//!
//! # Who migrates
//!
//! The service, at its start, with the root's lock, before it opens anything ([`Root::settle_state`]). While it is on
//! trial, the kept state stays; a version before that finds a newer schema and a kept state puts that back. An export by
//! hand migrates where no service can be, in a root that was never enrolled ([`Root::settle_state_by_hand`]). Every other
//! command only looks, and refuses another schema than its own ([`Root::check_state`]).
//!
//! # A new schema
//!
//! Add the step to `MIGRATIONS`; it gets the folder of a copy, in which anything may be missing, since a state that was
//! never used is migrated as well. The copy is made durable afterwards.

mod act;
mod copy;
mod decide;
mod error;
mod schema;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::act::{Acts, Point};
use self::decide::Seen;
pub use self::error::StateError;
pub use self::schema::SCHEMA;
use self::schema::Schema;
use crate::atomic::FileError;
use crate::{Root, RootLock};

/// How patient a command by hand is with a store that somebody has open.
const STORE_WAIT: Duration = Duration::from_secs(5);

/// How patient a settling is.
pub struct Patience<'a> {
    /// How long a store that somebody has open is waited for, before it is copied.
    pub store: Duration,
    /// Asked again and again whether to end early.
    pub stop: &'a dyn Fn() -> bool,
}

impl fmt::Debug for Patience<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patience").field("store", &self.store).finish_non_exhaustive()
    }
}

/// What was done to a state that is settled.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Settled {
    /// It was brought from this schema to this version's.
    pub migrated_from: Option<u32>,
    /// One of this newer schema was set aside, and the kept one is in its place.
    pub put_back_from: Option<u32>,
    /// The state before is kept: what is done now is forgotten if this version is taken back.
    pub is_kept: bool,
}

impl Root {
    /// Brings the state to this version's schema, and finishes what was cut short. The kept state stays where `keep` says
    /// that an upgrade is on trial; else it goes. Makes a copy of the state where it has to be migrated: that takes as
    /// much room and time as the state has bytes.
    ///
    /// # Errors
    /// The state is then as it was before, or as the next call goes on from: see [`StateError`].
    pub fn settle_state(
        &self,
        _lock: &RootLock,
        keep: bool,
        patience: &Patience<'_>,
    ) -> Result<Settled, StateError> {
        self.settle_state_as(&Schema::own(), keep, patience, &mut |_| Ok(()))
    }

    fn settle_state_as(
        &self,
        ours: &Schema,
        keep: bool,
        patience: &Patience<'_>,
        at: Point<'_>,
    ) -> Result<Settled, StateError> {
        let mut is_stopped = false;
        let mut at = |what| {
            if (patience.stop)() {
                is_stopped = true;
                return Err(FileError::at(what, self.path())(io::ErrorKind::Interrupted.into()));
            }
            at(what)
        };
        let settled = Acts { root: self, store_wait: patience.store, at: &mut at }.settle(ours, keep);
        match settled {
            Err(_) if is_stopped => Err(StateError::Stopped { path: self.state() }),
            settled => settled,
        }
    }

    /// The same by hand, for a command that writes into the state. Where a service can be, it is left to that.
    ///
    /// # Errors
    /// As [`Root::check_state`], and [`StateError::OnTrial`] while a state is kept.
    pub fn settle_state_by_hand(&self) -> Result<(), StateError> {
        use act::Folder::{Kept, New, Scrap};
        let checked = self.check_state();
        let is_left = [New, Kept, Scrap].into_iter().any(|it| it.of(self).exists());
        let is_alone = !self.config_path().exists();
        match checked {
            Err(StateError::Older { .. }) if is_alone => self.settle_alone(),
            _ if is_alone && is_left => self.settle_alone(),
            Ok(()) if self.state_is_kept() => {
                Err(StateError::OnTrial { path: self.state(), ours: Schema::own().number })
            }
            other => other,
        }
    }

    fn settle_alone(&self) -> Result<(), StateError> {
        let lock = self.lock().map_err(StateError::Lock)?;
        let patience = Patience { store: STORE_WAIT, stop: &|| false };
        self.settle_state(&lock, false, &patience).map(drop)
    }

    /// Whether this version can read the state as it is. Changes nothing. A root without a state is fine.
    ///
    /// # Errors
    /// [`StateError::Newer`], [`StateError::Older`], [`StateError::Unfinished`], or when its schema cannot be read.
    pub fn check_state(&self) -> Result<(), StateError> {
        let (seen, path, ours) = (Seen::of(self)?, self.state(), Schema::own().number);
        match seen.state {
            None if seen.new.is_some() || seen.kept.is_some() => Err(StateError::Unfinished { path }),
            Some(found) if found > ours => Err(StateError::Newer { path, found, ours }),
            Some(found) if found < ours => Err(StateError::Older { path, found, ours }),
            _ => Ok(()),
        }
    }

    /// Whether the state before a migration is kept.
    #[must_use]
    pub fn state_is_kept(&self) -> bool {
        self.kept_state().exists()
    }

    /// An upgrade is committed: when this returns, nothing is kept for the version before. Only for the service of the root.
    /// [`Root::delete_old_states`] is to follow, which takes longer.
    ///
    /// # Errors
    /// When it cannot be renamed; then it is kept still.
    pub fn forget_kept_state(&self) -> Result<(), StateError> {
        let mut nothing = |_: &'static str| Ok(());
        Acts { root: self, store_wait: STORE_WAIT, at: &mut nothing }.forget(act::Folder::Kept)
    }

    /// Deletes the states that nobody needs, also one that an earlier upgrade undid. Only for the service of the root.
    ///
    /// # Errors
    /// When one cannot be renamed first. What cannot be deleted is at the next start.
    pub fn delete_old_states(&self) -> Result<(), StateError> {
        let mut nothing = |_: &'static str| Ok(());
        let mut acts = Acts { root: self, store_wait: STORE_WAIT, at: &mut nothing };
        acts.clear_scrap();
        acts.forget(act::Folder::Undone)?;
        acts.clear_scrap();
        Ok(())
    }

    /// Says in a state that was just made which schema it has.
    pub(crate) fn stamp_fresh_state(&self) -> Result<(), FileError> {
        if self.schema_path().exists()
            || holds_any(&self.state()).map_err(FileError::at("list", &self.state()))?
            || self.state_is_kept()
            || self.new_state().exists()
        {
            return Ok(());
        }
        schema::write(&self.state(), Schema::own().number)
    }

    /// Where the state says its schema.
    pub(crate) fn schema_path(&self) -> PathBuf {
        schema::path_in(&self.state())
    }

    pub(crate) fn kept_state(&self) -> PathBuf {
        self.path().join("state.kept")
    }

    pub(crate) fn undone_state(&self) -> PathBuf {
        self.path().join("state.undone")
    }

    pub(crate) fn new_state(&self) -> PathBuf {
        self.path().join("state.new")
    }
}

/// Whether there is anything but folders in a folder. One that is missing has nothing.
fn holds_any(folder: &Path) -> io::Result<bool> {
    let entries = match std::fs::read_dir(folder) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if !entry.file_type()?.is_dir() || holds_any(&entry.path())? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
