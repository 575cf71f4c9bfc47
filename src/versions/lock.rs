//! Who may do what alone.
//!
//! Each lock is one that the system holds on an open file, never the existence of a file: it ends with the process that
//! holds it, however that ends, so it cannot go stale. Children do not inherit it.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{FileError, VersionsError};
use crate::fs::{Fs, Held};
use crate::layout::Layout;

/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(10);

/// What one process at a time may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Post {
    /// The one that changes journal and links; held for the moment of a change, so that the launcher never waits long.
    Writer,
    /// The one that carries an attempt out until the switch; held all the while.
    Worker,
    /// The one that watches a new version; held all the while.
    Watcher,
}

/// A held lock; dropping it lets it go.
pub struct Lock(#[expect(dead_code, reason = "it is held, not used")] Held);

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lock")
    }
}

/// Takes a lock, waiting for it as long as `wait`.
pub(crate) fn take(fs: &dyn Fs, layout: &Layout, post: Post, wait: Duration) -> Result<Lock, VersionsError> {
    let folder = layout.upgrade();
    fs.create_dir(&folder).map_err(FileError::at("make the folder", &folder))?;
    let path = layout.lock(post);
    let began = Instant::now();
    loop {
        match fs.try_lock(&path).map_err(FileError::at("lock", &path))? {
            Some(held) => return Ok(Lock(held)),
            None if began.elapsed() >= wait => return Err(VersionsError::Locked { path }),
            None => thread::sleep(PAUSE),
        }
    }
}
