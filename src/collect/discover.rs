//! Finding cgroups: by a walk through the tree, and by the kernel's word (inotify) that there is something new to find.
//!
//! # Invariants
//! - A cgroup is (path, inode of its folder): one that was removed and made again has another inode, and is another one.
//! - A folder that goes while it is walked is no error.
//! - Where inotify cannot be had (its limits, another file system), the interval between looks is what remains.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, inotify};

use crate::detect::Layout;
use crate::identify;
use crate::settings::Target;

/// A cgroup that is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Below the root of the hierarchy, with a slash before it.
    pub path: String,
    /// Of its folder.
    pub inode: u64,
}

/// Why nothing could be looked for.
#[derive(Debug, thiserror::Error)]
#[error("look for cgroups: open {path}: {error}")]
pub struct DiscoverError {
    /// What was opened.
    pub path: PathBuf,
    /// What the system said.
    pub error: std::io::Error,
}

/// The cgroups of a target, sorted by path. `seen` is told each folder that was looked into, those on the way to a path
/// included: what is not there yet comes in the last of them that is.
///
/// # Errors
/// When the hierarchy itself cannot be opened.
pub fn find(
    layout: &Layout,
    target: &Target,
    mut seen: impl FnMut(&Path),
) -> Result<Vec<Found>, DiscoverError> {
    let root = layout.walked();
    let mut found = Vec::new();
    match target {
        Target::Path(path) => {
            let path = normal(path);
            go_to(root, &path, &mut seen);
            found.extend(inode(&root.join(&path[1..])).map(|inode| Found { path, inode }));
        }
        Target::Below(path) => {
            let path = normal(path);
            go_to(root, &path, &mut seen);
            walk(root, path.trim_end_matches('/'), &mut |it| found.push(it), &mut seen)?;
        }
        Target::Container(id) => {
            let mut take = |it: Found| {
                if identify::is_asked_for(&it.path, id) {
                    found.push(it);
                }
            };
            walk(root, "", &mut take, &mut seen)?;
            // Of a container with cgroups of its own below, its own is the shortest.
            found.sort_by_key(|it| it.path.len());
            found.truncate(1);
        }
    }
    found.sort();
    Ok(found)
}

/// With one slash before it and none after it.
fn normal(path: &str) -> String {
    format!("/{}", path.trim_matches('/'))
}

/// Tells the folders on the way to a path, up to the last one that is there. Each is told before the next one is looked
/// for, so that whatever comes meanwhile is either found or heard of.
fn go_to(root: &Path, path: &str, seen: &mut dyn FnMut(&Path)) {
    let mut folder = root.to_owned();
    for name in path.split('/').filter(|it| !it.is_empty()) {
        seen(&folder);
        folder.push(name);
        if inode(&folder).is_none() {
            return;
        }
    }
}

fn inode(folder: &Path) -> Option<u64> {
    let stat = rustix::fs::statat(CWD, folder, AtFlags::empty()).ok()?;
    FileType::from_raw_mode(stat.st_mode).is_dir().then_some(stat.st_ino)
}

fn walk(
    root: &Path,
    from: &str,
    take: &mut dyn FnMut(Found),
    seen: &mut dyn FnMut(&Path),
) -> Result<(), DiscoverError> {
    let mut folders = vec![from.to_owned()];
    while let Some(path) = folders.pop() {
        let folder = root.join(path.trim_start_matches('/'));
        let dir = match open(&folder) {
            Ok(dir) => dir,
            Err(error) if path == from => return Err(DiscoverError { path: folder, error: error.into() }),
            Err(_) => continue,
        };
        seen(&folder);
        for entry in dir.flatten() {
            let Ok(name) = entry.file_name().to_str() else { continue };
            if entry.file_type() == FileType::Directory && name != "." && name != ".." {
                let path = format!("{path}/{name}");
                take(Found { path: path.clone(), inode: entry.ino() });
                folders.push(path);
            }
        }
    }
    Ok(())
}

fn open(folder: &Path) -> rustix::io::Result<Dir> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Dir::new(rustix::fs::openat(CWD, folder, flags, Mode::empty())?)
}

/// Sizes of huge pages that a cgroup has files for.
#[must_use]
pub fn huge_sizes(folder: &Path) -> Vec<String> {
    let Ok(dir) = open(folder) else { return Vec::new() };
    let names = dir.flatten().filter_map(|it| it.file_name().to_str().ok().map(str::to_owned));
    let mut sizes: Vec<_> =
        names.filter_map(|name| crate::parse::hugetlb_size(&name).map(str::to_owned)).collect();
    sizes.sort();
    sizes
}

/// The kernel's word that folders came or went.
#[derive(Debug)]
pub struct Watch {
    inotify: OwnedFd,
    /// Whether every folder is watched.
    whole: bool,
}

impl Watch {
    /// None where the kernel gives none.
    #[must_use]
    pub fn new() -> Option<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        Some(Self { inotify: inotify::init(flags).ok()?, whole: true })
    }

    /// Watches a folder for folders that come and go; once is enough, and again does no harm.
    pub fn add(&mut self, folder: &Path) {
        use inotify::WatchFlags;
        let flags = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE | WatchFlags::ONLYDIR;
        self.whole &= inotify::add_watch(&self.inotify, folder, flags).is_ok();
    }

    /// Whether it can be relied upon.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Whether anything came or went since the last call.
    pub fn changed(&mut self) -> bool {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut changed = false;
        while let Ok(event) = reader.next() {
            changed |=
                event.events().intersects(inotify::ReadFlags::ISDIR | inotify::ReadFlags::QUEUE_OVERFLOW);
        }
        changed
    }
}
