//! New roots: agents that follow them, and those that do not follow false ones.

use std::path::Path;

use tough::schema::{Root, Signed};

use super::world::{DAY, Forged, World, copy, first, new_keys, number};
use crate::error::{Role, TrustError};
use crate::keys::Keys;
use crate::repository::sign;

/// A folder with keys of some roles.
fn keys_of(folder: &Path, roles: &[(Role, u32)]) -> Keys {
    for (role, count) in roles {
        Keys::generate(folder, *role, *count).unwrap();
    }
    Keys::in_folders([folder])
}

fn remembered_root(agent: &super::world::Agent) -> u64 {
    let state: serde_json::Value = serde_json::from_slice(&agent.remembered().unwrap()).unwrap();
    state["root"]["signed"]["version"].as_u64().unwrap()
}

pub(super) async fn attacks() -> usize {
    let world = World::new();
    world.add("1.0.0");
    let agents = [world.agent("new"), world.seen("seen").await];
    let strangers = world.strangers();
    let root = |forged: &Forged| forged.read::<Root>("1.root.json").signed;
    let write = |forged: &Forged, root: Root, old: usize, new: usize| {
        let mut signers = world.keys.of_role(Role::Root).unwrap();
        signers.truncate(old);
        signers.extend(strangers.of_role(Role::Root).unwrap().into_iter().take(new));
        let bytes = sign::encode(&sign::sign_with(root, &signers).unwrap()).unwrap();
        std::fs::write(forged.path("2.root.json"), bytes).unwrap();
    };
    let with_strangers = |mut root: Root| {
        let keys = strangers.of_role(Role::Root).unwrap();
        let role = root.roles.get_mut(&Role::Root.into()).unwrap();
        role.keyids = keys.iter().map(|it| it.id.clone()).collect();
        root.keys.extend(keys.into_iter().map(|it| (it.id.clone(), it.public)));
        root.version = number(2);
        root
    };
    let mut cases = 0;
    // New root keys: too few of the old ones, too few of the new ones.
    for (old, new) in [(0, 3), (1, 3), (2, 0), (2, 1), (3, 1), (1, 1)] {
        let forged = Forged::of(&world, &format!("root-{old}-{new}"));
        write(&forged, with_strangers(root(&forged)), old, new);
        let is_it = |err: &TrustError| {
            let of_root = |role: &Role| *role == Role::Root;
            match err {
                TrustError::WrongKey { role, .. } => of_root(role) && (old == 0 || new == 0),
                TrustError::BelowThreshold { role, found: 1, needed: 2 } => of_root(role),
                _ => false,
            }
        };
        for agent in &agents {
            agent
                .refuses_folder(&format!("a root by {old} old and {new} new keys"), &forged.folder, is_it)
                .await;
            cases += 1;
        }
    }
    // A root that skips one, or that stays.
    for version in [1, 3, 100] {
        let forged = Forged::of(&world, &format!("root-version-{version}"));
        let mut next = root(&forged);
        next.version = number(version);
        write(&forged, next, 3, 0);
        for agent in &agents {
            let mismatch = |err: &TrustError| matches!(err, TrustError::Mismatch { .. });
            agent.refuses_folder(&format!("root {version} as root 2"), &forged.folder, mismatch).await;
            cases += 1;
        }
    }
    cases + too_many_roots().await
}

/// A chain that does not end.
async fn too_many_roots() -> usize {
    let world = World::new();
    let agent = world.seen("agent").await;
    let forged = Forged::of(&world, "roots");
    let signers = world.keys.of_role(Role::Root).unwrap();
    let mut root = forged.read::<Root>("1.root.json").signed;
    for version in 2..=150 {
        root.version = number(version);
        let bytes = sign::encode(&sign::sign_with(root.clone(), &signers).unwrap()).unwrap();
        std::fs::write(forged.path(&format!("{version}.root.json")), bytes).unwrap();
    }
    // Those that were walked are true ones, and are kept: the next try goes on from there.
    let err = agent.open(&forged.folder).await.unwrap_err();
    assert!(matches!(&err, TrustError::Endless { most, .. } if most == "101 roots"), "{err:?}");
    assert_eq!(remembered_root(&agent), 102);
    agent.open(&forged.folder).await.unwrap();
    assert_eq!(remembered_root(&agent), 150);
    1
}

#[tokio::test]
async fn an_old_agent_walks_to_the_third_root_and_keeps_it() {
    let world = World::new();
    world.add("1.0.0");
    let (seen, new) = (world.seen("seen").await, world.agent("new"));
    let second = new_keys(&world.dir.path().join("second"), 1);
    let third = new_keys(&world.dir.path().join("third"), 1);
    world.repository().rotate_root(&world.keys, Some(&second), None, world.now).unwrap();
    let rotation = world.repository().rotate_root(&second, Some(&third), None, world.now).unwrap();
    assert_eq!((rotation.version, rotation.changed.len()), (3, 4));
    for agent in [&seen, &new] {
        let trust = agent.open(&world.repo()).await.unwrap();
        let list = first(&trust).files;
        assert!(trust.read(&list).await.is_ok());
        assert_eq!(remembered_root(agent), 3);
    }
    // Without the step between, a new agent is lost, and one that has walked is not.
    let forged = Forged::of(&world, "gap");
    std::fs::remove_file(forged.path("2.root.json")).unwrap();
    assert!(seen.open(&forged.folder).await.is_ok());
    let lost = world.agent("lost");
    lost.refuses_folder("no second root", &forged.folder, |err| {
        matches!(err, TrustError::WrongKey { role: Role::Timestamp, .. })
    })
    .await;
    // The old keys are worth nothing to who has walked.
    let forged = Forged::of(&world, "old-keys");
    let mut timestamp = forged.timestamp();
    timestamp.version = number(99);
    forged.write(timestamp, &world.keys);
    seen.refuses_folder("a revoked key", &forged.folder, |err| {
        matches!(err, TrustError::WrongKey { role: Role::Timestamp, .. })
    })
    .await;
}

/// An agent always begins with its embedded root; were that all, each new look at a rotation would forget what was seen.
#[tokio::test]
async fn after_a_rotation_an_older_repository_is_still_a_rollback() {
    let world = World::new();
    let agent = world.seen("agent").await;
    let online = keys_of(&world.dir.path().join("online"), &[(Role::Snapshot, 1), (Role::Timestamp, 1)]);
    let mut repository = world.repository();
    repository.rotate_root(&world.keys, Some(&online), None, world.now).unwrap();
    let old = world.copy("old");
    repository.refresh(&online, false, world.now).unwrap();
    drop(repository);
    agent.open(&world.repo()).await.unwrap();
    for _ in 0..2 {
        agent
            .refuses_folder("before the refresh", &old, |err| {
                matches!(err, TrustError::Rollback { role: Role::Timestamp, .. })
            })
            .await;
    }
}

#[tokio::test]
async fn new_online_keys_undo_a_fast_forward() {
    let world = World::new();
    world.add("1.0.0");
    let agent = world.seen("agent").await;
    // Who stole the online keys makes all true versions look old.
    let forged = Forged::of(&world, "forward");
    let mut snapshot = forged.snapshot();
    snapshot.version = number(1 << 40);
    snapshot.meta.get_mut("targets.json").unwrap().version = number(2);
    let mut timestamp = forged.timestamp();
    timestamp.version = number(1 << 40);
    timestamp.meta.insert("snapshot.json".into(), forged.write(snapshot, &world.keys));
    forged.write(timestamp, &world.keys);
    agent.open(&forged.folder).await.unwrap();
    assert!(matches!(agent.open(&world.repo()).await, Err(TrustError::Rollback { .. })));
    let online = keys_of(&world.dir.path().join("online"), &[(Role::Snapshot, 1), (Role::Timestamp, 1)]);
    let all = online.and(&world.keys);
    world.repository().rotate_root(&all, Some(&online), None, world.now).unwrap();
    agent.open(&world.repo()).await.unwrap();
}

#[tokio::test]
async fn a_newer_root_is_kept_when_what_comes_after_it_fails() {
    let world = World::new();
    let mut agent = world.seen("agent").await;
    let online = keys_of(&world.dir.path().join("online"), &[(Role::Snapshot, 1), (Role::Timestamp, 1)]);
    world.repository().rotate_root(&world.keys, Some(&online), None, world.now).unwrap();
    let floor_before: serde_json::Value = serde_json::from_slice(&agent.remembered().unwrap()).unwrap();
    agent.now = world.now + DAY * 8;
    let err = agent.open(&world.repo()).await.unwrap_err();
    assert!(matches!(err, TrustError::Expired { role: Role::Timestamp, .. }), "{err:?}");
    assert_eq!(remembered_root(&agent), 2);
    let state: serde_json::Value = serde_json::from_slice(&agent.remembered().unwrap()).unwrap();
    assert_eq!(state["targets"], floor_before["targets"]);
    assert!(state["timestamp"].is_null(), "its key was changed");
    // A source that hides the new root is now refused, though the agent's own root would take it.
    agent.now = world.now;
    let hidden = world.dir.path().join("hidden");
    copy(&world.repo(), &hidden);
    std::fs::remove_file(hidden.join("metadata/2.root.json")).unwrap();
    assert!(agent.open(&hidden).await.is_ok(), "the new root is remembered");
}

#[tokio::test]
async fn an_embedded_root_that_is_newer_than_the_remembered_one_is_taken() {
    let world = World::new();
    let mut agent = world.seen("agent").await;
    let next = new_keys(&world.dir.path().join("next"), 1);
    world.repository().rotate_root(&world.keys, Some(&next), None, world.now).unwrap();
    agent.root = world.repository().root().unwrap();
    let forged = Forged::of(&world, "no-chain");
    std::fs::remove_file(forged.path("1.root.json")).unwrap();
    agent.open(&forged.folder).await.unwrap();
    assert_eq!(remembered_root(&agent), 2);
    let written: Signed<Root> = serde_json::from_slice(&agent.root).unwrap();
    assert_eq!(written.signed.version.get(), 2);
}

/// Cut at each file that a rotation moves: agents take it before and after, and the release side goes on by itself.
#[tokio::test]
async fn a_rotation_that_was_cut_short_is_finished_by_the_next_opening() {
    let world = World::new();
    world.add("1.0.0");
    let before = world.copy("before");
    let next = new_keys(&world.dir.path().join("next"), 1);
    world.repository().rotate_root(&world.keys, Some(&next), None, world.now).unwrap();
    let moved = ["2.root.json", "3.targets.json", "3.snapshot.json", "timestamp.json"];
    for cut in 0..=moved.len() {
        let repo = world.dir.path().join(format!("cut-{cut}"));
        copy(&before, &repo);
        let ready = repo.join(".rotation/metadata");
        std::fs::create_dir_all(&ready).unwrap();
        std::fs::create_dir(repo.join(".unfinished-x")).unwrap();
        for (index, name) in moved.iter().enumerate() {
            let made = world.repo().join("metadata").join(name);
            std::fs::copy(&made, ready.join(name)).unwrap();
            if index < cut {
                std::fs::copy(&made, repo.join("metadata").join(name)).unwrap();
            }
        }
        let mut repository = crate::Repository::open(&repo, world.expiry).unwrap();
        assert_eq!(repository.roles()[0].version, 2, "{cut}");
        repository.refresh(&next, true, world.now).unwrap();
        drop(repository);
        let left = std::fs::read_dir(&repo).unwrap().flatten().filter(|it| it.path().is_dir()).count();
        assert_eq!(left, 2, "metadata and targets");
        world.agent(&format!("agent-{cut}")).open(&repo).await.unwrap();
    }
}
