//! How the upgrade of 1.0.0 to 1.1.0 ends: the new version stays, or is taken back.

use outrider_backend::admin::CommandState;
use outrider_protocol::upgrade::{UpgradeReport, UpgradeState};

use super::world::{World, name};

pub(super) fn stays(world: &World, (state, report): &(CommandState, UpgradeReport)) {
    assert_eq!(
        (*state, report.state),
        (CommandState::Done, UpgradeState::Done),
        "{report:?}\n{}",
        world.told()
    );
    assert_eq!(world.current(), name("1.1.0"));
}

/// For this reason.
pub(super) fn is_taken_back(world: &World, (state, report): &(CommandState, UpgradeReport), why: &str) {
    let found = (*state, report.state);
    assert_eq!(found, (CommandState::Failed, UpgradeState::RolledBack), "{report:?}\n{}", world.told());
    let record = world.record().unwrap();
    assert_eq!(record.reason.unwrap().as_str(), why, "{record:?}");
    assert_eq!(world.current(), name("1.0.0"));
    world.until_runs("1.0.0");
}
