//! The folder in which a package becomes a tree: nothing in it is run, and nothing of an attempt that failed stays.

use std::error::Error;
use std::path::Path;

use outrider_upgrade::{Archive, Completed, FileList, unpack};

/// Unpacks a package into `tree`, a folder of its own, and adds what it lacks of what a version has. What was written before
/// a failure is removed.
///
/// # Errors
/// When the package is refused, is not the one that its list says, or the disk is in trouble.
pub(super) fn unpack_whole(
    archive: &Path,
    list: &FileList,
    lacks: Option<Completed>,
    tree: &Path,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    if tree.exists() {
        std::fs::remove_dir_all(tree)?;
    }
    make_private(tree)?;
    let mut undo = Undo(Some(tree));
    let mut archive = Archive::open(archive)?;
    let plan = archive.inspect(list, None)?;
    if plan.manifest.identity != *list.package() {
        let (found, expected) = (&plan.manifest.identity, list.package());
        return Err(format!("the package says that it is {found}, expected {expected}").into());
    }
    unpack(&mut archive, &plan, list, tree)?;
    lacks.map_or(Ok(()), |it| it.write(tree))?;
    undo.0 = None;
    Ok(())
}

/// A tree that is removed unless it becomes whole.
struct Undo<'a>(Option<&'a Path>);

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if let Some(tree) = self.0 {
            // What stays is removed before the next attempt.
            drop(std::fs::remove_dir_all(tree));
        }
    }
}

/// Removes what earlier attempts left in staging, but for this file: what was fetched of the same package is gone on with.
/// Installations by hand, which have folders of their own there, are let be.
pub(super) fn clear_but(staging: &Path, part: &str) -> std::io::Result<()> {
    for entry in std::fs::read_dir(staging)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == part || name.as_encoded_bytes().starts_with(b"install-") {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => std::fs::remove_dir_all(entry.path())?,
            false => std::fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

/// A folder for its owner alone, with those above it.
pub(super) fn make_private(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
