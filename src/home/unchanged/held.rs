//! The marks of a session that is not committed: bounded in memory, above that in a file without a name.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use super::mark::{MARK_BYTES, Mark};

/// Marks of a session that stay in memory, in bytes: much less than the session's objects take.
const MEMORY_BYTES: usize = 64 << 10;

/// The marks of a session's accepted objects. Dropping it forgets them.
#[derive(Debug, Default)]
pub struct SessionMarks {
    pub(super) sent: Spill,
    pub(super) doubts: Spill,
}

impl SessionMarks {
    pub(super) fn push(&mut self, folder: &Path, mark: Mark, doubtful: bool) -> io::Result<()> {
        if doubtful {
            self.doubts.push(folder, Mark::doubt(mark.key))?;
        }
        if mark.is_doubt() { Ok(()) } else { self.sent.push(folder, mark) }
    }
}

/// Bytes of marks that are given back in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Spill {
    memory: Vec<u8>,
    file: Option<File>,
}

impl Spill {
    pub(super) fn is_empty(&self) -> bool {
        self.memory.is_empty() && self.file.is_none()
    }

    fn push(&mut self, folder: &Path, mark: Mark) -> io::Result<()> {
        self.memory.extend_from_slice(&mark.to_bytes());
        if self.memory.len() + MARK_BYTES > MEMORY_BYTES {
            let file = match &mut self.file {
                Some(file) => file,
                none => none.insert(tempfile::tempfile_in(folder)?),
            };
            file.write_all(&self.memory)?;
            self.memory.clear();
        }
        Ok(())
    }

    /// Gives all marks to `take`, many at a time.
    pub(super) fn drain<E: From<io::Error>>(
        &mut self,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Some(mut file) = self.file.take() {
            file.rewind()?;
            let mut bytes = vec![0; MEMORY_BYTES - MEMORY_BYTES % MARK_BYTES];
            loop {
                let read = fill(&mut file, &mut bytes)?;
                if read == 0 {
                    break;
                }
                take(&bytes[..read])?;
            }
        }
        if !self.memory.is_empty() {
            take(&self.memory)?;
            self.memory.clear();
        }
        Ok(())
    }
}

fn fill(file: &mut File, bytes: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read(&mut bytes[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}
