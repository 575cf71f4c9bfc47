//! The release side, and what an agent remembers on its disk.

use std::path::Path;
use std::sync::Arc;

use super::world::{DAY, Forged, World, linux, new_keys, number, version};
use crate::error::{Role, TrustError};
use crate::fetch::{Fetch as _, Folder};
use crate::keys::{KeyError, Keys};
use crate::{Downgrade, Expiry, Repository, RepositoryError, Thresholds};

#[test]
fn keys_are_private_and_never_overwritten_nor_shown() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("keys");
    let paths = Keys::generate(&folder, Role::Root, 3).unwrap();
    assert_eq!(paths.len(), 3);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&paths[0])), (0o700, 0o600));
        let keys = Keys::in_folders([&folder]);
        std::fs::set_permissions(&paths[1], std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(keys.of_role(Role::Root), Err(KeyError::TooOpen { mode: 0o640, .. })));
        std::fs::set_permissions(&paths[1], std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert!(matches!(Keys::generate(&folder, Role::Root, 1), Err(KeyError::Exists { .. })));
    let keys = Keys::in_folders([&folder, &folder]);
    let read = keys.of_role(Role::Root).unwrap();
    assert_eq!(read.len(), 3, "each once");
    let secret = std::fs::read_to_string(&paths[0]).unwrap();
    let body = secret.lines().nth(1).unwrap();
    assert!(!format!("{keys:?} {read:?}").contains(body));
    for text in ["", "hello", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
        crate::files::write(&paths[0], text.as_bytes(), crate::files::PRIVATE).unwrap();
        let err = keys.of_role(Role::Root).unwrap_err();
        assert!(matches!(err, KeyError::NotAKey { .. }), "{err}");
    }
}

#[test]
fn an_operation_says_which_key_it_lacks() {
    let world = World::new();
    let folder = world.dir.path().join("some");
    let has = |names: &[&str]| {
        drop(std::fs::remove_dir_all(&folder));
        crate::files::make_folder(&folder, true).unwrap();
        for name in names {
            std::fs::copy(world.dir.path().join("keys").join(name), folder.join(name)).unwrap();
        }
        Keys::in_folders([&folder])
    };
    let missing = |err: RepositoryError| match err {
        RepositoryError::Key(KeyError::Missing { role, needed, found, .. }) => (role, needed, found),
        other => panic!("{other:?}"),
    };
    let before = world.repository().roles();
    let new = [world.package("1.0.0", ".tar.gz", "b")];
    let mut repository = world.repository();
    for (names, lacks) in [
        (&["snapshot-1.pem", "timestamp-1.pem"][..], Role::Targets),
        (&["targets-1.pem", "timestamp-1.pem"], Role::Snapshot),
        (&["targets-1.pem", "snapshot-1.pem"], Role::Timestamp),
    ] {
        assert_eq!(missing(repository.add(&new, &has(names), world.now).unwrap_err()), (lacks, 1, 0));
    }
    let err = repository.refresh(&has(&["snapshot-1.pem"]), false, world.now).unwrap_err();
    assert!(err.to_string().contains("files timestamp-….pem with the ids "), "{err}");
    assert_eq!(missing(err), (Role::Timestamp, 1, 0));
    let one = has(&["root-2.pem"]);
    assert_eq!(missing(repository.rotate_root(&one, None, None, world.now).unwrap_err()), (Role::Root, 2, 1));
    // Keys of strangers are no keys, whatever their files are called.
    let err = repository.refresh(&world.strangers(), false, world.now).unwrap_err();
    assert_eq!(missing(err), (Role::Timestamp, 1, 0));
    drop(repository);
    assert_eq!(world.repository().roles(), before);

    // A server that only renews needs the online keys only; two of three people make a root.
    let mut repository = world.repository();
    let online = has(&["snapshot-1.pem", "timestamp-1.pem"]);
    let renewed = repository.refresh(&online, false, world.now).unwrap();
    assert_eq!(renewed.roles, [Role::Timestamp]);
    let renewed = repository.refresh(&online, false, world.now + DAY * 16).unwrap();
    assert_eq!(renewed.roles, [Role::Snapshot, Role::Timestamp]);
    let two = has(&["root-1.pem", "root-3.pem"]);
    assert_eq!(repository.rotate_root(&two, None, None, world.now).unwrap().version, 2);
}

#[test]
fn a_threshold_that_nobody_can_reach_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let keys = new_keys(&dir.path().join("keys"), 1);
    let repo = dir.path().join("repo");
    let now = "2026-03-01T12:00:00Z".parse().unwrap();
    let four = Thresholds { root: number(4), ..Thresholds::default() };
    let err = Repository::init(&repo, &keys, four, Expiry::default(), now).unwrap_err();
    assert!(matches!(err, RepositoryError::Threshold { role: Role::Root, keys: 3, threshold: 4 }), "{err:?}");
    drop(Repository::init(&repo, &keys, Thresholds::default(), Expiry::default(), now).unwrap());
    let again = Repository::init(&repo, &keys, Thresholds::default(), Expiry::default(), now);
    assert!(matches!(again, Err(RepositoryError::Exists { .. })));
    let held = Repository::open(&repo, Expiry::default()).unwrap();
    assert!(matches!(Repository::open(&repo, Expiry::default()), Err(RepositoryError::InUse { .. })));
    drop(held);
    let nothing = Repository::open(&dir.path().join("nothing"), Expiry::default());
    assert!(matches!(nothing, Err(RepositoryError::None { .. })));
}

#[test]
fn an_archive_is_checked_against_what_lies_beside_it() {
    let world = World::new();
    let mut repository = world.repository();
    let mut add = |new: &crate::NewRelease| {
        repository.add(std::slice::from_ref(new), &world.keys, world.now).unwrap_err().to_string()
    };
    let new = world.package("1.0.0", ".tar.gz", "b");
    let sha512 = new.archive.with_file_name("outrider-1.0.0-linux-x86_64.tar.gz.sha512");
    let list = new.archive.with_file_name("outrider-1.0.0-linux-x86_64.files.json");

    std::fs::write(&sha512, format!("{}  outrider-1.0.0-linux-x86_64.tar.gz\n", "0".repeat(128))).unwrap();
    assert!(add(&new).contains("SHA-512 0000"));
    std::fs::write(&sha512, "").unwrap();
    assert!(add(&new).contains("no line of the archive"));
    std::fs::remove_file(&sha512).unwrap();
    assert!(add(&new).contains("needs outrider-1.0.0-linux-x86_64.tar.gz.sha512 beside it"));

    let new = world.package("1.0.0", ".tar.gz", "b");
    std::fs::write(&list, "{}").unwrap();
    assert!(add(&new).contains("no hash of the build"));
    std::fs::write(&list, "files").unwrap();
    assert!(add(&new).contains("cannot be read"));
    std::fs::remove_file(&list).unwrap();
    assert!(add(&new).contains("needs outrider-1.0.0-linux-x86_64.files.json beside it"));

    let mut new = world.package("1.0.0", ".tar.gz", "b");
    new.hash = Some("c".into());
    assert!(add(&new).contains("build b, expected build c, as given"));
    new.hash = None;
    new.floor = Some(version("1.0.1"));
    assert!(add(&new).contains("the floor 1.0.1 is above version 1.0.0"));
    new.archive.set_file_name("other.tar.gz");
    assert!(add(&new).ends_with("other.tar.gz"));
    drop(repository);
    assert!(world.repository().releases().is_empty());
    assert_eq!(world.repository().roles()[1].version, 1);
}

#[tokio::test]
async fn a_release_never_changes_and_a_snapshot_is_replaced_with_all_its_formats() {
    let world = World::new();
    let add = |version: &str, ending: &str, build: &str| {
        let new = world.package(version, ending, build);
        world.repository().add(&[new], &world.keys, world.now)
    };
    add("1.0.0", ".tar.gz", "b1").unwrap();
    add("1.0.0", ".tar.gz", "b1").unwrap();
    add("1.0.0", ".zip", "b1").unwrap();
    for ending in [".tar.gz", ".zip"] {
        let err = add("1.0.0", ending, "b2").unwrap_err();
        assert!(matches!(err, RepositoryError::Released { .. }), "{err:?}");
    }
    add("1.1.0-SNAPSHOT", ".tar.gz", "b1").unwrap();
    add("1.1.0-SNAPSHOT", ".zip", "b1").unwrap();
    add("1.1.0-SNAPSHOT", ".zip", "b2").unwrap();
    let agent = world.agent("agent");
    let trust = agent.open(&world.repo()).await.unwrap();
    let archives = |it: &str| trust.find(version(it), &linux(), Downgrade::Refused).unwrap().archives.len();
    assert_eq!((archives("1.0.0"), archives("1.1.0-SNAPSHOT")), (2, 1));
    for release in trust.releases() {
        assert!(trust.read(&release.files).await.is_ok());
    }
}

#[tokio::test]
async fn what_is_renewed_in_time_never_expires() {
    let world = World::new();
    world.add("1.0.0");
    let mut agent = world.seen("agent").await;
    for day in (6..200).step_by(6) {
        let now = world.now + DAY * day;
        world.repository().refresh(&world.keys, day % 60 == 0, now).unwrap();
        agent.now = now;
        let trust = agent.open(&world.repo()).await.unwrap();
        assert_eq!(trust.expires(), (now + DAY * 7, Role::Timestamp), "{day}");
    }
    let mut again = world.repository();
    again.rotate_root(&world.keys, None, None, agent.now).unwrap();
    assert_eq!(again.roles()[0].expires, agent.now + DAY * 365);
    drop(again);
    agent.open(&world.repo()).await.unwrap();
}

#[test]
fn nothing_is_signed_on_top_of_what_others_changed() {
    let world = World::new();
    world.add("1.0.0");
    let strangers = world.strangers();
    let open = |forged: &Forged| Repository::open(&forged.folder, world.expiry).map(drop);
    let forged = Forged::of(&world, "targets");
    let mut targets = forged.targets();
    targets.version = number(9);
    forged.publish_targets(targets, &strangers, &world.keys);
    assert!(matches!(open(&forged), Err(RepositoryError::Unsigned { .. })));
    let forged = Forged::of(&world, "timestamp");
    forged.write(forged.timestamp(), &strangers);
    assert!(matches!(open(&forged), Err(RepositoryError::Unsigned { .. })));
    let forged = Forged::of(&world, "root");
    std::fs::copy(forged.path("1.root.json"), forged.path("2.root.json")).unwrap();
    assert!(matches!(open(&forged), Err(RepositoryError::OtherVersion { found: 1, .. })));
}

/// A crash leaves files that nobody names, up to the last step.
#[tokio::test]
async fn a_publication_that_was_cut_short_is_invisible_and_can_be_repeated() {
    let world = World::new();
    world.add("1.0.0");
    let before = std::fs::read(world.repo().join("metadata/timestamp.json")).unwrap();
    world.add("1.1.0");
    std::fs::write(world.repo().join("metadata/timestamp.json"), before).unwrap();
    std::fs::write(world.repo().join("metadata/.x.tmp"), "torn").unwrap();
    let agent = world.agent("agent");
    let trust = agent.open(&world.repo()).await.unwrap();
    assert_eq!(trust.releases().count(), 1);
    world.add("1.1.0");
    assert_eq!(agent.open(&world.repo()).await.unwrap().releases().count(), 2);
}

#[tokio::test]
async fn what_is_remembered_is_private_and_survives_damage_and_kills() {
    let world = World::new();
    world.add("1.0.0");
    let agent = world.seen("agent").await;
    let file = agent.folder.join("trust.json");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&agent.folder), mode(&file)), (0o700, 0o600));
    }
    // What a killed process left is swept.
    std::fs::create_dir(agent.folder.join(".copy-x")).unwrap();
    agent.open(&world.repo()).await.unwrap();
    assert!(!agent.folder.join(".copy-x").exists());
    for text in ["", "{", "[]", "{\"schema\":0}"] {
        std::fs::write(&file, text).unwrap();
        let trust = agent.open(&world.repo()).await.unwrap();
        assert_eq!(trust.damaged(), Some(agent.folder.join("trust.json.damaged").as_path()), "{text:?}");
        assert!(agent.open(&world.repo()).await.unwrap().damaged().is_none());
    }
    std::fs::write(&file, "{\"schema\":2}").unwrap();
    let newer = agent.open(&world.repo()).await.unwrap_err();
    assert!(matches!(newer, TrustError::NewerState { found: 2, .. }), "{newer:?}");
    let lock = std::fs::File::create(agent.folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let busy = agent.open(&world.repo()).await.unwrap_err();
    assert!(matches!(busy, TrustError::InUse { .. }) && busy.is_retryable());
}

#[tokio::test]
async fn an_embedded_root_that_is_none_is_our_own_fault() {
    let world = World::new();
    let mut agent = world.agent("agent");
    for root in [&b""[..], b"{}", b"<html>"] {
        agent.root = root.to_vec();
        let err = agent.open(&world.repo()).await.unwrap_err();
        assert!(matches!(err, TrustError::BadEmbeddedRoot { .. }), "{err:?}");
    }
}

#[tokio::test]
async fn a_folder_gives_its_files_and_no_others() {
    let world = World::new();
    std::fs::write(world.dir.path().join("secret"), "x").unwrap();
    let folder = Folder::new(world.repo());
    for name in
        ["../secret", "metadata/../../secret", "/etc/passwd", ".lock", "", "metadata", "a\0b", "metadata\\x"]
    {
        assert!(folder.fetch(name, 1000).await.is_err(), "{name}");
    }
    assert!(folder.fetch("metadata/timestamp.json", 10).await.is_err(), "too large");
    assert!(folder.fetch("metadata/timestamp.json", 10_000).await.is_ok());
    let trust = world.agent("agent").open_by(Arc::new(folder)).await.unwrap();
    assert_eq!(trust.releases().count(), 0);
}
