//! The journal: what is known of the latest attempt, in two slots, of which one is whole at every moment.
//!
//! A record is written to a file of its own, synced, and renamed over the *older* slot; then the folder is synced. So a
//! crash costs at most the step that was being written. What is read is the valid slot of the higher sequence.
//!
//! Where neither slot can be used, the attempt that was armed or on trial is known by the copy that was made of its record
//! when it was armed.

mod crc;
mod text;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{FileError, VersionsError};
use crate::fs::{Fs, Kind, if_there};
use crate::layout::Layout;
use crate::record::Record;
pub(crate) use crc::crc32;
pub(crate) use text::LIMIT;
use text::{BadText, Stored};

/// What the journal says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Journal {
    /// There was no attempt yet.
    Absent,
    /// There was one, and neither slot can be read: what runs is kept.
    Unreadable,
    /// The latest attempt.
    Attempt(Box<Record>),
}

impl Journal {
    /// The record, where there is one.
    #[must_use]
    pub fn record(&self) -> Option<&Record> {
        match self {
            Self::Attempt(record) => Some(record),
            Self::Absent | Self::Unreadable => None,
        }
    }
}

/// A slot that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotFault {
    /// The slot.
    pub path: PathBuf,
    /// What was found in place of a record.
    pub found: String,
}

impl fmt::Display for SlotFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, found } = self;
        write!(f, "read the journal slot {}: expected a record of schema 1, found {found}", path.display())
    }
}

impl std::error::Error for SlotFault {}

/// The journal as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub(crate) journal: Journal,
    /// Slots that are there and cannot be used; where there is none that can, also the copy.
    pub(crate) faults: Vec<SlotFault>,
    /// Of the slots.
    sequences: [Option<u64>; 2],
}

/// Reads both slots.
///
/// A slot that the disk refuses to give is a fault as any other: the other slot may still be good.
pub(crate) fn read(fs: &dyn Fs, layout: &Layout) -> Reading {
    let owner = fs.meta(layout.root()).map_or(0, |it| it.owner);
    let mut faults = Vec::new();
    let slots = layout.slots().map(|path| match read_slot(fs, &path, owner) {
        Ok(slot) => slot,
        Err(found) => {
            faults.push(SlotFault { path, found });
            None
        }
    });
    let sequences = slots.each_ref().map(|it| it.as_ref().map(|it| it.sequence));
    let latest = slots.into_iter().flatten().max_by_key(|it| it.sequence);
    let journal = match latest {
        Some(stored) => Journal::Attempt(Box::new(stored.record)),
        None => without_slots(fs, layout, owner, &mut faults),
    };
    Reading { journal, faults, sequences }
}

/// What the copy says; where there is none, and there are faults, something is lost.
fn without_slots(fs: &dyn Fs, layout: &Layout, owner: u32, faults: &mut Vec<SlotFault>) -> Journal {
    let path = layout.trial();
    match read_slot(fs, &path, owner) {
        Ok(Some(stored)) => return Journal::Attempt(Box::new(stored.record)),
        Ok(None) => {}
        Err(found) => faults.push(SlotFault { path, found }),
    }
    if faults.is_empty() { Journal::Absent } else { Journal::Unreadable }
}

fn read_slot(fs: &dyn Fs, path: &Path, owner: u32) -> Result<Option<Stored>, String> {
    let cannot = |err: io::Error| format!("an error ({err})");
    let Some(meta) = if_there(fs.meta(path)).map_err(cannot)? else { return Ok(None) };
    if meta.kind != Kind::File {
        return Err("no file".into());
    }
    // The superuser may write for the user that owns the root.
    if meta.owner != owner && meta.owner != 0 {
        return Err(format!("a file of the user {} in a root of the user {owner}", meta.owner));
    }
    if meta.is_open_to_others() {
        return Err("a file that others may write to".into());
    }
    let bytes = fs.read(path, LIMIT).map_err(cannot)?;
    text::decode(&bytes).map(Some).map_err(|bad| match bad {
        BadText::Empty => "an empty file".into(),
        BadText::TooLong => format!("more than {LIMIT} bytes"),
        BadText::NotText => "no text".into(),
        BadText::Schema(schema) => format!("the schema {schema:?}"),
        BadText::Checksum => "a wrong checksum".into(),
        BadText::Line(line) => format!("a wrong line {line:?}"),
    })
}

/// Writes a record to the older slot. When this returns it is durable; until then the latest record stays.
pub(crate) fn write(fs: &dyn Fs, layout: &Layout, record: &Record) -> Result<(), VersionsError> {
    let reading = read(fs, layout);
    let [a, b] = reading.sequences;
    let newest = a.max(b);
    let slot = layout.slots()[usize::from(a.is_some() && a == newest)].clone();
    let stored = Stored { sequence: newest.map_or(1, |it| it.saturating_add(1)), record: record.clone() };
    let text = text::encode(&stored);
    if text.len() > LIMIT {
        return Err(VersionsError::TooLong { bytes: text.len(), limit: LIMIT });
    }
    let folder = layout.upgrade();
    fs.create_dir(&folder).map_err(FileError::at("make the folder", &folder))?;
    // With no slot that can be used, both are new: one that comes back would be taken for the later one.
    for fault in reading.faults.iter().filter(|it| newest.is_none() || it.path == slot) {
        set_aside(fs, layout, &fault.path)?;
    }
    let new = slot.with_extension("new");
    fs.write(&new, text.as_bytes()).map_err(FileError::at("write", &new))?;
    fs.rename(&new, &slot).map_err(FileError::at("rename into place", &slot))?;
    fs.sync_dir(&folder).map_err(FileError::at("sync the folder", &folder))?;
    Ok(())
}

/// The text of a record outside of the slots.
pub(crate) fn text_of(record: &Record) -> String {
    text::encode(&Stored { sequence: 0, record: record.clone() })
}

/// The record of such a text; nothing where it is none.
pub(crate) fn record_of(bytes: &[u8]) -> Option<Record> {
    text::decode(bytes).ok().map(|it| it.record)
}

/// Renames the slots that cannot be used to where they are kept: the latest of each.
pub(crate) fn quarantine(fs: &dyn Fs, layout: &Layout) -> Result<(), FileError> {
    for fault in read(fs, layout).faults {
        set_aside(fs, layout, &fault.path)?;
    }
    Ok(())
}

fn set_aside(fs: &dyn Fs, layout: &Layout, path: &Path) -> Result<(), FileError> {
    let folder = layout.failed();
    fs.create_dir(&folder).map_err(FileError::at("make the folder", &folder))?;
    let name = path.file_name().unwrap_or_default().to_owned();
    let to = free_name(fs, &folder.join(name))?;
    fs.rename(path, &to).map_err(FileError::at("set aside", path))?;
    fs.sync_dir(&folder).map_err(FileError::at("sync the folder", &folder))?;
    let upgrade = layout.upgrade();
    fs.sync_dir(&upgrade).map_err(FileError::at("sync the folder", &upgrade))
}

/// Things set aside under one name; the last of them is replaced by later ones, so that the disk is not filled.
const KEPT: u32 = 9;

/// `name.1`, or the first number above that nothing has.
pub(crate) fn free_name(fs: &dyn Fs, name: &Path) -> Result<PathBuf, FileError> {
    let numbered = |number: u32| {
        let mut name = name.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    for number in 1..KEPT {
        let path = numbered(number);
        if if_there(fs.meta(&path)).map_err(FileError::at("look at", &path))?.is_none() {
            return Ok(path);
        }
    }
    Ok(numbered(KEPT))
}

#[cfg(test)]
mod tests;
