//! The values of a run that exports everything again: beside the stored ones until an integration is done.

use outrider_protocol::Raw;
use outrider_protocol::ids::{ExportId, IntegrationId};
use redb::{ReadTransaction, TableDefinition, TableError};

use super::{Checkpoints, Range, TABLE};
use crate::{SessionPath, StoreError};

/// From run and session's path, as `RUN` line feed `PATH`, to its last-processed value.
pub(super) const OF_RUNS: TableDefinition<'_, &str, &str> = TableDefinition::new("checkpoints.of-runs.1");
/// Run and integration, as `RUN` line feed `INTEGRATION`, whose values took their place.
const TAKEN_OVER: TableDefinition<'_, &str, ()> = TableDefinition::new("checkpoints.taken-over.1");

impl Checkpoints {
    /// The value that this run itself stored for a session, in this life or in one before it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn get_of_run(&self, run: &ExportId, path: &SessionPath) -> Result<Option<Raw>, StoreError> {
        self.ready()?;
        let key = of_run(run, &self.key(path)?);
        let text = self.store.read(|transaction| {
            let Some(table) = if_there(transaction.open_table(OF_RUNS))? else { return Ok(None) };
            Ok(table.get(key.as_str())?.map(|text| text.value().to_owned()))
        })?;
        text.map(|text| self.value(path, text)).transpose()
    }

    /// Stores values of many sessions beside those of earlier runs, as [`Checkpoints::commit`] does in their place.
    ///
    /// # Errors
    /// As [`Checkpoints::commit`].
    pub fn commit_of_run(
        &self,
        run: &ExportId,
        values: &[(SessionPath, Option<Raw>)],
    ) -> Result<(), StoreError> {
        self.ready()?;
        let mut rows = self.rows(values)?;
        rows.sort_by(|(one, _), (other, _)| one.cmp(other));
        self.store.write(|transaction| {
            let mut table = transaction.open_table(OF_RUNS)?;
            for (key, text) in &rows {
                let key = of_run(run, key);
                match text {
                    Some(text) => drop(table.insert(key.as_str(), *text)?),
                    None => drop(table.remove(key.as_str())?),
                }
            }
            Ok(Ok(()))
        })
    }

    /// Puts the values of this run into the place of all values of an integration. Durable, and there as a whole, when
    /// this returns; may be repeated.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn take_over(&self, run: &ExportId, integration: &IntegrationId) -> Result<(), StoreError> {
        self.ready()?;
        let range = Range::of(&self.key(&SessionPath::of(integration.clone()))?);
        let prefix = of_run(run, "");
        let (own, first, end) = (of_run(run, &range.own), of_run(run, &range.first), of_run(run, &range.end));
        self.store.write(|transaction| {
            let mut taken = transaction.open_table(TAKEN_OVER)?;
            if taken.insert(of_run(run, integration.as_str()).as_str(), ())?.is_some() {
                return Ok(Ok(()));
            }
            let mut stored = transaction.open_table(TABLE)?;
            stored.remove(range.own.as_str())?;
            stored.retain_in(range.first.as_str()..range.end.as_str(), |_, _| false)?;
            let mut of_run = transaction.open_table(OF_RUNS)?;
            for row in of_run.extract_from_if(first.as_str()..end.as_str(), |_, _| true)? {
                let (key, text) = row?;
                if let Some(path) = key.value().strip_prefix(&prefix) {
                    stored.insert(path, text.value())?;
                }
            }
            of_run.remove(own.as_str())?;
            Ok(Ok(()))
        })
    }

    /// Whether the values of this run took their place already: the integration was done in an earlier life of the run.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn was_taken_over(&self, run: &ExportId, integration: &IntegrationId) -> Result<bool, StoreError> {
        let key = of_run(run, integration.as_str());
        self.store.read(|transaction| {
            let Some(table) = if_there(transaction.open_table(TAKEN_OVER))? else { return Ok(false) };
            Ok(table.get(key.as_str())?.is_some())
        })
    }

    /// Forgets what other runs stored beside the values and never finished.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn forget_other_runs(&self, run: &ExportId) -> Result<(), StoreError> {
        let prefix = of_run(run, "");
        if !self.store.read(|transaction| has_others(transaction, &prefix))? {
            return Ok(());
        }
        self.store.write(|transaction| {
            transaction.open_table(OF_RUNS)?.retain(|key, _| key.starts_with(&prefix))?;
            transaction.open_table(TAKEN_OVER)?.retain(|key, ()| key.starts_with(&prefix))?;
            Ok(Ok(()))
        })
    }
}

/// An export's id holds no line feed.
pub(super) fn of_run(run: &ExportId, what: &str) -> String {
    format!("{run}\n{what}")
}

/// Whether a row belongs to another run: they stand in order, so the first and the last tell.
fn has_others(transaction: &ReadTransaction, prefix: &str) -> Result<bool, redb::Error> {
    use redb::ReadableTable as _;
    if let Some(table) = if_there(transaction.open_table(OF_RUNS))? {
        for row in [table.first()?, table.last()?].into_iter().flatten() {
            if !row.0.value().starts_with(prefix) {
                return Ok(true);
            }
        }
    }
    if let Some(table) = if_there(transaction.open_table(TAKEN_OVER))? {
        for row in [table.first()?, table.last()?].into_iter().flatten() {
            if !row.0.value().starts_with(prefix) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// A table of a store that may be older than it.
pub(super) fn if_there<T>(opened: Result<T, TableError>) -> Result<Option<T>, redb::Error> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(err) => Err(err.into()),
    }
}
