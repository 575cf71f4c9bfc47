//! Random actions, failures and power cuts against the model; and one long story that fails, or is cut, at each operation.

use std::io::ErrorKind;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::Codec;
use crate::world::{CODECS, World};

#[derive(Debug, Clone)]
enum Action {
    Open {
        origin: usize,
        model: usize,
    },
    Append {
        which: usize,
        records: usize,
        size: usize,
        as_lines: bool,
    },
    Commit(Vec<usize>),
    RollBack(usize),
    SealDue(u64),
    SealAll,
    Upload(usize),
    Expire,
    Shed(u64),
    /// The n-th operation from now fails, and some after it.
    Fail {
        after: u64,
        times: u64,
        full: bool,
    },
    /// The power is cut in the middle of what follows.
    CutAfter(u64),
    Cut,
    Kill,
    Recode,
    Check,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0..2usize, 0..2usize).prop_map(|(origin, model)| Action::Open { origin, model }),
        12 => (0..8usize, 1..6usize, 0..250usize, any::<bool>())
            .prop_map(|(which, records, size, as_lines)| Action::Append { which, records, size, as_lines }),
        8 => vec(0..8usize, 1..4).prop_map(Action::Commit),
        2 => (0..8usize).prop_map(Action::RollBack),
        2 => (0..12u64).prop_map(Action::SealDue),
        1 => Just(Action::SealAll),
        2 => (1..4usize).prop_map(Action::Upload),
        1 => Just(Action::Expire),
        1 => (0..1000u64).prop_map(Action::Shed),
        3 => (0..20u64, 1..4u64, any::<bool>())
            .prop_map(|(after, times, full)| Action::Fail { after, times, full }),
        2 => (0..40u64).prop_map(Action::CutAfter),
        1 => Just(Action::Cut),
        1 => Just(Action::Kill),
        1 => Just(Action::Recode),
        1 => Just(Action::Check),
    ]
}

fn perform(world: &mut World, action: &Action) {
    let now = world.fs.operations();
    match action {
        Action::Open { origin, model } => world.open(*origin, *model),
        Action::Append { which, records, size, as_lines } => world.append(*which, *records, *size, *as_lines),
        Action::Commit(which) => drop(world.commit(which)),
        Action::RollBack(which) => world.roll_back(*which),
        Action::SealDue(seconds) => world.seal_due(*seconds),
        Action::SealAll => world.seal_all(),
        Action::Upload(most) => world.upload(*most),
        Action::Expire => world.expire(),
        Action::Shed(bytes) => world.shed(*bytes),
        Action::Fail { after, times, full } => {
            let kind = if *full { ErrorKind::StorageFull } else { ErrorKind::Other };
            world.fs.fail(now + after..now + after + times, kind);
        }
        Action::CutAfter(after) => world.fs.fail(now + after..u64::MAX, ErrorKind::Other),
        Action::Cut => world.cut(),
        Action::Kill => world.kill(),
        Action::Recode => world.recode(),
        Action::Check => world.check(),
    }
    if world.fs.is_dead() {
        world.cut();
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1500,
        rng_seed: RngSeed::Fixed(20_260_501),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_was_committed_arrives_once_whatever_happens(
        seed: u64,
        codec in proptest::sample::select(&CODECS[..]),
        actions in vec(action(), 1..60),
    ) {
        let mut world = World::new(seed, codec);
        for action in &actions {
            perform(&mut world, action);
        }
        world.check();
        world.cut();
        world.check();
    }
}

/// Small and large sessions, of two models, committed alone and together, some rolled back, files uploaded meanwhile.
fn story(world: &mut World) -> Vec<bool> {
    let mut answers = Vec::new();
    for round in 0..3 {
        for (origin, model) in [(0, 0), (1, 0), (0, 1), (0, 0)] {
            world.open(origin, model);
        }
        world.append(0, 2, 20, false);
        world.append(1, 3, 10, true);
        // Two files of its own.
        world.append(2, 9, 120, round == 1);
        world.append(3, 4, 90, false);
        answers.push(world.commit(&[1]));
        world.roll_back(2);
        world.seal_due(6);
        answers.push(world.commit(&[0, 0]));
        world.upload(1);
    }
    world.seal_all();
    world.upload(1);
    world.expire();
    answers
}

fn operations_of_the_story(seed: u64, codec: Codec) -> u64 {
    let mut world = World::new(seed, codec);
    let before = world.fs.operations();
    assert_eq!(story(&mut world), [true; 6]);
    let operations = world.fs.operations() - before;
    world.check();
    assert_eq!(world.unsure_and_there(), 0);
    operations
}

#[test]
fn a_failure_of_any_one_operation_loses_and_leaks_nothing() {
    let kinds = [ErrorKind::StorageFull, ErrorKind::PermissionDenied];
    // An odd seed compresses on threads of its own.
    let [gzip, zstd] = CODECS;
    for (seed, codec, kind) in
        [(0, gzip, kinds[0]), (1, gzip, kinds[1]), (2, zstd, kinds[1]), (3, zstd, kinds[0])]
    {
        for at in 0..operations_of_the_story(seed, codec) {
            let mut world = World::new(seed, codec);
            let now = world.fs.operations();
            world.fs.fail(now + at..now + at + 1, kind);
            story(&mut world);
            world.check();
            assert_eq!(world.unsure_and_there(), 0, "a failed commit was kept, after operation {at} failed");
        }
    }
}

#[test]
fn a_power_cut_at_any_operation_loses_and_leaks_nothing() {
    for codec in CODECS {
        for (at, seed) in
            (0..operations_of_the_story(1, codec)).flat_map(|at| (0..6).map(move |seed| (at, seed)))
        {
            let mut world = World::new(seed, codec);
            let now = world.fs.operations();
            world.fs.fail(now + at..u64::MAX, ErrorKind::Other);
            story(&mut world);
            world.cut();
            world.check();
        }
    }
}

#[test]
fn a_recovery_that_is_cut_short_is_taken_up_by_the_next() {
    for codec in CODECS {
        for at in (0..operations_of_the_story(1, codec)).step_by(5) {
            for recovery_at in 0..25 {
                let mut world = World::new(recovery_at, codec);
                let now = world.fs.operations();
                world.fs.fail(now + at..u64::MAX, ErrorKind::Other);
                story(&mut world);
                world.cut();
                let now = world.fs.operations();
                world.fs.fail(now + recovery_at..u64::MAX, ErrorKind::Other);
                drop(world.spool.recover());
                world.cut();
                world.check();
            }
        }
    }
}
