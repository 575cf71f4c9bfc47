//! The power is cut at each operation of a whole upgrade, and the disk is found in every state that the syncs allow; then
//! in the middle of what mends it. In the end one complete version runs and the backend knows the one outcome.

use crate::model::Fault;
use crate::phase::Phase;
use crate::system::{New, System};

/// Goes on until the power is cut.
fn run_until_cut(system: &mut System, at: u64) {
    system.fs.set_fault(Fault::Off(at));
    while system.fs.operations() <= at && matches!(system.start_unless_off(), Some(true)) {}
}

/// The operations of an upgrade that are not those of another: a bad version differs from a good one after the switch.
fn operations(new: New) -> std::ops::RangeInclusive<u64> {
    let mut system = System::new(new);
    let mut first = system.fs.operations();
    while new != New::Good
        && system.versions.see().unwrap().journal.record().map(|it| it.phase) != Some(Phase::Probation)
    {
        system.start().unwrap();
        first = system.fs.operations();
    }
    system.run();
    system.check_end();
    first..=system.fs.operations()
}

#[test]
fn a_power_cut_at_any_operation_leaves_one_whole_version_and_one_outcome() {
    let mut cases = 0;
    for new in New::ALL {
        for at in operations(new) {
            let mut system = System::new(new);
            run_until_cut(&mut system, at);
            for mut found in system.after_cut() {
                found.run();
                found.check_end();
                cases += 1;
            }
        }
    }
    println!("{cases} states after a power cut");
    assert!(cases > 1000, "{cases}");
}

#[test]
fn what_mends_a_cut_may_itself_be_cut_short() {
    let mut cases = 0;
    for new in New::ALL {
        for at in operations(new).step_by(11) {
            let mut system = System::new(new);
            run_until_cut(&mut system, at);
            let states = system.after_cut();
            for found in [states.first(), states.last()].into_iter().flatten() {
                for again in (at % 11..90).step_by(11) {
                    let mut system = found.copy();
                    run_until_cut(&mut system, again);
                    let states = system.after_cut();
                    let step = states.len().div_ceil(4);
                    for mut found in states.into_iter().step_by(step) {
                        found.run();
                        found.check_end();
                        cases += 1;
                    }
                }
            }
        }
    }
    println!("{cases} states after two power cuts");
}
