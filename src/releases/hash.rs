//! SHA-256 and SHA-512 of files, read in pieces.

use std::fmt::Write as _;
use std::io::{self, Read};
use std::path::Path;

use sha2::Digest;

/// How much of a file is in memory at a time.
const PIECE: usize = 64 << 10;

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The length and hash of a file of at most `most` bytes; a longer one is read no further, and has the length `most + 1`.
pub(crate) fn file<D: Digest>(path: &Path, most: u64) -> io::Result<(u64, Vec<u8>)> {
    let mut file = std::fs::File::open(path)?.take(most.saturating_add(1));
    let (mut digest, mut length) = (D::new(), 0);
    let mut piece = vec![0; PIECE];
    loop {
        let read = match file.read(&mut piece) {
            Ok(0) => return Ok((length, digest.finalize().to_vec())),
            Ok(read) => read,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) => return Err(err),
        };
        length += read as u64;
        digest.update(&piece[..read]);
    }
}
