//! The release side: a repository in a folder, made, signed and renewed.
//!
//! **Invariant:** every file is written whole, synced and renamed into place; timestamp.json comes last. A reader, or whoever
//! goes on after a crash, finds the repository as it was or as it is meant to be: all other files have names of their own. A
//! new root with what it makes anew is put together aside; the next opening finishes what a crash left of moving it.
//!
//! **Invariant:** what is signed anew was verified before, with the keys of the latest root of an unbroken chain.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use tough::schema::{self, Root, Signed, Snapshot, Targets};

use crate::error::Role;
use crate::files::{self, FileError};
use crate::keys::Keys;
use crate::listing::{Listing, Release};
use crate::transport::METADATA;

mod error;
mod publish;
mod rotate;
pub(crate) mod sign;

pub use error::RepositoryError;
pub use publish::{NewRelease, Published};
pub use rotate::Rotation;

/// The folder of the files that are listed.
const TARGETS: &str = "targets";
/// What a day is, for expiries.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// How long what a role signs holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// Rarely signed, by people.
    pub root: SignedDuration,
    /// Signed with each release, by people.
    pub targets: SignedDuration,
    /// Signed by a server.
    pub snapshot: SignedDuration,
    /// Signed by a server; how long an agent can be kept from knowing of a release.
    pub timestamp: SignedDuration,
}

impl Default for Expiry {
    fn default() -> Self {
        Self { root: DAY * 365, targets: DAY * 90, snapshot: DAY * 30, timestamp: DAY * 7 }
    }
}

impl Expiry {
    fn of(&self, role: Role) -> SignedDuration {
        match role {
            Role::Root => self.root,
            Role::Targets => self.targets,
            Role::Snapshot => self.snapshot,
            Role::Timestamp => self.timestamp,
        }
    }
}

/// How many keys of a role must sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// So many of the root keys.
    pub root: NonZeroU64,
    /// So many of the targets keys.
    pub targets: NonZeroU64,
}

impl Default for Thresholds {
    fn default() -> Self {
        const TWO: NonZeroU64 = NonZeroU64::MIN.saturating_add(1);
        Self { root: TWO, targets: NonZeroU64::MIN }
    }
}

/// A repository that is being edited. One process at a time has it.
#[derive(Debug)]
pub struct Repository {
    folder: PathBuf,
    /// Where metadata are written: the folder, or one aside.
    out: PathBuf,
    expiry: Expiry,
    root: Signed<Root>,
    targets: Signed<Targets>,
    snapshot: Signed<Snapshot>,
    timestamp: Signed<schema::Timestamp>,
    /// Held as long as the repository is edited.
    _lock: std::fs::File,
}

/// Until when a role holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleState {
    /// The role.
    pub role: Role,
    /// Its version.
    pub version: u64,
    /// Until when it holds.
    pub expires: Timestamp,
    /// How many signatures it needs.
    pub threshold: u64,
    /// The ids of its keys.
    pub keys: Vec<String>,
}

/// A release as a repository lists it.
pub type Listed = Release;

/// What a renewal signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    /// The roles, in the order in which they were signed.
    pub roles: Vec<Role>,
}

impl Repository {
    /// Makes a repository without releases in a folder that holds none yet. All keys of `keys` become the keys of their
    /// roles.
    ///
    /// # Errors
    /// When there is a repository already, a role has too few keys, or a file cannot be written.
    pub fn init(
        folder: &Path,
        keys: &Keys,
        thresholds: Thresholds,
        expiry: Expiry,
        now: Timestamp,
    ) -> Result<Self, RepositoryError> {
        let lock = lock(folder)?;
        let metadata = folder.join(METADATA);
        if metadata.join("timestamp.json").exists() {
            return Err(RepositoryError::Exists { folder: folder.to_owned() });
        }
        files::make_folder(&metadata, false)?;
        files::make_folder(&folder.join(TARGETS), false)?;
        let root = rotate::first_root(keys, thresholds, expires(&expiry, Role::Root, now))?;
        sign::write(folder, &root)?;
        let first = NonZeroU64::MIN;
        let mut targets = Targets::new(sign::SPEC.into(), first, expires(&expiry, Role::Targets, now));
        targets.delegations = None;
        let targets = sign::sign(targets, &root.signed, keys)?;
        let targets_file = sign::write(folder, &targets)?;
        let mut snapshot = Snapshot::new(sign::SPEC.into(), first, expires(&expiry, Role::Snapshot, now));
        snapshot.meta.insert("targets.json".into(), targets_file);
        let snapshot = sign::sign(snapshot, &root.signed, keys)?;
        let snapshot_file = sign::write(folder, &snapshot)?;
        let mut timestamp =
            schema::Timestamp::new(sign::SPEC.into(), first, expires(&expiry, Role::Timestamp, now));
        timestamp.meta.insert("snapshot.json".into(), snapshot_file);
        let timestamp = sign::sign(timestamp, &root.signed, keys)?;
        sign::write(folder, &timestamp)?;
        Ok(Self {
            folder: folder.to_owned(),
            out: folder.to_owned(),
            expiry,
            root,
            targets,
            snapshot,
            timestamp,
            _lock: lock,
        })
    }

    /// Opens a repository and verifies its metadata, from its first root on. Expired ones are no error: to renew them is what
    /// it may be opened for.
    ///
    /// # Errors
    /// When it is no repository, is being edited, or something in it is not signed as its roots say.
    pub fn open(folder: &Path, expiry: Expiry) -> Result<Self, RepositoryError> {
        if !folder.join(METADATA).is_dir() {
            return Err(RepositoryError::None { folder: folder.to_owned() });
        }
        let lock = lock(folder)?;
        rotate::finish(folder)?;
        let root = sign::latest_root(folder)?;
        let timestamp: Signed<schema::Timestamp> = sign::read(folder, "timestamp.json", &root.signed)?;
        let name = sign::name_in(&timestamp.signed.meta, "snapshot.json", Role::Timestamp)?;
        let snapshot: Signed<Snapshot> = sign::read(folder, &name, &root.signed)?;
        let name = sign::name_in(&snapshot.signed.meta, "targets.json", Role::Snapshot)?;
        let targets = sign::read(folder, &name, &root.signed)?;
        Ok(Self {
            folder: folder.to_owned(),
            out: folder.to_owned(),
            expiry,
            root,
            targets,
            snapshot,
            timestamp,
            _lock: lock,
        })
    }

    /// Signs the timestamp anew; also the snapshot where half of its time is over, and the list of files where
    /// `with_targets` says so, which needs its offline key.
    ///
    /// # Errors
    /// When a key is missing or a file cannot be written.
    pub fn refresh(
        &mut self,
        keys: &Keys,
        with_targets: bool,
        now: Timestamp,
    ) -> Result<Renewed, RepositoryError> {
        if with_targets {
            return self.sign_targets(self.targets.signed.clone(), keys, now);
        }
        let half = self.expiry.snapshot / 2;
        let is_half_over = self.snapshot.signed.expires.duration_since(now) < half;
        self.sign_online(is_half_over, keys, now)
    }

    /// The releases, the oldest first.
    #[must_use]
    pub fn releases(&self) -> Vec<Listed> {
        let listing = Listing::of(&self.targets.signed);
        let keys = listing.keys();
        keys.iter().filter_map(|(version, platform)| listing.release(*version, platform).ok()).collect()
    }

    /// The roles.
    #[must_use]
    pub fn roles(&self) -> Vec<RoleState> {
        let states = [
            (Role::Root, self.root.signed.version, self.root.signed.expires),
            (Role::Targets, self.targets.signed.version, self.targets.signed.expires),
            (Role::Snapshot, self.snapshot.signed.version, self.snapshot.signed.expires),
            (Role::Timestamp, self.timestamp.signed.version, self.timestamp.signed.expires),
        ];
        let of = |(role, version, expires): (Role, NonZeroU64, Timestamp)| {
            let keys = self.root.signed.roles.get(&role.into());
            let ids = keys.iter().flat_map(|it| &it.keyids).map(|id| crate::hash::hex(id)).collect();
            let threshold = keys.map_or(0, |it| it.threshold.get());
            RoleState { role, version: version.get(), expires, threshold, keys: ids }
        };
        states.map(of).into()
    }

    /// The latest root, to be built into agents. Compare the ids of its keys with those that you made: a root is only as
    /// good as the place that it was taken from.
    ///
    /// # Errors
    /// When it cannot be encoded, which should not happen.
    pub fn root(&self) -> Result<Vec<u8>, RepositoryError> {
        sign::encode(&self.root)
    }

    /// Signs a list of files and all that names it.
    fn sign_targets(
        &mut self,
        mut targets: Targets,
        keys: &Keys,
        now: Timestamp,
    ) -> Result<Renewed, RepositoryError> {
        targets.version = next(targets.version);
        targets.expires = expires(&self.expiry, Role::Targets, now);
        let targets = sign::sign(targets, &self.root.signed, keys)?;
        // Both online keys are looked for before the first file is written.
        sign::signers(Role::Snapshot, &self.root.signed, keys)?;
        sign::signers(Role::Timestamp, &self.root.signed, keys)?;
        let file = sign::write(&self.out, &targets)?;
        self.snapshot.signed.meta.insert("targets.json".into(), file);
        self.targets = targets;
        let mut renewed = self.sign_online(true, keys, now)?;
        renewed.roles.insert(0, Role::Targets);
        Ok(renewed)
    }

    fn sign_online(
        &mut self,
        with_snapshot: bool,
        keys: &Keys,
        now: Timestamp,
    ) -> Result<Renewed, RepositoryError> {
        let mut roles = vec![Role::Timestamp];
        let mut timestamp = self.timestamp.signed.clone();
        if with_snapshot {
            let mut snapshot = self.snapshot.signed.clone();
            snapshot.version = next(snapshot.version);
            snapshot.expires = expires(&self.expiry, Role::Snapshot, now);
            let snapshot = sign::sign(snapshot, &self.root.signed, keys)?;
            sign::signers(Role::Timestamp, &self.root.signed, keys)?;
            timestamp.meta.insert("snapshot.json".into(), sign::write(&self.out, &snapshot)?);
            self.snapshot = snapshot;
            roles.insert(0, Role::Snapshot);
        }
        timestamp.version = next(timestamp.version);
        timestamp.expires = expires(&self.expiry, Role::Timestamp, now);
        let timestamp = sign::sign(timestamp, &self.root.signed, keys)?;
        sign::write(&self.out, &timestamp)?;
        self.timestamp = timestamp;
        Ok(Renewed { roles })
    }
}

fn next(version: NonZeroU64) -> NonZeroU64 {
    version.saturating_add(1)
}

/// Until when what is signed now holds, in whole seconds, as the format has them.
fn expires(expiry: &Expiry, role: Role, now: Timestamp) -> Timestamp {
    let end = now.saturating_add(expiry.of(role)).unwrap_or(Timestamp::MAX);
    Timestamp::from_second(end.as_second()).unwrap_or(end)
}

fn lock(folder: &Path) -> Result<std::fs::File, RepositoryError> {
    files::make_folder(folder, false)?;
    let path = folder.join(".lock");
    let at = |err| FileError::at("open", &path)(err);
    let lock = std::fs::File::options().create(true).truncate(false).write(true).open(&path).map_err(at)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(RepositoryError::InUse { folder: folder.to_owned() }),
        Err(std::fs::TryLockError::Error(err)) => Err(FileError::at("lock", &path)(err).into()),
    }
}
