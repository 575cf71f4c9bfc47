//! Which files of marks wait, and which of them may be merged.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use super::Delivery;
use super::marks::ENDING;
use crate::atomic::{self, FileError};

/// The marks of one model of one run of an export.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PendingFile {
    /// Runs are numbered in the order in which they began.
    pub(super) run: u64,
    pub(super) export: String,
    pub(super) model: String,
    pub(super) path: PathBuf,
    /// Whether nobody knows if the backend has its objects.
    pub(super) in_doubt: bool,
}

/// The folder of a run's files.
pub(super) fn folder_of(pending: &Path, run: u64, export: &str) -> PathBuf {
    pending.join(format!("{run:010}.{export}"))
}

/// All files that wait, the oldest first. What has another name is none of ours.
pub(super) fn list(pending: &Path) -> Result<Vec<PendingFile>, FileError> {
    let mut found = Vec::new();
    for folder in names(pending)? {
        let Some((run, export)) = folder.split_once('.') else { continue };
        let Ok(run) = run.parse() else { continue };
        let folder = pending.join(&folder);
        for name in names(&folder)? {
            if let Some(model) = name.strip_suffix(ENDING) {
                let (export, model) = (export.to_owned(), model.to_owned());
                found.push(PendingFile { run, export, model, path: folder.join(&name), in_doubt: false });
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The names in a folder that may be missing.
pub(super) fn names(folder: &Path) -> Result<Vec<String>, FileError> {
    let failed = |err| FileError::at("list", folder)(err);
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(err) if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(err) => return Err(failed(err)),
    };
    let name = |entry: io::Result<std::fs::DirEntry>| {
        entry.map(|it| it.file_name().to_string_lossy().into_owned()).map_err(failed)
    };
    entries.map(name).collect()
}

/// Tells files that may be merged from those that must wait: of each model only the oldest that do not wait for the backend,
/// since what a later run sent must not be overridden by what an earlier one did.
pub(super) fn split(
    files: Vec<PendingFile>,
    delivery: &dyn Fn(&str, &str) -> Delivery,
) -> (Vec<PendingFile>, Vec<PendingFile>) {
    let mut held = HashSet::new();
    let (mut ready, mut waiting) = (Vec::new(), Vec::new());
    for mut file in files {
        let delivery =
            if held.contains(&file.model) { Delivery::Waits } else { delivery(&file.export, &file.model) };
        match delivery {
            Delivery::Waits => {
                held.insert(file.model.clone());
                waiting.push(file);
            }
            Delivery::Acknowledged => ready.push(file),
            Delivery::Unknown => {
                file.in_doubt = true;
                ready.push(file);
            }
        }
    }
    (ready, waiting)
}

/// Removes files whose marks are merged, the oldest first and each durably before the next: an older one that is merged
/// again would override a newer one that is not.
pub(super) fn remove(files: &[PendingFile]) -> Result<(), FileError> {
    for file in files {
        std::fs::remove_file(&file.path).map_err(FileError::at("remove", &file.path))?;
        let folder = file.path.parent().unwrap_or_else(|| Path::new("."));
        atomic::sync_folder(folder)?;
        // The last file leaves an empty folder; others are not removed by this.
        drop(std::fs::remove_dir(folder));
    }
    Ok(())
}
