//! Clones of repositories elsewhere, kept in the cache between runs.
//!
//! ```text
//! clones/lock               one run uses the clones at a time
//! clones/<key>.git          bare; the key is made of the address, so that no two addresses share one
//! clones/new-…, login-…     work of a run; what a killed one left goes when the next begins
//! ```
//!
//! **Invariant:** a clone is there when it is complete: it is made under another name and renamed.
//!
//! **Invariant:** after a fetch it has the branches and tags of the other side, no more and no less, whatever was moved or
//! deleted there. One that cannot be brought there, for a reason that lies here, is removed and made anew.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::address::Address;
use crate::error::GitError;
use crate::git::Repository;
use crate::network::{Network, sweep};
use crate::process::{Place, RunError, Stop};
use crate::remote::{Told, Why, ask, explain, network};

/// How long another run of the same integration may take to end.
const LOCK_WAIT: Duration = Duration::from_secs(60);
/// The pause between two looks at a git that fetches.
const LOOK: Duration = Duration::from_millis(50);
/// Looks between two measurements of the clone's size.
const LOOKS_A_MEASURE: u32 = 20;

/// The clones of one configured integration.
#[derive(Debug)]
pub(crate) struct Clones {
    folder: PathBuf,
    limit_mb: u64,
    _lock: File,
}

impl Clones {
    /// Takes the clones in a cache folder, once no other run has them, and removes what a killed run left half done.
    ///
    /// # Errors
    /// When another run keeps them, or the folder cannot be used.
    pub(crate) fn take(cache: &Path, limit_mb: u64, stop: &Stop) -> Result<Self, GitError> {
        let folder = cache.join("clones");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |err| GitError::File { path, err }
        };
        make_private(&folder).map_err(failed(&folder))?;
        let path = folder.join("lock");
        let lock =
            File::options().create(true).truncate(false).write(true).open(&path).map_err(failed(&path))?;
        let begun = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_WAIT && !stop.is_pulled() => {
                    std::thread::sleep(LOOK);
                }
                Err(TryLockError::WouldBlock) => return Err(GitError::InUse { path }),
                Err(TryLockError::Error(err)) => return Err(GitError::File { path, err }),
            }
        }
        sweep(&folder).map_err(failed(&folder))?;
        for entry in std::fs::read_dir(&folder).map_err(failed(&folder))? {
            let entry = entry.map_err(failed(&folder))?;
            if entry.file_name().to_string_lossy().starts_with("new-") {
                std::fs::remove_dir_all(entry.path()).map_err(failed(&entry.path()))?;
            }
        }
        Ok(Self { folder, limit_mb, _lock: lock })
    }

    /// Where the clone of an address is, or will be.
    pub(crate) fn path(&self, address: &Address) -> PathBuf {
        let hash = Sha256::digest(address.text().as_bytes());
        let key: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        self.folder.join(format!("{key}.git"))
    }

    /// The clone of an address as the other side is now. `alive` is called whenever git says something.
    ///
    /// # Errors
    /// When the other side cannot be reached or read, or the disk fails.
    pub(crate) fn fetched(
        &self,
        address: &Address,
        stop: &Stop,
        alive: &mut dyn FnMut(),
    ) -> Result<Repository, GitError> {
        let told = ask(address, &self.folder, stop)?;
        alive();
        let network = network(address, &self.folder)?;
        let mut work = Work { clones: self, address, stop, network: &network, told: &told, alive };
        let path = self.path(address);
        if path.exists() {
            match work.update(&path) {
                Err(err) if is_broken(&err) => {
                    std::fs::remove_dir_all(&path)
                        .map_err(|err| GitError::File { path: path.clone(), err })?;
                }
                other => return other,
            }
        }
        work.clone_to(&path)?;
        work.opened(&path)
    }
}

/// Whether a failure lies in the clone, as far as that can be told: then it is made anew.
fn is_broken(err: &GitError) -> bool {
    match err {
        GitError::Remote { err: RunError::Failed { .. }, why, .. } => *why == Why::Unknown,
        GitError::Run { err, .. } => matches!(err, RunError::Failed { .. }),
        GitError::NotARepository { .. } | GitError::Partial { .. } | GitError::NotAFolder { .. } => true,
        GitError::Answer { .. } => true,
        _ => false,
    }
}

struct Work<'a> {
    clones: &'a Clones,
    address: &'a Address,
    stop: &'a Stop,
    network: &'a Network,
    told: &'a Told,
    alive: &'a mut dyn FnMut(),
}

impl Work<'_> {
    fn update(&mut self, path: &Path) -> Result<Repository, GitError> {
        remove_locks(path).map_err(|err| GitError::File { path: path.to_owned(), err })?;
        let repository = Repository::open(path, self.stop)?;
        let of = repository.remote()?;
        if of.as_deref() != Some(self.address.text()) {
            let found = of.unwrap_or_default();
            return Err(GitError::Answer { what: "the address", path: path.to_owned(), found });
        }
        let address = self.address.text();
        let args = [
            "fetch",
            "--progress",
            "--prune",
            "--force",
            "--no-tags",
            "--no-write-fetch-head",
            "--",
            address,
            "+refs/heads/*:refs/heads/*",
            "+refs/tags/*:refs/tags/*",
        ];
        self.watched(path, path, &args)?;
        self.opened(path)
    }

    /// Makes the clone under another name, and gives it its own.
    fn clone_to(&mut self, path: &Path) -> Result<(), GitError> {
        let folder = &self.clones.folder;
        let new = tempfile::Builder::new().prefix("new-").tempdir_in(folder);
        let new = new.map_err(|err| GitError::File { path: folder.clone(), err })?;
        let target = new.path().join("clone.git");
        let text = target.to_string_lossy();
        let args = ["clone", "--bare", "--progress", "--template=", "--", self.address.text(), &text];
        self.watched(folder, new.path(), &args)?;
        std::fs::rename(&target, path).map_err(|err| GitError::File { path: target, err })
    }

    /// The clone, with the HEAD of the other side. Fails when a tip is not there.
    fn opened(&self, path: &Path) -> Result<Repository, GitError> {
        let repository = Repository::open(path, self.stop)?.known_as(self.address.text());
        if let Some(head) = self.told.head.as_deref().filter(|it| it.starts_with("refs/heads/")) {
            repository.set_head(head)?;
        }
        repository.tips()?;
        Ok(repository)
    }

    /// Runs a git that writes below `grows`, as long as that is not too large.
    fn watched(&mut self, place: &Path, grows: &Path, args: &[&str]) -> Result<(), GitError> {
        let place = Place { folder: place.to_owned(), stop: self.stop.clone() };
        let failed = |err| explain(self.address, err);
        let mut running = place.start_with(args, Some(self.network)).map_err(failed)?;
        running.feed(Vec::new());
        let mut heard = 0;
        for look in 1_u32.. {
            if running.has_ended().map_err(failed)? {
                break;
            }
            std::thread::sleep(LOOK);
            if running.heard() != heard {
                heard = running.heard();
                (self.alive)();
            }
            if look.is_multiple_of(LOOKS_A_MEASURE) {
                self.measure(grows)?;
            }
        }
        running.finish().map_err(failed)?;
        self.measure(grows)
    }

    fn measure(&self, folder: &Path) -> Result<(), GitError> {
        let limit_mb = self.clones.limit_mb;
        if size(folder) > limit_mb.saturating_mul(1_000_000) {
            return Err(GitError::TooLarge { address: self.address.text().to_owned(), limit_mb });
        }
        Ok(())
    }
}

/// The bytes of all files below a folder; what goes away meanwhile does not count.
fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(it) if it.is_dir() => size(&entry.path()),
            Ok(it) => it.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Removes the locks that a killed git left: nobody else writes here, which [`Clones`]'s own lock says.
fn remove_locks(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_locks(&path)?;
        } else if path.extension().is_some_and(|it| it == "lock") {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn make_private(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
