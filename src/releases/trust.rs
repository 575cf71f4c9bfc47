//! The agent's side: a repository that was verified, and the releases in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use jiff::Timestamp;
use tough::{Bytes, ExpirationEnforcement, Limits, Repository, RepositoryLoader};

use crate::error::{Role, TrustError};
use crate::fetch::Fetch;
use crate::listing::{Listing, Release};
use crate::refused::refused;
use crate::state::{State, Store};
use crate::target::{self, Target};
use crate::transport::{Metadata, SMALL, TARGETS};
use crate::version::{Platform, Version};

/// Where a walk over new roots ends: 100 of them are taken at once, one a week for two years. Whoever is further behind takes a
/// newer agent.
const ROOTS: u64 = 101;

/// What a repository is opened with.
#[derive(Debug, Clone)]
pub struct Settings<'a> {
    /// The root metadata that this program was built with.
    pub root: &'a [u8],
    /// The folder for what is remembered; made where it is missing, for the owner only.
    pub folder: &'a Path,
    /// What time it is.
    pub now: Timestamp,
    /// How long all metadata together may take.
    pub time: Duration,
}

impl<'a> Settings<'a> {
    /// The usual settings.
    #[must_use]
    pub fn new(root: &'a [u8], folder: &'a Path, now: Timestamp) -> Self {
        // A few hundred kilobytes, by a slow line.
        Self { root, folder, now, time: Duration::from_secs(120) }
    }
}

/// Whether a version below the floor is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Downgrade {
    /// It is refused.
    Refused,
    /// Somebody has said that it is meant.
    Allowed,
}

/// A verified repository.
#[derive(Debug)]
pub struct Trust {
    fetch: Arc<dyn Fetch>,
    listing: Listing,
    floor: Option<Version>,
    expires: (Timestamp, Role),
    damaged: Option<PathBuf>,
}

impl Trust {
    /// Reads a repository's metadata and verifies them: signatures from the root on, versions against what is remembered,
    /// expiry against `settings.now`. Remembers them when all is well.
    ///
    /// # Errors
    /// See [`TrustError`]. What is remembered is then as it was, but for a verified newer root.
    pub async fn open(settings: Settings<'_>, fetch: Arc<dyn Fetch>) -> Result<Self, TrustError> {
        let store = Store::open(settings.folder)?;
        let (state, damaged) = store.load()?;
        let root = state.trusted_root(settings.root)?;
        let copy = store.copy(&state)?;
        let transport = Metadata::of(Arc::clone(&fetch));
        let loading = load(&root, &transport, copy.path());
        let loaded = match tokio::time::timeout(settings.time, loading).await {
            Ok(loaded) => loaded,
            Err(_) => Err(TrustError::TooSlow { limit: settings.time }),
        };
        let checked = loaded.and_then(|repository| {
            let expires = check_expiry(&repository, settings.now)?;
            Ok((Listing::of(&repository.targets().signed), expires))
        });
        let (listing, expires) = match checked {
            Ok(checked) => checked,
            Err(err) => {
                if let Some(state) = state.with_newer_root(&root, copy.path()) {
                    store.save(&state)?;
                }
                return Err(err);
            }
        };
        let floor = listing.floor().max(state.floor);
        store.save(&State::verified(copy.path(), floor)?)?;
        Ok(Self { fetch, listing, floor, expires, damaged })
    }

    /// A version for a system.
    ///
    /// # Errors
    /// When it is not listed, not for this system, not what its name says, or below the floor and `downgrade` does not
    /// allow that.
    pub fn find(
        &self,
        version: Version,
        platform: &Platform,
        downgrade: Downgrade,
    ) -> Result<Release, TrustError> {
        if let Some(floor) = self.floor.filter(|floor| version < *floor && downgrade == Downgrade::Refused) {
            return Err(TrustError::BelowFloor { version, floor });
        }
        self.listing.release(version, platform)
    }

    /// The newest version of a channel for a system that is not below the floor, if there is one.
    #[must_use]
    pub fn latest(&self, channel: &str, platform: &Platform) -> Option<Release> {
        let keys = self.listing.keys();
        let of_platform =
            keys.iter().rev().filter(|(version, it)| it == platform && Some(*version) >= self.floor);
        of_platform
            .filter_map(|(version, platform)| self.listing.release(*version, platform).ok())
            .find(|release| release.about.channel == channel)
    }

    /// All releases, the oldest first, without those that are not what their names say.
    pub fn releases(&self) -> impl Iterator<Item = Release> {
        self.listing
            .keys()
            .into_iter()
            .filter_map(|(version, platform)| self.listing.release(version, &platform).ok())
    }

    /// The highest floor that this repository or an earlier state of it named: nothing below is installed unasked.
    #[must_use]
    pub fn floor(&self) -> Option<Version> {
        self.floor
    }

    /// Until when the metadata hold, and whose end first.
    #[must_use]
    pub fn expires(&self) -> (Timestamp, Role) {
        self.expires
    }

    /// Where a remembered state that could not be read was moved, if that happened: the protection against older metadata
    /// began anew.
    #[must_use]
    pub fn damaged(&self) -> Option<&Path> {
        self.damaged.as_deref()
    }

    /// A listed file of at most [`crate::FILES_BYTES`], verified.
    ///
    /// # Errors
    /// When it is larger, cannot be read, or is not what was signed.
    pub async fn read(&self, target: &Target) -> Result<Vec<u8>, TrustError> {
        target::read(self.fetch.as_ref(), target).await
    }

    /// The pieces of a listed file from its beginning, cut off at its signed length. The last item is an error unless all of
    /// them together are what was signed. A downloader that resumes takes [`Target`]'s values, and
    /// [`crate::verify_file`] at the end.
    ///
    /// # Errors
    /// When the source cannot be read.
    pub async fn stream(
        &self,
        target: &Target,
    ) -> Result<impl Stream<Item = Result<Bytes, TrustError>> + Send + Sync + use<>, TrustError> {
        target::stream(self.fetch.as_ref(), target).await
    }
}

/// Lets `tough` verify everything but expiry, which it would judge by the host's clock and by a time that it remembers:
/// a clock that was once ahead would then refuse everything for ever.
async fn load(root: &[u8], transport: &Metadata, copy: &Path) -> Result<Repository, TrustError> {
    let (metadata, targets) = Metadata::urls().map_err(TrustError::internal)?;
    let limits = Limits {
        max_root_size: SMALL,
        max_targets_size: TARGETS,
        max_timestamp_size: SMALL,
        max_snapshot_size: SMALL,
        max_root_updates: ROOTS,
    };
    RepositoryLoader::new(&root, metadata, targets)
        .transport(transport.clone())
        .limits(limits)
        .datastore(copy)
        .expiration_enforcement(ExpirationEnforcement::Unsafe)
        .load()
        .await
        .map_err(|err| refused(err, transport))
}

/// Until when everything holds.
fn check_expiry(repository: &Repository, now: Timestamp) -> Result<(Timestamp, Role), TrustError> {
    let all = [
        (repository.root().signed.expires, Role::Root),
        (repository.timestamp().signed.expires, Role::Timestamp),
        (repository.snapshot().signed.expires, Role::Snapshot),
        (repository.targets().signed.expires, Role::Targets),
    ];
    if let Some((since, role)) = all.into_iter().find(|(expires, _)| *expires <= now) {
        return Err(TrustError::Expired { role, since, now });
    }
    let [first, rest @ ..] = all;
    Ok(rest.into_iter().fold(first, std::cmp::min))
}
