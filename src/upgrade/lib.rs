//! Packages of the agent: what they say of themselves, which files they hold, and how these get onto the disk.
//!
//! | module | duty |
//! | --- | --- |
//! | [`identity`] | which build a package is, and whether that is the running one |
//! | [`installed()`] | which build a folder holds |
//! | [`Diagnosis`] | what is kept of a version that was taken back |
//! | [`manifest`] | `manifest.yaml`, and the form of packages that have none |
//! | [`mappings`] | where a package wants its files, by the longest prefix of whole segments |
//! | [`path`], [`path_set`] | names from outside as paths that stay below a folder and do not collide on any system |
//! | [`files`], [`tree`] | the signed list of files, made from a folder and held against one |
//! | [`archive`], [`unpack()`] | a `.tar.gz` or `.zip`, looked at as a whole and then written |
//! | [`mirror`], [`download`] | from a folder or a web server to the disk: bounded, resumed, verified as a whole |
//! | [`mod@pack`] | the release's side: a folder made into a package |
//!
//! **Invariant:** nothing is written before all of a package was read and every name, kind and size in it was found good.
//!
//! **Invariant:** only files that the list names are written, below one folder that was empty, each once, with the size,
//! hash and permissions that the list has. No name of an archive is ever looked up on the disk.
//!
//! **Invariant:** memory does not grow with the size of a file, and time, space and the number of entries are bounded by
//! the list, whatever the archive says.
//!
//! **Invariant:** a list is taken as true here; its signature was checked by whoever hands it in.
//!
//! **Invariant:** only [`mirror`] and [`download`] know the network and a clock; what comes from there is not believed.
//! Nothing here knows which version runs, unless it is told.

pub mod archive;
mod confined;
mod diagnosis;
mod digest;
pub mod download;
pub mod files;
mod gate;
pub mod identity;
mod installed;
pub mod manifest;
pub mod mappings;
pub mod mirror;
mod older;
pub mod pack;
pub mod path;
pub mod path_set;
mod refusal;
pub mod tree;
mod unpack;

#[cfg(test)]
mod testing;

pub use archive::{Archive, ArchiveError, Format, Plan};
pub use confined::Kind;
pub use diagnosis::Diagnosis;
pub use digest::Sha512Sum;
pub use files::{FileList, ListError, ListedFile, Mode};
pub use identity::{CommitHash, Identity, IdentityError, Release};
pub use installed::{
    CheckError, KeepError, TrustedRootError, check_in_place, forget_lists, installed, keep_list,
    trusted_root, trusted_root_path,
};
pub use manifest::{Manifest, ManifestError};
pub use mappings::{MappingError, PathMappings};
pub use older::{Completed, OlderError, lacking};
pub use pack::{PackError, Packed, Recipe, pack};
pub use path::{PathError, PathFault, RelPath};
pub use path_set::{Collision, Node, PathSet};
pub use refusal::{BadKind, Refusal};
pub use tree::{Difference, TreeError, list_folder, verify_tree};
pub use unpack::unpack;
