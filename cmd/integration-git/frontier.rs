//! The checkpoint of a repository's commits: what of its history was exported. Pure.
//!
//! A commit's history never changes, so that a commit that was exported stands for everything before it. The checkpoint
//! holds:
//! - **tips**: exported commits from which every exported one can be reached. The next run exports what can be reached
//!   from the refs of then and not from these. Tips that no ref reaches any more, after a branch was rewritten or deleted,
//!   are kept, so that a branch set back again sends nothing twice.
//! - **anchors**: exported commits at growing distances behind the newest. Should all tips be gone, as after a
//!   rewritten branch and `git gc`, or a fresh clone of one, then the anchors still hold, and little is sent twice.
//! - **shallow**: the commits at which a shallow clone was cut off. These were exported as if they had no parents. When the
//!   history becomes longer, the next run exports everything again: the cut-off commits with their parents and
//!   their real changes, which replace what was sent under the same ids.
//!
//! What the repository no longer has is left out by the reader of a checkpoint. What was sent already is never taken
//! back: a commit that was rewritten or collected stays at the backend; no branch or tag names it any more.
//!
//! **Invariant:** nothing that was not exported is ever excluded.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

/// The most tips that no ref reaches any more. Above this some are forgotten, and may be sent twice.
const LOST_TIPS: usize = 10_000;

/// What was exported.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Checkpoint {
    /// Commits from which every exported one can be reached.
    pub(crate) tips: Vec<String>,
    /// Exported commits and their distance in commits behind the newest, nearest first.
    pub(crate) anchors: Vec<(u64, String)>,
    /// Where the history was cut off.
    pub(crate) shallow: Vec<String>,
}

impl Checkpoint {
    /// Every commit that it names as exported.
    pub(crate) fn known(&self) -> impl Iterator<Item = &str> + Clone {
        self.tips.iter().chain(self.anchors.iter().map(|(_, commit)| commit)).map(String::as_str)
    }

    /// The same without what the repository no longer has.
    pub(crate) fn keep(mut self, present: &HashSet<String>) -> Self {
        self.tips.retain(|commit| present.contains(commit));
        self.anchors.retain(|(_, commit)| present.contains(commit));
        self
    }

    /// Commits at which the history is no longer cut off.
    pub(crate) fn lifted(&self, shallow_now: &[String]) -> Vec<String> {
        self.shallow.iter().filter(|commit| shallow_now.binary_search(commit).is_err()).cloned().collect()
    }
}

/// Follows an export and makes the next checkpoint.
#[derive(Debug)]
pub(crate) struct Frontier {
    /// What may become a tip of the checkpoint.
    tips: HashMap<String, Tip>,
    anchors: Vec<(u64, String)>,
    old_anchors: Vec<(u64, String)>,
    shallow: Vec<String>,
    exported: u64,
}

#[derive(Debug, Clone, Copy)]
struct Tip {
    /// It is exported, now or earlier.
    exported: bool,
    /// A ref points to it.
    wanted: bool,
}

impl Frontier {
    /// Begins with what was exported (and is still there), what the refs point to, and where the history is cut off now.
    pub(crate) fn new(old: Checkpoint, tips: &HashSet<String>, shallow: Vec<String>) -> Self {
        let mut all: HashMap<_, _> =
            tips.iter().map(|tip| (tip.clone(), Tip { exported: false, wanted: true })).collect();
        for tip in old.tips {
            all.entry(tip).or_insert(Tip { exported: false, wanted: false }).exported = true;
        }
        Self { tips: all, anchors: Vec::new(), old_anchors: old.anchors, shallow, exported: 0 }
    }

    /// A commit is exported, the newest first.
    pub(crate) fn exported(&mut self, commit: &str, parents: &[String]) {
        if let Some(tip) = self.tips.get_mut(commit) {
            tip.exported = true;
        }
        for parent in parents {
            // Reached from this commit, it adds nothing. It may come later itself: it is then no tip any more.
            self.tips.remove(parent);
        }
        self.exported += 1;
        if self.exported.is_power_of_two() {
            self.anchors.push((self.exported, commit.to_owned()));
        }
    }

    /// How many commits were exported.
    pub(crate) fn count(&self) -> u64 {
        self.exported
    }

    /// The checkpoint, now that everything is exported.
    pub(crate) fn checkpoint(self) -> Checkpoint {
        let (wanted, mut lost): (Vec<_>, Vec<_>) =
            self.tips.into_iter().filter(|(_, tip)| tip.exported).partition(|(_, tip)| tip.wanted);
        lost.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let lost = lost.into_iter().take(LOST_TIPS);
        let mut tips: Vec<_> = wanted.into_iter().chain(lost).map(|(commit, _)| commit).collect();
        tips.sort_unstable();

        let older = self.old_anchors.into_iter().map(|(distance, commit)| (distance + self.exported, commit));
        let mut anchors: Vec<(u64, String)> = Vec::new();
        for anchor in self.anchors.into_iter().chain(older) {
            // One for each power of two: enough for any history, and never more than 64. The farthest of them is kept,
            // as only that one comes to the next power before the nearer ones take its place.
            anchors.pop_if(|nearer| nearer.0.ilog2() == anchor.0.ilog2());
            anchors.push(anchor);
        }
        Checkpoint { tips, anchors, shallow: self.shallow }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|&it| it.to_owned()).collect()
    }

    fn run(old: Checkpoint, tips: &[&str], commits: &[(&str, &[&str])]) -> Checkpoint {
        let tips = strings(tips).into_iter().collect();
        let mut frontier = Frontier::new(old, &tips, Vec::new());
        for (commit, parents) in commits {
            frontier.exported(commit, &strings(parents));
        }
        frontier.checkpoint()
    }

    #[test]
    fn a_tip_below_another_is_not_kept() {
        let first = run(
            Checkpoint::default(),
            &["c", "a", "x"],
            &[("c", &["b"]), ("x", &[]), ("b", &["a"]), ("a", &[])],
        );
        assert_eq!(first.tips, ["c", "x"]);
        let second = run(first, &["d", "x", "b"], &[("d", &["c", "x"])]);
        assert_eq!(second.tips, ["d"]);
    }

    #[test]
    fn a_tip_that_no_ref_reaches_stays_known() {
        let first = run(Checkpoint::default(), &["c"], &[("c", &["b"]), ("b", &[])]);
        let rewritten = run(first, &["d"], &[("d", &["b"])]);
        assert_eq!(rewritten.tips, ["c", "d"]);
        let set_back = run(rewritten.clone(), &["b"], &[]);
        assert_eq!(set_back.tips, rewritten.tips);
    }

    #[test]
    fn a_parent_that_comes_before_its_child_is_no_tip_either() {
        let checkpoint = run(Checkpoint::default(), &["a", "b"], &[("a", &[]), ("b", &["a"])]);
        assert_eq!(checkpoint.tips, ["b"]);
    }

    #[test]
    fn nothing_that_was_not_exported_is_ever_known() {
        let checkpoint = run(Checkpoint::default(), &["a", "b"], &[("b", &[])]);
        assert_eq!(checkpoint.tips, ["b"]);
    }

    #[test]
    fn anchors_grow_with_the_logarithm_of_the_history() {
        let mut checkpoint = Checkpoint::default();
        let mut name = 0_u32;
        for _ in 0..200 {
            let mut frontier = Frontier::new(checkpoint, &HashSet::new(), Vec::new());
            for _ in 0..37 {
                name += 1;
                frontier.exported(&name.to_string(), &[]);
            }
            checkpoint = frontier.checkpoint();
        }
        let distances: Vec<_> = checkpoint.anchors.iter().map(|it| it.0).collect();
        assert!(distances.is_sorted() && distances.len() <= 14, "{distances:?}");
        assert!(distances[distances.len() - 1] >= 2048, "{distances:?}");
    }

    #[test]
    fn what_the_repository_lost_is_left_out() {
        let checkpoint = Checkpoint {
            tips: strings(&["a", "b"]),
            anchors: vec![(1, "a".into()), (2, "c".into())],
            shallow: strings(&["x", "y"]),
        };
        let kept = checkpoint.keep(&strings(&["b", "c"]).into_iter().collect());
        assert_eq!(kept.known().collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(kept.lifted(&strings(&["y", "z"])), ["x"]);
    }
}
