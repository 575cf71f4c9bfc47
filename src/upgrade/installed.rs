//! Which build a version's folder holds.

use std::io::Read;
use std::path::{Path, PathBuf};

use outrider_home::Root;
use outrider_protocol::upgrade::Build;

use crate::identity::Identity;
use crate::manifest::{MANIFEST, MANIFEST_BYTES, Manifest};

/// The build in a folder, which is a version's or an unpacked package's; nothing where it has no manifest that can be read.
#[must_use]
pub fn installed(folder: &Path) -> Option<Identity> {
    let file = std::fs::File::open(folder.join(MANIFEST)).ok()?;
    let mut bytes = Vec::new();
    file.take(MANIFEST_BYTES + 1).read_to_end(&mut bytes).ok()?;
    Manifest::parse(&bytes, None).ok().map(|it| it.identity)
}

impl From<&Identity> for Build {
    fn from(identity: &Identity) -> Self {
        Self {
            version: identity.version.to_string(),
            snapshot: identity.snapshot,
            hash: identity.hash.as_str().to_owned(),
        }
    }
}

/// The list of a version's files, kept from its unpacking to its switch.
#[must_use]
pub fn kept_list(staging: &Path, version: &str) -> PathBuf {
    staging.join(format!("{version}.files.json"))
}

/// The file in a root that names whose releases are trusted there, in place of those that the program was built with.
const ROOT_FILE: &str = "releases-root.json";
/// The longest that is read, in bytes.
const ROOT_BYTES: u64 = 1 << 20;
/// What the program was built with: the file that `OUTRIDER_RELEASES_ROOT` named then.
const BUILT_IN: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/releases-root.json"));

/// It is not known whose releases are to be trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustedRootError {
    /// Neither the program nor the root says so.
    #[error(
        "this agent trusts nobody's releases: it was built without a root of trust, and there is no {}; install it with \
         --releases-root FILE, from `outrider-backend release export-root`", path.display()
    )]
    Nobody {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        err: std::io::Error,
    },
}

/// Where a root says whose releases it trusts.
#[must_use]
pub fn trusted_root_path(root: &Root) -> PathBuf {
    root.path().join(ROOT_FILE)
}

/// The root metadata that releases are verified from: the root's own, else what the program was built with.
///
/// # Errors
/// [`TrustedRootError`].
pub fn trusted_root(root: &Root) -> Result<Vec<u8>, TrustedRootError> {
    let path = trusted_root_path(root);
    let read = std::fs::File::open(&path).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(ROOT_BYTES).read_to_end(&mut bytes).map(|_| bytes)
    });
    match read {
        Ok(bytes) => Ok(bytes),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound && !BUILT_IN.is_empty() => {
            Ok(BUILT_IN.to_vec())
        }
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Err(TrustedRootError::Nobody { path }),
        Err(err) => Err(TrustedRootError::File { path, err }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{CommitHash, Release};

    #[test]
    fn a_folder_says_which_build_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(installed(dir.path()), None);
        let (release, hash) =
            (Release::parse("1.2.3-SNAPSHOT").unwrap(), CommitHash::parse("0123456789abcdef").unwrap());
        let manifest = Manifest::older(release, hash).unwrap();
        std::fs::write(dir.path().join(MANIFEST), manifest.to_yaml()).unwrap();
        let found = installed(dir.path()).unwrap();
        assert_eq!(found, manifest.identity);
        assert_eq!(Build::from(&found).to_string(), "1.2.3-SNAPSHOT (01234567)");
        std::fs::write(dir.path().join(MANIFEST), "version: [").unwrap();
        assert_eq!(installed(dir.path()), None);
    }
}
