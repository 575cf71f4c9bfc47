//! Bytes into lines: bounded, and a torn line told from a clean end.

use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

use crate::Lost;

/// What one read takes from the stream: as much as a Linux pipe holds.
const READ_BYTES: usize = 64 * 1024;

/// The most that is set aside for a line before it comes, so that a stream of equal batches is never moved while it
/// grows. Longer lines grow by doubling.
const EXPECTED_BYTES: usize = 512 * 1024;

/// The lines of a stream. Each is copied once, from the read buffer into memory of its own.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    reader: BufReader<R>,
    limit: usize,
    expected: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Lines of at most `limit` bytes, not counting the line feed.
    pub(crate) fn new(reader: R, limit: usize) -> Self {
        Self { reader: BufReader::with_capacity(READ_BYTES, reader), limit, expected: 0 }
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
        let mut line = Vec::with_capacity(self.expected);
        let most = u64::try_from(self.limit).unwrap_or(u64::MAX).saturating_add(1);
        let read = (&mut self.reader).take(most).read_until(b'\n', &mut line).await;
        read.map_err(|error| Lost::Io { doing: "read from", error: Arc::new(error) })?;
        if line.last() == Some(&b'\n') {
            line.pop();
            // Only a line that does not fit into one read has to grow.
            self.expected =
                if line.len() < READ_BYTES / 2 { 0 } else { (line.len() + 1).min(EXPECTED_BYTES) };
            if line.capacity() / 2 > line.len() {
                line.shrink_to_fit();
            }
            return Ok(Some(line));
        }
        if line.len() > self.limit {
            return Err(Lost::TooLong { limit: self.limit });
        }
        // White space after the last line, such as a shell's, is no torn message.
        if line.trim_ascii().is_empty() { Ok(None) } else { Err(Lost::Torn { have: line.len() }) }
    }
}
