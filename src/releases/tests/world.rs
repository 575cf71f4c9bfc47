//! A release side with its keys and its repository, agents, and an attacker who changes copies of the repository.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha512};
use tough::schema::{self, Signed, Snapshot, Targets};

use crate::error::{Role, TrustError};
use crate::fetch::{Fetch, Folder};
use crate::keys::Keys;
use crate::repository::sign;
use crate::transport::METADATA;
use crate::{Expiry, NewRelease, Platform, Release, Repository, Settings, Thresholds, Trust, Version, hash};

pub(super) const DAY: SignedDuration = SignedDuration::from_hours(24);

pub(super) fn version(text: &str) -> Version {
    text.parse().unwrap()
}

pub(super) fn linux() -> Platform {
    Platform { os: "linux".into(), arch: "x86_64".into() }
}

pub(super) fn number(version: u64) -> NonZeroU64 {
    NonZeroU64::new(version).unwrap()
}

/// The release side, and where everything lies.
pub(super) struct World {
    pub(super) dir: tempfile::TempDir,
    pub(super) now: Timestamp,
    pub(super) keys: Keys,
    pub(super) expiry: Expiry,
}

impl World {
    /// An empty repository: root 2 of 3, one key for each other role.
    pub(super) fn new() -> Self {
        Self::with(Expiry::default(), Thresholds::default())
    }

    pub(super) fn with(expiry: Expiry, thresholds: Thresholds) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let keys = new_keys(&dir.path().join("keys"), u32::try_from(thresholds.targets.get()).unwrap());
        let world = Self { dir, now, keys, expiry };
        drop(Repository::init(&world.repo(), &world.keys, thresholds, expiry, now).unwrap());
        world
    }

    /// A repository with versions 1.0.0 and 1.1.0, of which a copy was made when it only had the first.
    pub(super) fn with_history() -> (Self, PathBuf) {
        let world = Self::new();
        world.add("1.0.0");
        let old = world.copy("old");
        world.add("1.1.0");
        (world, old)
    }

    pub(super) fn repo(&self) -> PathBuf {
        self.dir.path().join("repo")
    }

    pub(super) fn repository(&self) -> Repository {
        Repository::open(&self.repo(), self.expiry).unwrap()
    }

    /// What `cargo package-agent` would make of a version.
    pub(super) fn package(&self, version: &str, ending: &str, build: &str) -> NewRelease {
        let folder = self.dir.path().join("dist");
        std::fs::create_dir_all(&folder).unwrap();
        let stem = format!("outrider-{version}-linux-x86_64");
        let archive = folder.join(format!("{stem}{ending}"));
        let content = format!("the archive of {version}, build {build}, as {ending}").repeat(200);
        std::fs::write(&archive, &content).unwrap();
        let sha512 = hash::hex(&Sha512::digest(&content));
        let line = format!("{sha512}  {stem}{ending}\n");
        std::fs::write(folder.join(format!("{stem}{ending}.sha512")), line).unwrap();
        let list = format!(r#"{{"hash":"{build}","files":[]}}"#);
        std::fs::write(folder.join(format!("{stem}.files.json")), list).unwrap();
        NewRelease { archive, channel: "stable".into(), hash: None, floor: None }
    }

    pub(super) fn add(&self, version: &str) {
        let new = self.package(version, ".tar.gz", "abc123");
        self.repository().add(&[new], &self.keys, self.now).unwrap();
    }

    /// A mirror of the repository as it is now.
    pub(super) fn copy(&self, name: &str) -> PathBuf {
        let to = self.dir.path().join(name);
        copy(&self.repo(), &to);
        to
    }

    /// A new agent, built with the repository's first root.
    pub(super) fn agent(&self, name: &str) -> Agent {
        let root = std::fs::read(self.repo().join("metadata/1.root.json")).unwrap();
        Agent { root, folder: self.dir.path().join(name).join("trust"), now: self.now }
    }

    /// An agent that has seen the repository as it is.
    pub(super) async fn seen(&self, name: &str) -> Agent {
        let agent = self.agent(name);
        agent.open(&self.repo()).await.unwrap();
        agent
    }

    /// Other keys, which the repository does not know.
    pub(super) fn strangers(&self) -> Keys {
        let folder = self.dir.path().join("strangers");
        if folder.exists() { Keys::in_folders([folder]) } else { new_keys(&folder, 1) }
    }
}

pub(super) fn new_keys(folder: &Path, targets: u32) -> Keys {
    for (role, count) in
        [(Role::Root, 3), (Role::Targets, targets), (Role::Snapshot, 1), (Role::Timestamp, 1)]
    {
        Keys::generate(folder, role, count).unwrap();
    }
    Keys::in_folders([folder])
}

pub(super) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).map(drop).unwrap();
        }
    }
}

/// The agent's side.
pub(super) struct Agent {
    pub(super) root: Vec<u8>,
    pub(super) folder: PathBuf,
    pub(super) now: Timestamp,
}

impl Agent {
    pub(super) async fn open(&self, repo: &Path) -> Result<Trust, TrustError> {
        self.open_by(Arc::new(Folder::new(repo))).await
    }

    pub(super) async fn open_by(&self, fetch: Arc<dyn Fetch>) -> Result<Trust, TrustError> {
        let mut settings = Settings::new(&self.root, &self.folder, self.now);
        settings.time = std::time::Duration::from_secs(20);
        Trust::open(settings, fetch).await
    }

    pub(super) fn remembered(&self) -> Option<Vec<u8>> {
        std::fs::read(self.folder.join("trust.json")).ok()
    }

    /// Expects a refusal, and that nothing is remembered of it, nor left in the folder.
    pub(super) async fn refuses(
        &self,
        case: &str,
        fetch: Arc<dyn Fetch>,
        is_it: impl Fn(&TrustError) -> bool,
    ) {
        let before = self.remembered();
        let err = self.open_by(fetch).await.expect_err(case);
        assert!(is_it(&err), "{case}: {err:?}");
        assert_eq!(before, self.remembered(), "{case}");
        let left = std::fs::read_dir(&self.folder).unwrap().flatten();
        let left: Vec<_> =
            left.map(|it| it.file_name()).filter(|it| it != "lock" && it != "trust.json").collect();
        assert!(left.is_empty(), "{case}: {left:?}");
    }

    pub(super) async fn refuses_folder(&self, case: &str, repo: &Path, is_it: impl Fn(&TrustError) -> bool) {
        self.refuses(case, Arc::new(Folder::new(repo)), is_it).await;
    }
}

pub(super) fn first(trust: &Trust) -> Release {
    trust.releases().next().unwrap()
}

/// A copy of a repository in an attacker's hands, with whichever keys they stole.
pub(super) struct Forged {
    pub(super) folder: PathBuf,
}

impl Forged {
    pub(super) fn of(world: &World, name: &str) -> Self {
        Self { folder: world.copy(name) }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(METADATA).join(name)
    }

    pub(super) fn read<T: DeserializeOwned>(&self, name: &str) -> Signed<T> {
        serde_json::from_slice(&std::fs::read(self.path(name)).unwrap()).unwrap()
    }

    pub(super) fn timestamp(&self) -> schema::Timestamp {
        self.read::<schema::Timestamp>("timestamp.json").signed
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let version = self.timestamp().meta["snapshot.json"].version;
        self.read::<Snapshot>(&format!("{version}.snapshot.json")).signed
    }

    pub(super) fn targets(&self) -> Targets {
        let version = self.snapshot().meta["targets.json"].version;
        self.read::<Targets>(&format!("{version}.targets.json")).signed
    }

    /// Signs and writes metadata with the keys of their role in `keys`, whether or not anybody trusts these.
    pub(super) fn write<T: schema::Role + Serialize>(&self, metadata: T, keys: &Keys) -> schema::Metafile {
        self.write_with(metadata, keys, usize::MAX)
    }

    /// The same with at most `count` signatures.
    pub(super) fn write_with<T: schema::Role + Serialize>(
        &self,
        metadata: T,
        keys: &Keys,
        count: usize,
    ) -> schema::Metafile {
        let mut signers = keys.of_role(T::TYPE.into()).unwrap();
        signers.truncate(count);
        sign::write(&self.folder, &sign::sign_with(metadata, &signers).unwrap()).unwrap()
    }

    /// Lists `targets` in a new snapshot, and that in a new timestamp.
    pub(super) fn publish_targets(&self, targets: Targets, targets_keys: &Keys, online: &Keys) {
        let file = self.write(targets, targets_keys);
        self.publish_file(file, online);
    }

    pub(super) fn publish_file(&self, targets: schema::Metafile, online: &Keys) {
        let mut snapshot = self.snapshot();
        snapshot.version = number(snapshot.version.get() + 1);
        snapshot.meta.insert("targets.json".into(), targets);
        self.publish_snapshot(snapshot, online);
    }

    pub(super) fn publish_snapshot(&self, snapshot: Snapshot, online: &Keys) {
        let mut timestamp = self.timestamp();
        timestamp.version = number(timestamp.version.get() + 1);
        timestamp.meta.insert("snapshot.json".into(), self.write(snapshot, online));
        self.write(timestamp, online);
    }
}
