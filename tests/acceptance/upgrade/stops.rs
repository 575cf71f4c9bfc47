//! An upgrade that is cancelled while its version is armed, and a service that is stopped then.

use std::path::Path;

use outrider_backend::admin::CommandState;
use outrider_protocol::ids::CommandId;
use outrider_protocol::upgrade::UpgradeState;
use outrider_versions::Phase;
use serde_json::Value;

use super::ends::stays;
use super::world::{World, name, programs};
use crate::support::{outrider, run, until};

/// Waits until the backend hears that the version is armed, or of what comes after that.
fn until_armed(world: &World, id: &CommandId) {
    until("the version to be armed", || {
        let state = world.stack.progress(id).upgrade?.state;
        (state == UpgradeState::Arming || state.is_switched() || state.is_end()).then_some(())
    });
}

#[test]
fn whenever_it_is_cancelled_what_the_backend_is_told_is_what_the_host_did() {
    /// Milliseconds from arming to the cancel.
    const MOMENTS: [u64; 6] = [0, 0, 50, 100, 200, 400];
    let world = World::start();
    let mut cancelled = 0;
    for (turn, moment) in MOMENTS.into_iter().enumerate() {
        let version = format!("1.1.{turn}");
        // So large that to read all of it, which is what arming does, takes a while.
        let contents = world.stack.dir.path().join(format!("contents-{version}"));
        std::fs::create_dir_all(&contents).unwrap();
        std::fs::File::create(contents.join("data")).unwrap().set_len(128 << 20).unwrap();
        world.publish_script(&version, "#!/bin/sh\nexit 1\n");
        let id = world.order(&version);
        until_armed(&world, &id);
        std::thread::sleep(std::time::Duration::from_millis(moment));
        world.stack.cancel_if_it_runs(&id);
        let (state, report) = world.outcome(&id);
        let phase = until("the attempt's end in the journal", || {
            world.record().map(|it| it.phase).filter(|it| it.is_terminal())
        });
        let told = (state, report.state, phase);
        match report.state {
            UpgradeState::Cancelled => {
                assert_eq!(told, (CommandState::Cancelled, UpgradeState::Cancelled, Phase::Cancelled));
                cancelled += 1;
            }
            _ => assert_eq!(told, (CommandState::Failed, UpgradeState::RolledBack, Phase::RolledBack)),
        }
        assert_eq!(world.current(), name("1.0.0"), "{report:?}");
        world.until_runs("1.0.0");
        assert!(!world.root().join("upgrade/staging").exists() || report.state != UpgradeState::Cancelled);
    }
    assert!(cancelled > 0, "none was cancelled in time");
    println!("{cancelled} of {} upgrades were cancelled while they were armed", MOMENTS.len());
}

#[test]
fn a_service_that_is_stopped_while_a_version_is_armed_ends_and_the_next_one_goes_on() {
    let world = World::start();
    world.publish("1.1.0", &programs());
    let status = run(outrider(&world.root()).args(["status", "--json"]));
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    let pid = status.pointer("/service/pid").and_then(Value::as_u64).unwrap();
    let id = world.order("1.1.0");
    until_armed(&world, &id);
    let stopped = run(std::process::Command::new("kill").args(["-TERM", &pid.to_string()]));
    assert!(stopped.status.success());
    // It becomes no other version: whoever stops a service waits for the end of the process.
    until("the end of the service's process", || {
        (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    });
    stays(&world, &world.outcome(&id));
}
