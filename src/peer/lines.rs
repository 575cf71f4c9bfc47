//! Bytes into lines: bounded, and a torn line told from a clean end.

use std::sync::Arc;

use memchr::memchr;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::Lost;
use crate::shared::Shared;

/// What one read takes from the stream at least, where so much is there.
const READ_BYTES: usize = 64 * 1024;

/// A longer line leaves in the memory that it was read into. A shorter one is copied out of it, since more may follow.
const LARGE_BYTES: usize = READ_BYTES / 2;

/// The most that is set aside for a line before it comes, so that a stream of equal batches is never moved while it
/// grows. Longer lines grow by doubling.
const EXPECTED_BYTES: usize = 512 * 1024;

/// The lines of a stream. Each is copied at most once, and large ones never.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    reader: R,
    /// Says how long a line may be, which may change while one is awaited.
    shared: Arc<Shared>,
    /// What was read. From `next` on it belongs to no line that was given away.
    read: Vec<u8>,
    next: usize,
    /// Up to here there is no further line feed.
    searched: usize,
    ended: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Lines that are no longer than the link allows, not counting the line feed.
    pub(crate) fn new(reader: R, shared: Arc<Shared>) -> Self {
        Self { reader, shared, read: Vec::new(), next: 0, searched: 0, ended: false }
    }

    /// The next line that is not blank, without its line feed; `None` at a clean end.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, Lost> {
        loop {
            let Some(line) = self.any().await? else { return Ok(None) };
            if !line.trim_ascii().is_empty() {
                return Ok(Some(line));
            }
        }
    }

    async fn any(&mut self) -> Result<Option<Vec<u8>>, Lost> {
        loop {
            let found = memchr(b'\n', &self.read[self.searched..]);
            self.searched = found.map_or(self.read.len(), |at| self.searched + at);
            let limit = self.shared.line_bytes();
            if self.searched - self.next > limit {
                return Err(Lost::TooLong { limit });
            }
            if found.is_some() {
                return Ok(Some(self.take()));
            }
            if self.ended {
                let rest = &self.read[self.next..];
                // White space after the last line, such as a shell's, is no torn message.
                let clean = rest.trim_ascii().is_empty();
                return if clean { Ok(None) } else { Err(Lost::Torn { have: rest.len() }) };
            }
            self.more().await?;
        }
    }

    /// The line that ends at `searched`.
    fn take(&mut self) -> Vec<u8> {
        let (start, end) = (self.next, self.searched);
        self.next = end + 1;
        self.searched = self.next;
        if end - start < LARGE_BYTES || start > 0 {
            return self.read[start..end].to_vec();
        }
        // The next will be as long, most likely.
        let mut rest = Vec::with_capacity(end.min(EXPECTED_BYTES) + READ_BYTES);
        rest.extend_from_slice(&self.read[self.next..]);
        let mut line = std::mem::replace(&mut self.read, rest);
        (self.next, self.searched) = (0, 0);
        line.truncate(end);
        if line.capacity() / 2 > line.len() {
            line.shrink_to_fit();
        }
        line
    }

    /// Reads on.
    async fn more(&mut self) -> Result<(), Lost> {
        if self.next > 0 {
            self.read.drain(..self.next);
            self.searched -= self.next;
            self.next = 0;
        }
        if self.read.is_empty() && self.read.capacity() > EXPECTED_BYTES + READ_BYTES {
            self.read = Vec::new();
        }
        if self.read.capacity() - self.read.len() < READ_BYTES / 2 {
            self.read.reserve(READ_BYTES);
        }
        let read = self.reader.read_buf(&mut self.read).await;
        self.ended = read.map_err(|error| Lost::Io { doing: "read from", error: Arc::new(error) })? == 0;
        Ok(())
    }
}
