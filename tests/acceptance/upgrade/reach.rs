//! A backend that nobody reaches, and one that has errors of its own.

use std::time::Duration;

use jiff::Timestamp;
use outrider_backend::admin::CommandState;
use outrider_protocol::action::Order;
use outrider_protocol::upgrade::{UpgradeOrder, UpgradeState};
use outrider_versions::{OldReach, Phase};
use serde_json::json;

use super::ends::stays;
use super::gateway::{Gateway, Mode};
use super::world::{World, name, programs};
use crate::support::until;

#[test]
fn a_version_stays_where_the_one_before_did_not_reach_the_backend_either_and_it_is_told_later() {
    let mut world = World::start();
    world.publish("1.1.0", &programs());
    let order = UpgradeOrder {
        version: Some("1.1.0".to_owned()),
        sources: vec![world.mirror().display().to_string()],
        start_at: Some(Timestamp::now() + Duration::from_secs(3)),
        ..UpgradeOrder::default()
    };
    let id = world.stack.order(Order::Upgrade(order));
    until("the upgrade to be scheduled", || world.stack.progress(&id).upgrade);
    world.stack.stop_backend();
    world.until_phase(Phase::Committed);
    assert_ne!(world.record().unwrap().old_reach, OldReach::Reached);
    assert_eq!(world.current(), name("1.1.0"));
    world.stack.start_backend_again();
    let (state, report) = world.outcome(&id);
    assert_eq!((state, report.state), (CommandState::Done, UpgradeState::Done), "{report:?}");
    world.until_runs("1.1.0");
}

/// A new version meets a backend that answers with this status until its trial is over, or until it is seen to be tried.
fn with_status(status: u16, mends: bool) {
    let gateway = Gateway::new();
    let limits = json!({ "upgrade_bound_s": 8 });
    let world = World::behind(&limits, |backend| gateway.before(backend), &[]);
    world.publish_ill(
        "1.1.0",
        "[ -e \"$OUTRIDER_ROOT/go\" ] || : > \"$OUTRIDER_ROOT/waits\"\n\
         until [ -e \"$OUTRIDER_ROOT/go\" ]; do sleep 0.02; done",
    );
    let id = world.order("1.1.0");
    until("the new version to be started", || world.root().join("waits").exists().then_some(()));
    gateway.set(Mode::Status(status));
    std::fs::write(world.root().join("go"), "").unwrap();
    until("the new version to be refused", || (gateway.refused() > 0).then_some(()));
    if mends {
        // Long enough for the watcher to have seen it.
        world.until_says("logs/watch", "answered");
        assert_eq!(world.record().unwrap().phase, Phase::Probation);
    } else {
        world.until_phase(Phase::Committed);
    }
    gateway.set(Mode::Pass);
    stays(&world, &world.outcome(&id));
}

#[test]
fn a_backend_that_is_busy_for_a_while_is_no_reason_to_go_back() {
    with_status(503, true);
}

#[test]
fn a_backend_that_is_busy_all_the_time_is_no_reason_to_go_back() {
    with_status(429, false);
}
