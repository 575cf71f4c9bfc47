//! A store on a disk that fails, and on files that are damaged.

use outrider_protocol::fault::chain;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redb::backends::FileBackend;
use redb::{BackendError, Database, DatabaseError, StorageBackend, TableDefinition};

use crate::StoreError;
use crate::store::Store;
use crate::testing::fresh;

const TABLE: TableDefinition<'_, u64, u64> = TableDefinition::new("numbers");

/// Whether the disk has no room left. One test alone uses it.
static FULL: AtomicBool = AtomicBool::new(false);

/// A disk that is full now and then.
#[derive(Debug)]
struct Disk(FileBackend);

fn room() -> std::io::Result<()> {
    if FULL.load(Ordering::SeqCst) { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

impl StorageBackend for Disk {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        room()?;
        self.0.set_len(len)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        room()?;
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        room()?;
        self.0.write(offset, data)
    }
    fn close(&self) -> std::io::Result<()> {
        self.0.close()
    }
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_range(start, end)
    }
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.unlock_range(start, end)
    }
}

fn on_the_disk(file: std::fs::File) -> Result<Database, DatabaseError> {
    Database::builder().create_with_backend(Disk(FileBackend::new(file)?))
}

fn make(transaction: &redb::WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(TABLE)?;
    Ok(())
}

fn put(store: &Store, key: u64) -> Result<(), StoreError> {
    store.write(|transaction| {
        transaction.open_table(TABLE)?.insert(key, key)?;
        Ok(Ok(()))
    })
}

fn has(store: &Store, key: u64) -> Result<bool, StoreError> {
    store.read(|transaction| Ok(transaction.open_table(TABLE)?.get(key)?.is_some()))
}

#[test]
fn after_a_full_disk_the_store_goes_on_without_a_restart() {
    let (_folder, root) = fresh();
    let store = Store::open_with(root.commands_db(), Duration::ZERO, make, on_the_disk).unwrap();
    put(&store, 1).unwrap();
    FULL.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let err = put(&store, 2).unwrap_err();
        let StoreError::File(file) = &err else { panic!("{err:?}") };
        assert!(
            file.is_disk_full() && chain(&err).contains("commands.redb (make room on that disk"),
            "{}",
            chain(&err)
        );
    }
    FULL.store(false, Ordering::SeqCst);
    assert!(has(&store, 1).unwrap());
    assert!(!has(&store, 2).unwrap());
    put(&store, 2).unwrap();
    assert!(has(&store, 2).unwrap());
}

#[test]
fn a_write_that_is_refused_changes_nothing() {
    let (_folder, root) = fresh();
    let store = Store::open(root.commands_db(), Duration::ZERO, make).unwrap();
    let refused: Result<(), StoreError> = store.write(|transaction| {
        transaction.open_table(TABLE)?.insert(1, 1)?;
        Ok(Err(StoreError::TooLong { what: "it".into(), found: 2, most: 1 }))
    });
    assert_eq!(refused.unwrap_err().to_string(), "store it: it has 2 bytes, at most 1 are kept");
    assert!(!has(&store, 1).unwrap());
    put(&store, 1).unwrap();
}

#[test]
fn a_store_whose_first_start_was_cut_off_is_made_anew() {
    let (_folder, root) = fresh();
    // The file was made, and the process killed before the tables were.
    drop(Database::create(root.commands_db()).unwrap());
    let store = Store::open(root.commands_db(), Duration::ZERO, make).unwrap();
    put(&store, 1).unwrap();
    drop(store);
    std::fs::write(root.checkpoints_db(), "").unwrap();
    put(&Store::open(root.checkpoints_db(), Duration::ZERO, make).unwrap(), 1).unwrap();
}

#[test]
fn a_store_cut_short_is_an_error_and_no_panic() {
    let (_folder, root) = fresh();
    let path = root.commands_db();
    let store = Store::open(path.clone(), Duration::ZERO, make).unwrap();
    for key in 0..2_000 {
        if key % 500 == 0 {
            put(&store, key).unwrap();
        }
    }
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    for part in 1..32 {
        std::fs::write(&path, &whole[..whole.len() * part / 32]).unwrap();
        let err =
            Store::open(path.clone(), Duration::ZERO, make).and_then(|store| has(&store, 0)).unwrap_err();
        assert!(chain(&err).contains("commands.redb"), "{part}: {}", chain(&err));
    }
}

#[test]
fn a_file_that_was_never_made_into_a_store_is_begun_anew() {
    let (_folder, root) = fresh();
    let path = root.state().join("unfinished.redb");
    std::fs::write(&path, vec![0; 8192]).unwrap();
    let store = Store::open(path.clone(), Duration::ZERO, make).unwrap();
    drop(store);
    // Anything else is left to a person.
    std::fs::write(&path, vec![7; 8192]).unwrap();
    let err = Store::open(path, Duration::ZERO, make).unwrap_err();
    assert!(matches!(err, StoreError::Damaged { .. }), "{err}");
}
