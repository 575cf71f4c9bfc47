//! Where the bytes of a repository come from.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use tokio_util::io::ReaderStream;
use tough::{Bytes, async_trait};

use crate::names::is_plain;

/// The pieces of a file, in order.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, FetchError>> + Send + Sync>>;

/// A way to the files of a repository. It is not trusted: whatever it gives is bounded and verified by whoever asked.
#[async_trait]
pub trait Fetch: fmt::Debug + Send + Sync {
    /// Opens a file of the repository for reading. `name` is a path below it, `metadata/timestamp.json`; no more than
    /// `most` bytes will be taken, so that a way that knows the length beforehand can refuse at once.
    ///
    /// # Errors
    /// [`FetchError::Missing`] only where the file is known not to be there (HTTP: 404 and 410).
    async fn fetch(&self, name: &str, most: u64) -> Result<ByteStream, FetchError>;
}

/// A file of a repository did not get here.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It is not there.
    #[error("there is no {name} in the repository")]
    Missing {
        /// The file.
        name: String,
    },
    /// It is larger than it may be.
    #[error("{name} is larger than the {most} bytes that it may have")]
    TooLarge {
        /// The file.
        name: String,
        /// The most bytes that would have been taken.
        most: u64,
    },
    /// The source cannot be reached, or broke off.
    #[error("read {name} from the repository")]
    NoWay {
        /// The file.
        name: String,
        /// What the network or the system said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl FetchError {
    /// A source that cannot be reached, for a file.
    pub fn no_way(name: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::NoWay { name: name.into(), source: source.into() }
    }
}

/// A repository in a folder of this host.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Folder {
    /// The repository in a folder, which need not be there yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }
}

#[async_trait]
impl Fetch for Folder {
    async fn fetch(&self, name: &str, most: u64) -> Result<ByteStream, FetchError> {
        let mut path = self.0.clone();
        for part in name.split('/') {
            if !is_plain(part) {
                return Err(FetchError::Missing { name: name.into() });
            }
            path.push(part);
        }
        let failed = |err: io::Error| match err.kind() {
            // A repository that is not there at all is no way, not a missing file.
            io::ErrorKind::NotFound if self.0.is_dir() => FetchError::Missing { name: name.into() },
            _ => FetchError::no_way(name, err),
        };
        let meta = tokio::fs::metadata(&path).await.map_err(failed)?;
        if !meta.is_file() {
            // A pipe would keep the reader waiting.
            return Err(FetchError::no_way(name, format!("{} is no file", path.display())));
        }
        if meta.len() > most {
            return Err(FetchError::TooLarge { name: name.into(), most });
        }
        let file = tokio::fs::File::open(&path).await.map_err(failed)?;
        let name = name.to_owned();
        let pieces = ReaderStream::with_capacity(file, 64 << 10);
        Ok(Box::pin(pieces.map(move |it| it.map_err(|err| FetchError::no_way(&name, err)))))
    }
}

/// Cuts a stream off where it exceeds `most` bytes, with an error.
pub(crate) fn bounded(stream: ByteStream, name: &str, most: u64) -> ByteStream {
    let name = name.to_owned();
    let bounded = stream.scan((0_u64, false), move |(taken, ended), piece| {
        let piece = piece.and_then(|bytes| {
            *taken = taken.saturating_add(bytes.len() as u64);
            if *taken > most { Err(FetchError::TooLarge { name: name.clone(), most }) } else { Ok(bytes) }
        });
        let next = (!*ended).then_some(piece);
        *ended = matches!(next, Some(Err(_)) | None);
        std::future::ready(next)
    });
    Box::pin(bounded)
}
