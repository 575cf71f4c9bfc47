//! Folders and files that only the user who runs the backend may read: they hold tokens, hashes and configurations.
//!
//! Modes are a matter of unix. Elsewhere a new file has the rights of its folder, and nothing is changed here.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// What may be read by whoever has an account on this machine.
#[cfg(unix)]
const FOR_OTHERS: u32 = 0o077;

/// Makes a folder where it is missing, for this user alone. One that is there stays as it is.
pub(crate) fn folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Makes an empty file where it is missing, for this user alone.
pub(crate) fn file(path: &Path) -> io::Result<()> {
    let mut options = File::options();
    // Never opened where it exists: closing it would drop the locks that a database in this process holds on it.
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(err) => Err(err),
    }
}

/// Writes a file that only this user may read, whole or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let next = path.with_extension("new");
    drop(fs::remove_file(&next));
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&next)?;
    file.write_all(bytes).and_then(|()| file.sync_all())?;
    fs::rename(&next, path)
}

/// The mode of a file or folder that others may use, `None` if they may not.
#[cfg(unix)]
pub(crate) fn open_to_others(path: &Path) -> io::Result<Option<u32>> {
    let mode = mode(path)?;
    Ok((mode & FOR_OTHERS != 0).then_some(mode & 0o777))
}

/// The mode of a file or folder that others may use, `None` if they may not.
#[cfg(not(unix))]
pub(crate) fn open_to_others(_: &Path) -> io::Result<Option<u32>> {
    Ok(None)
}

/// Takes a file or folder from all other users. One that is missing needs nothing.
#[cfg(unix)]
pub(crate) fn tighten(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    match mode(path) {
        Ok(mode) if mode & FOR_OTHERS != 0 => {
            fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7777 & !FOR_OTHERS))
        }
        Ok(_) => Ok(()),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(err) => Err(err),
    }
}

/// Takes a file or folder from all other users. One that is missing needs nothing.
#[cfg(not(unix))]
pub(crate) fn tighten(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn mode(path: &Path) -> io::Result<u32> {
    Ok(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path)?.permissions()))
}
