//! Files and folders that are written as a whole and synced, and the error that names them.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// The permissions of files that only their owner reads.
pub(crate) const PRIVATE: u32 = 0o600;
/// The permissions of files that a web server serves.
pub(crate) const PUBLIC: u32 = 0o644;

/// An operation on a file or folder failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}", path.display())]
pub struct FileError {
    /// What was tried: `write`.
    pub operation: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub err: io::Error,
}

impl FileError {
    pub(crate) fn at(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |err| Self { operation, path, err }
    }
}

/// Replaces the file at `path`; when this returns it is durable, and until then the old one is whole.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    place(path, mode, |file| file.write_all(bytes))
}

/// Makes the file at `path` a durable copy of another.
pub(crate) fn copy(from: &Path, path: &Path) -> Result<(), FileError> {
    let mut source = File::open(from).map_err(FileError::at("open", from))?;
    place(path, PUBLIC, |file| io::copy(&mut source, file).map(drop))
}

fn place(path: &Path, mode: u32, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), FileError> {
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".").suffix(".tmp");
    let mut file =
        permitted(&mut builder, mode).tempfile_in(folder).map_err(FileError::at("make a file in", folder))?;
    fill(file.as_file_mut()).map_err(FileError::at("write", path))?;
    file.as_file().sync_all().map_err(FileError::at("sync", path))?;
    file.persist(path).map_err(|failed| FileError::at("rename into place", path)(failed.error))?;
    sync_folder(folder)
}

/// Makes a folder with those above it, for the owner only where `is_private`.
pub(crate) fn make_folder(path: &Path, is_private: bool) -> Result<(), FileError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(if is_private { 0o700 } else { 0o755 });
    }
    builder.create(path).map_err(FileError::at("make the folder", path))?;
    #[cfg(unix)]
    if is_private {
        use std::os::unix::fs::PermissionsExt as _;
        let owner = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(path, owner).map_err(FileError::at("protect the folder", path))?;
    }
    Ok(())
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
    use std::os::unix::fs::PermissionsExt as _;
    builder.permissions(std::fs::Permissions::from_mode(mode))
}

/// Elsewhere a file has the permissions of its folder.
#[cfg(not(unix))]
fn permitted<'a, 'b>(
    builder: &'a mut tempfile::Builder<'b, 'b>,
    _: u32,
) -> &'a mut tempfile::Builder<'b, 'b> {
    builder
}
