//! A run: marks sorted by their key in a file that never changes.
//!
//! ```text
//! blocks   4096 bytes each: up to 204 marks, zeros, how many marks (u32), CRC-32 of all that
//! index    the first key of each block
//! footer   magic, how many marks (u64), how many blocks (u64), CRC-32 of index and footer; big-endian
//! ```
//!
//! **Invariant:** a file under a run's name was synced whole before it got the name.
//!
//! A lookup is a binary search in the index, which is in memory (0.06 bytes a mark), and one read of a block.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::mark::{KEY_BYTES, Key, MARK_BYTES, Mark, marks_in};
use crate::atomic::{self, FileError};

const BLOCK_BYTES: usize = 4096;
const BLOCK_MARKS: usize = (BLOCK_BYTES - 8) / MARK_BYTES;
const MAGIC: &[u8; 8] = b"unchang1";
const FOOTER_BYTES: usize = 8 + 8 + 8 + 4;
/// How much is written, and read in order, at once.
const STREAM_BYTES: usize = 256 << 10;

/// A run that is open for lookups.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) path: PathBuf,
    file: File,
    index: Vec<[u8; KEY_BYTES]>,
    pub(super) marks: u64,
}

impl Run {
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let file = File::open(&path)?;
        let length = file.metadata()?.len();
        let footer_at = length.checked_sub(FOOTER_BYTES as u64).ok_or_else(|| damaged("it has no footer"))?;
        let mut footer = [0; FOOTER_BYTES];
        read_at(&file, &mut footer, footer_at)?;
        let (marks, blocks) = (number(&footer, 8), number(&footer, 16));
        let index_at = blocks.saturating_mul(BLOCK_BYTES as u64);
        let fits = index_at.checked_add(blocks.saturating_mul(KEY_BYTES as u64)) == Some(footer_at);
        if &footer[..8] != MAGIC || !fits {
            return Err(damaged("its footer is not that of a run"));
        }
        // Not longer than the file.
        let mut bytes = vec![0; usize::try_from(footer_at - index_at).unwrap_or_default()];
        read_at(&file, &mut bytes, index_at)?;
        let (body, sum) = footer.split_at(FOOTER_BYTES - 4);
        bytes.extend_from_slice(body);
        if crc32fast::hash(&bytes).to_be_bytes() != sum {
            return Err(damaged("the checksum of its index is wrong"));
        }
        let index = bytes[..bytes.len() - body.len()].as_chunks::<KEY_BYTES>().0.to_vec();
        Ok(Self { path, file, index, marks })
    }

    /// The mark of an object.
    pub(super) fn find(&self, key: Key) -> io::Result<Option<Mark>> {
        let Some(block) = self.index.partition_point(|first| *first <= key.0).checked_sub(1) else {
            return Ok(None);
        };
        let mut bytes = [0; BLOCK_BYTES];
        let marks = self.block(block, &mut bytes)?;
        let marks = marks.as_chunks::<MARK_BYTES>().0;
        let found = marks.binary_search_by(|mark| mark[..KEY_BYTES].cmp(&key.0));
        Ok(found.ok().map(|at| Mark::from_bytes(&marks[at])))
    }

    fn block<'a>(&self, block: usize, bytes: &'a mut [u8; BLOCK_BYTES]) -> io::Result<&'a [u8]> {
        read_at(&self.file, bytes, block as u64 * BLOCK_BYTES as u64)?;
        checked(bytes)
    }

    /// All marks in order.
    pub(super) fn stream(&self) -> Stream<'_> {
        Stream { run: self, next: 0, waiting: Vec::new().into_iter(), failed: false }
    }
}

/// The marks of a block.
fn checked(bytes: &[u8]) -> io::Result<&[u8]> {
    let (body, sum) = bytes.split_at(BLOCK_BYTES - 4);
    if crc32fast::hash(body).to_be_bytes() != sum {
        return Err(damaged("the checksum of a block is wrong"));
    }
    let mut count = [0; 4];
    count.copy_from_slice(&body[BLOCK_BYTES - 8..]);
    let count = u32::from_be_bytes(count) as usize;
    body.get(..count.saturating_mul(MARK_BYTES)).ok_or_else(|| damaged("a block counts too many marks"))
}

/// The marks of a run in order.
#[derive(Debug)]
pub(super) struct Stream<'a> {
    run: &'a Run,
    next: usize,
    waiting: std::vec::IntoIter<Mark>,
    failed: bool,
}

impl Stream<'_> {
    fn refill(&mut self) -> io::Result<()> {
        let blocks = (self.run.index.len() - self.next).min(STREAM_BYTES / BLOCK_BYTES);
        let mut bytes = vec![0; blocks * BLOCK_BYTES];
        read_at(&self.run.file, &mut bytes, self.next as u64 * BLOCK_BYTES as u64)?;
        let mut marks = Vec::with_capacity(blocks * BLOCK_MARKS);
        for block in bytes.chunks(BLOCK_BYTES) {
            marks.extend(marks_in(checked(block)?));
        }
        self.next += blocks;
        self.waiting = marks.into_iter();
        Ok(())
    }
}

impl Iterator for Stream<'_> {
    type Item = io::Result<Mark>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(mark) = self.waiting.next() {
            return Some(Ok(mark));
        }
        if self.failed || self.next == self.run.index.len() {
            return None;
        }
        if let Err(err) = self.refill() {
            self.failed = true;
            return Some(Err(FileError::at("read", &self.run.path)(err).into()));
        }
        self.waiting.next().map(Ok)
    }
}

/// Writes a run of marks that come in the order of their keys, each key once, and opens it.
pub(super) fn write(path: &Path, marks: impl Iterator<Item = io::Result<Mark>>) -> Result<Run, FileError> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    // Removed when a step fails, and by the next opening when this process is killed.
    let part = tempfile::Builder::new()
        .prefix(super::PART)
        .tempfile_in(folder)
        .map_err(FileError::at("make a temporary file in", folder))?;
    write_to(part.as_file(), marks).map_err(FileError::at("write", path))?;
    part.as_file().sync_all().map_err(FileError::at("sync", path))?;
    part.persist(path).map_err(|failed| FileError::at("rename into place", path)(failed.error))?;
    atomic::sync_folder(folder)?;
    Run::open(path.to_owned()).map_err(FileError::at("open", path))
}

fn write_to(file: &File, marks: impl Iterator<Item = io::Result<Mark>>) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(STREAM_BYTES, file);
    let (mut index, mut total, mut block) = (Vec::new(), 0u64, Vec::with_capacity(BLOCK_BYTES));
    for mark in marks {
        let bytes = mark?.to_bytes();
        if block.is_empty() {
            index.extend_from_slice(&bytes[..KEY_BYTES]);
        }
        block.extend_from_slice(&bytes);
        total += 1;
        if block.len() == BLOCK_MARKS * MARK_BYTES {
            end_block(&mut block, &mut out)?;
        }
    }
    if !block.is_empty() {
        end_block(&mut block, &mut out)?;
    }
    let blocks = (index.len() / KEY_BYTES) as u64;
    for part in [MAGIC.as_slice(), &total.to_be_bytes(), &blocks.to_be_bytes()] {
        index.extend_from_slice(part);
    }
    index.extend_from_slice(&crc32fast::hash(&index).to_be_bytes());
    out.write_all(&index)?;
    out.flush()
}

fn end_block(block: &mut Vec<u8>, out: &mut impl Write) -> io::Result<()> {
    let marks = u32::try_from(block.len() / MARK_BYTES).unwrap_or_default();
    block.resize(BLOCK_BYTES - 8, 0);
    block.extend_from_slice(&marks.to_be_bytes());
    block.extend_from_slice(&crc32fast::hash(block).to_be_bytes());
    out.write_all(block)?;
    block.clear();
    Ok(())
}

pub(super) fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(number)
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at).map_err(cut_short)
}

#[cfg(windows)]
fn read_at(file: &File, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !bytes.is_empty() {
        match file.seek_read(bytes, at)? {
            0 => return Err(cut_short(io::ErrorKind::UnexpectedEof.into())),
            read => {
                bytes = &mut bytes[read..];
                at += read as u64;
            }
        }
    }
    Ok(())
}

fn cut_short(err: io::Error) -> io::Error {
    if err.kind() == io::ErrorKind::UnexpectedEof { damaged("it ends too early") } else { err }
}
