//! Where the windows of time ended, kept in a file across restarts.
//!
//! # Invariants
//! - The file is whole at every moment: it is written beside and renamed. What cannot be read is told and put aside, and
//!   the windows begin anew.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The ends of windows, in milliseconds since 1970, by what is polled.
#[derive(Debug)]
pub struct Cursors {
    path: Option<PathBuf>,
    ends: Mutex<BTreeMap<String, i64>>,
}

impl Cursors {
    /// Of no file: nothing is kept.
    #[must_use]
    pub fn nowhere() -> Self {
        Self { path: None, ends: Mutex::default() }
    }

    /// Of a file; with what was wrong with it.
    #[must_use]
    pub fn open(path: PathBuf) -> (Self, Option<String>) {
        let (ends, trouble) = match std::fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(ends) => (ends, None),
                Err(err) => {
                    let aside = path.with_extension("broken");
                    let moved = std::fs::rename(&path, &aside).map(|()| aside.display().to_string());
                    let now =
                        moved.unwrap_or_else(|err| format!("its place, since it cannot be moved ({err})"));
                    let what = format!(
                        "read where the time windows of APIs ended, in {}: {err}; they begin anew, and the file is in {now}",
                        path.display()
                    );
                    (BTreeMap::new(), Some(what))
                }
            },
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => (BTreeMap::new(), None),
            Err(err) => {
                let what = format!("read where the time windows of APIs ended, in {}: {err}", path.display());
                (BTreeMap::new(), Some(what))
            }
        };
        (Self { path: Some(path), ends: Mutex::new(ends) }, trouble)
    }

    /// Where the last window ended.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<i64> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }

    /// A window has ended. Writes the file.
    ///
    /// # Errors
    /// When it cannot be written; what is in memory goes on.
    pub fn set(&self, key: &str, end: i64) -> Result<(), String> {
        // Held while writing, so that an older state never replaces a newer one.
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.insert(key.to_owned(), end);
        let Some(path) = &self.path else { return Ok(()) };
        write(path, &ends).map_err(|err| {
            format!("write where the time windows of APIs ended, to {}: {err}", path.display())
        })
    }
}

fn write(path: &Path, ends: &BTreeMap<String, i64>) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let beside = path.with_extension("new");
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(&serde_json::to_vec(ends)?)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_kept_and_a_broken_file_is_told_and_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/windows.json");
        let (cursors, trouble) = Cursors::open(path.clone());
        assert_eq!((cursors.get("a"), trouble), (None, None));
        cursors.set("a", 5).unwrap();
        cursors.set("b", 6).unwrap();
        let (again, _) = Cursors::open(path.clone());
        assert_eq!((again.get("a"), again.get("b")), (Some(5), Some(6)));
        std::fs::write(&path, "{\"a\":").unwrap();
        let (anew, trouble) = Cursors::open(path.clone());
        assert_eq!(anew.get("a"), None);
        assert!(trouble.unwrap().contains("windows.broken"));
        anew.set("a", 7).unwrap();
        assert_eq!(Cursors::open(path).0.get("a"), Some(7));
    }
}
