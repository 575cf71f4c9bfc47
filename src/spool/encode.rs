//! Records to gzip members, and files of members back to counts.

use std::io::{self, Read};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
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

/// The one compressor of an export.
#[derive(Debug)]
pub(crate) struct Encoder {
    deflate: Compress,
    out: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new(level: u32) -> Self {
        let deflate = Compress::new_gzip(Compression::new(level.clamp(1, 9)), WINDOW_BITS);
        Self { deflate, out: Vec::with_capacity(OUT_BYTES) }
    }

    /// Compresses pieces to one gzip member, which `sink` gets in chunks.
    pub(crate) fn member<'a>(
        &mut self,
        pieces: impl IntoIterator<Item = &'a [u8]>,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.deflate.reset();
        self.out.clear();
        for mut piece in pieces {
            while !piece.is_empty() {
                let before = self.deflate.total_in();
                self.deflate.compress_vec(piece, &mut self.out, FlushCompress::None)?;
                let taken = self.deflate.total_in() - before;
                piece = usize::try_from(taken).ok().and_then(|it| piece.get(it..)).unwrap_or_default();
                self.flush_if(OUT_ROOM, sink)?;
            }
        }
        while self.deflate.compress_vec(&[], &mut self.out, FlushCompress::Finish)? != Status::StreamEnd {
            self.flush_if(OUT_ROOM, sink)?;
        }
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
    bytes.iter().filter(|&&byte| byte == b'\n').count() as u64
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
