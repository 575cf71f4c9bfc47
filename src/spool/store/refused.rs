//! Files that the backend refused for what is in them: they stay, and are none that wait any more.
//!
//! Each is a line of the mark `.refused` in its export's folder, `["<model>",<number>]`; a torn line tells of no file.
//!
//! **Invariant:** a mark decides nothing but whether a file counts for the age of what waits: it is offered to the backend as
//! before.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::Path;

use super::Spool;
use crate::error::At;
use crate::files::{REFUSED, Stage, check_name, parse};
use crate::fs::{Fs, list_if_there};
use crate::manifest::Key;
use crate::{Sealed, SpoolError};

impl Spool {
    /// The backend does not take the file: from now on it is none that waits ([`Spool::oldest`]). May be repeated.
    ///
    /// # Errors
    /// When the disk fails. Then the file still counts as one that waits.
    pub fn refuse(&self, file: &Sealed) -> Result<(), SpoolError> {
        check_name("an export", &file.export)?;
        check_name("a model", &file.model)?;
        let (dir, key) = (self.dir.join(&file.export), (file.model.clone(), file.number));
        if refused(&*self.fs, &dir)?.contains(&key) {
            return Ok(());
        }
        let mark = dir.join(REFUSED);
        // A line of its own, also behind one that is torn. A pair of a text and a number can always be written.
        let line = format!("\n{}\n", serde_json::to_string(&key).unwrap_or_default());
        let mut handle = self.fs.append(&mark).at("open", &mark)?;
        handle.write_all(line.as_bytes()).at("append to", &mark)?;
        handle.sync().at("sync", &mark)
    }
}

/// What is left of a model of an export for the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// No file: it has acknowledged all that there was, or a person dropped it.
    Nothing,
    /// Only files that it refused ([`Spool::refuse`]).
    Refused,
    /// Files that it is to have.
    Waiting,
}

impl Spool {
    /// What is left of a model of an export; of an export that is not known, nothing.
    ///
    /// # Errors
    /// When a folder or the mark of what was refused cannot be read.
    pub fn left(&self, export: &str, model: &str) -> Result<Left, SpoolError> {
        check_name("an export", export)?;
        check_name("a model", model)?;
        let dir = self.dir.join(export);
        let files = list_if_there(&*self.fs, &dir.join(model)).at("list", &dir.join(model))?;
        if files.is_empty() {
            return Ok(Left::Nothing);
        }
        let refused = refused(&*self.fs, &dir)?;
        let is_refused = |name: &str| {
            let found = parse(name).filter(|(_, _, stage)| *stage == Stage::Sealed);
            found.is_some_and(|(number, ..)| refused.contains(&(model.to_owned(), number)))
        };
        Ok(if files.iter().all(|it| is_refused(&it.name)) { Left::Refused } else { Left::Waiting })
    }
}

/// The files of an export that the backend refused.
pub(super) fn refused(fs: &dyn Fs, dir: &Path) -> Result<BTreeSet<Key>, SpoolError> {
    let (mark, mut text) = (dir.join(REFUSED), Vec::new());
    match fs.read(&mark) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        other => other.at("open", &mark)?.read_to_end(&mut text).at("read", &mark)?,
    };
    Ok(text.split(|it| *it == b'\n').filter_map(|it| serde_json::from_slice(it).ok()).collect())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::Settings;
    use crate::store::two_sealed;

    #[test]
    fn a_refused_file_is_offered_again_and_does_not_count_as_one_that_waits() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path(), Settings::default()).unwrap();
        let files = two_sealed(&spool);
        std::fs::write(dir.path().join("run-1/.refused"), "[\"area.Type\",1").unwrap();
        assert_eq!(spool.oldest().unwrap().unwrap().export, "run-1", "a torn line tells of no file");
        spool.refuse(&files[0]).unwrap();
        spool.refuse(&files[0]).unwrap();
        assert!(spool.oldest().unwrap().is_some(), "the other one waits");
        assert_eq!(spool.left("run-1", "area.Type").unwrap(), Left::Waiting);
        spool.refuse(&files[1]).unwrap();
        assert_eq!(spool.left("run-1", "area.Type").unwrap(), Left::Refused);
        assert_eq!(spool.left("run-1", "area.Other").unwrap(), Left::Nothing);
        assert!(spool.oldest().unwrap().is_none() && spool.usage().unwrap().oldest.is_none());
        assert_eq!((spool.usage().unwrap().files, spool.pending().unwrap().files), (2, files));
    }

    #[test]
    fn the_mark_goes_with_its_export() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path(), Settings::default()).unwrap();
        for file in two_sealed(&spool) {
            spool.refuse(&file).unwrap();
            spool.acknowledge(&file).unwrap();
        }
        let later = SystemTime::now() + Duration::from_secs(60);
        assert!(spool.expire_sent(Duration::ZERO, later, &[].into()).unwrap().failed.is_empty());
        assert!(!dir.path().join("run-1").exists());
    }
}
