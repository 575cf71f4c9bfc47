//! Random actions on the store of last-processed values against a plain map, on a disk that loses what was not synced.
//!
//! What a commit answered is there after every cut; a commit that the cut interrupted is there as a whole or not at all. Of
//! values that go with objects, those are there whose objects are, whenever the cut came. The same holds for a disk that fails
//! for a while, after which the process goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use outrider_protocol::Raw;
use outrider_protocol::ids::{ExportId, IntegrationId};

use super::{Checkpoints, Claim, Prepared};
use crate::store::Store;
use crate::store::lossy::{Lossy, on_this_threads_disk};
use crate::testing::fresh;
use crate::{Root, SessionPath};

/// Cuts of the power in all.
const CUTS: u64 = 800;
/// Actions between two cuts at most.
const ACTIONS: u64 = 16;
/// Paths that there are.
const PATHS: u64 = 60;

/// The values, by session.
type Model = BTreeMap<SessionPath, String>;

/// All that a store is to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Expected {
    stored: Model,
    /// Beside them, of the run of everything again.
    beside: Model,
    /// The integrations whose values of that run took their place.
    taken: BTreeSet<IntegrationId>,
}

/// One step of splitmix64.
fn mixed(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

fn integration(n: u64) -> IntegrationId {
    IntegrationId::new(format!("i{}", n % 2)).unwrap()
}

fn path(n: u64) -> SessionPath {
    SessionPath::of(integration(n)).join("repo", Some(format!("r{}", n % 7))).join("a.B", Some(n.to_string()))
}

fn open(root: &Root) -> Checkpoints {
    let make = super::make;
    let store = Store::open_with(root.checkpoints_db(), Duration::ZERO, make, on_this_threads_disk);
    Checkpoints::over(store.unwrap())
}

/// Some values to set and to remove; now and then one that fills pages.
fn change(random: &mut u64) -> Vec<(SessionPath, Option<Raw>)> {
    (0..1 + mixed(random) % 20)
        .map(|_| {
            let length = if mixed(random).is_multiple_of(10) { 20_000 } else { 20 };
            let text = format!("\"{}\"", "v".repeat(usize::try_from(mixed(random) % length).unwrap()));
            let value = serde_json::value::RawValue::from_string(text).unwrap();
            (path(mixed(random) % PATHS), (!mixed(random).is_multiple_of(4)).then_some(value))
        })
        .collect()
}

fn put(model: &mut Model, change: &[(SessionPath, Option<Raw>)]) {
    for (path, value) in change {
        match value {
            Some(value) => drop(model.insert(path.clone(), value.get().to_owned())),
            None => drop(model.remove(path)),
        }
    }
}

fn all(store: &Checkpoints) -> Model {
    let of = |n| store.list(&SessionPath::of(integration(n)), 1000).unwrap();
    [of(0), of(1)].concat().into_iter().map(|(path, value)| (path, value.get().to_owned())).collect()
}

/// The store, and what it is held against.
struct World {
    root: Root,
    disk: Lossy,
    random: u64,
    store: Checkpoints,
    /// The run of everything again.
    run: ExportId,
    expected: Expected,
    /// The number of the last commit of objects.
    commits: u64,
    /// The commits of objects that happened.
    happened: BTreeSet<u64>,
    /// The process ends, whatever the disk does.
    dies: bool,
}

/// What an action would have come to that a cut of the power interrupted.
type Interrupted = Result<(), Expected>;

impl World {
    fn new(root: Root) -> Self {
        let disk = Lossy::insert();
        let (store, run) = (open(&root), ExportId::new("e0").unwrap());
        let (expected, happened) = (Expected::default(), BTreeSet::new());
        Self { root, disk, random: 7, store, run, expected, commits: 0, happened, dies: false }
    }

    fn dice(&mut self, sides: u64) -> u64 {
        mixed(&mut self.random) % sides
    }

    /// One action of an export.
    fn act(&mut self) -> Interrupted {
        match self.dice(10) {
            0..3 => self.store_values(),
            3..7 => self.commit_with_objects(),
            7 => self.take_over(),
            8 => self.remove(),
            _ => {
                // Nothing of it changes what can be read.
                drop(self.store.settle());
                Ok(())
            }
        }
    }

    /// Whether the values of a session lie beside the stored ones: those of an integration do until they take their place.
    fn is_beside(&self, path: &SessionPath, again: bool) -> bool {
        again && !self.expected.taken.contains(&path.integration)
    }

    fn store_values(&mut self) -> Interrupted {
        let (change, again) = (change(&mut self.random), self.dice(3) == 0);
        let (beside, stored): (Vec<_>, Vec<_>) =
            change.into_iter().partition(|(path, _)| self.is_beside(path, again));
        let mut after = self.expected.clone();
        put(&mut after.stored, &stored);
        self.done(self.store.commit(&stored).is_ok(), after)?;
        let mut after = self.expected.clone();
        put(&mut after.beside, &beside);
        self.done(self.store.commit_of_run(&self.run, &beside).is_ok(), after)
    }

    /// Values in doubt, then objects, which now and then cannot be committed. A cut in between leaves a doubt that is
    /// resolved, so what it comes to is known.
    fn commit_with_objects(&mut self) -> Interrupted {
        self.commits += 1;
        let (change, again) = (change(&mut self.random), self.dice(3) == 0);
        let claim = Claim { export: "e".into(), model: "a.B".into(), number: self.commits, from: 0 };
        let prepared: Vec<_> = change
            .into_iter()
            .filter_map(|(path, value)| {
                let beside = self.is_beside(&path, again).then(|| self.run.clone());
                Some(Prepared { path, value: value?, beside, claim: claim.clone() })
            })
            .collect();
        if self.store.prepare(&prepared).is_err() {
            return Err(self.expected.clone());
        }
        if self.dice(4) == 0 {
            return Ok(());
        }
        self.happened.insert(self.commits);
        for Prepared { path, value, beside, .. } in prepared {
            let model = if beside.is_some() { &mut self.expected.beside } else { &mut self.expected.stored };
            put(model, &[(path, Some(value))]);
        }
        // Now and then the process dies before it says so.
        if self.dice(8) == 0 {
            self.dies = true;
            return Err(self.expected.clone());
        }
        self.store.confirm();
        Ok(())
    }

    fn take_over(&mut self) -> Interrupted {
        let integration = integration(self.dice(2));
        let mut after = self.expected.clone();
        if after.taken.insert(integration.clone()) {
            after.stored.retain(|path, _| path.integration != integration);
            let taken: Vec<_> =
                after.beside.extract_if(.., |path, _| path.integration == integration).collect();
            after.stored.extend(taken);
        }
        self.done(self.store.take_over(&self.run, &integration).is_ok(), after)
    }

    fn remove(&mut self) -> Interrupted {
        let path = path(self.dice(PATHS));
        let mut after = self.expected.clone();
        after.stored.remove(&path);
        self.done(self.store.remove(&path).is_ok(), after)
    }

    fn done(&mut self, done: bool, after: Expected) -> Interrupted {
        if done {
            self.expected = after;
            return Ok(());
        }
        Err(after)
    }

    /// The power is cut, and whoever opens the store then decides about what is in doubt. Answers how many that were.
    fn restart(mut self) -> (Self, usize) {
        drop(self.store);
        self.dies = false;
        let random = &mut self.random;
        self.disk.restart(|| !mixed(random).is_multiple_of(3));
        self.store = open(&self.root);
        let claims = self.store.in_doubt().unwrap();
        assert!(claims.iter().all(|it| it.number == claims[0].number), "of one commit: {claims:?}");
        let holds: Vec<_> = claims.iter().map(|it| self.happened.contains(&it.number)).collect();
        self.store.resolve(&holds).unwrap();
        (self, claims.len())
    }

    /// What the store holds.
    fn found(&self) -> Expected {
        let of_run = |n| {
            let found = self.store.get_of_run(&self.run, &path(n)).unwrap();
            found.map(|value| (path(n), value.get().to_owned()))
        };
        let is_taken = |it: &IntegrationId| self.store.was_taken_over(&self.run, it).unwrap();
        Expected {
            stored: all(&self.store),
            beside: (0..PATHS).filter_map(of_run).collect(),
            taken: [integration(0), integration(1)].into_iter().filter(is_taken).collect(),
        }
    }
}

#[test]
fn what_was_committed_survives_every_cut_of_the_power() {
    let (_folder, root) = fresh();
    let mut world = World::new(root);
    let (mut whole, mut absent, mut kept, mut doubts, mut failures) = (0, 0, 0, 0, 0);
    for cut in 0..CUTS {
        let operations = world.dice(160);
        world.disk.cut_after(operations);
        let mut interrupted = None;
        for _ in 0..ACTIONS {
            if let Err(with) = world.act() {
                interrupted = Some(with);
                break;
            }
        }
        if interrupted.is_some() && !world.dies && world.dice(2) == 0 {
            // The disk works again, and the process lives.
            world.disk.cut_after(u64::MAX);
            failures += 1;
        } else {
            let in_doubt;
            (world, in_doubt) = world.restart();
            doubts += usize::from(in_doubt > 0);
        }
        let found = world.found();
        match interrupted {
            Some(with) if with == world.expected => kept += 1,
            Some(with) if found == with => {
                world.expected = with;
                whole += 1;
            }
            Some(_) => absent += 1,
            None => {}
        }
        assert!(found == world.expected, "after cut {cut}: expected {:?}, found {found:?}", world.expected);
        if world.expected.taken.len() == 2 {
            // The next run of everything again.
            world.run = ExportId::new(format!("e{cut}")).unwrap();
            world.store.forget_other_runs(&world.run).unwrap();
            (world.expected.beside, world.expected.taken) = (Model::new(), BTreeSet::new());
            assert_eq!(world.found(), world.expected);
        }
    }
    println!(
        "{CUTS} cuts: an interrupted action was there as a whole {whole} times and not at all {absent} times; {kept} \
         changed nothing; {doubts} times values were in doubt; {failures} times the disk only failed for a while"
    );
    assert!(whole > 0 && absent > 0 && kept > 0 && doubts > 100 && failures > 100, "cuts came everywhere");
}

#[test]
fn what_goes_with_objects_can_be_read_as_soon_as_they_are_committed() {
    let (_folder, root) = fresh();
    let mut world = World::new(root);
    for action in 0..500 {
        // A process that dies before it says so is what the other test is for.
        if let Err(expected) = world.act() {
            world.store.confirm();
            world.expected = expected;
        }
        assert_eq!(world.found(), world.expected, "after action {action}");
    }
}

#[test]
fn what_is_stored_after_a_value_with_objects_replaces_it_though_the_disk_failed_in_between() {
    let (_folder, root) = fresh();
    let World { store, disk, run, .. } = World::new(root);
    let value = |text: &str| serde_json::value::RawValue::from_string(text.to_owned()).unwrap();
    let claim = Claim { export: "e".into(), model: "a.B".into(), number: 0, from: 0 };
    for beside in [None, Some(run)] {
        let earlier =
            Prepared { path: path(1), value: value("1"), beside: beside.clone(), claim: claim.clone() };
        store.prepare(&[earlier]).unwrap();
        disk.cut_after(0);
        store.commit(&[(path(2), Some(value("1")))]).unwrap_err();
        store.confirm();
        disk.cut_after(u64::MAX);
        let later = [(path(1), Some(value("2")))];
        let found = match &beside {
            None => store.commit(&later).and_then(|()| store.get(&path(1))),
            Some(run) => store.commit_of_run(run, &later).and_then(|()| store.get_of_run(run, &path(1))),
        };
        assert_eq!(found.unwrap().unwrap().get(), "2", "beside: {beside:?}");
    }
}

#[test]
fn values_that_were_written_though_putting_them_in_doubt_failed_are_not_taken_for_those_confirmed_before() {
    let prepared = |n: u64, number: u64| {
        let value = serde_json::value::RawValue::from_string(number.to_string()).unwrap();
        let claim = Claim { export: "e".into(), model: "a.B".into(), number, from: 0 };
        [Prepared { path: path(n), value, beside: None, claim }]
    };
    let mut failures = 0;
    for operations in 0.. {
        let (_folder, root) = fresh();
        let World { store, disk, .. } = World::new(root);
        store.prepare(&prepared(1, 1)).unwrap();
        store.confirm();
        disk.cut_after(operations);
        let failed = store.prepare(&prepared(2, 2)).is_err();
        disk.cut_after(u64::MAX);
        if !failed {
            break;
        }
        failures += 1;
        store.settle().unwrap();
        assert_eq!(store.get(&path(1)).unwrap().unwrap().get(), "1", "after {operations} operations");
        assert!(store.get(&path(2)).unwrap().is_none(), "after {operations} operations");
        assert!(store.in_doubt().unwrap().is_empty());
    }
    assert!(failures > 2, "{failures}");
}
