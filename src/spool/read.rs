//! Reading what a spool holds, while others write it, upload it, and remove it. Nothing is locked and nothing changed.
//!
//! A file moves one way: `.open`, sealed, `sent/`, gone. It is listed in that order and looked for in that order, so that
//! one that moves meanwhile is found in its next place, and it is told by export, model and number, so that it is found
//! once.
//!
//! **Invariant:** memory stays small however large a file is: what is held is one buffer, or one record that is longer.
//!
//! **Invariant:** of a file that is being written only whole members are read: what a commit has not finished is not there.

mod members;
mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::SpoolError;
use crate::error::At;
use crate::files::{SENT, is_name};
use crate::fs::{Entry, RealFs, list_if_there};
use crate::manifest::{Known, load};
use members::Packing;

pub use records::{ReadError, Records};

/// How far a file is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// It grows, or its writer is gone and nobody has recovered it yet.
    Writing,
    /// It is complete and not acknowledged.
    Waiting,
    /// It is acknowledged, and kept for a while.
    Sent,
}

/// A file of export data, by name: it may be gone when it is opened.
#[derive(Debug, Clone)]
pub struct StoredFile {
    /// Which run.
    pub export: String,
    /// Of which model.
    pub model: String,
    /// Its number within the two.
    pub number: u64,
    /// Where it was when it was listed.
    pub place: Place,
    /// Whose records it holds, where the manifest tells.
    pub origin: Option<String>,
    /// How many records it holds, where the manifest tells.
    pub records: Option<u64>,
    /// Its size when it was listed.
    pub bytes: u64,
    packing: Packing,
    /// Where it is, or will be, in the order of its way.
    paths: Vec<(Place, PathBuf)>,
}

/// Files, in the order of export, model and number.
#[derive(Debug, Default)]
pub struct Listing {
    /// What was found.
    pub files: Vec<StoredFile>,
    /// What could not be looked into, and why; the others are there.
    pub failed: Vec<SpoolError>,
}

type Key = (String, String, u64);

/// The files of a spool: those that grow, those that wait, and those that were sent.
///
/// # Errors
/// When the folder itself cannot be read; one that is missing holds nothing.
pub fn list_spool(dir: &Path) -> Result<Listing, SpoolError> {
    let mut found = Found::default();
    // Twice, since the system may show neither name of a file that is renamed while its folder is listed; then sent/, where
    // whatever has left meanwhile is by now.
    for _ in 0..2 {
        found.tree(dir, None)?;
    }
    let sent = dir.join(SENT);
    found.tree(&sent, Some(Place::Sent))?;
    let Found { mut files, parts, mut failed } = found;
    let exports: BTreeSet<String> =
        files.keys().map(|(export, ..)| export).chain(parts.iter().map(|it| &it.export)).cloned().collect();
    let mut manifests = BTreeMap::new();
    for export in exports {
        let known = load(&RealFs::default(), &dir.join(&export)).unwrap_or_else(|err| {
            failed.push(err);
            Known::default()
        });
        manifests.insert(export, known);
    }
    for part in parts {
        // Committed, as the manifest says, and about to be renamed, now or by whoever recovers it.
        let line = manifests[&part.export].sealed.get(&(part.model.clone(), part.number));
        if line.is_some_and(|it| it.bytes == part.bytes) {
            files.entry(part.key()).or_insert(part);
        }
    }
    for file in files.values_mut() {
        file.told(&manifests[&file.export]);
        let name = file.packing.file_name(file.number);
        let sent = sent.join(&file.export).join(&file.model).join(&name);
        let waiting = dir.join(&file.export).join(&file.model).join(name);
        file.paths.extend([(Place::Waiting, waiting), (Place::Sent, sent)]);
        file.paths.retain(|(place, _)| *place >= file.place);
    }
    Ok(Listing { files: files.into_values().collect(), failed })
}

/// The files of a folder that is laid out as a spool is, `<export>/<model>/<file>`, and has nothing else in it: where a
/// backend keeps what it received. All are complete.
///
/// # Errors
/// When the folder itself cannot be read.
pub fn list_received(dir: &Path) -> Result<Listing, SpoolError> {
    let mut found = Found::default();
    found.tree(dir, Some(Place::Sent))?;
    let Found { mut files, failed, .. } = found;
    for file in files.values_mut() {
        let name = file.packing.file_name(file.number);
        file.paths = vec![(Place::Sent, dir.join(&file.export).join(&file.model).join(name))];
    }
    Ok(Listing { files: files.into_values().collect(), failed })
}

#[derive(Debug, Default)]
struct Found {
    files: BTreeMap<Key, StoredFile>,
    /// Files of large sessions, committed or not.
    parts: Vec<StoredFile>,
    failed: Vec<SpoolError>,
}

impl Found {
    /// Takes the files of `<dir>/<export>/<model>/`. In a tree of complete files (`place`), nothing grows.
    fn tree(&mut self, dir: &Path, place: Option<Place>) -> Result<(), SpoolError> {
        for export in folders(dir)? {
            let listed = folders(&dir.join(&export)).and_then(|models| {
                models.iter().try_for_each(|model| self.model(dir, &export, model, place))
            });
            if let Err(err) = listed {
                self.failed.push(err);
            }
        }
        Ok(())
    }

    fn model(
        &mut self,
        dir: &Path,
        export: &str,
        model: &str,
        place: Option<Place>,
    ) -> Result<(), SpoolError> {
        let folder = dir.join(export).join(model);
        for entry in list(&folder)? {
            let Some((number, packing, ending)) = parse(&entry.name) else { continue };
            if entry.is_dir || (ending != Ending::Complete && place.is_some()) {
                continue;
            }
            let here = place.unwrap_or(if ending == Ending::Open { Place::Writing } else { Place::Waiting });
            let paths = match ending {
                Ending::Complete => Vec::new(),
                Ending::Open | Ending::Part => vec![(here, folder.join(&entry.name))],
            };
            let file = StoredFile {
                export: export.to_owned(),
                model: model.to_owned(),
                number,
                place: here,
                origin: None,
                records: None,
                bytes: entry.len,
                packing,
                paths,
            };
            if ending == Ending::Part {
                self.parts.push(file);
                continue;
            }
            // Found again, it has moved on.
            let key = file.key();
            if self.files.get(&key).is_none_or(|before| before.place <= here) {
                self.files.insert(key, file);
            }
        }
        Ok(())
    }
}

impl StoredFile {
    fn key(&self) -> Key {
        (self.export.clone(), self.model.clone(), self.number)
    }

    /// Takes what the manifest says.
    fn told(&mut self, known: &Known) {
        let key = (self.model.clone(), self.number);
        let sealed = known.sealed.get(&key).filter(|it| it.bytes == self.bytes);
        self.records = sealed.filter(|_| self.place != Place::Writing).map(|it| it.records);
        self.origin = sealed.map(|it| &it.origin).or_else(|| known.opened.get(&key)).cloned();
    }

    /// Opens it where it is by now; nothing when it was acknowledged and removed meanwhile.
    ///
    /// # Errors
    /// When it cannot be opened or read.
    pub fn open(&self) -> Result<Option<Records>, ReadError> {
        for (place, path) in &self.paths {
            match File::open(path) {
                Ok(file) => {
                    return Records::new(file, path.clone(), self.packing, *place, self.records).map(Some);
                }
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                Err(err) => {
                    return Err(ReadError::Io { operation: "open", path: path.clone(), offset: 0, err });
                }
            }
        }
        Ok(None)
    }
}

fn list(dir: &Path) -> Result<Vec<Entry>, SpoolError> {
    list_if_there(&RealFs::default(), dir).at("list", dir)
}

/// The names of the folders in a folder that can be an export's or a model's.
fn folders(dir: &Path) -> Result<Vec<String>, SpoolError> {
    let folders = list(dir)?.into_iter().filter(|it| it.is_dir && is_name(&it.name));
    Ok(folders.map(|it| it.name).collect())
}

/// What stands behind the ending of a complete file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Complete,
    Open,
    Part,
}

/// What a file's name says; nothing for a stranger's file.
fn parse(name: &str) -> Option<(u64, Packing, Ending)> {
    let (number, rest) = name.split_at(name.find('.')?);
    let number = number.parse::<u64>().ok().filter(|it| it.to_string() == number)?;
    let (rest, ending) = match (rest.strip_suffix(".open"), rest.strip_suffix(".part")) {
        (Some(rest), _) => (rest, Ending::Open),
        (None, Some(rest)) => (rest, Ending::Part),
        (None, None) => (rest, Ending::Complete),
    };
    Some((number, Packing::of_ending(rest)?, ending))
}

#[cfg(test)]
mod tests;
