//! `.zip`: the end is looked at before the library reads the directory of entries into memory; then every local header has
//! to say what the directory says, and no byte may belong to two entries.

use std::io::{BufReader, Read, Seek, SeekFrom};

use zip::read::ZipReadOptions;
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::{Source, Stop, Visit};
use crate::gate::{Content, Gate, Header};
use crate::path::{PATH_BYTES, shortened, shortened_to};
use crate::path_set::Node;
use crate::refusal::{BadKind, Refusal};

/// What is read from the file at a time, in bytes.
const BUFFER: usize = 128 << 10;
/// The record at the end, without a comment.
const END: usize = 22;
/// What an entry takes in the directory, beside its name: its header, times and owners.
const ENTRY: u64 = 46 + 256;

/// The types of file in the upper half of an entry's attributes, as a Unix has them.
const TYPE: u32 = 0o170_000;

pub(super) fn walk(source: Source<'_>, gate: &mut Gate, visit: &mut Visit<'_>) -> Result<(), Stop> {
    let entries = check_end(source, gate)?;
    let mut zip = ZipArchive::new(BufReader::with_capacity(BUFFER, source)).map_err(refused)?;
    if zip.len() != entries || zip.has_duplicate_names() {
        return Err(layout("names are there twice").into());
    }
    for place in 0..zip.len() {
        check_entry(&zip, place)?;
    }
    if zip.has_overlapping_entries().map_err(refused)? {
        return Err(Refusal::Overlap.into());
    }
    zip.validate_header_consistency().map_err(refused)?;
    for place in 0..zip.len() {
        gate.count()?;
        let options = ZipReadOptions::new().enforce_header_consistency(true);
        let mut entry = zip.by_index_with_options(place, options).map_err(refused)?;
        let name = entry.name_raw().to_owned();
        let node = if name.ends_with(b"/") { Node::Folder } else { Node::File };
        // The library's own mode leaves out the bits that matter here.
        let (size, mode) = (entry.size(), entry.external_attributes() >> 16);
        let admitted = gate.admit(&Header { name: &name, node, size, mode })?;
        let mut content = Content::new(&mut entry, size);
        visit(&admitted, &mut content)?;
        content.finish(&admitted)?;
    }
    Ok(())
}

/// Reads the record at the end: no comment, one disk, no more entries than there may be, the directory right before it.
fn check_end(mut source: Source<'_>, gate: &Gate) -> Result<usize, Refusal> {
    let broken = |err| Refusal::broken("the end of the zip", err);
    let length = source.seek(SeekFrom::End(0)).map_err(broken)?;
    let mut end = [0; END];
    source.seek(SeekFrom::Start(length.saturating_sub(END as u64))).map_err(broken)?;
    source.read_exact(&mut end).map_err(broken)?;
    source.rewind().map_err(broken)?;
    let short = |at: usize| u16::from_le_bytes([end[at], end[at + 1]]);
    let long = |at: usize| u32::from_le_bytes([end[at], end[at + 1], end[at + 2], end[at + 3]]);
    if end[..4] != *b"PK\x05\x06" || short(20) != 0 {
        return Err(layout("the file does not end with the record of a zip's end, without a comment"));
    }
    let (entries, size, start) = (short(10), u64::from(long(12)), u64::from(long(16)));
    if entries == u16::MAX || size == u64::from(u32::MAX) || start == u64::from(u32::MAX) {
        return Err(Refusal::Zip64);
    }
    if short(4) != 0 || short(6) != 0 || short(8) != entries {
        return Err(layout("it is of several disks"));
    }
    let limit = gate.bounds.entries;
    if usize::from(entries) > limit || size > (PATH_BYTES as u64 + ENTRY) * (limit as u64 + 1) {
        return Err(Refusal::TooManyEntries { limit });
    }
    if start + size + END as u64 != length {
        return Err(layout("the directory of entries is not where the end says"));
    }
    Ok(usize::from(entries))
}

/// What can be said of an entry from the directory alone.
fn check_entry<R: Read + Seek>(zip: &ZipArchive<R>, place: usize) -> Result<(), Refusal> {
    let entry = zip.by_index_data(place).map_err(refused)?;
    let name = || shortened(&String::from_utf8_lossy(entry.name_raw()));
    if entry.encrypted() {
        return Err(Refusal::Encrypted { name: name() });
    }
    match entry.compression() {
        CompressionMethod::Stored | CompressionMethod::Deflated => {}
        other => return Err(Refusal::Method { name: name(), method: format!("{other:?}") }),
    }
    let folder = entry.name_raw().ends_with(b"/");
    let kind = match (entry.external_attributes() >> 16) & TYPE {
        0 => return Ok(()),
        0o100_000 if !folder => return Ok(()),
        0o040_000 if folder => return Ok(()),
        0o120_000 => BadKind::SymbolicLink,
        0o020_000 => BadKind::CharacterDevice,
        0o060_000 => BadKind::BlockDevice,
        0o010_000 => BadKind::Fifo,
        0o100_000 | 0o040_000 => BadKind::Contradiction,
        _ => BadKind::Unknown,
    };
    Err(Refusal::Kind { name: name(), kind })
}

fn layout(problem: &str) -> Refusal {
    Refusal::Layout { problem: problem.to_owned() }
}

fn refused(err: ZipError) -> Refusal {
    match err {
        ZipError::Io(err) => Refusal::broken("the zip", err),
        other => Refusal::Layout { problem: shortened_to(300, &other.to_string()) },
    }
}
