//! What keeps batches between whoever sends and the outputs: a file of ours, or a stream of NATS JetStream.

use crate::backlog::{Backlog, BacklogError, Entry, Kept};
use crate::jetstream::{Jetstream, JetstreamError};

/// One of them. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Store {
    /// On the disk of this host.
    Disk(Backlog),
    /// At NATS.
    Stream(Jetstream),
}

/// It failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The disk, or whoever writes it.
    #[error(transparent)]
    Disk(#[from] BacklogError),
    /// NATS, or the way to it.
    #[error(transparent)]
    Stream(#[from] JetstreamError),
}

/// Batches of an output, where they are counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batches {
    /// The output's name.
    pub output: String,
    /// Those that wait for it.
    pub waiting: u64,
    /// Those that it will not see, since the bound was reached.
    pub dropped: u64,
}

impl Store {
    /// Keeps an entry. When this answers `Ok`, it outlives the process.
    ///
    /// # Errors
    /// When it is not kept, or nobody knows.
    pub async fn append(&self, entry: Entry) -> Result<Kept, StoreError> {
        match self {
            Self::Disk(backlog) => Ok(backlog.append(entry).await?),
            Self::Stream(jetstream) => Ok(jetstream.append(entry).await?),
        }
    }

    /// Whether entries can be kept now.
    ///
    /// # Errors
    /// When they cannot.
    pub async fn check(&self) -> Result<(), StoreError> {
        match self {
            Self::Disk(backlog) => Ok(backlog.advance("", 0).await?),
            Self::Stream(jetstream) => Ok(jetstream.check()?),
        }
    }

    /// How many bytes are in it, as far as is known.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Disk(backlog) => backlog.fill().borrow().bytes,
            Self::Stream(jetstream) => jetstream.fill().bytes,
        }
    }

    /// Of these outputs, what a stream counts. A file counts points, which each output tells.
    #[must_use]
    pub fn batches(&self, outputs: &[String]) -> Vec<Batches> {
        let Self::Stream(jetstream) = self else { return Vec::new() };
        let fill = jetstream.fill();
        let one = |output: &String| Batches {
            output: output.clone(),
            waiting: fill.waiting.get(output).copied().unwrap_or_default(),
            dropped: jetstream.dropped(output),
        };
        outputs.iter().map(one).collect()
    }
}
