//! The store against a plain map, with crashes; and what each kind of damage comes to.

use std::collections::{BTreeMap, HashSet};
use std::fs;

use outrider_protocol::ids::IntegrationId;

use super::merge::absorbed;
use super::*;
use crate::testing::fresh;

fn export(text: &str) -> ExportId {
    ExportId::new(text).unwrap()
}

fn model(text: &str) -> Model {
    Model::new(text).unwrap()
}

fn scope(model: &Model) -> Scope {
    Scope::new(&IntegrationId::new("git").unwrap(), model)
}

fn open(root: &Root, id: &str, acknowledged: &dyn Fn(&str, &str) -> bool) -> Unchanged {
    open_with(root, id, &|export, model| told(acknowledged(export, model)))
}

fn told(acknowledged: bool) -> Delivery {
    if acknowledged { Delivery::Acknowledged } else { Delivery::Waits }
}

fn open_with(root: &Root, id: &str, delivery: &dyn Fn(&str, &str) -> Delivery) -> Unchanged {
    let (store, warnings) = Unchanged::open_at(root.unchanged(), &export(id), delivery, &mut |_| Ok(()));
    assert_eq!(warnings, [""; 0]);
    store
}

/// Puts objects through a session that is committed.
fn send(store: &Unchanged, model: &Model, objects: &[(String, &str)]) {
    let scope = scope(model);
    let mut session = SessionMarks::default();
    for (id, hash) in objects {
        let mark = scope.mark(id, Some(hash));
        store.accept(mark, store.look_up(mark), &mut session);
    }
    store.doubt(model, &mut session);
    store.sync_doubts();
    store.committed(model, session);
}

fn some(count: usize, hash: &'static str) -> Vec<(String, &'static str)> {
    (0..count).map(|n| (format!("id-{n}"), hash)).collect()
}

#[test]
fn what_nobody_knows_of_any_more_is_sent_again_in_each_state() {
    let (_folder, root) = fresh();
    let commits = model("sourcecode.Commit");
    let scope = scope(&commits);
    let [before, after] = ["a", "b"].map(|state| scope.mark("1", Some(state)));
    send(&open(&root, "e1", &|_, _| true), &commits, &[("1".into(), "a"), ("2".into(), "a")]);
    let second = open(&root, "e2", &|_, _| true);
    assert_eq!(second.look_up(before), Known::Unchanged);
    send(&second, &commits, &[("1".into(), "b")]);
    drop(second);
    assert_eq!(waiting_exports(&root).unwrap(), HashSet::from(["e2".to_owned()]));
    // Whether the backend ever got that, nobody can say: it may have the one state or the other.
    for id in ["e3", "e4"] {
        let next = open_with(&root, id, &|_, _| Delivery::Unknown);
        assert_eq!([next.look_up(before), next.look_up(after)], [Known::New; 2]);
        assert_eq!(next.look_up(scope.mark("2", Some("a"))), Known::Unchanged, "of an earlier export");
        assert_eq!(waiting_exports(&root).unwrap(), HashSet::new());
    }
}

#[test]
fn what_is_acknowledged_is_unchanged_and_only_that() {
    let (_folder, root) = fresh();
    let commits = model("sourcecode.Commit");
    let scope = scope(&commits);
    let first = open(&root, "e1", &|_, _| true);
    let mark = scope.mark("1", Some("a"));
    assert_eq!(first.look_up(mark), Known::New);
    send(&first, &commits, &[("1".into(), "a")]);
    assert_eq!(first.look_up(mark), Known::Changed, "it was sent in this run, and is not acknowledged");

    let waiting = open(&root, "e2", &|_, _| false);
    assert_eq!(waiting.look_up(mark), Known::Changed, "the backend does not have it yet");

    let third = open(&root, "e3", &|export, model| (export, model) == ("e1", "sourcecode.Commit"));
    assert_eq!(third.look_up(mark), Known::Unchanged);
    assert_eq!(third.look_up(scope.mark("1", Some("b"))), Known::Changed);
    assert_eq!(third.look_up(scope.mark("2", Some("a"))), Known::New);
    let elsewhere = Scope::new(&IntegrationId::new("other").unwrap(), &commits);
    assert_eq!(third.look_up(elsewhere.mark("1", Some("a"))), Known::New);
}

#[test]
fn without_a_hash_it_is_always_sent_and_what_was_known_is_forgotten() {
    let (_folder, root) = fresh();
    let commits = model("sourcecode.Commit");
    let (state, none) = (scope(&commits).mark("1", Some("a")), scope(&commits).mark("1", None));
    send(&open(&root, "e1", &|_, _| true), &commits, &[("1".into(), "a")]);
    let store = open(&root, "e2", &|_, _| true);
    assert_eq!((store.look_up(state), store.look_up(none)), (Known::Unchanged, Known::Changed));
    let mut session = SessionMarks::default();
    store.accept(none, Known::Changed, &mut session);
    store.doubt(&commits, &mut session);
    store.sync_doubts();
    store.committed(&commits, session);
    let store = open(&root, "e3", &|_, _| true);
    assert_eq!((store.look_up(state), store.look_up(none)), (Known::New, Known::New));
}

#[test]
fn a_session_that_is_rolled_back_leaves_nothing() {
    let (_folder, root) = fresh();
    let commits = model("sourcecode.Commit");
    let store = open(&root, "e1", &|_, _| true);
    let mark = scope(&commits).mark("1", Some("a"));
    let mut session = SessionMarks::default();
    store.accept(mark, Known::New, &mut session);
    drop(session);
    assert_eq!(open(&root, "e2", &|_, _| true).look_up(mark), Known::New);
}

/// A→B→A: the mark of B is lost in a crash, but B is on its way to the backend.
#[test]
fn a_crash_between_a_commit_and_its_mark_leaves_a_doubt() {
    let (_folder, root) = fresh();
    let commits = model("sourcecode.Commit");
    let scope = scope(&commits);
    send(&open(&root, "e1", &|_, _| true), &commits, &[("1".into(), "a")]);
    let store = open(&root, "e2", &|_, _| true);
    let mark = scope.mark("1", Some("b"));
    let mut session = SessionMarks::default();
    store.accept(mark, store.look_up(mark), &mut session);
    store.doubt(&commits, &mut session);
    store.sync_doubts();
    drop((session, store));
    let store = open(&root, "e3", &|_, _| true);
    assert_ne!(store.look_up(scope.mark("1", Some("a"))), Known::Unchanged);
    assert_ne!(store.look_up(scope.mark("1", Some("b"))), Known::Unchanged);
}

#[test]
fn a_later_run_waits_for_an_earlier_one_of_its_model() {
    let (_folder, root) = fresh();
    let (commits, users) = (model("sourcecode.Commit"), model("sourcecode.User"));
    for (id, hash) in [("e1", "a"), ("e2", "b")] {
        let store = open(&root, id, &|_, _| false);
        send(&store, &commits, &[("1".into(), hash)]);
        send(&store, &users, &[("1".into(), hash)]);
    }
    let store = open(&root, "e3", &|export, model| export == "e2" || model == "sourcecode.User");
    assert_eq!(store.look_up(scope(&users).mark("1", Some("b"))), Known::Unchanged);
    assert_eq!(store.look_up(scope(&commits).mark("1", Some("b"))), Known::Changed, "e1 may still arrive");
    let store = open(&root, "e4", &|_, _| true);
    assert_eq!(store.look_up(scope(&commits).mark("1", Some("b"))), Known::Unchanged);
}

#[test]
fn large_sessions_spill_and_runs_grow() {
    let (_folder, root) = fresh();
    let commits = model("sourcecode.Commit");
    let is_small = |when: &str| {
        let bytes: u64 = files(&root.unchanged(), "").iter().map(|it| it.metadata().unwrap().len()).sum();
        assert!(bytes < 20_000 * 64, "{bytes} bytes for 20,000 objects, {when}");
    };
    let store = open(&root, "e0", &|_, _| true);
    send(&store, &commits, &some(20_000, "a"));
    is_small("written down");
    drop(store);
    for n in 1..20 {
        let store = open(&root, &format!("e{n}"), &|_, _| true);
        is_small("acknowledged");
        send(&store, &commits, &[("id-7".into(), "b"), (format!("new-{n}"), "a")]);
    }
    let store = open(&root, "last", &|_, _| true);
    is_small("merged");
    assert!(store.runs.len() <= 3, "{} runs", store.runs.len());
    for n in (0..20_000).filter(|n| *n != 7) {
        assert_eq!(
            store.look_up(scope(&commits).mark(&format!("id-{n}"), Some("a"))),
            Known::Unchanged,
            "{n}"
        );
    }
    assert_eq!(store.look_up(scope(&commits).mark("id-7", Some("b"))), Known::Unchanged);
    assert_eq!(store.look_up(scope(&commits).mark("id-20000", Some("a"))), Known::New);
}

#[test]
fn runs_of_like_size_are_merged() {
    assert_eq!(absorbed(&[], 10), 0);
    assert_eq!(absorbed(&[80, 100_000], 10), 1);
    assert_eq!(absorbed(&[81], 10), 0);
    assert_eq!(absorbed(&[10, 100, 900, 9000], 10), 3);
}

#[test]
fn a_reset_forgets_everything() {
    let (_folder, root) = fresh();
    let commits = model("sourcecode.Commit");
    send(&open(&root, "e1", &|_, _| true), &commits, &some(3, "a"));
    send(&open(&root, "e2", &|_, _| true), &commits, &some(3, "b"));
    fs::write(root.unchanged_reset(), "").unwrap();
    let store = open(&root, "e3", &|_, _| true);
    assert_eq!(store.look_up(scope(&commits).mark("id-1", Some("a"))), Known::New);
    assert!(!root.unchanged_reset().exists());
    drop(store);
    assert_eq!(open(&root, "e4", &|_, _| true).look_up(scope(&commits).mark("id-1", Some("b"))), Known::New);
}

/// The files of the store that end so.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path(), ending));
        } else if entry.path().to_string_lossy().ends_with(ending) {
            found.push(entry.path());
        }
    }
    found
}

#[test]
fn a_damaged_store_is_set_aside_and_everything_is_sent() {
    for (ending, at) in [(RUN_ENDING, 10), (RUN_ENDING, usize::MAX), (marks::ENDING, 10)] {
        let (_folder, root) = fresh();
        let commits = model("sourcecode.Commit");
        send(&open(&root, "e1", &|_, _| true), &commits, &some(300, "a"));
        let store = open(&root, "e2", &|_, _| true);
        send(&store, &commits, &some(300, "b"));
        send(&store, &commits, &some(300, "c"));
        drop(store);
        let damaged = files(&root.unchanged(), ending).remove(0);
        let mut bytes = fs::read(&damaged).unwrap();
        let at = at.min(bytes.len() - 1);
        bytes[at] ^= 1;
        fs::write(&damaged, &bytes).unwrap();

        let (store, warnings) =
            Unchanged::open_at(root.unchanged(), &export("e3"), &|_, _| told(true), &mut |_| Ok(()));
        assert_eq!(warnings.len(), 1, "{ending} {at}");
        assert!(
            warnings[0].contains(damaged.to_str().unwrap()) && warnings[0].contains("everything is sent"),
            "{warnings:?}"
        );
        assert_eq!(store.look_up(scope(&commits).mark("id-1", Some("a"))), Known::New);
        send(&store, &commits, &some(300, "c"));
        drop(store);
        let store = open(&root, "e4", &|_, _| true);
        assert_eq!(store.look_up(scope(&commits).mark("id-1", Some("c"))), Known::Unchanged);
    }
}

#[test]
fn damage_that_a_lookup_finds_ends_the_trust_for_this_run_and_the_next() {
    let (_folder, root) = fresh();
    let commits = model("sourcecode.Commit");
    send(&open(&root, "e1", &|_, _| true), &commits, &some(300, "a"));
    drop(open(&root, "e2", &|_, _| true));
    let run = files(&root.unchanged(), RUN_ENDING).remove(0);
    let mut bytes = fs::read(&run).unwrap();
    (0..2).for_each(|block| bytes[block * 4096 + 50] ^= 1);
    fs::write(&run, &bytes).unwrap();
    let store = open(&root, "e3", &|_, _| true);
    assert_eq!(store.look_up(scope(&commits).mark("id-1", Some("a"))), Known::Changed);
    assert!(store.distrusted().unwrap().contains("checksum"));
    assert_eq!(store.look_up(scope(&commits).mark("unknown", Some("a"))), Known::Changed);
    drop(store);
    assert_eq!(open(&root, "e4", &|_, _| true).look_up(scope(&commits).mark("id-1", Some("a"))), Known::New);
}

/// How an object was put into the spool the last time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Last {
    hash: u64,
    by: (String, String),
    delivered: bool,
}

/// What the test knows beside the store.
#[derive(Default)]
struct World {
    random: u64,
    /// The last state of each object that was put into the spool.
    last: BTreeMap<(usize, u64), Last>,
    /// Of which export and model the backend has everything.
    acknowledged: HashSet<(String, String)>,
    unchanged: u64,
}

impl World {
    fn below(&mut self, end: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let n = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (n ^ (n >> 31)) % end
    }

    /// One run of an export: its sessions, and perhaps its death.
    fn run(&mut self, root: &Root, id: &str, models: &[Model]) {
        let acknowledged = self.acknowledged.clone();
        let crash_at = self.below(8);
        let mut steps = 0;
        let (store, warnings) = Unchanged::open_at(
            root.unchanged(),
            &export(id),
            &|export, model| told(acknowledged.contains(&(export.to_owned(), model.to_owned()))),
            &mut |_| {
                steps += 1;
                let crash = steps == crash_at;
                if crash {
                    Err(FileError::at("crash", Path::new("here"))(io::Error::other("test")))
                } else {
                    Ok(())
                }
            },
        );
        if !warnings.is_empty() {
            assert!(warnings[0].contains("crash here"), "{warnings:?}");
            return;
        }
        let before = self.last.clone();
        for _ in 0..self.below(6) {
            if self.session(&store, id, models, &before) {
                self.lose(root);
                return;
            }
        }
    }

    /// Whether the process died in it.
    fn session(
        &mut self,
        store: &Unchanged,
        id: &str,
        models: &[Model],
        before: &BTreeMap<(usize, u64), Last>,
    ) -> bool {
        let place = usize::try_from(self.below(models.len() as u64)).unwrap();
        let (model, scope) = (&models[place], scope(&models[place]));
        let (mut session, mut objects) = (SessionMarks::default(), Vec::new());
        for _ in 0..self.below(40) {
            let (object, hash) = (self.below(60), self.below(3));
            let mark = scope.mark(&object.to_string(), Some(&hash.to_string()));
            let known = store.look_up(mark);
            if known == Known::Unchanged {
                let last = &self.last[&(place, object)];
                assert_eq!(
                    last.hash, hash,
                    "{object} was left out in a state that the backend does not have"
                );
                let at_opening = &before[&(place, object)];
                assert!(
                    last == at_opening && at_opening.delivered,
                    "{object} may be left out later: {last:?}"
                );
                self.unchanged += 1;
            } else {
                store.accept(mark, known, &mut session);
                objects.push((object, hash));
            }
        }
        match self.below(20) {
            0 => return true,
            1..4 => return false,
            _ => {}
        }
        store.doubt(model, &mut session);
        store.sync_doubts();
        if self.below(20) == 0 {
            return true;
        }
        for (object, hash) in objects {
            let by = (id.to_owned(), model.to_string());
            self.acknowledged.remove(&by);
            self.last.insert((place, object), Last { hash, by, delivered: false });
        }
        if self.below(20) == 0 {
            return true;
        }
        store.committed(model, session);
        false
    }

    /// The backend has everything that this export sent of this model.
    fn acknowledge(&mut self, by: (String, String)) {
        self.last.values_mut().filter(|last| last.by == by).for_each(|last| last.delivered = true);
        self.acknowledged.insert(by);
    }

    /// A crash of the machine: what was not synced may be gone.
    fn lose(&mut self, root: &Root) {
        for path in files(&root.unchanged().join(PENDING), marks::ENDING) {
            let length = fs::metadata(&path).unwrap().len();
            let synced = last_doubt(&path);
            let left = synced + self.below(length - synced + 1);
            fs::File::options().write(true).open(&path).unwrap().set_len(left).unwrap();
        }
    }
}

/// Where the last batch of doubts ends, which were synced.
fn last_doubt(path: &Path) -> u64 {
    let bytes = fs::read(path).unwrap();
    let (mut at, mut synced) = (0, 0);
    while at + 8 <= bytes.len() {
        let count = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let end = at + 8 + count * mark::MARK_BYTES;
        let Some(batch) = bytes.get(at + 8..end) else { break };
        if mark::marks_in(batch).all(Mark::is_doubt) {
            synced = end;
        }
        at = end;
    }
    synced as u64
}

#[test]
fn random_runs_and_crashes_never_leave_out_what_the_backend_lacks() {
    let mut unchanged = 0;
    for seed in 0..6 {
        let (_folder, root) = fresh();
        let models = [model("sourcecode.Commit"), model("sourcecode.User")];
        let mut world = World { random: seed, ..World::default() };
        for n in 0..40 {
            // Sometimes the export that died is run again.
            let n = if n > 0 && world.below(4) == 0 { n - 1 } else { n };
            world.run(&root, &format!("e{n}"), &models);
            for export in 0..=n {
                for model in &models {
                    if world.below(3) > 0 {
                        world.acknowledge((format!("e{export}"), model.to_string()));
                    }
                }
            }
        }
        unchanged += world.unchanged;
        // Without crashes everything that was acknowledged is left out.
        let store = open(&root, "all", &|_, _| true);
        send(&store, &models[0], &some(500, "a"));
        let store = open(&root, "again", &|_, _| true);
        for (id, hash) in some(500, "a") {
            assert_eq!(store.look_up(scope(&models[0]).mark(&id, Some(hash))), Known::Unchanged);
        }
    }
    assert!(unchanged > 800, "the test looked at {unchanged} objects that were left out");
}
