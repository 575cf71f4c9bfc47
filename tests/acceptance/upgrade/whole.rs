//! The usual ways of an upgrade: a good version, bad ones, one that was tampered with, windows, and everything killed at once.

use std::fs;
use std::time::Duration;

use jiff::Timestamp;
use outrider_backend::admin::CommandState;
use outrider_protocol::action::Order;
use outrider_protocol::report::ActionReport;
use outrider_protocol::upgrade::{UpgradeOrder, UpgradeState};

use super::world::{World, name, programs};
use crate::support::until;

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
    world.publish_script("1.1.0", "#!/bin/sh\necho $$ > \"$OUTRIDER_ROOT/hangs\"; exec sleep 1000\n");
    let (state, report) = world.to("1.1.0");
    assert_eq!((state, report.state), (CommandState::Failed, UpgradeState::RolledBack), "{report:?}");
    assert_eq!(world.current(), name("1.0.0"));
    world.until_runs("1.0.0");
    // It never had the root, and was ended all the same, so that the system started the version before.
    let pid = fs::read_to_string(world.root().join("hangs")).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
    assert!(!status.contains("sleep"), "it hangs still: {status:?}");
    assert!(!world.told().contains("it is started from here"), "{}", world.told());
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
    let staged = fs::read_dir(world.root().join("upgrade/staging")).map_or(0, Iterator::count);
    assert_eq!(staged, 0, "nothing of it stays");
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
