//! Versions that start, and are not well: each is taken back, and the backend is told why.

use std::fs;

use outrider_backend::admin::CommandState;
use outrider_protocol::upgrade::UpgradeState;
use serde_json::json;

use super::ill::library;
use super::world::{World, name};

/// The version is taken back, for a reason that says this.
fn taken_back(world: &World, why: &str) {
    let (state, report) = world.to("1.1.0");
    let told = world.told();
    assert_eq!((state, report.state), (CommandState::Failed, UpgradeState::RolledBack), "{report:?}\n{told}");
    assert_eq!(world.current(), name("1.0.0"));
    world.until_runs("1.0.0");
    let verdict = world.root().join("upgrade/failed").join(name("1.1.0")).join("rolled-back");
    let verdict = fs::read_to_string(verdict).unwrap();
    assert!(verdict.starts_with(why), "{verdict}\n{told}");
}

#[test]
fn a_version_that_hangs_after_all_was_well_is_taken_back() {
    let world = World::with(&json!({ "upgrade_green_s": 8 }));
    world.publish_ill(
        "1.1.0",
        "(until grep -q 'All is well' \"$OUTRIDER_ROOT/logs/watch\"; do sleep 0.05; done; kill -STOP $$) &",
    );
    taken_back(&world, "hang");
    world.until_says("logs/watch", "All was well, and is not any more");
}

#[test]
fn a_version_that_cannot_carry_out_an_order_is_taken_back() {
    let world = World::start();
    // Its program is gone once it runs, so that no action of it starts.
    world.publish_ill(
        "1.1.0",
        "exec 9<\"$here/inner/outrider\"; rm \"$here/inner/outrider\"; exec /proc/self/fd/9 \"$@\"",
    );
    taken_back(&world, "unhealthy");
}

#[test]
fn a_version_that_does_not_reach_the_backend_as_the_one_before_did_is_taken_back() {
    let world = World::with(&json!({ "upgrade_bound_s": 6 }));
    world.publish_lied_to("1.1.0", "ILL_UNREACHABLE=1");
    taken_back(&world, "deadline");
}

#[test]
fn a_version_that_eats_memory_is_taken_back() {
    let world = World::with(&json!({ "upgrade_green_s": 8 }));
    world.publish_ill(
        "1.1.0",
        &format!("ulimit -v 1000000; export ILL_EATS=1 LD_PRELOAD={}", library().display()),
    );
    taken_back(&world, "crash_loop");
}
