//! The backlog without its thread: one commit, one read.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable};

use super::tables::{
    ENTRIES, Fault, Hand, Head, Sender, State, WORDS, advance, append, begin_sender, load, store, trim,
};
use super::{BacklogError, CursorFill, Entry, Fill, Kept, Most, Stored, TellBacklog, Told};

/// What redb may keep in memory.
const CACHE_BYTES: usize = 8 << 20;
/// A file larger than this is made smaller once nothing is in it.
const LARGE_BYTES: u64 = 32 << 20;
/// The least time between two tries of that.
const SHRINK_EVERY: Duration = Duration::from_secs(60);
/// What this version writes.
const FORMAT: &str = "1";

/// The file, and what is known of it.
pub(super) struct Core {
    path: PathBuf,
    most_bytes: u64,
    names: Vec<String>,
    tell: TellBacklog,
    id: String,
    /// As whom this process sends on what it puts in, and all who did so before; the last one is this one.
    senders: Vec<Sender>,
    state: State,
    /// None after an error: the next use opens it again.
    database: Option<Database>,
    on: OpenOn,
    shrunk_at: Option<Instant>,
}

/// How a file is opened as a database.
pub(super) type OpenOn = fn(std::fs::File) -> Result<Database, DatabaseError>;

fn as_file(file: std::fs::File) -> Result<Database, DatabaseError> {
    Database::builder().set_cache_size(CACHE_BYTES).create_file(file)
}

/// redb asserts what a damaged file does not keep; that is damage as any other.
fn guarded<T>(run: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err(Fault::Damaged("its pages contradict each other".to_owned())))
}

/// Whose entries are read at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    OneSender,
    #[cfg(test)]
    All,
}

/// The file, what is in it, its name, and its senders.
type Opened = (Database, State, String, Vec<Sender>);

impl Core {
    pub(super) fn open(
        path: PathBuf,
        most_bytes: u64,
        cursors: &[String],
        tell: TellBacklog,
    ) -> Result<Self, BacklogError> {
        Self::open_on(path, most_bytes, cursors, tell, as_file)
    }

    pub(super) fn open_on(
        path: PathBuf,
        most_bytes: u64,
        cursors: &[String],
        tell: TellBacklog,
        on: OpenOn,
    ) -> Result<Self, BacklogError> {
        let state = State { first: 1, next: 1, bytes_first: 0, bytes: 0, points: 0, cursors: Vec::new() };
        let names = cursors.to_vec();
        let mut core = Self {
            path,
            most_bytes,
            names,
            tell,
            id: String::new(),
            senders: Vec::new(),
            state,
            database: None,
            on,
            shrunk_at: None,
        };
        core.opened("open")?;
        Ok(core)
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Under whose name an entry is sent on.
    fn sender(&self, place: u64) -> Arc<str> {
        let found = self.senders.iter().rev().find(|it| it.from <= place);
        found.map_or_else(|| self.id.as_str().into(), |it| Arc::clone(&it.name))
    }

    pub(super) fn fill(&self) -> Fill {
        let state = &self.state;
        let cursor = |it: &super::tables::Cursor| {
            let waiting = state.points.saturating_sub(it.points_before) + it.hand.uncounted;
            let uncounted = it.hand.uncounted;
            (it.name.clone(), CursorFill { at: it.at, waiting, dropped: it.dropped, uncounted })
        };
        Fill {
            bytes: state.bytes.saturating_sub(state.bytes_first),
            next: state.next,
            cursors: state.cursors.iter().map(cursor).collect(),
        }
    }

    pub(super) fn say(&self, told: Told) {
        (self.tell)(told);
    }

    /// Keeps entries and moves cursors, durable when this answers.
    pub(super) fn commit(
        &mut self,
        entries: &[Entry],
        advances: &[(String, u64)],
    ) -> Result<Vec<Kept>, BacklogError> {
        let most = self.most_bytes;
        let mut state = None;
        let answer = self.with("write", |core| {
            // What an attempt before this one changed was not committed.
            let database = core.database.as_ref().ok_or(Fault::Damaged("it is closed".to_owned()))?;
            let mut changed = core.state.clone();
            let transaction = database.begin_write()?;
            let kept = append(&transaction, &mut changed, entries)?;
            advance(&transaction, &mut changed, advances)?;
            trim(&transaction, &mut changed, most)?;
            store(&transaction, &changed)?;
            transaction.commit()?;
            state = Some(changed);
            Ok(kept)
        })?;
        if let Some(changed) = state {
            for (now, before) in changed.cursors.iter().zip(&self.state.cursors) {
                let points = now.dropped.saturating_sub(before.dropped);
                if points > 0 {
                    (self.tell)(Told::Dropped { cursor: now.name.clone(), points });
                }
            }
            self.state = changed;
        }
        Ok(answer)
    }

    /// Gives the disk back what a file took that is empty now, and not too often: it takes some syncs. It stays as large where
    /// that fails.
    pub(super) fn shrink(&mut self) {
        if self.shrunk_at.is_some_and(|it| it.elapsed() < SHRINK_EVERY) {
            return;
        }
        let is_empty = self.state.bytes == self.state.bytes_first;
        let is_large = || std::fs::metadata(&self.path).is_ok_and(|it| it.len() > LARGE_BYTES);
        if !is_empty || !is_large() {
            return;
        }
        let Some(mut database) = self.database.take() else { return };
        self.shrunk_at = Some(Instant::now());
        let compacted = guarded(|| {
            let compacted = database.compact().map(drop);
            compacted.map_err(|err| Fault::Disk(err.to_string()))?;
            Ok(database)
        });
        // After an error the next use opens it again.
        self.database = compacted.ok();
    }

    /// What a cursor has not passed, which is in hand from now on.
    pub(super) fn read(&mut self, cursor: &str, most: Most) -> Result<Vec<Stored>, BacklogError> {
        let (read, hand) = self.look(cursor, most, Of::OneSender)?;
        if let Some(cursor) = self.state.cursors.iter_mut().find(|it| it.name == cursor) {
            cursor.hand = hand;
        }
        Ok(read)
    }

    /// The same without taking it in hand; answers what would be.
    pub(super) fn look(
        &mut self,
        cursor: &str,
        most: Most,
        of: Of,
    ) -> Result<(Vec<Stored>, Hand), BacklogError> {
        let mut damaged = 0;
        let read = self.with("read", |core| {
            let database = core.database.as_ref().ok_or(Fault::Damaged("it is closed".to_owned()))?;
            let Some(from) = core.state.cursors.iter().find(|it| it.name == cursor).map(|it| it.at) else {
                return Ok((Vec::new(), Hand::default()));
            };
            let table = database.begin_read()?.open_table(ENTRIES)?;
            let (mut taken, mut points, mut bytes, mut hand) = (Vec::new(), 0, 0, Hand::default());
            let mut sender = None;
            for row in table.range(from..)? {
                let (place, value) = row?;
                let its = core.sender(place.value());
                if sender.get_or_insert_with(|| Arc::clone(&its)) != &its && of == Of::OneSender {
                    break;
                }
                let (head, payload) =
                    Head::read(value.value()).ok_or_else(|| Fault::Damaged("a short entry".to_owned()))?;
                points = u64::saturating_add(points, u64::from(head.points));
                bytes += payload.len();
                if !taken.is_empty() && (points > most.points || bytes > most.bytes) {
                    break;
                }
                // What a damaged head says is left out below.
                let points_before = head.points_before.saturating_add(u64::from(head.points));
                hand = Hand { end: place.value() + 1, points_before, uncounted: 0 };
                let mut stored = Stored {
                    place: place.value(),
                    points: head.points,
                    sender: its,
                    bytes: payload.to_vec(),
                };
                if head.sum(place.value(), payload) != head.sum {
                    damaged += 1;
                    stored.points = 0;
                    stored.bytes.clear();
                }
                taken.push(stored);
            }
            Ok((taken, hand))
        })?;
        if damaged > 0 {
            (self.tell)(Told::Damaged { batches: damaged });
        }
        Ok(read)
    }

    /// Runs an operation; where the file turns out to be damaged, runs it once more on an empty one.
    fn with<T>(
        &mut self,
        operation: &'static str,
        mut run: impl FnMut(&Self) -> Result<T, Fault>,
    ) -> Result<T, BacklogError> {
        for _ in 0..2 {
            self.opened(operation)?;
            match guarded(|| run(self)) {
                Ok(answer) => return Ok(answer),
                Err(fault) => {
                    // redb refuses everything after an error of the disk; what was committed is safe.
                    self.database = None;
                    self.give_way(operation, fault)?;
                }
            }
        }
        Err(self.disk(operation, "it is damaged, and so is an empty one".to_owned()))
    }

    /// Makes way for an empty file where this one is damaged.
    fn give_way(&self, operation: &'static str, fault: Fault) -> Result<(), BacklogError> {
        let why = match fault {
            Fault::Disk(why) => return Err(self.disk(operation, why)),
            Fault::InUse => return Err(BacklogError::InUse(self.path.clone())),
            Fault::Damaged(why) => why,
        };
        // One is kept, for a person to look at: a disk that damages all must not fill itself with them.
        let to = self.path.with_extension("redb.damaged");
        std::fs::rename(&self.path, &to).map_err(|err| self.disk("set aside", err.to_string()))?;
        (self.tell)(Told::SetAside { to, why });
        Ok(())
    }

    fn disk(&self, operation: &'static str, why: String) -> BacklogError {
        BacklogError::Disk { operation, path: self.path.clone(), why }
    }

    fn opened(&mut self, operation: &'static str) -> Result<(), BacklogError> {
        if self.database.is_some() {
            return Ok(());
        }
        let mut opened = guarded(|| self.open_file());
        if let Err(fault @ Fault::Damaged(_)) = opened {
            self.give_way(operation, fault)?;
            opened = guarded(|| self.open_file());
        }
        match opened {
            Ok((database, state, id, senders)) => {
                let is_same = self.id == id;
                self.senders = senders;
                let before = std::mem::replace(&mut self.state, state).cursors;
                // Counts are since the start, and a file that is opened again is no start.
                for (it, before) in self.state.cursors.iter_mut().zip(before) {
                    it.dropped = before.dropped;
                    it.hand = if is_same { before.hand } else { Hand::default() };
                }
                (self.database, self.id) = (Some(database), id);
                Ok(())
            }
            Err(Fault::Disk(why) | Fault::Damaged(why)) => Err(self.disk(operation, why)),
            Err(Fault::InUse) => Err(BacklogError::InUse(self.path.clone())),
        }
    }

    fn open_file(&self) -> Result<Opened, Fault> {
        use std::os::unix::fs::OpenOptionsExt;
        let io = |err: std::io::Error| Fault::Disk(err.to_string());
        let mut options = std::fs::File::options();
        let file = options.create(true).truncate(false).read(true).write(true).mode(0o600).open(&self.path);
        let file = file.map_err(io)?;
        let database = match (self.on)(file) {
            Err(DatabaseError::UpgradeRequired(version)) => {
                return Err(Fault::Damaged(format!("format {version} of another version")));
            }
            other => other?,
        };
        let transaction = database.begin_write()?;
        let id = {
            let mut words = transaction.open_table(WORDS)?;
            let found = words.get("id")?.map(|it| it.value().to_owned());
            let format = words.get("format")?.map(|it| it.value().to_owned());
            match (found, format.as_deref()) {
                (Some(id), Some(FORMAT)) => id,
                (None, None) => {
                    let id = uuid::Uuid::new_v4().to_string();
                    words.insert("id", id.as_str())?;
                    words.insert("format", FORMAT)?;
                    id
                }
                _ => return Err(Fault::Damaged("another version of Outrider wrote it".to_owned())),
            }
        };
        let state = load(&transaction, &self.names)?;
        // Opened again by this process, it has all that this process put in.
        let ours = self.senders.last().filter(|_| self.id == id).map(|it| it.name.to_string());
        let name = ours.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let senders = begin_sender(&transaction, &state, &id, &name)?;
        store(&transaction, &state)?;
        transaction.commit()?;
        // The file may be new: its name has to be as durable as what will be written into it.
        let folder = self.path.parent().map(std::fs::File::open).transpose().map_err(io)?;
        folder.map(|it| it.sync_all()).transpose().map_err(io)?;
        Ok((database, state, id, senders))
    }
}
