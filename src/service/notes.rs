//! What is to be written into the journal, in order. A disk that refuses a note holds back those behind it, and what may
//! only be done once they are written.

use std::collections::VecDeque;

use jiff::Timestamp;
use outrider_home::{Journal, JournalError, Recorded};
use outrider_protocol::control::{Command, EndedParams};
use outrider_protocol::ids::CommandId;

/// Commands that may wait for a disk that refuses them. The backend delivers those beyond again.
const RECORDS: usize = 100;

/// One note.
#[derive(Debug)]
pub(crate) enum Note {
    /// A command was delivered.
    Record(Box<Command>),
    /// It is about to be started.
    Started(CommandId, Timestamp),
    /// The service stops in good order: it is to be started again.
    Requeued(CommandId),
    /// It has its outcome.
    Ended(Box<EndedParams>),
    /// The backend has answered the outcome.
    Acknowledged(CommandId),
}

/// A note that is durable now.
#[derive(Debug)]
pub(crate) enum Written {
    /// The command may be accepted.
    Recorded(Recorded),
    /// It may be started.
    Started(CommandId),
    /// Its outcome may be told.
    Ended(Box<EndedParams>),
    /// Nothing follows from it.
    Nothing,
}

/// Notes that wait.
#[derive(Debug, Default)]
pub(crate) struct Notes(VecDeque<Note>);

impl Notes {
    pub(crate) fn add(&mut self, note: Note) {
        if let Note::Record(command) = &note {
            let records =
                || self.0.iter().filter_map(|it| if let Note::Record(it) = it { Some(it) } else { None });
            if records().count() >= RECORDS || records().any(|it| it.id == command.id) {
                tracing::debug!(command = %command.id, "A command waits at the backend until the journal can be written.");
                return;
            }
        }
        self.0.push_back(note);
    }

    /// Writes the oldest note. `None` when there is none. On an error of the disk it stays the oldest.
    pub(crate) fn write_next(&mut self, journal: &Journal) -> Option<Result<Written, JournalError>> {
        let note = self.0.pop_front()?;
        let written = match &note {
            Note::Record(command) => journal.record(command).map(Written::Recorded),
            Note::Started(id, at) => journal.started(id, *at).map(|()| Written::Started(id.clone())),
            Note::Requeued(id) => journal.requeued(id).map(|()| Written::Nothing),
            Note::Ended(ended) => journal.ended(ended).map(|()| Written::Ended(ended.clone())),
            Note::Acknowledged(id) => journal.acknowledged(id).map(|()| Written::Nothing),
        };
        Some(match written {
            Err(err @ JournalError::Store(_)) => {
                self.0.push_front(note);
                Err(err)
            }
            // Not accepted, so the backend delivers it again.
            Err(err @ JournalError::Full { .. }) => {
                tracing::error!(%err, "A command is not taken.");
                Ok(Written::Nothing)
            }
            // A command that was never in the journal, such as one that could not be read.
            Err(JournalError::Unknown { .. }) => Ok(Written::Nothing),
            Err(err @ JournalError::Order { .. }) => {
                tracing::error!(%err, "The journal and the service disagree: this is a bug.");
                Ok(Written::Nothing)
            }
            Ok(written) => Ok(written),
        })
    }
}
