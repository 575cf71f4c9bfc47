//! A copy of a state: whether it fits, and that nobody writes meanwhile.

use std::fs::{DirEntry, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::StateError;
use super::act::Point;
use crate::StoreError;
use crate::atomic::{FileError, sync_folder};
use crate::root::make_private;

/// Left free beside the copy and a tenth of it, in bytes: what a migration writes anew, and the logs meanwhile.
const MARGIN: u64 = 8 << 20;
/// The ending of the stores' names.
const STORE: &str = "redb";
/// The pause between two tries to have a store.
const PAUSE: Duration = Duration::from_millis(20);

/// What is copied; the service's socket is not.
enum Kind {
    Folder,
    File,
    Socket,
}

fn kind(entry: &DirEntry) -> Result<Kind, StateError> {
    let path = entry.path();
    let kind = entry.file_type().map_err(FileError::at("look at", &path))?;
    if kind.is_dir() {
        return Ok(Kind::Folder);
    }
    if kind.is_file() {
        return Ok(Kind::File);
    }
    #[cfg(unix)]
    if std::os::unix::fs::FileTypeExt::is_socket(&kind) {
        return Ok(Kind::Socket);
    }
    // A link is none of them: a migration would change what it leads to.
    Err(StateError::Strange { path })
}

fn entries(folder: &Path) -> Result<Vec<DirEntry>, FileError> {
    let entries = std::fs::read_dir(folder).map_err(FileError::at("list", folder))?;
    entries.collect::<io::Result<_>>().map_err(FileError::at("list", folder))
}

/// Has all stores of a state for itself, as long as the answer lives. Every process that opens one locks its file.
pub(super) fn hold_stores(state: &Path, wait: Duration, at: Point<'_>) -> Result<Vec<File>, StateError> {
    let paths = entries(state)?.into_iter().map(|it| it.path());
    let stores = paths.filter(|it| it.extension().is_some_and(|it| it == STORE));
    stores.map(|it| hold(it, wait, at)).collect()
}

fn hold(path: PathBuf, wait: Duration, at: Point<'_>) -> Result<File, StateError> {
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(FileError::at("open", &path))?;
    let mut waited = Duration::ZERO;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if waited < wait => {
                at("wait")?;
                thread::sleep(PAUSE);
                waited += PAUSE;
            }
            Err(TryLockError::WouldBlock) => {
                return Err(StateError::Store(StoreError::InUse { path, waited }));
            }
            Err(TryLockError::Error(err)) => return Err(FileError::at("lock", &path)(err).into()),
        }
    }
}

/// Whether a copy fits onto the disk, before its first byte.
pub(super) fn admit(state: &Path, root: &Path) -> Result<(), StateError> {
    let bytes = bytes_of(state)?;
    let need = bytes.saturating_add(bytes / 10).saturating_add(MARGIN);
    let free = free(root).map_err(FileError::at("look at the disk of", root))?;
    if free < need {
        return Err(StateError::NoRoom { path: state.to_owned(), need, free });
    }
    Ok(())
}

fn bytes_of(folder: &Path) -> Result<u64, StateError> {
    let mut bytes: u64 = 0;
    for entry in entries(folder)? {
        bytes = bytes.saturating_add(match kind(&entry)? {
            Kind::Folder => bytes_of(&entry.path())?,
            Kind::File => entry.metadata().map_err(FileError::at("look at", &entry.path()))?.len(),
            Kind::Socket => 0,
        });
    }
    Ok(bytes)
}

/// What the disk of a folder has for this user, in bytes.
#[cfg(unix)]
fn free(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// There nobody is asked.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
fn free(_: &Path) -> io::Result<u64> {
    Ok(u64::MAX)
}

/// Copies all that is in a folder into a new one.
pub(super) fn copy_tree(from: &Path, to: &Path, at: Point<'_>) -> Result<(), StateError> {
    at("make a folder")?;
    make_private(to).map_err(FileError::at("make the folder", to))?;
    for entry in entries(from)? {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match kind(&entry)? {
            Kind::Folder => copy_tree(&from, &to, at)?,
            Kind::File => copy_file(&from, &to, at)?,
            Kind::Socket => {}
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path, at: Point<'_>) -> Result<(), StateError> {
    at("copy")?;
    let mut source = File::open(from).map_err(FileError::at("open", from))?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, crate::atomic::PRIVATE);
    let mut copy = options.open(to).map_err(FileError::at("make", to))?;
    io::copy(&mut source, &mut copy).map_err(FileError::at("copy", from))?;
    Ok(())
}

/// Makes all of a folder durable.
pub(super) fn sync_tree(folder: &Path, at: Point<'_>) -> Result<(), StateError> {
    for entry in entries(folder)? {
        let path = entry.path();
        match kind(&entry)? {
            Kind::Folder => sync_tree(&path, at)?,
            Kind::File => {
                at("sync")?;
                let file = OpenOptions::new().write(true).open(&path);
                file.and_then(|it| it.sync_all()).map_err(FileError::at("sync", &path))?;
            }
            Kind::Socket => {}
        }
    }
    at("sync")?;
    Ok(sync_folder(folder)?)
}
