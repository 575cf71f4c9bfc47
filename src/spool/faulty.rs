//! A file system in memory that fails at a chosen operation and forgets at a power cut what was not synced.
//!
//! What a cut leaves: of a file, what was synced, then any part of what was written since, possibly with zeros behind it; of
//! folders, what was synced, then any first part of the other changes in their order, as a journal does it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use crate::fs::{Entry, Fs, Handle, Lock, Syncing};

/// A small generator of numbers below a bound.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound` (0 for 0).
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) >> 33).unwrap() % bound.max(1)
    }
}

impl Dice {
    /// The same for bounds up to 256.
    pub(crate) fn byte(&mut self, bound: usize) -> u8 {
        u8::try_from(self.below(bound)).unwrap()
    }
}

/// One life of the machine: what was opened before a cut is dead after it.
#[derive(Debug, Clone)]
pub(crate) struct FaultyFs {
    disk: Arc<Mutex<Disk>>,
    life: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Dir,
    File(usize),
}

#[derive(Debug, Clone, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    modified: u64,
}

#[derive(Debug, Clone)]
enum Change {
    Link(PathBuf, Node),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, Node),
}

#[derive(Debug, Default)]
struct Disk {
    life: u64,
    live: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    /// Changes of folders that are not synced.
    log: Vec<Change>,
    inodes: Vec<Inode>,
    locks: BTreeSet<PathBuf>,
    /// Seconds.
    time: u64,
    operations: u64,
    faults: Vec<(Range<u64>, io::ErrorKind)>,
    meanwhile: Option<(u64, Meanwhile)>,
}

/// What another does between two operations.
struct Meanwhile(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meanwhile")
    }
}

impl FaultyFs {
    /// An empty disk with one folder.
    pub(crate) fn new(root: &Path) -> Self {
        let mut disk = Disk::default();
        disk.live.insert(root.into(), Node::Dir);
        disk.durable.insert(root.into(), Node::Dir);
        Self { disk: Arc::new(Mutex::new(disk)), life: 0 }
    }

    /// Operations so far.
    pub(crate) fn operations(&self) -> u64 {
        self.disk().operations
    }

    /// Lets the operations with these numbers fail.
    pub(crate) fn fail(&self, which: Range<u64>, kind: io::ErrorKind) {
        self.disk().faults.push((which, kind));
    }

    /// Lets another do something right before the operation with this number on a path.
    pub(crate) fn meanwhile(&self, before: u64, what: impl FnOnce() + Send + 'static) {
        self.disk().meanwhile = Some((before, Meanwhile(Box::new(what))));
    }

    /// Whether the next operation fails, and all after it.
    pub(crate) fn is_dead(&self) -> bool {
        let disk = self.disk();
        disk.faults.iter().any(|(range, _)| range.contains(&disk.operations) && range.end == u64::MAX)
    }

    pub(crate) fn heal(&self) {
        self.disk().faults.clear();
    }

    /// The power is cut. The answer is the disk as it is found afterwards; faults are gone.
    pub(crate) fn cut(&self, dice: &mut Dice) -> Self {
        let mut disk = self.disk();
        disk.life += 1;
        disk.locks.clear();
        disk.faults.clear();
        let kept = dice.below(disk.log.len() + 1);
        let log = std::mem::take(&mut disk.log);
        log.iter().take(kept).for_each(|change| change.apply(&mut disk.durable));
        let durable = std::mem::take(&mut disk.durable);
        let has_parents =
            |path: &Path| path.ancestors().skip(1).all(|it| durable.get(it) == Some(&Node::Dir));
        disk.live = durable
            .iter()
            .filter(|(path, _)| has_parents(path))
            .map(|(path, node)| (path.clone(), *node))
            .collect();
        disk.durable = disk.live.clone();
        for inode in &mut disk.inodes {
            inode.forget(dice);
        }
        Self { disk: self.disk.clone(), life: disk.life }
    }

    /// The text of a file.
    pub(crate) fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let disk = self.disk();
        match disk.live.get(path) {
            Some(Node::File(inode)) => Some(disk.inodes[*inode].live.clone()),
            _ => None,
        }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }

    /// Counts an operation and lets it fail if it is to.
    fn begin(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let mut disk = self.disk();
        let now = disk.operations;
        if let Some((_, what)) = disk.meanwhile.take_if(|(before, _)| *before <= now) {
            drop(disk);
            what.0();
            disk = self.disk();
        }
        disk.begin(self.life)?;
        Ok(disk)
    }
}

impl Inode {
    fn forget(&mut self, dice: &mut Dice) {
        let same = self.live.iter().zip(&self.durable).take_while(|(a, b)| a == b).count();
        if dice.below(2) == 0 {
            let written = self.live.len();
            self.live.truncate(same + dice.below(written - same + 1));
            if dice.below(3) == 0 {
                // The size was stored, the data not.
                self.live.resize(written, 0);
            }
        } else {
            self.live = self.durable.clone();
        }
        self.durable = self.live.clone();
    }
}

impl Change {
    fn apply(&self, tree: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Self::Link(path, node) => drop(tree.insert(path.clone(), *node)),
            Self::Unlink(path) => drop(tree.remove(path)),
            Self::Rename(from, to, node) => {
                tree.remove(from);
                tree.insert(to.clone(), *node);
            }
        }
    }

    fn touches(&self, dir: &Path) -> bool {
        match self {
            Self::Link(path, _) | Self::Unlink(path) => path.parent() == Some(dir),
            Self::Rename(from, to, _) => from.parent() == Some(dir) || to.parent() == Some(dir),
        }
    }
}

impl Disk {
    fn begin(&mut self, life: u64) -> io::Result<()> {
        if life != self.life {
            return Err(io::Error::other("the power was cut"));
        }
        let number = self.operations;
        self.operations += 1;
        self.time += 1;
        match self.faults.iter().find(|(range, _)| range.contains(&number)) {
            Some((_, kind)) => Err((*kind).into()),
            None => Ok(()),
        }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.log.push(change);
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.live.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn create(&mut self, path: &Path) -> io::Result<usize> {
        if let Some(Node::File(inode)) = self.live.get(path) {
            return Ok(*inode);
        }
        if self.live.get(path.parent().unwrap()) != Some(&Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.inodes.push(Inode { modified: self.time, ..Inode::default() });
        let inode = self.inodes.len() - 1;
        self.change(Change::Link(path.into(), Node::File(inode)));
        Ok(inode)
    }
}

impl Fs for FaultyFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.begin()?;
        if disk.live.get(path) == Some(&Node::Dir) {
            return Ok(());
        }
        if disk.live.get(path.parent().unwrap()) != Some(&Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.change(Change::Link(path.into(), Node::Dir));
        Ok(())
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        let inode = self.begin()?.create(path)?;
        let at = self.disk().inodes[inode].live.len();
        Ok(Box::new(FaultyHandle { fs: self.clone(), inode, at }))
    }

    fn read(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        let disk = self.begin()?;
        let inode = disk.file(path)?;
        Ok(Box::new(io::Cursor::new(disk.inodes[inode].live.clone())))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let disk = self.begin()?;
        if disk.live.get(dir) != Some(&Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = disk.live.iter().filter(|(path, _)| path.parent() == Some(dir));
        Ok(inside
            .map(|(path, node)| {
                let (len, time) = match node {
                    Node::Dir => (0, 0),
                    Node::File(inode) => (disk.inodes[*inode].live.len(), disk.inodes[*inode].modified),
                };
                Entry {
                    name: path.file_name().unwrap().to_str().unwrap().into(),
                    is_dir: *node == Node::Dir,
                    len: len as u64,
                    modified: SystemTime::UNIX_EPOCH + Duration::from_secs(time),
                }
            })
            .collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.begin()?;
        let node = Node::File(disk.file(from)?);
        if disk.live.get(to.parent().unwrap()) != Some(&Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.change(Change::Rename(from.into(), to.into(), node));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.begin()?;
        disk.file(path)?;
        disk.change(Change::Unlink(path.into()));
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.begin()?;
        if disk.live.keys().any(|it| it.parent() == Some(path)) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        disk.change(Change::Unlink(path.into()));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.begin()?;
        let (now, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut disk.log).into_iter().partition(|it| it.touches(path));
        now.iter().for_each(|change| change.apply(&mut disk.durable));
        disk.log = later;
        Ok(())
    }

    fn touch(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.begin()?;
        let inode = disk.file(path)?;
        disk.inodes[inode].modified = disk.time;
        Ok(())
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        let mut disk = self.begin()?;
        disk.create(path)?;
        if !disk.locks.insert(path.into()) {
            return Ok(None);
        }
        Ok(Some(Box::new(FaultyLock { fs: self.clone(), path: path.into() })))
    }

    fn begin_sync(&self, mut file: Box<dyn Handle>) -> Syncing {
        Syncing::Done(file.sync())
    }
}

struct FaultyLock {
    fs: FaultyFs,
    path: PathBuf,
}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        let mut disk = self.fs.disk();
        if disk.life == self.fs.life {
            disk.locks.remove(&self.path);
        }
    }
}

#[derive(Debug)]
struct FaultyHandle {
    fs: FaultyFs,
    inode: usize,
    at: usize,
}

impl Handle for FaultyHandle {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.fs.disk();
        let result = disk.begin(self.fs.life);
        if disk.life != self.fs.life {
            return result;
        }
        let time = disk.time;
        let inode = &mut disk.inodes[self.inode];
        // A write that fails has written a part.
        let bytes = if result.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        inode.live.resize(self.at.max(inode.live.len()), 0);
        let over = (inode.live.len() - self.at).min(bytes.len());
        inode.live[self.at..self.at + over].copy_from_slice(&bytes[..over]);
        inode.live.extend_from_slice(&bytes[over..]);
        inode.modified = time;
        self.at += bytes.len();
        result
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut disk = self.fs.begin()?;
        let inode = &mut disk.inodes[self.inode];
        inode.durable = inode.live.clone();
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut disk = self.fs.begin()?;
        self.at = usize::try_from(len).unwrap();
        disk.inodes[self.inode].live.resize(self.at, 0);
        Ok(())
    }
}
