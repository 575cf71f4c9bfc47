//! The embedded database: agents, codes, commands, progress, logs, integrations, crashes and the list of files.
//!
//! **Invariant:** what a method here answered is on disk, synced. **Invariant:** all writes go through one connection, so
//! that a transaction never fails because another one writes; reads go through others and never wait for a write.
//! Statements keep to what SQLite and PostgreSQL both understand.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use sqlx::SqliteTransaction;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

mod agents;
mod codes;
mod collecting;
mod commands;
mod configured;
mod crashes;
mod files;
mod installed;
mod log_lines;
mod oauth;
mod passes;
mod progress;
#[cfg(test)]
mod tests;
mod upgrades;
mod upkeep;

pub(crate) use agents::{Caller, EnrollFault};
pub(crate) use commands::{CancelOutcome, CreateFault, EndFault, OrderBounds, Reported};
pub(crate) use configured::SealedConfig;
pub(crate) use files::FileKey;
pub(crate) use log_lines::LogBounds;
pub(crate) use oauth::{Refreshed, Registration};
pub(crate) use passes::Pass;
pub(crate) use progress::TreeBounds;
pub(crate) use upgrades::StoredUpgrade;

/// Connections that read at the same time. SQLite serves each from the page cache; more only hold memory.
const READERS: u32 = 4;
/// How long a statement waits for another process that holds the database, such as a backup.
const BUSY: Duration = Duration::from_secs(10);

/// The store failed. Nothing was changed by the operation.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened.
    #[error("open the database {path}")]
    Open {
        /// The file.
        path: String,
        /// Why.
        #[source]
        err: sqlx::Error,
    },
    /// The tables cannot be brought to this version.
    #[error("bring the tables of {path} to this version; was the folder used by a newer outrider-backend?")]
    Migrate {
        /// The file.
        path: String,
        /// Why.
        #[source]
        err: sqlx::migrate::MigrateError,
    },
    /// A statement failed.
    #[error("{what}: the database failed")]
    Statement {
        /// What was being done.
        what: &'static str,
        /// Why.
        #[source]
        err: sqlx::Error,
    },
    /// A stored value is none that this version knows.
    #[error("{what}: the database holds {found:?}")]
    Unknown {
        /// What was being done.
        what: &'static str,
        /// The value (shortened).
        found: String,
    },
    /// A stored JSON text does not fit its type.
    #[error("{what}: read or write JSON")]
    Json {
        /// What was being done.
        what: &'static str,
        /// Why.
        #[source]
        err: serde_json::Error,
    },
    /// No secret could be made.
    #[error("{what}")]
    Secret {
        /// What was being done.
        what: &'static str,
        /// Why.
        #[source]
        err: crate::secret::NoRandomness,
    },
}

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    write: SqlitePool,
    read: SqlitePool,
}

impl Store {
    /// Opens the database, makes it where it is missing, and brings its tables to this version.
    pub(crate) async fn open(path: &Path) -> Result<Self, StoreError> {
        let shown = || path.display().to_string();
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            // What is taken out is overwritten: configurations hold secrets.
            .pragma("secure_delete", "ON")
            .busy_timeout(BUSY);
        let pool = |connections: u32| SqlitePoolOptions::new().max_connections(connections);
        let write = pool(1)
            .connect_with(options.clone())
            .await
            .map_err(|err| StoreError::Open { path: shown(), err })?;
        sqlx::migrate!("./migrations")
            .run(&write)
            .await
            .map_err(|err| StoreError::Migrate { path: shown(), err })?;
        let read = pool(READERS)
            .connect_with(options.read_only(true))
            .await
            .map_err(|err| StoreError::Open { path: shown(), err })?;
        Ok(Self { write, read })
    }

    /// Begins a transaction that writes. It takes the right to write at once: one that only reads at first would lose it
    /// to whoever folds the write-ahead log in between, and fail.
    async fn begin(&self) -> Result<SqliteTransaction<'static>, sqlx::Error> {
        self.write.begin_with("BEGIN IMMEDIATE").await
    }

    /// Ends all connections, so that the write-ahead log is folded into the database.
    pub(crate) async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }
}

/// Names what was being done when a statement failed.
trait During<T> {
    fn during(self, what: &'static str) -> Result<T, StoreError>;
}

impl<T> During<T> for Result<T, sqlx::Error> {
    fn during(self, what: &'static str) -> Result<T, StoreError> {
        self.map_err(|err| StoreError::Statement { what, err })
    }
}

impl<T> During<T> for Result<T, serde_json::Error> {
    fn during(self, what: &'static str) -> Result<T, StoreError> {
        self.map_err(|err| StoreError::Json { what, err })
    }
}

impl<T> During<T> for Result<T, crate::secret::NoRandomness> {
    fn during(self, what: &'static str) -> Result<T, StoreError> {
        self.map_err(|err| StoreError::Secret { what, err })
    }
}

impl<T> During<T> for Result<T, outrider_protocol::ids::BadId> {
    fn during(self, what: &'static str) -> Result<T, StoreError> {
        self.map_err(|err| StoreError::Unknown { what, found: err.found })
    }
}

/// A time as it is stored. Times beyond what a timestamp holds were never written, so clamping changes nothing.
fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn times(ms: Option<i64>) -> Option<Timestamp> {
    ms.map(time)
}

/// A count as SQL stores it: counts above `i64::MAX` do not occur, and would be shown as that.
fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn uncount(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn to_json<T: Serialize>(value: &T, what: &'static str) -> Result<String, StoreError> {
    serde_json::to_string(value).during(what)
}

fn from_json<T: DeserializeOwned>(text: &str, what: &'static str) -> Result<T, StoreError> {
    serde_json::from_str(text).during(what)
}

fn from_json_opt<T: DeserializeOwned>(
    text: Option<&str>,
    what: &'static str,
) -> Result<Option<T>, StoreError> {
    text.map(|text| from_json(text, what)).transpose()
}
