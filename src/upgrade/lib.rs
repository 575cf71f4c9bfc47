//! Packages of the agent: what they say of themselves, and where their files go.
//!
//! | module | duty |
//! | --- | --- |
//! | [`identity`] | which build a package is, and whether that is the running one |
//! | [`manifest`] | `manifest.yaml`, and the form of packages that have none |
//! | [`mappings`] | where a package wants its files, by the longest prefix of whole segments |
//! | [`path`], [`path_set`] | names from outside as paths that stay below a folder and do not collide on any system |
//!
//! **Invariant:** nothing here knows the network, a clock, or which version runs, unless it is told.

pub mod identity;
pub mod manifest;
pub mod mappings;
pub mod path;
pub mod path_set;
mod yaml;

#[cfg(test)]
mod testing;

pub use identity::{CommitHash, Identity, IdentityError, Release};
pub use manifest::{Manifest, ManifestError};
pub use mappings::{MappingError, PathMappings};
pub use path::{PathError, PathFault, RelPath};
pub use path_set::{Collision, Node, PathSet};
pub use yaml::{YamlError, YamlFault};
