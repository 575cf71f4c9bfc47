//! What the sessions of one integration carried, by the objects that they belong to. A project's part of the report is
//! made of it at the end, when the integration has said which of the objects are projects.
//!
//! **The rule:** a session belongs to each object on the first [`LEVELS`] sessions of its path, itself included, and what
//! it carried is added to each of them once it is durable. So a repository's numbers are those of the session of its pull
//! requests and of all sessions below that.
//!
//! **Invariant:** memory is bounded: [`MOST_OBJECTS`] objects, [`MOST_STORIES`] of which with lines of the log.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outrider_home::SessionPath;
use outrider_protocol::report::ExportMode;

use super::sessions::Carried;

/// Sessions of a path whose objects are counted. Projects stand near the root; what is deeper belongs to them.
const LEVELS: usize = 4;
/// Objects that are counted: as many as an answer to `export` can name as projects.
pub(crate) const MOST_OBJECTS: usize = 131_072;
/// Objects for which lines of the log are kept.
const MOST_STORIES: usize = 1024;

/// The table.
#[derive(Debug)]
pub(crate) struct Projects {
    began: Instant,
    tallies: HashMap<Box<str>, Tally>,
    stories: usize,
    /// Whether there were more objects than are counted.
    pub(crate) overflowed: bool,
}

/// What belongs to one object.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) carried: Carried,
    incremental: bool,
    /// Milliseconds since the beginning.
    first: u32,
    last: u32,
    /// What the log said while a session was open that was rolled back.
    lines: Option<Arc<[String]>>,
}

impl Default for Projects {
    fn default() -> Self {
        Self { began: Instant::now(), tallies: HashMap::new(), stories: 0, overflowed: false }
    }
}

impl Projects {
    /// A session was opened; `incremental` when it got a value of an earlier run.
    pub(crate) fn opened(&mut self, path: &SessionPath, incremental: bool) {
        let now = self.now();
        self.each(path, |it| {
            it.incremental |= incremental;
            it.last = now;
        });
    }

    /// A session is durable.
    pub(crate) fn done(&mut self, path: &SessionPath, carried: Carried) {
        let now = self.now();
        self.each(path, |it| {
            it.carried += carried;
            it.last = now;
        });
    }

    /// A session was rolled back; `lines` is asked for what the log said since its object was begun.
    pub(crate) fn rolled_back(&mut self, path: &SessionPath, lines: impl FnOnce(Instant) -> Vec<String>) {
        let now = self.now();
        let objects = path.parts.iter().take(LEVELS).rev();
        let first = objects.filter_map(|(_, object)| self.get(object.as_deref()?)).map(|it| it.first).next();
        let since = self.began + Duration::from_millis(first.unwrap_or(now).into());
        let lines: Option<Arc<[String]>> = (self.stories < MOST_STORIES).then(|| lines(since).into());
        let mut stories = 0;
        self.each(path, |it| {
            it.last = now;
            if let Some(lines) = &lines {
                stories += usize::from(it.lines.is_none());
                it.lines = Some(lines.clone());
            }
        });
        self.stories += stories;
    }

    /// What belongs to an object; nothing when no session did.
    pub(crate) fn get(&self, object: &str) -> Option<&Tally> {
        self.tallies.get(object)
    }

    /// When the first session of an object was opened, and when its last ended.
    pub(crate) fn span(&self, it: &Tally) -> (Instant, Instant) {
        let at = |ms: u32| self.began + Duration::from_millis(ms.into());
        // Lines are as old as the moment in which they were written, which may be the same millisecond.
        (at(it.first), at(it.last) + Duration::from_millis(1))
    }

    /// Calls `change` with the tally of each object of a path, once.
    fn each(&mut self, path: &SessionPath, mut change: impl FnMut(&mut Tally)) {
        let now = self.now();
        let objects = |n: usize| path.parts.iter().take(n).filter_map(|(_, object)| object.as_deref());
        for (i, (_, object)) in path.parts.iter().take(LEVELS).enumerate() {
            let Some(object) = object.as_deref() else { continue };
            if objects(i).any(|earlier| earlier == object) {
                continue;
            }
            if let Some(tally) = self.tallies.get_mut(object) {
                change(tally);
            } else if self.tallies.len() < MOST_OBJECTS {
                let mut tally = Tally { first: now, last: now, ..Tally::default() };
                change(&mut tally);
                self.tallies.insert(object.into(), tally);
            } else {
                self.overflowed = true;
            }
        }
    }

    fn now(&self) -> u32 {
        u32::try_from(self.began.elapsed().as_millis()).unwrap_or(u32::MAX)
    }
}

impl Tally {
    /// Whether a value of an earlier run was used.
    pub(crate) fn mode(&self) -> ExportMode {
        if self.incremental { ExportMode::Incremental } else { ExportMode::Historical }
    }

    /// From the start of the first session to the end of the last, in milliseconds.
    pub(crate) fn duration_ms(&self) -> u64 {
        self.last.saturating_sub(self.first).into()
    }

    /// What the log said while its last session that was rolled back was open.
    pub(crate) fn lines(&self) -> Option<&[String]> {
        self.lines.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outrider_protocol::ids::IntegrationId;

    fn path(parts: &[(&str, Option<&str>)]) -> SessionPath {
        let start = SessionPath::of(IntegrationId::new("git").unwrap());
        parts.iter().fold(start, |path, (name, object)| path.join(*name, object.map(str::to_owned)))
    }

    fn carried(objects: u64) -> Carried {
        Carried { objects, bytes: objects * 10, unchanged: 1, rejected: 0 }
    }

    #[test]
    fn a_session_counts_for_each_object_on_its_path_once() {
        let mut projects = Projects::default();
        let requests = path(&[("organization", None), ("a.Repo", Some("o1")), ("a.Pull", Some("r1"))]);
        let comments = requests.clone().join("a.Comment", Some("r1".into()));
        let deep = comments.clone().join("a.Reaction", Some("c7".into()));
        for (path, incremental) in [(&requests, false), (&comments, true), (&deep, false)] {
            projects.opened(path, incremental);
            projects.done(path, carried(3));
        }
        let count = |object| projects.get(object).map(|it| it.carried.objects);
        assert_eq!((count("o1"), count("r1"), count("c7")), (Some(9), Some(9), None), "c7 is too deep");
        assert_eq!(projects.get("r1").unwrap().mode(), ExportMode::Incremental);
        assert_eq!(projects.get("r1").unwrap().carried.unchanged, 3);
    }

    #[test]
    fn lines_are_kept_for_what_was_rolled_back() {
        let mut projects = Projects::default();
        let one = path(&[("a.Pull", Some("r1"))]);
        projects.opened(&one, false);
        projects.rolled_back(&one, |_| vec!["it broke".into()]);
        assert_eq!(projects.get("r1").unwrap().lines(), Some(&["it broke".to_owned()][..]));
        for n in 0..2 * MOST_STORIES {
            projects.rolled_back(&path(&[("a.Pull", Some(&n.to_string()))]), |_| vec!["x".into()]);
        }
        assert_eq!(projects.tallies.values().filter(|it| it.lines.is_some()).count(), MOST_STORIES);
    }

    #[test]
    fn there_is_a_bound() {
        let mut projects = Projects::default();
        for n in 0..=MOST_OBJECTS {
            projects.opened(&path(&[("a.Pull", Some(&n.to_string()))]), false);
        }
        assert!(projects.overflowed && projects.tallies.len() == MOST_OBJECTS);
    }
}
