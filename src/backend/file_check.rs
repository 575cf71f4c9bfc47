//! What a complete file holds: its hash, and, decompressed, its objects and bytes.
//!
//! **Invariant:** a file is read once, in pieces of fixed size, whatever it decompresses to; what is more than the agent
//! announced is not decompressed. Objects are lines: nothing here knows what an object is. Everything blocks.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use outrider_protocol::action::{Compression, SealedFile};
use sha2::{Digest as _, Sha256};

/// Bytes read, and decompressed, at once.
const PIECE: usize = 256 * 1024;
/// The largest window of a Zstandard frame, as a power of two: 8 MiB, which levels up to 19 stay within. A frame may ask
/// for much more memory than its file has bytes.
const LARGEST_WINDOW: u32 = 23;

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileFault {
    #[error("the file's SHA-256 is {found}, but the agent said {said}; the backend has forgotten the file")]
    Hash { said: String, found: String },
    #[error("the file is not whole {kind}: {err}; the backend has forgotten the file")]
    Broken { kind: &'static str, err: io::Error },
    #[error(
        "the file holds {found}, but the agent said {said_objects} objects in {said_bytes} bytes; the backend has \
         forgotten the file"
    )]
    Count { found: Counted, said_objects: u64, said_bytes: u64 },
    #[error("read the file")]
    Read(#[source] io::Error),
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    objects: u64,
    raw_bytes: u64,
    /// Whether there is more that was not decompressed.
    more: bool,
}

impl std::fmt::Display for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at_least = if self.more { "at least " } else { "" };
        write!(f, "{at_least}{} objects in {at_least}{} bytes", self.objects, self.raw_bytes)
    }
}

/// Compares a file with what its agent said of it.
pub(crate) fn check(path: &Path, said: &SealedFile) -> Result<(), FileFault> {
    let mut file =
        Hashed { inner: File::open(path).map_err(FileFault::Read)?, hasher: Sha256::new(), failed: None };
    let counted = count(&mut file, said.compression, said.raw_bytes);
    let found = file.finish()?;
    if found != said.sha256 {
        return Err(FileFault::Hash { said: said.sha256.clone(), found });
    }
    let kind = match said.compression {
        Compression::Gzip => "gzip",
        Compression::Zstd => "Zstandard",
    };
    let found = counted.map_err(|err| FileFault::Broken { kind, err })?;
    if found.more || found.objects != said.objects || found.raw_bytes != said.raw_bytes {
        let (said_objects, said_bytes) = (said.objects, said.raw_bytes);
        return Err(FileFault::Count { found, said_objects, said_bytes });
    }
    Ok(())
}

/// Counts lines and bytes, to the end or until there are more than `most` bytes.
fn count(file: &mut Hashed, compression: Compression, most: u64) -> io::Result<Counted> {
    let mut plain: Box<dyn Read + '_> = match compression {
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(file)?;
            decoder.window_log_max(LARGEST_WINDOW)?;
            Box::new(decoder)
        }
    };
    let mut piece = vec![0u8; PIECE];
    let mut counted = Counted::default();
    let mut last = b'\n';
    loop {
        let read = match plain.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) => return Err(err),
        };
        counted.raw_bytes += read as u64;
        counted.objects += memchr::memchr_iter(b'\n', &piece[..read]).count() as u64;
        last = piece[read - 1];
        if counted.raw_bytes > most {
            return Ok(Counted { more: true, ..counted });
        }
    }
    // A last line needs no line feed to be an object.
    counted.objects += u64::from(last != b'\n');
    Ok(counted)
}

/// Hashes what is read through it, and keeps apart whether the disk failed or the content is wrong.
struct Hashed {
    inner: File,
    hasher: Sha256,
    failed: Option<io::Error>,
}

impl Hashed {
    /// The hash of the whole file, of which the rest is read now.
    fn finish(mut self) -> Result<String, FileFault> {
        let mut piece = vec![0u8; PIECE];
        while self.failed.is_none() && self.read(&mut piece).is_ok_and(|read| read > 0) {}
        match self.failed {
            Some(err) => Err(FileFault::Read(err)),
            None => Ok(self.hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.inner.read(buffer) {
                Ok(read) => {
                    self.hasher.update(&buffer[..read]);
                    return Ok(read);
                }
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => {
                    let told = io::Error::from(err.kind());
                    self.failed = Some(err);
                    return Err(told);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::harness::{compressed, sealed};

    const LINES: &[u8] = b"{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n";

    /// Checks a file with this content, of which `said` says something.
    fn checked(
        content: &[u8],
        compression: Compression,
        said: impl FnOnce(&mut SealedFile),
    ) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.json");
        std::fs::write(&path, content).unwrap();
        let mut file = SealedFile { compression, ..sealed(&"c1".parse().unwrap(), 1, content) };
        (file.objects, file.raw_bytes) = (3, LINES.len() as u64);
        said(&mut file);
        check(&path, &file).map_err(|fault| fault.to_string())
    }

    #[test]
    fn objects_are_counted_in_both_compressions_and_over_members() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            assert_eq!(checked(&compressed(LINES, compression), compression, |_| {}), Ok(()));
            // Many members, and a last line without its end.
            let (first, rest) = LINES.split_at(11);
            let mut two = compressed(first, compression);
            two.extend(compressed(&rest[..rest.len() - 1], compression));
            let one_less = LINES.len() as u64 - 1;
            assert_eq!(checked(&two, compression, |said| said.raw_bytes = one_less), Ok(()));
        }
    }

    #[test]
    fn a_difference_names_both_numbers() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let content = compressed(LINES, compression);
            let fault = checked(&content, compression, |said| said.objects = 4).unwrap_err();
            assert!(
                fault.contains("holds 3 objects in 27 bytes, but the agent said 4 objects in 27 bytes"),
                "{fault}"
            );
            let fault = checked(&content, compression, |said| said.raw_bytes = 28).unwrap_err();
            assert!(
                fault.contains("3 objects in 27 bytes, but the agent said 3 objects in 28 bytes"),
                "{fault}"
            );
        }
    }

    #[test]
    fn what_is_more_than_was_announced_is_not_decompressed() {
        let bomb = compressed(&vec![b'\n'; 64 << 20], Compression::Zstd);
        assert!(bomb.len() < 100_000);
        let fault = checked(&bomb, Compression::Zstd, |_| {}).unwrap_err();
        let counted = fault.split_once("holds at least ").unwrap().1.split_once(' ').unwrap().0;
        assert!(counted.parse::<usize>().unwrap() <= PIECE, "{fault}");
    }

    #[test]
    fn what_is_cut_short_or_something_else_is_not_whole() {
        for (compression, kind) in [(Compression::Gzip, "gzip"), (Compression::Zstd, "Zstandard")] {
            let whole = compressed(LINES, compression);
            let cut = &whole[..whole.len() - 3];
            for content in [cut, LINES, &[&whole[..], b"more"].concat()] {
                let fault = checked(content, compression, |_| {}).unwrap_err();
                assert!(fault.contains(&format!("is not whole {kind}: ")), "{fault}");
            }
            let fault = checked(cut, compression, |said| said.sha256 = "0".repeat(64)).unwrap_err();
            assert!(fault.contains("SHA-256"), "{fault}");
        }
    }
}
