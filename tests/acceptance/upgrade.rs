//! Upgrades through the built programs: a backend that orders them and mirrors what was signed, an agent that was installed
//! from a package, and a system that starts the launcher again whenever what it started has ended.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use outrider_backend::admin::CommandState;
use outrider_protocol::action::Order;
use outrider_protocol::ids::CommandId;
use outrider_protocol::report::ActionReport;
use outrider_protocol::upgrade::{UpgradeOrder, UpgradeReport, UpgradeState};
use outrider_releases::{Expiry, Keys, NewRelease, Repository, Role, Thresholds};
use outrider_upgrade::{CommitHash, Format, Identity, Manifest, Recipe, Release, pack};
use serde_json::json;

use crate::support::{OUTRIDER, Stack, printed, run, until};

/// Made once for all tests: stripping and copying costs seconds.
static PROGRAMS: Mutex<Option<PathBuf>> = Mutex::new(None);

fn identity(version: &str) -> Identity {
    // Any commit will do, so that it differs between versions.
    let hash: String = version.bytes().cycle().take(20).map(|it| format!("{it:02x}")).collect();
    Identity::new(Release::parse(version).unwrap(), CommitHash::parse(&hash).unwrap())
}

fn name(version: &str) -> String {
    identity(version).directory_name()
}

/// The built programs without what only a debugger reads.
fn programs() -> PathBuf {
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
struct World {
    /// First, so that it is stopped before its root goes.
    system: Option<System>,
    stack: Stack,
    keys: PathBuf,
}

impl World {
    fn start() -> Self {
        let limits = json!({
            "upgrade_green_s": 1, "upgrade_bound_s": 20, "upgrade_hang_s": 3, "request_timeout_s": 10,
            "stop_timeout_s": 10, "cancel_grace_s": 2, "term_grace_s": 1,
        });
        let mut stack = Stack::start(&limits);
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
        world.system = Some(System::start(&world.root()));
        world.stack.until_connected();
        world
    }

    fn root(&self) -> PathBuf {
        self.stack.root()
    }

    fn signer(&self) -> Keys {
        Keys::in_folders([&self.keys])
    }

    /// The folder that the backend serves.
    fn mirror(&self) -> PathBuf {
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
    fn publish_script(&self, version: &str, script: &str) -> PathBuf {
        let folder = self.stack.dir.path().join(format!("contents-{version}"));
        fs::create_dir_all(&folder).unwrap();
        for program in ["outrider", "outrider-launcher"] {
            fs::write(folder.join(program), script).unwrap();
            fs::set_permissions(folder.join(program), fs::Permissions::from_mode(0o755)).unwrap();
        }
        self.publish(version, &folder)
    }

    /// Packs a folder, signs it, and puts it on the mirror. Answers the package.
    fn publish(&self, version: &str, folder: &Path) -> PathBuf {
        let packages = self.stack.dir.path().join("packages");
        fs::create_dir_all(&packages).unwrap();
        let package = identity(version);
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        let recipe = Recipe { folder, package: &package, os, arch, most_bytes: 1 << 30 };
        let packed = pack(&recipe, Format::TarGz, &packages).unwrap();
        let list = packages.join(format!("outrider-{version}-{os}-{arch}.files.json"));
        fs::write(list, packed.list.to_json().unwrap()).unwrap();
        let mut repository = Repository::open(&self.mirror(), Expiry::default()).unwrap();
        let release = NewRelease {
            archive: packed.archive.clone(),
            channel: "stable".to_owned(),
            hash: None,
            floor: None,
        };
        repository.add(&[release], &self.signer(), Timestamp::now()).unwrap();
        packed.archive
    }

    /// Orders an upgrade through the backend, and waits for its outcome.
    fn upgrade(&self, order: UpgradeOrder) -> (CommandState, UpgradeReport) {
        let id = self.stack.order(Order::Upgrade(order));
        self.outcome(&id)
    }

    fn outcome(&self, id: &CommandId) -> (CommandState, UpgradeReport) {
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
    fn kill_everything(&self) {
        let root = self.root();
        let ours = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains(root.to_str().unwrap()) && !line.contains("backend")
        };
        let all = fs::read_dir("/proc").unwrap().flatten();
        let pids = all.filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok()).filter(ours);
        let pids: Vec<String> = pids.map(|it| it.to_string()).collect();
        drop(Command::new("kill").arg("-9").args(pids).output());
    }

    /// What the host has to say, for messages.
    fn told(&self) -> String {
        let read = |path: &str| fs::read_to_string(self.root().join(path)).unwrap_or_default();
        format!(
            "{}\n--- watch\n{}\n--- upgrade\n{}",
            read("system.out"),
            read("logs/watch"),
            read("logs/upgrade")
        )
    }

    fn to(&self, version: &str) -> (CommandState, UpgradeReport) {
        self.upgrade(UpgradeOrder { version: Some(version.to_owned()), ..UpgradeOrder::default() })
    }

    fn current(&self) -> String {
        let target = fs::read_link(self.root().join("current")).unwrap();
        target.file_name().unwrap().to_str().unwrap().to_owned()
    }

    /// Which build the backend sees.
    fn until_runs(&self, version: &str) {
        let expected = identity(version);
        until("the version to be connected", || {
            let build = self.stack.agent().build?;
            build.contains(expected.hash.first(8)).then_some(())
        });
    }
}

/// What starts the launcher, and starts it again.
struct System {
    stop: Arc<AtomicBool>,
    pid: Arc<AtomicU32>,
    thread: Option<JoinHandle<()>>,
}

impl System {
    fn start(root: &Path) -> Self {
        let (stop, pid) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, started, root) = (stop.clone(), pid.clone(), root.to_owned());
        let thread = std::thread::spawn(move || {
            let out = fs::File::options().create(true).append(true).open(root.join("system.out")).unwrap();
            while !stopped.load(Ordering::SeqCst) {
                let mut child = Command::new(root.join("outrider-launcher"))
                    .arg("--root")
                    .arg(&root)
                    .arg("service-run")
                    .stdin(std::process::Stdio::null())
                    .stdout(out.try_clone().unwrap())
                    .stderr(out.try_clone().unwrap())
                    .spawn()
                    .unwrap();
                started.store(child.id(), Ordering::SeqCst);
                drop(child.wait());
                // As a system's pause between two starts.
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Self { stop, pid, thread: Some(thread) }
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let started = Instant::now();
        while self.thread.as_ref().is_some_and(|it| !it.is_finished()) {
            let pid = self.pid.load(Ordering::SeqCst).to_string();
            drop(Command::new("kill").args(["-9", &pid]).output());
            assert!(started.elapsed() < Duration::from_secs(30), "the service does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(self.thread.take().map(JoinHandle::join));
    }
}

#[test]
fn a_good_version_takes_over_and_is_told_by_itself() {
    let world = World::start();
    let contents = programs();
    world.publish("1.1.0", &contents);
    let (state, report) = world.to("1.1.0");
    assert_eq!((state, report.state), (CommandState::Done, UpgradeState::Done), "{report:?}");
    assert_eq!(report.from.unwrap().version, "1.0.0");
    assert_eq!(report.to.unwrap().version, "1.1.0");
    assert_eq!(world.current(), name("1.1.0"));
    world.until_runs("1.1.0");
    let previous = fs::read_link(world.root().join("previous")).unwrap();
    assert!(previous.ends_with(name("1.0.0")), "{previous:?}");

    // The same again changes nothing.
    let before = fs::read_dir(world.root().join("versions")).unwrap().count();
    let (state, report) = world.to("1.1.0");
    assert_eq!((state, report.state), (CommandState::Done, UpgradeState::AlreadyCurrent), "{report:?}");
    assert_eq!(fs::read_dir(world.root().join("versions")).unwrap().count(), before);

    // An older one only when it is meant.
    let (state, report) = world.to("1.0.0");
    assert_eq!((state, report.state), (CommandState::Failed, UpgradeState::Failed), "{report:?}");
    assert_eq!(world.current(), name("1.1.0"));
}

#[test]
fn a_version_that_ends_at_once_is_taken_back_and_not_tried_again_unasked() {
    let world = World::start();
    world.publish_script("1.1.0", "#!/bin/sh\nexit 1\n");
    let (state, report) = world.to("1.1.0");
    assert_eq!((state, report.state), (CommandState::Failed, UpgradeState::RolledBack), "{report:?}");
    assert_eq!(world.current(), name("1.0.0"));
    world.until_runs("1.0.0");
    let verdict = world.root().join("upgrade/failed").join(name("1.1.0")).join("rolled-back");
    assert!(fs::read_to_string(verdict).unwrap().starts_with("crash_loop"));

    let (state, report) = world.to("1.1.0");
    assert_eq!((state, report.state), (CommandState::Failed, UpgradeState::Failed), "{report:?}");
    assert!(report.reason.unwrap().contains("1.1.0"));
    assert_eq!(world.current(), name("1.0.0"));
}

#[test]
fn a_version_that_hangs_is_taken_back() {
    let world = World::start();
    world.publish_script("1.1.0", "#!/bin/sh\nexec sleep 1000\n");
    let (state, report) = world.to("1.1.0");
    assert_eq!((state, report.state), (CommandState::Failed, UpgradeState::RolledBack), "{report:?}");
    assert_eq!(world.current(), name("1.0.0"));
    world.until_runs("1.0.0");
}

#[test]
fn what_is_not_what_was_signed_is_refused() {
    let world = World::start();
    world.publish_script("1.1.0", "#!/bin/sh\nexit 1\n");
    let targets = fs::read_dir(world.mirror().join("targets")).unwrap();
    let archive =
        targets.flatten().find(|it| it.path().to_str().unwrap().ends_with(".tar.gz")).unwrap().path();
    let mut bytes = fs::read(&archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&archive, bytes).unwrap();
    let (state, report) = world.to("1.1.0");
    assert_eq!((state, report.state), (CommandState::Failed, UpgradeState::Failed), "{report:?}");
    assert_eq!(report.failed_at, Some(UpgradeState::Downloading), "{report:?}");
    assert!(!world.root().join("versions").join(name("1.1.0")).exists());
    assert_eq!(world.current(), name("1.0.0"));
}

#[test]
fn an_upgrade_waits_for_its_window_and_can_be_cancelled_there() {
    let world = World::start();
    world.publish_script("1.1.0", "#!/bin/sh\nexit 1\n");
    let later = Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let order =
        UpgradeOrder { version: Some("1.1.0".to_owned()), start_at: Some(later), ..UpgradeOrder::default() };
    let id = world.stack.order(Order::Upgrade(order));
    until("the upgrade to be scheduled", || {
        let progress = world.stack.progress(&id).upgrade?;
        (progress.state == UpgradeState::Scheduled && progress.scheduled_at == Some(later)).then_some(())
    });
    world.stack.cancel(&id);
    let command = world.stack.until_state(&id, CommandState::Cancelled);
    let Some(ActionReport::Upgrade(report)) = command.report else { panic!("{command:?}") };
    assert_eq!(report.state, UpgradeState::Cancelled);

    // A later order takes the place of one that waits.
    let waits = UpgradeOrder { start_at: Some(later), ..UpgradeOrder::default() };
    let id = world.stack.order(Order::Upgrade(waits));
    until("the second upgrade to be scheduled", || world.stack.progress(&id).upgrade);
    let (_, report) = world.to("1.1.0");
    assert_eq!(report.state, UpgradeState::RolledBack, "{report:?}");
    let command = world.stack.until_state(&id, CommandState::Cancelled);
    let Some(ActionReport::Upgrade(report)) = command.report else { panic!("{command:?}") };
    assert_eq!(report.state, UpgradeState::Superseded);
}

#[test]
fn whenever_everything_is_killed_one_whole_version_runs_and_the_backend_has_the_truth() {
    /// Milliseconds after the order; the ordinary run takes every tenth.
    const MOMENTS: std::ops::Range<u64> = 0..40;
    let cases = std::env::var("OUTRIDER_CASES").ok().and_then(|it| it.parse().ok()).unwrap_or(4);
    let step = (40 / cases.clamp(1, 40)).max(1);
    let world = World::start();
    let mut done = 0;
    for (turn, moment) in MOMENTS.step_by(usize::try_from(step).unwrap()).enumerate() {
        let version = format!("1.1.{turn}");
        world.publish_script(&version, "#!/bin/sh\nexit 1\n");
        let order = UpgradeOrder { version: Some(version.clone()), ..UpgradeOrder::default() };
        let id = world.stack.order(Order::Upgrade(order));
        std::thread::sleep(Duration::from_millis(moment * 50));
        world.kill_everything();
        let (state, report) = world.outcome(&id);
        assert_eq!(state, CommandState::Failed, "{report:?}");
        assert!(
            matches!(report.state, UpgradeState::RolledBack | UpgradeState::Failed),
            "killed after {} ms: {report:?}",
            moment * 50
        );
        assert_eq!(world.current(), name("1.0.0"), "killed after {} ms", moment * 50);
        world.until_runs("1.0.0");
        done += 1;
    }
    println!("{done} upgrades were killed, and the version before runs after each");
}
