//! The other forms of a package: without a manifest, and `.zip`.

use std::fs;
use std::process::Command;

use outrider_backend::admin::CommandState;
use outrider_protocol::upgrade::UpgradeState;
use outrider_upgrade::{Format, list_folder};

use super::ends::stays;
use super::world::{World, identity, programs};
use crate::support::{printed, run};

#[test]
fn a_zip_is_taken() {
    let world = World::start();
    world.publish_as(Format::Zip, "1.1.0", &programs());
    stays(&world, &world.to("1.1.0"));
    world.until_runs("1.1.0");
}

#[test]
fn a_package_without_a_manifest_is_taken_and_known_again() {
    let world = World::start();
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let package = identity("1.1.0");
    let dir = world.stack.dir.path().join("older");
    let stem = format!("outrider-1.1.0-{os}-{arch}");
    let home = dir.join(&stem).join(format!("data/outrider-{}", package.hash.first(6)));
    fs::create_dir_all(home.parent().unwrap()).unwrap();
    let copied = run(Command::new("cp").arg("-r").arg(programs()).arg(&home));
    assert!(copied.status.success(), "{}", printed(&copied));
    fs::write(dir.join(&stem).join(".outrider.active.commit"), package.hash.as_str()).unwrap();
    let list = list_folder(&home, package, os, arch, 1 << 30).unwrap();
    fs::write(dir.join(format!("{stem}.files.json")), list.to_json().unwrap()).unwrap();
    let packed = run(Command::new("sh").current_dir(&dir).args([
        "-c",
        &format!(
            "tar --format=ustar -czf {stem}.tar.gz {stem} && sha512sum {stem}.tar.gz > {stem}.tar.gz.sha512"
        ),
    ]));
    assert!(packed.status.success(), "{}", printed(&packed));
    world.sign(&dir.join(format!("{stem}.tar.gz")));

    stays(&world, &world.to("1.1.0"));
    world.until_runs("1.1.0");
    let (state, report) = world.to("1.1.0");
    assert_eq!((state, report.state), (CommandState::Done, UpgradeState::AlreadyCurrent), "{report:?}");
}
