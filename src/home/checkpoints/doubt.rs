//! Values whose objects are being committed elsewhere: in doubt from [`Checkpoints::prepare`] until
//! [`Checkpoints::confirm`], so that objects and values become durable as one, although they lie in two places.
//!
//! Before a commit of objects, the values that go with it are put in doubt, each with a [`Claim`] on the place where its
//! objects will be. When the commit is durable, so are the values: confirming them is one word in memory, and moving them
//! to the others costs no sync. After a crash, whoever opens the store finds the claims of the one commit that may have
//! been under way, looks whether the objects are there, and says so with [`Checkpoints::resolve`].
//!
//! **Invariant:** at most one commit is in doubt: the next [`Checkpoints::prepare`] keeps what was confirmed and drops
//! what was not.
//!
//! **Invariant:** what is kept is what was confirmed. A [`Checkpoints::prepare`] that failed may have written its values all
//! the same, in the place of those that were confirmed before; each row says which of them it is of.

use std::sync::{Mutex, MutexGuard, PoisonError};

use outrider_protocol::Raw;
use outrider_protocol::ids::ExportId;
use redb::{Durability, ReadableTable as _, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::reprocess::{OF_RUNS, if_there, of_run};
use super::{Checkpoints, Range, TABLE};
use crate::{SessionPath, StoreError};

/// From a number to a [`Row`] as JSON.
const DOUBT: TableDefinition<'_, u64, &str> = TableDefinition::new("checkpoints.doubt.1");

/// Where the objects of a session are, if their commit happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The export that they belong to.
    pub export: String,
    /// Their model.
    pub model: String,
    /// The number of their file.
    pub number: u64,
    /// They begin behind so many bytes of it.
    pub from: u64,
}

/// A value that is stored if the objects of its session are.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The session.
    pub path: SessionPath,
    /// Its last-processed value.
    pub value: Raw,
    /// The run beside whose values it is kept, for one that exports everything again.
    pub beside: Option<ExportId>,
    /// Where its objects will be.
    pub claim: Claim,
}

#[derive(Serialize, Deserialize)]
struct Row {
    key: String,
    value: Raw,
    beside: Option<ExportId>,
    claim: Claim,
    /// Which [`Checkpoints::prepare`] of its process it is of.
    #[serde(default)]
    group: u64,
}

/// What this process knows of the values in doubt.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Facts>);

#[derive(Debug, Default, Clone, Copy)]
struct Facts {
    /// How often values were put in doubt, successfully or not; the last time has this number.
    group: u64,
    /// Those of this number are durable, since their objects are. Stays so until they are durable among the others.
    confirmed: Option<u64>,
    /// They stand among the others, for this process to read, unless the store has let go of it since: how often it had
    /// until then.
    moved: Option<u64>,
}

impl Known {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Checkpoints {
    /// Puts values in doubt, durably: their objects are about to be committed. What was confirmed before is kept, what was
    /// not is dropped.
    ///
    /// # Errors
    /// When a path or a value is too long, or the store cannot be written; then nothing has changed.
    pub fn prepare(&self, values: &[Prepared]) -> Result<(), StoreError> {
        let (group, confirmed) = {
            let mut facts = self.known.facts();
            facts.group += 1;
            (facts.group, facts.confirmed)
        };
        let mut rows = Vec::with_capacity(values.len());
        for Prepared { path, value, beside, claim } in values {
            self.fits(path, value)?;
            let row = Row {
                key: self.key(path)?,
                value: value.clone(),
                beside: beside.clone(),
                claim: claim.clone(),
                group,
            };
            rows.push(serde_json::to_string(&row).map_err(|err| self.unreadable(path.to_string(), err))?);
        }
        self.store.write(|transaction| {
            if let Err(err) = self.end_doubt(transaction, is_of(confirmed))? {
                return Ok(Err(err));
            }
            let mut doubt = transaction.open_table(DOUBT)?;
            for (n, row) in (0..).zip(&rows) {
                doubt.insert(n, row.as_str())?;
            }
            Ok(Ok(()))
        })?;
        *self.known.facts() = Facts { group, confirmed: None, moved: None };
        Ok(())
    }

    /// The objects of the values in doubt are durable. From now on the values are, too.
    pub fn confirm(&self) {
        {
            let mut facts = self.known.facts();
            (facts.confirmed, facts.moved) = (Some(facts.group), None);
        }
        // For this process to read them. Should that fail, it is tried again when one is read or the next is prepared.
        drop(self.move_confirmed(Durability::None));
    }

    /// Makes what was confirmed durable among the other values, so that after a death nothing of it is in doubt.
    ///
    /// # Errors
    /// When the store cannot be written. The values are as durable as before: by their objects.
    pub fn settle(&self) -> Result<(), StoreError> {
        if self.known.facts().confirmed.is_some() {
            self.move_confirmed(Durability::Immediate)
        } else {
            Ok(())
        }
    }

    /// Where the objects of the values in doubt should be, in order: none unless a process ended in the middle of a commit.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn in_doubt(&self) -> Result<Vec<Claim>, StoreError> {
        let rows = self.store.read(|transaction| {
            let Some(doubt) = if_there(transaction.open_table(DOUBT))? else { return Ok(Vec::new()) };
            doubt.iter()?.map(|row| Ok(row?.1.value().to_owned())).collect::<Result<Vec<_>, redb::Error>>()
        })?;
        rows.iter().map(|row| Ok(self.doubt_row(row)?.claim)).collect()
    }

    /// Ends the doubt: keeps each value of which `holds` says, in the order of [`Checkpoints::in_doubt`], that its objects
    /// are there, and drops the others. Durable when this returns.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn resolve(&self, holds: &[bool]) -> Result<(), StoreError> {
        let keep = |n: u64| usize::try_from(n).ok().and_then(|n| holds.get(n)).copied().unwrap_or(false);
        self.store.write(|transaction| self.end_doubt(transaction, |n, _| keep(n)))
    }

    /// Lets what was confirmed be read among the other values.
    pub(super) fn ready(&self) -> Result<(), StoreError> {
        let facts = *self.known.facts();
        let is_moved = facts.confirmed.is_none() || facts.moved == Some(self.store.times_let_go());
        if is_moved { Ok(()) } else { self.move_confirmed(Durability::Immediate) }
    }

    /// Drops the values in doubt that a range of paths holds.
    pub(super) fn drop_doubt(transaction: &WriteTransaction, range: &Range) -> Result<(), redb::Error> {
        let within =
            |key: &str| key == range.own || (range.first.as_str()..range.end.as_str()).contains(&key);
        let read = |text: &str| serde_json::from_str::<Row>(text).ok();
        let mut doubt = transaction.open_table(DOUBT)?;
        doubt.retain(|_, text| !read(text).is_some_and(|row| within(&row.key)))?;
        Ok(())
    }

    fn move_confirmed(&self, durability: Durability) -> Result<(), StoreError> {
        let (keep, let_go) = (is_of(self.known.facts().confirmed), self.store.times_let_go());
        self.store.write_with(durability, |transaction| self.end_doubt(transaction, &keep))?;
        self.known.facts().moved = Some(let_go);
        Ok(())
    }

    /// Moves the values in doubt to the others, or drops them: as is said of a row's number, and of its group where it can be
    /// read.
    fn end_doubt(
        &self,
        transaction: &WriteTransaction,
        keep: impl Fn(u64, Option<u64>) -> bool,
    ) -> Result<Result<(), StoreError>, redb::Error> {
        let mut doubt = transaction.open_table(DOUBT)?;
        let mut kept = Vec::new();
        for row in doubt.extract_from_if(0.., |_, _| true)? {
            let (n, text) = row?;
            let row = self.doubt_row(text.value());
            if keep(n.value(), row.as_ref().ok().map(|row| row.group)) {
                match row {
                    Ok(row) => kept.push(row),
                    Err(err) => return Ok(Err(err)),
                }
            }
        }
        if kept.is_empty() {
            return Ok(Ok(()));
        }
        // In the tree's order, which touches each of its pages once and fills them better.
        kept.sort_by(|one, other| one.key.cmp(&other.key));
        let (mut stored, mut of_runs) = (transaction.open_table(TABLE)?, transaction.open_table(OF_RUNS)?);
        for row in &kept {
            match &row.beside {
                Some(run) => drop(of_runs.insert(of_run(run, &row.key).as_str(), row.value.get())?),
                None => drop(stored.insert(row.key.as_str(), row.value.get())?),
            }
        }
        Ok(Ok(()))
    }

    fn doubt_row(&self, text: &str) -> Result<Row, StoreError> {
        serde_json::from_str(text).map_err(|err| self.unreadable("a value in doubt".into(), err))
    }
}

/// Whether a row is of what was confirmed.
fn is_of(confirmed: Option<u64>) -> impl Fn(u64, Option<u64>) -> bool {
    move |_, group| confirmed.is_some() && group == confirmed
}

#[cfg(test)]
mod tests;
