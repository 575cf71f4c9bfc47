//! Last-processed values: what was committed is there, also after a kill, under its own path and no other.

use std::time::Duration;

use outrider_protocol::Raw;
use outrider_protocol::fault::chain;
use outrider_protocol::ids::IntegrationId;

use crate::testing::{as_after_a_kill, fresh};
use crate::{Checkpoints, Root, SessionPath, StoreError};

const AT_ONCE: Duration = Duration::ZERO;

fn path(integration: &str, parts: &[(&str, Option<&str>)]) -> SessionPath {
    let start = SessionPath::of(IntegrationId::new(integration).unwrap());
    parts.iter().fold(start, |path, (name, object)| path.join(*name, object.map(str::to_owned)))
}

fn raw(text: &str) -> Raw {
    serde_json::value::RawValue::from_string(text.to_owned()).unwrap()
}

fn get(store: &Checkpoints, path: &SessionPath) -> Option<String> {
    store.get(path).unwrap().map(|value| value.get().to_owned())
}

fn open(root: &Root) -> Checkpoints {
    Checkpoints::open(root, AT_ONCE).unwrap()
}

#[test]
fn what_is_committed_is_there_after_a_kill() {
    let (_folder, root) = fresh();
    let store = open(&root);
    let repo = path("git", &[("sourcecode.Repo", None)]);
    // Not a byte of the value is changed.
    let value = r#"{ "b": 1.10, "a": 12345678901234567890123 }"#;
    store.commit(&[(repo.clone(), Some(raw(value)))]).unwrap();
    let (_other, copy) = as_after_a_kill(&root);
    assert_eq!(get(&open(&copy), &repo).as_deref(), Some(value));
    drop(store);
    assert_eq!(get(&open(&root), &repo).as_deref(), Some(value));
}

#[test]
fn a_new_value_replaces_the_old_and_none_removes_it() {
    let (_folder, root) = fresh();
    let store = open(&root);
    let (one, two) = (path("git", &[("a.B", Some("1"))]), path("git", &[("a.B", Some("2"))]));
    store.commit(&[(one.clone(), Some(raw("1"))), (two.clone(), Some(raw("2")))]).unwrap();
    store.commit(&[(one.clone(), Some(raw("11"))), (two.clone(), None)]).unwrap();
    assert_eq!(get(&store, &one).as_deref(), Some("11"));
    assert_eq!(get(&store, &two), None);
    assert_eq!(get(&store, &path("mock", &[("a.B", Some("1"))])), None);
    store.commit(&[]).unwrap();
    // Of two in one commit, the later stays.
    store.commit(&[(two.clone(), Some(raw("1"))), (one, None), (two.clone(), Some(raw("2")))]).unwrap();
    assert_eq!(get(&store, &two).as_deref(), Some("2"));
}

#[test]
fn a_commit_with_one_bad_value_stores_none() {
    let (_folder, root) = fresh();
    let store = open(&root);
    let good = path("git", &[("a.B", None)]);
    let long = "x".repeat(70_000);
    let bad = path("git", &[("a.B", Some(&long))]);
    let err = store.commit(&[(good.clone(), Some(raw("1"))), (bad, Some(raw("2")))]).unwrap_err();
    assert!(matches!(err, StoreError::TooLong { most: 65_536, .. }), "{err}");
    assert!(err.to_string().len() < 300, "{err}");
    let huge = raw(&format!("\"{}\"", "x".repeat(16 << 20)));
    let err = store.commit(&[(good.clone(), Some(huge))]).unwrap_err();
    assert!(err.to_string().contains("the last-processed value of git / a.B"), "{err}");
    assert_eq!(get(&store, &good), None);
}

/// Paths that a store which joins names with a separator would mix up.
fn confusable() -> Vec<SessionPath> {
    vec![
        path("git", &[("a", Some("1")), ("b", None)]),
        path("git", &[("a", None), ("1", Some("b"))]),
        path("git", &[("a", Some("1\",\"b"))]),
        path("git", &[("a", Some("1\"],[\"b"))]),
        path("git", &[("a", Some("1/b"))]),
        path("git", &[("a", Some("1@@@b"))]),
        path("git", &[("a", Some(""))]),
        path("git", &[("a", None)]),
        path("git", &[("a", Some("null"))]),
        path("git", &[("", None)]),
        path("git", &[("a\0", Some("\u{1F980}\n"))]),
        path("git", &[("a\\u0000", None)]),
        path("gi", &[("t", None)]),
        path("git-2", &[("a", None)]),
        path("git", &[]),
    ]
}

#[test]
fn no_path_is_taken_for_another() {
    let (_folder, root) = fresh();
    let store = open(&root);
    let paths = confusable();
    let values: Vec<_> =
        paths.iter().enumerate().map(|(i, path)| (path.clone(), Some(raw(&i.to_string())))).collect();
    store.commit(&values).unwrap();
    for (i, path) in paths.iter().enumerate() {
        assert_eq!(get(&store, path), Some(i.to_string()), "{path}");
        let text = serde_json::to_string(path).unwrap();
        assert_eq!(&serde_json::from_str::<SessionPath>(&text).unwrap(), path, "{text}");
    }
}

#[test]
fn a_prefix_means_a_session_and_everything_below_it() {
    let (_folder, root) = fresh();
    let store = open(&root);
    let paths = confusable();
    let values: Vec<_> = paths.iter().map(|path| (path.clone(), Some(raw("0")))).collect();
    store.commit(&values).unwrap();
    let below = |prefix: &SessionPath| {
        let is_below = |path: &&SessionPath| {
            path.integration == prefix.integration && path.parts.starts_with(&prefix.parts)
        };
        let mut expected: Vec<_> = paths.iter().filter(is_below).cloned().collect();
        expected.sort_by_key(|path| serde_json::to_string(path).unwrap());
        expected
    };
    for prefix in &paths {
        let mut listed: Vec<_> =
            store.list(prefix, usize::MAX).unwrap().into_iter().map(|(path, _)| path).collect();
        listed.sort_by_key(|path| serde_json::to_string(path).unwrap());
        assert_eq!(listed, below(prefix), "{prefix}");
    }
    let git = path("git", &[]);
    assert_eq!(store.list(&git, 3).unwrap().len(), 3);
    assert_eq!(store.list(&git, 0).unwrap().len(), 0);

    let organization = path("git", &[("a", Some("1"))]);
    assert_eq!(store.remove(&organization).unwrap(), 1);
    assert_eq!(store.remove(&organization).unwrap(), 0);
    assert_eq!(store.remove(&git).unwrap(), 12);
    let left = [path("gi", &[]), path("git-2", &[])].map(|prefix| store.list(&prefix, 9).unwrap().len());
    assert_eq!(left, [1, 1]);
}

#[test]
fn a_path_reads_well() {
    let path = path("git", &[("organization", Some("42")), ("sourcecode.Repo", None)]);
    assert_eq!(path.to_string(), "git / organization 42 / sourcecode.Repo");
    assert_eq!(
        serde_json::to_string(&path).unwrap(),
        r#"["git",["organization","42"],["sourcecode.Repo",null]]"#
    );
}

#[test]
fn a_store_in_use_is_waited_for_and_then_an_error() {
    let (_folder, root) = fresh();
    let first = open(&root);
    let err = Checkpoints::open(&root, Duration::from_millis(50)).unwrap_err();
    let StoreError::InUse { waited, .. } = &err else { panic!("{err}") };
    assert!(*waited >= Duration::from_millis(50));
    assert!(
        err.to_string().contains("checkpoints.redb: another process of Outrider has had it open"),
        "{err}"
    );

    let waiter = std::thread::spawn(move || Checkpoints::open(&root, Duration::from_secs(60)).map(drop));
    drop(first);
    waiter.join().unwrap().unwrap();
}

#[test]
fn a_store_is_readable_by_its_owner_only() {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let (_folder, root) = fresh();
        let _store = open(&root);
        assert_eq!(std::fs::metadata(root.checkpoints_db()).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_file_that_is_no_store_is_an_error_that_names_it() {
    let (_folder, root) = fresh();
    std::fs::write(root.checkpoints_db(), "no store at all, but long enough to look at".repeat(400)).unwrap();
    let err = Checkpoints::open(&root, AT_ONCE).unwrap_err();
    assert!(matches!(err, StoreError::Damaged { .. }), "{err:?}");
    let text = chain(&err);
    assert!(text.contains("checkpoints.redb") && text.contains("move the file away"), "{text}");
}

#[test]
fn a_root_without_its_folders_is_an_error_that_names_the_file() {
    let (folder, _) = fresh();
    let err = Checkpoints::open(&Root::at(folder.path().join("missing")), AT_ONCE).unwrap_err();
    let text = chain(&err);
    assert!(text.contains("open ") && text.contains("checkpoints.redb"), "{text}");
}

fn run(id: &str) -> outrider_protocol::ids::ExportId {
    outrider_protocol::ids::ExportId::new(id).unwrap()
}

#[test]
fn a_run_that_exports_everything_again_stores_beside_and_takes_over_as_a_whole() {
    let (_folder, root) = fresh();
    let store = open(&root);
    let (git, gits) = (IntegrationId::new("git").unwrap(), path("gits", &[("a.B", Some("1"))]));
    let [kept, gone, new] = ["1", "2", "3"].map(|it| path("git", &[("a.B", Some(it))]));
    let old = [(kept.clone(), "10"), (gone.clone(), "20"), (gits.clone(), "30")];
    store.commit(&old.map(|(path, value)| (path, Some(raw(value))))).unwrap();

    let r1 = run("r1");
    store.commit_of_run(&r1, &[(kept.clone(), Some(raw("11"))), (new.clone(), Some(raw("31")))]).unwrap();
    // A kill in the middle: what was stored before stands as it was, and the same run goes on where it stopped.
    let (_other, copy) = as_after_a_kill(&root);
    let after = open(&copy);
    assert_eq!([&kept, &gone, &new].map(|it| get(&after, it)), [Some("10".into()), Some("20".into()), None]);
    let of_run = |store: &Checkpoints, id: &str, path| {
        store.get_of_run(&run(id), path).unwrap().map(|it| it.get().to_owned())
    };
    assert_eq!(of_run(&after, "r1", &kept).as_deref(), Some("11"));
    assert_eq!(of_run(&after, "r1", &gone), None);
    assert_eq!(of_run(&after, "r2", &kept), None, "another run sees nothing of it");

    assert!(!store.was_taken_over(&r1, &git).unwrap());
    store.take_over(&r1, &git).unwrap();
    store.take_over(&r1, &git).unwrap();
    assert!(store.was_taken_over(&r1, &git).unwrap() && !store.was_taken_over(&run("r2"), &git).unwrap());
    assert_eq!([&kept, &gone, &new].map(|it| get(&store, it)), [Some("11".into()), None, Some("31".into())]);
    assert_eq!(get(&store, &gits).as_deref(), Some("30"), "a name that begins alike is another's");
    assert_eq!(of_run(&store, "r1", &kept), None);
}

#[test]
fn what_other_runs_left_unfinished_is_forgotten() {
    let (_folder, root) = fresh();
    let store = open(&root);
    let one = path("git", &[("a.B", Some("1"))]);
    for id in ["r1", "r2", "r3"] {
        store.commit_of_run(&run(id), &[(one.clone(), Some(raw(&format!("{id:?}"))))]).unwrap();
    }
    store.take_over(&run("r1"), &IntegrationId::new("git").unwrap()).unwrap();
    store.forget_other_runs(&run("r2")).unwrap();
    let left = ["r1", "r2", "r3"].map(|id| store.get_of_run(&run(id), &one).unwrap().is_some());
    assert_eq!(left, [false, true, false]);
    assert!(!store.was_taken_over(&run("r1"), &IntegrationId::new("git").unwrap()).unwrap());
    assert_eq!(get(&store, &one).as_deref(), Some("\"r1\""));
}
