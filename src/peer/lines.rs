//! Bytes into lines: bounded, and a torn line told from a clean end.

use std::sync::Arc;

use memchr::memchr;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::Lost;
use crate::outline::Outline;
use crate::shared::Shared;

/// What one read takes from the stream at least, where so much is there.
const READ_BYTES: usize = 64 * 1024;

/// A longer line leaves in the memory that it was read into. A shorter one is copied out of it, since more may follow.
const LARGE_BYTES: usize = READ_BYTES / 2;

/// The most that is set aside for a line before it comes, so that a stream of equal batches is never moved while it
/// grows. Longer lines grow by doubling.
const EXPECTED_BYTES: usize = 512 * 1024;

/// The most that is skipped of one line to find its end. Whoever writes more will not come to an end any more.
const SKIPPED_BYTES: usize = 2 << 30;

/// A line of the stream.
#[derive(Debug)]
pub(crate) enum Line {
    /// Without its line feed.
    Whole(Vec<u8>),
    /// It was too long, and is gone.
    Skipped(Skipped),
}

/// What is known of a line that was too long.
#[derive(Debug)]
pub(crate) struct Skipped {
    /// The message without its content: see [`Outline`].
    pub(crate) outline: String,
    /// Bytes of the line without its line feed.
    pub(crate) bytes: usize,
    /// How many it might have had.
    pub(crate) limit: usize,
}

/// The lines of a stream. Each is copied at most once, and large ones never. Of one that is too long nothing but the
/// outline is kept, and none of it once it has passed.
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
    skipped_bytes: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Lines that are no longer than the link allows, not counting the line feed.
    pub(crate) fn new(reader: R, shared: Arc<Shared>) -> Self {
        let skipped_bytes = SKIPPED_BYTES;
        Self { reader, shared, read: Vec::new(), next: 0, searched: 0, ended: false, skipped_bytes }
    }

    /// With another bound for what is skipped of one line.
    #[cfg(test)]
    pub(crate) fn skipping(self, skipped_bytes: usize) -> Self {
        Self { skipped_bytes, ..self }
    }

    /// The memory that what was read takes.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.read.capacity()
    }

    /// The next line that is not blank; `None` at a clean end.
    pub(crate) async fn next(&mut self) -> Result<Option<Line>, Lost> {
        loop {
            let Some(line) = self.any().await? else { return Ok(None) };
            if !matches!(&line, Line::Whole(line) if line.trim_ascii().is_empty()) {
                return Ok(Some(line));
            }
        }
    }

    async fn any(&mut self) -> Result<Option<Line>, Lost> {
        loop {
            let found = self.search();
            let limit = self.shared.line_bytes();
            if self.searched - self.next > limit {
                return self.skip(limit, found).await.map(Some);
            }
            if found {
                return Ok(Some(Line::Whole(self.take())));
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

    /// Goes to the next line feed, or to the end of what was read. Whether there is one.
    fn search(&mut self) -> bool {
        let found = memchr(b'\n', &self.read[self.searched..]);
        self.searched = found.map_or(self.read.len(), |at| self.searched + at);
        found.is_some()
    }

    /// Goes behind the end of a line that is longer than `limit`; `found` says whether the end was read already.
    async fn skip(&mut self, limit: usize, mut found: bool) -> Result<Line, Lost> {
        let (mut outline, mut bytes) = (Outline::default(), 0);
        loop {
            let piece = &self.read[self.next..self.searched];
            bytes += piece.len();
            if !outline.take(piece) || bytes > self.skipped_bytes {
                return Err(Lost::TooLong { limit });
            }
            self.next = self.searched;
            if found {
                self.next += 1;
                self.searched = self.next;
                let outline = outline.into_text().ok_or(Lost::TooLong { limit })?;
                return Ok(Line::Skipped(Skipped { outline, bytes, limit }));
            }
            if self.ended {
                return Err(Lost::Torn { have: bytes });
            }
            self.more().await?;
            found = self.search();
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
