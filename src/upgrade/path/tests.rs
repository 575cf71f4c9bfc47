//! Names that are taken, names that are refused and why, and random ones.

use std::path::Component;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

#[track_caller]
fn refused(name: &[u8], fault: PathFault) {
    let found = RelPath::from_bytes(name).map_err(|err| err.fault);
    assert_eq!(found, Err(fault), "{:?}", String::from_utf8_lossy(name));
}

#[test]
fn plain_names_are_taken() {
    for name in [
        "a",
        "outrider",
        "integrations/integration-git",
        ".hidden",
        "a..b",
        "ü/ß",
        "com",
        "com10",
        "null.txt",
    ] {
        assert_eq!(RelPath::parse(name).unwrap().as_str(), name);
    }
}

#[test]
fn what_leaves_the_folder_is_refused() {
    refused(b"", PathFault::Empty);
    refused(b"/etc/passwd", PathFault::Absolute);
    refused(b"//server/share", PathFault::Absolute);
    refused(b"..", PathFault::Parent);
    refused(b"a/../../b", PathFault::Parent);
    refused(b"a/..", PathFault::Parent);
    refused(b"./a", PathFault::Current);
    refused(b"C:/windows", PathFault::Drive);
    refused(b"c:", PathFault::Drive);
    refused(b"a\\..\\b", PathFault::Backslash);
    refused(b"\\\\server\\share", PathFault::Backslash);
}

#[test]
fn what_systems_take_for_different_files_is_refused() {
    refused(b"a//b", PathFault::EmptySegment);
    refused(b"a/", PathFault::EmptySegment);
    refused(b"a\0b", PathFault::Control);
    refused(b"a\nb", PathFault::Control);
    refused("a\u{85}b".as_bytes(), PathFault::Control);
    refused("a\u{200d}b".as_bytes(), PathFault::Invisible);
    refused("a\u{202e}b".as_bytes(), PathFault::Invisible);
    refused(b"file:stream", PathFault::Character);
    refused(b"a?", PathFault::Character);
    refused(b"a/b.", PathFault::Trailing);
    refused(b"a /b", PathFault::Trailing);
    refused(b" a", PathFault::Trailing);
    refused(b"\xff\xfe", PathFault::NotUtf8);
    refused(b"a/\xc0\xae\xc0\xae/b", PathFault::NotUtf8);
    for name in ["con", "NUL", "x/Aux.txt", "com1", "LPT9.log", "com¹", "CONIN$", "nul .txt"] {
        refused(name.as_bytes(), PathFault::Reserved);
    }
}

#[test]
fn bounds_are_sharp() {
    assert!(RelPath::parse(&["a"; SEGMENTS].join("/")).is_ok());
    refused(["a"; SEGMENTS + 1].join("/").as_bytes(), PathFault::TooDeep);
    assert!(RelPath::parse(&"a".repeat(SEGMENT_BYTES)).is_ok());
    refused("a".repeat(SEGMENT_BYTES + 1).as_bytes(), PathFault::TooLong);
    refused("a/".repeat(PATH_BYTES).as_bytes(), PathFault::TooLong);
    refused("x/".repeat(10_000).as_bytes(), PathFault::TooLong);
}

#[test]
fn a_prefix_is_of_whole_segments() {
    let path = RelPath::parse("data/outrider-1/x").unwrap();
    let strip = |prefix| path.strip_prefix(&RelPath::parse(prefix).unwrap());
    assert_eq!(strip("data/outrider-1"), Some(Some(RelPath::parse("x").unwrap())));
    assert_eq!(strip("data/outrider"), None);
    assert_eq!(strip("data/outrider-1/x"), Some(None));
    assert_eq!(path.ancestors().collect::<Vec<_>>(), ["data", "data/outrider-1"]);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4000,
        rng_seed: RngSeed::Fixed(20_261_125),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_taken_stays_below_any_folder(name in "[a-z./\\\\: \u{0}-\u{20}ß٠]{0,24}") {
        if let Ok(path) = RelPath::parse(&name) {
            prop_assert_eq!(path.as_str(), &name);
            let system = path.to_path();
            prop_assert!(system.components().all(|it| matches!(it, Component::Normal(_))));
            prop_assert_eq!(system.components().count(), path.segments().count());
        }
    }

    #[test]
    fn no_bytes_make_it_panic(name in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Err(err) = RelPath::from_bytes(&name) {
            prop_assert!(err.to_string().len() < 2000);
        }
    }

    #[test]
    fn a_joined_path_strips_to_its_rest(a in "[a-z]{1,4}(/[a-z]{1,4}){0,3}", b in "[a-z]{1,4}(/[a-z]{1,4}){0,3}") {
        if let (Ok(a), Ok(b)) = (RelPath::parse(&a), RelPath::parse(&b)) {
            let joined = a.join(&b).unwrap();
            prop_assert_eq!(joined.strip_prefix(&a), Some(Some(b)));
        }
    }
}
