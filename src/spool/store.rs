//! The spool as a whole: what waits, what is acknowledged, what dead exports left.

mod dropping;
mod refused;
mod sent;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::error::At;
use crate::files::{LOCK, MANIFEST, REFUSED, SENT, Stage, check_name, is_name, parse, path};
use crate::fs::{Entry, Fs, RealFs, create_below, create_dirs, list_if_there};
use crate::manifest::{Key, load};
use crate::recovery::{Outcome, is_finished, recover};
use crate::shared::Shared;
use crate::{Compression, ExportWriter, Sealed, Settings, SpoolError};

pub use dropping::{DropWhich, Dropped};
pub use refused::Left;

/// How often an acknowledged file's move is tried while its folder is removed under it, which happens at most once for
/// each time that files are expired.
const MOVE_TRIES: u32 = 5;

/// The spool's folder. Several processes may have it open: writers of different exports, and one that uploads.
#[derive(Debug, Clone)]
pub struct Spool {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    settings: Settings,
}

/// What [`Spool::recover`] did.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Files that are sealed now and were not before.
    pub sealed: Vec<Sealed>,
    /// Exports that a living process writes; they were left alone.
    pub in_use: Vec<String>,
    /// Exports that could not be recovered. They stay as they are.
    pub failed: Vec<(String, SpoolError)>,
}

/// What [`Spool::pending`] found.
#[derive(Debug, Default)]
pub struct Pending {
    /// The files, the oldest first.
    pub files: Vec<Sealed>,
    /// Exports that could not be read, and why. They stay as they are.
    pub failed: Vec<(String, SpoolError)>,
}

/// How much the spool holds.
#[derive(Debug, Default)]
pub struct Usage {
    /// Files that are not acknowledged, those being written included.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The oldest of those that are sealed and that the backend did not refuse: the others do not wait for it yet, or no more.
    pub oldest: Option<Oldest>,
    /// Acknowledged files that are still kept.
    pub sent_files: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Exports that could not be read, and why. Of their files only those seen before the failure are counted.
    pub failed: Vec<(String, SpoolError)>,
}

/// The file that has waited for the longest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Oldest {
    /// When it was last written.
    pub written: SystemTime,
    /// Of which export it is.
    pub export: String,
}

/// What [`Spool::expire_sent`] or [`Spool::shed_sent`] removed.
#[derive(Debug, Default)]
pub struct Removed {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Exports of which not everything that is to go could be removed, and why. It is tried again by the next call.
    pub failed: Vec<(String, SpoolError)>,
}

impl Spool {
    /// Opens the spool at a folder, which is made if it is missing.
    ///
    /// # Errors
    /// When the folder can be neither found nor made.
    pub fn open(dir: impl Into<PathBuf>, settings: Settings) -> Result<Self, SpoolError> {
        Self::open_on(Arc::new(RealFs::default()), dir.into(), settings)
    }

    pub(crate) fn open_on(fs: Arc<dyn Fs>, dir: PathBuf, settings: Settings) -> Result<Self, SpoolError> {
        create_dirs(&*fs, &dir).at("create folder", &dir)?;
        Ok(Self { fs, dir, settings })
    }

    /// The same spool with other settings, for a test on a disk that may be failing.
    #[cfg(test)]
    pub(crate) fn with(&self, settings: Settings) -> Self {
        Self { settings, ..self.clone() }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn fs(&self) -> &dyn Fs {
        &*self.fs
    }

    /// Begins to write an export, or goes on with one whose writer is gone, after sealing what that left.
    ///
    /// # Errors
    /// When another process writes it, when the id cannot be a folder's name, and when the disk fails.
    pub fn export(&self, export: &str) -> Result<ExportWriter, SpoolError> {
        check_name("an export", export)?;
        let dir = self.dir.join(export);
        create_below(&*self.fs, &self.dir, &[export]).at("create folder", &dir)?;
        let lock = self.fs.try_lock(&dir.join(LOCK)).at("lock", &dir.join(LOCK))?;
        let lock = lock.ok_or_else(|| SpoolError::InUse { export: export.into() })?;
        let Outcome { manifest, sealed, next, totals } = recover(&*self.fs, &dir, export)?;
        let shared =
            Shared::new(self.fs.clone(), self.settings.clone(), self.dir.clone(), export.into(), lock)?;
        for (model, number) in next {
            shared.reserve_numbers(&model, number);
        }
        Ok(ExportWriter::new(shared, manifest, sealed, totals))
    }

    /// Seals what dead exports left. One that cannot be recovered does not keep the others from it.
    ///
    /// # Errors
    /// When the spool's folder cannot be read.
    pub fn recover(&self) -> Result<Recovered, SpoolError> {
        let mut all = Recovered::default();
        for export in self.exports()? {
            let dir = self.dir.join(&export);
            match self.fs.try_lock(&dir.join(LOCK)).at("lock", &dir.join(LOCK)) {
                Ok(None) => all.in_use.push(export),
                Ok(Some(_lock)) => match recover(&*self.fs, &dir, &export) {
                    Ok(outcome) => all.sealed.extend(outcome.sealed),
                    Err(err) => all.failed.push((export, err)),
                },
                Err(err) => all.failed.push((export, err)),
            }
        }
        Ok(all)
    }

    /// The sealed files that wait to be acknowledged. After [`Spool::recover`] these are all that there are, but for
    /// exports that are being written. An export that cannot be read does not hide the others' files.
    ///
    /// # Errors
    /// When the spool's folder cannot be read.
    pub fn pending(&self) -> Result<Pending, SpoolError> {
        let (mut found, mut failed) = (Vec::new(), Vec::new());
        for export in self.exports()? {
            match self.pending_of(&export) {
                Ok(files) => found.extend(files),
                Err(err) => failed.push((export, err)),
            }
        }
        found.sort_by(|(a_time, a), (b_time, b)| {
            let place = |it: &Sealed| (it.export.clone(), it.model.clone(), it.number);
            a_time.cmp(b_time).then_with(|| place(a).cmp(&place(b)))
        });
        Ok(Pending { files: found.into_iter().map(|(_, file)| file).collect(), failed })
    }

    /// The sealed files of one export, each with the time of its sealing.
    fn pending_of(&self, export: &str) -> Result<Vec<(SystemTime, Sealed)>, SpoolError> {
        let dir = self.dir.join(export);
        // Listed first: a file that is there now was in the manifest before.
        let mut files = Vec::new();
        for entry in list_if_there(&*self.fs, &dir).at("list", &dir)? {
            if entry.is_dir && is_name(&entry.name) {
                files.extend(self.sealed_in(&dir, &entry.name)?);
            }
        }
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let known = load(&*self.fs, &dir)?;
        let found = files.into_iter().filter_map(|InFolder { key, compression, len, modified }| {
            let line = known.sealed.get(&key)?;
            let is_told = line.bytes == len && line.compression == compression;
            is_told.then(|| (modified, line.sealed(export, &dir)))
        });
        Ok(found.collect())
    }

    /// The backend has the file: it moves to `sent/`. May be repeated, also after a crash, and while
    /// [`Spool::expire_sent`] runs.
    ///
    /// # Errors
    /// When it cannot be moved; then it waits on, and is uploaded again, which the backend takes for what it is.
    pub fn acknowledge(&self, file: &Sealed) -> Result<(), SpoolError> {
        check_name("an export", &file.export)?;
        check_name("a model", &file.model)?;
        let from_dir = self.dir.join(&file.export).join(&file.model);
        let to_dir = self.dir.join(SENT).join(&file.export).join(&file.model);
        let from = path(&from_dir, file.number, file.compression, Stage::Sealed);
        let to = path(&to_dir, file.number, file.compression, Stage::Sealed);
        // From now on its age counts. If this fails, it goes a little early. Before the move, since whoever expires files
        // may come right behind it.
        drop(self.fs.touch(&from));
        for tries in 1.. {
            let made = create_below(&*self.fs, &self.dir, &[SENT, &file.export, &file.model])
                .at("create folder", &to_dir);
            match made.and_then(|_| self.fs.rename(&from, &to).at("rename", &from)) {
                Ok(()) => break,
                // It was moved already, or even removed again.
                Err(err) if err.is_not_found() && self.fs.read(&from).is_err() => return Ok(()),
                // Whoever expires files removed the folder, which was still empty.
                Err(err) if err.is_not_found() && tries < MOVE_TRIES => {}
                Err(err) => return Err(err),
            }
        }
        // The new place first, so that there is no moment at which a crash finds neither.
        self.fs.sync_dir(&to_dir).at("sync folder", &to_dir)?;
        self.fs.sync_dir(&from_dir).at("sync folder", &from_dir)
    }

    /// Removes acknowledged files that were acknowledged longer ago than `older_than`, and what is left of exports of that
    /// age all of whose files are gone. An export of which something cannot be removed does not keep the others.
    ///
    /// Of exports that somebody may still go on with (`open`, by id) the manifest is kept, however old it is: it counts what
    /// was written so far, and has the numbers that are taken.
    ///
    /// # Errors
    /// When the spool's folder, or `sent` in it, cannot be read.
    pub fn expire_sent(
        &self,
        older_than: Duration,
        now: SystemTime,
        open: &HashSet<String>,
    ) -> Result<Removed, SpoolError> {
        let is_old = |time: SystemTime| now.duration_since(time).is_ok_and(|age| age >= older_than);
        let mut removed = Removed::default();
        let sent = self.dir.join(SENT);
        for export in folders(&*self.fs, &sent)? {
            if let Err(err) = self.expire_export(&sent.join(&export), is_old, &mut removed) {
                removed.failed.push((export, err));
            }
        }
        for export in self.exports()?.into_iter().filter(|it| !open.contains(it)) {
            if let Err(err) = self.remove_finished(&export, is_old) {
                removed.failed.push((export, err));
            }
        }
        Ok(removed)
    }

    /// How much there is.
    ///
    /// # Errors
    /// When the spool's folder, or `sent` in it, cannot be read.
    pub fn usage(&self) -> Result<Usage, SpoolError> {
        let mut usage = waiting(&*self.fs, &self.dir)?;
        let sent = waiting(&*self.fs, &self.dir.join(SENT))?;
        (usage.sent_files, usage.sent_bytes) = (sent.files, sent.bytes);
        usage.failed.extend(sent.failed);
        Ok(usage)
    }

    /// The oldest sealed file that waits: a part of [`Spool::usage`] that looks at no acknowledged file.
    ///
    /// # Errors
    /// When the spool's folder cannot be read.
    pub fn oldest(&self) -> Result<Option<Oldest>, SpoolError> {
        Ok(waiting(&*self.fs, &self.dir)?.oldest)
    }

    /// Removes the old ones of an export's acknowledged files; `dir` is its folder in `sent`.
    fn expire_export(
        &self,
        dir: &Path,
        is_old: impl Fn(SystemTime) -> bool,
        removed: &mut Removed,
    ) -> Result<(), SpoolError> {
        for model in folders(&*self.fs, dir)? {
            let model = dir.join(model);
            for entry in list_if_there(&*self.fs, &model).at("list", &model)? {
                if parse(&entry.name).is_some() && is_old(entry.modified) {
                    let file = model.join(&entry.name);
                    self.fs.remove(&file).at("remove", &file)?;
                    removed.files += 1;
                    removed.bytes += entry.len;
                }
            }
            // Fails as long as something is in it.
            drop(self.fs.remove_dir(&model));
        }
        drop(self.fs.remove_dir(dir));
        Ok(())
    }

    /// Removes an export's folder when nothing is in it but its manifest, and that is old: until then its numbers must
    /// stay known. One that somebody may ask about (see `place`) is kept, since the mark of that is in it.
    fn remove_finished(&self, export: &str, is_old: impl Fn(SystemTime) -> bool) -> Result<(), SpoolError> {
        let dir = self.dir.join(export);
        let entries = list_if_there(&*self.fs, &dir).at("list", &dir)?;
        let newest = entries.iter().filter(|it| !it.is_dir).map(|it| it.modified).max();
        let sent = list_if_there(&*self.fs, &self.dir.join(SENT).join(export)).at("list", &dir)?;
        if !newest.is_none_or(&is_old) || !sent.is_empty() || !is_finished(&*self.fs, &dir)? {
            return Ok(());
        }
        let lock = dir.join(LOCK);
        let Some(held) = self.fs.try_lock(&lock).at("lock", &lock)? else { return Ok(()) };
        // A writer may have come and gone before the lock was had.
        if !is_finished(&*self.fs, &dir)? {
            return Ok(());
        }
        for model in folders(&*self.fs, &dir)? {
            let model = dir.join(model);
            self.fs.remove_dir(&model).at("remove folder", &model)?;
        }
        for name in [MANIFEST, REFUSED, LOCK] {
            match self.fs.remove(&dir.join(name)) {
                Err(err) if err.kind() == std::io::ErrorKind::NotFound => {}
                other => other.at("remove", &dir.join(name))?,
            }
        }
        drop(held);
        self.fs.remove_dir(&dir).at("remove folder", &dir)
    }

    /// The ids of all exports.
    pub(crate) fn exports(&self) -> Result<Vec<String>, SpoolError> {
        // Not `folders`: a spool that is gone is no empty one.
        Ok(names(self.fs.list(&self.dir).at("list", &self.dir)?))
    }

    fn sealed_in(&self, dir: &Path, model: &str) -> Result<Vec<InFolder>, SpoolError> {
        let folder = dir.join(model);
        let entries = list_if_there(&*self.fs, &folder).at("list", &folder)?;
        let sealed = entries.into_iter().filter_map(|Entry { name, len, modified, .. }| {
            let (number, compression, Stage::Sealed) = parse(&name)? else { return None };
            Some(InFolder { key: (model.to_owned(), number), compression, len, modified })
        });
        Ok(sealed.collect())
    }
}

/// A sealed file as it lies there.
struct InFolder {
    key: Key,
    compression: Compression,
    len: u64,
    modified: SystemTime,
}

/// The files two folders below: `<export>/<model>/<file>`.
///
/// # Errors
/// When `dir` cannot be read; what cannot be read below it is skipped and told.
pub(crate) fn waiting(fs: &dyn Fs, dir: &Path) -> Result<Usage, SpoolError> {
    let mut usage = Usage::default();
    for export in folders(fs, dir)? {
        if let Err(err) = count(fs, &dir.join(&export), &export, &mut usage) {
            usage.failed.push((export, err));
        }
    }
    Ok(usage)
}

/// Counts the files in an export's folder.
fn count(fs: &dyn Fs, dir: &Path, export: &str, usage: &mut Usage) -> Result<(), SpoolError> {
    let models = folders(fs, dir)?;
    // A mark that cannot be read tells of no file, and hides none.
    let refused = refused::refused(fs, dir).unwrap_or_default();
    for model in models {
        let folder = dir.join(&model);
        for entry in list_if_there(fs, &folder).at("list", &folder)? {
            let Some((number, _, stage)) = parse(&entry.name) else { continue };
            usage.files += 1;
            usage.bytes += entry.len;
            if stage == Stage::Sealed && !refused.contains(&(model.clone(), number)) {
                let oldest = Oldest { written: entry.modified, export: export.to_owned() };
                usage.oldest = Some(usage.oldest.take().map_or(oldest.clone(), |it| it.min(oldest)));
            }
        }
    }
    Ok(())
}

/// The names of the folders in a folder; none when it is missing. `sent` is never among them.
fn folders(fs: &dyn Fs, dir: &Path) -> Result<Vec<String>, SpoolError> {
    Ok(names(list_if_there(fs, dir).at("list", dir)?))
}

fn names(entries: Vec<Entry>) -> Vec<String> {
    let folders = entries.into_iter().filter(|it| it.is_dir && is_name(&it.name));
    let mut names: Vec<_> = folders.map(|it| it.name).collect();
    names.sort();
    names
}

/// Two sealed files of an export.
#[cfg(test)]
fn two_sealed(spool: &Spool) -> Vec<Sealed> {
    let mut writer = spool.export("run-1").unwrap();
    for number in 0..2 {
        let mut session = writer.session("git", "area.Type");
        session.append(format!("{{\"id\":{number}}}").as_bytes()).unwrap();
        writer.commit(session).unwrap();
        writer.seal_all().unwrap();
    }
    spool.pending().unwrap().files
}
