//! The marks of a run of an export that wait for the backend: one file a model, to which batches are appended.
//!
//! A batch is how many marks it holds (u32), the CRC-32 of these 4 bytes and the marks, and the marks. The last batch may
//! be torn by a crash; it and nothing else is then left out. A batch that is wrong before the last is damage.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use outrider_protocol::ids::Model;

use super::mark::{MARK_BYTES, Mark, marks_in};
use super::run::damaged;
use crate::atomic::{self, FileError};
use crate::root::make_private;

/// The end of the name of a file of marks.
pub(super) const ENDING: &str = ".marks";
/// Marks of one batch at most; longer ones are damage.
pub(super) const BATCH_MARKS: usize = 16 << 10;
const HEADER_BYTES: usize = 8;

/// The files of the run that is going on.
#[derive(Debug)]
pub(super) struct MarkFiles {
    folder: PathBuf,
    files: HashMap<Model, MarkFile>,
}

#[derive(Debug)]
struct MarkFile {
    path: PathBuf,
    file: File,
    /// Up to here it is whole.
    length: u64,
    /// Whether its name is durable.
    named: bool,
    /// Whether something must be made durable before the next commit.
    unsynced: bool,
}

impl MarkFiles {
    /// Makes nothing yet.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, files: HashMap::new() }
    }

    /// Appends marks, given as their bytes, in batches; with `sync`, they are made durable by the next
    /// [`MarkFiles::sync`].
    pub(super) fn append(&mut self, model: &Model, marks: &[u8], sync: bool) -> Result<(), FileError> {
        if !self.files.contains_key(model) {
            let file = self.create(model)?;
            self.files.insert(model.clone(), file);
        }
        let Some(file) = self.files.get_mut(model) else { return Ok(()) };
        for batch in marks.chunks(BATCH_MARKS * MARK_BYTES) {
            file.append(batch)?;
        }
        file.unsynced |= sync;
        Ok(())
    }

    /// Makes durable what was appended for that.
    pub(super) fn sync(&mut self) -> Result<(), FileError> {
        let folder = &self.folder;
        self.files.values_mut().filter(|file| file.unsynced).try_for_each(|file| file.sync(folder))
    }

    fn create(&self, model: &Model) -> Result<MarkFile, FileError> {
        make_private(&self.folder).map_err(FileError::at("make the folder", &self.folder))?;
        let path = self.folder.join(format!("{model}{ENDING}"));
        let file = atomic::open_private(&path).map_err(FileError::at("open", &path))?;
        Ok(MarkFile { path, file, length: 0, named: false, unsynced: false })
    }
}

impl MarkFile {
    fn append(&mut self, marks: &[u8]) -> Result<(), FileError> {
        let count = u32::try_from(marks.len() / MARK_BYTES).unwrap_or_default().to_be_bytes();
        let mut batch = Vec::with_capacity(HEADER_BYTES + marks.len());
        batch.extend_from_slice(&count);
        batch.extend_from_slice(&checksum(&count, marks).to_be_bytes());
        batch.extend_from_slice(marks);
        if let Err(err) = self.file.write_all(&batch) {
            // What comes after half a batch could not be read.
            let cut = self.file.set_len(self.length).and_then(|()| self.seek_to_end());
            let err = cut.err().unwrap_or(err);
            return Err(FileError::at("write", &self.path)(err));
        }
        self.length += batch.len() as u64;
        Ok(())
    }

    fn seek_to_end(&mut self) -> io::Result<()> {
        io::Seek::seek(&mut self.file, io::SeekFrom::Start(self.length)).map(drop)
    }

    fn sync(&mut self, folder: &Path) -> Result<(), FileError> {
        self.file.sync_data().map_err(FileError::at("sync", &self.path))?;
        if !self.named {
            // The file, its folder, and the folder of folders.
            for folder in folder.ancestors().take(3) {
                atomic::sync_folder(folder)?;
            }
            self.named = true;
        }
        self.unsynced = false;
        Ok(())
    }
}

fn checksum(count: &[u8; 4], marks: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(count);
    sum.update(marks);
    sum.finalize()
}

/// Gives the marks of a file to `take`, batch by batch, in the order in which they were appended.
pub(super) fn read(
    path: &Path,
    take: &mut dyn FnMut(Mark) -> Result<(), FileError>,
) -> Result<(), FileError> {
    let failed = |err| FileError::at("read", path)(err);
    let file = File::open(path).map_err(failed)?;
    let mut left = file.metadata().map_err(failed)?.len();
    let mut file = BufReader::with_capacity(256 << 10, file);
    let mut marks = Vec::new();
    while left > 0 {
        match batch(&mut file, &mut left, &mut marks).map_err(failed)? {
            Batch::Whole => marks_in(&marks).try_for_each(&mut *take)?,
            Batch::Torn if left == 0 => return Ok(()),
            Batch::Torn => return Err(failed(damaged("the checksum of a batch of marks is wrong"))),
        }
    }
    Ok(())
}

enum Batch {
    Whole,
    Torn,
}

/// Reads a batch; `left` is what is left of the file.
fn batch(file: &mut impl Read, left: &mut u64, marks: &mut Vec<u8>) -> io::Result<Batch> {
    let mut header = [0; HEADER_BYTES];
    if *left < HEADER_BYTES as u64 {
        *left = 0;
        return Ok(Batch::Torn);
    }
    file.read_exact(&mut header)?;
    *left -= HEADER_BYTES as u64;
    let (mut count, mut sum) = ([0; 4], [0; 4]);
    count.copy_from_slice(&header[..4]);
    sum.copy_from_slice(&header[4..]);
    let marks_here = u32::from_be_bytes(count) as usize;
    let bytes = marks_here.saturating_mul(MARK_BYTES);
    if bytes as u64 > *left {
        *left = 0;
        return Ok(Batch::Torn);
    }
    if marks_here == 0 || marks_here > BATCH_MARKS {
        return Ok(Batch::Torn);
    }
    marks.resize(bytes, 0);
    file.read_exact(marks)?;
    *left -= bytes as u64;
    Ok(if checksum(&count, marks).to_be_bytes() == sum { Batch::Whole } else { Batch::Torn })
}
