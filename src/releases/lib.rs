//! The signed repository of releases: what an agent takes an upgrade from, and what the release side publishes.
//!
//! | part | duty |
//! | --- | --- |
//! | [`Trust`] | the agent's side: verifies a repository, finds releases in it, remembers what it has seen |
//! | [`Fetch`] | how bytes of a repository get here; [`Folder`] is one, an HTTP client is its owner's |
//! | [`Repository`], [`Keys`] | the release side: makes, signs, renews a repository in a folder that any web server can serve |
//!
//! The metadata are those of The Update Framework, read and checked by the crate `tough`: *root* names the keys of all
//! roles and is signed by a threshold of them, *targets* lists the files with length and hash, *snapshot* says which
//! targets are current, *timestamp* which snapshot is.
//!
//! ```text
//! metadata/<n>.root.json  metadata/<n>.targets.json  metadata/<n>.snapshot.json  metadata/timestamp.json
//! targets/<sha256>.outrider-1.2.3-linux-x86_64.tar.gz    targets/<sha256>.outrider-1.2.3-linux-x86_64.files.json
//! ```
//!
//! **Invariant:** trust comes from the root that the caller embeds, or from a chain of roots, each signed by the one before.
//! No key, and nothing else, is believed because a repository says it.
//!
//! **Invariant:** what [`Trust`] remembers changes as a whole, after everything was verified, or not at all. The one
//! exception is a verified newer root, which is kept even when what comes after it fails: it may have revoked a key.
//!
//! **Invariant:** nothing from outside is read without a bound: each metadata file, each target, the number of roots.
//!
//! **Invariant:** nothing here reads the clock, and no time of this host is remembered: a clock that was wrong once refuses
//! nothing once it is right. The caller says what time it is.
//!
//! **Invariant:** a private key is in its file and in memory while it signs, never in a text, a log or an error.

mod about;
mod error;
mod fetch;
mod files;
mod hash;
mod keys;
mod listing;
mod names;
mod refused;
mod repository;
mod state;
mod target;
mod transport;
mod trust;
mod version;

#[cfg(test)]
mod tests;

pub use about::{About, PRODUCT};
pub use error::{Role, TrustError};
pub use fetch::{ByteStream, Fetch, FetchError, Folder};
pub use files::FileError;
pub use keys::{KeyError, Keys};
pub use listing::{Archive, Release};
pub use names::{ArchiveFormat, ArchiveName, NameError};
pub use repository::{
    Expiry, Listed, NewRelease, Published, Renewed, Repository, RepositoryError, RoleState, Rotation,
    Thresholds,
};
pub use target::{FILES_BYTES, Target, verify_file};
/// What an implementation of [`Fetch`] is written with, outside of this crate.
pub use tough::{Bytes, async_trait};
pub use trust::{Downgrade, Settings, Trust};
pub use version::{Platform, Version, VersionError};
