//! Records to members: a *member* is a gzip member or a Zstandard frame, which holds whole records and a checksum of
//! them. Files of members back to counts: [`count`].

mod count;
mod gzip;
#[cfg(test)]
mod tests;
mod zstd;

use std::io;

pub(crate) use self::count::{Counted, count};
use self::gzip::Gzip;
use self::zstd::Zstd;
use crate::Codec;

/// Compressed bytes that are written and hashed at once: few calls, and still in the processor's cache.
const OUT_BYTES: usize = 256 << 10;
/// The compressor is not called with less room than this for its output.
const OUT_ROOM: usize = 4 << 10;

/// The most text that is compressed as one block. Larger members, of a single huge record or a crowd of sessions, go
/// through a stream, which needs no room for the whole.
pub(crate) const BLOCK_BYTES: usize = 2 << 20;

/// Where a member goes, chunk by chunk.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

/// A compressor. It is whole again for the next member whatever became of the last.
trait Pack: Send {
    /// Makes a member of a text. It begins `out`, which may be longer than the member, and tells how long that is.
    fn block(&mut self, text: &[u8], out: &mut Vec<u8>) -> io::Result<usize>;
    /// Makes a member of pieces, without room for the whole.
    fn stream(&mut self, pieces: &[&[u8]], out: &mut Chunks<'_>) -> io::Result<()>;
}

/// The compressors of an export.
pub(crate) struct Encoder {
    codec: Codec,
    pack: Box<dyn Pack>,
    /// The pieces of a member, joined for the block's compressor.
    joined: Vec<u8>,
    out: Vec<u8>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("codec", &self.codec).finish_non_exhaustive()
    }
}

impl Encoder {
    pub(crate) fn new(codec: Codec) -> Self {
        let pack: Box<dyn Pack> = match codec {
            Codec::Gzip { level } => Box::new(Gzip::new(level)),
            Codec::Zstd { level } => Box::new(Zstd::new(level)),
        };
        Self { codec, pack, joined: Vec::new(), out: Vec::new() }
    }

    /// Compresses pieces to one member, which `sink` gets in chunks.
    pub(crate) fn member<'a>(
        &mut self,
        pieces: impl IntoIterator<Item = &'a [u8]>,
        sink: Sink<'_>,
    ) -> io::Result<()> {
        let pieces: Vec<&[u8]> = pieces.into_iter().collect();
        if pieces.iter().map(|it| it.len()).sum::<usize>() > BLOCK_BYTES {
            return self.stream(&pieces, sink);
        }
        let made = match pieces.as_slice() {
            [only] => self.pack.block(only, &mut self.out),
            many => {
                self.joined.clear();
                many.iter().for_each(|piece| self.joined.extend_from_slice(piece));
                self.pack.block(&self.joined, &mut self.out)
            }
        };
        made.and_then(|bytes| write_out(self.out.get(..bytes).unwrap_or_default(), sink))
    }

    fn stream(&mut self, pieces: &[&[u8]], sink: Sink<'_>) -> io::Result<()> {
        self.out.clear();
        self.out.shrink_to(OUT_BYTES);
        self.out.reserve_exact(OUT_BYTES);
        let mut chunks = Chunks { out: &mut self.out, sink };
        self.pack.stream(pieces, &mut chunks)?;
        chunks.flush_below(OUT_BYTES)
    }
}

/// Hands a member on in chunks.
pub(crate) fn write_out(member: &[u8], sink: Sink<'_>) -> io::Result<()> {
    member.chunks(OUT_BYTES).try_for_each(sink)
}

/// The output of a stream, which is handed on when it is full.
struct Chunks<'a> {
    out: &'a mut Vec<u8>,
    sink: Sink<'a>,
}

impl Chunks<'_> {
    /// Hands the output on when there is less room left than `room`.
    fn flush_below(&mut self, room: usize) -> io::Result<()> {
        if !self.out.is_empty() && OUT_BYTES.saturating_sub(self.out.len()) < room {
            (self.sink)(self.out)?;
            self.out.clear();
        }
        Ok(())
    }
}

/// How many lines there are.
pub(crate) fn lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}
