//! Random actions on the store of last-processed values against a plain map, on a disk that loses what was not synced.
//!
//! What a commit answered is there after every cut; a commit that the cut interrupted is there as a whole or not at all.

use std::collections::BTreeMap;
use std::time::Duration;

use outrider_protocol::Raw;
use outrider_protocol::ids::IntegrationId;

use super::Checkpoints;
use crate::store::Store;
use crate::store::lossy::{Lossy, on_this_threads_disk};
use crate::testing::fresh;
use crate::{Root, SessionPath};

/// Cuts of the power in all.
const CUTS: u64 = 400;
/// Commits between two cuts at most.
const COMMITS: u64 = 12;

type Model = BTreeMap<SessionPath, String>;

/// One step of splitmix64.
fn mixed(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

fn path(n: u64) -> SessionPath {
    let integration = IntegrationId::new(format!("i{}", n % 2)).unwrap();
    SessionPath::of(integration).join("repo", Some(format!("r{}", n % 7))).join("a.B", Some(n.to_string()))
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
            (path(mixed(random) % 60), (!mixed(random).is_multiple_of(4)).then_some(value))
        })
        .collect()
}

fn changed(model: &Model, change: &[(SessionPath, Option<Raw>)]) -> Model {
    let mut model = model.clone();
    for (path, value) in change {
        match value {
            Some(value) => drop(model.insert(path.clone(), value.get().to_owned())),
            None => drop(model.remove(path)),
        }
    }
    model
}

fn all(store: &Checkpoints) -> Model {
    let of = |id: &str| {
        store
            .list(&SessionPath::of(IntegrationId::new(id).unwrap()), 1000)
            .unwrap()
            .into_iter()
            .collect::<Vec<_>>()
    };
    [of("i0"), of("i1")].concat().into_iter().map(|(path, value)| (path, value.get().to_owned())).collect()
}

#[test]
fn what_was_committed_survives_every_cut_of_the_power() {
    let (_folder, root) = fresh();
    let disk = Lossy::insert();
    let (mut random, mut model, mut whole, mut absent) = (7, Model::new(), 0, 0);
    let mut store = open(&root);
    for cut in 0..CUTS {
        disk.cut_after(mixed(&mut random) % 120);
        let mut interrupted = None;
        for _ in 0..COMMITS {
            let change = change(&mut random);
            if store.commit(&change).is_err() {
                interrupted = Some(changed(&model, &change));
                break;
            }
            model = changed(&model, &change);
        }
        drop(store);
        disk.restart(|| !mixed(&mut random).is_multiple_of(3));
        store = open(&root);
        let found = all(&store);
        match interrupted {
            Some(with) if found == with => {
                model = with;
                whole += 1;
            }
            Some(_) => absent += 1,
            None => {}
        }
        assert!(found == model, "after cut {cut}: expected {model:?}, found {found:?}");
    }
    println!(
        "{CUTS} cuts: an interrupted commit was there as a whole {whole} times and not at all {absent} times"
    );
    assert!(absent > 0, "some cut came within a commit");
}
