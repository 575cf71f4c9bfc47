//! What the sessions of one integration carried, by the objects that they belong to. A project's part of the report is
//! made of it at the end, when the integration has said which of the objects are projects.
//!
//! **The rule:** a session belongs to each object on the first [`LEVELS`] sessions of its path, itself included, and what
//! it carried is added to each of them once it is durable. So a repository's numbers are those of the session of its pull
//! requests and of all sessions below that.
//!
//! **Without an answer**, of an integration that died, failed or was cancelled, nobody says which objects are projects. Then
//! those take their place that are the first or the second one on a path: a project is one of them, whether or not what it
//! belongs to (an organization, a host) has sessions as well. The state of each follows from its own sessions.
//!
//! **Invariant:** memory is bounded: [`MOST_OBJECTS`] objects, [`MOST_STORIES`] of which with lines of the log and
//! [`MOST_NAMES`] with a name.

use std::collections::{HashMap, HashSet};
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
/// Objects of which the name is kept, for where no answer brings it.
const MOST_NAMES: usize = 4096;
/// The longest name that is kept, in bytes.
const NAME_BYTES: usize = 200;
/// How many objects of a path may be projects.
const NEAR: usize = 2;

/// The table.
#[derive(Debug)]
pub(crate) struct Projects {
    began: Instant,
    tallies: HashMap<Box<str>, Tally>,
    stories: usize,
    /// Objects that may be projects, in the order in which they were begun, with their names.
    names: Vec<(Box<str>, Box<str>)>,
    /// How many may be projects, those without names included.
    near: usize,
    attempt: u8,
    /// Whether there were more objects than are counted.
    pub(crate) overflowed: bool,
}

/// What belongs to one object.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) carried: Carried,
    incremental: bool,
    /// Whether it may be a project.
    near: bool,
    broken: Option<Broken>,
    /// Milliseconds since the beginning.
    first: u32,
    last: u32,
    /// What the log said while a session was open that was rolled back.
    lines: Option<Arc<[String]>>,
}

/// An object of which a session did not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken {
    attempt: u8,
    /// Whether the integration itself rolled it back; it was open at the integration's end otherwise.
    pub(crate) given_up: bool,
}

impl Default for Projects {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            tallies: HashMap::new(),
            stories: 0,
            names: Vec::new(),
            near: 0,
            attempt: 0,
            overflowed: false,
        }
    }
}

impl Projects {
    /// A session was opened; `incremental` when it got a value of an earlier run, `name` is that of its object.
    pub(crate) fn opened(&mut self, path: &SessionPath, incremental: bool, name: &str) {
        let (now, attempt) = (self.now(), self.attempt);
        self.each(path, |it| {
            it.incremental |= incremental;
            it.last = now;
            // What an earlier attempt left is begun again.
            it.broken = it.broken.filter(|broken| broken.attempt == attempt);
        });
        let near = own(path).filter(|(_, before)| *before < NEAR).map(|(object, _)| object);
        if let Some(object) = near
            && let Some(tally) = self.tallies.get_mut(object).filter(|it| !it.near)
        {
            tally.near = true;
            self.near += 1;
            if self.names.len() < MOST_NAMES {
                let name = &name[..name.floor_char_boundary(NAME_BYTES)];
                self.names.push((object.into(), name.into()));
            }
        }
    }

    /// An attempt failed, and another one follows.
    pub(crate) fn another_attempt(&mut self) {
        self.attempt = self.attempt.saturating_add(1);
    }

    /// A session was open when its integration ended.
    pub(crate) fn left_open(&mut self, path: &SessionPath) {
        let now = self.now();
        self.each(path, |it| it.last = now);
        self.broke(path, false);
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
        self.broke(path, true);
    }

    /// A session did not come to its end, and with it the object that it is about; those around it may have.
    fn broke(&mut self, path: &SessionPath, given_up: bool) {
        let broken = Some(Broken { attempt: self.attempt, given_up });
        if let Some(tally) = own(path).and_then(|(object, _)| self.tallies.get_mut(object)) {
            tally.broken = broken;
        }
    }

    /// The objects that may be projects, with their names, and how many more there are. Those with names come in the order in
    /// which they were begun; of the others only those that are broken, by their ids, and at most as many.
    pub(crate) fn candidates(&self) -> (Vec<(&str, &str, &Tally)>, u64) {
        let named = self.names.iter();
        let mut found: Vec<_> =
            named.filter_map(|(id, name)| Some((&**id, &**name, self.tallies.get(id)?))).collect();
        if self.near > found.len() {
            let known: HashSet<&str> = found.iter().map(|(id, ..)| *id).collect();
            let others = self.tallies.iter().filter(|(_, it)| it.near && it.broken.is_some());
            let others = others.filter(|(id, _)| !known.contains(&***id)).map(|(id, it)| (&**id, &**id, it));
            found.extend(others.take(MOST_NAMES).collect::<Vec<_>>());
        }
        let more = self.near.saturating_sub(found.len());
        (found, more as u64)
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

/// The object that a session is about, where it is counted, and how many others stand before it on the path.
fn own(path: &SessionPath) -> Option<(&str, usize)> {
    if path.parts.len() > LEVELS {
        return None;
    }
    let object = path.parts.last()?.1.as_deref()?;
    let others = path.parts.iter().filter_map(|(_, it)| it.as_deref()).filter(|it| *it != object);
    Some((object, others.collect::<HashSet<_>>().len()))
}

impl Tally {
    /// Which session of it did not come to its end, if one did not.
    pub(crate) fn broken(&self) -> Option<Broken> {
        self.broken
    }

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
            projects.opened(path, incremental, "");
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
        projects.opened(&one, false, "one");
        projects.rolled_back(&one, |_| vec!["it broke".into()]);
        assert_eq!(projects.get("r1").unwrap().lines(), Some(&["it broke".to_owned()][..]));
        for n in 0..2 * MOST_STORIES {
            projects.rolled_back(&path(&[("a.Pull", Some(&n.to_string()))]), |_| vec!["x".into()]);
        }
        assert_eq!(projects.tallies.values().filter(|it| it.lines.is_some()).count(), MOST_STORIES);
    }

    fn states(projects: &Projects) -> String {
        let state = |it: &Tally| match it.broken() {
            None => "done",
            Some(Broken { given_up: true, .. }) => "given up",
            Some(Broken { given_up: false, .. }) => "left open",
        };
        let (found, more) = projects.candidates();
        let rows: Vec<_> = found.iter().map(|(id, name, it)| format!("{id} {name}: {}", state(it))).collect();
        format!("{}; {more} more", rows.join(", "))
    }

    #[test]
    fn without_an_answer_what_may_be_a_project_stands_as_its_own_sessions_ended() {
        let mut projects = Projects::default();
        let repos = path(&[("organization", None), ("a.Repo", Some("o1"))]);
        let pulls = |repo: &str| repos.clone().join("a.Pull", Some(repo.into()));
        projects.opened(&repos, false, "Org");
        for repo in ["r1", "r2", "r3"] {
            projects.opened(&pulls(repo), false, "Repo");
            projects.opened(&pulls(repo).join("a.Comment", Some(format!("p-of-{repo}"))), false, "too deep");
        }
        projects.done(&pulls("r1"), carried(3));
        projects.rolled_back(&pulls("r2"), |_| Vec::new());
        for path in [pulls("r3"), repos.clone()] {
            projects.left_open(&path);
        }
        let broken = "o1 Org: left open, r1 Repo: done, r2 Repo: given up, r3 Repo: left open; 0 more";
        assert_eq!(states(&projects), broken);
        // What the next attempt does not come to stays as it is.
        projects.another_attempt();
        projects.opened(&repos, false, "Org");
        projects.opened(&pulls("r2"), false, "Repo");
        projects.done(&pulls("r2"), carried(3));
        projects.left_open(&repos);
        assert_eq!(
            states(&projects),
            "o1 Org: left open, r1 Repo: done, r2 Repo: done, r3 Repo: left open; 0 more"
        );
    }

    #[test]
    fn of_very_many_what_is_broken_is_listed_and_the_rest_is_counted() {
        let mut projects = Projects::default();
        let one = |n: usize| path(&[("repository", Some(&n.to_string()))]);
        for n in 0..3 * MOST_NAMES {
            projects.opened(&one(n), false, "a name");
        }
        projects.left_open(&one(2 * MOST_NAMES));
        let (found, more) = projects.candidates();
        assert_eq!((found.len(), more), (MOST_NAMES + 1, 2 * MOST_NAMES as u64 - 1));
        assert_eq!(found.last().map(|it| it.0), Some((2 * MOST_NAMES).to_string().as_str()));
    }

    #[test]
    fn there_is_a_bound() {
        let mut projects = Projects::default();
        for n in 0..=MOST_OBJECTS {
            projects.opened(&path(&[("a.Pull", Some(&n.to_string()))]), false, "a name");
        }
        assert!(projects.overflowed && projects.tallies.len() == MOST_OBJECTS);
        assert_eq!(projects.names.len(), MOST_NAMES);
    }
}
