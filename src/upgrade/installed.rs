//! Which build a version's folder holds.

use std::io::Read;
use std::path::{Path, PathBuf};

use outrider_home::{FileError, Root, atomic};
use outrider_protocol::upgrade::Build;

use crate::files::{FileList, ListError};
use crate::identity::Identity;
use crate::manifest::{MANIFEST, MANIFEST_BYTES, Manifest};
use crate::tree::{TreeError, verify_tree};

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

/// The lists of the files of versions that are in place.
fn kept_lists(root: &Path) -> PathBuf {
    root.join("upgrade/lists")
}

/// The list of a version's files: it is held against it right before the switch to it, and before it is gone back to.
fn kept_list(root: &Path, version: &str) -> PathBuf {
    kept_lists(root).join(format!("{version}{LIST_ENDING}"))
}

/// Keeps the list of a version that is put into place.
///
/// # Errors
/// When it cannot be written, durably.
pub fn keep_list(root: &Path, version: &str, list: &FileList) -> Result<(), KeepError> {
    let text = list.to_json()?;
    let folder = kept_lists(root);
    std::fs::create_dir_all(&folder).map_err(|err| FileError {
        operation: "make the folder",
        path: folder,
        err,
    })?;
    Ok(atomic::write(&kept_list(root, version), &text, atomic::PRIVATE)?)
}

/// Removes the lists of versions that are not in place any more.
///
/// # Errors
/// When the folder cannot be read, or a list not removed.
pub fn forget_lists(root: &Path, is_there: impl Fn(&str) -> bool) -> std::io::Result<()> {
    let lists = match std::fs::read_dir(kept_lists(root)) {
        Ok(lists) => lists,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(err),
    };
    for list in lists {
        let list = list?;
        if list
            .file_name()
            .to_str()
            .and_then(|it| it.strip_suffix(LIST_ENDING))
            .is_some_and(|it| !is_there(it))
        {
            std::fs::remove_file(list.path())?;
        }
    }
    Ok(())
}

/// The list of a version was not kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// It is none that can be written.
    #[error("the list of files cannot be written down")]
    List(#[from] ListError),
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A version that is in place is not what its list says, or nobody can tell.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Its list cannot be read.
    #[error("read {}", path.display())]
    List {
        /// The list.
        path: PathBuf,
        /// Why not.
        #[source]
        err: std::io::Error,
    },
    /// Its list is none.
    #[error("{} is no list of files", path.display())]
    Parse {
        /// The list.
        path: PathBuf,
        /// Why not.
        #[source]
        err: ListError,
    },
    /// It is not what its list says.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Holds a version that is in place against the list that was kept of it.
///
/// # Errors
/// [`CheckError`].
pub fn check_in_place(root: &Path, version: &str) -> Result<(), CheckError> {
    let path = kept_list(root, version);
    let text = std::fs::read(&path).map_err(|err| CheckError::List { path: path.clone(), err })?;
    let list = FileList::parse(&text, u64::MAX).map_err(|err| CheckError::Parse { path, err })?;
    Ok(verify_tree(&root.join("versions").join(version), &list)?)
}

/// What the names of lists end with.
const LIST_ENDING: &str = ".files.json";
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
