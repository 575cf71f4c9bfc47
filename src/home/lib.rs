//! The root folder of an agent: where everything lies, who may use it, and what is remembered in it.
//!
//! | module | duty |
//! | --- | --- |
//! | [`Root`] | the paths; makes the folders, for the owner only |
//! | [`RootLock`] | one service uses a root at a time |
//! | [`Config`] | config.json: read with all its faults at once, written whole or not at all |
//! | [`CollectConfig`], [`OrderedCollect`] | the section `collect`, of config.json or of the backend, and which is in effect |
//! | [`state`] | the schema of what is remembered; migrations on a copy, and the way back |
//! | [`Identity`] | whose work lies in the root; another's is moved aside |
//! | [`keys`] | secrets of sources that only this root can read |
//! | [`Checkpoints`] | the last-processed values of sessions |
//! | [`unchanged`] | which objects the backend has, so that they need not be sent again |
//! | [`Journal`] | the commands that the service took, until the backend knows how they ended |
//! | [`atomic`] | files that are the old one or the new one |
//! | [`yaml`] | texts of YAML, without what makes them large or ambiguous |
//!
//! **Invariant:** nothing here reads the clock but to bound how long it waits; a time that is written down comes from the
//! caller.
//!
//! **Invariant:** what a call answered as stored is there after a crash or a full disk, and what it did not is not, or is
//! as a whole. No file needs a repair by hand after either.
//!
//! **Invariant:** no error and no `Debug` text holds a token, or a value of a field that could be one.
//!
//! **Invariant:** a lock is the system's own, held on an open file; it ends with its process and cannot go stale.
//!
//! **Invariant:** files here are readable by their owner only, where the system knows such a thing.
//!
//! The two stores are two redb files, since the service has the journal open and an export the checkpoints: redb lets one
//! process at a time open a file. Whoever comes second waits up to a bound it is given and then gets
//! [`StoreError::InUse`]. All calls block; those that write wait for the disk (a few milliseconds).

mod aggregator;
pub mod atomic;
mod checkpoints;
mod collect;
mod config;
mod config_fault;
mod config_read;
mod identity;
mod journal;
pub mod keys;
mod limits;
mod lock;
mod members;
mod root;
mod secret;
mod session_path;
#[cfg(unix)]
pub mod socket;
pub mod state;
mod store;
#[cfg(test)]
mod testing;
pub mod unchanged;
pub mod yaml;

pub use aggregator::aggregator;
pub use atomic::FileError;
pub use checkpoints::{Checkpoints, Claim, Prepared, VALUE_BYTES};
pub use collect::{CollectConfig, OrderedCollect, OrderedError};
pub use config::{CONFIG_VERSION, Config};
pub use config_fault::{ConfigErrors, ConfigFault};
pub use identity::Identity;
pub use journal::{Entry, Journal, JournalError, Recorded, State};
pub use limits::{LimitField, Limits};
pub use lock::{CollectLock, LockError, RootLock};
pub use root::Root;
pub use secret::Secret;
pub use session_path::SessionPath;
pub use state::{Patience, Settled, StateError};
pub use store::StoreError;
pub use unchanged::Unchanged;
