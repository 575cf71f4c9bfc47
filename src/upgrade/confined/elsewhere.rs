//! Folders as paths, where the standard library knows no handles of folders. Links are refused by a look before each
//! use, which is no promise against somebody who swaps them meanwhile; the root belongs to its owner there.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use super::Kind;

#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        match std::fs::symlink_metadata(path)?.is_dir() {
            true => Ok(Self(path.to_owned())),
            false => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn folder(&self, name: &str) -> io::Result<Self> {
        Self::open(&self.0.join(name))
    }

    pub(super) fn make_folder(&self, name: &str) -> io::Result<()> {
        match std::fs::create_dir(self.0.join(name)) {
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    pub(super) fn create(&self, name: &str) -> io::Result<File> {
        File::create_new(self.0.join(name))
    }

    pub(super) fn file(&self, name: &str) -> io::Result<File> {
        let path = self.0.join(name);
        match std::fs::symlink_metadata(&path)?.is_file() {
            true => File::open(path),
            false => Err(io::Error::new(io::ErrorKind::InvalidInput, "no regular file")),
        }
    }

    pub(super) fn entries(&self) -> io::Result<Vec<(OsString, Kind)>> {
        let entry = |entry: io::Result<std::fs::DirEntry>| {
            let entry = entry?;
            let found = entry.file_type()?;
            let kind = match found {
                _ if found.is_symlink() => Kind::Link,
                _ if found.is_dir() => Kind::Folder,
                _ if found.is_file() => Kind::File,
                _ => Kind::Special,
            };
            Ok((entry.file_name(), kind))
        };
        std::fs::read_dir(&self.0)?.map(entry).collect()
    }

    /// Such systems cannot sync a folder; their file systems journal names themselves.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn set_mode(_: &File, _: u32) -> io::Result<()> {
    Ok(())
}

pub(super) fn mode(_: &Metadata) -> Option<u32> {
    None
}
