//! Files that are not what was signed, and releases that are not what they are called.

use futures_util::TryStreamExt as _;
use serde_json::json;

use super::world::{Forged, World, first, linux, number, version};
use crate::error::{Role, TrustError};
use crate::{Downgrade, Target, Trust, verify_file};

/// Everything that reads a target, on one: each must fail, and in the same way.
async fn refused(trust: &Trust, target: &Target, world: &World) -> Vec<TrustError> {
    let path = world.repo().join(target.path());
    let streamed = async { trust.stream(target).await?.try_collect::<Vec<_>>().await };
    vec![
        trust.read(target).await.unwrap_err(),
        streamed.await.unwrap_err(),
        verify_file(&path, target).unwrap_err(),
    ]
}

pub(super) async fn tampered() -> usize {
    let world = World::new();
    world.add("1.0.0");
    let trust = world.agent("agent").open(&world.repo()).await.unwrap();
    let release = first(&trust);
    let mut cases = 0;
    for target in [&release.files, &release.archives[0].target] {
        let path = world.repo().join(target.path());
        let good = std::fs::read(&path).unwrap();
        assert_eq!(trust.read(target).await.unwrap(), good);
        verify_file(&path, target).unwrap();
        let middle = good.len() / 2;
        let mut flipped = good.clone();
        flipped[middle] ^= 1;
        let swapped: Vec<u8> = good.iter().rev().copied().collect();
        let (cut, empty) = (good[..good.len() - 1].to_vec(), Vec::new());
        for bytes in [flipped, swapped, cut, empty] {
            std::fs::write(&path, bytes).unwrap();
            for err in refused(&trust, target, &world).await {
                assert!(matches!(&err, TrustError::Mismatch { what, .. } if *what == target.name), "{err:?}");
                cases += 1;
            }
        }
        std::fs::write(&path, [&good[..], b"x"].concat()).unwrap();
        for err in refused(&trust, target, &world).await {
            assert!(matches!(err, TrustError::Endless { .. }), "{err:?}");
            cases += 1;
        }
        std::fs::write(&path, good).unwrap();
    }
    cases
}

/// A signed list that is wrong about a length: nothing is taken that does not fit both length and hash.
pub(super) async fn listed_with_another_length() -> usize {
    let world = World::new();
    world.add("1.0.0");
    let mut cases = 0;
    for more in [-1_i64, 1, 1 << 30] {
        let forged = Forged::of(&world, &format!("length-{more}"));
        let mut targets = forged.targets();
        targets.version = number(9);
        for target in targets.targets.values_mut() {
            target.length = target.length.checked_add_signed(more).unwrap();
        }
        forged.publish_targets(targets, &world.keys, &world.keys);
        let trust = world.agent(&format!("agent-{more}")).open(&forged.folder).await.unwrap();
        let err = trust.read(&first(&trust).files).await.unwrap_err();
        let is_it = match err {
            TrustError::Endless { .. } => more != 1,
            TrustError::Mismatch { .. } => more == 1,
            _ => false,
        };
        assert!(is_it, "{more}: {err:?}");
        cases += 1;
    }
    cases
}

pub(super) async fn mislabelled() -> usize {
    let world = World::new();
    world.add("1.0.0");
    world.add("1.1.0");
    let mut cases = 0;
    for (field, value) in [
        ("product", json!("other")),
        ("version", json!("1.0.0")),
        ("snapshot", json!(true)),
        ("os", json!("windows")),
        ("arch", json!("aarch64")),
        ("hash", json!("ffffff")),
        ("channel", json!("beta")),
    ] {
        for ending in [".tar.gz", ".files.json"] {
            let forged = Forged::of(&world, &format!("label-{field}{ending}"));
            let mut targets = forged.targets();
            targets.version = number(9);
            let name = format!("outrider-1.1.0-linux-x86_64{ending}");
            let target = targets.targets.iter_mut().find(|(it, _)| it.raw() == name).unwrap().1;
            target.custom.insert(field.into(), value.clone());
            forged.publish_targets(targets, &world.keys, &world.keys);
            let trust = world.agent(&format!("agent-{field}{ending}")).open(&forged.folder).await.unwrap();
            let err = trust.find(version("1.1.0"), &linux(), Downgrade::Refused).unwrap_err();
            assert!(
                matches!(err, TrustError::Mislabelled { field: it, .. } if it == field),
                "{field}: {err:?}"
            );
            // One bad release does not take the others with it.
            assert_eq!(trust.latest("stable", &linux()).unwrap().about.version, version("1.0.0"));
            cases += 1;
        }
    }
    for missing in ["version", "hash", "os"] {
        let forged = Forged::of(&world, &format!("without-{missing}"));
        let mut targets = forged.targets();
        targets.version = number(9);
        targets.targets.values_mut().for_each(|it| drop(it.custom.remove(missing)));
        forged.publish_targets(targets, &world.keys, &world.keys);
        let trust = world.agent(&format!("agent-without-{missing}")).open(&forged.folder).await.unwrap();
        let err = trust.find(version("1.1.0"), &linux(), Downgrade::Refused).unwrap_err();
        assert!(matches!(err, TrustError::Unreadable { role: Role::Targets, .. }), "{missing}: {err:?}");
        cases += 1;
    }
    let forged = Forged::of(&world, "without-list");
    let mut targets = forged.targets();
    targets.version = number(9);
    targets.targets.retain(|name, _| !name.raw().ends_with(".json"));
    forged.publish_targets(targets, &world.keys, &world.keys);
    let trust = world.agent("without-list").open(&forged.folder).await.unwrap();
    let err = trust.find(version("1.1.0"), &linux(), Downgrade::Refused).unwrap_err();
    assert!(matches!(err, TrustError::Incomplete { .. }), "{err:?}");
    cases + 1
}

#[tokio::test]
async fn a_release_is_found_by_version_and_system_and_the_newest_of_a_channel() {
    let world = World::new();
    let mut beta = world.package("1.2.0", ".zip", "b2");
    beta.channel = "beta".into();
    let both = [world.package("1.0.0", ".zip", "b1"), world.package("1.0.0", ".tar.gz", "b1"), beta];
    world.repository().add(&both, &world.keys, world.now).unwrap();
    let trust = world.agent("agent").open(&world.repo()).await.unwrap();
    let release = trust.find(version("1.0.0"), &linux(), Downgrade::Refused).unwrap();
    let names: Vec<&str> = release.archives.iter().map(|it| it.target.name.as_str()).collect();
    assert_eq!(names, ["outrider-1.0.0-linux-x86_64.tar.gz", "outrider-1.0.0-linux-x86_64.zip"]);
    assert_eq!(release.files.name, "outrider-1.0.0-linux-x86_64.files.json");
    assert_eq!(trust.latest("stable", &linux()).unwrap(), release);
    assert_eq!(trust.latest("beta", &linux()).unwrap().about.version, version("1.2.0"));
    assert_eq!(trust.latest("nightly", &linux()), None);
    let windows = crate::Platform { os: "windows".into(), arch: "x86_64".into() };
    assert_eq!(trust.latest("stable", &windows), None);
    let err = trust.find(version("1.0.0"), &windows, Downgrade::Refused).unwrap_err();
    assert!(err.to_string().contains("is there for linux-x86_64"), "{err}");
    let err = trust.find(version("7.0.0"), &linux(), Downgrade::Refused).unwrap_err();
    assert!(err.to_string().contains("it has 1.2.0, 1.0.0"), "{err}");
}

#[tokio::test]
async fn a_floor_is_remembered_and_only_a_person_goes_below_it() {
    let world = World::new();
    world.add("1.0.0");
    let agent = world.agent("agent");
    assert_eq!(agent.open(&world.repo()).await.unwrap().floor(), None);
    let before = world.copy("before");
    let mut new = world.package("1.1.0", ".tar.gz", "b");
    new.floor = Some(version("1.0.1"));
    world.repository().add(&[new], &world.keys, world.now).unwrap();
    // The floor stays when a later list no longer names it.
    let forged = Forged::of(&world, "without-floor");
    let mut targets = forged.targets();
    targets.version = number(9);
    targets.targets.values_mut().for_each(|it| drop(it.custom.remove("floor")));
    forged.publish_targets(targets, &world.keys, &world.keys);
    for repo in [world.repo(), forged.folder] {
        let trust = agent.open(&repo).await.unwrap();
        assert_eq!(trust.floor(), Some(version("1.0.1")));
        let err = trust.find(version("1.0.0"), &linux(), Downgrade::Refused).unwrap_err();
        assert!(matches!(err, TrustError::BelowFloor { .. }), "{err:?}");
        assert!(trust.find(version("1.0.0"), &linux(), Downgrade::Allowed).is_ok());
        assert_eq!(trust.latest("stable", &linux()).unwrap().about.version, version("1.1.0"));
    }
    assert!(agent.open(&before).await.is_err());
}
