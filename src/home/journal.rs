//! The journal of commands: what the service took, what became of it, and what the backend still has to be told.
//!
//! A command goes queued → running → ended → acknowledged. A queued or running one is kept whole; with its end, its
//! parameters (which hold secrets) are dropped and only the outcome stays; once the backend acknowledged that, a line
//! stays that the command was done, so that one delivered again is not run again.

use std::time::Duration;

use jiff::Timestamp;
use outrider_protocol::control::{Command, EndState, EndedParams, Outcome};
use outrider_protocol::fault::{Fault, Retry};
use outrider_protocol::ids::CommandId;
use outrider_protocol::report::Failure;
use redb::{ReadableTable, ReadableTableMetadata, Table, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use crate::store::Store;
use crate::{Root, StoreError};

/// Commands that are not acknowledged, by their number: a [`Row`] as JSON.
const OPEN: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("open.1");
/// Acknowledged commands, by their number: a [`Settled`] as JSON.
const SETTLED: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("settled.1");
/// From a command's id to its number.
const IDS: TableDefinition<'_, &str, u64> = TableDefinition::new("ids.1");
/// The acknowledged commands that are remembered: far more than a backend could deliver twice, small on disk.
const SETTLED_KEPT: u64 = 10_000;
/// The commands that may be open: above it the backend is not sending orders but flooding.
const OPEN_MOST: u64 = 10_000;

/// A command as the journal has it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Counts the commands in order of arrival, also over restarts.
    pub seq: u64,
    /// The command's id.
    pub id: CommandId,
    /// How far it is.
    pub state: State,
    /// How often it was started: 0 or 1, unless a person meddled.
    pub attempts: u32,
}

/// How far a command is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waits to be started.
    Queued(Box<Command>),
    /// Was started.
    Running(Box<Command>),
    /// Ended; the backend has not acknowledged it.
    Ended(Box<EndedParams>),
    /// The backend knows that it ended, and how.
    Acknowledged(EndState),
}

impl State {
    /// In one word, for messages.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Queued(_) => "queued",
            Self::Running(_) => "running",
            Self::Ended(_) => "ended",
            Self::Acknowledged(_) => "acknowledged",
        }
    }
}

/// What became of a command that was delivered.
#[derive(Debug, Clone)]
pub enum Recorded {
    /// It is new, and queued now.
    New(Entry),
    /// It was delivered before; nothing is changed.
    Known(Entry),
}

/// The journal failed, or was asked for what it cannot do.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file behind it.
    #[error("the journal of commands")]
    Store(#[source] StoreError),
    /// The command was never recorded, or so long ago that it is forgotten.
    #[error("note that command {command} is {to}: the journal does not know that command")]
    Unknown {
        /// Which.
        command: CommandId,
        /// What was to be noted.
        to: &'static str,
    },
    /// The command is in a state from which it cannot get there.
    #[error("note that command {command} is {to}: it is {found}")]
    Order {
        /// Which.
        command: CommandId,
        /// What was to be noted.
        to: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// Too many commands are open.
    #[error("take command {command}: {open} commands are not ended and acknowledged yet, which is the most")]
    Full {
        /// Which.
        command: CommandId,
        /// How many are open.
        open: u64,
    },
}

impl From<StoreError> for JournalError {
    fn from(err: StoreError) -> Self {
        Self::Store(err)
    }
}

/// The journal. One process at a time has it open.
///
/// Everything that is noted is durable when the call returns. After a full disk it goes on without being opened again.
#[derive(Debug)]
pub struct Journal(Store);

/// A row of [`OPEN`].
#[derive(Serialize, Deserialize)]
struct Row {
    id: CommandId,
    attempts: u32,
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

type Answer<T> = Result<Result<T, JournalError>, redb::Error>;

impl Journal {
    /// Opens the root's journal, or makes it. The folder `state` must be there ([`Root::create`]). While another process
    /// has it open, waits up to `wait`, blocking the thread.
    ///
    /// # Errors
    /// [`StoreError::InUse`] after `wait`; when the file cannot be read or written, or is none of ours.
    pub fn open(root: &Root, wait: Duration) -> Result<Self, JournalError> {
        Ok(Self(Store::open(root.commands_db(), wait, make)?))
    }

    /// Takes a delivered command. Only after this may the backend be told that it is accepted.
    ///
    /// # Errors
    /// [`JournalError::Full`] when too many are open; when the store fails.
    pub fn record(&self, command: &Command) -> Result<Recorded, JournalError> {
        self.0.write(|transaction| {
            let mut tables = Tables::of(transaction)?;
            if let Some(entry) = tables.find(&command.id)? {
                return Ok(Ok(Recorded::Known(entry)));
            }
            let open = tables.open.len()?;
            if open >= OPEN_MOST {
                return Ok(Err(JournalError::Full { command: command.id.clone(), open }));
            }
            let state = State::Queued(Box::new(command.clone()));
            let entry = Entry { seq: tables.next()?, id: command.id.clone(), state, attempts: 0 };
            tables.put(&entry)?;
            Ok(Ok(Recorded::New(entry)))
        })
    }

    /// Notes that a queued command is about to be started: to be called before its process is.
    ///
    /// # Errors
    /// When the command is not queued; when the store fails.
    pub fn started(&self, command: &CommandId) -> Result<(), JournalError> {
        self.change(command, "running", |entry| match entry.state {
            State::Queued(command) => Ok(Entry {
                state: State::Running(command),
                attempts: entry.attempts.saturating_add(1),
                ..entry
            }),
            state => Err(state),
        })
    }

    /// Notes how a command ended: the one and only outcome. The backend is told it until it answers. An outcome that is
    /// noted already stays, and this one is forgotten.
    ///
    /// # Errors
    /// When the command is not known; when the store fails.
    pub fn ended(&self, ended: &EndedParams) -> Result<(), JournalError> {
        self.change(&ended.command, "ended", |entry| match entry.state {
            State::Queued(_) | State::Running(_) => {
                Ok(Entry { state: State::Ended(Box::new(ended.clone())), ..entry })
            }
            State::Ended(_) | State::Acknowledged(_) => Ok(entry),
        })
    }

    /// Notes that the backend answered `command.ended`. Of the command, its id and how it ended are remembered.
    ///
    /// # Errors
    /// When the command has not ended; when the store fails.
    pub fn acknowledged(&self, command: &CommandId) -> Result<(), JournalError> {
        self.change(command, "acknowledged", |entry| match entry.state {
            State::Ended(ended) => Ok(Entry { state: State::Acknowledged(ended.outcome.state), ..entry }),
            State::Acknowledged(_) => Ok(entry),
            state => Err(state),
        })
    }

    /// Every command that is not acknowledged, in order of arrival.
    ///
    /// # Errors
    /// When the store fails.
    pub fn open_entries(&self) -> Result<Vec<Entry>, JournalError> {
        let entries = self.0.read(|transaction| {
            let mut entries = Vec::new();
            for row in transaction.open_table(OPEN)?.iter()? {
                let (seq, bytes) = row?;
                entries.push(open_entry(seq.value(), bytes.value())?);
            }
            Ok(entries)
        })?;
        Ok(entries)
    }

    /// A command, if it is known.
    ///
    /// # Errors
    /// When the store fails.
    pub fn find(&self, command: &CommandId) -> Result<Option<Entry>, JournalError> {
        let entry = self.0.read(|transaction| {
            let ids = transaction.open_table(IDS)?;
            let Some(seq) = ids.get(command.as_str())?.map(|seq| seq.value()) else { return Ok(None) };
            entry_at(seq, &transaction.open_table(OPEN)?, &transaction.open_table(SETTLED)?)
        })?;
        Ok(entry)
    }

    /// At the start of a service: every command that was running is ended as interrupted at `now`, since whoever ran it
    /// is gone. It is not run again by itself. Answers those, in order of arrival; they are to be reported.
    ///
    /// # Errors
    /// When the store fails.
    pub fn recover(&self, now: Timestamp) -> Result<Vec<Entry>, JournalError> {
        self.0.write(|transaction| {
            let mut tables = Tables::of(transaction)?;
            let mut entries = Vec::new();
            for row in tables.open.iter()? {
                let (seq, bytes) = row?;
                entries.push(open_entry(seq.value(), bytes.value())?);
            }
            entries.retain(|entry| matches!(entry.state, State::Running(_)));
            for entry in &mut entries {
                entry.state = State::Ended(Box::new(interrupted(entry.id.clone(), now)));
                tables.put(entry)?;
            }
            Ok(Ok(entries))
        })
    }

    fn change(
        &self,
        command: &CommandId,
        to: &'static str,
        change: impl FnOnce(Entry) -> Result<Entry, State>,
    ) -> Result<(), JournalError> {
        self.0.write(|transaction| -> Answer<()> {
            let mut tables = Tables::of(transaction)?;
            let Some(entry) = tables.find(command)? else {
                return Ok(Err(JournalError::Unknown { command: command.clone(), to }));
            };
            match change(entry) {
                Ok(entry) => tables.put(&entry).map(Ok),
                Err(state) => {
                    Ok(Err(JournalError::Order { command: command.clone(), to, found: state.word() }))
                }
            }
        })
    }
}

/// The outcome of a command whose service went down.
fn interrupted(command: CommandId, now: Timestamp) -> EndedParams {
    let error = Failure {
        message: "the agent's service went down while the command ran".to_owned(),
        fault: Fault::Host,
        retry: Retry::Later,
        hint: Some("what was durable by then is kept and delivered; order it again for the rest".to_owned()),
        last_lines: Vec::new(),
    };
    let outcome = Outcome { state: EndState::Interrupted, report: None, error: Some(error) };
    EndedParams { command, outcome, ended_at: now }
}

fn make(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    Tables::of(transaction).map(drop)
}

/// The tables of one transaction.
struct Tables<'t> {
    open: Table<'t, u64, &'static [u8]>,
    settled: Table<'t, u64, &'static [u8]>,
    ids: Table<'t, &'static str, u64>,
}

impl<'t> Tables<'t> {
    fn of(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            open: transaction.open_table(OPEN)?,
            settled: transaction.open_table(SETTLED)?,
            ids: transaction.open_table(IDS)?,
        })
    }

    /// The number of the next command.
    fn next(&self) -> Result<u64, redb::Error> {
        let open = self.open.last()?.map(|(seq, _)| seq.value());
        let settled = self.settled.last()?.map(|(seq, _)| seq.value());
        Ok(open.max(settled).map_or(0, |last| last + 1))
    }

    fn find(&self, command: &CommandId) -> Result<Option<Entry>, redb::Error> {
        let seq = self.ids.get(command.as_str())?.map(|seq| seq.value());
        seq.map_or(Ok(None), |seq| entry_at(seq, &self.open, &self.settled))
    }

    fn put(&mut self, entry: &Entry) -> Result<(), redb::Error> {
        self.ids.insert(entry.id.as_str(), entry.seq)?;
        if let State::Acknowledged(state) = entry.state {
            let settled = Settled { id: entry.id.clone(), attempts: entry.attempts, state };
            self.open.remove(entry.seq)?;
            self.settled.insert(entry.seq, json(&settled)?.as_slice())?;
            return self.forget_oldest();
        }
        let row = Row { id: entry.id.clone(), attempts: entry.attempts, state: entry.state.clone() };
        self.open.insert(entry.seq, json(&row)?.as_slice())?;
        Ok(())
    }

    fn forget_oldest(&mut self) -> Result<(), redb::Error> {
        while self.settled.len()? > SETTLED_KEPT {
            let Some((_, bytes)) = self.settled.pop_first()? else { return Ok(()) };
            if let Ok(Head { id, .. }) = serde_json::from_slice(bytes.value()) {
                self.ids.remove(id.as_str())?;
            }
        }
        Ok(())
    }
}

fn entry_at(
    seq: u64,
    open: &impl ReadableTable<u64, &'static [u8]>,
    settled: &impl ReadableTable<u64, &'static [u8]>,
) -> Result<Option<Entry>, redb::Error> {
    if let Some(bytes) = open.get(seq)? {
        return open_entry(seq, bytes.value()).map(Some);
    }
    let Some(bytes) = settled.get(seq)? else { return Ok(None) };
    let Settled { id, attempts, state } = serde_json::from_slice(bytes.value()).map_err(corrupted)?;
    Ok(Some(Entry { seq, id, attempts, state: State::Acknowledged(state) }))
}

/// Reads a row of [`OPEN`]. One whose command this version does not understand counts as failed, so that the backend
/// hears of it and all the others go on.
fn open_entry(seq: u64, bytes: &[u8]) -> Result<Entry, redb::Error> {
    match serde_json::from_slice(bytes) {
        Ok(Row { id, attempts, state }) => Ok(Entry { seq, id, attempts, state }),
        Err(err) => {
            let Head { id, attempts } = serde_json::from_slice(bytes).map_err(corrupted)?;
            let error = Failure {
                message: format!(
                    "read the command from the journal, where another version of Outrider wrote it: {err}"
                ),
                fault: Fault::Host,
                retry: Retry::No,
                hint: Some("update the agent, then order it again".to_owned()),
                last_lines: Vec::new(),
            };
            let outcome = Outcome { state: EndState::Failed, report: None, error: Some(error) };
            let ended = EndedParams { command: id.clone(), outcome, ended_at: Timestamp::UNIX_EPOCH };
            Ok(Entry { seq, id, attempts, state: State::Ended(Box::new(ended)) })
        }
    }
}

fn json(row: &impl Serialize) -> Result<Vec<u8>, redb::Error> {
    serde_json::to_vec(row).map_err(corrupted)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err passes")]
fn corrupted(err: serde_json::Error) -> redb::Error {
    redb::Error::Corrupted(err.to_string())
}
