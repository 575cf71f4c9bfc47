//! The same order again, a second one while one is on trial, and an export that is interrupted by an upgrade.

use std::collections::BTreeSet;
use std::fs;

use outrider_backend::admin::CommandState;
use outrider_protocol::upgrade::UpgradeState;
use outrider_versions::Phase;
use serde_json::json;

use super::gateway::{Gateway, Mode};
use super::world::{World, name, programs};
use crate::support::{export, until};

#[test]
fn an_order_that_comes_again_and_again_is_one_attempt() {
    let gateway = Gateway::new();
    let world = World::behind(&json!({}), |backend| gateway.before(backend), &[]);
    world.publish_script("1.1.0", "#!/bin/sh\nexit 1\n");
    gateway.set(Mode::NotTaken);
    let id = world.order("1.1.0");
    // It is carried out, and the backend gives the order again at each connection, to two versions in turn.
    world.until_phase(Phase::RolledBack);
    until("the order to have come again", || (gateway.refused() > 2).then_some(()));
    let journal = journal(&world);
    gateway.set(Mode::Pass);
    let (state, report) = world.outcome(&id);
    assert_eq!((state, report.state), (CommandState::Failed, UpgradeState::RolledBack), "{report:?}");
    assert_eq!(report.attempt, id.to_string());
    // After a restart as well.
    world.kill_everything();
    world.until_runs("1.0.0");
    assert_eq!(world.record().unwrap().attempt, id.to_string());
    assert_eq!(world.record().unwrap().phase, Phase::RolledBack);
    assert!(!journal.is_empty());
    assert_eq!(world.current(), name("1.0.0"));
}

/// What the journal of versions holds, byte for byte.
fn journal(world: &World) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(world.root().join("upgrade")).unwrap().flatten();
    let mut files: Vec<_> = files
        .filter(|it| it.file_name().to_string_lossy().starts_with("journal"))
        .map(|it| (it.file_name().to_string_lossy().into_owned(), fs::read(it.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn what_runs_already_is_not_written_again() {
    let world = World::start();
    world.publish("1.0.0", &programs());
    let versions = || fs::read_dir(world.root().join("versions")).unwrap().count();
    let before = (journal(&world), versions());
    let (state, report) = world.to("1.0.0");
    assert_eq!((state, report.state), (CommandState::Done, UpgradeState::AlreadyCurrent), "{report:?}");
    assert_eq!((journal(&world), versions()), before);
    assert!(!world.root().join("previous").exists());
}

#[test]
fn a_second_order_while_one_is_on_trial_waits_for_its_end() {
    let world = World::with(&json!({ "upgrade_green_s": 3 }));
    world.publish("1.1.0", &programs());
    world.publish_script("1.2.0", "#!/bin/sh\nexit 1\n");
    let first = world.order("1.1.0");
    world.until_phase(Phase::Probation);
    let second = world.order("1.2.0");
    let (state, report) = world.outcome(&first);
    assert_eq!((state, report.state), (CommandState::Done, UpgradeState::Done), "{report:?}");
    let (state, report) = world.outcome(&second);
    assert_eq!((state, report.state), (CommandState::Failed, UpgradeState::RolledBack), "{report:?}");
    assert_eq!(report.from.unwrap().version, "1.1.0");
    assert_eq!(world.current(), name("1.1.0"), "the version before is the one that stayed");
}

#[test]
fn an_export_that_runs_at_the_switch_goes_on_after_it_and_everything_arrives_once() {
    const REPOS: usize = 60;
    const PULL_REQUESTS: usize = 40;
    let world = World::start();
    world.publish("1.1.0", &programs());
    let order = export(&json!([{
        "name": "mock",
        "config": { "repos": REPOS, "pull_requests": PULL_REQUESTS, "delay_ms": 6, "batch": 5 },
    }]));
    let exported = world.stack.order(order);
    until("a part of the export to be done", || {
        let progress = format!("{:?}", world.stack.progress(&exported));
        (progress.len() > 10 && world.stack.command(&exported).summary.state == CommandState::Running)
            .then_some(())
    });
    let (state, report) = world.to("1.1.0");
    assert_eq!((state, report.state), (CommandState::Done, UpgradeState::Done), "{report:?}");
    let running = world.stack.command(&exported).summary.state;
    let ended = until("the end of the export", || {
        Some(world.stack.command(&exported)).filter(|it| it.summary.state.is_end())
    });
    assert_eq!(ended.summary.state, CommandState::Done, "{ended:?}\n{}", world.told());
    world.stack.until_uploaded();
    let log = world.stack.log(&exported).join("\n");
    let ids: Vec<String> = world
        .stack
        .objects(&exported, "sourcecode.PullRequest")
        .into_iter()
        .map(|it| it["id"].as_str().unwrap().to_owned())
        .collect();
    let once: BTreeSet<_> = ids.iter().collect();
    assert_eq!(once.len(), REPOS * PULL_REQUESTS, "nothing is missing");
    assert_eq!(ids.len(), once.len(), "nothing came twice");
    assert!(!running.is_end(), "the export was still to be done after the switch: {running}\n{log}");
}
