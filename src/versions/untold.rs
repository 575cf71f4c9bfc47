//! How attempts ended that the backend has not acknowledged, after another attempt has taken the journal.

use std::path::PathBuf;

use crate::error::{FileError, VersionsError};
use crate::fs::{Fs, if_there, texts};
use crate::journal;
use crate::layout::Layout;
use crate::record::Record;

/// How many are kept; the first by name, which is by time, make room for later ones.
const MOST: usize = 64;

/// Keeps a record, durably.
pub(crate) fn keep(fs: &dyn Fs, layout: &Layout, record: &Record) -> Result<(), VersionsError> {
    let folder = layout.untold();
    fs.create_dir(&folder).map_err(FileError::at("make the folder", &folder))?;
    for name in names(fs, layout)?.iter().rev().skip(MOST - 1) {
        let path = folder.join(name);
        fs.remove(&path).map_err(FileError::at("remove", &path))?;
    }
    let path = path_of(layout, &record.attempt);
    let new = path.with_extension("new");
    fs.write(&new, journal::text_of(record).as_bytes()).map_err(FileError::at("write", &new))?;
    fs.rename(&new, &path).map_err(FileError::at("rename into place", &path))?;
    fs.sync_dir(&folder).map_err(FileError::at("sync the folder", &folder))?;
    let upgrade = layout.upgrade();
    fs.sync_dir(&upgrade).map_err(FileError::at("sync the folder", &upgrade))?;
    Ok(())
}

/// All of them. What is no record is passed over.
pub(crate) fn all(fs: &dyn Fs, layout: &Layout) -> Result<Vec<Record>, VersionsError> {
    let mut all = Vec::new();
    for name in names(fs, layout)? {
        let path = layout.untold().join(name);
        let bytes = fs.read(&path, journal::LIMIT).map_err(FileError::at("read", &path))?;
        all.extend(journal::record_of(&bytes));
    }
    Ok(all)
}

/// Removes one; it need not be there.
pub(crate) fn forget(fs: &dyn Fs, layout: &Layout, attempt: &str) -> Result<(), FileError> {
    let path = path_of(layout, attempt);
    if_there(fs.remove(&path)).map(drop).map_err(FileError::at("remove", &path))
}

fn names(fs: &dyn Fs, layout: &Layout) -> Result<Vec<String>, FileError> {
    let folder = layout.untold();
    let names = if_there(fs.list(&folder)).map_err(FileError::at("list", &folder))?.unwrap_or_default();
    Ok(texts(names).into_iter().filter(|it| it.ends_with(ENDING)).collect())
}

const ENDING: &str = ".ended";

/// The attempt's id may hold anything.
fn path_of(layout: &Layout, attempt: &str) -> PathBuf {
    let shown: String = attempt.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
    layout.untold().join(format!("{shown}-{:08x}{ENDING}", journal::crc32(attempt.as_bytes())))
}
