//! For tests: a file system in memory that fails at a chosen operation, and of which a power cut leaves every state that
//! the syncs so far allow.
//!
//! What a cut leaves: of a file, what was synced, or nothing, a part, zeros, or all of what was written since; of folders,
//! what was synced, and then any of the other changes, in or out of order. A rename happens or does not.

use std::any::Any;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use crate::fs::{Fs, Held, Kind, Meta};
use crate::sha256::{Digest, Sha256};

/// More unsynced changes of folders than this are not combined in all ways, but in some.
const COMBINED: usize = 6;

#[derive(Debug, Clone)]
enum Node {
    Dir(BTreeMap<String, usize>),
    File(Vec<u8>),
    Link(PathBuf),
}

/// Entries of folders that change at once: folder, name, what it names from now on.
type Change = Vec<(usize, String, Option<usize>)>;

/// Which operations fail, by number.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    None,
    /// This one.
    Once(u64, io::ErrorKind),
    /// This one and all later ones: the machine is off.
    Off(u64),
    /// From this one on, all that change something.
    ReadOnly(u64),
    /// From this one on, all that need room, until something is removed that gives room for so many of them.
    Full(u64),
}

#[derive(Debug, Clone)]
struct Disk {
    live: Vec<Node>,
    /// The same nodes as the disk has them.
    durable: Vec<Node>,
    log: Vec<Change>,
    operations: u64,
    fault: Fault,
    room: u32,
    /// What was done, for messages.
    trace: Vec<(&'static str, PathBuf)>,
}

#[derive(Debug, Clone)]
pub(crate) struct ModelFs(Arc<Mutex<Disk>>);

impl ModelFs {
    /// A disk with one folder, `/`.
    pub(crate) fn new() -> Self {
        let root = vec![Node::Dir(BTreeMap::new())];
        Self::of(Disk {
            live: root.clone(),
            durable: root,
            log: Vec::new(),
            operations: 0,
            fault: Fault::None,
            room: 0,
            trace: Vec::new(),
        })
    }

    fn of(disk: Disk) -> Self {
        Self(Arc::new(Mutex::new(disk)))
    }

    /// Another disk with the same on it.
    pub(crate) fn copy(&self) -> Self {
        Self::of(self.disk().clone())
    }

    pub(crate) fn operations(&self) -> u64 {
        self.disk().operations
    }

    pub(crate) fn set_fault(&self, fault: Fault) {
        let mut disk = self.disk();
        disk.fault = fault;
        disk.room = 0;
    }

    /// Looks at the disk without counting, and without a fault.
    pub(crate) fn set_aside_fault(&self, look: impl FnOnce()) {
        let (fault, operations) = {
            let mut disk = self.disk();
            (std::mem::replace(&mut disk.fault, Fault::None), disk.operations)
        };
        look();
        let mut disk = self.disk();
        (disk.fault, disk.operations) = (fault, operations);
        let known = disk.trace.len().min(usize::try_from(operations).unwrap());
        disk.trace.truncate(known);
    }

    pub(crate) fn trace(&self) -> String {
        let disk = self.disk();
        let first = disk.operations - disk.trace.len() as u64;
        let lines = (first..).zip(&disk.trace);
        lines.map(|(number, (what, path))| format!("{number} {what} {}\n", path.display())).collect()
    }

    /// Writes a file without a sync, as another program does.
    pub(crate) fn write_unsynced(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let node = self.begin("create", path, Needs::Room)?.create(path)?;
        let mut disk = self.begin("write", path, Needs::Room)?;
        disk.live[node] = Node::File(bytes.into());
        Ok(())
    }

    /// Puts garbage into a file, on the disk too.
    pub(crate) fn damage(&self, path: &Path, bytes: &[u8]) {
        let mut disk = self.disk();
        let node = disk.find(path).unwrap();
        disk.live[node] = Node::File(bytes.into());
        disk.durable[node] = Node::File(bytes.into());
    }

    /// Every disk that may be found after the power was cut now.
    pub(crate) fn after_cut(&self) -> Vec<Self> {
        let disk = self.disk();
        let subsets = subsets(disk.log.len());
        let ways: &[Rest] = if disk.unsynced().is_empty() { &[Rest::Durable] } else { &Rest::ALL };
        let mut states = Vec::new();
        for subset in &subsets {
            for way in ways {
                states.push(Self::of(disk.cut(subset, *way)));
            }
        }
        states
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }

    fn begin(&self, operation: &'static str, path: &Path, needs: Needs) -> io::Result<MutexGuard<'_, Disk>> {
        let mut disk = self.disk();
        let number = disk.operations;
        disk.operations += 1;
        disk.trace.push((operation, path.to_owned()));
        let failed = match disk.fault {
            Fault::Once(at, kind) => (number == at).then_some(kind),
            Fault::Off(at) => (number >= at).then_some(io::ErrorKind::Other),
            Fault::ReadOnly(at) if number >= at && needs != Needs::Nothing => {
                Some(io::ErrorKind::ReadOnlyFilesystem)
            }
            Fault::Full(at) if number >= at && needs == Needs::Room => {
                let is_full = disk.room == 0;
                disk.room = disk.room.saturating_sub(1);
                is_full.then_some(io::ErrorKind::StorageFull)
            }
            _ => None,
        };
        failed.map_or(Ok(disk), |kind| Err(kind.into()))
    }
}

/// What an operation needs of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Change,
    Room,
}

/// What a cut leaves of what was written to a file and not synced.
#[derive(Debug, Clone, Copy)]
enum Rest {
    Durable,
    Empty,
    Half,
    Zeros,
    All,
}

impl Rest {
    const ALL: [Self; 5] = [Self::Durable, Self::Empty, Self::Half, Self::Zeros, Self::All];
}

/// All subsets of `count` changes; of many, those that miss a tail or one change, and each alone.
fn subsets(count: usize) -> Vec<Vec<usize>> {
    if count <= COMBINED {
        return (0..1_usize << count)
            .map(|bits| (0..count).filter(|it| bits >> it & 1 == 1).collect())
            .collect();
    }
    let mut all: Vec<Vec<usize>> = (0..=count).map(|kept| (0..kept).collect()).collect();
    all.extend((0..count).map(|missed| (0..count).filter(|it| *it != missed).collect()));
    all.extend((0..count).map(|one| vec![one]));
    all
}

impl Disk {
    fn unsynced(&self) -> Vec<usize> {
        let differ = |it: &usize| match (&self.live[*it], &self.durable[*it]) {
            (Node::File(live), Node::File(durable)) => live != durable,
            _ => false,
        };
        (0..self.live.len()).filter(differ).collect()
    }

    fn cut(&self, kept: &[usize], rest: Rest) -> Self {
        let mut durable = self.durable.clone();
        for change in kept.iter().map(|it| &self.log[*it]) {
            apply(&mut durable, change);
        }
        for node in self.unsynced() {
            let (Node::File(live), Node::File(left)) = (&self.live[node], &mut durable[node]) else {
                continue;
            };
            match rest {
                Rest::Durable => {}
                Rest::Empty => left.clear(),
                Rest::Half => *left = live[..live.len() / 2].into(),
                Rest::Zeros => *left = vec![0; live.len()],
                Rest::All => left.clone_from(live),
            }
        }
        Self {
            live: durable.clone(),
            durable,
            log: Vec::new(),
            operations: 0,
            fault: Fault::None,
            room: 0,
            trace: Vec::new(),
        }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let mut node = 0;
        for part in path.components() {
            let Component::Normal(name) = part else { continue };
            let Node::Dir(names) = &self.live[node] else { return Err(io::ErrorKind::NotADirectory.into()) };
            node = *names.get(name.to_str().unwrap()).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(node)
    }

    /// The folder of a path and the name in it.
    fn place(&self, path: &Path) -> io::Result<(usize, String)> {
        let dir = self.find(path.parent().unwrap())?;
        Ok((dir, path.file_name().unwrap().to_str().unwrap().to_owned()))
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.live, &change);
        self.log.push(change);
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<usize> {
        let (dir, name) = self.place(path)?;
        if self.find(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let empty = match &node {
            Node::File(_) => Node::File(Vec::new()),
            other => other.clone(),
        };
        self.live.push(node);
        // A link is as durable as its name.
        self.durable.push(empty);
        let number = self.live.len() - 1;
        self.change(vec![(dir, name, Some(number))]);
        Ok(number)
    }

    /// A file, empty.
    fn create(&mut self, path: &Path) -> io::Result<usize> {
        let node = match self.find(path) {
            Ok(node) => node,
            Err(_) => self.add(path, Node::File(Vec::new()))?,
        };
        match &mut self.live[node] {
            Node::File(bytes) => bytes.clear(),
            _ => return Err(io::ErrorKind::IsADirectory.into()),
        }
        Ok(node)
    }
}

fn apply(nodes: &mut [Node], change: &Change) {
    for (dir, name, node) in change {
        let Node::Dir(names) = &mut nodes[*dir] else { panic!("no folder") };
        match node {
            Some(node) => drop(names.insert(name.clone(), *node)),
            None => drop(names.remove(name)),
        }
    }
}

impl Fs for ModelFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let there = self.disk().find(path).is_ok();
        let mut disk = self.begin("mkdir", path, if there { Needs::Nothing } else { Needs::Room })?;
        if there { Ok(()) } else { disk.add(path, Node::Dir(BTreeMap::new())).map(drop) }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.write_unsynced(path, bytes)?;
        self.sync_file(path)
    }

    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        let disk = self.begin("read", path, Needs::Nothing)?;
        match &disk.live[disk.find(path)?] {
            Node::File(bytes) => Ok(bytes.iter().copied().take(limit + 1).collect()),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn meta(&self, path: &Path) -> io::Result<Meta> {
        let disk = self.begin("stat", path, Needs::Nothing)?;
        let kind = match &disk.live[disk.find(path)?] {
            Node::Dir(_) => Kind::Dir,
            Node::File(_) => Kind::File,
            Node::Link(_) => Kind::Link,
        };
        let size = match &disk.live[disk.find(path)?] {
            Node::File(bytes) => bytes.len() as u64,
            _ => 0,
        };
        Ok(Meta { kind, owner: 0, mode: 0o700, size, modified: SystemTime::UNIX_EPOCH })
    }

    fn sum(&self, path: &Path, from: u64, bytes: u64) -> io::Result<Digest> {
        let disk = self.begin("sum", path, Needs::Nothing)?;
        let Node::File(all) = &disk.live[disk.find(path)?] else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        let from = usize::try_from(from).unwrap();
        let part = all.get(from..from + usize::try_from(bytes).unwrap());
        let mut sum = Sha256::new();
        sum.update(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(sum.finish())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let disk = self.begin("list", dir, Needs::Nothing)?;
        match &disk.live[disk.find(dir)?] {
            Node::Dir(names) => Ok(names.keys().map(OsString::from).collect()),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn symlink(&self, target: &Path, path: &Path) -> io::Result<()> {
        let mut disk = self.begin("symlink", path, Needs::Room)?;
        disk.add(path, Node::Link(target.into())).map(drop)
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        let disk = self.begin("readlink", path, Needs::Nothing)?;
        match &disk.live[disk.find(path)?] {
            Node::Link(target) => Ok(target.clone()),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.begin("rename", to, Needs::Change)?;
        let node = disk.find(from)?;
        if disk.find(to).is_ok_and(|it| matches!(disk.live[it], Node::Dir(_))) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let ((from_dir, from), (to_dir, to)) = (disk.place(from)?, disk.place(to)?);
        disk.change(vec![(from_dir, from, None), (to_dir, to, Some(node))]);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.begin("unlink", path, Needs::Change)?;
        let node = disk.find(path)?;
        if let Node::File(bytes) = &disk.live[node] {
            // 4 KiB for each file, link or folder that is made.
            disk.room += u32::try_from(bytes.len() / 4096).unwrap();
        }
        let (dir, name) = disk.place(path)?;
        disk.change(vec![(dir, name, None)]);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.begin("rmdir", path, Needs::Change)?;
        match &disk.live[disk.find(path)?] {
            Node::Dir(names) if names.is_empty() => {}
            _ => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
        }
        let (dir, name) = disk.place(path)?;
        disk.change(vec![(dir, name, None)]);
        Ok(())
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.begin("fsync", path, Needs::Change)?;
        let node = disk.find(path)?;
        disk.durable[node] = disk.live[node].clone();
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.begin("fsync", path, Needs::Change)?;
        let dir = disk.find(path)?;
        let log = std::mem::take(&mut disk.log);
        let (now, later): (Vec<_>, Vec<_>) =
            log.into_iter().partition(|change| change.iter().any(|(it, _, _)| *it == dir));
        now.iter().for_each(|change| apply(&mut disk.durable, change));
        disk.log = later;
        Ok(())
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Held>> {
        drop(self.begin("lock", path, Needs::Nothing)?);
        Ok(Some(Box::new(()) as Box<dyn Any + Send + Sync>))
    }
}
