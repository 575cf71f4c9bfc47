//! The journal's tables and rows, within one transaction.

use jiff::Timestamp;
use outrider_protocol::control::{EndState, EndedParams, Outcome};
use outrider_protocol::fault::{Fault, Retry};
use outrider_protocol::ids::CommandId;
use outrider_protocol::report::Failure;
use redb::{ReadableTable, ReadableTableMetadata, Table, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use crate::{Entry, State};

/// Commands that are not acknowledged, by their number: a [`Row`] as JSON.
pub(super) const OPEN: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("open.1");
/// Acknowledged commands, by their number: a [`Settled`] as JSON.
pub(super) const SETTLED: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("settled.1");
/// From a command's id to its number.
pub(super) const IDS: TableDefinition<'_, &str, u64> = TableDefinition::new("ids.1");
/// The acknowledged commands that are remembered: far more than a backend could deliver twice, small on disk.
const SETTLED_MOST: u64 = 10_000;
/// The commands that may be open: above it the backend is not sending orders but flooding.
const OPEN_MOST: u64 = 10_000;
pub(super) const BOUNDS: Bounds = Bounds { open: OPEN_MOST, settled: SETTLED_MOST };

/// How many commands the journal has room for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) open: u64,
    pub(super) settled: u64,
}

/// A row of [`OPEN`].
#[derive(Serialize, Deserialize)]
struct Row {
    id: CommandId,
    attempts: u32,
    #[serde(default)]
    starts: Vec<Timestamp>,
    state: State,
}

/// A row of [`SETTLED`].
#[derive(Serialize, Deserialize)]
struct Settled {
    id: CommandId,
    attempts: u32,
    state: EndState,
}

/// What is left of a row that this version cannot read, which an older one may find after an update was taken back.
#[derive(Deserialize)]
struct Head {
    id: CommandId,
    #[serde(default)]
    attempts: u32,
}

/// The tables of one transaction.
pub(super) struct Tables<'t> {
    pub(super) open: Table<'t, u64, &'static [u8]>,
    settled: Table<'t, u64, &'static [u8]>,
    ids: Table<'t, &'static str, u64>,
    bounds: Bounds,
}

impl<'t> Tables<'t> {
    pub(super) fn of(transaction: &'t WriteTransaction, bounds: Bounds) -> Result<Self, redb::Error> {
        Ok(Self {
            open: transaction.open_table(OPEN)?,
            settled: transaction.open_table(SETTLED)?,
            ids: transaction.open_table(IDS)?,
            bounds,
        })
    }

    /// The number of the next command.
    pub(super) fn next(&self) -> Result<u64, redb::Error> {
        let open = self.open.last()?.map(|(seq, _)| seq.value());
        let settled = self.settled.last()?.map(|(seq, _)| seq.value());
        Ok(open.max(settled).map_or(0, |last| last + 1))
    }

    pub(super) fn find(&self, command: &CommandId) -> Result<Option<Entry>, redb::Error> {
        let seq = self.ids.get(command.as_str())?.map(|seq| seq.value());
        seq.map_or(Ok(None), |seq| entry_at(seq, &self.open, &self.settled))
    }

    pub(super) fn put(&mut self, entry: &Entry) -> Result<(), redb::Error> {
        self.ids.insert(entry.id.as_str(), entry.seq)?;
        if let State::Acknowledged(state) = entry.state {
            let settled = Settled { id: entry.id.clone(), attempts: entry.attempts, state };
            self.open.remove(entry.seq)?;
            self.settled.insert(entry.seq, json(&settled)?.as_slice())?;
            return self.forget_oldest();
        }
        let Entry { id, attempts, starts, state, .. } = entry.clone();
        let row = Row { id, attempts, starts, state };
        self.open.insert(entry.seq, json(&row)?.as_slice())?;
        Ok(())
    }

    fn forget_oldest(&mut self) -> Result<(), redb::Error> {
        while self.settled.len()? > self.bounds.settled {
            let Some((_, bytes)) = self.settled.pop_first()? else { return Ok(()) };
            if let Ok(Head { id, .. }) = serde_json::from_slice(bytes.value()) {
                self.ids.remove(id.as_str())?;
            }
        }
        Ok(())
    }
}

pub(super) fn entry_at(
    seq: u64,
    open: &impl ReadableTable<u64, &'static [u8]>,
    settled: &impl ReadableTable<u64, &'static [u8]>,
) -> Result<Option<Entry>, redb::Error> {
    if let Some(bytes) = open.get(seq)? {
        return open_entry(seq, bytes.value()).map(Some);
    }
    let Some(bytes) = settled.get(seq)? else { return Ok(None) };
    let Settled { id, attempts, state } = serde_json::from_slice(bytes.value()).map_err(corrupted)?;
    Ok(Some(Entry { seq, id, attempts, starts: Vec::new(), state: State::Acknowledged(state) }))
}

/// Reads a row of [`OPEN`]. One whose command this version does not understand counts as failed, so that the backend
/// hears of it and all the others go on.
pub(super) fn open_entry(seq: u64, bytes: &[u8]) -> Result<Entry, redb::Error> {
    // The time is noted by `Journal::recover`, which every service calls before anything else.
    read_row(seq, bytes)?.or_else(|unread| Ok(unread.failed(Timestamp::UNIX_EPOCH)))
}

pub(super) fn read_row(seq: u64, bytes: &[u8]) -> Result<Result<Entry, Unread>, redb::Error> {
    match serde_json::from_slice(bytes) {
        Ok(Row { id, attempts, starts, state }) => Ok(Ok(Entry { seq, id, attempts, starts, state })),
        Err(err) => Ok(Err(Unread { seq, head: serde_json::from_slice(bytes).map_err(corrupted)?, err })),
    }
}

/// A row whose command this version does not understand.
pub(super) struct Unread {
    seq: u64,
    head: Head,
    err: serde_json::Error,
}

impl Unread {
    pub(super) fn failed(self, now: Timestamp) -> Entry {
        let Head { id, attempts } = self.head;
        let error = Failure {
            message: format!(
                "read the command from the journal, where another version of Outrider wrote it: {}",
                self.err
            ),
            fault: Fault::Host,
            retry: Retry::No,
            hint: Some("update the agent, then order it again".to_owned()),
            last_lines: Vec::new(),
        };
        let outcome = Outcome { state: EndState::Failed, report: None, error: Some(error) };
        let ended = EndedParams { command: id.clone(), outcome, ended_at: now };
        Entry { seq: self.seq, id, attempts, starts: Vec::new(), state: State::Ended(Box::new(ended)) }
    }
}

fn json(row: &impl Serialize) -> Result<Vec<u8>, redb::Error> {
    serde_json::to_vec(row).map_err(corrupted)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err passes")]
fn corrupted(err: serde_json::Error) -> redb::Error {
    redb::Error::Corrupted(err.to_string())
}
