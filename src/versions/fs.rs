//! The few operations of a file system that versions need, so that tests can let each of them fail or be the last one.

use std::any::Any;
use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::sha256::{Digest, Sha256};

/// What lies at a path; a link is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Dir,
    Link,
    Other,
}

/// What is known of what lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) kind: Kind,
    /// Who owns it; 0 where the system does not tell.
    pub(crate) owner: u32,
    /// Its permissions, with the bits of setuid, setgid and sticky; 0 where the system has none.
    pub(crate) mode: u32,
    /// Of a file, in bytes.
    pub(crate) size: u64,
    /// When its content was last changed, by the wall clock.
    pub(crate) modified: SystemTime,
}

impl Meta {
    /// Whether others than the owner may write to it.
    pub(crate) fn is_open_to_others(self) -> bool {
        self.mode & 0o022 != 0
    }
}

/// A file system. A call does one thing, and follows no link at the end of its path.
pub(crate) trait Fs: Debug + Send + Sync {
    /// Makes one folder, for the owner alone, unless it is there.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes a file, or empties it, writes it, for the owner alone, and syncs its content.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// At most `limit` bytes of a file, and one more if it is longer.
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>>;
    fn meta(&self, path: &Path) -> io::Result<Meta>;
    /// The sum of a part of a file, which must not be shorter.
    fn sum(&self, path: &Path, from: u64, bytes: u64) -> io::Result<Digest>;
    /// The names in a folder, in order.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;
    fn symlink(&self, target: &Path, path: &Path) -> io::Result<()>;
    fn read_link(&self, path: &Path) -> io::Result<PathBuf>;
    /// Replaces a file or link that is at `to`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file or a link.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes the content of a file durable.
    fn sync_file(&self, path: &Path) -> io::Result<()>;
    /// Makes durable which names a folder holds.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Takes a lock that ends with the returned value or with the process; nothing when another has it.
    fn try_lock(&self, path: &Path) -> io::Result<Option<Held>>;
}

/// A held lock.
pub(crate) type Held = Box<dyn Any + Send + Sync>;

/// Nothing where the answer is that nothing is there.
pub(crate) fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err),
    }
}

/// The names of [`Fs::list`] that are UTF-8: all that this crate gives are.
pub(crate) fn texts(names: Vec<OsString>) -> Vec<String> {
    names.into_iter().filter_map(|it| it.into_string().ok()).collect()
}

/// What is read at a time, in bytes.
const BUFFER: usize = 256 * 1024;

/// The real file system.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RealFs;

impl Fs for RealFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match private_dir().create(path) {
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            other => other,
        }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = private_file().truncate(true).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(limit as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn meta(&self, path: &Path) -> io::Result<Meta> {
        let meta = path.symlink_metadata()?;
        let kind = match meta.file_type() {
            it if it.is_file() => Kind::File,
            it if it.is_dir() => Kind::Dir,
            it if it.is_symlink() => Kind::Link,
            _ => Kind::Other,
        };
        let (owner, mode) = rights(&meta);
        let modified = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        Ok(Meta { kind, owner, mode, size: meta.len(), modified })
    }

    fn sum(&self, path: &Path, from: u64, bytes: u64) -> io::Result<Digest> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        let mut rest = bytes;
        let (mut sum, mut buffer) = (Sha256::new(), vec![0; BUFFER]);
        while rest > 0 {
            let most = usize::try_from(rest).map_or(BUFFER, |it| it.min(BUFFER));
            file.read_exact(&mut buffer[..most])?;
            sum.update(&buffer[..most]);
            rest -= most as u64;
        }
        Ok(sum.finish())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let names = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name()));
        let mut names: Vec<_> = names.collect::<io::Result<_>>()?;
        names.sort();
        Ok(names)
    }

    #[cfg(unix)]
    fn symlink(&self, target: &Path, path: &Path) -> io::Result<()> {
        std::os::unix::fs::symlink(target, path)
    }

    /// Links there want another right; upgrades are not made there yet.
    #[cfg(not(unix))]
    fn symlink(&self, _target: &Path, _path: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        std::fs::read_link(path)
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

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
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

    fn try_lock(&self, path: &Path) -> io::Result<Option<Held>> {
        let file = private_file().truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(err)) => Err(err),
        }
    }
}

/// Writing a file that only its owner may read; it is made when it is missing.
fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
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

#[cfg(unix)]
fn rights(meta: &std::fs::Metadata) -> (u32, u32) {
    use std::os::unix::fs::MetadataExt;
    (meta.uid(), meta.mode() & 0o7777)
}

#[cfg(not(unix))]
fn rights(_meta: &std::fs::Metadata) -> (u32, u32) {
    (0, 0)
}
