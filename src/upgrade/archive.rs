//! Packages, read twice: [`Archive::inspect`] reads all of one and writes nothing, and [`crate::unpack()`] writes what the
//! signed list names. Both go through the same gate, entry by entry, so that neither believes the other.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use outrider_home::FileError;

use crate::confined::failed;
use crate::files::FileList;
use crate::gate::{Bounds, Entry, Gate};
use crate::identity::CommitHash;
use crate::manifest::{ACTIVE_COMMIT, COMMIT_BYTES, MANIFEST, MANIFEST_BYTES, Manifest, parse_commit};
use crate::mappings::touches;
use crate::path::RelPath;
use crate::path_set::{Node, PathSet};
use crate::refusal::Refusal;

mod tar_gz;
mod zipped;

/// How a package is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `.tar.gz`
    TarGz,
    /// `.zip`
    Zip,
}

impl Format {
    /// The end of a file's name.
    #[must_use]
    pub fn ending(self) -> &'static str {
        match self {
            Self::TarGz => ".tar.gz",
            Self::Zip => ".zip",
        }
    }
}

/// A package that was not taken, or not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file could not be read or written. It says nothing of the package.
    #[error(transparent)]
    File(#[from] FileError),
    /// The package is not one that may be unpacked, and never will be.
    #[error("the package {} is refused", archive.display())]
    Refused {
        /// The package.
        archive: PathBuf,
        /// Why.
        #[source]
        why: Refusal,
    },
}

/// Why a walk through an archive ended early; the archive adds its name.
#[derive(Debug)]
pub(crate) enum Stop {
    File(FileError),
    Refused(Refusal),
}

impl From<FileError> for Stop {
    fn from(err: FileError) -> Self {
        Self::File(err)
    }
}

impl<T: Into<Refusal>> From<T> for Stop {
    fn from(why: T) -> Self {
        Self::Refused(why.into())
    }
}

/// The file of an archive. What the system cannot read is kept, since it is no fault of the package, whatever a library
/// makes of it on the way.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    file: &'a File,
    trouble: &'a RefCell<Option<io::Error>>,
}

impl Source<'_> {
    fn kept<T>(&self, outcome: io::Result<T>) -> io::Result<T> {
        outcome.inspect_err(|err| {
            // Other errors, as a seek to before the start, come of what the archive says.
            if let Some(code) = err.raw_os_error().filter(|_| err.kind() != io::ErrorKind::InvalidInput) {
                self.trouble.replace(Some(io::Error::from_raw_os_error(code)));
            }
        })
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut file = self.file;
        self.kept(file.read(buffer))
    }
}

impl Seek for Source<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let mut file = self.file;
        self.kept(file.seek(to))
    }
}

/// What is done with each entry that the gate let through. It may leave some of the content unread.
pub(crate) type Visit<'a> = dyn FnMut(&Entry, &mut dyn Read) -> Result<(), Stop> + 'a;

/// An open package.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    file: File,
    format: Format,
}

/// What was found in a package that may be unpacked.
#[derive(Debug)]
pub struct Plan {
    /// What the package says of itself.
    pub manifest: Manifest,
    /// Where the version's folder would go by the package's mappings, relative to the root.
    pub target_home: RelPath,
    /// The listed files by their names in the archive: each one's place in the list.
    pub(crate) files: HashMap<RelPath, usize>,
    /// How far an archive of this list may go.
    pub(crate) bounds: Bounds,
}

impl Archive {
    /// Opens a package; its first bytes tell the format.
    ///
    /// # Errors
    /// When it cannot be read, or is neither.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        let mut file = File::open(path).map_err(failed("open", path))?;
        let mut start = Vec::new();
        Read::by_ref(&mut file).take(4).read_to_end(&mut start).map_err(failed("read", path))?;
        let format = match start[..] {
            [0x1f, 0x8b, ..] => Format::TarGz,
            [b'P', b'K', 3, 4] | [b'P', b'K', 5, 6] => Format::Zip,
            _ => return Err(ArchiveError::Refused { archive: path.to_owned(), why: Refusal::Format }),
        };
        Ok(Self { path: path.to_owned(), file, format })
    }

    /// How it is packed.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads all of the package and writes nothing. Each name, kind and size is looked at, and every listed file is
    /// there with its listed size; hashes are compared when it is unpacked. `running` is the folder of the running
    /// version, relative to the root.
    ///
    /// A package without a manifest takes its release from the list.
    ///
    /// # Errors
    /// The first thing for which the package is refused.
    pub fn inspect(&mut self, list: &FileList, running: Option<&RelPath>) -> Result<Plan, ArchiveError> {
        let bounds = Bounds::of(list);
        let mut contents = Contents::default();
        self.walk(bounds, &mut |entry, data| contents.take(entry, data))?;
        contents.plan(list, running, bounds).map_err(|why| self.refused(why))
    }

    /// Goes through all entries, in their order.
    pub(crate) fn walk(&mut self, bounds: Bounds, visit: &mut Visit<'_>) -> Result<(), ArchiveError> {
        self.file.rewind().map_err(failed("rewind", &self.path))?;
        let mut gate = Gate::new(bounds);
        let trouble = RefCell::new(None);
        let source = Source { file: &self.file, trouble: &trouble };
        let went = match self.format {
            Format::TarGz => tar_gz::walk(source, &mut gate, visit),
            Format::Zip => zipped::walk(source, &mut gate, visit),
        };
        went.map_err(|stop| match (stop, trouble.take()) {
            (Stop::File(err), _) => ArchiveError::File(err),
            (Stop::Refused(_), Some(err)) => ArchiveError::File(failed("read", &self.path)(err)),
            (Stop::Refused(why), None) => self.refused(why),
        })
    }

    pub(crate) fn refused(&self, why: Refusal) -> ArchiveError {
        ArchiveError::Refused { archive: self.path.clone(), why }
    }
}

/// What the first reading collects.
#[derive(Debug, Default)]
struct Contents {
    /// The first segment of every name.
    top: Option<RelPath>,
    /// The files with their sizes: the name in the archive, and below the top folder.
    files: Vec<(RelPath, RelPath, u64)>,
    manifest: Option<Vec<u8>>,
    commit: Option<Vec<u8>>,
}

impl Contents {
    fn take(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<(), Stop> {
        let outside = |top: &RelPath| Refusal::OutsideTop { name: entry.name.clone(), top: top.clone() };
        let first = RelPath::parse(entry.name.segments().next().unwrap_or_default())?;
        let top = self.top.get_or_insert(first);
        let below = match (entry.name.strip_prefix(top), entry.node) {
            (Some(Some(below)), _) => below,
            (Some(None), Node::Folder) => return Ok(()),
            (Some(None), Node::File) | (None, _) => return Err(outside(top).into()),
        };
        if entry.node == Node::Folder {
            return Ok(());
        }
        let kept = match below.as_str() {
            MANIFEST => Some((&mut self.manifest, MANIFEST_BYTES)),
            ACTIVE_COMMIT => Some((&mut self.commit, COMMIT_BYTES)),
            _ => None,
        };
        if let Some((kept, limit)) = kept {
            if entry.size > limit {
                return Err(Refusal::TooLong { name: entry.name.clone(), bytes: entry.size, limit }.into());
            }
            let mut bytes = Vec::new();
            data.take(limit).read_to_end(&mut bytes).map_err(|err| Refusal::broken("a file", err))?;
            *kept = Some(bytes);
        }
        self.files.push((entry.name.clone(), below, entry.size));
        Ok(())
    }

    fn plan(self, list: &FileList, running: Option<&RelPath>, bounds: Bounds) -> Result<Plan, Refusal> {
        let commit = parse_commit(&self.commit.ok_or(Refusal::NoCommit)?)?;
        let manifest = match &self.manifest {
            Some(bytes) => Manifest::parse(bytes, running)?,
            None => Manifest::older(list.package().release(), commit.clone())?,
        };
        same_package(&manifest, &commit, list)?;
        let target_home = manifest.target_home()?;
        if running.is_some_and(|running| touches(&target_home, running)) {
            return Err(Refusal::RunningHome { home: target_home });
        }
        check_top(self.top.as_ref(), list)?;
        let mut files = HashMap::new();
        let mut mapped = PathSet::default();
        for (name, below, size) in self.files {
            let to = manifest.mappings.apply(&below)?;
            mapped.insert(&to, Node::File)?;
            let Some(Some(path)) = to.strip_prefix(&target_home) else { continue };
            let Some(place) = list.find(&path) else { continue };
            let listed = list.files()[place].size;
            if size != listed {
                return Err(Refusal::Size { path, found: size, listed });
            }
            files.insert(name, place);
        }
        if files.len() < list.files().len() {
            let there: std::collections::HashSet<_> = files.values().copied().collect();
            let missing = list.files().iter().enumerate().find(|(place, _)| !there.contains(place));
            if let Some((_, file)) = missing {
                return Err(Refusal::Missing { path: file.path.clone() });
            }
        }
        Ok(Plan { manifest, target_home, files, bounds })
    }
}

/// The manifest, the file with the hash, and the list speak of the same build.
fn same_package(manifest: &Manifest, commit: &CommitHash, list: &FileList) -> Result<(), Refusal> {
    if manifest.identity.hash != *commit {
        let (manifest, commit) = (manifest.identity.hash.clone(), commit.clone());
        return Err(Refusal::TwoHashes { manifest, commit });
    }
    if manifest.identity != *list.package() {
        let (found, listed) = (manifest.identity.clone(), list.package().clone());
        return Err(Refusal::OtherPackage { found: Box::new(found), listed: Box::new(listed) });
    }
    Ok(())
}

/// The top folder is `outrider-<version>[-SNAPSHOT]`, with or without `-…` behind it.
fn check_top(top: Option<&RelPath>, list: &FileList) -> Result<(), Refusal> {
    let expected = format!("outrider-{}", list.package().release());
    let found = top.map(RelPath::as_str).unwrap_or_default();
    let rest = found.strip_prefix(&expected);
    if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-')) {
        return Ok(());
    }
    Err(Refusal::Top { found: found.to_owned(), expected })
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
