//! The seal of a version: one sum over all that is in its folder, by which it is known again.
//!
//! A list of files that was signed says more, and is what a seal is taken beside; but to read it takes a parser and keys,
//! which the launcher is built without. So whoever arms a version, having held it against its list, seals it, and the
//! launcher only has to compare. The version that ran before is sealed then, too, whatever it was installed from.
//!
//! What is summed, for the folder itself and all below it in the order of their paths: the path, what it is, its
//! permissions; of a file its size and content, of a link where it points. Owners and times are left out: a root may be
//! moved to another machine. Large files are summed in pieces, side by side.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::error::FileError;
use crate::fs::{Fs, Kind};
use crate::sha256::{Digest, Sha256};

/// What is summed at a time, in bytes.
const PIECE: u64 = 2 << 20;
/// The most that a folder may hold, in bytes: twice what a package may. Whoever fills it up must not hold up a start.
const MOST_BYTES: u64 = 2 << 30;
/// The most files and folders.
const MOST_ENTRIES: usize = 100_000;
/// More workers gain little, and the machine has other work.
const MOST_WORKERS: usize = 4;

/// The seal of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seal(Digest);

/// As 64 hexadecimal digits.
impl fmt::Display for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|it| write!(f, "{it:02x}"))
    }
}

impl FromStr for Seal {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let digit = |it: u8| match it {
            b'0'..=b'9' => Ok(it - b'0'),
            b'a'..=b'f' => Ok(it - b'a' + 10),
            _ => Err(()),
        };
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return Err(()) };
        let bytes = pairs.iter().map(|[high, low]| Ok(digit(*high)? << 4 | digit(*low)?));
        let bytes: Vec<u8> = bytes.collect::<Result<_, ()>>()?;
        bytes.try_into().map(Self).map_err(|_| ())
    }
}

/// The seals of the two versions of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seals {
    /// Of the version that it came from; nothing where that cannot be read, which is no reason to stay with it.
    pub from: Option<Seal>,
    /// Of the version that it goes to.
    pub to: Seal,
}

/// Whether a version is what it was when it was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Condition {
    /// It is.
    AsSealed,
    /// Something in its folder is not what it was, or cannot be read.
    Changed,
}

/// Takes the seal of a folder.
pub(crate) fn of_folder(fs: &dyn Fs, folder: &Path) -> Result<Seal, FileError> {
    let mut found = Found::default();
    found.walk(fs, folder, &mut Vec::new())?;
    let sums = sum_all(fs, &found.pieces)?;
    let mut sum = Sha256::new();
    sum.update(&found.text);
    sums.iter().for_each(|it| sum.update(it));
    Ok(Seal(sum.finish()))
}

/// A part of a file.
#[derive(Debug)]
struct Piece {
    path: PathBuf,
    from: u64,
    bytes: u64,
}

/// What a folder holds.
#[derive(Debug, Default)]
struct Found {
    /// All but the contents of files, so that no two folders have the same.
    text: Vec<u8>,
    pieces: Vec<Piece>,
    entries: usize,
    bytes: u64,
}

impl Found {
    /// `name` is the path below the folder that is sealed.
    fn walk(&mut self, fs: &dyn Fs, path: &Path, name: &mut Vec<u8>) -> Result<(), FileError> {
        let meta = fs.meta(path).map_err(FileError::at("look at", path))?;
        self.entries += 1;
        self.put(name);
        self.text.push(match meta.kind {
            Kind::Dir => b'd',
            Kind::File => b'f',
            Kind::Link => b'l',
            Kind::Other => b'o',
        });
        // A link has no permissions of its own.
        self.put_number(u64::from(if meta.kind == Kind::Link { 0 } else { meta.mode }));
        match meta.kind {
            Kind::Dir => {
                let names = fs.list(path).map_err(FileError::at("list", path))?;
                self.put_number(names.len() as u64);
                for below in names {
                    let length = name.len();
                    name.push(b'/');
                    name.extend(below.as_encoded_bytes());
                    self.walk(fs, &path.join(&below), name)?;
                    name.truncate(length);
                }
            }
            Kind::File => {
                self.put_number(meta.size);
                self.bytes = self.bytes.saturating_add(meta.size);
                let pieces = (0..meta.size).step_by(usize::try_from(PIECE).unwrap_or(usize::MAX));
                if self.bytes <= MOST_BYTES {
                    self.pieces.extend(pieces.map(|from| Piece {
                        path: path.to_owned(),
                        from,
                        bytes: PIECE.min(meta.size - from),
                    }));
                }
            }
            Kind::Link => {
                let target = fs.read_link(path).map_err(FileError::at("read the link", path))?;
                self.put(target.as_os_str().as_encoded_bytes());
            }
            Kind::Other => {}
        }
        self.check(path)
    }

    fn check(&self, path: &Path) -> Result<(), FileError> {
        if self.entries <= MOST_ENTRIES && self.bytes <= MOST_BYTES {
            return Ok(());
        }
        let (entries, bytes) = (self.entries, self.bytes);
        let found = format!(
            "expected at most {MOST_ENTRIES} files of {MOST_BYTES} bytes in a version, found {entries} of {bytes}"
        );
        Err(FileError::at("seal", path)(io::Error::other(found)))
    }

    fn put(&mut self, bytes: &[u8]) {
        self.put_number(bytes.len() as u64);
        self.text.extend(bytes);
    }

    fn put_number(&mut self, number: u64) {
        self.text.extend(number.to_be_bytes());
    }
}

/// The sum of each piece.
fn sum_all(fs: &dyn Fs, pieces: &[Piece]) -> Result<Vec<Digest>, FileError> {
    let next = AtomicUsize::new(0);
    let take = || {
        let at = next.fetch_add(1, Ordering::Relaxed);
        Some((at, pieces.get(at)?))
    };
    let work = || {
        let mut sums = Vec::new();
        while let Some((at, it)) = take() {
            let sum = fs.sum(&it.path, it.from, it.bytes).map_err(FileError::at("read", &it.path))?;
            sums.push((at, sum));
        }
        Ok(sums)
    };
    let all = thread::scope(|scope| {
        // Where the system gives no thread, this one does the work.
        let spawn = |_| thread::Builder::new().spawn_scoped(scope, work).ok();
        let others: Vec<_> = (1..workers(pieces)).filter_map(spawn).collect();
        let own = work();
        let others =
            others.into_iter().map(|it| it.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        std::iter::once(own).chain(others).collect::<Result<Vec<_>, FileError>>()
    })?;
    let mut all: Vec<_> = all.into_iter().flatten().collect();
    all.sort_by_key(|(at, _)| *at);
    Ok(all.into_iter().map(|(_, sum)| sum).collect())
}

/// One where there is little to read: it is done before another has begun.
fn workers(pieces: &[Piece]) -> usize {
    let large = pieces.iter().filter(|it| it.bytes == PIECE).count();
    let processors = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    large.min(processors).clamp(1, MOST_WORKERS)
}

#[cfg(test)]
#[path = "seal_tests.rs"]
mod tests;
