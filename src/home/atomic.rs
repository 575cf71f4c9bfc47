//! Files that are either the old one or the new one, whatever happens while they are written, and the error that names
//! the file.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The permissions of files that hold secrets: only the owner reads and writes.
pub const PRIVATE: u32 = 0o600;
/// The end of the name of a file that is being written.
const PART: &str = ".tmp";

/// An operation on a file or folder of the root failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}{}", path.display(), hint(err))]
pub struct FileError {
    /// What was tried: `write`, `rename into place`.
    pub operation: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub err: io::Error,
}

/// What to do, where the system's own words leave it open.
fn hint(err: &io::Error) -> &'static str {
    match err.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            " (make room on that disk, then try again)"
        }
        io::ErrorKind::PermissionDenied => " (the user that runs this must own the root)",
        io::ErrorKind::ReadOnlyFilesystem => " (the root must lie on a disk that can be written)",
        _ => "",
    }
}

impl FileError {
    pub(crate) fn at(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |err| Self { operation, path, err }
    }

    /// Whether the disk, or the user's share of it, is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self.err.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

impl From<FileError> for io::Error {
    fn from(err: FileError) -> Self {
        Self::new(err.err.kind(), err)
    }
}

/// Replaces the file at `path` by one that holds `bytes`, with the permissions `mode` where the system knows them (as
/// [`PRIVATE`]). When this returns, the new file is durable; until then a reader, or the next start after a crash, finds
/// the old one whole.
///
/// # Errors
/// When a step fails, naming it and the file. The old file is then untouched.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let file = written(path, bytes, mode)?;
    file.persist(path).map_err(|failed| FileError::at("rename into place", path)(failed.error))?;
    sync_folder(folder_of(path))
}

/// Makes the file at `path` as [`write`] does, unless there is one already: then that stays, and this is no error.
///
/// # Errors
/// When a step fails, naming it and the file.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    match written(path, bytes, mode)?.persist_noclobber(path) {
        Ok(_) => {}
        Err(failed) if failed.error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(failed) => return Err(FileError::at("rename into place", path)(failed.error)),
    }
    sync_folder(folder_of(path))
}

/// A durable file under another name, in the same folder, since a rename is atomic within one file system only. It is
/// removed when a step fails.
fn written(path: &Path, bytes: &[u8], mode: u32) -> Result<tempfile::NamedTempFile, FileError> {
    let name = path.file_name().unwrap_or_else(|| OsStr::new("file"));
    let folder = folder_of(path);
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(PART);
    let mut file = permitted(&mut builder, mode)
        .tempfile_in(folder)
        .map_err(FileError::at("make a temporary file in", folder))?;
    file.write_all(bytes).map_err(FileError::at("write", path))?;
    file.as_file().sync_all().map_err(FileError::at("sync", path))?;
    Ok(file)
}

/// Removes what writers that were killed left in `folder`. Only for whoever knows that nobody writes there now.
///
/// # Errors
/// When the folder cannot be listed or a file not be removed.
pub(crate) fn sweep(folder: &Path) -> Result<(), FileError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(FileError::at("list", folder)(err)),
    };
    for entry in entries {
        let path = entry.map_err(FileError::at("list", folder))?.path();
        let name = path.file_name().map(OsStr::as_encoded_bytes).unwrap_or_default();
        if name.starts_with(b".") && name.ends_with(PART.as_bytes()) {
            std::fs::remove_file(&path).map_err(FileError::at("remove", &path))?;
        }
    }
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes durable which files a folder holds.
#[cfg(unix)]
pub(crate) fn sync_folder(folder: &Path) -> Result<(), FileError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(FileError::at("sync the folder", folder))
}

/// Windows cannot sync a folder; its file systems journal renames themselves.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
pub(crate) fn sync_folder(_: &Path) -> Result<(), FileError> {
    Ok(())
}

#[cfg(unix)]
fn permitted<'a, 'b>(
    builder: &'a mut tempfile::Builder<'b, 'b>,
    mode: u32,
) -> &'a mut tempfile::Builder<'b, 'b> {
    use std::os::unix::fs::PermissionsExt;
    builder.permissions(std::fs::Permissions::from_mode(mode))
}

/// Elsewhere a file has the permissions of its folder, which belongs to the user.
#[cfg(not(unix))]
fn permitted<'a, 'b>(
    builder: &'a mut tempfile::Builder<'b, 'b>,
    _: u32,
) -> &'a mut tempfile::Builder<'b, 'b> {
    builder
}

/// Opens a file that only its owner may read, for reading and writing; makes it where it is missing.
pub(crate) fn open_private(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(PRIVATE);
    }
    options.open(path)
}
