//! Names of files, and what is known of a file's content.

use std::ops::AddAssign;
use std::path::{Path, PathBuf};

use crate::{Compression, SpoolError};

/// The origin of a file of which no line of the manifest tells it: only when the manifest itself was damaged.
pub const UNKNOWN_ORIGIN: &str = "unknown";

/// The folder of acknowledged files.
pub(crate) const SENT: &str = "sent";
/// The manifest of an export.
pub(crate) const MANIFEST: &str = "manifest";
/// The lock of an export.
pub(crate) const LOCK: &str = "lock";

/// In an export's folder while somebody may ask whether a commit to it happened. Never the name of a model.
pub(crate) const ASKED: &str = ".asked";

/// In an export's folder when the backend refused files of it. Never the name of a model.
pub(crate) const REFUSED: &str = ".refused";

/// The longest name of an export or a model, in bytes: a folder's name on every file system.
const LONGEST_NAME: usize = 128;

/// How much: of a session, a commit or a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Records.
    pub records: u64,
    /// Their bytes before compression, a line feed each included.
    pub raw_bytes: u64,
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.raw_bytes += other.raw_bytes;
    }
}

/// What the sealed files of one origin and one model hold together, wherever those files are by now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Total {
    /// Whose records they are; [`UNKNOWN_ORIGIN`] if that was lost.
    pub origin: String,
    /// Of which model.
    pub model: String,
    /// How many files.
    pub files: u64,
    /// How much is in them.
    pub amount: Amount,
}

/// A file that is complete and durable, ready to be uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Which run.
    pub export: String,
    /// Whose records they are; [`UNKNOWN_ORIGIN`] if that was lost.
    pub origin: String,
    /// Of which model.
    pub model: String,
    /// The file's number within the export and the model. Never used twice, with gaps.
    pub number: u64,
    /// How many records it holds.
    pub records: u64,
    /// Their bytes before compression, a line feed each included.
    pub raw_bytes: u64,
    /// The file's size.
    pub bytes: u64,
    /// The file's SHA-256, in lower-case hex.
    pub sha256: String,
    /// How it is compressed.
    pub compression: Compression,
    /// Where it is until it is acknowledged.
    pub path: PathBuf,
}

/// What a file's name says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Sealed,
    Open,
    Part,
}

impl Stage {
    const ALL: [Self; 3] = [Self::Sealed, Self::Open, Self::Part];
}

/// How names end.
fn ending(compression: Compression, stage: Stage) -> &'static str {
    match (compression, stage) {
        (Compression::Gzip, Stage::Sealed) => ".json.gz",
        (Compression::Gzip, Stage::Open) => ".json.gz.open",
        (Compression::Gzip, Stage::Part) => ".json.gz.part",
        (Compression::Zstd, Stage::Sealed) => ".json.zst",
        (Compression::Zstd, Stage::Open) => ".json.zst.open",
        (Compression::Zstd, Stage::Part) => ".json.zst.part",
    }
}

/// The path of file `number` below the folder of its model.
pub(crate) fn path(folder: &Path, number: u64, compression: Compression, stage: Stage) -> PathBuf {
    folder.join(format!("{number}{}", ending(compression, stage)))
}

/// The number, the compression and the stage of a file of the spool; nothing for a stranger's file.
pub(crate) fn parse(name: &str) -> Option<(u64, Compression, Stage)> {
    let (number, found) = name.split_at(name.find('.')?);
    let all = Compression::ALL.into_iter().flat_map(|it| Stage::ALL.map(|stage| (it, stage)));
    let (compression, stage) = all.into_iter().find(|(it, stage)| ending(*it, *stage) == found)?;
    let number = number.parse::<u64>().ok().filter(|it| it.to_string() == number)?;
    Some((number, compression, stage))
}

/// Whether a name can be that of an export's or a model's folder.
pub(crate) fn is_name(name: &str) -> bool {
    name.len() <= LONGEST_NAME
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        && ![SENT, MANIFEST, LOCK].contains(&name)
}

/// Refuses a name that could leave its folder or meet another file.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<(), SpoolError> {
    if is_name(name) {
        return Ok(());
    }
    Err(SpoolError::BadName { what, name: name.chars().take(40).collect(), longest: LONGEST_NAME })
}
