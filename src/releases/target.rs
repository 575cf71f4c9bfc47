//! A file that signed metadata list: its name, its length, its hash, and whether bytes are it.

use std::path::Path;

use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use sha2::{Digest as _, Sha256};
use tough::Bytes;

use crate::error::TrustError;
use crate::fetch::{Fetch, bounded};
use crate::files::FileError;
use crate::hash;

/// The most bytes of a list of files, and of any file that is read into memory.
pub const FILES_BYTES: u64 = 4 << 20;

/// A listed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its length, in bytes.
    pub length: u64,
    /// Its SHA-256, as lower-case hexadecimal digits.
    pub sha256: String,
}

impl Target {
    /// Where it lies in a repository: a path that also names its hash, so that it never holds anything else.
    #[must_use]
    pub fn path(&self) -> String {
        format!("targets/{}.{}", self.sha256, self.name)
    }

    fn check(&self, length: u64, sha256: &str) -> Result<(), TrustError> {
        let mismatch = |found, expected| TrustError::Mismatch { what: self.name.clone(), found, expected };
        if length != self.length {
            return Err(mismatch(format!("{length} bytes"), format!("{} bytes", self.length)));
        }
        if sha256 != self.sha256 {
            return Err(mismatch(format!("SHA-256 {sha256}"), format!("SHA-256 {}", self.sha256)));
        }
        Ok(())
    }
}

/// Verifies that a file is a target, reading it once in pieces; blocks while it does.
///
/// # Errors
/// [`TrustError::Mismatch`] with both lengths or both hashes, [`TrustError::Endless`] for a longer file, of which no more is
/// read than the target has.
pub fn verify_file(path: &Path, target: &Target) -> Result<(), TrustError> {
    let (length, sha256) = hash::file::<Sha256>(path, target.length).map_err(FileError::at("read", path))?;
    if length > target.length {
        return Err(endless(target));
    }
    target.check(length, &hash::hex(&sha256))
}

fn endless(target: &Target) -> TrustError {
    TrustError::Endless { what: target.name.clone(), most: format!("{} bytes", target.length) }
}

/// The pieces of a target as they arrive. The last item is an error unless all of them together were the target: what came
/// before is not to be used until then.
pub(crate) async fn stream(
    fetch: &dyn Fetch,
    target: &Target,
) -> Result<impl Stream<Item = Result<Bytes, TrustError>> + Send + Sync + use<>, TrustError> {
    let pieces = fetch.fetch(&target.path(), target.length).await.map_err(TrustError::from)?;
    let pieces = bounded(pieces, &target.name, target.length);
    let state = (pieces, Some((Sha256::new(), 0)), target.clone());
    Ok(futures_util::stream::unfold(state, |(mut pieces, sums, target)| async move {
        let (mut digest, mut length) = sums?;
        match pieces.next().await {
            Some(Ok(piece)) => {
                digest.update(&piece);
                length += piece.len() as u64;
                Some((Ok(piece), (pieces, Some((digest, length)), target)))
            }
            Some(Err(err)) => Some((Err(err.into()), (pieces, None, target))),
            None => {
                let sha256 = hash::hex(&digest.finalize());
                let err = target.check(length, &sha256).err()?;
                Some((Err(err), (pieces, None, target)))
            }
        }
    }))
}

/// A target of at most [`FILES_BYTES`], verified.
pub(crate) async fn read(fetch: &dyn Fetch, target: &Target) -> Result<Vec<u8>, TrustError> {
    if target.length > FILES_BYTES {
        return Err(TrustError::Endless { what: target.name.clone(), most: format!("{FILES_BYTES} bytes") });
    }
    let pieces = stream(fetch, target).await?;
    pieces
        .try_fold(Vec::new(), |mut all, piece| {
            all.extend_from_slice(&piece);
            std::future::ready(Ok(all))
        })
        .await
}
