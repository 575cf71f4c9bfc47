//! Why a package is refused.

use std::io;

use crate::identity::{CommitHash, Identity};
use crate::manifest::{ACTIVE_COMMIT, ManifestError};
use crate::path::{PathError, RelPath};
use crate::path_set::Collision;

/// A kind of entry that no package has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadKind {
    /// It points elsewhere when it is opened.
    #[error("a symbolic link")]
    SymbolicLink,
    /// It is another name of a file.
    #[error("a hard link")]
    HardLink,
    /// A device of characters.
    #[error("a character device")]
    CharacterDevice,
    /// A device of blocks.
    #[error("a block device")]
    BlockDevice,
    /// A pipe with a name.
    #[error("a fifo")]
    Fifo,
    /// A file with holes, whose size in the archive is not its own.
    #[error("a sparse file")]
    Sparse,
    /// A name of GNU's tar for the entry behind it.
    #[error("a long name of GNU tar")]
    LongName,
    /// PAX fields, which can give the entry behind it another size or name than its header has.
    #[error("a PAX header")]
    Pax,
    /// A folder by its name and a file by its type, or the reverse.
    #[error("a folder by its name or its type, and not by both")]
    Contradiction,
    /// Whatever else.
    #[error("an entry of an unknown kind")]
    Unknown,
}

/// Why a package is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Neither gzip nor zip.
    #[error("it is neither a .tar.gz nor a .zip")]
    Format,
    /// It is cut short, or damaged.
    #[error("{what} in it is cut short or damaged")]
    Broken {
        /// Which part.
        what: &'static str,
        /// What the reader said.
        #[source]
        err: io::Error,
    },
    /// A name that cannot be a path in the package.
    #[error("a name in it cannot be used")]
    Path {
        /// Which, and why.
        #[from]
        err: PathError,
    },
    /// Names that cannot stand side by side.
    #[error("names in it collide")]
    Collision {
        /// Which, and why.
        #[from]
        err: Collision,
    },
    /// Something that is neither a regular file nor a folder.
    #[error("{name:?} is {kind}: expected regular files and folders only")]
    Kind {
        /// The name, shortened.
        name: String,
        /// What it is.
        kind: BadKind,
    },
    /// The bits of setuid, setgid or sticky.
    #[error("{name} has the permissions {mode:04o}: expected no setuid, setgid or sticky bit")]
    SpecialBits {
        /// The entry.
        name: RelPath,
        /// Its permissions.
        mode: u32,
    },
    /// A folder with content.
    #[error("the folder {name} has {bytes} bytes of content: expected none")]
    FolderWithContent {
        /// The folder.
        name: RelPath,
        /// How many.
        bytes: u64,
    },
    /// More entries than its list makes room for.
    #[error("it has more than {limit} entries, which is what its list makes room for")]
    TooManyEntries {
        /// What is allowed.
        limit: usize,
    },
    /// More content than its list makes room for.
    #[error("{name} has {bytes} bytes, and its list makes room for {left} more")]
    TooLarge {
        /// The entry.
        name: RelPath,
        /// Its size.
        bytes: u64,
        /// What was left when it came.
        left: u64,
    },
    /// A size that is not the content's.
    #[error("{name} says that it has {declared} bytes, and has {found}")]
    LyingSize {
        /// The entry.
        name: RelPath,
        /// What its header says.
        declared: u64,
        /// What there is; one more than declared stands for any larger size.
        found: u64,
    },
    /// A manifest or a file with a hash that is too long to be read.
    #[error("{name} has {bytes} bytes: expected at most {limit}")]
    TooLong {
        /// The entry.
        name: RelPath,
        /// Its size.
        bytes: u64,
        /// What is read.
        limit: u64,
    },
    /// Something behind the end of the archive.
    #[error("it goes on behind its end")]
    Trailing,
    /// An entry of a zip that needs a password.
    #[error("{name:?} is encrypted: expected no encryption")]
    Encrypted {
        /// The name, shortened.
        name: String,
    },
    /// An entry of a zip that is compressed in a way that is not known.
    #[error("{name:?} is compressed as {method}: expected deflate, or no compression")]
    Method {
        /// The name, shortened.
        name: String,
        /// What its header says.
        method: String,
    },
    /// A zip whose parts contradict each other.
    #[error("its parts contradict each other: {problem}")]
    Layout {
        /// In what.
        problem: String,
    },
    /// A zip in which bytes belong to several entries, as a bomb has them.
    #[error("its entries overlap: expected each to have bytes of its own")]
    Overlap,
    /// A zip of the large kind, which a package never needs.
    #[error("it is a zip64: expected less than 4 GiB and less than 65535 entries")]
    Zip64,
    /// An entry beside the top folder.
    #[error("{name} is not in the folder {top}: expected one top folder")]
    OutsideTop {
        /// The entry.
        name: RelPath,
        /// The folder that the first entry lies in.
        top: RelPath,
    },
    /// The top folder is of another package.
    #[error("its top folder is {found:?}: expected {expected}, with or without `-…` behind it")]
    Top {
        /// The name, empty when there is none.
        found: String,
        /// How it should begin.
        expected: String,
    },
    /// The manifest, or the file with the hash, is not taken.
    #[error("its manifest is not taken")]
    Manifest {
        /// Why.
        #[from]
        err: ManifestError,
    },
    /// There is no file with the hash.
    #[error("it has no {ACTIVE_COMMIT} in its top folder")]
    NoCommit,
    /// The manifest has another hash than the file.
    #[error("its manifest has the hash {manifest}, and its {ACTIVE_COMMIT} has {commit}")]
    TwoHashes {
        /// The manifest's.
        manifest: CommitHash,
        /// The file's.
        commit: CommitHash,
    },
    /// It is another package than the list's.
    #[error("it is {found}: expected {listed}, as its list says")]
    OtherPackage {
        /// What it says.
        found: Box<Identity>,
        /// What the list says.
        listed: Box<Identity>,
    },
    /// It would be put over the running version.
    #[error("its folder {home} is the running version's: expected a folder of its own")]
    RunningHome {
        /// The folder.
        home: RelPath,
    },
    /// A listed file is not in it.
    #[error("{path} is listed and not in it")]
    Missing {
        /// Relative to the version's folder.
        path: RelPath,
    },
    /// A listed file has another size.
    #[error("{path} has {found} bytes: expected {listed}, as its list says")]
    Size {
        /// Relative to the version's folder.
        path: RelPath,
        /// In the archive.
        found: u64,
        /// In the list.
        listed: u64,
    },
    /// A listed file has another content.
    #[error("{path} has another SHA-512 than the listed one")]
    Hash {
        /// Relative to the version's folder.
        path: RelPath,
    },
}

impl Refusal {
    pub(crate) fn broken(what: &'static str, err: io::Error) -> Self {
        Self::Broken { what, err }
    }
}
