//! A set of paths that are different files on every system, and of which no file lies in another file.

use std::collections::HashMap;

use unicode_normalization::UnicodeNormalization;

use crate::path::RelPath;

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A regular file.
    File,
    /// A folder.
    Folder,
}

/// A path that cannot stand beside those that are there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Collision {
    /// It is there already.
    #[error("{path} is there twice")]
    Duplicate {
        /// The path.
        path: RelPath,
    },
    /// Some system takes it, or a folder it lies in, for another that is there: their difference is one of case or of
    /// how characters are composed.
    #[error("{path} and {other} are the same file on some systems")]
    SameFile {
        /// The path.
        path: RelPath,
        /// The one that is there, as it is spelled.
        other: String,
    },
    /// One is a file, and the other a folder, or lies in it as if it were one.
    #[error("{path} makes {other} both a file and a folder")]
    FileAndFolder {
        /// The path.
        path: RelPath,
        /// The one that is there.
        other: String,
    },
}

/// What is known of a path: how it is spelled, what it is, and whether it was named itself or is only a folder of
/// another.
#[derive(Debug)]
struct Seen {
    spelled: String,
    node: Node,
    named: bool,
}

/// Paths without a collision.
#[derive(Debug, Default)]
pub struct PathSet {
    /// By what the most forgiving system makes of them.
    seen: HashMap<String, Seen>,
}

impl PathSet {
    /// Adds a path; the folders it lies in are added with it.
    ///
    /// # Errors
    /// When it collides with one that is there.
    pub fn insert(&mut self, path: &RelPath, node: Node) -> Result<(), Collision> {
        for folder in path.ancestors() {
            self.place(path, folder, Node::Folder, false)?;
        }
        self.place(path, path.as_str(), node, true)
    }

    fn place(&mut self, path: &RelPath, spelled: &str, node: Node, named: bool) -> Result<(), Collision> {
        let entry = self.seen.entry(folded(spelled));
        let seen = match entry {
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(Seen { spelled: spelled.to_owned(), node, named });
                return Ok(());
            }
            std::collections::hash_map::Entry::Occupied(taken) => taken.into_mut(),
        };
        if seen.spelled != spelled {
            return Err(Collision::SameFile { path: path.clone(), other: seen.spelled.clone() });
        }
        if seen.node != node {
            return Err(Collision::FileAndFolder { path: path.clone(), other: seen.spelled.clone() });
        }
        if named && seen.named {
            return Err(Collision::Duplicate { path: path.clone() });
        }
        seen.named |= named;
        Ok(())
    }
}

/// What is the same for a system that ignores case and composition, and for some pairs that only a person would mix up.
pub(crate) fn folded(text: &str) -> String {
    let upper: String = text.nfkd().collect::<String>().to_uppercase();
    upper.to_lowercase().nfkd().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inserts files (or folders, with a `/` behind them) and tells how the last one ends.
    fn last(paths: &[&str]) -> Result<(), Collision> {
        let mut set = PathSet::default();
        let mut outcome = Ok(());
        for path in paths {
            assert_eq!(outcome, Ok(()));
            let node = if path.ends_with('/') { Node::Folder } else { Node::File };
            outcome = set.insert(&RelPath::parse(path.trim_end_matches('/')).unwrap(), node);
        }
        outcome
    }

    #[test]
    fn different_paths_stand_side_by_side() {
        assert_eq!(last(&["a/b", "a/c", "a/", "d/", "d/e/f", "ab"]), Ok(()));
    }

    #[test]
    fn a_path_is_there_once() {
        assert!(matches!(last(&["a/b", "a/b"]), Err(Collision::Duplicate { .. })));
        assert!(matches!(last(&["a/", "a/"]), Err(Collision::Duplicate { .. })));
    }

    #[test]
    fn case_and_composition_make_no_difference() {
        for (one, other) in
            [("A", "a"), ("x/A/b", "x/a/c"), ("ß", "SS"), ("é", "e\u{301}"), ("ﬁ", "fi"), ("K", "k")]
        {
            assert!(matches!(last(&[one, other]), Err(Collision::SameFile { .. })), "{one} {other}");
            assert!(matches!(last(&[other, one]), Err(Collision::SameFile { .. })), "{other} {one}");
        }
    }

    #[test]
    fn nothing_is_a_file_and_a_folder() {
        for paths in [["a", "a/b"], ["a/b", "a"], ["a/", "a"], ["a", "a/"], ["a/b/c/d", "a/b"]] {
            assert!(matches!(last(&paths), Err(Collision::FileAndFolder { .. })), "{paths:?}");
        }
    }
}
