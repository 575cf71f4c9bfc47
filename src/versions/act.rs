//! The acts on links and folders. Each may be done again after it was cut short anywhere.

use std::collections::BTreeSet;
use std::path::Path;

use crate::error::{FileError, VersionsError};
use crate::failed;
use crate::fs::{Fs, Kind, if_there, texts};
use crate::journal::{self, free_name};
use crate::layout::{Layout, Link, TRASH};
use crate::links::{self, Points};
use crate::name::VersionName;
use crate::record::Record;
use crate::trial;
use crate::writer::Writer;

/// Whether a tree was put in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// It was.
    Now,
    /// The version was there already, and the tree stays where it is: verify the one that is there, and use it, or
    /// [`Writer::discard`] it first.
    Before,
}

/// Points a link to a complete version: it is the old link or the new one at every moment, and durable at the end.
pub(crate) fn point(
    fs: &dyn Fs,
    layout: &Layout,
    link: Link,
    version: &VersionName,
) -> Result<(), VersionsError> {
    require_whole(fs, layout, version)?;
    let (path, root) = (layout.link(link), layout.root());
    if links::points(fs, layout, link)? == Points::NotALink {
        let folder = layout.failed();
        make_folder(fs, &layout.upgrade())?;
        make_folder(fs, &folder)?;
        let aside = free_name(fs, &folder.join(link.name()))?;
        // The last of many; a folder is not replaced by a rename.
        remove_tree(fs, &aside)?;
        fs.rename(&path, &aside).map_err(FileError::at("set aside", &path))?;
        sync_folder(fs, &folder)?;
    }
    let new = path.with_extension("new");
    // What a start that was cut short left.
    if_there(fs.remove(&new)).map_err(FileError::at("remove", &new))?;
    fs.symlink(&Layout::target(version), &new).map_err(FileError::at("make the link", &new))?;
    fs.rename(&new, &path).map_err(FileError::at("rename into place", &path))?;
    Ok(sync_folder(fs, root)?)
}

/// A version that is to be pointed to must be there.
pub(crate) fn require_whole(
    fs: &dyn Fs,
    layout: &Layout,
    version: &VersionName,
) -> Result<(), VersionsError> {
    if links::is_whole(fs, layout, version)? {
        return Ok(());
    }
    Err(VersionsError::Incomplete { version: version.clone(), expected: layout.program(version) })
}

/// Notes that a version was rolled back here.
pub(crate) fn condemn(fs: &dyn Fs, layout: &Layout, record: &Record) -> Result<(), VersionsError> {
    for folder in [layout.upgrade(), layout.failed(), layout.diagnosis(&record.to)] {
        make_folder(fs, &folder)?;
    }
    let path = layout.verdict(&record.to);
    let reason = record.reason_word().unwrap_or("no reason");
    let text = format!("{reason}: {} (attempt {})\n", record.detail, record.attempt);
    fs.write(&path, text.as_bytes()).map_err(FileError::at("write", &path))?;
    for folder in [layout.diagnosis(&record.to), layout.failed(), layout.upgrade()] {
        sync_folder(fs, &folder)?;
    }
    Ok(())
}

/// Takes that back: the version was tried again by force, and is well.
pub(crate) fn absolve(fs: &dyn Fs, layout: &Layout, version: &VersionName) -> Result<(), FileError> {
    let path = layout.verdict(version);
    if_there(fs.remove(&path)).map(drop).map_err(FileError::at("remove", &path))
}

impl Writer<'_> {
    /// Puts an unpacked tree that was verified in place: syncs all of it, then renames it to its final name.
    ///
    /// # Errors
    /// [`VersionsError::Incomplete`] when there is no program in it.
    pub fn place(&self, tree: &Path, version: &VersionName) -> Result<Placed, VersionsError> {
        let (fs, layout) = (self.fs(), self.layout());
        let program = tree.join(crate::PROGRAM);
        let to = layout.version(version);
        if if_there(fs.meta(&to)).map_err(FileError::at("look at", &to))?.is_some() {
            return Ok(Placed::Before);
        }
        if !fs.meta(&program).is_ok_and(|it| it.kind == Kind::File) {
            return Err(VersionsError::Incomplete { version: version.clone(), expected: program });
        }
        sync_tree(fs, tree)?;
        make_folder(fs, &layout.versions())?;
        sync_folder(fs, layout.root())?;
        fs.rename(tree, &to).map_err(FileError::at("rename into place", &to))?;
        sync_folder(fs, &layout.versions())?;
        if let Some(folder) = tree.parent() {
            sync_folder(fs, folder)?;
        }
        Ok(Placed::Now)
    }

    /// Makes a version the first of a fresh root: puts it in place and points `current` to it. A root that has a complete
    /// `current` keeps that.
    ///
    /// # Errors
    /// As [`Writer::place`].
    pub fn install(&self, tree: &Path, version: &VersionName) -> Result<(), VersionsError> {
        self.place(tree, version)?;
        let seen = self.versions.see()?;
        if seen.tree.whole(&seen.links.current).is_some() {
            return Ok(());
        }
        self.point(Link::Current, version)
    }

    /// Removes what no attempt needs: versions but those that `current` and `previous` point to and those of `also`, what
    /// was being deleted when somebody was cut short, and what is kept of versions that failed long ago. Does nothing while
    /// an attempt is in progress, or while `current` does not point to a complete version. Answers what was removed.
    ///
    /// # Errors
    /// When a step fails; done again, it goes on there.
    pub fn prune(&self, also: &[VersionName]) -> Result<Vec<VersionName>, VersionsError> {
        let (fs, layout) = (self.fs(), self.layout());
        let seen = self.versions.see()?;
        let in_progress = seen.journal.record().is_some_and(|it| !it.phase.is_terminal());
        if in_progress || seen.tree.whole(&seen.links.current).is_none() {
            return Ok(Vec::new());
        }
        let mut kept = self.live()?;
        kept.extend(also.iter().cloned());
        let names = fs.list(&layout.versions()).map_err(FileError::at("list", &layout.versions()))?;
        let names = texts(names);
        let doomed: Vec<VersionName> =
            names.iter().filter_map(|it| it.parse().ok()).filter(|it| !kept.contains(it)).collect();
        for version in &doomed {
            self.discard(version)?;
        }
        for name in names.iter().filter(|it| it.starts_with(TRASH)) {
            remove_tree(fs, &layout.versions().join(name))?;
        }
        trial::forget(fs, layout)?;
        failed::bound(fs, layout)?;
        Ok(doomed)
    }

    /// Deletes one version that nothing points to: first its name, by one rename, then the rest.
    ///
    /// # Errors
    /// [`VersionsError::InUse`] for a version that a link points to or that an attempt in progress came from.
    pub fn discard(&self, version: &VersionName) -> Result<(), VersionsError> {
        let (fs, layout) = (self.fs(), self.layout());
        if self.live()?.contains(version) {
            return Err(VersionsError::InUse { version: version.clone() });
        }
        let path = layout.version(version);
        let trash = layout.versions().join(format!("{TRASH}{version}"));
        remove_tree(fs, &trash)?;
        if if_there(fs.rename(&path, &trash)).map_err(FileError::at("set aside", &path))?.is_some() {
            sync_folder(fs, &layout.versions())?;
            remove_tree(fs, &trash)?;
        }
        Ok(())
    }

    /// What must never be deleted now.
    fn live(&self) -> Result<BTreeSet<VersionName>, VersionsError> {
        let links = links::links(self.fs(), self.layout())?;
        let mut live: BTreeSet<_> = [links.current, links.previous]
            .into_iter()
            .filter_map(|it| match it {
                Points::To(version) => Some(version),
                _ => None,
            })
            .collect();
        let journal = journal::read(self.fs(), self.layout()).journal;
        if let Some(record) = journal.record().filter(|it| !it.phase.is_terminal()) {
            live.insert(record.from.clone());
            live.extend(record.earlier.clone());
            if !record.phase.is_before_switch() {
                live.insert(record.to.clone());
            }
        }
        Ok(live)
    }

    /// Removes everything in staging.
    ///
    /// # Errors
    /// [`VersionsError::Busy`] while an attempt is in progress.
    pub fn clear_staging(&self) -> Result<(), VersionsError> {
        let journal = journal::read(self.fs(), self.layout()).journal;
        match journal.record() {
            Some(record) if !record.phase.is_terminal() => {
                Err(VersionsError::Busy { attempt: record.attempt.clone(), phase: record.phase })
            }
            _ => Ok(remove_tree(self.fs(), &self.layout().staging())?),
        }
    }
}

fn make_folder(fs: &dyn Fs, path: &Path) -> Result<(), FileError> {
    fs.create_dir(path).map_err(FileError::at("make the folder", path))
}

fn sync_folder(fs: &dyn Fs, path: &Path) -> Result<(), FileError> {
    fs.sync_dir(path).map_err(FileError::at("sync the folder", path))
}

/// Makes everything below a folder durable.
fn sync_tree(fs: &dyn Fs, folder: &Path) -> Result<(), FileError> {
    for name in fs.list(folder).map_err(FileError::at("list", folder))? {
        let path = folder.join(name);
        match fs.meta(&path).map_err(FileError::at("look at", &path))?.kind {
            Kind::Dir => sync_tree(fs, &path)?,
            Kind::File => fs.sync_file(&path).map_err(FileError::at("sync", &path))?,
            Kind::Link | Kind::Other => {}
        }
    }
    sync_folder(fs, folder)
}

/// Removes a folder with all in it, following no link; it need not be there.
pub(crate) fn remove_tree(fs: &dyn Fs, path: &Path) -> Result<(), FileError> {
    let failed = |err| FileError::at("remove", path)(err);
    let Some(meta) = if_there(fs.meta(path)).map_err(failed)? else { return Ok(()) };
    if meta.kind != Kind::Dir {
        return fs.remove(path).map_err(failed);
    }
    for name in fs.list(path).map_err(failed)? {
        remove_tree(fs, &path.join(name))?;
    }
    fs.remove_dir(path).map_err(failed)
}
