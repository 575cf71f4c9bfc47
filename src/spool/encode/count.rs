//! What the whole members at the beginning of a file hold.

use std::io::{self, Read};

use super::gzip::Gunzip;
use super::lines;
use super::zstd::Unzstd;
use crate::hash::Hash;
use crate::{Amount, Compression};

/// What is read at once when a file is counted.
const READ_BYTES: usize = 64 << 10;

/// A reader of one member.
pub(super) trait Unpack {
    /// Reads on; nothing when the bytes make no sense.
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Option<Step>;
}

/// How far a reader came.
pub(super) struct Step {
    /// Bytes of the input.
    pub(super) taken: usize,
    /// Bytes of the output.
    pub(super) made: usize,
    /// The member is whole, and its checksum is right.
    pub(super) ended: bool,
}

/// What the whole members at the beginning of a file hold.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counted {
    pub(crate) amount: Amount,
    /// The end of the last whole member.
    pub(crate) bytes: u64,
    /// The state of the hash at that place.
    pub(crate) hash: Hash,
}

/// Counts the whole members of a file and stops at whatever is none. Memory stays small however large the file is.
pub(crate) fn count(mut file: impl Read, compression: Compression) -> io::Result<Counted> {
    let mut input = vec![0; READ_BYTES];
    let mut output = vec![0; READ_BYTES];
    let (whole, so_far) = <(Counted, Counted)>::default();
    let mut counter = Counter { compression, whole, so_far, member: None };
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
struct Counter {
    compression: Compression,
    whole: Counted,
    /// With the member that is being read.
    so_far: Counted,
    member: Option<Box<dyn Unpack>>,
}

impl Counter {
    /// Whether the bytes go on in a way that makes sense.
    fn take(&mut self, mut input: &[u8], output: &mut [u8]) -> bool {
        while !input.is_empty() {
            let compression = self.compression;
            let member = self.member.get_or_insert_with(|| match compression {
                Compression::Gzip => Box::new(Gunzip::new()),
                Compression::Zstd => Box::new(Unzstd::new()),
            });
            let Some(Step { taken, made, ended }) = member.step(input, output) else { return false };
            let (used, rest) = input.split_at(taken.min(input.len()));
            let text = &output[..made.min(output.len())];
            self.so_far.hash.update(used);
            self.so_far.bytes += used.len() as u64;
            self.so_far.amount += Amount { records: lines(text), raw_bytes: text.len() as u64 };
            input = rest;
            if ended {
                self.whole = self.so_far.clone();
                self.member = None;
            } else if taken == 0 && made == 0 {
                return false;
            }
        }
        true
    }
}
