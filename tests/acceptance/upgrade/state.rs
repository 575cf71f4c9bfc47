//! Versions between which the state has another schema: it is migrated on a copy, kept for the version before, and put back.
//! The versions are the same programs; a file beside them says which schema they play.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use outrider_backend::admin::CommandState;
use outrider_protocol::ids::CommandId;
use outrider_protocol::upgrade::{UpgradeOrder, UpgradeState};
use outrider_versions::{Phase, Versions};
use serde_json::{Value, json};

use super::ends::{is_taken_back, stays};
use super::world::{World, name, programs};
use crate::support::{export, outrider, printed, run, until};

const REPOS: usize = 40;
const PULL_REQUESTS: usize = 40;

impl World {
    /// Publishes the real agent with another schema: `2 well`, `2 fails`, or `2 dies` in the middle of its first migration.
    pub(super) fn publish_with_schema(&self, version: &str, played: &str) {
        let folder = self.stack.dir.path().join(format!("contents-{version}"));
        let copied = run(Command::new("cp").arg("-r").arg(programs()).arg(&folder));
        assert!(copied.status.success(), "{}", printed(&copied));
        fs::write(folder.join("played-state-schema"), played).unwrap();
        self.publish(version, &folder);
    }

    /// The schema of one of the root's states, and whether a migration was played there.
    pub(super) fn schema(&self, state: &str) -> Option<(u64, bool)> {
        let folder = self.root().join(state);
        let text = fs::read(folder.join("schema.json")).ok()?;
        let schema = serde_json::from_slice::<Value>(&text).unwrap()["schema"].as_u64().unwrap();
        Some((schema, folder.join("played-1").exists()))
    }

    /// Orders an export, and waits until a part of it is done.
    fn export_begun(&self) -> CommandId {
        let exported = self.stack.order(long_export());
        until("a part of the export to be done", || {
            let progress = format!("{:?}", self.stack.progress(&exported));
            let state = self.stack.command(&exported).summary.state;
            (progress.len() > 10 && state == CommandState::Running).then_some(())
        });
        exported
    }

    /// These exports end well, and between them everything has arrived, once.
    fn arrives_once(&self, exports: &[&CommandId]) {
        let mut ids = Vec::new();
        for exported in exports {
            let ended = until("the end of the export", || {
                Some(self.stack.command(exported)).filter(|it| it.summary.state.is_end())
            });
            assert_eq!(ended.summary.state, CommandState::Done, "{ended:?}\n{}", self.told());
            self.stack.until_uploaded();
            let objects = self.stack.objects(exported, "sourcecode.PullRequest");
            ids.extend(objects.iter().map(|it| it["id"].as_str().unwrap().to_owned()));
        }
        let once: BTreeSet<_> = ids.iter().collect();
        assert_eq!(once.len(), REPOS * PULL_REQUESTS, "nothing is missing");
        assert_eq!(ids.len(), once.len(), "nothing came twice");
    }
}

fn long_export() -> outrider_protocol::action::Order {
    export(&json!([{
        "name": "mock",
        "config": { "repos": REPOS, "pull_requests": PULL_REQUESTS, "delay_ms": 6, "batch": 5 },
    }]))
}

#[test]
fn a_migrated_state_stays_with_its_version_and_the_one_before_is_kept_until_then() {
    let world = World::with(&json!({ "upgrade_green_s": 3 }));
    world.publish("0.9.0", &programs());
    world.publish_with_schema("1.1.0", "2 well");
    let exported = world.export_begun();
    let upgrade = world.order("1.1.0");
    until("the state to be migrated", || (world.schema("state") == Some((2, true))).then_some(()));
    assert_eq!(world.schema("state.kept"), Some((1, false)));
    stays(&world, &world.outcome(&upgrade));
    world.arrives_once(&[&exported]);
    until("the state before to be gone", || (!world.root().join("state.kept").exists()).then_some(()));
    assert_eq!(world.schema("state"), Some((2, true)));

    // A version of schema 1 does not understand this state, and says so; nothing is kept for it any more.
    let back =
        UpgradeOrder { version: Some("0.9.0".to_owned()), allow_downgrade: true, ..UpgradeOrder::default() };
    let (state, report) = world.upgrade(back);
    assert_eq!((state, report.state), (CommandState::Failed, UpgradeState::RolledBack), "{report:?}");
    let why = report.reason.unwrap();
    assert!(why.contains("has schema 2") && why.contains("knows 1 at most"), "{why}");
    assert_eq!((world.current(), world.schema("state")), (name("1.1.0"), Some((2, true))));
    world.until_runs("1.1.0");
}

#[test]
fn the_version_before_goes_on_with_its_own_state_and_no_order_is_lost() {
    let world = World::with(&json!({ "upgrade_green_s": 60, "upgrade_bound_s": 120 }));
    world.publish_with_schema("1.1.0", "2 well");
    let begun = world.export_begun();
    let upgrade = world.order("1.1.0");
    world.until_runs("1.1.0");
    assert_eq!(world.record().unwrap().phase, Phase::Probation);
    assert_eq!((world.schema("state"), world.schema("state.kept")), (Some((2, true)), Some((1, false))));

    // What is ordered now waits with the backend, and what was begun waits as well.
    let later = world.stack.order(long_export());
    let status = outrider(&world.root()).arg("status").output().unwrap();
    assert!(printed(&status).contains("has schema 2"), "of schema 1 itself: {}", printed(&status));
    let current = world.root().join("current/outrider");
    let by = |args: &[&str]| run(Command::new(&current).args(args).arg("--root").arg(world.root()));
    let status = printed(&by(&["status"]));
    assert!(status.contains("the one before is kept until the upgrade stays"), "{status}");
    let refused = by(&["export", r#"--integrations-json=[{"name":"mock","config":{"repos":1}}]"#]);
    assert_eq!(refused.status.code(), Some(1), "{}", printed(&refused));
    assert!(printed(&refused).contains("is on trial"), "{}", printed(&refused));
    let refused = by(&["upgrade", "--version", "1.1.0"]);
    assert!(printed(&refused).contains("would forget this order"), "{}", printed(&refused));
    assert_eq!(world.stack.command(&later).summary.state, CommandState::Queued);

    let taken_back = by(&["upgrade", "--rollback"]);
    assert!(taken_back.status.success(), "{}", printed(&taken_back));
    is_taken_back(&world, &world.outcome(&upgrade), "by_hand");
    assert_eq!((world.schema("state"), world.schema("state.undone")), (Some((1, false)), Some((2, true))));
    assert_eq!(world.schema("state.kept"), None);
    world.until_says("logs/service-run", "is in place again");
    world.arrives_once(&[&begun, &later]);
}

#[test]
fn an_upgrade_by_hand_without_a_service_migrates_at_its_start_and_orders_are_taken_once_it_stays() {
    let mut world = World::start();
    world.publish_with_schema("1.1.0", "2 well");
    world.stop_system();
    let mut upgrade = Command::new(world.root().join("current/outrider"));
    upgrade.args(["upgrade", "--version", "1.1.0", "--source"]).arg(world.mirror());
    let upgraded = run(upgrade.arg("--root").arg(world.root()));
    assert!(upgraded.status.success(), "{}", printed(&upgraded));
    assert_eq!((world.current(), world.schema("state")), (name("1.1.0"), Some((1, false))));
    // By hand the attempt has the usual minute.
    let versions = Versions::of(world.root());
    versions.write(Duration::from_secs(5)).unwrap().update(|it| it.green_for_ms = 1000).unwrap();
    world.start_system();
    world.until_phase(Phase::Committed);
    let exported = world.stack.order(long_export());
    world.arrives_once(&[&exported]);
    assert_eq!((world.schema("state"), world.schema("state.kept")), (Some((2, true)), None));
}

#[test]
fn a_version_that_dies_in_its_migration_begins_it_again() {
    let world = World::start();
    world.publish_with_schema("1.1.0", "2 dies");
    stays(&world, &world.to("1.1.0"));
    assert!(world.root().join("played-death").exists(), "it died once");
    until("the state before to be gone", || (!world.root().join("state.kept").exists()).then_some(()));
    assert_eq!(world.schema("state"), Some((2, true)));
    assert!(!world.root().join("state.scrap").exists() && !world.root().join("state.new").exists());
}

#[test]
fn a_version_whose_migration_fails_is_taken_back_at_once_and_says_why() {
    let world = World::start();
    world.publish_with_schema("1.1.0", "2 fails");
    let ended = world.to("1.1.0");
    is_taken_back(&world, &ended, "unhealthy");
    let why = ended.1.reason.unwrap();
    assert!(why.contains("from schema 1 to 2") && why.contains("it is played to fail"), "{why}");
    assert_eq!((world.schema("state"), world.schema("state.kept")), (Some((1, false)), None));
    assert!(!world.root().join("state.scrap").exists());
}

#[test]
fn a_state_of_a_later_version_is_refused_by_whatever_would_open_it() {
    let mut world = World::start();
    world.stop_system();
    let schema = world.root().join("state/schema.json");
    fs::write(&schema, r#"{"schema":9}"#).unwrap();
    let by = |args: &[&str]| run(outrider(&world.root()).args(args));
    for args in [
        &["service-run"][..],
        &["export", r#"--integrations-json=[{"name":"mock","config":{"repos":1}}]"#],
        &["data", "checkpoints"],
    ] {
        let refused = by(args);
        let told = printed(&refused);
        assert_eq!(refused.status.code(), Some(1), "{args:?}: {told}");
        assert!(told.contains("has schema 9") && told.contains("knows 1 at most"), "{args:?}: {told}");
    }
    let status = printed(&by(&["status"]));
    assert!(status.lines().any(|it| it.starts_with("unknown") && it.contains("has schema 9")), "{status}");
    assert_eq!(fs::read_to_string(schema).unwrap(), r#"{"schema":9}"#);
}
