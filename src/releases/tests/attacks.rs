//! Attacks on the metadata. Each function returns how many it made.

use std::sync::Arc;
use std::time::Duration;

use tough::async_trait;
use tough::schema::Signed;

use super::world::{DAY, Forged, World, first, number};
use crate::error::{Role, TrustError};
use crate::fetch::{ByteStream, Fetch, FetchError, Folder};
use crate::{Expiry, Keys, Settings, Thresholds, Trust};

pub(super) async fn rollback() -> usize {
    let (world, old) = World::with_history();
    let agent = world.seen("agent").await;
    let is =
        |role| move |err: &TrustError| matches!(err, TrustError::Rollback { role: it, .. } if *it == role);
    agent.refuses_folder("a mirror of last week", &old, is(Role::Timestamp)).await;

    // With stolen online keys: an old snapshot, an old list in a new snapshot.
    let forged = Forged::of(&world, "old-snapshot");
    let mut timestamp = forged.timestamp();
    timestamp.version = number(9);
    let old_timestamp = Forged { folder: old.clone() }.timestamp();
    timestamp.meta = old_timestamp.meta;
    forged.write(timestamp, &world.keys);
    agent.refuses_folder("a new timestamp of an old snapshot", &forged.folder, is(Role::Snapshot)).await;

    let forged = Forged::of(&world, "old-targets");
    let old_targets = Forged { folder: old }.snapshot().meta["targets.json"].clone();
    forged.publish_file(old_targets, &world.keys);
    agent.refuses_folder("a new snapshot of an old list", &forged.folder, is(Role::Targets)).await;

    // The versions count, not the names: the same list with a smaller number.
    let forged = Forged::of(&world, "renumbered");
    let mut snapshot = forged.snapshot();
    snapshot.version = number(1);
    forged.publish_snapshot(snapshot, &world.keys);
    agent.refuses_folder("a renumbered snapshot", &forged.folder, is(Role::Snapshot)).await;
    assert!(agent.open(&world.repo()).await.is_ok(), "the true one is still taken");
    4
}

pub(super) async fn freeze() -> usize {
    let long = DAY * 1000;
    let mut cases = 0;
    for role in Role::ALL {
        let mut expiry = Expiry { root: long, targets: long, snapshot: long, timestamp: long };
        match role {
            Role::Root => expiry.root = DAY,
            Role::Targets => expiry.targets = DAY,
            Role::Snapshot => expiry.snapshot = DAY,
            Role::Timestamp => expiry.timestamp = DAY,
        }
        let world = World::with(expiry, Thresholds::default());
        world.add("1.0.0");
        for has_seen in [false, true] {
            let mut agent = if has_seen { world.seen("seen").await } else { world.agent("new") };
            for after in [DAY, DAY * 2, DAY * 400] {
                agent.now = world.now + after;
                let is_expired = |err: &TrustError| matches!(err, TrustError::Expired { role: it, since, .. } if *it == role && *since == world.now + DAY);
                agent.refuses_folder(&format!("{role} after {after:#}"), &world.repo(), is_expired).await;
                cases += 1;
            }
            // A clock that was ahead, and one that is behind, refuse nothing for ever.
            for at in [world.now, world.now - DAY * 365] {
                agent.now = at;
                assert!(agent.open(&world.repo()).await.is_ok(), "{role} at {at}");
            }
        }
    }
    cases
}

pub(super) async fn mix_and_match() -> usize {
    let (world, old) = World::with_history();
    let mismatch = |err: &TrustError| matches!(err, TrustError::Mismatch { .. } | TrustError::Endless { .. });
    let mut cases = 0;
    for agent in [world.agent("new"), world.seen("seen").await] {
        // Files of one time under the names of another.
        for (new, before) in [("3.snapshot.json", "2.snapshot.json"), ("3.targets.json", "2.targets.json")] {
            let forged = Forged::of(&world, &format!("mixed-{cases}"));
            std::fs::copy(old.join("metadata").join(before), forged.path(new)).unwrap();
            agent.refuses_folder(&format!("{before} as {new}"), &forged.folder, mismatch).await;
            cases += 1;
        }
        // The same where online keys were stolen, and the hashes left out.
        let forged = Forged::of(&world, &format!("mixed-{cases}"));
        let mut timestamp = forged.timestamp();
        timestamp.version = number(9);
        let file = timestamp.meta.get_mut("snapshot.json").unwrap();
        (file.hashes, file.length) = (None, None);
        forged.write(timestamp, &world.keys);
        std::fs::copy(old.join("metadata/2.snapshot.json"), forged.path("3.snapshot.json")).unwrap();
        agent.refuses_folder("a snapshot of another version", &forged.folder, mismatch).await;

        let forged = Forged::of(&world, &format!("mixed-{}", cases + 1));
        let mut snapshot = forged.snapshot();
        snapshot.version = number(9);
        let file = snapshot.meta.get_mut("targets.json").unwrap();
        (file.hashes, file.length) = (None, None);
        forged.publish_snapshot(snapshot, &world.keys);
        std::fs::copy(old.join("metadata/2.targets.json"), forged.path("3.targets.json")).unwrap();
        agent.refuses_folder("a list of another version", &forged.folder, mismatch).await;
        cases += 2;
    }
    cases
}

/// A repository whose `role` offers a new version, signed by `count` of its keys in `keys_of_role`; all above it are signed as
/// they should be.
fn forge(world: &World, role: Role, keys_of_role: &Keys, count: usize, name: &str) -> Forged {
    let keys = &world.keys;
    let forged = Forged::of(world, name);
    match role {
        Role::Root => {
            let mut root = forged.read::<tough::schema::Root>("1.root.json").signed;
            root.version = number(2);
            forged.write_with(root, keys_of_role, count);
        }
        Role::Targets => {
            let mut targets = forged.targets();
            targets.version = number(9);
            let file = forged.write_with(targets, keys_of_role, count);
            forged.publish_file(file, keys);
        }
        Role::Snapshot => {
            let mut snapshot = forged.snapshot();
            snapshot.version = number(9);
            let mut timestamp = forged.timestamp();
            timestamp.version = number(9);
            let file = forged.write_with(snapshot, keys_of_role, count);
            timestamp.meta.insert("snapshot.json".into(), file);
            forged.write(timestamp, keys);
        }
        Role::Timestamp => {
            let mut timestamp = forged.timestamp();
            timestamp.version = number(9);
            forged.write_with(timestamp, keys_of_role, count);
        }
    }
    forged
}

pub(super) async fn unsigned() -> usize {
    let thresholds = Thresholds { targets: number(2), ..Thresholds::default() };
    let world = World::with(Expiry::default(), thresholds);
    world.add("1.0.0");
    let (keys, strangers) = (&world.keys, &world.strangers());
    let agents = [world.agent("new"), world.seen("seen").await];
    let wrong =
        |role| move |err: &TrustError| matches!(err, TrustError::WrongKey { role: it, .. } if *it == role);
    let mut cases = 0;

    for role in Role::ALL {
        let by_strangers = forge(&world, role, strangers, usize::MAX, &format!("strangers-{role}"));
        let by_nobody = forge(&world, role, keys, 0, &format!("nobody-{role}"));
        for agent in &agents {
            agent.refuses_folder(&format!("{role} by strangers"), &by_strangers.folder, wrong(role)).await;
            agent.refuses_folder(&format!("{role} by nobody"), &by_nobody.folder, wrong(role)).await;
            cases += 2;
        }
    }
    for role in [Role::Root, Role::Targets] {
        let by_one = forge(&world, role, keys, 1, &format!("one-{role}"));
        // The same signature twice counts once.
        let twice = forge(&world, role, keys, 1, &format!("twice-{role}"));
        let name = if role == Role::Root { "2.root.json" } else { "9.targets.json" };
        let mut value: serde_json::Value =
            serde_json::from_slice(&std::fs::read(twice.path(name)).unwrap()).unwrap();
        let signature = value["signatures"][0].clone();
        value["signatures"].as_array_mut().unwrap().push(signature);
        std::fs::write(twice.path(name), serde_json::to_vec(&value).unwrap()).unwrap();
        if role == Role::Targets {
            let bytes = std::fs::read(twice.path(name)).unwrap();
            let mut file = twice.snapshot().meta["targets.json"].clone();
            file.length = Some(bytes.len() as u64);
            file.hashes = None;
            twice.publish_file(file, keys);
        }
        for agent in &agents {
            let below = |err: &TrustError| matches!(err, TrustError::BelowThreshold { role: it, found: 1, needed: 2 } if *it == role);
            agent.refuses_folder(&format!("{role} by one"), &by_one.folder, below).await;
            let duplicate =
                |err: &TrustError| matches!(err, TrustError::Unreadable { role: it, .. } if *it == role);
            agent.refuses_folder(&format!("{role} by one twice"), &twice.folder, duplicate).await;
            cases += 2;
        }
    }
    // One changed letter under a true signature.
    let forged = Forged::of(&world, "changed");
    let mut timestamp: Signed<tough::schema::Timestamp> = forged.read("timestamp.json");
    timestamp.signed.expires += DAY;
    std::fs::write(forged.path("timestamp.json"), serde_json::to_vec(&timestamp).unwrap()).unwrap();
    for agent in &agents {
        agent.refuses_folder("a longer life", &forged.folder, wrong(Role::Timestamp)).await;
        cases += 1;
    }
    cases
}

pub(super) async fn garbage() -> usize {
    let (world, _) = World::with_history();
    let agent = world.seen("agent").await;
    let mut cases = 0;
    for (index, text) in
        ["", "{", "null", "[]", "{\"signed\":{},\"signatures\":[]}", "\u{feff}<html>"].iter().enumerate()
    {
        for (name, role) in [("2.root.json", Role::Root), ("timestamp.json", Role::Timestamp)] {
            let forged = Forged::of(&world, &format!("garbage-{index}-{role}"));
            std::fs::write(forged.path(name), text).unwrap();
            let unreadable =
                |err: &TrustError| matches!(err, TrustError::Unreadable { role: it, .. } if *it == role);
            agent.refuses_folder(&format!("{name}: {text:?}"), &forged.folder, unreadable).await;
            cases += 1;
        }
    }
    cases
}

/// A source that answers one file in a way of its own.
#[derive(Debug)]
struct Odd {
    folder: Folder,
    name: &'static str,
    how: How,
}

#[derive(Debug, Clone, Copy)]
enum How {
    Broken,
    Silent,
}

#[async_trait]
impl Fetch for Odd {
    async fn fetch(&self, name: &str, most: u64) -> Result<ByteStream, FetchError> {
        if !name.ends_with(self.name) {
            return self.folder.fetch(name, most).await;
        }
        match self.how {
            How::Broken => Err(FetchError::no_way(name, "500 Internal Server Error")),
            How::Silent => Ok(Box::pin(futures_util::stream::pending())),
        }
    }
}

pub(super) async fn missing() -> usize {
    let (world, _) = World::with_history();
    let agent = world.seen("agent").await;
    let mut cases = 0;
    let missing = |err: &TrustError| matches!(err, TrustError::Missing { .. });
    let no_way = |err: &TrustError| matches!(err, TrustError::NoWay(_));
    for name in ["timestamp.json", "3.snapshot.json", "3.targets.json"] {
        let forged = Forged::of(&world, &format!("without-{name}"));
        std::fs::remove_file(forged.path(name)).unwrap();
        agent.refuses_folder(&format!("without {name}"), &forged.folder, missing).await;
        cases += 1;
    }
    agent.refuses_folder("no repository", &world.dir.path().join("nothing"), no_way).await;
    // A source that fails on the next root must not hide it.
    for name in ["2.root.json", "timestamp.json", "3.snapshot.json", "3.targets.json"] {
        let odd = |how| Odd { folder: Folder::new(world.repo()), name, how };
        agent.refuses(&format!("{name} fails"), Arc::new(odd(How::Broken)), no_way).await;
        let before = agent.remembered();
        let mut settings = Settings::new(&agent.root, &agent.folder, agent.now);
        settings.time = Duration::from_millis(50);
        let err = Trust::open(settings, Arc::new(odd(How::Silent))).await.unwrap_err();
        assert!(matches!(err, TrustError::TooSlow { .. }), "{name}: {err:?}");
        assert_eq!(before, agent.remembered());
        cases += 2;
    }
    let trust = agent.open(&world.repo()).await.unwrap();
    let release = first(&trust);
    std::fs::remove_file(world.repo().join(release.files.path())).unwrap();
    assert!(missing(&trust.read(&release.files).await.unwrap_err()));
    cases + 2
}
