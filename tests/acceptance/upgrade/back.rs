//! People who go to the version before, and places of releases of which some are none.

use std::fs;
use std::process::{Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use outrider_versions::{Phase, Post, Record, Versions};
use serde_json::json;

use super::ends::{is_taken_back, stays};
use super::world::{World, make_program, name, programs};
use crate::support::{SOON, outrider, printed, run, until};

fn upgrade(world: &World, arguments: &[&str]) -> Output {
    run(outrider(&world.root()).arg("upgrade").args(arguments))
}

/// An agent of 1.0.0 that went to 1.1.0 for good, whose releases are out of reach from then on.
fn upgraded() -> World {
    let world = World::start();
    world.publish("1.1.0", &programs());
    stays(&world, &world.to("1.1.0"));
    world.until_runs("1.1.0");
    fs::rename(world.mirror(), world.mirror().with_extension("gone")).unwrap();
    world
}

#[test]
fn a_person_goes_to_the_version_before_and_again_to_the_later_one_without_releases() {
    let world = upgraded();
    for (version, other) in [("1.0.0", "1.1.0"), ("1.1.0", "1.0.0")] {
        let went = upgrade(&world, &["--rollback"]);
        assert!(went.status.success(), "{}\n{}", printed(&went), world.told());
        assert_eq!(world.current(), name(version));
        world.until_runs(version);
        let previous = fs::read_link(world.root().join("previous")).unwrap();
        assert!(previous.ends_with(name(other)), "{previous:?}");
    }
}

#[test]
fn a_person_takes_a_version_on_trial_back() {
    let world = World::with(&json!({ "upgrade_green_s": 60, "upgrade_bound_s": 90 }));
    world.publish("1.1.0", &programs());
    let id = world.order("1.1.0");
    world.until_phase(Phase::Probation);
    world.until_runs("1.1.0");
    let went = upgrade(&world, &["--rollback"]);
    assert!(went.status.success(), "{}\n{}", printed(&went), world.told());
    is_taken_back(&world, &world.outcome(&id), "by_hand");
}

/// A trial that only a person ends.
fn long_trial() -> World {
    World::with(&json!({ "upgrade_green_s": 60, "upgrade_bound_s": 90, "upgrade_hang_s": 80 }))
}

#[test]
fn a_person_takes_back_a_version_that_hangs_before_it_listens() {
    let world = long_trial();
    world.publish_script("1.1.0", "#!/bin/sh\n[ \"$1\" = service-run ] && exec sleep 1000\n");
    let id = world.order("1.1.0");
    world.until_phase(Phase::Probation);
    let versions = Versions::of(world.root());
    let pid = until("it runs", || versions.started());
    let went = upgrade(&world, &["--rollback"]);
    assert!(went.status.success(), "{}\n{}", printed(&went), world.told());
    assert!(printed(&went).contains(&format!("process {pid}")), "{}", printed(&went));
    assert_eq!(versions.started(), None);
    is_taken_back(&world, &world.outcome(&id), "by_hand");
}

#[test]
fn a_person_takes_back_a_version_that_listens_and_answers_nothing() {
    let world = long_trial();
    world.publish_ill(
        "1.1.0",
        "(until grep -q 'All is well' \"$OUTRIDER_ROOT/logs/watch\"; do sleep 0.05; done; kill -STOP $$) &",
    );
    let id = world.order("1.1.0");
    world.until_says("logs/watch", "gives no answer");
    let went = upgrade(&world, &["--rollback"]);
    assert!(went.status.success(), "{}\n{}", printed(&went), world.told());
    is_taken_back(&world, &world.outcome(&id), "by_hand");
}

#[test]
fn an_upgrade_by_hand_that_was_killed_stands_in_nobodys_way_and_one_that_runs_is_left_alone() {
    let mut world = World::start();
    world.publish("1.1.0", &programs());
    world.stop_system();
    let versions = Versions::of(world.root());
    // What one leaves that was killed while it downloaded.
    let (id, [from, to]) = ("hand-20260101T000000-1", ["1.0.0", "1.1.0"].map(|it| name(it).parse().unwrap()));
    let writer = versions.write(SOON).unwrap();
    writer.begin(Record::new(id.into(), id.into(), from, to)).unwrap();
    writer.enter(Phase::Fetching, None).unwrap();
    drop(writer);
    let mirror = world.mirror().display().to_string();
    let mut command = outrider(&world.root());
    command.args(["upgrade", "--version", "1.1.0", "--source", &mirror]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let is_staged = || world.record().is_some_and(|it| it.phase == Phase::Staged);
    let mut looked = 0;
    while child.try_wait().unwrap().is_none() {
        // Not sooner: it has to get the right itself.
        let free = is_staged().then(|| versions.take(Post::Worker, Duration::ZERO).is_ok());
        if let Some(free) = free.filter(|_| is_staged()) {
            assert!(!free, "a service that starts now would end the attempt");
            looked += 1;
        }
        sleep(Duration::from_millis(2));
    }
    let went = child.wait_with_output().unwrap();
    assert!(went.status.success(), "{}", printed(&went));
    assert!(looked > 0, "it puts the version into place and reads it");
    assert_eq!(world.current(), name("1.1.0"));
    let untold = versions.write(SOON).unwrap().untold().unwrap();
    let ended = untold.iter().find(|it| it.attempt == id).unwrap();
    assert_eq!((ended.phase, ended.ended_at), (Phase::Failed, Some(Phase::Fetching)));
}

#[test]
fn without_a_service_the_version_before_is_what_the_next_start_runs() {
    let mut world = upgraded();
    world.stop_system();
    let went = upgrade(&world, &["--rollback"]);
    assert!(went.status.success(), "{}", printed(&went));
    assert!(printed(&went).contains("the next start of the service runs it on trial"), "{}", printed(&went));
    assert_eq!(world.current(), name("1.0.0"));
    // The service that runs then sees to it as to any other, and the host can tell how it ended.
    world.start_system();
    world.until_runs("1.0.0");
    until("the end of the upgrade", || {
        let status = printed(&run(outrider(&world.root()).arg("status")));
        status.lines().any(|it| it.starts_with("last upgrade") && it.contains("to 1.0.0")).then_some(())
    });
    assert_eq!(world.record().unwrap().phase, Phase::Committed);
}

#[test]
fn a_version_before_that_is_damaged_or_not_there_is_not_gone_to() {
    let world = upgraded();
    let program = world.root().join("versions").join(name("1.0.0")).join("outrider");
    // Its watcher may run from it still, and what runs cannot be written to.
    fs::remove_file(&program).unwrap();
    make_program(&program, "#!/bin/sh\nexit 1\n");
    let went = upgrade(&world, &["--rollback"]);
    assert_eq!(went.status.code(), Some(1), "{}", printed(&went));
    assert!(printed(&went).contains("outrider"), "{}", printed(&went));
    assert_eq!(world.current(), name("1.1.0"));

    fs::remove_dir_all(program.parent().unwrap()).unwrap();
    let went = upgrade(&world, &["--rollback"]);
    assert_eq!(went.status.code(), Some(1), "{}", printed(&went));
    assert!(printed(&went).contains("there is no version before"), "{}", printed(&went));
    assert_eq!(world.current(), name("1.1.0"));
}

#[test]
fn the_first_place_that_has_the_release_is_taken() {
    let world = World::start();
    world.publish("1.1.0", &programs());
    let mirror = world.mirror().display().to_string();
    let nowhere = world.stack.dir.path().join("nowhere").display().to_string();
    let went = upgrade(&world, &["--version", "1.1.0", "--source", &nowhere]);
    assert_eq!(went.status.code(), Some(1), "{}", printed(&went));
    let went = upgrade(&world, &["--version", "1.2.0", "--source", &nowhere, "--source", &mirror]);
    assert_eq!(went.status.code(), Some(1), "{}", printed(&went));
    let said = printed(&went);
    assert!(said.contains(&format!("{nowhere}: ")) && said.contains(&format!("{mirror}: ")), "{said}");
    let went = upgrade(&world, &["--version", "1.1.0", "--source", &nowhere, "--source", &mirror]);
    assert!(went.status.success(), "{}\n{}", printed(&went), world.told());
    assert_eq!(world.current(), name("1.1.0"));
}
