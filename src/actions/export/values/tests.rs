//! Which values may leave the host, and when.

use std::time::Duration;

use outrider_home::Root;
use outrider_protocol::report::SessionValue;
use serde_json::value::to_raw_value;

use super::*;

fn mock() -> IntegrationId {
    IntegrationId::new("mock").unwrap()
}

fn value(object: &str, value: u64) -> (SessionPath, Option<Raw>) {
    let path = SessionPath::of(mock()).join("a.B", Some(object.to_owned()));
    (path, Some(to_raw_value(&value).unwrap()))
}

fn checkpoints() -> (tempfile::TempDir, Checkpoints) {
    let folder = tempfile::tempdir().unwrap();
    let root = Root::at(folder.path());
    root.create().unwrap();
    let checkpoints = Checkpoints::open(&root, Duration::ZERO).unwrap();
    (folder, checkpoints)
}

fn again(checkpoints: Checkpoints) -> Values {
    Values::again(checkpoints, ExportId::new("e1").unwrap(), [mock()].into_iter()).unwrap().sharing(true)
}

/// The values that leave the host; `None` where none may.
fn shared(values: &Values) -> Option<Vec<String>> {
    let shared = values.shared(&mock(), &str::to_owned)?.values;
    let one = |it: SessionValue| format!("{}={}", it.session(), it.value.unwrap());
    Some(shared.into_iter().map(one).collect())
}

#[test]
fn nothing_leaves_the_host_unless_it_may() {
    let (_folder, checkpoints) = checkpoints();
    let values = Values::stored(checkpoints).sharing(false);
    values.commit(&[value("o1", 1)]).unwrap();
    assert_eq!(shared(&values), None);
    assert!(values.get(&value("o1", 1).0).unwrap().is_some());
}

#[test]
fn what_is_stored_leaves_the_host_and_what_earlier_runs_stored_does_not() {
    let (_folder, checkpoints) = checkpoints();
    checkpoints.commit(&[value("earlier", 1)]).unwrap();
    let values = Values::stored(checkpoints).sharing(true);
    assert_eq!(shared(&values).unwrap(), [""; 0]);
    values.commit(&[value("o1", 1), value("o2", 2)]).unwrap();
    assert_eq!(shared(&values).unwrap(), ["a.B o1=1", "a.B o2=2"]);
}

#[test]
fn values_of_an_export_of_everything_again_leave_the_host_when_they_are_taken_over() {
    let (_folder, checkpoints) = checkpoints();
    let values = again(checkpoints);
    values.commit(&[value("o1", 1)]).unwrap();
    assert_eq!(shared(&values).unwrap(), [""; 0], "the next run would not see it");
    values.take_over(&mock()).unwrap();
    assert_eq!(shared(&values).unwrap(), ["a.B o1=1"]);
}

#[test]
fn what_is_in_doubt_stays_until_its_objects_are_committed() {
    let (_folder, checkpoints) = checkpoints();
    let values = Values::stored(checkpoints).sharing(true);
    let claim = || Claim { export: "e1".to_owned(), model: "a.B".to_owned(), number: 0, from: 0 };
    let prepared = |object, number| {
        let (path, value) = value(object, number);
        vec![(path, value.unwrap(), claim())]
    };
    values.prepare(prepared("o1", 1)).unwrap();
    assert_eq!(shared(&values).unwrap(), [""; 0]);
    values.prepare(prepared("o1", 2)).unwrap();
    values.confirm();
    assert_eq!(shared(&values).unwrap(), ["a.B o1=2"]);
}
