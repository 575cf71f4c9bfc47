//! The order of mappings changes nothing, and no result leaves the tree.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outrider_upgrade::{PathMappings, RelPath};

fuzz_target!(|input: (Vec<(String, String)>, String)| {
    let (pairs, at) = input;
    let texts = || pairs.iter().map(|(from, to)| (from.as_str(), to.as_str()));
    let (one, other) = (PathMappings::new(texts(), None), PathMappings::new(texts().rev(), None));
    assert_eq!(one.is_ok(), other.is_ok());
    if let (Ok(one), Ok(other), Ok(at)) = (one, other, RelPath::parse(&at)) {
        let to = one.apply(&at);
        assert_eq!(to, other.apply(&at));
        if let Ok(to) = to {
            RelPath::parse(to.as_str()).expect("a path");
        }
    }
});
