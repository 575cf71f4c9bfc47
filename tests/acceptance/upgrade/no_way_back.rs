//! A version is to be taken back, and the one before is gone or damaged: it stays, and everybody is told.

use std::fs;
use std::path::Path;

use outrider_backend::admin::CommandState;
use outrider_protocol::upgrade::UpgradeState;
use outrider_versions::{Phase, Reason};
use serde_json::json;

use super::world::{World, make_program, name};
use crate::support::{outrider, printed, run, until};

/// A version that is to be taken back stays once this was done to the folder of the one before.
fn stays_after(damage: impl Fn(&Path)) {
    let world = World::with(&json!({ "upgrade_bound_s": 6 }));
    world.publish_lied_to("1.1.0", "ILL_UNREACHABLE=1");
    let id = world.order("1.1.0");
    world.until_phase(Phase::Probation);
    damage(&world.root().join("versions").join(name("1.0.0")));
    world.until_phase(Phase::Failed);
    let record = world.record().unwrap();
    assert_eq!(record.reason, Some(Reason::RollbackImpossible), "{record:?}\n{}", world.told());
    assert_eq!(world.current(), name("1.1.0"), "it stays");
    world.until_says("logs/watch", "nothing to go back to");
    // On the host it is told at once; this version does not reach the backend.
    until("the host to be told", || {
        let status = printed(&run(outrider(&world.root()).arg("status")));
        status.lines().any(|it| it.starts_with("last upgrade") && it.contains("failed")).then_some(())
    });
    assert!(!world.stack.command(&id).summary.state.is_end());
    // As soon as there is a way, the backend hears of it.
    let script = world.root().join("versions").join(name("1.1.0")).join("outrider");
    let text = fs::read_to_string(&script).unwrap().replace("ILL_UNREACHABLE", "ILL_NO_MORE");
    // The file that runs cannot be written to.
    fs::remove_file(&script).unwrap();
    make_program(&script, &text);
    world.kill_everything();
    let (state, report) = world.outcome(&id);
    assert_eq!((state, report.state), (CommandState::Failed, UpgradeState::Failed), "{report:?}");
    assert!(report.reason.is_some_and(|it| !it.is_empty()));
    assert_eq!(world.current(), name("1.1.0"));
}

#[test]
fn where_the_version_before_is_gone_the_new_one_stays_and_everybody_is_told() {
    stays_after(|old| fs::remove_dir_all(old).unwrap());
}

#[test]
fn where_the_version_before_is_damaged_the_new_one_stays_and_everybody_is_told() {
    stays_after(|old| {
        fs::remove_file(old.join("outrider")).unwrap();
        make_program(&old.join("outrider"), &"\0".repeat(4096));
    });
}
