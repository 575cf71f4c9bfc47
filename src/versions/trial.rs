//! The record of an attempt once more, away from the journal, from when it is armed until it has ended.
//!
//! Without it, whoever loses both slots of the journal in a trial has lost that there is a trial, and a bad version stays. It
//! is written once, before anything is stopped for the switch, and says `armed`: with that the links say whether the
//! version is on trial. How many starts were counted is lost with the slots; they are counted anew.

use crate::error::{FileError, VersionsError};
use crate::fs::{Fs, if_there};
use crate::journal;
use crate::layout::Layout;
use crate::record::Record;

/// Its name, in the folder of the versions.
pub(crate) const NAME: &str = ".trial";
/// The same with what a start that was cut short may leave.
pub(crate) const NAMES: [&str; 2] = [NAME, ".trial.new"];

/// Keeps the record, durably.
pub(crate) fn keep(fs: &dyn Fs, layout: &Layout, record: &Record) -> Result<(), VersionsError> {
    let (folder, path) = (layout.versions(), layout.trial());
    let new = folder.join(NAMES[1]);
    fs.write(&new, journal::text_of(record).as_bytes()).map_err(FileError::at("write", &new))?;
    fs.rename(&new, &path).map_err(FileError::at("rename into place", &path))?;
    fs.sync_dir(&folder).map_err(FileError::at("sync the folder", &folder))?;
    Ok(())
}

/// Removes it; it need not be there.
pub(crate) fn forget(fs: &dyn Fs, layout: &Layout) -> Result<(), FileError> {
    for name in NAMES {
        let path = layout.versions().join(name);
        if_there(fs.remove(&path)).map_err(FileError::at("remove", &path))?;
    }
    Ok(())
}
