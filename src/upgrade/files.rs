//! `files.json`: the signed list of every file of a version, and nothing else that is in it.
//!
//! Whoever hands a list in has checked its signature; here it is only held to its shape and its bounds.

use serde::{Deserialize, Serialize};

use crate::digest::Sha512Sum;
use crate::identity::{CommitHash, Identity, IdentityError, Release};
use crate::path::{PathError, RelPath};
use crate::path_set::{Collision, Node, PathSet};

/// The most files of a list.
pub const LIST_FILES: usize = 10_000;
/// The longest text of a list, in bytes: [`LIST_FILES`] with long names.
pub const LIST_BYTES: usize = 8 << 20;

/// The value of `schema`.
const SCHEMA: u32 = 1;

/// A list that is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The text is too long.
    #[error("the list of files has {bytes} bytes: expected at most {LIST_BYTES}")]
    TooLong {
        /// Its size.
        bytes: usize,
    },
    /// The text is no list of files.
    #[error("the list of files cannot be read")]
    Json {
        /// Why.
        #[source]
        err: serde_json::Error,
    },
    /// It is of another version of the format.
    #[error("the list of files is of schema {found}: expected {SCHEMA}")]
    Schema {
        /// Its version.
        found: u32,
    },
    /// It names no build.
    #[error("the package of the list of files cannot be used")]
    Package {
        /// Why.
        #[source]
        err: IdentityError,
    },
    /// A system or a processor is no plain word.
    #[error("{found:?} is no {what}: expected 1 to 32 of a-z, 0-9 and `_`")]
    Platform {
        /// `os` or `arch`.
        what: &'static str,
        /// The text, shortened.
        found: String,
    },
    /// It has too many files, or none.
    #[error("the list has {found} files: expected 1 to {LIST_FILES}")]
    Files {
        /// How many.
        found: usize,
    },
    /// The files together are too large.
    #[error("the files of the list have more than {limit} bytes together")]
    TooLarge {
        /// What is allowed.
        limit: u64,
    },
    /// A path leaves the version's folder.
    #[error("a path of the list cannot be used")]
    Path {
        /// Which, and why.
        #[source]
        err: PathError,
    },
    /// Two paths cannot stand side by side.
    #[error("paths of the list collide")]
    Collision {
        /// Which, and why.
        #[source]
        err: Collision,
    },
    /// A hash is none.
    #[error("the hash of {path} is {found:?}: expected 128 digits of 0-9 and a-f")]
    Hash {
        /// The file.
        path: RelPath,
        /// The text, shortened.
        found: String,
    },
}

/// The permissions of a file of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// 0755.
    #[serde(rename = "0755")]
    Program,
    /// 0644.
    #[serde(rename = "0644")]
    Data,
}

impl Mode {
    /// As the system's calls take it.
    #[must_use]
    pub fn bits(self) -> u32 {
        match self {
            Self::Program => 0o755,
            Self::Data => 0o644,
        }
    }

    /// A file that anyone may execute is a program.
    #[must_use]
    pub fn of_bits(bits: u32) -> Self {
        if bits & 0o111 == 0 { Self::Data } else { Self::Program }
    }
}

/// A file of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedFile {
    /// Relative to the version's folder.
    pub path: RelPath,
    /// In bytes.
    pub size: u64,
    /// Of its content.
    pub sha512: Sha512Sum,
    /// Its permissions.
    pub mode: Mode,
}

/// The files of a version, in the order of their paths; no two of them collide on any system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileList {
    package: Identity,
    os: String,
    arch: String,
    files: Vec<ListedFile>,
}

impl FileList {
    /// Makes a list, in whatever order the files come. Together they may have `most_bytes`.
    ///
    /// # Errors
    /// When a bound is passed, a word is none, or paths collide.
    pub fn new(
        package: Identity,
        os: &str,
        arch: &str,
        mut files: Vec<ListedFile>,
        most_bytes: u64,
    ) -> Result<Self, ListError> {
        if files.is_empty() || files.len() > LIST_FILES {
            return Err(ListError::Files { found: files.len() });
        }
        let total = files.iter().try_fold(0_u64, |sum, file| sum.checked_add(file.size));
        if total.is_none_or(|total| total > most_bytes) {
            return Err(ListError::TooLarge { limit: most_bytes });
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let mut paths = PathSet::default();
        for file in &files {
            paths.insert(&file.path, Node::File).map_err(|err| ListError::Collision { err })?;
        }
        let (os, arch) = (word("os", os)?, word("arch", arch)?);
        Ok(Self { package, os, arch, files })
    }

    /// Reads a `files.json`. Its files together may have `most_bytes`.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(bytes: &[u8], most_bytes: u64) -> Result<Self, ListError> {
        if bytes.len() > LIST_BYTES {
            return Err(ListError::TooLong { bytes: bytes.len() });
        }
        let saved: Saved = serde_json::from_slice(bytes).map_err(|err| ListError::Json { err })?;
        if saved.schema != SCHEMA {
            return Err(ListError::Schema { found: saved.schema });
        }
        let package = saved.package.identity().map_err(|err| ListError::Package { err })?;
        if saved.files.len() > LIST_FILES {
            return Err(ListError::Files { found: saved.files.len() });
        }
        let files = saved.files.into_iter().map(SavedFile::listed).collect::<Result<_, _>>()?;
        Self::new(package, &saved.os, &saved.arch, files, most_bytes)
    }

    /// The text of `files.json`.
    ///
    /// # Errors
    /// Never, for a list; JSON says that it might.
    pub fn to_json(&self) -> Result<Vec<u8>, ListError> {
        let saved = Saved {
            schema: SCHEMA,
            package: SavedPackage {
                version: self.package.version.to_string(),
                snapshot: self.package.snapshot,
                hash: self.package.hash.to_string(),
            },
            os: self.os.clone(),
            arch: self.arch.clone(),
            files: self.files.iter().map(SavedFile::of).collect(),
        };
        let mut bytes = serde_json::to_vec_pretty(&saved).map_err(|err| ListError::Json { err })?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Which build it is.
    #[must_use]
    pub fn package(&self) -> &Identity {
        &self.package
    }

    /// The system it is for, as `linux`.
    #[must_use]
    pub fn os(&self) -> &str {
        &self.os
    }

    /// The processor it is for, as `x86_64`.
    #[must_use]
    pub fn arch(&self) -> &str {
        &self.arch
    }

    /// The files, in the order of their paths.
    #[must_use]
    pub fn files(&self) -> &[ListedFile] {
        &self.files
    }

    /// The place of a path in [`FileList::files`].
    #[must_use]
    pub fn find(&self, path: &RelPath) -> Option<usize> {
        self.files.binary_search_by(|file| file.path.cmp(path)).ok()
    }

    /// The size of all files together, in bytes.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

fn word(what: &'static str, text: &str) -> Result<String, ListError> {
    let plain = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'_';
    if (1..=32).contains(&text.len()) && text.bytes().all(plain) {
        return Ok(text.to_owned());
    }
    Err(ListError::Platform { what, found: crate::path::shortened(text) })
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    schema: u32,
    package: SavedPackage,
    os: String,
    arch: String,
    files: Vec<SavedFile>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedPackage {
    version: String,
    snapshot: bool,
    hash: String,
}

impl SavedPackage {
    fn identity(&self) -> Result<Identity, IdentityError> {
        let release = Release::from_fields(&self.version, self.snapshot)?;
        Ok(Identity::new(release, CommitHash::parse(&self.hash)?))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedFile {
    path: String,
    size: u64,
    sha512: String,
    mode: Mode,
}

impl SavedFile {
    fn listed(self) -> Result<ListedFile, ListError> {
        let path = RelPath::parse(&self.path).map_err(|err| ListError::Path { err })?;
        let Some(sha512) = Sha512Sum::parse(&self.sha512) else {
            return Err(ListError::Hash { path, found: crate::path::shortened(&self.sha512) });
        };
        Ok(ListedFile { path, size: self.size, sha512, mode: self.mode })
    }

    fn of(file: &ListedFile) -> Self {
        let ListedFile { path, size, sha512, mode } = file;
        Self { path: path.to_string(), size: *size, sha512: sha512.to_string(), mode: *mode }
    }
}

#[cfg(test)]
mod tests;
