//! Compressed members, one after the other, back to text: which bytes were taken, what they made, where a member ends.

use std::io::{self, Read};

use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{Decoder, Operation};

/// What is read and made at once, in bytes.
pub(crate) const CHUNK: usize = 128 << 10;
/// The window of deflate, as a power of two: the largest.
const WINDOW_BITS: u8 = 15;

/// How a file is compressed: its name says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// `.json.gz`: members of gzip.
    Gzip,
    /// `.json.zst`: frames of zstd.
    Zstd,
}

impl Packing {
    pub(crate) fn of_ending(ending: &str) -> Option<Self> {
        match ending {
            ".json.gz" => Some(Self::Gzip),
            ".json.zst" => Some(Self::Zstd),
            _ => None,
        }
    }

    pub(crate) fn file_name(self, number: u64) -> String {
        match self {
            Self::Gzip => format!("{number}.json.gz"),
            Self::Zstd => format!("{number}.json.zst"),
        }
    }
}

/// One step.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Step {
    pub(crate) taken: usize,
    pub(crate) made: usize,
    /// A member ends with the bytes that were taken.
    pub(crate) ended: bool,
}

/// The decompressor of a file.
pub(crate) enum Inflate {
    /// None between members. A fresh one for each: it is cheap beside what it checks.
    Gzip(Option<Decompress>),
    /// Begins the next frame by itself.
    Zstd(Decoder<'static>),
}

impl std::fmt::Debug for Inflate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gzip(_) => "Gzip",
            Self::Zstd(_) => "Zstd",
        })
    }
}

impl Inflate {
    pub(crate) fn new(compression: Packing) -> io::Result<Self> {
        Ok(match compression {
            Packing::Gzip => Self::Gzip(None),
            Packing::Zstd => Self::Zstd(Decoder::new()?),
        })
    }

    /// Takes some of `input` and makes some of `output`.
    pub(crate) fn step(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<Step> {
        match self {
            Self::Gzip(member) => {
                let inflate = member.get_or_insert_with(|| Decompress::new_gzip(WINDOW_BITS));
                let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
                let status = inflate.decompress(input, output, FlushDecompress::None)?;
                let size = |now: u64, before: u64| usize::try_from(now - before).unwrap_or(usize::MAX);
                let taken = size(inflate.total_in(), before_in);
                let made = size(inflate.total_out(), before_out);
                let ended = status == Status::StreamEnd;
                if ended {
                    *member = None;
                }
                Ok(Step { taken, made, ended })
            }
            Self::Zstd(decoder) => {
                let status = decoder.run_on_buffers(input, output)?;
                let (taken, made) = (status.bytes_read, status.bytes_written);
                Ok(Step { taken, made, ended: status.remaining == 0 })
            }
        }
    }
}

/// The end of the last whole member of a file, in bytes: everything behind it is torn, or no member.
pub(crate) fn whole(mut file: impl Read, compression: Packing) -> io::Result<u64> {
    let (mut input, mut output) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut inflate = Inflate::new(compression)?;
    let (mut end, mut at) = (0, 0);
    loop {
        let have = match file.read(&mut input) {
            Ok(0) => return Ok(end),
            Ok(have) => have,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) => return Err(err),
        };
        let mut rest = &input[..have];
        loop {
            let Ok(step) = inflate.step(rest, &mut output) else { return Ok(end) };
            rest = &rest[step.taken.min(rest.len())..];
            at += step.taken as u64;
            if step.ended {
                end = at;
            }
            // A full output may leave more of it behind in the decompressor.
            if rest.is_empty() && (step.ended || step.made < output.len()) {
                break;
            }
            if step.taken == 0 && step.made == 0 {
                return Ok(end);
            }
        }
    }
}
