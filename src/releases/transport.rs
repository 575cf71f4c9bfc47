//! A [`Fetch`] as the transport of the crate `tough`, with a limit for each metadata file.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt as _, stream};
use tough::{Transport, TransportError, TransportErrorKind, TransportStream, async_trait};
use url::Url;

use crate::fetch::{Fetch, FetchError, bounded};

/// The most bytes of root.json, timestamp.json and snapshot.json: each names some keys or one file.
pub(crate) const SMALL: u64 = 64 << 10;
/// The most bytes of targets.json: about 8,000 files.
pub(crate) const TARGETS: u64 = 4 << 20;
/// The folder of the metadata, in a repository.
pub(crate) const METADATA: &str = "metadata";
/// Stands for the repository in the URLs that `tough` makes; only their paths are used.
const BASE: &str = "file:///";

/// Takes metadata files by way of a [`Fetch`], and keeps what it said when it failed.
#[derive(Debug, Clone)]
pub(crate) struct Metadata {
    fetch: Arc<dyn Fetch>,
    failed: Arc<Mutex<Option<FetchError>>>,
}

impl Metadata {
    pub(crate) fn of(fetch: Arc<dyn Fetch>) -> Self {
        Self { fetch, failed: Arc::default() }
    }

    /// The URLs of metadata and targets, as `tough` wants them.
    pub(crate) fn urls() -> Result<(Url, Url), url::ParseError> {
        let base = Url::parse(BASE)?;
        Ok((base.join(&format!("{METADATA}/"))?, base.join("targets/")?))
    }

    /// The error that ended the last stream, if one did.
    pub(crate) fn failure(&self) -> Option<FetchError> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[async_trait]
impl Transport for Metadata {
    /// Only a missing file is an error of the call itself: `tough` takes any such error as 'there is no newer root', and
    /// a source that fails for another reason must not be able to hide one.
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let name = url.path().trim_start_matches('/').to_owned();
        let most = most(&name);
        let failed = Arc::clone(&self.failed);
        let keep = move |url: &Url, err: FetchError| {
            let text = err.to_string();
            *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(err);
            TransportError::new_with_cause(TransportErrorKind::Other, url, text)
        };
        match self.fetch.fetch(&name, most).await {
            Ok(pieces) => {
                Ok(Box::pin(bounded(pieces, &name, most).map(move |it| it.map_err(|err| keep(&url, err)))))
            }
            Err(err @ FetchError::Missing { .. }) => {
                let is_root = name.ends_with(".root.json");
                let missing = TransportError::new(TransportErrorKind::FileNotFound, &url);
                if !is_root {
                    drop(keep(&url, err));
                }
                Err(missing)
            }
            Err(err) => {
                let err = keep(&url, err);
                Ok(Box::pin(stream::once(std::future::ready(Err(err)))))
            }
        }
    }
}

/// The most bytes of a metadata file, also where signed metadata claim more.
fn most(name: &str) -> u64 {
    if name.ends_with("targets.json") { TARGETS } else { SMALL }
}
