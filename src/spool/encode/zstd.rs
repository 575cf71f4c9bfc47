//! Zstandard frames, each with its size and a checksum of its content.

use std::io;

use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd::zstd_safe::{
    CCtx, CParameter, DCtx, InBuffer, OutBuffer, ResetDirective, SafeResult, compress_bound, get_error_name,
};

use super::count::{Step, Unpack};
use super::{Chunks, OUT_ROOM, Pack};

/// The first bytes of a frame.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// In the byte behind these: the frame ends with a checksum.
const HAS_CHECKSUM: u8 = 0x04;

/// Makes frames.
pub(super) struct Zstd {
    level: i32,
    context: CCtx<'static>,
}

impl Zstd {
    pub(super) fn new(level: u32) -> Self {
        Self { level: i32::try_from(level.clamp(1, 19)).unwrap_or(1), context: CCtx::create() }
    }

    /// Forgets an unended frame, and says what the next is to be like.
    fn begin(&mut self, bytes: usize) -> io::Result<()> {
        done(self.context.reset(ResetDirective::SessionAndParameters))?;
        done(self.context.set_parameter(CParameter::CompressionLevel(self.level)))?;
        done(self.context.set_parameter(CParameter::ChecksumFlag(true)))?;
        // The window, and with it the memory, is then no larger than the text.
        done(self.context.set_pledged_src_size(Some(bytes as u64))).map(drop)
    }
}

impl Pack for Zstd {
    fn block(&mut self, text: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
        self.begin(text.len())?;
        out.clear();
        out.reserve(compress_bound(text.len()));
        done(self.context.compress2(out, text))
    }

    fn stream(&mut self, pieces: &[&[u8]], chunks: &mut Chunks<'_>) -> io::Result<()> {
        self.begin(pieces.iter().map(|it| it.len()).sum())?;
        for piece in pieces {
            let mut input = InBuffer::around(piece);
            while input.pos() < piece.len() {
                self.step(&mut input, chunks, ZSTD_EndDirective::ZSTD_e_continue)?;
                chunks.flush_below(OUT_ROOM)?;
            }
        }
        while self.step(&mut InBuffer::around(&[]), chunks, ZSTD_EndDirective::ZSTD_e_end)? > 0 {
            chunks.flush_below(OUT_ROOM)?;
        }
        Ok(())
    }
}

impl Zstd {
    fn step(
        &mut self,
        input: &mut InBuffer<'_>,
        chunks: &mut Chunks<'_>,
        then: ZSTD_EndDirective,
    ) -> io::Result<usize> {
        let have = chunks.out.len();
        let mut output = OutBuffer::around_pos(chunks.out, have);
        done(self.context.compress_stream2(&mut output, input, then))
    }
}

fn done(result: SafeResult) -> io::Result<usize> {
    result.map_err(|code| io::Error::other(get_error_name(code)))
}

/// Reads one frame, if it is as ours are: a frame without a checksum could be garbled without a sign of it.
pub(super) struct Unzstd {
    context: DCtx<'static>,
    /// The frame's first bytes, as far as they were seen.
    head: Vec<u8>,
}

impl Unzstd {
    pub(super) fn new() -> Self {
        Self { context: DCtx::create(), head: Vec::new() }
    }
}

impl Unpack for Unzstd {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Option<Step> {
        let missing = (MAGIC.len() + 1).saturating_sub(self.head.len());
        let input = if missing > 0 { &input[..input.len().min(missing)] } else { input };
        let (mut from, mut to) = (InBuffer::around(input), OutBuffer::around(output));
        let left = self.context.decompress_stream(&mut to, &mut from).ok()?;
        let (taken, made) = (from.pos(), to.pos());
        if missing > 0 {
            self.head.extend_from_slice(&input[..taken]);
            let flags = self.head.get(MAGIC.len());
            if !self.head.iter().zip(MAGIC).all(|(a, b)| *a == b)
                || flags.is_some_and(|it| it & HAS_CHECKSUM == 0)
            {
                return None;
            }
        }
        Some(Step { taken, made, ended: left == 0 })
    }
}
