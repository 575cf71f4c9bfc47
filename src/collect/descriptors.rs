//! Open files: which are kept, and how one is read.
//!
//! # Invariants
//! - A kept file is read by `pread` from its start: one call, a third of the cost of opening it each time.
//! - Descriptors go to what is read most often, as long as there are some; the rest is opened for each reading, relative to
//!   its hierarchy's folder. No cache by age: cycles read all files in turn, so the oldest is the one needed next.
//! - A share of the process's descriptors is left to others.
//! - A text is read whole, in one piece: where the buffer was too small, it grows and the file is read again from its start.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::parse::Fault;

/// How many descriptors may still be kept.
#[derive(Debug, Clone, Copy)]
pub struct Budget(u64);

impl Budget {
    /// Raises the process's soft limit to its hard one; all but an eighth of it, and 64 at the least, may be kept.
    #[must_use]
    pub fn raised() -> Self {
        let limit = getrlimit(Resource::Nofile);
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        let current = match setrlimit(Resource::Nofile, raised) {
            Ok(()) => limit.maximum,
            Err(_) => limit.current,
        };
        // No limit at all is not for us to use up.
        let current = current.unwrap_or(1 << 20).min(1 << 20);
        Self(current.saturating_sub((current / 8).max(64)))
    }

    /// A fixed one.
    #[must_use]
    pub fn of(descriptors: u64) -> Self {
        Self(descriptors)
    }

    pub(crate) fn left(self) -> u64 {
        self.0
    }

    fn take(&mut self) -> bool {
        let left = self.0.checked_sub(1);
        self.0 = left.unwrap_or_default();
        left.is_some()
    }

    /// The system has none left, whatever was planned.
    pub(crate) fn exhaust(&mut self) {
        self.0 = 0;
    }

    pub(crate) fn give_back(&mut self, descriptors: u64) {
        self.0 += descriptors;
    }
}

/// Why a file was not read.
#[derive(Debug)]
pub(crate) enum Unread {
    /// The cgroup is gone.
    Gone,
    /// There is no such file.
    Missing,
    /// No descriptor is left in the process or the system.
    Full,
    /// The system refused.
    Refused(Errno),
    /// It is no text.
    Binary(Fault),
}

/// Reads a file, by its kept descriptor or by opening it.
pub(crate) fn read<'b>(
    kept: &mut Option<OwnedFd>,
    keep: bool,
    (root, path): (&OwnedFd, &str),
    budget: &mut Budget,
    buffer: &'b mut Vec<u8>,
) -> Result<&'b str, Unread> {
    let length = if let Some(file) = kept {
        pread(file, buffer)
    } else {
        let file = open(root, path)?;
        let length = pread(&file, buffer);
        if keep && length.is_ok() && budget.take() {
            *kept = Some(file);
        }
        length
    };
    let length = length.map_err(|errno| match errno {
        Errno::NODEV => Unread::Gone,
        errno => Unread::Refused(errno),
    })?;
    std::str::from_utf8(&buffer[..length])
        .map_err(|err| Unread::Binary(Fault::Binary { at: err.valid_up_to() }))
}

pub(crate) fn open(root: &OwnedFd, path: &str) -> Result<OwnedFd, Unread> {
    let opened = rustix::fs::openat(root, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    opened.map_err(|errno| match errno {
        Errno::NOENT | Errno::NOTDIR => Unread::Missing,
        Errno::NODEV => Unread::Gone,
        Errno::MFILE | Errno::NFILE => Unread::Full,
        errno => Unread::Refused(errno),
    })
}

/// More is no file of a cgroup.
const MOST: usize = 1 << 20;

fn pread(file: &OwnedFd, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
    loop {
        let length = rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut buffer[..], 0))?;
        if length < buffer.len() || buffer.len() >= MOST {
            return Ok(length);
        }
        buffer.resize(buffer.len() * 2, 0);
    }
}
