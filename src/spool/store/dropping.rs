//! Files that a person decides not to deliver.
//!
//! **Invariant:** nothing of an export that is being written is dropped, and the manifest stays: the numbers of files stay
//! taken, and what was written stays counted.

use std::collections::BTreeSet;
use std::path::Path;

use super::refused::refused;
use super::{InFolder, Spool, Usage, count, folders};
use crate::SpoolError;
use crate::error::At;
use crate::files::{LOCK, Stage, check_name, path};
use crate::fs::list_if_there;
use crate::manifest::{Key, load};
use crate::recovery::recover;

/// Files of an export that wait for the backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// How many.
    pub files: u64,
    /// Records in them; of a file of which the manifest does not tell, none.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Which files of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropWhich {
    /// All that the backend has not acknowledged.
    Waiting,
    /// Those of them that it refused ([`Spool::refuse`]).
    Refused,
}

impl Spool {
    /// The exports of which files wait for the backend, what a dead writer left included.
    ///
    /// # Errors
    /// When the spool's folder, or one in it, cannot be read.
    pub fn waiting_exports(&self) -> Result<BTreeSet<String>, SpoolError> {
        let mut waiting = BTreeSet::new();
        for export in self.exports()? {
            let mut usage = Usage::default();
            count(&*self.fs, &self.dir.join(&export), &export, &mut usage)?;
            if usage.files > 0 {
                waiting.insert(export);
            }
        }
        Ok(waiting)
    }

    /// What [`Spool::drop_waiting`] would remove now. Seals what a dead writer left.
    ///
    /// # Errors
    /// When the export is being written, and when the disk fails.
    pub fn to_drop(&self, export: &str, which: DropWhich) -> Result<Dropped, SpoolError> {
        self.each_waiting(export, which, |_| Ok(true))
    }

    /// Removes files that wait for the backend: it will never have them. One that is being uploaded may still arrive.
    ///
    /// # Errors
    /// When the export is being written, and when the disk fails; then some may be gone.
    pub fn drop_waiting(&self, export: &str, which: DropWhich) -> Result<Dropped, SpoolError> {
        self.each_waiting(export, which, |file| match self.fs.remove(file) {
            // It was acknowledged meanwhile.
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(false),
            other => other.map(|()| true).at("remove", file),
        })
    }

    fn each_waiting(
        &self,
        export: &str,
        which: DropWhich,
        is_one: impl Fn(&Path) -> Result<bool, SpoolError>,
    ) -> Result<Dropped, SpoolError> {
        check_name("an export", export)?;
        let (dir, mut dropped) = (self.dir.join(export), Dropped::default());
        if list_if_there(&*self.fs, &dir).at("list", &dir)?.is_empty() {
            return Ok(dropped);
        }
        let lock = self.fs.try_lock(&dir.join(LOCK)).at("lock", &dir.join(LOCK))?;
        let _lock = lock.ok_or_else(|| SpoolError::InUse { export: export.into() })?;
        recover(&*self.fs, &dir, export)?;
        let (known, refused) = (load(&*self.fs, &dir)?, refused(&*self.fs, &dir)?);
        for model in folders(&*self.fs, &dir)? {
            let wanted = |key: &Key| which == DropWhich::Waiting || refused.contains(key);
            let files = self.sealed_in(&dir, &model)?;
            for InFolder { key, compression, len, .. } in files.into_iter().filter(|it| wanted(&it.key)) {
                if !is_one(&path(&dir.join(&model), key.1, compression, Stage::Sealed))? {
                    continue;
                }
                dropped.files += 1;
                dropped.records += known.sealed.get(&key).map_or(0, |it| it.records);
                dropped.bytes += len;
            }
            // What was said to be gone does not come back.
            let folder = dir.join(&model);
            self.fs.sync_dir(&folder).at("sync folder", &folder)?;
        }
        Ok(dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;

    #[test]
    fn what_is_dropped_is_told_and_all_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path(), Settings::default()).unwrap();
        let mut writer = spool.export("run-1").unwrap();
        for records in 1..=3_u64 {
            let mut session = writer.session("git", "area.Type");
            (0..records).for_each(|_| session.append(b"{}").unwrap());
            writer.commit(session).unwrap();
            writer.seal_all().unwrap();
        }
        let files = spool.pending().unwrap().files;
        let in_use = spool.drop_waiting("run-1", DropWhich::Waiting).unwrap_err();
        assert!(matches!(in_use, SpoolError::InUse { .. }), "{in_use}");
        drop(writer);
        spool.acknowledge(&files[0]).unwrap();
        spool.refuse(&files[1]).unwrap();
        let refused = Dropped { files: 1, records: 2, bytes: files[1].bytes };
        assert_eq!(spool.to_drop("run-1", DropWhich::Refused).unwrap(), refused);
        assert_eq!(spool.drop_waiting("run-1", DropWhich::Refused).unwrap(), refused);
        assert_eq!(spool.pending().unwrap().files, files[2..]);
        assert_eq!(spool.waiting_exports().unwrap(), ["run-1".to_owned()].into());
        let rest = Dropped { files: 1, records: 3, bytes: files[2].bytes };
        assert_eq!(spool.drop_waiting("run-1", DropWhich::Waiting).unwrap(), rest);
        assert!(spool.waiting_exports().unwrap().is_empty());
        assert_eq!(spool.sent().unwrap().files, files[..1], "what the backend has stays");
        assert_eq!(spool.export("run-1").unwrap().earlier()[0].amount.records, 6, "and stays counted");
        assert_eq!(spool.drop_waiting("run-2", DropWhich::Waiting).unwrap(), Dropped::default());
    }
}
