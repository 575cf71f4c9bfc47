//! Where a package wants its files: its path mappings, by the longest prefix of whole segments.
//!
//! **Invariant:** the order in which mappings are listed changes nothing.
//!
//! **Invariant:** no result lies outside the tree, since both sides of a mapping are [`RelPath`]s.

use std::collections::BTreeMap;

use crate::path::{PathError, RelPath};
use crate::path_set::folded;

/// Mappings that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MappingError {
    /// A side of a mapping is no path within the tree.
    #[error("a path mapping leaves the tree")]
    Path {
        /// Which path, and why.
        #[source]
        err: PathError,
    },
    /// Two mappings of one path.
    #[error("{from} is mapped to {one} and to {other}: expected one target")]
    Ambiguous {
        /// What is mapped.
        from: RelPath,
        /// The first target, in the order of texts.
        one: RelPath,
        /// The second.
        other: RelPath,
    },
    /// A target is the folder of the running version, lies in it, or contains it.
    #[error("{from} is mapped to {to}, and {running} is the running version: expected a folder of its own")]
    Running {
        /// What is mapped.
        from: RelPath,
        /// Where to.
        to: RelPath,
        /// The running version's folder.
        running: RelPath,
    },
}

/// The path mappings of a package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathMappings(BTreeMap<RelPath, RelPath>);

impl PathMappings {
    /// Takes mappings, each from and to a path relative to the top folder, in any order. `running` is the folder of the
    /// running version, relative to the same; nothing may be mapped to it.
    ///
    /// # Errors
    /// When a path leaves the tree, a path has two targets, or a target touches `running`.
    pub fn new<'a>(
        mappings: impl IntoIterator<Item = (&'a str, &'a str)>,
        running: Option<&RelPath>,
    ) -> Result<Self, MappingError> {
        let path = |text| RelPath::parse(text).map_err(|err| MappingError::Path { err });
        let mut found = BTreeMap::<RelPath, RelPath>::new();
        for (from, to) in mappings {
            let (from, to) = (path(from)?, path(to)?);
            match found.get(&from) {
                Some(known) if *known != to => {
                    let (one, other) = if *known < to { (known.clone(), to) } else { (to, known.clone()) };
                    return Err(MappingError::Ambiguous { from, one, other });
                }
                _ => drop(found.insert(from, to)),
            }
        }
        if let Some(running) = running
            && let Some((from, to)) = found.iter().find(|(_, to)| touches(to, running))
        {
            let (from, to, running) = (from.clone(), to.clone(), running.clone());
            return Err(MappingError::Running { from, to, running });
        }
        Ok(Self(found))
    }

    /// Where a path of the package goes; where it stands, when no mapping is of it or of a folder it lies in.
    ///
    /// # Errors
    /// When the result is too long or too deep.
    pub fn apply(&self, path: &RelPath) -> Result<RelPath, PathError> {
        // In the order of texts a longer prefix of the same path comes after a shorter one.
        let longest = self.0.iter().rev().find_map(|(from, to)| Some((to, path.strip_prefix(from)?)));
        match longest {
            None => Ok(path.clone()),
            Some((to, None)) => Ok(to.clone()),
            Some((to, Some(rest))) => to.join(&rest),
        }
    }

    /// The mappings, in the order of what they are from.
    pub fn iter(&self) -> impl Iterator<Item = (&RelPath, &RelPath)> {
        self.0.iter()
    }
}

/// Whether one is the other or lies in it, for a system that ignores case and composition.
pub(crate) fn touches(one: &RelPath, other: &RelPath) -> bool {
    let (one, other) = (folded(one.as_str()), folded(other.as_str()));
    one.split('/').zip(other.split('/')).all(|(a, b)| a == b)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text).unwrap()
    }

    #[test]
    fn the_longest_prefix_of_whole_segments_wins() {
        let mappings =
            [("data", "d"), ("data/outrider-1", "versions/1"), ("manifest.yaml", "versions/1/manifest.yaml")];
        let mappings = PathMappings::new(mappings, None).unwrap();
        for (from, to) in [
            ("data/outrider-1", "versions/1"),
            ("data/outrider-1/a/b", "versions/1/a/b"),
            ("data/outrider-12/a", "d/outrider-12/a"),
            ("data", "d"),
            ("database", "database"),
            ("manifest.yaml", "versions/1/manifest.yaml"),
            ("README", "README"),
        ] {
            assert_eq!(mappings.apply(&path(from)).unwrap(), path(to));
        }
    }

    #[test]
    fn a_result_is_not_mapped_again() {
        let mappings = PathMappings::new([("a", "b"), ("b", "c")], None).unwrap();
        assert_eq!(mappings.apply(&path("a/x")).unwrap(), path("b/x"));
    }

    #[test]
    fn two_targets_are_refused_in_either_order() {
        let err = PathMappings::new([("a", "b"), ("a", "c")], None).unwrap_err();
        assert!(matches!(err, MappingError::Ambiguous { .. }));
        assert_eq!(PathMappings::new([("a", "c"), ("a", "b")], None), Err(err));
        assert!(PathMappings::new([("a", "b"), ("a", "b")], None).is_ok());
    }

    #[test]
    fn what_leaves_the_tree_is_refused() {
        for (from, to) in [("a", "../b"), ("a", "/b"), ("a", ""), ("..", "b"), ("a", "C:/b"), ("a", "b\\c")] {
            let found = PathMappings::new([(from, to)], None);
            assert!(matches!(found, Err(MappingError::Path { .. })), "{from} {to}");
        }
    }

    #[test]
    fn the_running_version_is_no_target() {
        let running = path("versions/1.0.0-abcdef12");
        for to in ["versions/1.0.0-abcdef12", "Versions/1.0.0-ABCDEF12/x", "versions"] {
            let found = PathMappings::new([("a", to)], Some(&running));
            assert!(matches!(found, Err(MappingError::Running { .. })), "{to}");
        }
        assert!(PathMappings::new([("a", "versions/1.0.0-abcdef1")], Some(&running)).is_ok());
    }

    /// What the rule says, without cleverness.
    fn by_the_rule(mappings: &[(String, String)], path: &RelPath) -> String {
        let segments: Vec<_> = path.segments().collect();
        for length in (1..=segments.len()).rev() {
            let prefix = segments[..length].join("/");
            if let Some((_, to)) = mappings.iter().find(|(from, _)| *from == prefix) {
                return [&[to.as_str()][..], &segments[length..]].concat().join("/");
            }
        }
        path.as_str().to_owned()
    }

    fn borrowed(mappings: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
        mappings.iter().map(|(from, to)| (from.as_str(), to.as_str()))
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 3000,
            rng_seed: RngSeed::Fixed(20_261_126),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn order_changes_nothing_and_the_longest_prefix_wins(
            mappings in vec(("[a-b!.]{1,2}(/[a-b]{1,2}){0,3}", "[x-z](/[x-z]){0,2}"), 0..8),
            at in "[a-b!]{1,2}(/[a-b]{1,2}){0,4}",
            turn in 0..8usize,
        ) {
            let mut turned = mappings.clone();
            turned.rotate_left(turn.min(mappings.len()));
            turned.reverse();
            let (one, other) = (PathMappings::new(borrowed(&mappings), None), PathMappings::new(borrowed(&turned), None));
            prop_assert_eq!(one.is_ok(), other.is_ok());
            if let (Ok(one), Ok(other)) = (one, other) {
                let at = path(&at);
                let found = one.apply(&at).unwrap();
                prop_assert_eq!(&found, &other.apply(&at).unwrap());
                prop_assert_eq!(found.as_str(), by_the_rule(&mappings, &at));
            }
        }

        #[test]
        fn no_result_leaves_the_tree(
            from in "[a-c./]{1,6}", to in "[a-c./\\\\:]{0,6}", at in "[a-c]{1,2}(/[a-c]){0,4}",
        ) {
            if let Ok(mappings) = PathMappings::new([(from.as_str(), to.as_str())], None) {
                let found = mappings.apply(&path(&at)).unwrap();
                prop_assert!(RelPath::parse(found.as_str()).is_ok());
            }
        }
    }
}
