//! A session: records that become durable together, or not at all.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::encode::lines;
use crate::files::{Stage, check_name};
use crate::growing::Growing;
use crate::pool::Packing;
use crate::shared::Shared;
use crate::{Amount, SpoolError};

/// The first size of a buffer; most sessions of a large export are small.
const FIRST_BUFFER: usize = 4 << 10;

/// The records of one scope. Nobody sees them until [`crate::ExportWriter::commit`]; dropping the session instead removes
/// all it has on disk, as [`Session::rollback`] does.
///
/// **Invariant:** when an append fails, what it was given is not in the session, and everything before it is: it may be
/// repeated, or the session be dropped.
#[derive(Debug)]
pub struct Session {
    pub(crate) shared: Arc<Shared>,
    pub(crate) origin: String,
    pub(crate) model: String,
    /// Lines that are in no file yet.
    pub(crate) buffer: Vec<u8>,
    buffered: u64,
    amount: Amount,
    /// Full buffers that are being compressed, the earliest first; they come behind what the parts hold.
    packing: VecDeque<Full>,
    /// What it has on disk.
    pub(crate) parts: Vec<Part>,
}

/// A full buffer that is being compressed.
#[derive(Debug)]
struct Full {
    amount: Amount,
    /// What it takes, in bytes.
    memory: usize,
    packing: Packing,
}

/// A file of a session.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) number: u64,
    pub(crate) file: Growing,
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>, origin: &str, model: &str) -> Self {
        Self {
            shared,
            origin: origin.into(),
            model: model.into(),
            buffer: Vec::new(),
            buffered: 0,
            amount: Amount::default(),
            packing: VecDeque::new(),
            parts: Vec::new(),
        }
    }

    /// Whose records they are.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Of which model.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// What was appended so far.
    #[must_use]
    pub fn amount(&self) -> Amount {
        self.amount
    }

    /// Whether all it has is its buffer.
    pub(crate) fn is_small(&self) -> bool {
        self.parts.is_empty() && self.packing.is_empty()
    }

    /// Takes one record, given without a line feed.
    ///
    /// # Errors
    /// When the record holds a line feed, when the model cannot be a folder's name, when the spool holds as much as it
    /// may, or when a full buffer could not be written: the disk is full, or it failed.
    pub fn append(&mut self, record: &[u8]) -> Result<(), SpoolError> {
        if record.contains(&b'\n') {
            let (found, expected) = ("holds a line feed", "one line, with line feeds in texts escaped");
            return Err(SpoolError::BadRecord { bytes: record.len(), found, expected });
        }
        self.take(&[record, b"\n"], 1)
    }

    /// Takes records that end with a line feed each; faster than one by one.
    ///
    /// # Errors
    /// When the last does not end with a line feed, otherwise as [`Session::append`].
    pub fn append_lines(&mut self, records: &[u8]) -> Result<(), SpoolError> {
        match records.last() {
            None => Ok(()),
            Some(b'\n') => self.take(&[records], lines(records)),
            Some(_) => {
                let (found, expected) = ("ends without a line feed", "lines, the last ended as well");
                Err(SpoolError::BadRecord { bytes: records.len(), found, expected })
            }
        }
    }

    /// Forgets everything. What cannot be removed now is removed when the export is recovered.
    pub fn rollback(self) {
        drop(self);
    }

    fn take(&mut self, pieces: &[&[u8]], records: u64) -> Result<(), SpoolError> {
        if self.amount.records == 0 {
            check_name("a model", &self.model)?;
        }
        self.shared.admit()?;
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        let limit = self.shared.settings.buffer_bytes;
        let amount = Amount { records, raw_bytes: bytes as u64 };
        if self.shared.is_pressed(self.buffer.len()) {
            self.flush()?;
            self.release_buffer();
        } else if self.buffer.len() + bytes > limit {
            self.spill()?;
        }
        if bytes >= limit {
            self.flush()?;
            self.write_member(amount, &Member::Pieces(pieces))?;
        } else {
            self.reserve(bytes);
            pieces.iter().for_each(|piece| self.buffer.extend_from_slice(piece));
            self.buffered += records;
        }
        self.amount += amount;
        Ok(())
    }

    /// Makes room in the buffer by doubling it up to its bound, and never beyond.
    fn reserve(&mut self, bytes: usize) {
        let (have, need) = (self.buffer.capacity(), self.buffer.len() + bytes);
        if need > have {
            let limit = self.shared.settings.buffer_bytes;
            // One that has just filled a buffer will fill the next; these are few.
            let grown = need.max(FIRST_BUFFER).max(have * 2);
            let wanted = if self.packing.is_empty() { grown } else { limit };
            let size = wanted.min(limit).max(need);
            self.buffer.reserve_exact(size - self.buffer.len());
            self.shared.remember(have, self.buffer.capacity());
        }
    }

    fn release_buffer(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        self.shared.remember(buffer.capacity(), 0);
        self.buffered = 0;
    }

    /// Has the full buffer compressed, and waits for an earlier one where too many are on their way.
    fn spill(&mut self) -> Result<(), SpoolError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        while self.packing.len() > self.shared.settings.threads {
            self.write_packed()?;
        }
        let amount = Amount { records: self.buffered, raw_bytes: self.buffer.len() as u64 };
        let memory = self.buffer.capacity();
        match self.shared.pool.begin(std::mem::take(&mut self.buffer)) {
            Ok(packing) => {
                self.packing.push_back(Full { amount, memory, packing });
                self.buffered = 0;
                Ok(())
            }
            Err(buffer) => {
                self.buffer = buffer;
                self.flush()
            }
        }
    }

    /// Writes everything to files of the session's own.
    pub(crate) fn flush(&mut self) -> Result<(), SpoolError> {
        while !self.packing.is_empty() {
            self.write_packed()?;
        }
        if self.buffer.is_empty() {
            return Ok(());
        }
        let buffer = std::mem::take(&mut self.buffer);
        let amount = Amount { records: self.buffered, raw_bytes: buffer.len() as u64 };
        let written = self.write_member(amount, &Member::Pieces(&[&buffer]));
        self.buffer = buffer;
        written?;
        self.buffer.clear();
        self.buffered = 0;
        Ok(())
    }

    /// Writes the earliest buffer that is being compressed. It stays when that fails.
    fn write_packed(&mut self) -> Result<(), SpoolError> {
        let Some(Full { amount, memory, mut packing }) = self.packing.pop_front() else { return Ok(()) };
        let written = match packing.wait() {
            Ok(member) => self.write_member(amount, &Member::Packed(member)),
            Err(err) => Err(SpoolError::io("compress records for", &self.shared.dir, 0, err)),
        };
        match written {
            Ok(()) => self.shared.remember(memory, 0),
            Err(_) => self.packing.push_front(Full { amount, memory, packing }),
        }
        written
    }

    fn write_member(&mut self, amount: Amount, member: &Member<'_>) -> Result<(), SpoolError> {
        if !self.parts.last().is_some_and(|part| part.file.is_open()) {
            let (number, file) = self.shared.create(&self.model, Stage::Part)?;
            self.parts.push(Part { number, file });
        }
        let Some((part, earlier)) = self.parts.split_last_mut() else { return Ok(()) };
        match member {
            Member::Pieces(pieces) => self.shared.stage(&mut part.file, amount, pieces.iter().copied())?,
            Member::Packed(member) => self.shared.stage_packed(&mut part.file, amount, member)?,
        }
        if part.file.bytes() + part.file.staged_bytes() >= self.shared.settings.seal_bytes
            && let Some(before) = earlier.last_mut()
        {
            // One sync at a time for a session: a disk that is slower than the compressor holds the session back.
            before.file.sync()?;
        }
        self.shared.accept(&mut part.file);
        if part.file.bytes() >= self.shared.settings.seal_bytes {
            part.file.close(&*self.shared.fs);
        }
        Ok(())
    }
}

/// What is written at once.
enum Member<'a> {
    /// To be compressed.
    Pieces(&'a [&'a [u8]]),
    /// Compressed already.
    Packed(&'a [u8]),
}

impl Drop for Session {
    fn drop(&mut self) {
        self.release_buffer();
        self.packing.drain(..).for_each(|full| self.shared.remember(full.memory, 0));
        for part in self.parts.drain(..) {
            let path = part.file.path().to_owned();
            // Closed first: an open file cannot be removed on Windows.
            drop(part);
            // What stays here is removed when the export is recovered.
            drop(self.shared.fs.remove(&path));
        }
    }
}
