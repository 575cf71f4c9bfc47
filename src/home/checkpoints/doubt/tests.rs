//! Values in doubt: kept when their objects are there, dropped when they are not, whenever the process died.

use std::time::Duration;

use outrider_protocol::Raw;
use outrider_protocol::ids::{ExportId, IntegrationId};

use crate::testing::{as_after_a_kill, fresh};
use crate::{Checkpoints, Claim, Prepared, Root, SessionPath};

fn open(root: &Root) -> Checkpoints {
    Checkpoints::open(root, Duration::ZERO).unwrap()
}

fn path(object: &str) -> SessionPath {
    SessionPath::of(IntegrationId::new("git").unwrap()).join("a.B", Some(object.to_owned()))
}

fn raw(text: &str) -> Raw {
    serde_json::value::RawValue::from_string(text.to_owned()).unwrap()
}

fn claim(number: u64) -> Claim {
    Claim { export: "e1".into(), model: "a.B".into(), number, from: 7 }
}

fn prepared(object: &str, value: &str, number: u64) -> Prepared {
    Prepared { path: path(object), value: raw(value), beside: None, claim: claim(number) }
}

fn get(store: &Checkpoints, object: &str) -> Option<String> {
    store.get(&path(object)).unwrap().map(|value| value.get().to_owned())
}

#[test]
fn a_confirmed_value_is_there_at_once_and_after_the_next_commit_for_ever() {
    let (_folder, root) = fresh();
    let store = open(&root);
    store.commit(&[(path("1"), Some(raw("1")))]).unwrap();
    store.prepare(&[prepared("1", "2", 0)]).unwrap();
    assert_eq!(get(&store, "1").as_deref(), Some("1"), "in doubt");
    store.confirm();
    assert_eq!(get(&store, "1").as_deref(), Some("2"));
    store.prepare(&[]).unwrap();
    let (_other, copy) = as_after_a_kill(&root);
    let again = open(&copy);
    assert!(again.in_doubt().unwrap().is_empty());
    assert_eq!(get(&again, "1").as_deref(), Some("2"));
}

#[test]
fn what_is_settled_is_not_in_doubt_after_a_kill() {
    let (_folder, root) = fresh();
    let store = open(&root);
    store.prepare(&[prepared("1", "1", 0)]).unwrap();
    store.settle().unwrap();
    let (_other, copy) = as_after_a_kill(&root);
    assert_eq!(open(&copy).in_doubt().unwrap(), [claim(0)], "not confirmed");
    store.confirm();
    store.settle().unwrap();
    let (_other, copy) = as_after_a_kill(&root);
    let again = open(&copy);
    assert!(again.in_doubt().unwrap().is_empty());
    assert_eq!(get(&again, "1").as_deref(), Some("1"));
}

#[test]
fn after_a_kill_the_objects_decide() {
    for confirmed in [false, true] {
        let (_folder, root) = fresh();
        let store = open(&root);
        store.commit(&[(path("there"), Some(raw("0"))), (path("gone"), Some(raw("0")))]).unwrap();
        store.prepare(&[prepared("there", "1", 3), prepared("gone", "1", 4)]).unwrap();
        if confirmed {
            store.confirm();
        }
        let (_other, copy) = as_after_a_kill(&root);
        let again = open(&copy);
        assert_eq!(again.in_doubt().unwrap(), [claim(3), claim(4)], "confirmed: {confirmed}");
        again.resolve(&[true, false]).unwrap();
        assert!(again.in_doubt().unwrap().is_empty());
        assert_eq!(get(&again, "there").as_deref(), Some("1"));
        assert_eq!(get(&again, "gone").as_deref(), Some("0"));
    }
}

#[test]
fn what_was_not_confirmed_goes_with_the_next_commit() {
    let (_folder, root) = fresh();
    let store = open(&root);
    store.prepare(&[prepared("failed", "1", 0)]).unwrap();
    store.prepare(&[prepared("next", "1", 0)]).unwrap();
    store.confirm();
    assert_eq!(get(&store, "failed"), None);
    assert_eq!(get(&store, "next").as_deref(), Some("1"));
}

#[test]
fn a_value_of_a_run_of_everything_again_stays_beside_the_stored_one() {
    let (_folder, root) = fresh();
    let (store, run) = (open(&root), ExportId::new("e1").unwrap());
    store.commit(&[(path("1"), Some(raw("0")))]).unwrap();
    store.prepare(&[Prepared { beside: Some(run.clone()), ..prepared("1", "9", 0) }]).unwrap();
    store.confirm();
    assert_eq!(get(&store, "1").as_deref(), Some("0"));
    assert_eq!(store.get_of_run(&run, &path("1")).unwrap().unwrap().get(), "9");
    store.take_over(&run, &IntegrationId::new("git").unwrap()).unwrap();
    assert_eq!(get(&store, "1").as_deref(), Some("9"));
}

#[test]
fn what_is_removed_is_not_brought_back_by_a_doubt() {
    let (_folder, root) = fresh();
    let store = open(&root);
    store.prepare(&[prepared("1", "1", 0), prepared("2", "1", 0)]).unwrap();
    drop(store);
    let store = open(&root);
    store.remove(&path("1")).unwrap();
    assert_eq!(store.in_doubt().unwrap().len(), 1);
}
