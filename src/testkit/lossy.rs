//! A disk in memory that, when the power goes, has lost some of what was not synced: any write since the last sync, whole
//! or in part, in any order.

use std::cell::RefCell;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{BackendError, Database, DatabaseError, StorageBackend};

/// What a disk writes as one.
const SECTOR: usize = 512;

/// The disk. Cheap to clone: all clones are one disk.
#[derive(Debug, Clone, Default)]
pub struct Lossy(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    /// What survives.
    durable: Vec<u8>,
    /// What a reader sees.
    seen: Vec<u8>,
    /// What was done since the last sync.
    pending: Vec<Change>,
    /// After so many more changes and syncs the power goes.
    left: Option<u64>,
}

#[derive(Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

thread_local! {
    /// The disk on which this thread opens stores.
    static CURRENT: RefCell<Lossy> = RefCell::default();
}

/// Opens a database on the disk of this thread, in place of a file's.
///
/// # Errors
/// As the database itself.
pub fn on_this_threads_disk(_: std::fs::File) -> Result<Database, DatabaseError> {
    let disk = CURRENT.with(|it| it.borrow().clone());
    Database::builder().create_with_backend(disk)
}

impl Lossy {
    /// A new disk, on which this thread opens stores from now on.
    pub fn insert() -> Self {
        let disk = Self::default();
        CURRENT.with(|it| *it.borrow_mut() = disk.clone());
        disk
    }

    /// The power goes after so many changes and syncs: they and all later ones fail.
    pub fn cut_after(&self, operations: u64) {
        self.disk().left = Some(operations);
    }

    /// The power is back. `survives` says for each sector, or new length, that was not synced whether it is there.
    pub fn restart(&self, mut survives: impl FnMut() -> bool) {
        let mut disk = self.disk();
        for change in std::mem::take(&mut disk.pending) {
            match change {
                Change::Write(offset, data) => {
                    for (n, sector) in data.chunks(SECTOR).enumerate() {
                        if survives() {
                            put(&mut disk.durable, offset + n * SECTOR, sector);
                        }
                    }
                }
                // A file's length is the file system's, which keeps its own order: it is there as soon as data behind it is.
                Change::Length(length) => {
                    let length = length.max(disk.durable.len());
                    disk.durable.resize(length, 0);
                }
            }
        }
        disk.seen = disk.durable.clone();
        disk.left = None;
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    fn step(&mut self) -> std::io::Result<()> {
        match &mut self.left {
            Some(0) => Err(std::io::Error::other("the power is off")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn put(to: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if to.len() < offset + data.len() {
        to.resize(offset + data.len(), 0);
    }
    to[offset..offset + data.len()].copy_from_slice(data);
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

impl StorageBackend for Lossy {
    fn len(&self) -> std::io::Result<u64> {
        Ok(self.disk().seen.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        let disk = self.disk();
        let found = disk.seen.get(place(offset)..place(offset) + out.len());
        out.copy_from_slice(found.ok_or(std::io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        let mut disk = self.disk();
        disk.step()?;
        disk.seen.resize(place(len), 0);
        disk.pending.push(Change::Length(place(len)));
        Ok(())
    }
    fn sync_data(&self) -> std::io::Result<()> {
        let mut disk = self.disk();
        disk.step()?;
        disk.durable = disk.seen.clone();
        disk.pending.clear();
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        let mut disk = self.disk();
        disk.step()?;
        put(&mut disk.seen, place(offset), data);
        disk.pending.push(Change::Write(place(offset), data.to_owned()));
        Ok(())
    }
    fn close(&self) -> std::io::Result<()> {
        Ok(())
    }
    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }
    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
}
