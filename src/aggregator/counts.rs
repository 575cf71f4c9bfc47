//! What the receiving side counts, since the start.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts that any task may add to.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Batches that were kept, and their points.
    pub(crate) batches: Count,
    pub(crate) points: Count,
    /// Batches that had been kept before.
    pub(crate) repeated: Count,
    /// Batches and calls that were refused for what they are.
    pub(crate) refused: Count,
    /// Batches and calls that could not be kept.
    pub(crate) not_kept: Count,
    /// Streams and calls that are open.
    pub(crate) open: Count,
}

/// One of them.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    pub(crate) fn subtract(&self, number: u64) {
        self.0.fetch_sub(number, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
