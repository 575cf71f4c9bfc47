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
use crate::started;

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

/// Removes it, durably, and the note of which process runs the trial; neither need be there.
pub(crate) fn forget(fs: &dyn Fs, layout: &Layout) -> Result<(), FileError> {
    started::forget(fs, layout)?;
    let folder = layout.versions();
    let mut was_there = false;
    for name in NAMES {
        let path = folder.join(name);
        was_there |= if_there(fs.remove(&path)).map_err(FileError::at("remove", &path))?.is_some();
    }
    if was_there {
        // Else it may come back with the power, and the next one that loses both slots is taken for this one.
        fs.sync_dir(&folder).map_err(FileError::at("sync the folder", &folder))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::model::ModelFs;

    #[test]
    fn what_was_forgotten_does_not_come_back_with_the_power() {
        let fs = ModelFs::new();
        let layout = Layout::new("/root");
        for (folder, in_folder) in [("/root", "/"), ("/root/versions", "/root")] {
            fs.create_dir(Path::new(folder)).unwrap();
            fs.sync_dir(Path::new(in_folder)).unwrap();
        }
        let name = |text: &str| text.parse().unwrap();
        keep(&fs, &layout, &Record::new("a".into(), String::new(), name("1-a"), name("2-b"))).unwrap();
        let is_there = |fs: &ModelFs| fs.meta(&layout.trial()).is_ok();
        assert!(fs.after_cut().iter().all(is_there));
        forget(&fs, &layout).unwrap();
        assert!(!fs.after_cut().iter().any(is_there));
        forget(&fs, &layout).unwrap();
    }
}
