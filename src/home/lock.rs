//! The lock of a root: one service uses it at a time.
//!
//! It is a lock that the system holds on an open file, never the existence of a file: it ends with the process that
//! holds it, however that ends, so it cannot go stale. Children do not inherit it.

use std::fs::{File, TryLockError};
use std::io::{Seek, Write};
use std::thread;
use std::time::Duration;

use crate::Root;
use crate::atomic::{self, FileError};

/// How often to try before the root counts as in use. Whoever only looks ([`Root::in_use`]) holds it for an instant.
const TRIES: u32 = 10;
/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// A root could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds the lock.
    #[error(
        "lock the root {}: it is in use by {}; stop that service first, or give another root",
        root.path().display(), holder(*pid)
    )]
    InUse {
        /// Which root.
        root: Root,
        /// Who holds it, where it can be read.
        pid: Option<u32>,
    },
    /// The file of the lock could not be made, locked or written.
    #[error(transparent)]
    File(FileError),
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("the service with process id {pid}"))
}

/// The sole right to be the service of a root, until it is dropped or the process ends.
#[derive(Debug)]
pub struct RootLock(File);

/// The sole right to the log of `collect` and to its time windows, until it is dropped or the process ends.
#[derive(Debug)]
pub struct CollectLock(#[expect(dead_code, reason = "it is held")] File);

impl Root {
    /// Takes what only one `collect` of a root can have; nothing where another process has it. The root's folders must be there.
    ///
    /// # Errors
    /// When the file of the lock cannot be made or locked.
    pub fn lock_collect(&self) -> Result<Option<CollectLock>, FileError> {
        let path = self.state().join("collect.lock");
        let file = atomic::open_private(&path).map_err(FileError::at("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(CollectLock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(err)) => Err(FileError::at("lock", &path)(err)),
        }
    }

    /// Takes the root for this process. The root's folder must be there ([`Root::create`]). Then removes what a process
    /// that was killed left half-written.
    ///
    /// # Errors
    /// [`LockError::InUse`] when another process has it; waits a fifth of a second for it.
    pub fn lock(&self) -> Result<RootLock, LockError> {
        let path = self.lock_path();
        let mut file =
            atomic::open_private(&path).map_err(|err| LockError::File(FileError::at("open", &path)(err)))?;
        for tries in 1.. {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if tries < TRIES => thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => {
                    return Err(LockError::InUse { root: self.clone(), pid: self.pid_of_holder() });
                }
                Err(TryLockError::Error(err)) => {
                    return Err(LockError::File(FileError::at("lock", &path)(err)));
                }
            }
        }
        let noted = note_pid(&mut file).map_err(FileError::at("write", &path));
        let swept = noted.and_then(|()| {
            [self.path(), &self.state(), &self.exports(), &self.crashes()]
                .into_iter()
                .try_for_each(atomic::sweep)
        });
        swept.map_err(LockError::File)?;
        Ok(RootLock(file))
    }

    /// Whether a service uses the root now: `Err(`[`LockError::InUse`]`)` with its process id if so.
    ///
    /// # Errors
    /// As [`Root::lock`]. A root that was never locked is not in use, also when its folder is missing.
    pub fn in_use(&self) -> Result<(), LockError> {
        let path = self.lock_path();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(err) => return Err(LockError::File(FileError::at("open", &path)(err))),
        };
        // A shared lock, so that two that look do not see each other.
        match file.try_lock_shared() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => {
                Err(LockError::InUse { root: self.clone(), pid: self.pid_of_holder() })
            }
            Err(TryLockError::Error(err)) => Err(LockError::File(FileError::at("lock", &path)(err))),
        }
    }

    /// On Windows a locked file cannot be read, so the process id stays unknown there.
    fn pid_of_holder(&self) -> Option<u32> {
        std::fs::read_to_string(self.lock_path()).ok()?.trim().parse().ok()
    }
}

fn note_pid(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

impl Drop for RootLock {
    fn drop(&mut self) {
        // The lock ends with the file; a process id that stays behind is never read while nobody holds the lock.
        drop(self.0.set_len(0));
    }
}
