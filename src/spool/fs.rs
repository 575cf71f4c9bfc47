//! The few operations of a file system that the spool needs, so that tests can let each of them fail.

use std::any::Any;
use std::fmt::Debug;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::SystemTime;

/// Files that are synced at the same time in the background; above this the disk is the limit and the caller waits.
const BACKGROUND_SYNCS: usize = 4;

/// A file system. Paths are below the spool; a call does one thing.
pub(crate) trait Fs: Debug + Send + Sync {
    /// Makes one folder, for the owner alone, unless it is there.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Opens a file for writing at its end, for the owner alone; makes it when it is missing.
    fn append(&self, path: &Path) -> io::Result<Box<dyn Handle>>;
    fn read(&self, path: &Path) -> io::Result<Box<dyn Read + Send>>;
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;
    /// Replaces what is at `to`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes what was created, renamed and removed in a folder durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Says that a file was changed just now.
    fn touch(&self, path: &Path) -> io::Result<()>;
    /// Takes a lock that ends with the returned value or with the process; nothing when another has it.
    fn try_lock(&self, path: &Path) -> io::Result<Option<Lock>>;
    /// Syncs and closes a file, possibly while the caller goes on.
    fn begin_sync(&self, file: Box<dyn Handle>) -> Syncing;
}

/// A held lock.
pub(crate) type Lock = Box<dyn Any + Send + Sync>;

/// A file that is being written.
pub(crate) trait Handle: Debug + Send {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file off; the next write follows there.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

/// What a folder holds.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) is_dir: bool,
    pub(crate) len: u64,
    pub(crate) modified: SystemTime,
}

/// A sync that was begun.
#[derive(Debug)]
pub(crate) enum Syncing {
    Done(io::Result<()>),
    Running(JoinHandle<io::Result<()>>),
}

impl Syncing {
    pub(crate) fn wait(self) -> io::Result<()> {
        match self {
            Self::Done(result) => result,
            Self::Running(thread) => {
                thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that syncs panicked")))
            }
        }
    }
}

/// Makes a folder and those missing above it.
pub(crate) fn create_dirs(fs: &dyn Fs, path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|it| !it.as_os_str().is_empty());
    match (fs.create_dir(path), parent) {
        (Err(err), Some(parent)) if err.kind() == io::ErrorKind::NotFound => {
            create_dirs(fs, parent)?;
            fs.create_dir(path)?;
        }
        (other, _) => drop(other?),
    }
    // Also when it was there already: whoever made it may have failed, or ended, before this.
    parent.map_or(Ok(()), |parent| fs.sync_dir(parent))
}

/// Makes folders below `base`, which is durable, so that all of them are.
pub(crate) fn create_below(fs: &dyn Fs, base: &Path, names: &[&str]) -> io::Result<PathBuf> {
    let mut path = base.to_owned();
    for name in names {
        let parent = path.clone();
        path.push(name);
        fs.create_dir(&path)?;
        fs.sync_dir(&parent)?;
    }
    Ok(path)
}

/// What a folder holds; nothing when it is missing.
pub(crate) fn list_if_there(fs: &dyn Fs, dir: &Path) -> io::Result<Vec<Entry>> {
    match fs.list(dir) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}

/// The real file system.
#[derive(Debug, Default)]
pub(crate) struct RealFs {
    syncing: Arc<AtomicUsize>,
}

impl Fs for RealFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match private_dir().create(path) {
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            other => other,
        }
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        let mut options = OpenOptions::new();
        // Not `append`: on Windows that right does not include truncation.
        options.write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Box::new(RealHandle(file)))
    }

    fn read(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(path)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            // A name that is not UTF-8 is not one of ours.
            let Ok(name) = entry.file_name().into_string() else { continue };
            match entry.metadata() {
                Ok(meta) => entries.push(Entry {
                    name,
                    is_dir: meta.is_dir(),
                    len: meta.len(),
                    modified: meta.modified()?,
                }),
                // Another process moved it meanwhile.
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                Err(err) => return Err(err),
            }
        }
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir(path)
    }

    #[cfg(unix)]
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    /// There is no such call; the file system's own journal keeps the order.
    #[cfg(not(unix))]
    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn touch(&self, path: &Path) -> io::Result<()> {
        OpenOptions::new().write(true).open(path)?.set_modified(SystemTime::now())
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(err)) => Err(err),
        }
    }

    fn begin_sync(&self, file: Box<dyn Handle>) -> Syncing {
        if self.syncing.fetch_add(1, Ordering::Relaxed) >= BACKGROUND_SYNCS {
            self.syncing.fetch_sub(1, Ordering::Relaxed);
            return Syncing::Done(sync_now(file));
        }
        let count = self.syncing.clone();
        // The file goes through a slot, so that it is still here when no thread can be had.
        let slot = Arc::new(std::sync::Mutex::new(Some(file)));
        let theirs = slot.clone();
        let thread = std::thread::Builder::new().name("spool-sync".into()).spawn(move || {
            let result = take(&theirs).map_or(Ok(()), sync_now);
            count.fetch_sub(1, Ordering::Relaxed);
            result
        });
        match thread {
            Ok(thread) => Syncing::Running(thread),
            Err(_) => {
                self.syncing.fetch_sub(1, Ordering::Relaxed);
                Syncing::Done(take(&slot).map_or(Ok(()), sync_now))
            }
        }
    }
}

fn take(slot: &std::sync::Mutex<Option<Box<dyn Handle>>>) -> Option<Box<dyn Handle>> {
    slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
}

fn sync_now(mut file: Box<dyn Handle>) -> io::Result<()> {
    file.sync()
}

#[cfg(unix)]
fn private_dir() -> DirBuilder {
    let mut builder = DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

/// The root folder's own rights are inherited.
#[cfg(not(unix))]
fn private_dir() -> DirBuilder {
    DirBuilder::new()
}

#[derive(Debug)]
struct RealHandle(File);

impl Handle for RealHandle {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)?;
        self.0.seek(SeekFrom::Start(len)).map(drop)
    }
}
