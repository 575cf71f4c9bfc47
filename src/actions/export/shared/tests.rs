//! What is listed, in which order, and how much of it.

use serde_json::json;
use serde_json::value::to_raw_value;

use super::*;

fn git() -> IntegrationId {
    IntegrationId::new("git").unwrap()
}

fn path(object: &str) -> SessionPath {
    SessionPath::of(git()).join("a.Repo", Some(object.to_owned()))
}

fn text(text: &str) -> Raw {
    to_raw_value(text).unwrap()
}

/// A text that is so long as JSON.
fn long(bytes: usize) -> Raw {
    text(&"x".repeat(bytes - 2))
}

fn store(sharing: &Sharing, object: &str, value: Raw) {
    sharing.stored(&[(path(object), Some(value))]);
}

fn reported(sharing: &Sharing) -> LastProcessed {
    sharing.report(&git(), &str::to_owned)
}

/// The listed objects with their values.
fn listed(sharing: &Sharing) -> String {
    let values = reported(sharing).values;
    let one = |it: &SessionValue| {
        let value = it.value.as_ref().map_or_else(|| it.bytes.to_string(), |it| it.get().to_owned());
        format!("{}={value}", it.path[0].1.as_deref().unwrap())
    };
    values.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn each_session_has_its_last_value_in_the_order_of_the_last() {
    let sharing = Sharing::default();
    assert_eq!(listed(&sharing), "");
    for (object, value) in [("o1", "a"), ("o2", "b"), ("o3", "c"), ("o1", "d")] {
        store(&sharing, object, text(value));
    }
    assert_eq!(listed(&sharing), r#"o2="b" o3="c" o1="d""#);
    assert_eq!(reported(&sharing).more, 0);
}

#[test]
fn what_is_in_doubt_is_listed_when_it_is_confirmed_and_only_then() {
    let sharing = Sharing::default();
    let noted = |object: &str| Noted::of(&path(object), &text("v"));
    sharing.in_doubt(vec![noted("failed")]);
    assert_eq!(listed(&sharing), "");
    // Another commit: what the first one left is not a part of it.
    sharing.in_doubt(vec![noted("o1"), noted("o2")]);
    sharing.confirmed();
    sharing.confirmed();
    assert_eq!(listed(&sharing), r#"o1="v" o2="v""#);
}

#[test]
fn integrations_are_told_apart() {
    let sharing = Sharing::default();
    store(&sharing, "o1", text("v"));
    let other = IntegrationId::new("git-2").unwrap();
    assert!(sharing.report(&other, &str::to_owned).values.is_empty());
}

#[test]
fn a_value_that_is_too_long_is_told_by_its_size() {
    let sharing = Sharing::default();
    store(&sharing, "o1", long(LONGEST_VALUE));
    store(&sharing, "o2", long(LONGEST_VALUE + 1));
    let values = reported(&sharing).values;
    let found: Vec<_> = values.iter().map(|it| (it.bytes, it.value.is_some())).collect();
    assert_eq!(found, [(4096, true), (4097, false)]);
    assert_eq!(
        serde_json::to_value(&values[1]).unwrap(),
        json!({ "path": [["a.Repo", "o2"]], "bytes": 4097 })
    );
}

#[test]
fn sessions_beyond_the_most_are_counted_once_each() {
    let sharing = Sharing::default();
    for n in 0..MOST_SESSIONS + 3 {
        store(&sharing, &n.to_string(), text("first"));
    }
    store(&sharing, &(MOST_SESSIONS + 2).to_string(), text("again"));
    // One that is listed may change.
    store(&sharing, "0", text("second"));
    let report = reported(&sharing);
    assert_eq!((report.values.len(), report.more), (MOST_SESSIONS, 3));
    assert_eq!(report.values[0].path[0].1.as_deref(), Some("1"));
    assert_eq!(report.values[MOST_SESSIONS - 1].value.as_ref().unwrap().get(), "\"second\"");
}

#[test]
fn paths_and_values_together_have_a_bound_too() {
    let sharing = Sharing::default();
    // 65 of them leave room for 64 bytes.
    let value = 4014;
    for n in 100..200 {
        store(&sharing, &n.to_string(), long(value));
    }
    let takes = r#"[["a.Repo","100"]]"#.len() + value;
    let room = MOST_BYTES / takes;
    let report = reported(&sharing);
    assert_eq!((report.values.len(), report.more), (room, 100 - room as u64));
    // A value that grew finds no room any more, and one that shrank makes some.
    store(&sharing, "100", long(LONGEST_VALUE));
    store(&sharing, "101", text("short"));
    store(&sharing, "199", long(value));
    let report = reported(&sharing);
    assert_eq!((report.values.len(), report.more), (room, 100 - room as u64));
    let last: Vec<_> = report.values[room - 2..].iter().map(|it| it.path[0].1.clone().unwrap()).collect();
    assert_eq!(last, ["101", "199"]);
}

#[test]
fn all_integrations_together_have_a_bound_too() {
    let sharing = Sharing::default();
    let (value, path) = (long(4000), |n: usize| SessionPath::of(format!("git-{n}").parse().unwrap()));
    for n in 0..20 {
        for object in 0..100 {
            let path = path(n).join("a.Repo", Some(object.to_string()));
            sharing.stored(&[(path, Some(value.clone()))]);
        }
    }
    let takes = |n| sharing.state().listed[&path(n).integration].bytes;
    assert!((0..15).all(|n| takes(n) > MOST_BYTES - 5000) && takes(19) == 0);
    let all: usize = (0..20).map(takes).sum();
    assert!(all <= MOST_BYTES_OF_ALL && all > MOST_BYTES_OF_ALL - 5000, "{all}");
    let last = sharing.report(&path(19).integration, &str::to_owned);
    assert_eq!((last.values.len(), last.more), (0, 100));
}

#[test]
fn a_path_takes_room_as_well() {
    let sharing = Sharing::default();
    store(&sharing, &"x".repeat(MOST_BYTES), text("v"));
    store(&sharing, "o1", text("v"));
    assert_eq!((listed(&sharing).as_str(), reported(&sharing).more), (r#"o1="v""#, 1));
}

#[test]
fn very_many_sessions_are_counted_in_bounded_memory() {
    let mut list = List::default();
    let most = MOST_SESSIONS + MOST_COUNTED;
    for n in 0..most + 2 {
        list.put(vec![(n.to_string(), None)], 1, None, MOST_BYTES);
    }
    assert_eq!(list.beyond.len(), MOST_COUNTED);
    assert_eq!(list.report(&str::to_owned).more, MOST_COUNTED as u64 + 2);
}

#[test]
fn secrets_of_paths_and_values_have_stars_in_their_place() {
    let sharing = Sharing::default();
    let value = to_raw_value(&json!({ "at": "of hush", "n": 1 })).unwrap();
    store(&sharing, "o-hush", value);
    let report = sharing.report(&git(), &|text| text.replace("hush", "***"));
    assert_eq!(
        serde_json::to_value(&report).unwrap(),
        json!({ "values": [{ "path": [["a.Repo", "o-***"]], "bytes": 22, "value": { "at": "of ***", "n": 1 } }] })
    );
    assert!(!format!("{sharing:?}").contains("hush"));
}
