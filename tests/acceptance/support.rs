//! What the acceptance tests share.

use std::path::{Path, PathBuf};

/// The repository's top.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
