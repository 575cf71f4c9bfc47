//! An upgrade that is cancelled while its version is armed, and a service that is stopped then.

use std::path::Path;

use outrider_backend::admin::CommandState;
use outrider_protocol::ids::CommandId;
use outrider_protocol::upgrade::UpgradeState;
use outrider_versions::Phase;
use serde_json::Value;

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
        make_large(&world.stack.dir.path().join(format!("contents-{version}")));
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
fn whenever_a_service_is_stopped_that_goes_over_its_process_ends_and_the_next_one_goes_on() {
    /// Milliseconds from arming to the stop: while it is armed, while everything stops, and while the launcher reads it.
    const MOMENTS: [u64; 5] = [0, 150, 300, 600, 900];
    let world = World::start();
    let contents = world.stack.dir.path().join("contents");
    let copied = run(std::process::Command::new("cp").arg("-r").arg(programs()).arg(&contents));
    assert!(copied.status.success());
    make_large(&contents);
    for (turn, moment) in MOMENTS.into_iter().enumerate() {
        let version = format!("1.1.{turn}");
        world.publish(&version, &contents);
        let status = run(outrider(&world.root()).args(["status", "--json"]));
        let status: Value = serde_json::from_slice(&status.stdout).unwrap();
        let pid = status.pointer("/service/pid").and_then(Value::as_u64).unwrap();
        let id = world.order(&version);
        until_armed(&world, &id);
        std::thread::sleep(std::time::Duration::from_millis(moment));
        let stopped = run(std::process::Command::new("kill").args(["-TERM", &pid.to_string()]));
        assert!(stopped.status.success(), "{moment} ms");
        // Be it the old version, the new one, or what is between them: whoever stops a service waits for the end of this.
        until("the end of the service's process", || {
            (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())
        });
        let (state, report) = world.outcome(&id);
        let told = world.told();
        assert_eq!(
            (state, report.state),
            (CommandState::Done, UpgradeState::Done),
            "{moment} ms: {report:?}\n{told}"
        );
        assert_eq!(world.current(), name(&version));
        world.until_runs(&version);
    }
}

/// So large that to read all of it, which is what arming and the launcher do, takes a while.
fn make_large(contents: &Path) {
    std::fs::create_dir_all(contents).unwrap();
    std::fs::File::create(contents.join("data")).unwrap().set_len(128 << 20).unwrap();
}
