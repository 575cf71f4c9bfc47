//! Git's output as tokens, each ended by a NUL, read with bounds.

use std::io::{self, BufRead};

use crate::text::text;

/// The longest name, path, or list of parents, in bytes. Git and file systems stop long before.
const LONGEST_TOKEN: usize = 1 << 20;

/// Git wrote what this program does not understand, or nothing more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ParseError {
    /// The stream broke.
    #[error("reading git's output failed")]
    Read(#[source] io::Error),
    /// The stream ended too early.
    #[error("git's output ended in the middle of {part}")]
    Torn {
        /// What was being read.
        part: &'static str,
    },
    /// The stream holds something else.
    #[error("git's output holds {found:?} where {expected} was expected")]
    Unexpected {
        /// What was found, shortened.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
}

/// An error that shows what was found.
pub(crate) fn unexpected(found: &[u8], expected: &'static str) -> ParseError {
    ParseError::Unexpected { found: text(&found[..found.len().min(80)]), expected }
}

/// Tokens ended by a NUL.
#[derive(Debug)]
pub(crate) struct Tokens<R> {
    input: R,
}

impl<R: BufRead> Tokens<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input }
    }

    /// The next byte, left where it is; nothing at the end.
    pub(crate) fn peek(&mut self) -> Result<Option<u8>, ParseError> {
        loop {
            match self.input.fill_buf() {
                Ok(buffer) => return Ok(buffer.first().copied()),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(ParseError::Read(err)),
            }
        }
    }

    /// Takes a line feed, if one is next: git puts one between the parts of its output.
    pub(crate) fn skip_line_feed(&mut self) -> Result<(), ParseError> {
        if self.peek()? == Some(b'\n') {
            self.input.consume(1);
        }
        Ok(())
    }

    /// The next token: at most `limit` bytes of it, and whether there was more.
    pub(crate) fn next(&mut self, limit: usize, part: &'static str) -> Result<(Vec<u8>, bool), ParseError> {
        let (mut token, mut cut) = (Vec::new(), false);
        loop {
            if self.peek()?.is_none() {
                return Err(ParseError::Torn { part });
            }
            let buffer = self.input.fill_buf().map_err(ParseError::Read)?;
            let end = buffer.iter().position(|&byte| byte == 0);
            let piece = &buffer[..end.unwrap_or(buffer.len())];
            let kept = piece.len().min(limit - token.len());
            token.extend_from_slice(&piece[..kept]);
            cut |= kept < piece.len();
            let taken = piece.len() + usize::from(end.is_some());
            self.input.consume(taken);
            if end.is_some() {
                return Ok((token, cut));
            }
        }
    }

    /// The next token, which must be whole.
    pub(crate) fn whole(&mut self, part: &'static str) -> Result<Vec<u8>, ParseError> {
        match self.next(LONGEST_TOKEN, part)? {
            (token, false) => Ok(token),
            (token, true) => Err(unexpected(&token, "a name of less than 1 MiB")),
        }
    }
}

/// A token that must be the hash of an object.
pub(crate) fn hash(bytes: &[u8]) -> Result<String, ParseError> {
    if matches!(bytes.len(), 40 | 64) && bytes.iter().all(u8::is_ascii_hexdigit) {
        return Ok(text(bytes));
    }
    Err(unexpected(bytes, "a hash of 40 or 64 hexadecimal digits"))
}
