//! The configured repositories, each opened where it is: in place, or as a clone that is brought up to date first.

use std::sync::Arc;

use outrider_integration::{Context, Error, Fault, Retry};

use crate::clones::Clones;
use crate::config::{Config, Entry, Source};
use crate::error::GitError;
use crate::export::Hand;
use crate::git::Repository;
use crate::models::Repo;
use crate::remote::{Told, ask, try_clone};

/// What opens repositories.
#[derive(Debug)]
pub(crate) struct Sources {
    /// None where every repository is read in place.
    clones: Option<Arc<Clones>>,
}

impl Sources {
    /// Takes the clones, where the configuration needs some.
    ///
    /// # Errors
    /// When the cache cannot be used.
    pub(crate) async fn take(hand: &Hand, context: &Context, config: &Config) -> Result<Self, Error> {
        if !config.repositories.iter().any(|it| matches!(it.source, Source::Address(_))) {
            return Ok(Self { clones: None });
        }
        let (cache, limit_mb) = (context.cache_dir(), config.clone_limit_mb());
        let clones = hand.off_thread("the cache", move |stop| Clones::take(&cache, limit_mb, &stop)).await?;
        Ok(Self { clones: Some(Arc::new(clones)) })
    }

    /// Opens a repository.
    ///
    /// # Errors
    /// When it cannot be reached or read.
    pub(crate) async fn open(&self, hand: &Hand, entry: &Entry) -> Result<Repository, Error> {
        let (address, clones) = match (&entry.source, &self.clones) {
            (Source::Address(address), Some(clones)) => (address.clone(), clones.clone()),
            (Source::Path(path), _) => {
                let path = path.clone();
                return hand.off_thread("git rev-parse", move |stop| Repository::open(&path, &stop)).await;
            }
            (Source::Wrong { why, .. }, _) => return Err(Error::source(why.clone())),
            (Source::Address(_), None) => {
                return Err(Error::failed(Fault::Bug, Retry::No, "the cache is not open"));
            }
        };
        // A fetch may take hours; it must only go on saying something.
        let (tick, mut ticks) = tokio::sync::mpsc::channel(1);
        let stop = hand.stop();
        let work = tokio::task::spawn_blocking(move || {
            // A full channel says the same.
            clones.fetched(&address, &stop, &mut || {
                let _full = tick.try_send(());
            })
        });
        while hand.within("git fetch", ticks.recv()).await?.is_some() {}
        match hand.within("git fetch", work).await? {
            Ok(done) => Ok(done?),
            Err(err) => Err(Error::failed(Fault::Bug, Retry::No, "git fetch panicked").caused_by(err)),
        }
    }
}

/// Describes a repository without a clone of it.
///
/// # Errors
/// When it cannot be reached or read.
pub(crate) async fn describe(hand: &Hand, entry: &Entry) -> Result<Repo, Error> {
    let name = entry.name();
    match &entry.source {
        Source::Path(path) => {
            let path = path.clone();
            let describe = move |repository: Repository| {
                let shallow = !repository.shallow()?.is_empty();
                let empty = repository.tips()?.is_empty();
                repository.describe(name, shallow, empty)
            };
            hand.off_thread("git rev-parse", move |stop| describe(Repository::open(&path, &stop)?)).await
        }
        Source::Address(address) => {
            let (url, address) = (address.text().to_owned(), address.clone());
            let told = hand
                .off_thread("git ls-remote", move |stop| {
                    with_scratch(|scratch| ask(&address, scratch, &stop))
                })
                .await?;
            Ok(Repo {
                id: url.clone(),
                name,
                default_branch: told.default_branch().map(str::to_owned),
                remote_url: Some(url),
                bare: true,
                shallow: false,
                empty: told.refs == 0,
                object_format: told.object_format().to_owned(),
            })
        }
        Source::Wrong { why, .. } => Err(Error::source(why.clone())),
    }
}

/// Tries an address: asks for its refs, and clones the tip of its default branch without the contents of files.
///
/// # Errors
/// When it cannot be reached or read, or is empty.
pub(crate) async fn tried(hand: &Hand, entry: &Entry) -> Result<Option<Told>, Error> {
    let Source::Address(address) = &entry.source else { return Ok(None) };
    let address = address.clone();
    let work = move |stop| {
        with_scratch(|scratch| {
            let told = ask(&address, scratch, &stop)?;
            if told.refs == 0 {
                return Err(GitError::EmptyRemote { address: address.text().to_owned() });
            }
            try_clone(&address, scratch, &stop)?;
            Ok(told)
        })
    };
    hand.off_thread("git clone", work).await.map(Some)
}

/// A folder apart from the clones, which an export may be using.
fn with_scratch<T>(work: impl FnOnce(&std::path::Path) -> Result<T, GitError>) -> Result<T, GitError> {
    let folder = tempfile::tempdir().map_err(|err| GitError::File { path: std::env::temp_dir(), err })?;
    work(folder.path())
}
