//! What a package without a manifest lacks: one is written into the version's folder, so that it says which build it is as
//! any other does.

use std::io::Write as _;
use std::path::Path;

use outrider_home::FileError;

use crate::confined::{Folder, failed, set_mode};
use crate::digest;
use crate::files::{FileList, ListError, ListedFile, Mode};
use crate::identity::{Identity, Release};
use crate::manifest::{MANIFEST, Manifest, ManifestError};
use crate::path::{PathError, RelPath};

/// A manifest that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum OlderError {
    /// Its own text.
    #[error("the manifest that the package lacks cannot be made")]
    Manifest(#[from] ManifestError),
    /// Its name.
    #[error("the manifest that the package lacks cannot be named")]
    Path(#[from] PathError),
    /// It makes no list with the other files.
    #[error("the files of the package make no list with a manifest")]
    List(#[from] ListError),
}

/// The manifest that a package lacks, and its files with it.
#[derive(Debug, Clone)]
pub struct Completed {
    text: String,
    /// The signed files, and the manifest.
    pub list: FileList,
}

/// What a package with these files lacks; nothing where it has a manifest.
///
/// # Errors
/// [`OlderError`].
pub fn lacking(list: &FileList) -> Result<Option<Completed>, OlderError> {
    let path = RelPath::parse(MANIFEST)?;
    if list.find(&path).is_some() {
        return Ok(None);
    }
    let Identity { version, snapshot, hash } = list.package().clone();
    let text = Manifest::older(Release { version, snapshot }, hash)?.to_yaml();
    // Reading from memory does not fail.
    let Ok((size, sha512)) = digest::sum(&mut text.as_bytes(), u64::MAX, &mut Vec::new()) else {
        return Ok(None);
    };
    let mut files = list.files().to_vec();
    files.push(ListedFile { path, size, sha512, mode: Mode::Data });
    let list = FileList::new(list.package().clone(), list.os(), list.arch(), files, u64::MAX)?;
    Ok(Some(Completed { text, list }))
}

impl Completed {
    /// Writes the manifest into the unpacked folder, durably.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), FileError> {
        let (at, folder) = (folder.join(MANIFEST), Folder::open(folder)?);
        let failed = |operation| failed(operation, &at);
        let mut file = folder.create(MANIFEST)?;
        file.write_all(self.text.as_bytes()).map_err(failed("write"))?;
        set_mode(&file, Mode::Data.bits()).map_err(failed("set the permissions of"))?;
        file.sync_all().map_err(failed("sync"))?;
        folder.sync()
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use crate::testing::{PROGRAM, list};
    use crate::{installed, verify_tree};

    #[test]
    fn a_folder_without_a_manifest_gets_one_and_is_as_listed_then() {
        let dir = tempfile::tempdir().unwrap();
        let signed = list(&[("outrider", PROGRAM)]);
        std::fs::write(dir.path().join("outrider"), PROGRAM).unwrap();
        let mode = signed.files()[0].mode.bits();
        std::fs::set_permissions(
            dir.path().join("outrider"),
            std::os::unix::fs::PermissionsExt::from_mode(mode),
        )
        .unwrap();
        verify_tree(dir.path(), &signed).unwrap();
        let completed = lacking(&signed).unwrap().unwrap();
        completed.write(dir.path()).unwrap();
        verify_tree(dir.path(), &completed.list).unwrap();
        assert_eq!(installed(dir.path()).as_ref(), Some(signed.package()));
        assert!(lacking(&completed.list).unwrap().is_none(), "it has one now");
    }
}
