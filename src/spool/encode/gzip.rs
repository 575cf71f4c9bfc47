//! Gzip members.

use std::io;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use libdeflater::{CompressionLvl, Compressor};

use super::count::{Step, Unpack};
use super::{Chunks, OUT_ROOM, Pack};

/// The window of deflate, as a power of two: the largest, and what every reader takes.
const WINDOW_BITS: u8 = 15;

/// A member of usual size is in memory as a whole: libdeflate compresses it as fast as a stream of zlib-rs does, and to
/// less (level 1, members of 1 MiB of JSON of 500 bytes a record: 145 MB against 208 MB of 501 MB, each in 2.1 s).
pub(super) struct Gzip {
    level: u32,
    block: Compressor,
    /// The stream's compressor, once a member was too large for a block. Nothing while a member is written, and after
    /// one that was not ended: a reset of an unended one leaves bits of it behind (zlib-rs 0.6), which would garble the
    /// next.
    idle: Option<Compress>,
}

impl Gzip {
    pub(super) fn new(level: u32) -> Self {
        let level = level.min(9);
        let block_level = i32::try_from(level).ok().and_then(|it| CompressionLvl::new(it).ok());
        Self { level, block: Compressor::new(block_level.unwrap_or_default()), idle: None }
    }
}

impl Pack for Gzip {
    fn block(&mut self, text: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
        let bound = self.block.gzip_compress_bound(text.len());
        if out.len() < bound {
            out.resize(bound, 0);
        }
        match quick(self.level, text, out) {
            Some(bytes) => Ok(bytes),
            None => self.block.gzip_compress(text, out).map_err(io::Error::other),
        }
    }

    fn stream(&mut self, pieces: &[&[u8]], chunks: &mut Chunks<'_>) -> io::Result<()> {
        let new = || Compress::new_gzip(Compression::new(self.level), WINDOW_BITS);
        let mut deflate = self.idle.take().unwrap_or_else(new);
        for mut piece in pieces.iter().copied() {
            while !piece.is_empty() {
                let before = deflate.total_in();
                deflate.compress_vec(piece, chunks.out, FlushCompress::None)?;
                let taken = deflate.total_in() - before;
                piece = usize::try_from(taken).ok().and_then(|it| piece.get(it..)).unwrap_or_default();
                chunks.flush_below(OUT_ROOM)?;
            }
        }
        while deflate.compress_vec(&[], chunks.out, FlushCompress::Finish)? != Status::StreamEnd {
            chunks.flush_below(OUT_ROOM)?;
        }
        deflate.reset();
        self.idle = Some(deflate);
        Ok(())
    }
}

/// A member by ISA-L, where this was built with it, and at its own level only: its higher ones are no match for
/// libdeflate's in size. Nothing, where it does not fit into libdeflate's bound.
#[cfg(feature = "isal")]
fn quick(level: u32, text: &[u8], out: &mut [u8]) -> Option<usize> {
    (level == 1)
        .then(|| isal::compress_into(text, out, isal::CompressionLevel::One, isal::Codec::Gzip).ok())
        .flatten()
}

#[cfg(not(feature = "isal"))]
fn quick(_: u32, _: &[u8], _: &mut [u8]) -> Option<usize> {
    None
}

/// Reads one member.
#[derive(Debug)]
pub(super) struct Gunzip(Decompress);

impl Gunzip {
    pub(super) fn new() -> Self {
        Self(Decompress::new_gzip(WINDOW_BITS))
    }
}

impl Unpack for Gunzip {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Option<Step> {
        let (before_in, before_out) = (self.0.total_in(), self.0.total_out());
        let status = self.0.decompress(input, output, FlushDecompress::None).ok()?;
        let taken = usize::try_from(self.0.total_in() - before_in).ok()?;
        let made = usize::try_from(self.0.total_out() - before_out).ok()?;
        Some(Step { taken, made, ended: status == Status::StreamEnd })
    }
}
