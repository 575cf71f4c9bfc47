//! A file that grows by pieces, each of which is taken as a whole or leaves no trace.

use std::io;
use std::path::{Path, PathBuf};

use crate::encode::Counted;
use crate::error::At;
use crate::fs::{Fs, Handle, Syncing};
use crate::{Amount, SpoolError};

/// **Invariant:** everything before `good.bytes` stays as it is; what is behind it is of no value.
#[derive(Debug)]
pub(crate) struct Growing {
    path: PathBuf,
    file: State,
    good: Counted,
    /// Written behind `good`, not accepted.
    staged: Option<Counted>,
    /// There may be something behind `good`.
    dirty: bool,
}

#[derive(Debug)]
enum State {
    Open(Box<dyn Handle>),
    Syncing(Syncing),
    /// Synced and closed.
    Closed,
    /// Closed, and what was written may be lost.
    Failed,
}

impl Growing {
    /// A file whose first `good.bytes` are of value.
    pub(crate) fn new(path: PathBuf, file: Box<dyn Handle>, good: Counted) -> Self {
        // A leftover of the same name may have more in it.
        Self { path, file: State::Open(file), good, staged: None, dirty: true }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn amount(&self) -> Amount {
        self.good.amount
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.good.bytes
    }

    /// The size of what is written and not accepted.
    pub(crate) fn staged_bytes(&self) -> u64 {
        self.staged.as_ref().map_or(0, |staged| staged.bytes - self.good.bytes)
    }

    pub(crate) fn sha256(&self) -> String {
        self.good.hash.hex()
    }

    /// Whether more can be appended.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.file, State::Open(_))
    }

    /// Writes a piece. It counts only once it is accepted; until then [`Growing::undo`] or the next piece takes it back.
    pub(crate) fn stage(
        &mut self,
        amount: Amount,
        write: impl FnOnce(&mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>,
    ) -> Result<(), SpoolError> {
        self.undo()?;
        let Self { path, file: State::Open(file), good, staged, dirty } = self else {
            return Err(closed(&self.path));
        };
        *dirty = true;
        let mut next = good.clone();
        next.amount += amount;
        let written = write(&mut |chunk| {
            next.bytes += chunk.len() as u64;
            file.write_all(chunk)?;
            next.hash.update(chunk);
            Ok(())
        });
        written.map_err(|err| SpoolError::io("append to", path, next.bytes, err))?;
        *staged = Some(next);
        Ok(())
    }

    /// Makes what was written durable.
    pub(crate) fn sync(&mut self) -> Result<(), SpoolError> {
        let result = match std::mem::replace(&mut self.file, State::Closed) {
            State::Open(mut file) => {
                let result = file.sync();
                self.file = State::Open(file);
                result
            }
            State::Syncing(syncing) => match syncing.wait() {
                Ok(()) => Ok(()),
                Err(source) => {
                    // Asked again, a system may say that all is well. So this is never an error for want of room, which
                    // would say that the same can work later.
                    self.file = State::Failed;
                    return Err(SpoolError::Io { operation: "sync", path: self.path.clone(), source });
                }
            },
            State::Closed => Ok(()),
            State::Failed => {
                self.file = State::Failed;
                Err(io::Error::other("an earlier sync of this file failed"))
            }
        };
        result.map_err(|err| SpoolError::io("sync", &self.path, self.bytes(), err))
    }

    /// What was staged is good from now on. Cannot fail, so that several files can be accepted together.
    pub(crate) fn accept(&mut self) -> u64 {
        let before = self.good.bytes;
        if let Some(staged) = self.staged.take() {
            self.good = staged;
            self.dirty = false;
        }
        self.good.bytes - before
    }

    /// Cuts off what was not accepted.
    pub(crate) fn undo(&mut self) -> Result<(), SpoolError> {
        self.staged = None;
        if let State::Open(file) = &mut self.file
            && self.dirty
        {
            file.truncate(self.good.bytes).at("cut off", &self.path)?;
            self.dirty = false;
        }
        Ok(())
    }

    /// Nothing more will follow: syncs and closes, possibly in the background; [`Growing::sync`] waits for it.
    pub(crate) fn close(&mut self, fs: &dyn Fs) {
        self.file = match std::mem::replace(&mut self.file, State::Closed) {
            State::Open(file) => State::Syncing(fs.begin_sync(file)),
            other => other,
        };
    }
}

fn closed(path: &Path) -> SpoolError {
    SpoolError::io("append to", path, 0, io::Error::other("the file is closed already"))
}
