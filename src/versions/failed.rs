//! What is kept of versions that failed here is bounded: of the last few all, of more of them only that they failed.

use std::cmp::Reverse;
use std::time::SystemTime;

use crate::act::remove_tree;
use crate::error::FileError;
use crate::fs::{Fs, Kind, if_there, texts};
use crate::layout::{Layout, VERDICT};
use crate::name::VersionName;

/// Versions whose diagnosis is kept, which is some megabytes each.
pub(crate) const DIAGNOSES: usize = 4;
/// Versions that are kept from being tried again; one line each.
pub(crate) const VERDICTS: usize = 64;
/// What else lies there, and bounds itself.
const OTHERS: [&str; 4] = ["journal.", "current.", "previous.", ".trial."];

/// Removes what is beyond that, the oldest first by when the version was noted as bad. One that is not bad any more comes
/// before all of them.
pub(crate) fn bound(fs: &dyn Fs, layout: &Layout) -> Result<(), FileError> {
    let failed = layout.failed();
    let names = if_there(fs.list(&failed)).map_err(FileError::at("list", &failed))?.unwrap_or_default();
    let mut versions = Vec::new();
    for name in texts(names).iter().filter(|it| !OTHERS.iter().any(|other| it.starts_with(other))) {
        let path = failed.join(name);
        let is_folder = fs.meta(&path).map_err(FileError::at("look at", &path))?.kind == Kind::Dir;
        if let Some(version) = name.parse::<VersionName>().ok().filter(|_| is_folder) {
            let path = layout.verdict(&version);
            let verdict = if_there(fs.meta(&path)).map_err(FileError::at("look at", &path))?;
            versions.push((Reverse(verdict.map_or(SystemTime::UNIX_EPOCH, |it| it.modified)), version));
        }
    }
    versions.sort();
    for (at, (_, version)) in versions.iter().enumerate().skip(DIAGNOSES) {
        let folder = layout.diagnosis(version);
        if at >= VERDICTS {
            remove_tree(fs, &folder)?;
            continue;
        }
        let names = fs.list(&folder).map_err(FileError::at("list", &folder))?;
        for name in names.iter().filter(|it| *it != VERDICT) {
            remove_tree(fs, &folder.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fs::RealFs;

    #[test]
    fn of_the_last_few_all_is_kept_and_of_others_that_they_failed() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let name = |number: u64| format!("1.{number}.0-aaaaaaaa").parse::<VersionName>().unwrap();
        // Later by name is earlier by time.
        let count = VERDICTS as u64 + 3;
        for number in 0..count {
            let folder = layout.diagnosis(&name(number));
            std::fs::create_dir_all(folder.join("more")).unwrap();
            std::fs::write(folder.join("watch"), "last words").unwrap();
            let verdict = std::fs::File::create(layout.verdict(&name(number))).unwrap();
            let age = Duration::from_secs(number * 60);
            verdict.set_modified(SystemTime::UNIX_EPOCH + Duration::from_hours(9999) - age).unwrap();
        }
        for other in ["journal.a.1", "current.1"] {
            std::fs::create_dir(layout.failed().join(other)).unwrap();
        }
        for _ in 0..2 {
            bound(&RealFs, &layout).unwrap();
            for number in 0..count {
                let there = |file: &str| layout.diagnosis(&name(number)).join(file).exists();
                let (all, some) = (number < DIAGNOSES as u64, number < VERDICTS as u64);
                assert_eq!((there("watch"), there("more"), there(VERDICT)), (all, all, some), "{number}");
            }
            assert_eq!(std::fs::read_dir(layout.failed()).unwrap().count(), VERDICTS + 2);
        }
    }

    #[test]
    fn where_nothing_failed_there_is_nothing_to_do() {
        let dir = tempfile::tempdir().unwrap();
        bound(&RealFs, &Layout::new(dir.path())).unwrap();
    }
}
