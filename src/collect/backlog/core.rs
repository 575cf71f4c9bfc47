//! The backlog without its thread: one commit, one read.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
    WriteTransaction,
};

use super::{BacklogError, Entry, Fill, Kept, Stored, TellBacklog, Told};

/// Place → head and bytes.
const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
/// Cursor → the place of what it has not passed.
const CURSORS: TableDefinition<'_, &str, u64> = TableDefinition::new("cursors");
/// Sender → its last sequence, and when that came, in seconds since 1970.
const SENDERS: TableDefinition<'_, &str, (u64, u64)> = TableDefinition::new("senders");
/// Sums by name.
const SUMS: TableDefinition<'_, &str, u64> = TableDefinition::new("sums");
/// The file's own name, and the format.
const WORDS: TableDefinition<'_, &str, &str> = TableDefinition::new("words");

/// What redb may keep in memory.
const CACHE_BYTES: usize = 8 << 20;
/// The most senders that are remembered; beyond, the one that was silent for longest is forgotten.
const SENDERS_MOST: u64 = 10_000;
/// What an entry takes beside its bytes, as far as the bound counts.
const ENTRY_BYTES: u64 = 64;
const FORMAT: &str = "1";

/// Before the bytes of each entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    /// Points of all entries that ever were before it, and their bytes.
    points_before: u64,
    bytes_before: u64,
    points: u32,
    sum: u32,
}

const HEAD: usize = 24;

impl Head {
    /// Over all that an entry is: its place, its head, its bytes.
    fn sum(self, place: u64, bytes: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&place.to_le_bytes());
        hasher.update(&self.points_before.to_le_bytes());
        hasher.update(&self.bytes_before.to_le_bytes());
        hasher.update(&self.points.to_le_bytes());
        hasher.update(bytes);
        hasher.finalize()
    }

    fn write(self, bytes: &[u8]) -> Vec<u8> {
        let mut all = Vec::with_capacity(HEAD + bytes.len());
        all.extend(self.points_before.to_le_bytes());
        all.extend(self.bytes_before.to_le_bytes());
        all.extend(self.points.to_le_bytes());
        all.extend(self.sum.to_le_bytes());
        all.extend(bytes);
        all
    }

    fn read(all: &[u8]) -> Option<(Self, &[u8])> {
        let (points_before, rest) = all.split_first_chunk()?;
        let (bytes_before, rest) = rest.split_first_chunk()?;
        let (points, rest) = rest.split_first_chunk()?;
        let (sum, bytes) = rest.split_first_chunk()?;
        let head = Self {
            points_before: u64::from_le_bytes(*points_before),
            bytes_before: u64::from_le_bytes(*bytes_before),
            points: u32::from_le_bytes(*points),
            sum: u32::from_le_bytes(*sum),
        };
        Some((head, bytes))
    }
}

/// What a cursor has not passed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cursor {
    name: String,
    at: u64,
    points_before: u64,
    dropped: u64,
}

/// What is known of the file, and true as of its last commit.
#[derive(Debug, Clone)]
struct State {
    first: u64,
    next: u64,
    bytes_first: u64,
    bytes: u64,
    points: u64,
    cursors: Vec<Cursor>,
}

pub(super) struct Core {
    path: PathBuf,
    most_bytes: u64,
    names: Vec<String>,
    tell: TellBacklog,
    id: String,
    state: State,
    /// None after an error: the next use opens it again.
    database: Option<Database>,
}

/// Why an operation failed.
enum Fault {
    Disk(String),
    Damaged(String),
    InUse,
}

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(err: E) -> Self {
        match err.into() {
            redb::Error::Io(err) if err.kind() != std::io::ErrorKind::InvalidData => {
                Self::Disk(err.to_string())
            }
            redb::Error::PreviousIo => Self::Disk("an earlier error of the disk".to_owned()),
            redb::Error::DatabaseAlreadyOpen => Self::InUse,
            err => Self::Damaged(err.to_string()),
        }
    }
}

/// redb asserts what a damaged file does not keep; that is damage as any other.
fn guarded<T>(run: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err(Fault::Damaged("its pages contradict each other".to_owned())))
}

impl Core {
    pub(super) fn open(
        path: PathBuf,
        most_bytes: u64,
        cursors: &[String],
        tell: TellBacklog,
    ) -> Result<Self, BacklogError> {
        let state = State { first: 1, next: 1, bytes_first: 0, bytes: 0, points: 0, cursors: Vec::new() };
        let names = cursors.to_vec();
        let mut core = Self { path, most_bytes, names, tell, id: String::new(), state, database: None };
        core.opened("open")?;
        Ok(core)
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn fill(&self) -> Fill {
        let state = &self.state;
        let cursor =
            |it: &Cursor| (it.name.clone(), (state.points.saturating_sub(it.points_before), it.dropped));
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

    /// What a cursor has not passed: at least one entry, and then as many as fit.
    pub(super) fn read(&mut self, cursor: &str, most_bytes: usize) -> Result<Vec<Stored>, BacklogError> {
        let mut damaged = 0;
        let read = self.with("read", |core| {
            let database = core.database.as_ref().ok_or(Fault::Damaged("it is closed".to_owned()))?;
            let Some(from) = core.state.cursors.iter().find(|it| it.name == cursor).map(|it| it.at) else {
                return Ok(Vec::new());
            };
            let table = database.begin_read()?.open_table(ENTRIES)?;
            let (mut taken, mut bytes) = (Vec::new(), 0);
            for row in table.range(from..)? {
                let (place, value) = row?;
                let (head, payload) =
                    Head::read(value.value()).ok_or_else(|| Fault::Damaged("a short entry".to_owned()))?;
                bytes += payload.len();
                if !taken.is_empty() && bytes > most_bytes {
                    break;
                }
                let mut stored =
                    Stored { place: place.value(), points: head.points, bytes: payload.to_vec() };
                if head.sum(place.value(), payload) != head.sum {
                    damaged += 1;
                    stored.points = 0;
                    stored.bytes.clear();
                }
                taken.push(stored);
            }
            Ok(taken)
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
            Ok((database, state, id)) => {
                let dropped = self.state.cursors.iter().map(|it| it.dropped);
                let before: Vec<_> = dropped.collect();
                self.state = state;
                // Counts are since the start, and a file that is opened again is no start.
                self.state.cursors.iter_mut().zip(before).for_each(|(it, before)| it.dropped = before);
                (self.database, self.id) = (Some(database), id);
                Ok(())
            }
            Err(Fault::Disk(why) | Fault::Damaged(why)) => Err(self.disk(operation, why)),
            Err(Fault::InUse) => Err(BacklogError::InUse(self.path.clone())),
        }
    }

    fn open_file(&self) -> Result<(Database, State, String), Fault> {
        use std::os::unix::fs::OpenOptionsExt;
        let io = |err: std::io::Error| Fault::Disk(err.to_string());
        let mut options = std::fs::File::options();
        let file = options.create(true).truncate(false).read(true).write(true).mode(0o600).open(&self.path);
        let file = file.map_err(io)?;
        let database = match Database::builder().set_cache_size(CACHE_BYTES).create_file(file) {
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
        store(&transaction, &state)?;
        transaction.commit()?;
        // The file may be new: its name has to be as durable as what will be written into it.
        let folder = self.path.parent().map(std::fs::File::open).transpose().map_err(io)?;
        folder.map(|it| it.sync_all()).transpose().map_err(io)?;
        Ok((database, state, id))
    }
}

fn load(transaction: &WriteTransaction, names: &[String]) -> Result<State, Fault> {
    let sums = transaction.open_table(SUMS)?;
    let sum = |name: &str| Ok::<_, Fault>(sums.get(name)?.map(|it| it.value()));
    let (next, bytes, points) =
        (sum("next")?.unwrap_or(1), sum("bytes")?.unwrap_or(0), sum("points")?.unwrap_or(0));
    drop(sums);
    transaction.open_table(SENDERS)?;
    let entries = transaction.open_table(ENTRIES)?;
    let first = entries.first()?.map_or(next, |it| it.0.value());
    let mut state = State { first, next, bytes_first: bytes, bytes, points, cursors: Vec::new() };
    if let Some((_, bytes_before)) = before(&entries, first)? {
        state.bytes_first = bytes_before;
    }
    let mut cursors = transaction.open_table(CURSORS)?;
    cursors.retain(|name, _| names.iter().any(|it| it == name))?;
    for name in names {
        let at = cursors.get(name.as_str())?.map_or(next, |it| it.value()).clamp(first, next);
        let points_before = before(&entries, at)?.map_or(points, |it| it.0);
        state.cursors.push(Cursor { name: name.clone(), at, points_before, dropped: 0 });
    }
    Ok(state)
}

/// Points and bytes before an entry.
fn before(entries: &impl ReadableTable<u64, &'static [u8]>, place: u64) -> Result<Option<(u64, u64)>, Fault> {
    let Some(value) = entries.get(place)? else { return Ok(None) };
    let (head, _) = Head::read(value.value()).ok_or_else(|| Fault::Damaged("a short entry".to_owned()))?;
    Ok(Some((head.points_before, head.bytes_before)))
}

fn append(transaction: &WriteTransaction, state: &mut State, added: &[Entry]) -> Result<Vec<Kept>, Fault> {
    let mut kept = Vec::with_capacity(added.len());
    if added.is_empty() {
        return Ok(kept);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut senders = transaction.open_table(SENDERS)?;
    let mut entries = transaction.open_table(ENTRIES)?;
    for entry in added {
        if let Some((sender, sequence)) = &entry.origin {
            let last = senders.get(sender.as_str())?.map_or(0, |it| it.value().0);
            if *sequence <= last {
                kept.push(Kept::Before);
                continue;
            }
            senders.insert(sender.as_str(), (*sequence, now))?;
        }
        let (points_before, bytes_before) = (state.points, state.bytes);
        let mut head = Head { points_before, bytes_before, points: entry.points, sum: 0 };
        head.sum = head.sum(state.next, &entry.bytes);
        entries.insert(state.next, head.write(&entry.bytes).as_slice())?;
        state.next += 1;
        state.points += u64::from(entry.points);
        state.bytes += entry.bytes.len() as u64 + ENTRY_BYTES;
        kept.push(Kept::Now);
    }
    while senders.len()? > SENDERS_MOST {
        let mut oldest: Option<(u64, String)> = None;
        for row in senders.iter()? {
            let (name, seen) = row?;
            if oldest.as_ref().is_none_or(|it| seen.value().1 < it.0) {
                oldest = Some((seen.value().1, name.value().to_owned()));
            }
        }
        let Some((_, name)) = oldest else { break };
        senders.remove(name.as_str())?;
    }
    Ok(kept)
}

fn advance(transaction: &WriteTransaction, state: &mut State, to: &[(String, u64)]) -> Result<(), Fault> {
    if to.is_empty() {
        return Ok(());
    }
    let entries = transaction.open_table(ENTRIES)?;
    for (name, place) in to {
        let next = state.next;
        let Some(cursor) = state.cursors.iter_mut().find(|it| it.name == *name) else { continue };
        cursor.at = cursor.at.max(*place).min(next);
        cursor.points_before = before(&entries, cursor.at)?.map_or(state.points, |it| it.0);
    }
    Ok(())
}

/// Deletes what every cursor has passed, and then the oldest, as long as it is too much.
fn trim(transaction: &WriteTransaction, state: &mut State, most: u64) -> Result<(), Fault> {
    let mut entries = transaction.open_table(ENTRIES)?;
    let mut first = state.cursors.iter().map(|it| it.at).min().unwrap_or(state.next);
    let mut found = before(&entries, first)?;
    while first + 1 < state.next && found.is_some_and(|it| state.bytes.saturating_sub(it.1) > most) {
        first += 1;
        found = before(&entries, first)?;
    }
    let (points_before, bytes_before) = found.unwrap_or((state.points, state.bytes));
    for cursor in &mut state.cursors {
        if cursor.at < first {
            cursor.dropped += points_before.saturating_sub(cursor.points_before);
            (cursor.at, cursor.points_before) = (first, points_before);
        }
    }
    if first > state.first {
        entries.retain_in(state.first..first, |_, _| false)?;
    }
    (state.first, state.bytes_first) = (first, bytes_before);
    Ok(())
}

fn store(transaction: &WriteTransaction, state: &State) -> Result<(), Fault> {
    let mut sums = transaction.open_table(SUMS)?;
    for (name, value) in [("next", state.next), ("bytes", state.bytes), ("points", state.points)] {
        sums.insert(name, value)?;
    }
    let mut cursors = transaction.open_table(CURSORS)?;
    for cursor in &state.cursors {
        cursors.insert(cursor.name.as_str(), cursor.at)?;
    }
    Ok(())
}
