//! The journal of commands: what the service took, what became of it, and what the backend still has to be told.
//!
//! A command goes queued → running → ended → acknowledged. A queued or running one is kept whole; with its end, its
//! parameters (which hold secrets) are dropped and only the outcome stays; once the backend acknowledged that, a line
//! stays that the command was done, so that one delivered again is not run again.
//!
//! An *export* goes back from running to queued when its service goes down, in its old place: it goes on from its
//! checkpoints. [`Entry::starts`] counts the starts of which nobody can say that the command did not take the service
//! down: a start is noted before the process is there, and taken back only by [`Journal::requeued`], when the service
//! stops in good order. Other actions have no checkpoints, and end as interrupted.

mod tables;

use std::time::Duration;

use jiff::Timestamp;
use outrider_protocol::action::Order;
use outrider_protocol::control::{Command, EndState, EndedParams, Outcome};
use outrider_protocol::fault::{Fault, Retry};
use outrider_protocol::ids::CommandId;
use outrider_protocol::report::Failure;
use redb::{ReadableTable, ReadableTableMetadata, WriteTransaction};
use serde::{Deserialize, Serialize};

use self::tables::{BOUNDS, Bounds, IDS, OPEN, SETTLED, Tables, Unread, entry_at, open_entry, read_row};
use crate::store::Store;
use crate::{Root, StoreError};

/// A command as the journal has it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Counts the commands in order of arrival, also over restarts.
    pub seq: u64,
    /// The command's id.
    pub id: CommandId,
    /// How far it is.
    pub state: State,
    /// How often it was started.
    pub attempts: u32,
    /// When it was started, of the starts that count: the one that runs, and those during which the service went down.
    pub starts: Vec<Timestamp>,
}

impl Entry {
    /// Whether it was ever started: then it is never too old.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.attempts > 0
    }
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
    #[error(transparent)]
    Store(StoreError),
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
pub struct Journal {
    store: Store,
    bounds: Bounds,
}

type Answer<T> = Result<Result<T, JournalError>, redb::Error>;

impl Journal {
    /// Opens the root's journal, or makes it. The folder `state` must be there ([`Root::create`]). While another process
    /// has it open, waits up to `wait`, blocking the thread.
    ///
    /// # Errors
    /// [`StoreError::InUse`] after `wait`; when the file cannot be read or written, or is none of ours.
    pub fn open(root: &Root, wait: Duration) -> Result<Self, JournalError> {
        let store = Store::open(root.commands_db(), wait, make)?;
        Ok(Self { store, bounds: BOUNDS })
    }

    /// A journal with less room.
    #[cfg(test)]
    fn open_bounded(root: &Root, bounds: Bounds) -> Self {
        Self { bounds, ..Self::open(root, Duration::ZERO).unwrap() }
    }

    /// A row as another version may have written it.
    #[cfg(test)]
    fn put_row(&self, seq: u64, id: &str, row: &[u8]) {
        let put = self.store.write(|transaction| -> Answer<()> {
            transaction.open_table(OPEN)?.insert(seq, row)?;
            transaction.open_table(IDS)?.insert(id, seq)?;
            Ok(Ok(()))
        });
        put.unwrap();
    }

    /// Takes a delivered command. Only after this may the backend be told that it is accepted.
    ///
    /// # Errors
    /// [`JournalError::Full`] when too many are open; when the store fails.
    pub fn record(&self, command: &Command) -> Result<Recorded, JournalError> {
        self.store.write(|transaction| {
            let mut tables = Tables::of(transaction, self.bounds)?;
            if let Some(entry) = tables.find(&command.id)? {
                return Ok(Ok(Recorded::Known(entry)));
            }
            let open = tables.open.len()?;
            if open >= self.bounds.open {
                return Ok(Err(JournalError::Full { command: command.id.clone(), open }));
            }
            let state = State::Queued(Box::new(command.clone()));
            let entry =
                Entry { seq: tables.next()?, id: command.id.clone(), state, attempts: 0, starts: Vec::new() };
            tables.put(&entry)?;
            Ok(Ok(Recorded::New(entry)))
        })
    }

    /// Notes that a queued command is about to be started: to be called before its process is.
    ///
    /// # Errors
    /// When the command is not queued; when the store fails.
    pub fn started(&self, command: &CommandId, now: Timestamp) -> Result<(), JournalError> {
        self.change(command, "running", |mut entry| match entry.state {
            State::Queued(command) => {
                entry.starts.push(now);
                let attempts = entry.attempts.saturating_add(1);
                Ok(Entry { state: State::Running(command), attempts, ..entry })
            }
            state => Err(state),
        })
    }

    /// Notes that a running command was ended because the service stops in good order, and is to be started again, in
    /// its old place. The start that is over does not count.
    ///
    /// # Errors
    /// When the command does not run; when the store fails.
    pub fn requeued(&self, command: &CommandId) -> Result<(), JournalError> {
        self.change(command, "queued again", |mut entry| match entry.state {
            State::Running(command) => {
                entry.starts.pop();
                Ok(Entry { state: State::Queued(command), ..entry })
            }
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
        let entries = self.store.read(|transaction| {
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
        let entry = self.store.read(|transaction| {
            let ids = transaction.open_table(IDS)?;
            let Some(seq) = ids.get(command.as_str())?.map(|seq| seq.value()) else { return Ok(None) };
            entry_at(seq, &transaction.open_table(OPEN)?, &transaction.open_table(SETTLED)?)
        })?;
        Ok(entry)
    }

    /// At the start of a service, since whoever ran a command is gone: an export that was running is queued again, in its
    /// old place, or set aside if it was started `attempts_most` times without an end; an order to collect is queued again
    /// as often; another action is ended as interrupted at `now`. One that this version cannot read is ended as failed.
    /// Answers those that changed, in order of arrival.
    ///
    /// # Errors
    /// When the store fails.
    pub fn recover(&self, now: Timestamp, attempts_most: u32) -> Result<Vec<Entry>, JournalError> {
        self.store.write(|transaction| {
            let mut tables = Tables::of(transaction, self.bounds)?;
            let mut changed = Vec::new();
            for row in tables.open.iter()? {
                let (seq, bytes) = row?;
                changed.extend(after_death(read_row(seq.value(), bytes.value())?, now, attempts_most));
            }
            for entry in &changed {
                tables.put(entry)?;
            }
            Ok(Ok(changed))
        })
    }

    fn change(
        &self,
        command: &CommandId,
        to: &'static str,
        change: impl FnOnce(Entry) -> Result<Entry, State>,
    ) -> Result<(), JournalError> {
        self.store.write(|transaction| -> Answer<()> {
            let mut tables = Tables::of(transaction, self.bounds)?;
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

/// What becomes of a command whose service is gone; `None` when nothing does. One that could not be read is told as
/// failed, and so must not run should a later version be able to read it again.
fn after_death(row: Result<Entry, Unread>, now: Timestamp, attempts_most: u32) -> Option<Entry> {
    let entry = match row {
        Ok(entry) => entry,
        Err(unread) => return Some(unread.failed(now)),
    };
    let State::Running(command) = entry.state else { return None };
    let end = |outcome| {
        let ended = EndedParams { command: entry.id.clone(), outcome, ended_at: now };
        State::Ended(Box::new(ended))
    };
    let state = match &command.order {
        Order::Export(_) if entry.starts.len() < attempts_most as usize => State::Queued(command),
        Order::Export(_) => end(set_aside(&entry.starts, now)),
        // How far it is stands in the journal of versions, which says what the next service does of it.
        Order::Upgrade(_) => State::Queued(command),
        // Carried out again it comes to the same.
        Order::ConfigureCollect(_) if entry.starts.len() < attempts_most as usize => State::Queued(command),
        Order::ValidateConfig(_)
        | Order::ExportOnboardData(_)
        | Order::DescribeIntegrations(_)
        | Order::ConfigureCollect(_) => end(interrupted()),
    };
    Some(Entry { state, ..entry })
}

/// The outcome of a command whose service went down.
fn interrupted() -> Outcome {
    let error = Failure {
        message: "the agent's service went down while the command ran".to_owned(),
        fault: Fault::Host,
        retry: Retry::Later,
        hint: Some("order it again".to_owned()),
        last_lines: Vec::new(),
    };
    Outcome { state: EndState::Interrupted, report: None, error: Some(error) }
}

/// The outcome of an export that takes the agent down whenever it is started.
fn set_aside(starts: &[Timestamp], now: Timestamp) -> Outcome {
    let times: Vec<_> = starts.iter().map(|it| format!("{it:.0}")).collect();
    let error = Failure {
        message: format!(
            "the agent went down each time that this export ran: it was started {} times (at {}), and the last death was \
             noticed at {now:.0}; it is not started again",
            starts.len(),
            times.join(", ")
        ),
        fault: Fault::Host,
        retry: Retry::No,
        hint: Some(
            "look at the agent's crashes and at logs/service-run (memory, disk, a bug); what was durable is kept and \
             delivered; order the export again once the reason is gone, and it goes on from there"
                .to_owned(),
        ),
        last_lines: Vec::new(),
    };
    Outcome { state: EndState::SetAside, report: None, error: Some(error) }
}

fn make(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    Tables::of(transaction, BOUNDS).map(drop)
}

#[cfg(test)]
mod tests;
