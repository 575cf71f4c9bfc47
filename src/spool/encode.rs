//! Records to gzip members, and files of members back to counts.

use std::io::{self, Read};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use libdeflater::{CompressionLvl, Compressor};
use sha2::{Digest, Sha256};

use crate::Amount;

/// Compressed bytes that are written and hashed at once: few calls, and still in the processor's cache.
const OUT_BYTES: usize = 256 << 10;
/// The compressor is not called with less room than this for its output.
const OUT_ROOM: usize = 4 << 10;
/// What is read at once when a file is counted.
const READ_BYTES: usize = 64 << 10;
/// The window of deflate, as a power of two: the largest, and what every reader takes.
const WINDOW_BITS: u8 = 15;

/// The most text that is compressed as one block. Larger members, of a single huge record or a crowd of sessions, go
/// through a stream, which needs no room for the whole.
const BLOCK_BYTES: usize = 2 << 20;

/// The compressors of an export. A member of usual size is in memory as a whole: libdeflate compresses it as fast as a
/// stream of zlib-rs does, and to less (level 1, members of 1 MiB of JSON of 500 bytes a record: 145 MB against 208 MB
/// of 501 MB, each in 2.1 s).
pub(crate) struct Encoder {
    level: u32,
    block: Compressor,
    /// The pieces of a member, joined for the block's compressor.
    joined: Vec<u8>,
    /// The stream's compressor, once a member was too large for a block. Nothing while a member is written, and after
    /// one that was not ended: a reset of an unended one leaves bits of it behind (zlib-rs 0.6), which would garble the
    /// next.
    idle: Option<Compress>,
    out: Vec<u8>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("level", &self.level).finish_non_exhaustive()
    }
}

impl Encoder {
    pub(crate) fn new(level: u32) -> Self {
        let level = level.clamp(1, 9);
        let block_level = i32::try_from(level).ok().and_then(|it| CompressionLvl::new(it).ok());
        let block = Compressor::new(block_level.unwrap_or_default());
        Self { level, block, joined: Vec::new(), idle: None, out: Vec::new() }
    }

    /// Compresses pieces to one gzip member, which `sink` gets in chunks.
    pub(crate) fn member<'a>(
        &mut self,
        pieces: impl IntoIterator<Item = &'a [u8]>,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let pieces: Vec<&[u8]> = pieces.into_iter().collect();
        if pieces.iter().map(|it| it.len()).sum::<usize>() > BLOCK_BYTES {
            return self.stream(&pieces, sink);
        }
        match pieces.as_slice() {
            [only] => self.block(only, sink),
            many => {
                let mut joined = std::mem::take(&mut self.joined);
                joined.clear();
                many.iter().for_each(|piece| joined.extend_from_slice(piece));
                let written = self.block(&joined, sink);
                self.joined = joined;
                written
            }
        }
    }

    fn block(&mut self, text: &[u8], sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        self.out.resize(self.block.gzip_compress_bound(text.len()), 0);
        let made = self.block.gzip_compress(text, &mut self.out).map_err(io::Error::other)?;
        let written = self.out[..made].chunks(OUT_BYTES).try_for_each(sink);
        self.out.clear();
        written
    }

    fn stream(&mut self, pieces: &[&[u8]], sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let new = || Compress::new_gzip(Compression::new(self.level), WINDOW_BITS);
        let mut deflate = self.idle.take().unwrap_or_else(new);
        self.out.clear();
        self.out.shrink_to(OUT_BYTES);
        self.out.reserve_exact(OUT_BYTES);
        for mut piece in pieces.iter().copied() {
            while !piece.is_empty() {
                let before = deflate.total_in();
                deflate.compress_vec(piece, &mut self.out, FlushCompress::None)?;
                let taken = deflate.total_in() - before;
                piece = usize::try_from(taken).ok().and_then(|it| piece.get(it..)).unwrap_or_default();
                self.flush_if(OUT_ROOM, sink)?;
            }
        }
        while deflate.compress_vec(&[], &mut self.out, FlushCompress::Finish)? != Status::StreamEnd {
            self.flush_if(OUT_ROOM, sink)?;
        }
        deflate.reset();
        self.idle = Some(deflate);
        self.flush_if(OUT_BYTES, sink)
    }

    /// Hands the output on when there is less room left than `room`.
    fn flush_if(&mut self, room: usize, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        if !self.out.is_empty() && OUT_BYTES.saturating_sub(self.out.len()) < room {
            sink(&self.out)?;
            self.out.clear();
        }
        Ok(())
    }
}

/// How many lines there are.
pub(crate) fn lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// What the whole members at the beginning of a file hold.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counted {
    pub(crate) amount: Amount,
    /// The end of the last whole member.
    pub(crate) bytes: u64,
    /// The state of the hash at that place.
    pub(crate) hash: Sha256,
}

/// Counts the whole members of a file and stops at whatever is none. Memory stays small however large the file is.
pub(crate) fn count(mut file: impl Read) -> io::Result<Counted> {
    let mut input = vec![0; READ_BYTES];
    let mut output = vec![0; READ_BYTES];
    let mut counter = Counter::default();
    loop {
        let have = match file.read(&mut input) {
            Ok(0) => return Ok(counter.whole),
            Ok(have) => have,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) => return Err(err),
        };
        if !counter.take(&input[..have], &mut output) {
            return Ok(counter.whole);
        }
    }
}

/// Counts member by member.
#[derive(Debug, Default)]
struct Counter {
    whole: Counted,
    /// With the member that is being read.
    so_far: Counted,
    member: Option<Decompress>,
}

impl Counter {
    /// Whether the bytes go on in a way that makes sense.
    fn take(&mut self, mut input: &[u8], output: &mut [u8]) -> bool {
        while !input.is_empty() {
            let inflate = self.member.get_or_insert_with(|| Decompress::new_gzip(WINDOW_BITS));
            let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
            let Ok(status) = inflate.decompress(input, output, FlushDecompress::None) else { return false };
            let (taken, made) = (inflate.total_in() - before_in, inflate.total_out() - before_out);
            let (used, rest) = input.split_at(usize::try_from(taken).unwrap_or(0).min(input.len()));
            let text = &output[..usize::try_from(made).unwrap_or(0).min(output.len())];
            self.so_far.hash.update(used);
            self.so_far.bytes += taken;
            self.so_far.amount += Amount { records: lines(text), raw_bytes: made };
            input = rest;
            if status == Status::StreamEnd {
                self.whole = self.so_far.clone();
                self.member = None;
            } else if taken == 0 && made == 0 {
                return false;
            }
        }
        true
    }
}

/// A finished hash as lower-case hex.
pub(crate) fn hex(hash: Sha256) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('?');
    hash.finalize().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(encoder: &mut Encoder, pieces: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut sink = |chunk: &[u8]| {
            bytes.extend_from_slice(chunk);
            Ok(())
        };
        encoder.member(pieces.iter().copied(), &mut sink).unwrap();
        bytes
    }

    fn noise() -> Vec<u8> {
        let mut dice = crate::faulty::Dice::new(1);
        (0..BLOCK_BYTES + 500_000).map(|_| dice.byte(256)).collect()
    }

    #[test]
    fn a_file_cut_at_any_byte_counts_its_whole_members() {
        let mut encoder = Encoder::new(1);
        let first = member(&mut encoder, &[b"{\"a\":1}\n", b"{\"a\":2}\n"]);
        let second = member(&mut encoder, &[b"{\"b\":3}\n"]);
        let whole = [first.as_slice(), &second].concat();
        for end in 0..=whole.len() {
            let counted = count(&whole[..end]).unwrap();
            let (bytes, records) = match end {
                it if it < first.len() => (0, 0),
                it if it < whole.len() => (first.len(), 2),
                _ => (whole.len(), 3),
            };
            assert_eq!((counted.bytes, counted.amount.records), (bytes as u64, records), "cut at {end}");
            assert_eq!(hex(counted.hash), hex(Sha256::new_with_prefix(&whole[..bytes])));
        }
    }

    #[test]
    fn a_damaged_member_and_what_follows_it_is_not_counted() {
        let mut encoder = Encoder::new(1);
        let first = member(&mut encoder, &[b"one\n"]);
        let second = member(&mut encoder, &[b"two\n"]);
        for at in 0..second.len() {
            let mut damaged = [first.as_slice(), &second, &second].concat();
            damaged[first.len() + at] ^= 0x55;
            let counted = count(damaged.as_slice()).unwrap();
            // Some bytes of a header mean nothing; then the member reads as it was written.
            let harmless = counted.bytes == damaged.len() as u64 && counted.amount.records == 3;
            assert!(harmless || counted.bytes == first.len() as u64, "byte {at}: {counted:?}");
            assert_eq!(counted.amount.raw_bytes, counted.amount.records * 4);
        }
    }

    #[test]
    fn a_member_reads_the_same_whichever_way_it_was_made() {
        let text: Vec<u8> = (0..400_000).flat_map(|n| format!("{{\"n\":{n}}}\n").into_bytes()).collect();
        assert!(text.len() > BLOCK_BYTES);
        for cut in [10, BLOCK_BYTES, text.len()] {
            let (head, tail) = text[..cut].split_at(cut / 3);
            let counted = count(member(&mut Encoder::new(1), &[head, tail]).as_slice()).unwrap();
            assert_eq!(counted.amount, Amount { records: lines(&text[..cut]), raw_bytes: cut as u64 });
        }
    }

    #[test]
    fn zeros_behind_the_last_member_are_not_counted() {
        let first = member(&mut Encoder::new(1), &[b"one\n"]);
        let padded = [first.as_slice(), &[0; 5000]].concat();
        assert_eq!(count(padded.as_slice()).unwrap().bytes, first.len() as u64);
    }

    #[test]
    fn an_encoder_is_whole_again_after_its_sink_has_failed() {
        let mut encoder = Encoder::new(1);
        let noise = noise();
        for text in [&noise[..1_000_000], &noise] {
            let failed = encoder.member([text], &mut |_| Err(io::ErrorKind::StorageFull.into()));
            assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
            for after in [&b"one\n"[..], &noise] {
                assert_eq!(member(&mut encoder, &[after]), member(&mut Encoder::new(1), &[after]));
            }
        }
    }

    #[test]
    fn a_large_member_comes_in_bounded_chunks() {
        let noise = noise();
        for text in [&noise[..1_500_000], &noise] {
            let (mut largest, mut total) = (0, 0);
            let mut sink = |chunk: &[u8]| {
                largest = largest.max(chunk.len());
                total += chunk.len();
                Ok(())
            };
            Encoder::new(1).member([text], &mut sink).unwrap();
            assert!(largest <= OUT_BYTES && total > 1_000_000, "{largest} of {total}");
        }
    }
}
