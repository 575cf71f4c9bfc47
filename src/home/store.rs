//! One embedded database file (redb): opened with a bounded wait, small in memory, and opened again after a full disk.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redb::{Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase, WriteTransaction};

use crate::atomic::{self, FileError};

/// What redb may keep in memory, in bytes. Its own default is 1 GiB; the idle service as a whole has 15 MiB.
const CACHE_BYTES: usize = 2 << 20;
/// The pause between two tries to open a store that another process has open.
const PAUSE: Duration = Duration::from_millis(20);

/// A store of the root failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error(
        "open {}: another process of Outrider has had it open for {waited:?}; wait for its end, or stop it",
        path.display()
    )]
    InUse {
        /// The file.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The file could not be read or written.
    #[error(transparent)]
    File(FileError),
    /// The file is no store, or is damaged.
    #[error(
        "{operation} {}: the store is damaged or was made by something else; move the file away to begin with an empty one",
        path.display()
    )]
    Damaged {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What redb found.
        #[source]
        err: Box<redb::Error>,
    },
    /// What was to be stored is too long.
    #[error("store {what}: it has {found} bytes, at most {most} are kept")]
    TooLong {
        /// Which part of it.
        what: String,
        /// How long it is, in bytes.
        found: usize,
        /// How long it may be.
        most: usize,
    },
    /// A stored value could not be read back.
    #[error("read {what} from {}: another version of Outrider wrote it", path.display())]
    Unreadable {
        /// Which value.
        what: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        err: serde_json::Error,
    },
}

/// How a store makes its tables when it is new.
pub(crate) type MakeTables = fn(&WriteTransaction) -> Result<(), redb::Error>;
/// How the database is made of the open file; tests put a failing disk in between.
type Opener = fn(std::fs::File) -> Result<Database, DatabaseError>;

/// The database file.
pub(crate) struct Store {
    path: PathBuf,
    wait: Duration,
    make: MakeTables,
    opener: Opener,
    /// `None` after an error of the disk, which redb does not get over: the next use opens the file again.
    database: RwLock<Option<Arc<Database>>>,
    /// How often it was let go of, and with it what was written without durability.
    let_go: AtomicU64,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

fn open_database(file: std::fs::File) -> Result<Database, DatabaseError> {
    Database::builder().set_cache_size(CACHE_BYTES).create_file(file)
}

impl Store {
    /// Opens the file, or makes it with the tables of `make`. While another process has it, tries again for `wait`.
    pub(crate) fn open(path: PathBuf, wait: Duration, make: MakeTables) -> Result<Self, StoreError> {
        Self::open_with(path, wait, make, open_database)
    }

    pub(crate) fn open_with(
        path: PathBuf,
        wait: Duration,
        make: MakeTables,
        opener: Opener,
    ) -> Result<Self, StoreError> {
        let store = Self { path, wait, make, opener, database: RwLock::default(), let_go: AtomicU64::new(0) };
        store.database()?;
        Ok(store)
    }

    /// How often an error made it let go of what was written without durability, which nobody sees any more.
    pub(crate) fn times_let_go(&self) -> u64 {
        self.let_go.load(Ordering::SeqCst)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads in one transaction.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let database = self.database()?;
        let begun = database.begin_read().map_err(redb::Error::from);
        begun.and_then(|transaction| read(&transaction)).map_err(|err| self.failed("read", err))
    }

    /// Writes in one transaction, durable when this returns `Ok`. When `write` itself answers an error, nothing is
    /// changed.
    pub(crate) fn write<T, E: From<StoreError>>(
        &self,
        write: impl FnOnce(&WriteTransaction) -> Result<Result<T, E>, redb::Error>,
    ) -> Result<T, E> {
        self.write_with(Durability::Immediate, write)
    }

    /// The same; without durability, it is durable with the next one that is.
    pub(crate) fn write_with<T, E: From<StoreError>>(
        &self,
        durability: Durability,
        write: impl FnOnce(&WriteTransaction) -> Result<Result<T, E>, redb::Error>,
    ) -> Result<T, E> {
        let database = self.database()?;
        let written = (|| {
            let mut transaction = database.begin_write()?;
            transaction.set_durability(durability)?;
            let answer = write(&transaction)?;
            match &answer {
                Ok(_) => transaction.commit()?,
                Err(_) => transaction.abort()?,
            }
            Ok(answer)
        })();
        written.map_err(|err| E::from(self.failed("write", err)))?
    }

    fn database(&self) -> Result<Arc<Database>, StoreError> {
        if let Some(database) = &*self.database.read().unwrap_or_else(PoisonError::into_inner) {
            return Ok(database.clone());
        }
        let mut place = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = &*place {
            return Ok(database.clone());
        }
        let database = Arc::new(self.open_file()?);
        *place = Some(database.clone());
        Ok(database)
    }

    fn open_file(&self) -> Result<Database, StoreError> {
        let (mut waited, mut begun_anew) = (Duration::ZERO, false);
        loop {
            let at = |err| StoreError::File(FileError::at("open", &self.path)(err));
            let file = atomic::open_private(&self.path).map_err(at)?;
            let same = file.try_clone().map_err(at)?;
            match (self.opener)(file) {
                Ok(database) => return self.with_tables(database),
                Err(DatabaseError::DatabaseAlreadyOpen) if waited < self.wait => {
                    std::thread::sleep(PAUSE);
                    waited += PAUSE;
                }
                Err(DatabaseError::DatabaseAlreadyOpen) => {
                    return Err(StoreError::InUse { path: self.path.clone(), waited });
                }
                Err(_) if !begun_anew && is_unfinished(&same) => {
                    // Whoever made it died, or its disk failed, before it was a store; nothing was ever in it.
                    std::fs::remove_file(&self.path).map_err(at)?;
                    begun_anew = true;
                }
                Err(err) => return Err(self.error("open", err.into())),
            }
        }
    }

    fn with_tables(&self, database: Database) -> Result<Database, StoreError> {
        let made = (|| {
            if database.begin_read()?.list_tables()?.next().is_none() {
                let transaction = database.begin_write()?;
                (self.make)(&transaction)?;
                transaction.commit()?;
            }
            Ok(())
        })();
        made.map_err(|err| self.error("make the tables of", err))?;
        // The file may be new: its name must be as durable as what will be written into it.
        let folder = self.path.parent().unwrap_or_else(|| Path::new("."));
        atomic::sync_folder(folder).map_err(StoreError::File)?;
        Ok(database)
    }

    /// Lets go of the database after an error, and tells the error.
    fn failed(&self, operation: &'static str, err: redb::Error) -> StoreError {
        // redb refuses everything after an error of the disk; a disk that has room again must be usable without a
        // restart. What was committed is safe.
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        self.let_go.fetch_add(1, Ordering::SeqCst);
        *database = None;
        drop(database);
        self.error(operation, err)
    }

    fn error(&self, operation: &'static str, err: redb::Error) -> StoreError {
        match err {
            redb::Error::Io(err) if err.kind() != std::io::ErrorKind::InvalidData => {
                StoreError::File(FileError::at(operation, &self.path)(err))
            }
            redb::Error::PreviousIo => {
                let err = std::io::Error::other("an earlier error of the disk");
                StoreError::File(FileError::at(operation, &self.path)(err))
            }
            err => StoreError::Damaged { operation, path: self.path.clone(), err: Box::new(err) },
        }
    }
}

/// Whether a file was never made into a store: redb writes its magic number last.
fn is_unfinished(mut file: &std::fs::File) -> bool {
    use std::io::{Read, Seek};
    let mut magic = [1; 9];
    file.rewind().and_then(|()| file.read_exact(&mut magic)).is_ok() && magic == [0; 9]
}

#[cfg(test)]
pub(crate) use outrider_testkit::lossy;
#[cfg(test)]
mod tests;
