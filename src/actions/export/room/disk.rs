//! The disk of the spool: where an export needs its room, files that the backend has and that are kept for a while go early.
//!
//! They go while there is still a little more room than is to be left, so that an export does not pause for them, and a few
//! at once, so that they are not looked for again with each file.
//!
//! **Invariant:** nothing goes but files in `sent/`, and an export pauses for the disk only when none of them is left that can
//! be removed.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use outrider_home::Limits;
use outrider_protocol::fault::chain;
use outrider_spool::Spool;

use super::Shortage;

/// The most that is kept free beyond what is to be left, in bytes: an export writes less between two looks.
const MARGIN_MOST: u64 = 64 << 20;

/// What went early.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Shed {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// The disk of the spool.
#[derive(Debug)]
pub(crate) struct Disk {
    spool: Spool,
    /// To be left free, in bytes.
    limit: u64,
    /// Acknowledged files go when less than this is free beyond the limit.
    margin: u64,
    /// What is free on the disk of a folder.
    pub(crate) free_of: fn(&Path) -> Option<u64>,
    shed: Mutex<Shed>,
}

impl Disk {
    pub(crate) fn new(spool: Spool, limits: &Limits) -> Self {
        let limit = limits.spool_free_bytes;
        let margin = limits.spool_file_bytes.max(limit / 4).min(MARGIN_MOST);
        Self { spool, limit, margin, free_of, shed: Mutex::default() }
    }

    /// Makes room where there is little; answers why there is none. A system that does not tell has room.
    pub(crate) fn shortage(&self) -> Option<Shortage> {
        let free = (self.free_of)(self.spool.dir())?;
        let (removed, stuck) = match wanted(free, self.limit, self.margin) {
            0 => (0, None),
            bytes => self.make_room(bytes),
        };
        // Some file systems count it only later.
        let free = free.saturating_add(removed);
        (free < self.limit).then_some(Shortage::Disk { free, limit: self.limit, stuck })
    }

    /// What went early so far.
    pub(crate) fn shed(&self) -> Shed {
        *self.shed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes acknowledged files; answers with the bytes, and with what is in the way of more.
    fn make_room(&self, bytes: u64) -> (u64, Option<String>) {
        match self.spool.shed_sent(bytes) {
            Ok(removed) => {
                let mut shed = self.shed.lock().unwrap_or_else(PoisonError::into_inner);
                shed.files += removed.files;
                shed.bytes += removed.bytes;
                (removed.bytes, removed.failed.first().map(|(_, err)| chain(err)))
            }
            Err(err) => (0, Some(chain(&err))),
        }
    }
}

/// How many bytes are to go so that an export goes on for a while.
fn wanted(free: u64, limit: u64, margin: u64) -> u64 {
    let low = limit.saturating_add(margin);
    if free >= low { 0 } else { low.saturating_add(margin) - free }
}

/// What is free on the disk of a folder, in bytes.
#[cfg(unix)]
fn free_of(dir: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(dir).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(unix))]
fn free_of(_dir: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use outrider_spool::Settings;

    #[test]
    fn files_go_before_the_limit_is_reached_and_more_than_one_look_needs() {
        assert_eq!(wanted(150, 100, 50), 0);
        assert_eq!(wanted(149, 100, 50), 51);
        assert_eq!(wanted(0, 0, 50), 100, "also where nothing is to be left");
        assert_eq!(wanted(0, u64::MAX, 1), u64::MAX);
    }

    /// A spool whose two files of one object each are acknowledged, and what one of them takes.
    fn acknowledged() -> (tempfile::TempDir, Spool, u64) {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path(), Settings::default()).unwrap();
        let mut writer = spool.export("e1").unwrap();
        for _ in 0..2 {
            let mut session = writer.session("mock", "a.B");
            session.append(b"{}").unwrap();
            writer.commit(session).unwrap();
            writer.seal_all().unwrap();
        }
        let files = spool.pending().unwrap().files;
        files.iter().for_each(|it| spool.acknowledge(it).unwrap());
        (dir, spool, files[0].bytes)
    }

    fn disk(spool: &Spool, limit: u64, margin: u64, free_of: fn(&Path) -> Option<u64>) -> Disk {
        Disk { spool: spool.clone(), limit, margin, free_of, shed: Mutex::default() }
    }

    #[test]
    fn what_the_backend_has_gives_way_before_an_export_pauses() {
        let (_dir, spool, bytes) = acknowledged();
        let enough = disk(&spool, 1, 0, |_| Some(1));
        assert_eq!((enough.shortage(), enough.shed()), (None, Shed::default()), "there is room");
        let short = disk(&spool, 1, 0, |_| Some(0));
        assert_eq!((short.shortage(), short.shed()), (None, Shed { files: 1, bytes }));
        let hopeless = disk(&spool, 1 << 40, 0, |_| Some(0));
        let expected = Shortage::Disk { free: bytes, limit: 1 << 40, stuck: None };
        assert_eq!((hopeless.shortage(), hopeless.shed()), (Some(expected), Shed { files: 1, bytes }));
        assert_eq!(spool.usage().unwrap().sent_files, 0);
    }

    #[test]
    fn what_is_in_the_way_and_cannot_be_removed_is_named() {
        let (dir, spool, _) = acknowledged();
        let model = dir.path().join("sent/e1/a.B");
        // A folder cannot be removed as a file, whoever asks.
        std::fs::create_dir(model.join("7.json.gz")).unwrap();
        let short = disk(&spool, 1 << 40, 0, |_| Some(0)).shortage().unwrap();
        assert!(short.told().contains("in sent/") && short.told().contains("7.json.gz"), "{}", short.told());
    }
}
