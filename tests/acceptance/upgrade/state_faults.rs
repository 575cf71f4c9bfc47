//! Versions between which the state has another schema, where somebody or something interferes: a version runs that is not
//! current, a store is open elsewhere, the service is stopped meanwhile, a person wants the version before.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use outrider_home::{Checkpoints, LockError, Root};
use outrider_versions::Phase;
use serde_json::json;

use super::ends::stays;
use super::world::{World, make_program, name};
use crate::support::{printed, run, until};

impl World {
    fn program(&self, version: &str) -> PathBuf {
        self.root().join("versions").join(name(version)).join("outrider")
    }

    /// Runs the service of a version by itself, without the launcher.
    fn serve(&self, version: &str) -> Child {
        let out = fs::File::options().create(true).append(true).open(self.root().join("system.out")).unwrap();
        Command::new(self.program(version))
            .arg("service-run")
            .env("OUTRIDER_ROOT", self.root())
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap()
    }

    fn roll_back(&self) -> Output {
        let current = self.root().join("current/outrider");
        run(Command::new(current).args(["upgrade", "--rollback"]).env("OUTRIDER_ROOT", self.root()))
    }

    /// The process that has the root, if it is this version's.
    fn served_by(&self, version: &str) -> Option<u32> {
        let Err(LockError::InUse { pid: Some(pid), .. }) = Root::at(self.root()).in_use() else {
            return None;
        };
        let program = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        (program == self.program(version).canonicalize().ok()?).then_some(pid)
    }
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_version_that_was_taken_back_behind_its_back_leaves_the_state_to_the_one_that_is_current() {
    let mut world = World::with(&json!({ "upgrade_green_s": 60, "upgrade_bound_s": 120 }));
    world.publish_with_schema("1.1.0", "2 well");
    world.order("1.1.0");
    world.until_runs("1.1.0");
    world.stop_system();
    world.kill_everything();
    let back = world.roll_back();
    assert!(back.status.success(), "{}", printed(&back));
    assert_eq!((world.record().unwrap().phase, world.current()), (Phase::RolledBack, name("1.0.0")));
    let is_untouched = || {
        let found = (world.schema("state"), world.schema("state.kept"));
        assert_eq!(found, (Some((2, true)), Some((1, false))), "{}", world.told());
    };
    is_untouched();

    // The version before cannot be started: the other one stands in for it, and there is an end to that.
    let (program, aside) = (world.program("1.0.0"), world.root().join("aside"));
    fs::rename(&program, &aside).unwrap();
    make_program(&program, "garbage");
    let alone = world.serve("1.1.0");
    world.until_says("logs/service-run", "it leaves the state as it is");
    world.until_runs("1.1.0");
    is_untouched();
    end(alone);
    fs::rename(&aside, &program).unwrap();

    let alone = world.serve("1.1.0");
    until("the version before to have its state", || (world.schema("state")? == (1, false)).then_some(()));
    world.until_runs("1.0.0");
    assert_eq!(world.served_by("1.0.0"), Some(alone.id()));
    assert_eq!(world.schema("state.undone"), Some((2, true)));
    end(alone);
}

#[test]
fn a_store_that_is_open_elsewhere_does_not_speak_against_a_version() {
    let world = World::with(&json!({ "upgrade_hang_s": 8 }));
    world.publish_with_schema("1.1.0", "2 well");
    let store = Checkpoints::open(&Root::at(world.root()), Duration::ZERO).unwrap();
    let upgrade = world.order("1.1.0");
    world.until_says("logs/service-run", "The service ends.");
    let said = world.until_says("logs/service-run", "checkpoints.redb");
    drop(store);
    stays(&world, &world.outcome(&upgrade));
    assert_eq!(world.schema("state"), Some((2, true)), "{said}");
}

#[test]
fn a_service_that_is_stopped_while_it_sees_to_the_state_ends_in_good_order() {
    let world = World::with(&json!({ "upgrade_hang_s": 80, "upgrade_bound_s": 120 }));
    world.publish_with_schema("1.1.0", "2 well");
    // It waits for that, for half the time that it may be silent.
    let store = Checkpoints::open(&Root::at(world.root()), Duration::ZERO).unwrap();
    let upgrade = world.order("1.1.0");
    let first = until("the new version", || world.served_by("1.1.0"));
    let left = world.record().unwrap().tries_left;
    let stopped = run(Command::new("kill").arg(first.to_string()));
    assert!(stopped.status.success(), "{}", printed(&stopped));
    until("its next start", || world.served_by("1.1.0").filter(|it| *it != first));
    let record = world.record().unwrap();
    assert_eq!((record.phase, record.tries_left), (Phase::Probation, left), "no start is lost by it");
    drop(store);
    stays(&world, &world.outcome(&upgrade));
    assert_eq!(world.schema("state"), Some((2, true)));
}

#[test]
fn a_person_cannot_go_back_over_a_migration_that_stays_and_the_state_is_unharmed() {
    let mut world = World::start();
    world.publish_with_schema("1.1.0", "2 well");
    stays(&world, &world.to("1.1.0"));
    world.until_runs("1.1.0");
    until("the state before to be gone", || world.schema("state.kept").is_none().then_some(()));

    let is_unharmed = || {
        world.until_runs("1.1.0");
        let found = (world.current(), world.schema("state"), world.schema("state.kept"));
        assert_eq!(found, (name("1.1.0"), Some((2, true)), None), "{}", world.told());
    };
    let back = world.roll_back();
    assert_eq!(back.status.code(), Some(1), "{}", printed(&back));
    assert!(printed(&back).contains("knows 1 at most"), "{}", printed(&back));
    is_unharmed();

    world.stop_system();
    world.kill_everything();
    let back = world.roll_back();
    assert!(printed(&back).contains("the next start of the service runs it on trial"), "{}", printed(&back));
    world.start_system();
    world.until_phase(Phase::RolledBack);
    assert!(world.record().unwrap().detail.contains("knows 1 at most"), "{:?}", world.record());
    world.until_runs("1.1.0");
    let found = (world.current(), world.schema("state"), world.schema("state.kept"));
    assert_eq!(found, (name("1.1.0"), Some((2, true)), None), "{}", world.told());
}
