//! Folders that are worked in by their open handle, one name at a time, so that nobody who swaps a folder for a link
//! meanwhile can lead a read or a write elsewhere.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};

use outrider_home::FileError;

#[cfg(not(unix))]
#[path = "confined/elsewhere.rs"]
mod system;
#[cfg(unix)]
#[path = "confined/unix.rs"]
mod system;

/// What stands under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A device, a pipe, a socket.
    Special,
}

/// An open folder.
#[derive(Debug)]
pub(crate) struct Folder {
    system: system::Folder,
    /// As it was when it was opened, for errors only.
    path: PathBuf,
}

impl Folder {
    /// Opens a folder; its own name may not be a link, what it lies in may.
    pub(crate) fn open(path: &Path) -> Result<Self, FileError> {
        let system = system::Folder::open(path).map_err(failed("open the folder", path))?;
        Ok(Self { system, path: path.to_owned() })
    }

    /// Opens a folder in this one.
    pub(crate) fn folder(&self, name: &str) -> Result<Self, FileError> {
        let path = self.path.join(name);
        let system = self.system.folder(name).map_err(failed("open the folder", &path))?;
        Ok(Self { system, path })
    }

    /// Opens a folder in this one; makes it, with the permissions 0755, when it is missing.
    pub(crate) fn folder_made(&self, name: &str) -> Result<Self, FileError> {
        self.system.make_folder(name).map_err(failed("make the folder", &self.path.join(name)))?;
        self.folder(name)
    }

    /// Makes a file, readable and writable by its owner only; it may not be there.
    pub(crate) fn create(&self, name: &str) -> Result<File, FileError> {
        self.system.create(name).map_err(failed("make", &self.path.join(name)))
    }

    /// Opens a regular file to read.
    pub(crate) fn file(&self, name: &str) -> Result<File, FileError> {
        self.system.file(name).map_err(failed("open", &self.path.join(name)))
    }

    /// The names in here, in their order, and what stands under them.
    pub(crate) fn entries(&self) -> Result<Vec<(OsString, Kind)>, FileError> {
        let mut entries = self.system.entries().map_err(failed("list", &self.path))?;
        entries.sort_by(|(a, _), (b, _)| OsStr::cmp(a, b));
        Ok(entries)
    }

    /// Makes durable which names there are.
    pub(crate) fn sync(&self) -> Result<(), FileError> {
        self.system.sync().map_err(failed("sync the folder", &self.path))
    }

    /// Where it was when it was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Names the operation and the file.
pub(crate) fn failed(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> FileError {
    let path = path.to_owned();
    move |err| FileError { operation, path, err }
}

/// Sets the permissions of an open file.
pub(crate) fn set_mode(file: &File, bits: u32) -> std::io::Result<()> {
    system::set_mode(file, bits)
}

/// The permissions of an open file, where the system knows such a thing.
pub(crate) fn mode(metadata: &std::fs::Metadata) -> Option<u32> {
    system::mode(metadata)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    #[test]
    fn no_link_is_followed() {
        let temporary = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink(outside.path(), temporary.path().join("link")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("new"), temporary.path().join("file")).unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        assert!(folder.folder("link").is_err());
        assert!(folder.folder_made("link").is_err());
        assert!(folder.create("file").is_err());
        assert!(folder.file("file").is_err());
        assert!(Folder::open(&temporary.path().join("link")).is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
        let kinds: Vec<_> = folder.entries().unwrap().into_iter().map(|(_, kind)| kind).collect();
        assert_eq!(kinds, [Kind::Link, Kind::Link]);
    }

    #[test]
    fn a_file_is_made_once_for_its_owner_only() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path()).unwrap().folder_made("a").unwrap();
        let file = folder.create("b").unwrap();
        assert_eq!(mode(&file.metadata().unwrap()).unwrap() & 0o777, 0o600);
        assert!(folder.create("b").is_err());
        assert!(Folder::open(temporary.path()).unwrap().folder_made("a").is_ok());
        folder.sync().unwrap();
    }
}
