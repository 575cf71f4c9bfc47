//! Packages of the agent: what they say of themselves, and which files they hold.
//!
//! | module | duty |
//! | --- | --- |
//! | [`identity`] | which build a package is, and whether that is the running one |
//! | [`manifest`] | `manifest.yaml`, and the form of packages that have none |
//! | [`mappings`] | where a package wants its files, by the longest prefix of whole segments |
//! | [`path`], [`path_set`] | names from outside as paths that stay below a folder and do not collide on any system |
//! | [`files`], [`tree`] | the signed list of files, made from a folder and held against one |
//!
//! **Invariant:** a list is taken as true here; its signature was checked by whoever hands it in.
//!
//! **Invariant:** nothing here knows the network, a clock, or which version runs, unless it is told.

mod confined;
mod digest;
pub mod files;
pub mod identity;
pub mod manifest;
pub mod mappings;
pub mod path;
pub mod path_set;
pub mod tree;
mod yaml;

#[cfg(test)]
mod testing;

pub use confined::Kind;
pub use digest::Sha512Sum;
pub use files::{FileList, ListError, ListedFile, Mode};
pub use identity::{CommitHash, Identity, IdentityError, Release};
pub use manifest::{Manifest, ManifestError};
pub use mappings::{MappingError, PathMappings};
pub use path::{PathError, PathFault, RelPath};
pub use path_set::{Collision, Node, PathSet};
pub use tree::{Difference, TreeError, list_folder, verify_tree};
pub use yaml::{YamlError, YamlFault};
