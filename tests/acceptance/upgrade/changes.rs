//! Files that change behind the agent's back: of the new version, of the one before, and of the journal.

use std::fs;
use std::path::Path;

use outrider_backend::admin::CommandState;
use outrider_protocol::upgrade::UpgradeState;
use outrider_versions::{Phase, Reason, Versions};
use serde_json::json;

use super::ends::{is_taken_back, stays};
use super::world::{World, name, programs};
use crate::support::{SOON, until};

/// Shell that waits until the test has made a file of this name in the root.
fn wait_for(file: &str) -> String {
    format!("until [ -e \"$OUTRIDER_ROOT/{file}\" ]; do sleep 0.05; done")
}

/// Changes a file of a version that still can run.
fn change(world: &World, version: &str) {
    let file = world.root().join("versions").join(name(version)).join("integrations/integration-mock");
    // A new file in its place: the one that runs cannot be written to.
    let new = file.with_extension("new");
    fs::copy(&file, &new).unwrap();
    let mut bytes = fs::read(&new).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&new, bytes).unwrap();
    fs::rename(&new, &file).unwrap();
}

#[test]
fn a_version_that_changes_on_trial_is_noticed_at_its_next_start_and_taken_back() {
    let world = World::with(&json!({ "upgrade_green_s": 60, "upgrade_bound_s": 80 }));
    world.publish("1.1.0", &programs());
    let id = world.order("1.1.0");
    world.until_phase(Phase::Probation);
    world.until_runs("1.1.0");
    change(&world, "1.1.0");
    world.kill_everything();
    let ended = world.outcome(&id);
    is_taken_back(&world, &ended, "changed");
    assert!(ended.1.reason.unwrap().contains("not what they were"), "{}", world.told());
    assert!(world.told().contains("to have the seal"), "{}", world.told());
}

#[test]
fn a_version_that_changes_once_it_is_armed_is_not_kept() {
    let world = World::with(&json!({ "upgrade_green_s": 60, "upgrade_bound_s": 80 }));
    world.publish("1.1.0", &programs());
    let id = world.order("1.1.0");
    until_armed(&world);
    change(&world, "1.1.0");
    world.kill_everything();
    let (state, report) = world.outcome(&id);
    assert_eq!(state, CommandState::Failed, "{report:?}\n{}", world.told());
    // Before the switch there is nothing to take back.
    assert!(matches!(report.state, UpgradeState::Failed | UpgradeState::RolledBack), "{report:?}");
    assert_eq!(world.current(), name("1.0.0"), "{report:?}");
    world.until_runs("1.0.0");
}

#[test]
fn an_attempt_that_is_cut_short_once_it_is_armed_goes_on() {
    let world = World::start();
    world.publish("1.1.0", &programs());
    let id = world.order("1.1.0");
    until_armed(&world);
    world.kill_everything();
    let ended = world.outcome(&id);
    stays(&world, &ended);
    assert!(!world.root().join("versions/.trial").exists());
}

#[test]
fn a_version_that_was_taken_back_with_nobody_watching_leaves_a_diagnosis() {
    let world = World::start();
    world.publish_script("1.1.0", "#!/bin/sh\nexit 1\n");
    let id = world.order("1.1.0");
    let ended = world.outcome(&id);
    is_taken_back(&world, &ended, "crash_loop");
    let folder = world.root().join("upgrade/failed").join(name("1.1.0"));
    until("the watcher to end", || world.watchers().is_empty().then_some(()));
    // As if it had been killed before it could see the end.
    for file in fs::read_dir(&folder).unwrap().flatten().filter(|it| it.file_name() != "rolled-back") {
        fs::remove_file(file.path()).unwrap();
    }
    world.kill_everything();
    let health = until("the diagnosis", || {
        fs::read_to_string(folder.join("health")).ok().filter(|it| it.ends_with('\n'))
    });
    assert!(health.contains("crash_loop"), "{health}");
    assert!(folder.join("service-run").exists());
}

fn until_armed(world: &World) {
    until("the attempt to be armed", || world.record().filter(|it| it.phase >= Phase::Armed).map(drop));
}

#[test]
fn a_version_before_that_has_changed_is_not_gone_back_to_by_the_launcher() {
    let world = World::with(&json!({ "upgrade_hang_s": 60, "upgrade_bound_s": 80 }));
    // It crashes as often as it may, and once more, and runs then.
    world.publish_ill(
        "1.1.0",
        &format!(
            "{}; echo >> \"$OUTRIDER_ROOT/starts\"; [ $(wc -l < \"$OUTRIDER_ROOT/starts\") -gt 4 ] || exit 1",
            wait_for("changed")
        ),
    );
    let id = world.order("1.1.0");
    world.until_phase(Phase::Probation);
    change(&world, "1.0.0");
    fs::write(world.root().join("changed"), "").unwrap();
    let (state, report) = world.outcome(&id);
    let told = world.told();
    assert_eq!((state, report.state), (CommandState::Failed, UpgradeState::Failed), "{report:?}\n{told}");
    let record = world.record().unwrap();
    assert_eq!(record.reason, Some(Reason::RollbackImpossible), "{record:?}\n{told}");
    let why = report.reason.unwrap();
    assert!(why.contains("nothing to go back to") && why.contains("crash_loop"), "{why}");
    assert!(told.contains("to have the seal"), "{told}");
    assert_eq!(world.current(), name("1.1.0"), "it stays");
    world.until_runs("1.1.0");
}

#[test]
fn a_trial_whose_journal_is_lost_ends_as_it_should() {
    let world = World::with(&json!({ "upgrade_hang_s": 60, "upgrade_bound_s": 80 }));
    world.publish_script("1.1.0", &format!("#!/bin/sh\n{}\nexit 1\n", wait_for("lost")));
    let id = world.order("1.1.0");
    world.until_phase(Phase::Probation);
    until("its first start to be counted", || world.record()?.tried_in);
    lose(&world.root());
    fs::write(world.root().join("lost"), "").unwrap();
    let ended = world.outcome(&id);
    is_taken_back(&world, &ended, "crash_loop");
    assert!(world.told().contains("read the journal slot"), "{}", world.told());
    let kept = fs::read_dir(world.root().join("upgrade/failed")).unwrap().flatten();
    let kept: Vec<_> = kept.filter(|it| it.file_name().to_string_lossy().starts_with("journal.")).collect();
    assert!(kept.iter().any(|it| fs::read(it.path()).unwrap() == b"garbage"), "{kept:?}");
}

/// Puts garbage into both slots of the journal, while nobody else may write there.
fn lose(root: &Path) {
    let versions = Versions::of(root);
    let writer = versions.write(SOON).unwrap();
    for slot in versions.layout().slots() {
        fs::write(slot, "garbage").unwrap();
    }
    drop(writer);
}
