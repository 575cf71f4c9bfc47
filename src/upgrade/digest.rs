//! SHA-512 of files, in memory that does not grow with them.

use std::fmt;
use std::io::{self, Read, Write};

use sha2::{Digest, Sha512};

/// What is read and written at a time, in bytes.
const BUFFER: usize = 256 << 10;

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
    }
}
