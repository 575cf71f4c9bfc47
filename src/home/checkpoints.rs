//! The last-processed values of sessions: what an integration stored with a session when it was done, and gets back when
//! the same session starts again. Values stay raw JSON.

use std::time::Duration;

use outrider_protocol::Raw;
use redb::{TableDefinition, WriteTransaction};

use crate::store::Store;
use crate::{Root, SessionPath, StoreError};

mod doubt;
mod listing;
mod reprocess;

pub use doubt::{Claim, Prepared};

/// From a session's path, as JSON, to its last-processed value, as JSON. The number is that of the format.
const TABLE: TableDefinition<'_, &str, &str> = TableDefinition::new("checkpoints.1");
/// The longest path of a session, as JSON in bytes: names and ids, no payload.
const PATH_BYTES: usize = 64 << 10;
/// The longest last-processed value, in bytes: room for the tips of 100,000 branches.
pub const VALUE_BYTES: usize = 16 << 20;

/// The store of last-processed values. One process at a time has it open.
///
/// After a full disk it goes on without being opened again; what was committed before stays.
///
/// **A run that exports everything again** sees none of the stored values, and they stay what they are while it goes on.
/// What it stores itself lies beside them under the run's id ([`Checkpoints::commit_of_run`]), where an interrupted run of
/// the same id finds it again ([`Checkpoints::get_of_run`]). When an integration is done, the values of the run take the
/// place of all values of that integration in one transaction ([`Checkpoints::take_over`]): a session that the run did not
/// finish then has none, and the next run begins it from nothing. So there is no moment at which old and new values stand
/// mixed, and a run that never gets to its end changes nothing.
#[derive(Debug)]
pub struct Checkpoints {
    store: Store,
    known: doubt::Known,
}

impl Checkpoints {
    /// Opens the root's store, or makes it. The folder `state` must be there ([`Root::create`]). While another process
    /// has it open, waits up to `wait`, blocking the thread.
    ///
    /// # Errors
    /// [`StoreError::InUse`] after `wait`; when the file cannot be read or written, or is none of ours.
    pub fn open(root: &Root, wait: Duration) -> Result<Self, StoreError> {
        Store::open(root.checkpoints_db(), wait, make).map(Self::over)
    }

    fn over(store: Store) -> Self {
        Self { store, known: doubt::Known::default() }
    }

    /// The value stored for a session.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn get(&self, path: &SessionPath) -> Result<Option<Raw>, StoreError> {
        self.ready()?;
        let key = self.key(path)?;
        let text = self.store.read(|transaction| {
            let found = transaction.open_table(TABLE)?.get(key.as_str())?;
            Ok(found.map(|text| text.value().to_owned()))
        })?;
        text.map(|text| self.value(path, text)).transpose()
    }

    /// Stores the values of many sessions, or removes those that are `None`: all of them or, after an error or a crash,
    /// none. Durable when this returns.
    ///
    /// # Errors
    /// When a path or a value is too long, or the store cannot be written.
    pub fn commit(&self, values: &[(SessionPath, Option<Raw>)]) -> Result<(), StoreError> {
        // What was confirmed before is older than these.
        self.ready()?;
        let mut rows = self.rows(values)?;
        // In the tree's order, which touches each of its pages once and fills them better. Stable, so that of a path that
        // is there twice the last value stays.
        rows.sort_by(|(one, _), (other, _)| one.cmp(other));
        self.store.write(|transaction| {
            let mut table = transaction.open_table(TABLE)?;
            for (key, text) in &rows {
                match text {
                    Some(text) => drop(table.insert(key.as_str(), *text)?),
                    None => drop(table.remove(key.as_str())?),
                }
            }
            Ok(Ok(()))
        })
    }

    /// The first `limit` values of a session and everything below it, in the order of their JSON paths.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn list(&self, prefix: &SessionPath, limit: usize) -> Result<Vec<(SessionPath, Raw)>, StoreError> {
        self.ready()?;
        let range = Range::of(&self.key(prefix)?);
        let rows = self.store.read(|transaction| {
            let table = transaction.open_table(TABLE)?;
            let own = table.get(range.own.as_str())?.map(|text| (range.own.clone(), text.value().to_owned()));
            let mut rows: Vec<_> = own.into_iter().take(limit).collect();
            for row in table.range(range.first.as_str()..range.end.as_str())?.take(limit - rows.len()) {
                let (key, text) = row?;
                rows.push((key.value().to_owned(), text.value().to_owned()));
            }
            Ok(rows)
        })?;
        rows.into_iter().map(|(key, text)| self.row(&key, text)).collect()
    }

    /// Removes the values of a session and everything below it; durable when this returns, with how many they were. The
    /// next export begins there from nothing.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn remove(&self, prefix: &SessionPath) -> Result<u64, StoreError> {
        self.ready()?;
        let range = Range::of(&self.key(prefix)?);
        self.store.write(|transaction| {
            Self::drop_doubt(transaction, &range)?;
            let mut table = transaction.open_table(TABLE)?;
            let mut removed = u64::from(table.remove(range.own.as_str())?.is_some());
            table.retain_in(range.first.as_str()..range.end.as_str(), |_, _| {
                removed += 1;
                false
            })?;
            Ok(Ok(removed))
        })
    }

    /// Values as they are stored.
    fn rows<'a>(
        &self,
        values: &'a [(SessionPath, Option<Raw>)],
    ) -> Result<Vec<(String, Option<&'a str>)>, StoreError> {
        let mut rows = Vec::with_capacity(values.len());
        for (path, value) in values {
            if let Some(value) = value {
                self.fits(path, value)?;
            }
            rows.push((self.key(path)?, value.as_ref().map(|value| value.get())));
        }
        Ok(rows)
    }

    fn fits(&self, path: &SessionPath, value: &Raw) -> Result<(), StoreError> {
        let found = value.get().len();
        if found <= VALUE_BYTES {
            return Ok(());
        }
        let what = format!("the last-processed value of {}", shown(path));
        Err(StoreError::TooLong { what, found, most: VALUE_BYTES })
    }

    fn key(&self, path: &SessionPath) -> Result<String, StoreError> {
        let key = serde_json::to_string(path).map_err(|err| self.unreadable(path.to_string(), err))?;
        if key.len() > PATH_BYTES {
            let what = format!("the path of the session {}", shown(path));
            return Err(StoreError::TooLong { what, found: key.len(), most: PATH_BYTES });
        }
        Ok(key)
    }

    fn row(&self, key: &str, text: String) -> Result<(SessionPath, Raw), StoreError> {
        let path = serde_json::from_str(key).map_err(|err| self.unreadable(key.to_owned(), err))?;
        let value = self.value(&path, text)?;
        Ok((path, value))
    }

    fn value(&self, path: &SessionPath, text: String) -> Result<Raw, StoreError> {
        serde_json::value::RawValue::from_string(text).map_err(|err| self.unreadable(path.to_string(), err))
    }

    fn unreadable(&self, what: String, err: serde_json::Error) -> StoreError {
        StoreError::Unreadable { what, path: self.store.path().to_owned(), err }
    }
}

fn make(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(TABLE)?;
    Ok(())
}

fn shown(path: &SessionPath) -> String {
    path.to_string().chars().take(120).collect()
}

/// The keys of a session and of everything below it: `["git",["a","1"]]` itself, and all that begins with
/// `["git",["a","1"],`.
struct Range {
    own: String,
    first: String,
    end: String,
}

impl Range {
    fn of(key: &str) -> Self {
        let open = key.strip_suffix(']').unwrap_or(key);
        // `-` is the character after `,`.
        Self { own: key.to_owned(), first: format!("{open},"), end: format!("{open}-") }
    }
}

#[cfg(test)]
mod power_tests;
#[cfg(test)]
mod tests;
