//! Where a commit will put a session, so that somebody who keeps a record of commits elsewhere can find out after a crash
//! whether the last one happened.
//!
//! The caller notes the places durably, commits, and notes that it is done. Where a crash came in between, [`Spool::holds`]
//! tells whether the session is in the spool. A place speaks of the commit that it was asked for and of no later one: of
//! two commits at the same place, the first of which failed, only the last may be asked about.
//!
//! **Invariant:** an export of which places were told is not removed before they are settled, by its writer
//! ([`ExportWriter::settle`]) or after its death ([`Spool::settle`]): what was acknowledged and expired could not be told
//! from what was never committed.

use std::path::Path;

use crate::error::At;
use crate::files::{ASKED, LOCK, check_name};
use crate::fs::Fs;
use crate::manifest::load;
use crate::recovery::recover;
use crate::session::Session;
use crate::writer::ExportWriter;
use crate::{Spool, SpoolError};

/// Where a commit puts a session's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitPlace {
    /// The model.
    pub model: String,
    /// The file's number within the export and the model.
    pub number: u64,
    /// The records begin behind so many bytes of the file.
    pub from: u64,
}

impl ExportWriter {
    /// Where [`ExportWriter::commit_many`] will put each of the sessions, if it is the next call of this writer; nothing
    /// for a session without records.
    ///
    /// # Errors
    /// When a file cannot be made or written: the disk is full, or failed. The sessions are as whole as before.
    pub fn places(&mut self, sessions: &mut [Session]) -> Result<Vec<Option<CommitPlace>>, SpoolError> {
        let places: Vec<_> =
            sessions.iter_mut().map(|session| self.place(session)).collect::<Result<_, _>>()?;
        if !self.asked && places.iter().any(Option::is_some) {
            let mark = self.shared.dir.join(ASKED);
            self.shared.fs.append(&mark).at("create", &mark)?;
            self.shared.sync_dir(&self.shared.dir)?;
            self.asked = true;
        }
        Ok(places)
    }

    /// Nobody will ask about the places told so far: whoever noted them knows, durably, what became of them.
    ///
    /// # Errors
    /// When the disk fails. The export is kept, as if its places were still asked about.
    pub fn settle(&mut self) -> Result<(), SpoolError> {
        forget_asked(self.shared.fs.as_ref(), &self.shared.dir)?;
        self.asked = false;
        Ok(())
    }

    fn place(&mut self, session: &mut Session) -> Result<Option<CommitPlace>, SpoolError> {
        if session.amount().records == 0 {
            return Ok(None);
        }
        let model = session.model().to_owned();
        if session.is_small() {
            let (number, from) = self.small_place(session.origin(), session.model())?;
            return Ok(Some(CommitPlace { model, number, from }));
        }
        if session.parts.is_empty() {
            // Its records are still being compressed.
            session.flush()?;
        }
        // All parts are named by one line, so any of them tells; one without records is not named.
        let part = session.parts.iter().find(|it| it.file.amount().records > 0).or(session.parts.last());
        Ok(part.map(|part| CommitPlace { model, number: part.number, from: 0 }))
    }
}

impl Spool {
    /// Whether a dead export has what was to be put at these places. Seals what its writer left.
    ///
    /// # Errors
    /// When the export is being written, and when the disk fails.
    pub fn holds(&self, export: &str, places: &[CommitPlace]) -> Result<Vec<bool>, SpoolError> {
        check_name("an export", export)?;
        let dir = self.dir().join(export);
        if self.fs().list(&dir).is_err_and(|err| err.kind() == std::io::ErrorKind::NotFound) {
            return Ok(vec![false; places.len()]);
        }
        let lock = self.fs().try_lock(&dir.join(LOCK)).at("lock", &dir.join(LOCK))?;
        let _lock = lock.ok_or_else(|| SpoolError::InUse { export: export.into() })?;
        recover(self.fs(), &dir, export)?;
        let known = load(self.fs(), &dir)?;
        let holds = |place: &CommitPlace| {
            let file = known.sealed.get(&(place.model.clone(), place.number));
            file.is_some_and(|file| file.bytes > place.from)
        };
        Ok(places.iter().map(holds).collect())
    }

    /// Nobody will ask about places of any export any more. No export may be written meanwhile.
    ///
    /// # Errors
    /// When the spool's folder cannot be read. An export in which something fails is kept until the next call.
    pub fn settle(&self) -> Result<(), SpoolError> {
        for export in self.exports()? {
            drop(forget_asked(self.fs(), &self.dir().join(export)));
        }
        Ok(())
    }
}

/// Not synced: should a crash bring the mark back, the export is kept a little longer.
fn forget_asked(fs: &dyn Fs, dir: &Path) -> Result<(), SpoolError> {
    let mark = dir.join(ASKED);
    match fs.remove(&mark) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.at("remove", &mark),
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::faulty::{Dice, FaultyFs};
    use crate::{Settings, Spool};

    fn settings() -> Settings {
        Settings { seal_bytes: 3000, buffer_bytes: 1000, ..Settings::default() }
    }

    fn session(writer: &ExportWriter, model: &str, name: &str, records: u64) -> Session {
        let mut session = writer.session("git", model);
        for n in 0..records {
            let noise = n.wrapping_add(name.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            session.append(format!("{name}-{n}-{noise:016x}").as_bytes()).unwrap();
        }
        session
    }

    /// The records that the spool hands over, by the name of their session.
    fn names(fs: &FaultyFs, spool: &Spool) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for file in spool.pending().unwrap().files {
            let text = crate::world::unpack(&fs.contents(&file.path).unwrap(), file.compression);
            names.extend(text.lines().map(|line| line.split('-').next().unwrap().to_owned()));
        }
        names
    }

    /// Commits a small and a large session, with the power cut after `operations`; answers whether that came too late.
    fn cut_after(operations: u64, seed: u64) -> bool {
        let fs = FaultyFs::new(Path::new("/"));
        let spool = Spool::open_on(Arc::new(fs.clone()), "/spool".into(), settings()).unwrap();
        let mut writer = spool.export("e1").unwrap();
        let before = session(&writer, "a.Small", "before", 3);
        writer.commit(before).unwrap();
        let mut sessions =
            vec![session(&writer, "a.Small", "small", 2), session(&writer, "a.Large", "large", 200)];
        let places: Vec<CommitPlace> = writer.places(&mut sessions).unwrap().into_iter().flatten().collect();
        assert_eq!(places.len(), 2);
        let now = fs.operations();
        fs.fail(now + operations..u64::MAX, ErrorKind::Other);
        let committed = writer.commit_many(sessions).is_ok();
        drop(writer);
        let after = fs.cut(&mut Dice::new(seed));
        let spool = Spool::open_on(Arc::new(after.clone()), "/spool".into(), settings()).unwrap();
        let holds = spool.holds("e1", &places).unwrap();
        let there = names(&after, &spool);
        let counts = |name: &str| there.iter().filter(|it| *it == name).count();
        assert_eq!(counts("before"), 3);
        assert_eq!(counts("small"), if holds[0] { 2 } else { 0 }, "after {operations} operations: {there:?}");
        assert_eq!(counts("large"), if holds[1] { 200 } else { 0 }, "after {operations} operations");
        assert!(!committed || (holds[0] && holds[1]), "what was answered is there");
        acknowledge_and_expire(&spool);
        assert_eq!(spool.holds("e1", &places).unwrap(), holds, "after {operations} operations");
        committed
    }

    #[test]
    fn a_place_tells_after_a_cut_at_any_operation_whether_the_commit_happened() {
        let mut cuts = 0;
        for seed in 0..20 {
            let mut operations = 0;
            while !cut_after(operations, seed) {
                operations += 1;
                cuts += 1;
            }
        }
        assert!(cuts > 100, "{cuts} cuts");
    }

    /// Acknowledges all files of the spool and lets them, and all that is finished, expire at once.
    fn acknowledge_and_expire(spool: &Spool) {
        let recovered = spool.recover().unwrap();
        assert!(recovered.failed.is_empty(), "{:?}", recovered.failed);
        for file in spool.pending().unwrap().files {
            spool.acknowledge(&file).unwrap();
        }
        let later = SystemTime::now() + Duration::from_secs(3600);
        let removed = spool.expire_sent(Duration::ZERO, later, &[].into()).unwrap();
        assert!(removed.failed.is_empty(), "{:?}", removed.failed);
    }

    #[test]
    fn a_place_tells_also_when_its_file_was_acknowledged_and_expired() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path(), settings()).unwrap();
        let mut writer = spool.export("e1").unwrap();
        let mut sessions = vec![session(&writer, "a.Small", "small", 2)];
        let places: Vec<CommitPlace> = writer.places(&mut sessions).unwrap().into_iter().flatten().collect();
        writer.commit_many(sessions).unwrap();
        drop(writer);
        acknowledge_and_expire(&spool);
        assert_eq!(spool.holds("e1", &places).unwrap(), [true]);
        spool.settle().unwrap();
        acknowledge_and_expire(&spool);
        assert!(!spool.dir().join("e1").exists(), "when it is settled, the export goes");
    }

    #[test]
    fn an_export_that_its_writer_settled_is_removed_when_it_is_old() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path(), settings()).unwrap();
        let mut writer = spool.export("e1").unwrap();
        let mut sessions = vec![session(&writer, "a.Small", "small", 2)];
        writer.places(&mut sessions).unwrap();
        writer.commit_many(sessions).unwrap();
        writer.settle().unwrap();
        drop(writer);
        acknowledge_and_expire(&spool);
        assert!(!spool.dir().join("e1").exists());
    }

    #[test]
    fn an_export_that_is_not_there_holds_nothing() {
        let fs = FaultyFs::new(Path::new("/"));
        let spool = Spool::open_on(Arc::new(fs), "/spool".into(), settings()).unwrap();
        let place = CommitPlace { model: "a.Small".into(), number: 0, from: 0 };
        assert_eq!(spool.holds("e9", &[place]).unwrap(), [false]);
    }
}
