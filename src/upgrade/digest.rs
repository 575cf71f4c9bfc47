//! SHA-512 of files, in memory that does not grow with them.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::mpsc::sync_channel;
use std::thread;

use sha2::{Digest, Sha512};

/// What is read and written at a time, in bytes.
const BUFFER: usize = 256 << 10;
/// From this many bytes on a thread of its own is worth it.
const LARGE: u64 = 1 << 20;
/// Pieces that wait to be hashed.
const AHEAD: usize = 4;

/// A SHA-512.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha512Sum([u8; 64]);

impl Sha512Sum {
    /// Takes 128 hex digits, in lower case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut sum = [0; 64];
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != sum.len() || !rest.is_empty() {
            return None;
        }
        for (byte, [high, low]) in sum.iter_mut().zip(pairs) {
            *byte = (digit(*high)? << 4) | digit(*low)?;
        }
        Some(Self(sum))
    }
}

fn digit(it: u8) -> Option<u8> {
    match it {
        b'0'..=b'9' => Some(it - b'0'),
        b'a'..=b'f' => Some(it - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Sha512Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha512Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a copy failed: at the end it came from, or at the one it went to.
#[derive(Debug)]
pub(crate) enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// Copies to the end, but no more than `most` bytes and one; tells the size and the hash of what was copied.
pub(crate) fn copy(
    from: &mut dyn Read,
    to: &mut dyn Write,
    most: u64,
    buffer: &mut Vec<u8>,
) -> Result<(u64, Sha512Sum), CopyError> {
    if most >= LARGE {
        return copy_large(from, to, most);
    }
    buffer.resize(BUFFER, 0);
    let mut from = from.take(most.saturating_add(1));
    let mut hash = Sha512::new();
    let mut size = 0;
    loop {
        let read = match from.read(buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) => return Err(CopyError::Read(err)),
        };
        hash.update(&buffer[..read]);
        to.write_all(&buffer[..read]).map_err(CopyError::Write)?;
        size += read as u64;
    }
    Ok((size, Sha512Sum(hash.finalize().into())))
}

/// The same, hashed by a thread of its own meanwhile: that takes as long as it takes to inflate what is hashed.
fn copy_large(from: &mut dyn Read, to: &mut dyn Write, most: u64) -> Result<(u64, Sha512Sum), CopyError> {
    let mut from = from.take(most.saturating_add(1));
    let (full, filled) = sync_channel::<Vec<u8>>(AHEAD);
    let (empty, emptied) = sync_channel::<Vec<u8>>(AHEAD + 2);
    thread::scope(|scope| {
        let hashing = scope.spawn(move || {
            let mut hash = Sha512::new();
            for piece in filled {
                hash.update(&piece);
                // Where nobody reads any more, it is of no use.
                drop(empty.send(piece));
            }
            Sha512Sum(hash.finalize().into())
        });
        let mut size = 0;
        loop {
            let mut piece = emptied.try_recv().unwrap_or_default();
            fill(&mut from, &mut piece).map_err(CopyError::Read)?;
            if piece.is_empty() {
                break;
            }
            to.write_all(&piece).map_err(CopyError::Write)?;
            size += piece.len() as u64;
            if full.send(piece).is_err() {
                break;
            }
        }
        drop(full);
        let sum = hashing.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked));
        Ok((size, sum))
    })
}

/// Reads as much as a piece has room for, or less at the end.
fn fill(from: &mut impl Read, piece: &mut Vec<u8>) -> io::Result<()> {
    // What is in it is written over, so only the first time costs anything.
    piece.resize(BUFFER, 0);
    let mut filled = 0;
    while filled < piece.len() {
        match from.read(&mut piece[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    piece.truncate(filled);
    Ok(())
}

/// Reads to the end, but no more than `most` bytes and one; tells the size and the hash.
pub(crate) fn sum(
    from: &mut dyn Read,
    most: u64,
    buffer: &mut Vec<u8>,
) -> Result<(u64, Sha512Sum), io::Error> {
    copy(from, &mut io::sink(), most, buffer).map_err(|err| match err {
        CopyError::Read(err) | CopyError::Write(err) => err,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_its_text() {
        let (size, found) = sum(&mut &b"abc"[..], 3, &mut Vec::new()).unwrap();
        let text = found.to_string();
        assert_eq!(size, 3);
        assert!(text.starts_with("ddaf35a193617abacc417349ae204131") && text.len() == 128, "{text}");
        assert_eq!(Sha512Sum::parse(&text), Some(found));
        assert_eq!(Sha512Sum::parse(&text.to_uppercase()), None);
        assert_eq!(Sha512Sum::parse(&text[1..]), None);
        assert_eq!(Sha512Sum::parse(&format!("{text}0")), None);
    }

    #[test]
    fn an_endless_reader_is_left() {
        let (size, _) = sum(&mut io::repeat(0), 1000, &mut Vec::new()).unwrap();
        assert_eq!(size, 1001);
        let (size, _) = sum(&mut io::repeat(0), LARGE, &mut Vec::new()).unwrap();
        assert_eq!(size, LARGE + 1);
    }

    #[test]
    fn a_large_copy_is_whole_and_hashed_as_any_other() {
        for size in [0, 1, BUFFER, BUFFER + 1, 7 * BUFFER, (3 << 20) + 17] {
            let bytes: Vec<u8> = (0..=250).cycle().take(size).collect();
            let mut copied = Vec::new();
            let large = copy(&mut &*bytes, &mut copied, u64::MAX, &mut Vec::new()).unwrap();
            assert_eq!(copied, bytes);
            assert_eq!(large, (size as u64, Sha512Sum(Sha512::digest(&bytes).into())));
        }
    }
}
