//! Acknowledged files that are still kept: they can be taken back when the backend has lost them, and go early where the disk
//! needs their room.
//!
//! **Invariant:** what goes early is files in `sent/` alone. The manifests stay until they are old, so that who goes on with
//! an export still knows what was written of it.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{InFolder, MOVE_TRIES, Pending, Removed, Spool, folders};
use crate::error::At;
use crate::files::{SENT, check_name, parse};
use crate::fs::{create_below, list_if_there};
use crate::manifest::load;
use crate::{Sealed, SpoolError};

impl Spool {
    /// The acknowledged files that are still kept, each as it was handed over; its path is where it was until then. An
    /// export that cannot be read does not hide the others' files.
    ///
    /// # Errors
    /// When the folder of acknowledged files cannot be read.
    pub fn sent(&self) -> Result<Pending, SpoolError> {
        let mut all = Pending::default();
        for export in folders(&*self.fs, &self.dir.join(SENT))? {
            match self.sent_of(&export) {
                Ok(files) => all.files.extend(files),
                Err(err) => all.failed.push((export, err)),
            }
        }
        Ok(all)
    }

    fn sent_of(&self, export: &str) -> Result<Vec<Sealed>, SpoolError> {
        let (sent, dir) = (self.dir.join(SENT).join(export), self.dir.join(export));
        let mut files = Vec::new();
        for model in folders(&*self.fs, &sent)? {
            files.extend(self.sealed_in(&sent, &model)?);
        }
        let known = load(&*self.fs, &dir)?;
        let found = files.into_iter().filter_map(|InFolder { key, compression, len, .. }| {
            let line = known.sealed.get(&key)?;
            let is_told = line.bytes == len && line.compression == compression;
            is_told.then(|| line.sealed(export, &dir))
        });
        Ok(found.collect())
    }

    /// Removes acknowledged files, those first that were acknowledged first, until so many bytes are gone or no file is left.
    /// A file, or an export, of which something fails does not keep the others. May run beside everything else.
    ///
    /// # Errors
    /// When the folder of acknowledged files cannot be read.
    pub fn shed_sent(&self, bytes: u64) -> Result<Removed, SpoolError> {
        let (mut removed, mut kept) = (Removed::default(), Vec::new());
        for export in folders(&*self.fs, &self.dir.join(SENT))? {
            if let Err(err) = self.kept_of(&export, &mut kept) {
                removed.failed.push((export, err));
            }
        }
        kept.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
        for Kept { export, path, len, .. } in kept {
            if removed.bytes >= bytes {
                break;
            }
            match self.remove_kept(&path) {
                Ok(true) => {
                    removed.files += 1;
                    removed.bytes += len;
                }
                Ok(false) => {}
                Err(err) => removed.failed.push((export, err)),
            }
        }
        Ok(removed)
    }

    /// Removes a file in `sent`, and its folders once they are empty. Answers whether it was still there: it may have been taken
    /// back, or removed for its age.
    fn remove_kept(&self, path: &Path) -> Result<bool, SpoolError> {
        let was_there = match self.fs.remove(path) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => false,
            other => other.at("remove", path).map(|()| true)?,
        };
        for folder in path.ancestors().skip(1).take(2) {
            // Fails as long as something is in it.
            drop(self.fs.remove_dir(folder));
        }
        Ok(was_there)
    }

    /// The acknowledged files of an export, also those that no manifest tells of.
    fn kept_of(&self, export: &str, kept: &mut Vec<Kept>) -> Result<(), SpoolError> {
        let dir = self.dir.join(SENT).join(export);
        for model in folders(&*self.fs, &dir)? {
            let model = dir.join(model);
            let entries = list_if_there(&*self.fs, &model).at("list", &model)?;
            let files = entries.into_iter().filter(|it| parse(&it.name).is_some());
            kept.extend(files.map(|it| Kept {
                export: export.to_owned(),
                path: model.join(it.name),
                len: it.len,
                modified: it.modified,
            }));
        }
        Ok(())
    }

    /// The backend no longer has the file: it waits to be uploaded again. May be repeated, also after a crash. Answers
    /// whether it is there: it may have been removed since, for its age.
    ///
    /// # Errors
    /// When it cannot be moved; then it is still where it was.
    pub fn take_back(&self, file: &Sealed) -> Result<bool, SpoolError> {
        check_name("an export", &file.export)?;
        check_name("a model", &file.model)?;
        let Some(name) = file.path.file_name() else { return Ok(false) };
        let from_dir = self.dir.join(SENT).join(&file.export).join(&file.model);
        let to_dir = self.dir.join(&file.export).join(&file.model);
        let (from, to) = (from_dir.join(name), to_dir.join(name));
        for tries in 1.. {
            let made =
                create_below(&*self.fs, &self.dir, &[&file.export, &file.model]).at("create folder", &to_dir);
            match made.and_then(|_| self.fs.rename(&from, &to).at("rename", &from)) {
                Ok(()) => break,
                // It was moved already, or removed.
                Err(err) if err.is_not_found() && self.fs.read(&from).is_err() => {
                    return Ok(self.fs.read(&to).is_ok());
                }
                // Whoever expires files removed the folder, which was still empty.
                Err(err) if err.is_not_found() && tries < MOVE_TRIES => {}
                Err(err) => return Err(err),
            }
        }
        // The new place first, so that there is no moment at which a crash finds neither.
        self.fs.sync_dir(&to_dir).at("sync folder", &to_dir)?;
        self.fs.sync_dir(&from_dir).at("sync folder", &from_dir)?;
        Ok(true)
    }
}

/// An acknowledged file as it lies there.
struct Kept {
    export: String,
    path: PathBuf,
    len: u64,
    modified: SystemTime,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::Settings;
    use crate::faulty::{Dice, FaultyFs};
    use crate::store::two_sealed;

    /// Two files of an export that are acknowledged.
    fn acknowledged(spool: &Spool) -> Vec<Sealed> {
        let files = two_sealed(spool);
        files.iter().for_each(|it| spool.acknowledge(it).unwrap());
        files
    }

    #[test]
    fn what_was_acknowledged_can_be_taken_back_and_acknowledged_again() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path(), Settings::default()).unwrap();
        let files = acknowledged(&spool);
        assert_eq!(spool.sent().unwrap().files, files);
        assert!(spool.take_back(&files[1]).unwrap());
        assert!(spool.take_back(&files[1]).unwrap(), "repeated");
        assert_eq!(spool.pending().unwrap().files, files[1..]);
        assert_eq!(spool.sent().unwrap().files, files[..1]);
        spool.recover().unwrap();
        spool.acknowledge(&files[1]).unwrap();
        assert_eq!(spool.sent().unwrap().files, files);
    }

    #[test]
    fn what_was_removed_for_its_age_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path(), Settings::default()).unwrap();
        let files = acknowledged(&spool);
        spool.expire_sent(Duration::ZERO, SystemTime::now() + Duration::from_secs(60), &[].into()).unwrap();
        assert!(spool.sent().unwrap().files.is_empty());
        assert!(!spool.take_back(&files[0]).unwrap());
    }

    #[test]
    fn the_oldest_files_go_early_until_there_is_room_and_stay_counted() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path(), Settings::default()).unwrap();
        let files = acknowledged(&spool);
        assert_eq!(spool.shed_sent(0).unwrap().files, 0, "there is room");
        let removed = spool.shed_sent(1).unwrap();
        assert_eq!((removed.files, removed.bytes), (1, files[0].bytes));
        assert_eq!(spool.sent().unwrap().files, files[1..], "the one that was acknowledged last stays");
        assert_eq!(spool.shed_sent(u64::MAX).unwrap().files, 1);
        assert_eq!(spool.shed_sent(u64::MAX).unwrap().files, 0);
        assert!(!dir.path().join(SENT).join("run-1").exists(), "empty folders go");
        let earlier = spool.export("run-1").unwrap().earlier().to_vec();
        assert_eq!((earlier[0].files, earlier[0].amount.records), (2, 2), "who goes on knows of all");
    }

    #[test]
    fn what_waits_never_goes_early() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path(), Settings::default()).unwrap();
        let files = acknowledged(&spool);
        assert!(spool.take_back(&files[0]).unwrap());
        assert_eq!(spool.shed_sent(u64::MAX).unwrap().files, 1);
        assert_eq!(spool.pending().unwrap().files, files[..1]);
    }

    #[test]
    fn a_crash_in_between_loses_no_file() {
        for seed in 0..50 {
            let fs = FaultyFs::new(Path::new("/"));
            let open = |fs: &FaultyFs| {
                Spool::open_on(Arc::new(fs.clone()), PathBuf::from("/spool"), Settings::default()).unwrap()
            };
            let spool = open(&fs);
            let files = acknowledged(&spool);
            let mut dice = Dice::new(seed);
            let from = fs.operations() + dice.below(8) as u64;
            fs.fail(from..u64::MAX, std::io::ErrorKind::Other);
            let moved = spool.take_back(&files[0]);
            let spool = open(&fs.cut(&mut dice));
            spool.recover().unwrap();
            let (pending, sent) = (spool.pending().unwrap().files, spool.sent().unwrap().files);
            let waits = pending.contains(&files[0]);
            assert!(waits || sent.contains(&files[0]), "seed {seed}: {pending:?} {sent:?}");
            assert!(waits || moved.is_err(), "seed {seed}: what was answered is durable");
        }
    }
}
