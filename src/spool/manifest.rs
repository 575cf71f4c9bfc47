//! The manifest of an export: JSON lines that say which files there are and what they hold. It decides what is sealed.
//!
//! ```text
//! {"version":1}
//! {"opened":{"model":"sourcecode.Commit","number":0,"origin":"git"}}
//! {"sealed":[{"model":"sourcecode.Commit","number":0,"origin":"git","records":9,"raw_bytes":4711,"bytes":815,"sha256":"…"}]}
//! ```
//!
//! `opened` tells the origin of an `.open` file before anything is in it. `sealed` lists files that became complete together:
//! all of them or, without the line, none; a file that is not gzip says so (`"compression":"zstd"`). Of several lines about one
//! file the last holds.
//!
//! No line is ever taken away, so that the manifest counts what was sealed also when the files were acknowledged and have
//! expired.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::encode::Counted;
use crate::error::At;
use crate::files::{MANIFEST, Sealed, Stage, Total, path};
use crate::fs::Fs;
use crate::growing::Growing;
use crate::{Amount, Compression, SpoolError};

/// The version of the format. Unknown kinds of lines are skipped, so that only a change of meaning needs a new one.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    Version(u32),
    Opened(OpenedFile),
    Sealed(Vec<SealedFile>),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OpenedFile {
    pub(crate) model: String,
    pub(crate) number: u64,
    pub(crate) origin: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SealedFile {
    pub(crate) model: String,
    pub(crate) number: u64,
    pub(crate) origin: String,
    pub(crate) records: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    #[serde(default, skip_serializing_if = "Compression::is_default")]
    pub(crate) compression: Compression,
}

impl SealedFile {
    pub(crate) fn of(
        model: &str,
        number: u64,
        origin: &str,
        compression: Compression,
        file: &Growing,
    ) -> Self {
        let Amount { records, raw_bytes } = file.amount();
        Self {
            model: model.into(),
            number,
            origin: origin.into(),
            records,
            raw_bytes,
            bytes: file.bytes(),
            sha256: file.sha256(),
            compression,
        }
    }

    /// The file as it is told to others; `dir` is the export's folder.
    pub(crate) fn sealed(&self, export: &str, dir: &Path) -> Sealed {
        Sealed {
            export: export.into(),
            origin: self.origin.clone(),
            model: self.model.clone(),
            number: self.number,
            records: self.records,
            raw_bytes: self.raw_bytes,
            bytes: self.bytes,
            sha256: self.sha256.clone(),
            compression: self.compression,
            path: path(&dir.join(&self.model), self.number, self.compression, Stage::Sealed),
        }
    }
}

/// A file within an export: model and number.
pub(crate) type Key = (String, u64);

/// What a manifest says.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Origins.
    pub(crate) opened: BTreeMap<Key, String>,
    pub(crate) sealed: BTreeMap<Key, SealedFile>,
    /// The end of the last line that is whole, in bytes.
    good: u64,
}

/// Reads the manifest of an export's folder; a missing one says nothing. A torn last line is left out, as is damage in
/// between.
pub(crate) fn load(fs: &dyn Fs, dir: &Path) -> Result<Known, SpoolError> {
    let manifest = dir.join(MANIFEST);
    let mut known = Known::default();
    let mut reader = match fs.read(&manifest) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(known),
        other => BufReader::new(other.at("open", &manifest)?),
    };
    let (mut line, mut end) = (Vec::new(), 0);
    while reader.read_until(b'\n', &mut line).at("read", &manifest)? > 0 {
        end += line.len() as u64;
        if line.ends_with(b"\n") && known.take(&line, &manifest)? {
            known.good = end;
        }
        line.clear();
    }
    Ok(known)
}

impl Known {
    /// Whether the line is whole.
    fn take(&mut self, line: &[u8], manifest: &Path) -> Result<bool, SpoolError> {
        match serde_json::from_slice(line) {
            Ok(Line::Version(found)) if found > VERSION => {
                return Err(SpoolError::NewerManifest { path: manifest.to_owned(), found, known: VERSION });
            }
            Ok(Line::Version(_)) => {}
            Ok(Line::Opened(file)) => drop(self.opened.insert((file.model, file.number), file.origin)),
            Ok(Line::Sealed(files)) => {
                self.sealed.extend(files.into_iter().map(|file| ((file.model.clone(), file.number), file)));
            }
            // Another kind of line, of a later program.
            Err(_) => return Ok(serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok()),
        }
        Ok(true)
    }

    /// What all sealed files hold, by origin and model.
    pub(crate) fn totals(&self) -> Vec<Total> {
        let mut totals: BTreeMap<(&str, &str), (u64, Amount)> = BTreeMap::new();
        for file in self.sealed.values() {
            let (files, amount) = totals.entry((&file.origin, &file.model)).or_default();
            *files += 1;
            *amount += Amount { records: file.records, raw_bytes: file.raw_bytes };
        }
        let total = |((origin, model), (files, amount)): ((&str, &str), (u64, Amount))| Total {
            origin: origin.to_owned(),
            model: model.to_owned(),
            files,
            amount,
        };
        totals.into_iter().map(total).collect()
    }

    /// The first number of a model that no line speaks of.
    pub(crate) fn next_number(&self, model: &str) -> u64 {
        let range = (model.to_owned(), 0)..=(model.to_owned(), u64::MAX);
        let opened = self.opened.range(range.clone()).next_back().map(|((_, number), _)| *number);
        let sealed = self.sealed.range(range).next_back().map(|((_, number), _)| *number);
        opened.max(sealed).map_or(0, |number| number.saturating_add(1))
    }
}

/// The manifest while its export is written.
#[derive(Debug)]
pub(crate) struct Manifest(Growing);

impl Manifest {
    /// Goes on where the last whole line ends. What was read is synced first, since the last writer may have ended before
    /// it could: nothing may be done because of a line that a crash can still take back.
    pub(crate) fn open(fs: &dyn Fs, dir: &Path, known: &Known) -> Result<Self, SpoolError> {
        let manifest = dir.join(MANIFEST);
        let file = fs.append(&manifest).at("open", &manifest)?;
        let good = Counted { bytes: known.good, ..Counted::default() };
        let mut this = Self(Growing::new(manifest, file, good));
        if known.good == 0 {
            this.append(&Line::Version(VERSION)).map_err(AppendError::into_inner)?;
        } else {
            this.0.undo()?;
            this.0.sync()?;
        }
        fs.sync_dir(dir).at("sync folder", dir)?;
        Ok(this)
    }

    /// Writes and syncs a line.
    pub(crate) fn append(&mut self, line: &Line) -> Result<(), AppendError> {
        let mut text = serde_json::to_vec(line).map_err(io::Error::from).at("write", self.0.path());
        if let Ok(text) = &mut text {
            text.push(b'\n');
        }
        let written = text.and_then(|text| {
            self.0.stage(Amount::default(), |sink| sink(&text))?;
            self.0.sync()
        });
        if let Err(err) = written {
            // The line may be on the disk: only a synced cut makes sure that it is not.
            let gone = self.0.undo().and_then(|()| self.0.sync());
            return Err(if gone.is_ok() { AppendError::Absent(err) } else { AppendError::InDoubt(err) });
        }
        self.0.accept();
        Ok(())
    }
}

/// A line that could not be written.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// It is not there, and will not be after a crash either.
    Absent(SpoolError),
    /// A crash may bring it back. The next line that is written ends the doubt.
    InDoubt(SpoolError),
}

impl AppendError {
    pub(crate) fn into_inner(self) -> SpoolError {
        match self {
            Self::Absent(err) | Self::InDoubt(err) => err,
        }
    }
}
