//! What can be wrong with config.json, told all at once.

use std::fmt;
use std::path::PathBuf;

use crate::atomic::FileError;

/// config.json could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigErrors {
    /// There is none: the root is not an agent yet.
    #[error("this root is not enrolled: {} is missing; enroll it with `outrider enroll CODE --backend URL`", path.display())]
    NotEnrolled {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// It could not be read or written.
    #[error(transparent)]
    File(FileError),
    /// It holds what cannot be used.
    #[error("{} cannot be used:{}", path.display(), lines(faults))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong, in the order of the file's fields; at least one.
        faults: Vec<ConfigFault>,
    },
}

impl ConfigErrors {
    /// Whether there is no config.json at all.
    #[must_use]
    pub fn not_enrolled(&self) -> bool {
        matches!(self, Self::NotEnrolled { .. })
    }
}

fn lines(faults: &[ConfigFault]) -> String {
    faults.iter().map(|fault| format!("\n  {fault}")).collect()
}

/// One thing that is wrong. Holds no value that could be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFault {
    /// Where: a JSON pointer, as `/limits/line_bytes`; empty for the file as a whole.
    pub pointer: String,
    /// What was found there.
    pub found: String,
    /// What was expected.
    pub expected: String,
    /// What to do, where that is not plain from the rest.
    pub advice: Option<String>,
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.pointer.is_empty() { "the file" } else { &self.pointer };
        write!(f, "{place}: found {}, expected {}", self.found, self.expected)?;
        match &self.advice {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

impl ConfigFault {
    pub(crate) fn new(pointer: &str, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { pointer: pointer.to_owned(), found: found.into(), expected: expected.into(), advice: None }
    }

    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}
