//! A backend that orders upgrades and mirrors what was signed, an agent that was installed from a package, and the system
//! that runs it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use outrider_backend::admin::CommandState;
use outrider_protocol::action::Order;
use outrider_protocol::ids::CommandId;
use outrider_protocol::report::ActionReport;
use outrider_protocol::upgrade::{UpgradeOrder, UpgradeReport};
use outrider_releases::{Expiry, Keys, NewRelease, Repository, Role, Thresholds};
use outrider_upgrade::{CommitHash, Format, Identity, Manifest, Recipe, Release, pack};
use outrider_versions::{Phase, Record, Versions};
use serde_json::{Value, json};

use super::system::{System, kill, kill_below, processes};
use crate::support::{OUTRIDER, SOON, Stack, printed, run, until};

/// Made once for all tests: stripping and copying costs seconds.
static PROGRAMS: Mutex<Option<PathBuf>> = Mutex::new(None);

pub(crate) fn identity(version: &str) -> Identity {
    // Any commit will do, so that it differs between versions.
    let hash: String = version.bytes().cycle().take(20).map(|it| format!("{it:02x}")).collect();
    Identity::new(Release::parse(version).unwrap(), CommitHash::parse(&hash).unwrap())
}

pub(crate) fn name(version: &str) -> String {
    identity(version).directory_name()
}

/// The built programs without what only a debugger reads.
pub(crate) fn programs() -> PathBuf {
    let mut made = PROGRAMS.lock().unwrap();
    made.get_or_insert_with(|| {
        let dir = tempfile::tempdir().unwrap().keep();
        let beside = Path::new(OUTRIDER).parent().unwrap();
        for (from, to) in [
            ("outrider", "outrider"),
            ("outrider-launcher", "outrider-launcher"),
            ("integration-mock", "integrations/integration-mock"),
        ] {
            fs::create_dir_all(dir.join("integrations")).unwrap();
            let (from, to) = (beside.join(from), dir.join(to));
            let stripped = run(Command::new("strip").arg("-o").arg(&to).arg(&from));
            assert!(stripped.status.success(), "{}", printed(&stripped));
        }
        dir
    })
    .clone()
}

/// An agent that was installed from version 1.0.0, its backend, and whoever signs releases.
pub(crate) struct World {
    system: Option<System>,
    pub(crate) stack: Stack,
    keys: PathBuf,
}

impl World {
    pub(crate) fn start() -> Self {
        Self::with(&json!({}))
    }

    /// With these limits beside the usual ones.
    pub(crate) fn with(more: &Value) -> Self {
        Self::behind(more, str::to_owned, &[])
    }

    /// The same, with the agent reaching the backend by another address, and variables of the system's.
    pub(crate) fn behind(
        more: &Value,
        address: impl FnOnce(&str) -> String,
        variables: &[(&str, PathBuf)],
    ) -> Self {
        let mut limits = json!({
            "upgrade_green_s": 1, "upgrade_bound_s": 20, "upgrade_hang_s": 3, "request_timeout_s": 10,
            "stop_timeout_s": 10, "cancel_grace_s": 2, "term_grace_s": 1, "reconnect_max_s": 1,
        });
        limits.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut stack = Stack::start_by(&limits, address);
        // Only then does it listen to signals.
        stack.until_connected();
        stack.service.signal("TERM");
        assert_eq!(stack.service.ended(), Some(0));
        let keys = stack.dir.path().join("keys");
        for (role, count) in [(Role::Root, 3), (Role::Targets, 1), (Role::Snapshot, 1), (Role::Timestamp, 1)]
        {
            Keys::generate(&keys, role, count).unwrap();
        }
        let mut world = Self { system: None, stack, keys };
        let repository = Repository::init(
            &world.mirror(),
            &world.signer(),
            Thresholds::default(),
            Expiry::default(),
            Timestamp::now(),
        );
        let trusted = world.stack.dir.path().join("releases-root.json");
        fs::write(&trusted, repository.unwrap().root().unwrap()).unwrap();
        let unpacked = world.unpacked("1.0.0");
        let installed = run(Command::new(unpacked.join("outrider"))
            .args(["install", "--releases-root"])
            .arg(&trusted)
            .arg("--root")
            .arg(world.root()));
        assert!(installed.status.success(), "{}", printed(&installed));
        world.system = Some(System::start(&world.root(), variables));
        world.stack.until_connected();
        world
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.stack.root()
    }

    pub(crate) fn signer(&self) -> Keys {
        Keys::in_folders([&self.keys])
    }

    /// The folder that the backend serves.
    pub(crate) fn mirror(&self) -> PathBuf {
        self.stack.dir.path().join("backend/releases")
    }

    /// A folder with the programs and the manifest of a version, as after unpacking.
    fn unpacked(&self, version: &str) -> PathBuf {
        let folder = self.stack.dir.path().join(format!("unpacked-{version}"));
        let copied = run(Command::new("cp").arg("-r").arg(programs()).arg(&folder));
        assert!(copied.status.success(), "{}", printed(&copied));
        let it = identity(version);
        let manifest = Manifest::older(it.release(), it.hash).unwrap();
        fs::write(folder.join("manifest.yaml"), manifest.to_yaml()).unwrap();
        folder
    }

    /// Publishes a version whose `outrider` is this script.
    pub(crate) fn publish_script(&self, version: &str, script: &str) -> PathBuf {
        let folder = self.stack.dir.path().join(format!("contents-{version}"));
        fs::create_dir_all(&folder).unwrap();
        for program in ["outrider", "outrider-launcher"] {
            make_program(&folder.join(program), script);
        }
        self.publish(version, &folder)
    }

    /// Packs a folder, signs it, and puts it on the mirror. Answers the package.
    pub(crate) fn publish(&self, version: &str, folder: &Path) -> PathBuf {
        self.publish_as(Format::TarGz, version, folder)
    }

    pub(crate) fn publish_as(&self, format: Format, version: &str, folder: &Path) -> PathBuf {
        let packages = self.stack.dir.path().join("packages");
        fs::create_dir_all(&packages).unwrap();
        let package = identity(version);
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        let recipe = Recipe { folder, package: &package, os, arch, most_bytes: 1 << 30 };
        let packed = pack(&recipe, format, &packages).unwrap();
        let list = packages.join(format!("outrider-{version}-{os}-{arch}.files.json"));
        fs::write(list, packed.list.to_json().unwrap()).unwrap();
        self.sign(&packed.archive);
        packed.archive
    }

    /// Puts a package that has its list and its `.sha512` beside it on the mirror.
    pub(crate) fn sign(&self, archive: &Path) {
        let mut repository = Repository::open(&self.mirror(), Expiry::default()).unwrap();
        let release =
            NewRelease { archive: archive.to_owned(), channel: "stable".to_owned(), hash: None, floor: None };
        repository.add(&[release], &self.signer(), Timestamp::now()).unwrap();
    }

    /// Orders an upgrade through the backend, and waits for its outcome.
    pub(crate) fn upgrade(&self, order: UpgradeOrder) -> (CommandState, UpgradeReport) {
        let id = self.stack.order(Order::Upgrade(order));
        self.outcome(&id)
    }

    pub(crate) fn outcome(&self, id: &CommandId) -> (CommandState, UpgradeReport) {
        let started = Instant::now();
        let command = loop {
            let command = self.stack.command(id);
            if command.summary.state.is_end() {
                break command;
            }
            assert!(started.elapsed() < Duration::from_secs(90), "no outcome: {command:?}\n{}", self.told());
            std::thread::sleep(Duration::from_millis(50));
        };
        let Some(ActionReport::Upgrade(report)) = command.report else {
            panic!("no report of an upgrade: {command:?}")
        };
        (command.summary.state, report)
    }

    /// As when the power goes: the service and the watcher at once. The system starts the launcher again.
    pub(crate) fn kill_everything(&self) {
        let _held = self.system.as_ref().map(System::hold);
        kill_below(&self.root());
    }

    /// Nobody starts the agent any more.
    pub(crate) fn stop_system(&mut self) {
        self.system = None;
    }

    /// The system starts the agent again.
    pub(crate) fn start_system(&mut self) {
        self.system = Some(System::start(&self.root(), &[]));
    }

    /// The watchers that there are.
    pub(crate) fn watchers(&self) -> Vec<u32> {
        processes(&self.root(), |line| line.split(' ').nth(1) == Some("watch"))
    }

    /// Kills the watcher as the system would that is out of memory.
    pub(crate) fn kill_watcher(&self) -> Vec<u32> {
        let watchers = until("a watcher", || Some(self.watchers()).filter(|it| !it.is_empty()));
        kill(&watchers);
        watchers
    }

    /// What the journal of versions says.
    pub(crate) fn record(&self) -> Option<Record> {
        Versions::of(self.root()).see().ok()?.journal.record().cloned()
    }

    pub(crate) fn until_phase(&self, phase: Phase) {
        let started = Instant::now();
        while self.record().map(|it| it.phase) != Some(phase) {
            assert!(started.elapsed() < SOON, "not {phase}: {:?}\n{}", self.record(), self.told());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until a file of the root says something, in a line that has ended; tells all that it says.
    pub(crate) fn until_says(&self, file: &str, text: &str) -> String {
        let started = Instant::now();
        loop {
            let says = fs::read_to_string(self.root().join(file)).unwrap_or_default();
            if says.find(text).is_some_and(|at| says[at..].contains('\n')) {
                return says;
            }
            assert!(started.elapsed() < SOON, "{file} does not say {text:?}:\n{}", self.told());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Orders an upgrade through the backend.
    pub(crate) fn order(&self, version: &str) -> CommandId {
        let version = Some(version.to_owned());
        self.stack.order(Order::Upgrade(UpgradeOrder { version, ..UpgradeOrder::default() }))
    }

    /// What the host has to say, for messages.
    pub(crate) fn told(&self) -> String {
        let read = |path: &str| fs::read_to_string(self.root().join(path)).unwrap_or_default();
        format!(
            "{}\n--- watch\n{}\n--- upgrade\n{}",
            read("system.out"),
            read("logs/watch"),
            read("logs/upgrade")
        )
    }

    pub(crate) fn to(&self, version: &str) -> (CommandState, UpgradeReport) {
        self.upgrade(UpgradeOrder { version: Some(version.to_owned()), ..UpgradeOrder::default() })
    }

    pub(crate) fn current(&self) -> String {
        let target = fs::read_link(self.root().join("current")).unwrap();
        target.file_name().unwrap().to_str().unwrap().to_owned()
    }

    /// Which build the backend sees.
    pub(crate) fn until_runs(&self, version: &str) {
        let expected = identity(version);
        until("the version to be connected", || {
            let build = self.stack.agent().build?;
            build.contains(expected.hash.first(8)).then_some(())
        });
    }
}

impl Drop for World {
    /// Its watcher, too: it would start the service again, which nobody would end.
    fn drop(&mut self) {
        self.system = None;
        kill_below(&self.root());
    }
}

/// A script, or whatever else, that can be run.
pub(crate) fn make_program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
