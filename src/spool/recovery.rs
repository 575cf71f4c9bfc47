//! Recovery of one export whose writer is gone. The caller holds its lock.

use std::collections::BTreeMap;
use std::path::Path;

use crate::encode::count;
use crate::error::At;
use crate::files::{LOCK, MANIFEST, REFUSED, Stage, Total, UNKNOWN_ORIGIN, is_name, parse, path};
use crate::fs::{Fs, list_if_there};
use crate::manifest::{AppendError, Known, Line, Manifest, SealedFile, load};
use crate::{Compression, Sealed, SpoolError};

/// What recovery found and did.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) manifest: Manifest,
    /// Files that were not handed over before.
    pub(crate) sealed: Vec<Sealed>,
    /// The next free number of each model.
    pub(crate) next: BTreeMap<String, u64>,
    /// All files that were ever sealed, those that were acknowledged and have expired included.
    pub(crate) totals: Vec<Total>,
}

/// Leaves an export with sealed files only. May be repeated, and cut short, at any place.
pub(crate) fn recover(fs: &dyn Fs, dir: &Path, export: &str) -> Result<Outcome, SpoolError> {
    let known = load(fs, dir)?;
    let manifest = Manifest::open(fs, dir, &known)?;
    let mut this = Recovery { fs, dir, known, manifest };
    let (mut sealed, mut next) = (Vec::new(), BTreeMap::new());
    for entry in fs.list(dir).at("list", dir)? {
        if entry.is_dir && is_name(&entry.name) {
            let (files, number) = this.model(&entry.name)?;
            sealed.extend(files.iter().map(|file| file.sealed(export, dir)));
            next.insert(entry.name, number);
        }
    }
    for (model, _) in this.known.opened.keys().chain(this.known.sealed.keys()) {
        // The folder is gone when all its files were acknowledged; their numbers stay taken.
        if !next.contains_key(model) {
            next.insert(model.clone(), this.known.next_number(model));
        }
    }
    let totals = this.known.totals();
    Ok(Outcome { manifest: this.manifest, sealed, next, totals })
}

/// Whether nothing of an export's folder waits for recovery, upload or somebody who asks about its commits.
pub(crate) fn is_finished(fs: &dyn Fs, dir: &Path) -> Result<bool, SpoolError> {
    for entry in list_if_there(fs, dir).at("list", dir)? {
        if entry.is_dir && !list_if_there(fs, &dir.join(&entry.name)).at("list", dir)?.is_empty() {
            return Ok(false);
        }
        if !entry.is_dir && ![LOCK, MANIFEST, REFUSED].contains(&entry.name.as_str()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A file of the spool in a model's folder.
struct Found<'a> {
    model: &'a str,
    number: u64,
    compression: Compression,
    stage: Stage,
    len: u64,
}

struct Recovery<'a> {
    fs: &'a dyn Fs,
    dir: &'a Path,
    known: Known,
    manifest: Manifest,
}

impl Recovery<'_> {
    /// Recovers a model's folder; answers with what it sealed and the next free number.
    fn model(&mut self, model: &str) -> Result<(Vec<SealedFile>, u64), SpoolError> {
        let folder = self.dir.join(model);
        let mut next = self.known.next_number(model);
        let mut found = Vec::new();
        let mut entries = self.fs.list(&folder).at("list", &folder)?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        for entry in entries {
            let Some((number, compression, stage)) = parse(&entry.name) else { continue };
            next = next.max(number.saturating_add(1));
            let file = Found { model, number, compression, stage, len: entry.len };
            found.extend(self.file(&file)?);
        }
        if !found.is_empty() {
            self.fs.sync_dir(&folder).at("sync folder", &folder)?;
        }
        Ok((found, next))
    }

    fn file(&mut self, found: &Found<'_>) -> Result<Option<SealedFile>, SpoolError> {
        let &Found { model, number, compression, stage, len } = found;
        let folder = self.dir.join(model);
        let here = path(&folder, number, compression, stage);
        let line = self.known.sealed.get(&(model.to_owned(), number));
        let line = line.filter(|it| it.bytes == len && it.compression == compression).cloned();
        let file = match (stage, line) {
            (Stage::Sealed, Some(_)) => return Ok(None),
            (_, Some(line)) => line,
            // Not committed. (Its line would be there, and of its size, since both were synced before the answer.)
            (Stage::Part, None) => {
                self.fs.remove(&here).at("remove", &here)?;
                return Ok(None);
            }
            (Stage::Open | Stage::Sealed, None) => match self.count(&here, found)? {
                Some(file) => file,
                None => return Ok(None),
            },
        };
        if stage != Stage::Sealed {
            let to = path(&folder, number, compression, Stage::Sealed);
            self.fs.rename(&here, &to).at("rename", &here)?;
        }
        Ok(Some(file))
    }

    /// Cuts a file off behind its last whole member and tells the manifest of it; removes one that has none.
    fn count(&mut self, here: &Path, found: &Found<'_>) -> Result<Option<SealedFile>, SpoolError> {
        let &Found { model, number, compression, .. } = found;
        let counted = count(self.fs.read(here).at("open", here)?, compression).at("read", here)?;
        if counted.bytes == 0 {
            self.fs.remove(here).at("remove", here)?;
            return Ok(None);
        }
        let mut file = self.fs.append(here).at("open", here)?;
        file.truncate(counted.bytes).at("cut off", here)?;
        file.sync().at("sync", here)?;
        drop(file);
        let key = (model.to_owned(), number);
        let origin = self.known.opened.get(&key).or(self.known.sealed.get(&key).map(|it| &it.origin));
        let file = SealedFile {
            model: key.0.clone(),
            number,
            origin: origin.cloned().unwrap_or_else(|| UNKNOWN_ORIGIN.into()),
            records: counted.amount.records,
            raw_bytes: counted.amount.raw_bytes,
            bytes: counted.bytes,
            sha256: counted.hash.hex(),
            compression,
        };
        self.manifest.append(&Line::Sealed(vec![file.clone()])).map_err(AppendError::into_inner)?;
        self.known.sealed.insert(key, file.clone());
        Ok(Some(file))
    }
}
