//! The tables of the backlog's file, and what one transaction does to them.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use redb::{ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};

use super::{Entry, Kept};

/// Place → head and bytes.
pub(super) const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
/// Cursor → the place of what it has not passed.
pub(super) const CURSORS: TableDefinition<'_, &str, u64> = TableDefinition::new("cursors");
/// Sender → its last sequence, and when that came, in seconds since 1970.
pub(super) const SENDERS: TableDefinition<'_, &str, (u64, u64)> = TableDefinition::new("senders");
/// The place at which a sender begins → its name; it ends where the next one begins.
pub(super) const OWN_SENDERS: TableDefinition<'_, u64, &str> = TableDefinition::new("own_senders");
/// Sums by name.
pub(super) const SUMS: TableDefinition<'_, &str, u64> = TableDefinition::new("sums");
/// The file's own name, and the format.
pub(super) const WORDS: TableDefinition<'_, &str, &str> = TableDefinition::new("words");

/// The most senders that are remembered; beyond, the one that was silent for longest is forgotten.
pub(super) const SENDERS_MOST: u64 = 10_000;
/// What an entry takes beside its bytes, as far as the bound counts.
pub(super) const ENTRY_BYTES: u64 = 64;

/// Before the bytes of each entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Points of all entries that ever were before it, and their bytes.
    pub(super) points_before: u64,
    pub(super) bytes_before: u64,
    pub(super) points: u32,
    pub(super) sum: u32,
}

/// Its size as it is written.
pub(super) const HEAD: usize = 24;

impl Head {
    /// Over all that an entry is: its place, its head, its bytes.
    pub(super) fn sum(self, place: u64, bytes: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&place.to_le_bytes());
        hasher.update(&self.points_before.to_le_bytes());
        hasher.update(&self.bytes_before.to_le_bytes());
        hasher.update(&self.points.to_le_bytes());
        hasher.update(bytes);
        hasher.finalize()
    }

    pub(super) fn write(self, bytes: &[u8]) -> Vec<u8> {
        let mut all = Vec::with_capacity(HEAD + bytes.len());
        all.extend(self.points_before.to_le_bytes());
        all.extend(self.bytes_before.to_le_bytes());
        all.extend(self.points.to_le_bytes());
        all.extend(self.sum.to_le_bytes());
        all.extend(bytes);
        all
    }

    pub(super) fn read(all: &[u8]) -> Option<(Self, &[u8])> {
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
pub(super) struct Cursor {
    pub(super) name: String,
    pub(super) at: u64,
    pub(super) points_before: u64,
    pub(super) dropped: u64,
    pub(super) hand: Hand,
}

/// What was read last, up to a place: nothing where that is not above the cursor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hand {
    pub(super) end: u64,
    /// Points of all entries that ever were before that place.
    pub(super) points_before: u64,
    /// Points of it that the bound dropped, and that its owner has yet to count.
    pub(super) uncounted: u64,
}

impl Cursor {
    /// The bound drops what is before a place.
    fn drop_before(&mut self, place: u64, points_before: u64) {
        let in_hand = if self.hand.end > self.at {
            self.hand.points_before.min(points_before).saturating_sub(self.points_before)
        } else {
            0
        };
        self.hand.uncounted += in_hand;
        self.dropped += points_before.saturating_sub(self.points_before + in_hand);
        (self.at, self.points_before) = (place, points_before);
    }
}

/// What is known of the file, and true as of its last commit.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) first: u64,
    pub(super) next: u64,
    pub(super) bytes_first: u64,
    pub(super) bytes: u64,
    pub(super) points: u64,
    pub(super) cursors: Vec<Cursor>,
}

/// Why an operation failed.
pub(super) enum Fault {
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

pub(super) fn load(transaction: &WriteTransaction, names: &[String]) -> Result<State, Fault> {
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
        let hand = Hand::default();
        state.cursors.push(Cursor { name: name.clone(), at, points_before, dropped: 0, hand });
    }
    Ok(state)
}

/// From a place on, entries are sent on under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sender {
    pub(super) from: u64,
    pub(super) name: Arc<str>,
}

/// All senders of what is there, the last of them for what comes next. `file` is what the first was called when there was only
/// one.
pub(super) fn begin_sender(
    transaction: &WriteTransaction,
    state: &State,
    file: &str,
    name: &str,
) -> Result<Vec<Sender>, Fault> {
    let mut table = transaction.open_table(OWN_SENDERS)?;
    if table.is_empty()? {
        table.insert(0, file)?;
    }
    if table.last()?.is_none_or(|it| it.1.value() != name) {
        table.insert(state.next, name)?;
    }
    let mut all = Vec::new();
    for row in table.iter()? {
        let (from, name) = row?;
        all.push(Sender { from: from.value(), name: name.value().into() });
    }
    // Of those of which nothing is left, none is needed.
    while all.get(1).is_some_and(|second| second.from <= state.first) {
        table.remove(all.remove(0).from)?;
    }
    Ok(all)
}

/// Points and bytes before an entry.
pub(super) fn before(
    entries: &impl ReadableTable<u64, &'static [u8]>,
    place: u64,
) -> Result<Option<(u64, u64)>, Fault> {
    let Some(value) = entries.get(place)? else { return Ok(None) };
    let (head, _) = Head::read(value.value()).ok_or_else(|| Fault::Damaged("a short entry".to_owned()))?;
    Ok(Some((head.points_before, head.bytes_before)))
}

pub(super) fn append(
    transaction: &WriteTransaction,
    state: &mut State,
    added: &[Entry],
) -> Result<Vec<Kept>, Fault> {
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

pub(super) fn advance(
    transaction: &WriteTransaction,
    state: &mut State,
    to: &[(String, u64)],
) -> Result<(), Fault> {
    if to.is_empty() {
        return Ok(());
    }
    let entries = transaction.open_table(ENTRIES)?;
    for (name, place) in to {
        let next = state.next;
        let Some(cursor) = state.cursors.iter_mut().find(|it| it.name == *name) else { continue };
        cursor.at = cursor.at.max(*place).min(next);
        cursor.points_before = before(&entries, cursor.at)?.map_or(state.points, |it| it.0);
        if *place >= cursor.hand.end {
            cursor.hand = Hand::default();
        }
    }
    Ok(())
}

/// Deletes what every cursor has passed, and then the oldest, as long as it is too much.
pub(super) fn trim(transaction: &WriteTransaction, state: &mut State, most: u64) -> Result<(), Fault> {
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
            cursor.drop_before(first, points_before);
        }
    }
    if first > state.first {
        entries.retain_in(state.first..first, |_, _| false)?;
    }
    (state.first, state.bytes_first) = (first, bytes_before);
    Ok(())
}

pub(super) fn store(transaction: &WriteTransaction, state: &State) -> Result<(), Fault> {
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
