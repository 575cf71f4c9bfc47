//! The records of one file, in runs of whole lines.

use std::fs::File;
use std::io::{self, Read, Take};
use std::path::{Path, PathBuf};

use crate::encode::lines;
use crate::read::Place;
use crate::read::members::{CHUNK, Inflate, Packing, whole};

/// The longest record that is read, in bytes: what the limits of an agent allow, and its line feed.
const LONGEST: usize = (1 << 30) + 1;

/// A file could not be read to its end. What was read before stands.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// An operation failed.
    #[error("{operation} {} at byte {offset}", path.display())]
    Io {
        /// What was tried, as `read`.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What the system said.
        #[source]
        err: io::Error,
    },
    /// It is not what its name says, or was damaged.
    #[error("read {} at byte {offset}: the compressed data is damaged; what follows in this file cannot be read", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How far into the file the decompressor came.
        offset: u64,
        /// What it found.
        #[source]
        err: io::Error,
    },
    /// It ends too early.
    #[error("read {}: it ends at byte {offset}, in the middle of a compressed member", path.display())]
    Torn {
        /// The file.
        path: PathBuf,
        /// Its end.
        offset: u64,
    },
    /// A record has no end.
    #[error("read {} at byte {offset}: found a record longer than {LONGEST} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
    },
    /// There are more or fewer than there should be.
    #[error("read {}: found {found} records, expected {expected}, as the spool's manifest says", path.display())]
    Count {
        /// The file.
        path: PathBuf,
        /// How many it holds.
        found: u64,
        /// How many were written.
        expected: u64,
    },
}

/// The records of a file.
#[derive(Debug)]
pub struct Records {
    path: PathBuf,
    file: Take<File>,
    inflate: Inflate,
    input: Box<[u8]>,
    /// What of `input` is not taken yet.
    rest: std::ops::Range<usize>,
    /// Text; `output[..made]` is of value.
    output: Vec<u8>,
    made: usize,
    /// How much of the text was handed out by the last [`Records::next`].
    given: usize,
    /// Compressed bytes taken.
    offset: u64,
    in_member: bool,
    /// The decompressor may have more text without more input.
    pending: bool,
    growing: bool,
    /// Where the whole members end, of a file that holds more.
    cut: Option<u64>,
    counted: u64,
    expected: Option<u64>,
}

impl Records {
    pub(crate) fn new(
        file: File,
        path: PathBuf,
        packing: Packing,
        place: Place,
        expected: Option<u64>,
    ) -> Result<Self, ReadError> {
        let growing = place == Place::Writing;
        let failed = |operation| {
            let path = path.clone();
            move |err| ReadError::Io { operation, path, offset: 0, err }
        };
        let (mut end, mut cut) = (u64::MAX, None);
        if growing {
            end = whole(&file, packing).map_err(failed("read"))?;
            io::Seek::rewind(&mut &file).map_err(failed("read"))?;
            cut = (file.metadata().map_err(failed("read"))?.len() > end).then_some(end);
        }
        let inflate = Inflate::new(packing).map_err(failed("read"))?;
        Ok(Self {
            path,
            file: file.take(end),
            inflate,
            input: vec![0; CHUNK].into(),
            rest: 0..0,
            output: vec![0; CHUNK],
            made: 0,
            given: 0,
            offset: 0,
            in_member: false,
            pending: false,
            growing,
            cut,
            counted: 0,
            expected,
        })
    }

    /// The file, where it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is being written, and where its last whole member ends if there is something behind it.
    #[must_use]
    pub fn cut(&self) -> Option<u64> {
        self.cut
    }

    /// How many compressed bytes were read.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next records: at least one, each ended by a line feed. None at the end.
    ///
    /// # Errors
    /// When the file cannot be read any further. What was handed out before stands, though that of the last member was not
    /// held against its checksum.
    pub fn next_lines(&mut self) -> Result<Option<&[u8]>, ReadError> {
        self.output.copy_within(self.given..self.made, 0);
        self.made -= self.given;
        self.given = 0;
        loop {
            let before = self.made;
            let ended = self.fill()?;
            let fresh = &self.output[before..self.made];
            if let Some(end) = memchr::memrchr(b'\n', fresh) {
                self.given = before + end + 1;
                break;
            }
            if ended {
                // A last record without its line feed is one that another program wrote; it gets one.
                if self.made == 0 {
                    return self.end().map(|()| None);
                }
                self.make_room(1);
                self.output[self.made] = b'\n';
                self.made += 1;
                self.given = self.made;
                break;
            }
        }
        let records = &self.output[..self.given];
        self.counted += lines(records);
        Ok(Some(records))
    }

    /// Makes more text; whether the file is at its end.
    fn fill(&mut self) -> Result<bool, ReadError> {
        if self.rest.is_empty() && !self.pending {
            let have = loop {
                match self.file.read(&mut self.input) {
                    Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                    Err(err) => return Err(self.io(err)),
                    Ok(have) => break have,
                }
            };
            self.rest = 0..have;
            if have == 0 {
                return self.at_end().map(|()| true);
            }
        }
        if self.made >= LONGEST {
            return Err(ReadError::TooLong { path: self.path.clone(), offset: self.offset });
        }
        self.make_room(CHUNK / 2);
        let room = self.output.len() - self.made;
        let step = self.inflate.step(&self.input[self.rest.clone()], &mut self.output[self.made..]);
        let step = match step {
            Ok(step) if step.taken == 0 && step.made == 0 && !self.pending => {
                return Err(self.damaged(io::Error::other("it neither goes on nor ends")));
            }
            Ok(step) => step,
            Err(err) => return Err(self.damaged(err)),
        };
        self.rest.start += step.taken;
        self.made += step.made;
        self.offset += step.taken as u64;
        self.in_member = !step.ended;
        self.pending = !step.ended && step.made == room;
        Ok(false)
    }

    fn make_room(&mut self, bytes: usize) {
        if self.output.len() - self.made < bytes {
            let larger = (self.output.len() * 2).max(self.made + bytes);
            self.output.resize(larger, 0);
        }
    }

    /// The end of the file: of a growing one, its writer may have taken back what was not committed.
    fn at_end(&mut self) -> Result<(), ReadError> {
        if !self.in_member {
            return Ok(());
        }
        if !self.growing {
            return Err(ReadError::Torn { path: self.path.clone(), offset: self.offset });
        }
        self.cut = Some(self.offset);
        let whole = memchr::memrchr(b'\n', &self.output[..self.made]).map_or(0, |it| it + 1);
        self.made = whole;
        Ok(())
    }

    fn end(&self) -> Result<(), ReadError> {
        match self.expected {
            Some(expected) if expected != self.counted => {
                Err(ReadError::Count { path: self.path.clone(), found: self.counted, expected })
            }
            _ => Ok(()),
        }
    }

    fn io(&self, err: io::Error) -> ReadError {
        ReadError::Io { operation: "read", path: self.path.clone(), offset: self.offset, err }
    }

    fn damaged(&self, err: io::Error) -> ReadError {
        ReadError::Damaged { path: self.path.clone(), offset: self.offset, err }
    }
}
