//! For tests: a machine whose agent is told to upgrade, with all that takes part in it: the backend that repeats its order,
//! the system that starts the launcher, the service, the upgrade action, the watcher.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::act::Placed;
use crate::clock::{BootId, Clock, Moment};
use crate::error::{FileError, VersionsError};
use crate::fs::Fs;
use crate::launch::{self, Start};
use crate::layout::{Layout, Link};
use crate::links::Points;
use crate::model::ModelFs;
use crate::name::VersionName;
use crate::phase::{Phase, Reason};
use crate::record::{Record, Told};
use crate::versions::Versions;
use crate::{Duty, duties};

pub(crate) const ROOT: &str = "/root";
/// What ran before `OLD`.
pub(crate) const OLDER: &str = "0.9.0-cccccccc";
pub(crate) const OLD: &str = "1.0.0-ffffffff";
pub(crate) const NEW: &str = "2.0.0-aaaaaaaa";
/// More starts than any way of an upgrade takes.
const MOST_STARTS: u32 = 30;

pub(crate) fn name(text: &str) -> VersionName {
    text.parse().unwrap()
}

/// How the new version behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum New {
    Good,
    /// Each of its starts ends in a crash.
    Crashes,
    /// It runs, and the watcher finds that it is not well.
    Unwell,
}

impl New {
    pub(crate) const ALL: [Self; 3] = [Self::Good, Self::Crashes, Self::Unwell];
}

#[derive(Debug, Default)]
struct TestClock(Mutex<u64>);

impl Clock for TestClock {
    fn now(&self) -> Result<Moment, FileError> {
        Ok(Moment { boot: BootId(self.0.lock().unwrap().to_string()), ms: 1000 })
    }
}

/// The machine; what the backend knows outlives its disk.
#[derive(Debug, Clone)]
pub(crate) struct System {
    pub(crate) fs: ModelFs,
    pub(crate) versions: Versions,
    clock: Arc<TestClock>,
    new: New,
    /// How the backend was told that the command ended.
    pub(crate) told: BTreeSet<Phase>,
}

impl System {
    /// A root with two versions, of which the second is current.
    pub(crate) fn new(new: New) -> Self {
        let system = Self::on(ModelFs::new(), new, BTreeSet::new(), 0);
        let root = Path::new(ROOT);
        system.fs.create_dir(root).unwrap();
        system.fs.sync_dir(Path::new("/")).unwrap();
        let writer = system.versions.write(std::time::Duration::ZERO).unwrap();
        for (version, link) in [(OLDER, Link::Previous), (OLD, Link::Current)] {
            let tree = system.unpack(&name(version)).unwrap();
            writer.place(&tree, &name(version)).unwrap();
            writer.point(link, &name(version)).unwrap();
        }
        drop(writer);
        system
    }

    fn on(fs: ModelFs, new: New, told: BTreeSet<Phase>, boot: u64) -> Self {
        let clock = Arc::new(TestClock(Mutex::new(boot)));
        let layout = Layout::new(ROOT);
        let versions = Versions { fs: Arc::new(fs.clone()), clock: clock.clone(), layout };
        Self { fs, versions, clock, new, told }
    }

    /// The same machine after a power cut, in each state that its disk may be in.
    pub(crate) fn after_cut(&self) -> Vec<Self> {
        let boot = *self.clock.0.lock().unwrap() + 1;
        let disks = self.fs.after_cut();
        disks.into_iter().map(|fs| Self::on(fs, self.new, self.told.clone(), boot)).collect()
    }

    /// The same once more, on a disk of its own.
    pub(crate) fn copy(&self) -> Self {
        Self::on(self.fs.copy(), self.new, self.told.clone(), *self.clock.0.lock().unwrap())
    }

    fn files(version: &VersionName) -> [(&'static str, String); 2] {
        [
            ("outrider", format!("the program of {version}, with what it takes")),
            ("manifest.yaml", format!("the manifest of {version}")),
        ]
    }

    /// Unpacks a version in staging, syncing nothing.
    fn unpack(&self, version: &VersionName) -> Result<PathBuf, VersionsError> {
        let layout = &self.versions.layout;
        let tree = layout.staging().join(version.as_str());
        let failed = |err| FileError::at("unpack", &tree)(err);
        for folder in [&layout.upgrade(), &layout.staging(), &tree] {
            self.fs.create_dir(folder).map_err(failed)?;
        }
        for (file, text) in Self::files(version) {
            self.fs.write_unsynced(&tree.join(file), text.as_bytes()).map_err(failed)?;
        }
        Ok(tree)
    }

    /// Whether all of a version is in a folder.
    pub(crate) fn is_verified(&self, folder: &Path, version: &VersionName) -> bool {
        Self::files(version)
            .iter()
            .all(|(file, text)| self.fs.read(&folder.join(file), 1000).is_ok_and(|it| it == text.as_bytes()))
    }

    /// The upgrade action: begins, or goes on where it was cut short, up to the switch.
    fn upgrade(&self) -> Result<(), VersionsError> {
        let (versions, to) = (&self.versions, name(NEW));
        let tree = versions.layout.staging().join(NEW);
        loop {
            let seen = versions.see()?;
            let writer = versions.write(std::time::Duration::ZERO)?;
            match seen.journal.record().map(|it| it.phase) {
                Some(Phase::Requested) => drop(writer.enter(Phase::Fetching, None)?),
                Some(Phase::Fetching) => drop(writer.enter(Phase::Verified, None)?),
                Some(Phase::Verified) => {
                    self.unpack(&to)?;
                    writer.enter(Phase::Staged, None)?;
                }
                Some(Phase::Staged) => {
                    let is_in_place = self.is_verified(&versions.layout.version(&to), &to);
                    if !is_in_place && !self.is_verified(&tree, &to) {
                        writer.enter(Phase::Fetching, None)?;
                        continue;
                    }
                    if !is_in_place && writer.place(&tree, &to)? == Placed::Before {
                        writer.discard(&to)?;
                        continue;
                    }
                    writer.enter(Phase::Armed, None)?;
                }
                Some(Phase::Armed) => drop(writer.switch()?),
                _ => return Ok(()),
            }
        }
    }

    /// The backend's order, again and again until it was told how that ended.
    fn take_order(&self) -> Result<(), VersionsError> {
        let attempt = format!("attempt-{}", self.fs.operations());
        let record = Record::new(attempt, "command".into(), name(OLD), name(NEW));
        let writer = self.versions.write(std::time::Duration::ZERO)?;
        writer.begin(record).map(drop)
    }

    /// The service of a version that was started: answers whether there is more to be done.
    fn serve(&mut self, start: &Start) -> Result<bool, VersionsError> {
        if self.told.is_empty() {
            match self.take_order() {
                // The journal was lost, and with it how the attempt ended; these are answers as well.
                Err(VersionsError::AlreadyCurrent { .. }) => drop(self.told.insert(Phase::Committed)),
                Err(VersionsError::FailedHere { .. }) => drop(self.told.insert(Phase::RolledBack)),
                other => other?,
            }
        }
        let seen = self.versions.see()?;
        let Some(duty) = duties(&seen).first().copied() else { return Ok(false) };
        match duty {
            Duty::GoOn(_) => self.upgrade()?,
            Duty::Watch => {
                assert_eq!(start.version, name(NEW), "the new version is watched while it runs");
                let writer = self.versions.write(std::time::Duration::ZERO)?;
                match self.new {
                    New::Unwell => drop(writer.roll_back(Reason::Unhealthy, "not well")?),
                    New::Good | New::Crashes => drop(writer.commit()?),
                }
            }
            Duty::Settle => drop(self.versions.write(std::time::Duration::ZERO)?.settle()?),
            Duty::Tell => {
                let writer = self.versions.write(std::time::Duration::ZERO)?;
                for record in writer.untold()? {
                    self.told.insert(record.phase);
                    writer.tell(&record.attempt, Told::Acknowledged)?;
                }
            }
            Duty::Prune => drop(self.versions.write(std::time::Duration::ZERO)?.prune(&[])?),
        }
        Ok(true)
    }

    /// As [`System::start`]; nothing when the power was cut before anything was started.
    pub(crate) fn start_unless_off(&mut self) -> Option<bool> {
        let start = launch::prepare(&self.versions).ok()?;
        if self.new == New::Crashes && start.version == name(NEW) {
            return Some(true);
        }
        self.serve(&start).ok()
    }

    /// One start by the system, and what the started version does. Answers whether there is more to be done.
    pub(crate) fn start(&mut self) -> Result<bool, VersionsError> {
        let start = match launch::prepare(&self.versions) {
            Ok(start) => start,
            Err(nothing) => panic!("{nothing}, {:?}\n{}", nothing.troubles, self.fs.trace()),
        };
        let folder = self.versions.layout.version(&start.version);
        self.fs.set_aside_fault(|| {
            assert!(self.is_verified(&folder, &start.version), "{start:?}\n{}", self.fs.trace());
        });
        if self.new == New::Crashes && start.version == name(NEW) {
            return Ok(true);
        }
        self.serve(&start)
    }

    /// Starts again and again until nothing is left to do, over errors.
    pub(crate) fn run(&mut self) {
        for _ in 0..MOST_STARTS {
            if let Ok(false) = self.start() {
                return;
            }
        }
        panic!("no end: {:?}\n{}", self.versions.see(), self.fs.trace());
    }

    /// How far the attempt is.
    pub(crate) fn phase(&self) -> Option<Phase> {
        self.versions.see().unwrap().journal.record().map(|it| it.phase)
    }

    /// What has to be in the end, whatever happened.
    pub(crate) fn check_end(&self) {
        self.check_end_as(self.new);
    }

    /// The same for how the new version turned out.
    pub(crate) fn check_end_as(&self, new: New) {
        assert!(!self.told.is_empty());
        let seen = self.versions.see().unwrap();
        let (current, previous, end) = match new {
            New::Good => (NEW, OLD, Phase::Committed),
            New::Crashes | New::Unwell => (OLD, OLDER, Phase::RolledBack),
        };
        let trace = || format!("{seen:?}\n{}", self.fs.trace());
        assert_eq!(seen.links.current, Points::To(name(current)), "{}", trace());
        assert_eq!(seen.links.previous, Points::To(name(previous)), "{}", trace());
        let rest: BTreeSet<_> = [current, previous].into_iter().map(name).collect();
        assert_eq!(seen.tree.versions, rest, "{}", trace());
        assert!(!seen.tree.leftovers, "{}", trace());
        for version in [current, previous].map(name) {
            assert!(self.is_verified(&self.versions.layout.version(&version), &version), "{}", trace());
        }
        assert_eq!(self.told, BTreeSet::from([end]), "{}", trace());
        let record = seen.journal.record().unwrap();
        assert_eq!((record.phase, record.told), (end, Told::Acknowledged));
        assert_eq!(self.versions.verdict(&name(NEW)).unwrap().is_some(), end == Phase::RolledBack);
        assert!(self.versions.slot_faults().is_empty());
        assert!(self.fs.meta(&self.versions.layout.trial()).is_err(), "{}", trace());
    }
}
