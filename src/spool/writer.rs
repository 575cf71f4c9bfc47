//! The writer of one export: commits sessions, seals files.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::error::At;
use crate::files::{Sealed, Stage, Total, path};
use crate::growing::Growing;
use crate::manifest::{AppendError, Line, Manifest, OpenedFile, SealedFile, load};
use crate::session::Session;
use crate::shared::Shared;
use crate::{Amount, SpoolError};

/// What a commit made durable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Committed {
    /// How much of each session, in the order in which they were given.
    pub sessions: Vec<Amount>,
    /// Files that became complete meanwhile.
    pub sealed: Vec<Sealed>,
}

impl Committed {
    /// All sessions together.
    #[must_use]
    pub fn total(&self) -> Amount {
        let mut total = Amount::default();
        self.sessions.iter().for_each(|one| total += *one);
        total
    }
}

/// Writes one export. It holds the export's lock: one process at a time has it, for as long as the writer or one of its
/// sessions lives. Dropping it leaves what is not sealed to the next recovery.
#[derive(Debug)]
pub struct ExportWriter {
    pub(crate) shared: Arc<Shared>,
    manifest: Manifest,
    /// The files of small sessions, by origin and model.
    open: BTreeMap<Key, Open>,
    /// Sealed by the manifest, and not at their final names yet.
    unreleased: Vec<Unreleased>,
    recovered: Vec<Sealed>,
    earlier: Vec<Total>,
    /// Places were told, and the export's folder says so.
    pub(crate) asked: bool,
}

/// Origin and model.
type Key = (String, String);

#[derive(Debug)]
struct Open {
    number: u64,
    file: Growing,
    /// The first time [`ExportWriter::seal_due`] saw records in it.
    since: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct Unreleased {
    pub(crate) from: PathBuf,
    pub(crate) sealed: Sealed,
    renamed: bool,
}

impl ExportWriter {
    pub(crate) fn new(
        shared: Shared,
        manifest: Manifest,
        recovered: Vec<Sealed>,
        earlier: Vec<Total>,
    ) -> Self {
        let (open, unreleased) = (BTreeMap::new(), Vec::new());
        Self { shared: Arc::new(shared), manifest, open, unreleased, recovered, earlier, asked: false }
    }

    /// The export's id.
    #[must_use]
    pub fn export(&self) -> &str {
        &self.shared.export
    }

    /// Files that an earlier writer of this export left unsealed and that were sealed when this one was made.
    #[must_use]
    pub fn recovered(&self) -> &[Sealed] {
        &self.recovered
    }

    /// All that earlier writers of this export made durable, by origin and model: files that wait, those that were
    /// acknowledged and those that have expired since. Exact, since nobody can write it any more.
    #[must_use]
    pub fn earlier(&self) -> &[Total] {
        &self.earlier
    }

    /// All that is sealed of this export, by whichever writer, as the manifest on the disk has it. After
    /// [`ExportWriter::seal_all`] that is all that is durable.
    ///
    /// # Errors
    /// When the manifest cannot be read.
    pub fn totals(&self) -> Result<Vec<Total>, SpoolError> {
        Ok(load(self.shared.fs.as_ref(), &self.shared.dir)?.totals())
    }

    /// Opens a session for records of a model (which becomes a folder's name) from an origin (any text; it comes back in
    /// [`Sealed::origin`]). Nothing is written until it grows or is committed.
    #[must_use]
    pub fn session(&self, origin: &str, model: &str) -> Session {
        Session::new(self.shared.clone(), origin, model)
    }

    /// Makes a session durable; see [`ExportWriter::commit_many`].
    ///
    /// # Errors
    /// As [`ExportWriter::commit_many`].
    pub fn commit(&mut self, session: Session) -> Result<Committed, SpoolError> {
        self.commit_many(vec![session])
    }

    /// Makes sessions durable together: when it has answered, all their records are synced and will be handed over. Small
    /// sessions of the same origin and model share one member and one sync.
    ///
    /// # Errors
    /// When the disk or the spool is full, or the disk failed. Then nothing of these sessions is kept, and the writer
    /// goes on with others; only where the disk does not even let the failure be undone, a crash afterwards may leave some
    /// of the sessions, each as a whole.
    pub fn commit_many(&mut self, mut sessions: Vec<Session>) -> Result<Committed, SpoolError> {
        self.try_commit(&mut sessions)
    }

    /// As [`ExportWriter::commit_many`], for whoever wants to try again: sessions that were not committed stay in
    /// `sessions`, as whole as they were, to be committed later or dropped. None stay when all were committed, or when
    /// only a crash could show whether they were: those cannot be tried again without the danger of having them twice.
    ///
    /// A commit is never refused because the spool is full: what it writes was taken before, and is bounded by what the
    /// sessions hold in memory.
    ///
    /// # Errors
    /// As [`ExportWriter::commit_many`].
    pub fn try_commit(&mut self, sessions: &mut Vec<Session>) -> Result<Committed, SpoolError> {
        if let Some(stranger) = sessions.iter().find(|it| !Arc::ptr_eq(&it.shared, &self.shared)) {
            let (found, expected) = (stranger.shared.export.clone(), self.shared.export.clone());
            return Err(SpoolError::OtherExport { found, expected });
        }
        let amounts = sessions.iter().map(Session::amount).collect();
        let mut touched = BTreeSet::new();
        let done = self.store(sessions, &mut touched);
        if let Err(err) = done {
            for (_, open) in self.open.iter_mut().filter(|(key, _)| touched.contains(*key)) {
                // If this fails, the next use of the file cuts it off first, and so does recovery.
                drop(open.file.undo());
            }
            return Err(err);
        }
        for (_, open) in self.open.iter_mut().filter(|(key, _)| touched.contains(*key)) {
            self.shared.accept(&mut open.file);
        }
        sessions.clear();
        // The sessions are durable. Whatever fails from here on is tried again, and reported, by the next sealing.
        let mut sealed = self.release().unwrap_or_default();
        sealed.extend(
            self.seal_where(|open, settings| open.file.bytes() >= settings.seal_bytes).unwrap_or_default(),
        );
        Ok(Committed { sessions: amounts, sealed })
    }

    /// Seals the files that are old enough. The age counts from the first call after a file got its first records, so
    /// this wants to be called after each commit and now and then.
    ///
    /// # Errors
    /// When a file could not be sealed. It stays committed, and is tried again next time.
    pub fn seal_due(&mut self, now: Instant) -> Result<Vec<Sealed>, SpoolError> {
        for open in self.open.values_mut().filter(|open| open.file.amount().records > 0) {
            open.since.get_or_insert(now);
        }
        let mut sealed = self.release()?;
        sealed.extend(self.seal_where(|open, settings| {
            open.since.is_some_and(|since| now.saturating_duration_since(since) >= settings.seal_age)
                || open.file.bytes() >= settings.seal_bytes
        })?);
        Ok(sealed)
    }

    /// Seals every file: at the end of an export.
    ///
    /// # Errors
    /// When a file could not be sealed. It stays committed; another call, or recovery, tries again.
    pub fn seal_all(&mut self) -> Result<Vec<Sealed>, SpoolError> {
        let mut sealed = self.release()?;
        sealed.extend(self.seal_where(|_, _| true)?);
        Ok(sealed)
    }

    /// Everything up to the point after which the sessions are there.
    fn store(&mut self, sessions: &mut Vec<Session>, touched: &mut BTreeSet<Key>) -> Result<(), SpoolError> {
        let mut groups: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
        for (i, session) in sessions.iter().enumerate() {
            if session.is_small() && !session.buffer.is_empty() {
                groups.entry((session.origin.clone(), session.model.clone())).or_default().push(i);
            }
        }
        for (key, members) in groups {
            self.open_file(&key)?;
            touched.insert(key.clone());
            let Some(open) = self.open.get_mut(&key) else { continue };
            let mut amount = Amount::default();
            members.iter().for_each(|&i| amount += sessions[i].amount());
            let buffers = members.iter().map(|&i| sessions[i].buffer.as_slice());
            self.shared.stage(&mut open.file, amount, buffers)?;
        }
        for session in sessions.iter_mut().filter(|it| !it.is_small()) {
            session.flush()?;
        }
        for (_, open) in self.open.iter_mut().filter(|(key, _)| touched.contains(*key)) {
            open.file.sync()?;
        }
        self.store_parts(sessions)
    }

    /// The files of large sessions: synced, then named by one line of the manifest.
    fn store_parts(&mut self, sessions: &mut Vec<Session>) -> Result<(), SpoolError> {
        let (mut files, mut folders) = (Vec::new(), BTreeSet::new());
        for session in sessions.iter_mut().filter(|it| !it.parts.is_empty()) {
            folders.insert(self.shared.model_dir(&session.model));
            for part in &mut session.parts {
                part.file.undo()?;
                part.file.sync()?;
                // One that failed before its first record; it goes with the session.
                if part.file.amount().records > 0 {
                    files.push(self.shared.sealed_file(
                        &session.model,
                        part.number,
                        &session.origin,
                        &part.file,
                    ));
                }
            }
        }
        if files.is_empty() {
            return Ok(());
        }
        for folder in &folders {
            self.shared.sync_dir(folder)?;
        }
        match self.manifest.append(&Line::Sealed(files.clone())) {
            Ok(()) => {}
            Err(AppendError::Absent(err)) => return Err(err),
            Err(AppendError::InDoubt(err)) => {
                // If a crash brings the line back, it must find all files, or none of the session would be whole.
                sessions.iter_mut().for_each(Session::leave_parts);
                sessions.clear();
                return Err(err);
            }
        }
        for session in sessions.iter_mut() {
            session.leave_parts();
        }
        self.unreleased.extend(files.iter().map(|file| self.shared.unreleased(file, Stage::Part)));
        Ok(())
    }

    /// The `.open` file of an origin and a model: durable in its folder and known to the manifest.
    fn open_file(&mut self, key: &Key) -> Result<(), SpoolError> {
        let Entry::Vacant(place) = self.open.entry(key.clone()) else { return Ok(()) };
        let (origin, model) = key;
        let (number, file) = self.shared.create(model, Stage::Open)?;
        let line = Line::Opened(OpenedFile { model: model.clone(), number, origin: origin.clone() });
        if let Err(err) = self.manifest.append(&line) {
            // Whoever tries again makes another file. A line that a crash brings back may name one that is not there.
            drop(self.shared.fs.remove(file.path()));
            return Err(err.into_inner());
        }
        self.shared.sync_dir(&self.shared.model_dir(model))?;
        place.insert(Open { number, file, since: None });
        Ok(())
    }

    /// The file of small sessions of an origin and a model, and how much is in it.
    pub(crate) fn small_place(&mut self, origin: &str, model: &str) -> Result<(u64, u64), SpoolError> {
        let key = (origin.to_owned(), model.to_owned());
        self.open_file(&key)?;
        Ok(self.open.get(&key).map_or((0, 0), |open| (open.number, open.file.bytes())))
    }

    /// Seals `.open` files that hold records, as far as it goes, and answers with the first error.
    fn seal_where(
        &mut self,
        which: impl Fn(&Open, &crate::Settings) -> bool,
    ) -> Result<Vec<Sealed>, SpoolError> {
        let shared = &self.shared;
        let due = |open: &Open| open.file.amount().records > 0 && which(open, &shared.settings);
        let keys: Vec<Key> = self.open.iter().filter(|(_, it)| due(it)).map(|(key, _)| key.clone()).collect();
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut files = Vec::new();
        for key in &keys {
            if let Some(open) = self.open.get_mut(key) {
                open.file.undo()?;
                files.push(self.shared.sealed_file(&key.1, open.number, &key.0, &open.file));
            }
        }
        // One line for all: a crash may take it back, since each of them is committed as it is.
        self.manifest.append(&Line::Sealed(files.clone())).map_err(AppendError::into_inner)?;
        for key in &keys {
            self.open.remove(key);
        }
        self.unreleased.extend(files.iter().map(|file| self.shared.unreleased(file, Stage::Open)));
        self.release()
    }

    /// Gives sealed files their final names.
    fn release(&mut self) -> Result<Vec<Sealed>, SpoolError> {
        let mut folders = BTreeSet::new();
        for file in &mut self.unreleased {
            if !file.renamed {
                self.shared.fs.rename(&file.from, &file.sealed.path).at("rename", &file.from)?;
                file.renamed = true;
            }
            folders.insert(self.shared.model_dir(&file.sealed.model));
        }
        for folder in folders {
            self.shared.sync_dir(&folder)?;
        }
        Ok(self.unreleased.drain(..).map(|file| file.sealed).collect())
    }
}

impl Shared {
    fn sealed_file(&self, model: &str, number: u64, origin: &str, file: &Growing) -> SealedFile {
        SealedFile::of(model, number, origin, self.compression(), file)
    }

    fn unreleased(&self, file: &SealedFile, stage: Stage) -> Unreleased {
        let from = path(&self.model_dir(&file.model), file.number, file.compression, stage);
        Unreleased { from, sealed: file.sealed(&self.export, &self.dir), renamed: false }
    }
}

impl Session {
    /// Its files are no longer its own to remove. (One without records is removed all the same.)
    fn leave_parts(&mut self) {
        self.parts.retain(|part| part.file.amount().records == 0);
    }
}
