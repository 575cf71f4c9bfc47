//! A version's folder against its list: making the list of a folder, and finding every difference between the two.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;

use outrider_home::FileError;

use crate::confined::{self, Folder, Kind, failed};
use crate::digest;
use crate::files::{FileList, ListError, ListedFile, Mode};
use crate::identity::Identity;
use crate::path::{PathError, PathFault, RelPath};

/// Differences that are told; what comes after them is not looked at.
pub const DIFFERENCES: usize = 100;

/// One way in which a folder is not what its list says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// A listed file is not there.
    #[error("{path} is missing")]
    Missing {
        /// The file.
        path: RelPath,
    },
    /// A file, or a folder that no listed file lies in, that is not listed.
    #[error("{path} is not listed")]
    Unlisted {
        /// The file or folder.
        path: RelPath,
    },
    /// A link or a device, or a file where a folder should be, or the reverse.
    #[error("{path} is {found:?}")]
    Kind {
        /// Where.
        path: RelPath,
        /// What it is.
        found: Kind,
    },
    /// A name that no listed file can have.
    #[error("a name cannot be used")]
    Name {
        /// Which, and why.
        #[source]
        err: PathError,
    },
    /// A file has another size.
    #[error("{path} has {found} bytes or more: expected {expected}")]
    Size {
        /// The file.
        path: RelPath,
        /// In bytes; reading stops one after the expected size.
        found: u64,
        /// In bytes.
        expected: u64,
    },
    /// A file has another content.
    #[error("{path} has another SHA-512 than the listed one")]
    Hash {
        /// The file.
        path: RelPath,
    },
    /// A file has other permissions.
    #[error("{path} has the permissions {found:04o}: expected {expected:04o}")]
    Mode {
        /// The file.
        path: RelPath,
        /// With the bits of setuid, setgid and sticky.
        found: u32,
        /// From the list.
        expected: u32,
    },
}

/// A folder could not be compared, or made into a list.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A file or folder could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The folder is not what its list says.
    #[error("{} is not what its list says: {} ({} in all{})", folder.display(), first, differences.len(),
        if differences.len() < DIFFERENCES { "" } else { " or more" })]
    Differs {
        /// The folder.
        folder: std::path::PathBuf,
        /// The first of the differences.
        first: Difference,
        /// All that were found, at most [`DIFFERENCES`].
        differences: Vec<Difference>,
    },
    /// The folder holds what no package can.
    #[error("{} cannot be packed", folder.display())]
    Unfit {
        /// The folder.
        folder: std::path::PathBuf,
        /// What it holds.
        #[source]
        what: Difference,
    },
    /// The files make no list.
    #[error("the files of {} make no list", folder.display())]
    List {
        /// The folder.
        folder: std::path::PathBuf,
        /// Why.
        #[source]
        err: ListError,
    },
}

/// Makes the list of all files of a folder, for a package. Files that anyone may execute are programs.
///
/// # Errors
/// When there is a link or a device, a name that a list cannot have, or something cannot be read.
pub fn list_folder(
    folder: &Path,
    package: Identity,
    os: &str,
    arch: &str,
    most_bytes: u64,
) -> Result<FileList, TreeError> {
    let mut files = Vec::new();
    let mut unfit = None;
    let mut buffer = Vec::new();
    walk(&Folder::open(folder)?, None, &mut |found| {
        let (path, file) = match found {
            Found::File(path, file) => (path, file),
            Found::Folder(_) => return Ok(Go::On),
            Found::Other(difference) => {
                unfit = Some(difference);
                return Ok(Go::Stop);
            }
        };
        let at = folder.join(path.to_path());
        let metadata = file.metadata().map_err(failed("look at", &at))?;
        let mode = confined::mode(&metadata).map_or(Mode::Program, Mode::of_bits);
        let (size, sha512) = digest::sum(&mut &file, most_bytes, &mut buffer).map_err(failed("read", &at))?;
        files.push(ListedFile { path, size, sha512, mode });
        Ok(Go::On)
    })?;
    if let Some(what) = unfit {
        return Err(TreeError::Unfit { folder: folder.to_owned(), what });
    }
    FileList::new(package, os, arch, files, most_bytes)
        .map_err(|err| TreeError::List { folder: folder.to_owned(), err })
}

/// Compares a folder with its list: every listed file is there with its size, hash and permissions, and nothing else is.
///
/// # Errors
/// The differences, or the file that could not be read.
pub fn verify_tree(folder: &Path, list: &FileList) -> Result<(), TreeError> {
    let mut check = Check {
        list,
        folders: list.files().iter().flat_map(|file| file.path.ancestors()).collect(),
        seen: vec![false; list.files().len()],
        differences: Vec::new(),
        buffer: Vec::new(),
    };
    walk(&Folder::open(folder)?, None, &mut |found| check.take(folder, found))?;
    let mut differences = check.differences;
    if differences.len() < DIFFERENCES {
        let missing = list.files().iter().zip(check.seen).filter(|(_, seen)| !seen);
        let missing = missing.map(|(file, _)| Difference::Missing { path: file.path.clone() });
        differences.extend(missing.take(DIFFERENCES - differences.len()));
    }
    match differences.first() {
        None => Ok(()),
        Some(first) => {
            let first = first.clone();
            Err(TreeError::Differs { folder: folder.to_owned(), first, differences })
        }
    }
}

struct Check<'a> {
    list: &'a FileList,
    /// That listed files lie in.
    folders: BTreeSet<&'a str>,
    /// By the place in the list.
    seen: Vec<bool>,
    differences: Vec<Difference>,
    buffer: Vec<u8>,
}

impl Check<'_> {
    fn take(&mut self, folder: &Path, found: Found) -> Result<Go, FileError> {
        match found {
            Found::File(path, file) => match self.list.find(&path) {
                Some(place) => {
                    // A path has one name in a folder, so it comes by once.
                    self.seen[place] = true;
                    self.compare(folder, place, &file)?;
                }
                None if self.folders.contains(path.as_str()) => {
                    self.differences.push(Difference::Kind { path, found: Kind::File });
                }
                None => self.differences.push(Difference::Unlisted { path }),
            },
            Found::Folder(path) if self.folders.contains(path.as_str()) => return Ok(Go::On),
            Found::Folder(path) => {
                self.differences.push(match self.list.find(&path) {
                    Some(_) => Difference::Kind { path, found: Kind::Folder },
                    None => Difference::Unlisted { path },
                });
                // What is in a folder that should not be there needs no telling.
                return Ok(if self.differences.len() < DIFFERENCES { Go::Past } else { Go::Stop });
            }
            Found::Other(difference) => self.differences.push(difference),
        }
        Ok(if self.differences.len() < DIFFERENCES { Go::On } else { Go::Stop })
    }

    fn compare(&mut self, folder: &Path, place: usize, file: &File) -> Result<(), FileError> {
        let listed = &self.list.files()[place];
        let path = &listed.path;
        let at = || folder.join(path.to_path());
        let metadata = file.metadata().map_err(|err| failed("look at", &at())(err))?;
        let expected = listed.mode.bits();
        if let Some(found) = confined::mode(&metadata).filter(|found| *found != expected) {
            self.differences.push(Difference::Mode { path: path.clone(), found, expected });
        }
        let (found, sha512) = digest::sum(&mut &*file, listed.size, &mut self.buffer)
            .map_err(|err| failed("read", &at())(err))?;
        if found != listed.size {
            self.differences.push(Difference::Size { path: path.clone(), found, expected: listed.size });
        } else if sha512 != listed.sha512 {
            self.differences.push(Difference::Hash { path: path.clone() });
        }
        Ok(())
    }
}

/// What a walk comes by.
enum Found {
    File(RelPath, File),
    Folder(RelPath),
    /// What no package can hold.
    Other(Difference),
}

/// What a walk does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Go {
    /// Into the folder, to the next name.
    On,
    /// Past the folder, to the next name.
    Past,
    /// Home.
    Stop,
}

fn walk(
    folder: &Folder,
    below: Option<&RelPath>,
    visit: &mut dyn FnMut(Found) -> Result<Go, FileError>,
) -> Result<Go, FileError> {
    for (name, kind) in folder.entries()? {
        let path = match path_of(below, &name) {
            Ok(path) => path,
            Err(err) => match visit(Found::Other(Difference::Name { err }))? {
                Go::Stop => return Ok(Go::Stop),
                Go::On | Go::Past => continue,
            },
        };
        let name = name.to_string_lossy();
        let went = match kind {
            Kind::File => visit(Found::File(path, folder.file(&name)?))?,
            Kind::Folder => match visit(Found::Folder(path.clone()))? {
                // A path is at most 64 segments deep, and so is this.
                Go::On => walk(&folder.folder(&name)?, Some(&path), visit)?,
                other => other,
            },
            Kind::Link | Kind::Special => visit(Found::Other(Difference::Kind { path, found: kind }))?,
        };
        if went == Go::Stop {
            return Ok(Go::Stop);
        }
    }
    Ok(Go::On)
}

fn path_of(below: Option<&RelPath>, name: &OsStr) -> Result<RelPath, PathError> {
    let Some(text) = name.to_str() else {
        let name = crate::path::shortened(&name.to_string_lossy());
        return Err(PathError { name, fault: PathFault::NotUtf8 });
    };
    let name = RelPath::parse(text)?;
    below.map_or(Ok(name.clone()), |below| below.join(&name))
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
