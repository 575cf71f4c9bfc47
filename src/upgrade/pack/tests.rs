//! Packages that are made: the same bytes every time, taken by this crate and by other programs' rules, and the round trip
//! of any folder.

use std::os::unix::fs::PermissionsExt;

use proptest::collection::btree_map;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::testing::{HASH, MOST, chain, identity, write_files};
use crate::{Archive, unpack, verify_tree};

const FORMATS: [Format; 2] = [Format::TarGz, Format::Zip];

fn packed(files: &[(&str, &[u8])], format: Format, into: &Path) -> Result<Packed, PackError> {
    let content = crate::testing::folder();
    write_files(content.path(), files);
    let package = identity();
    let recipe =
        Recipe { folder: content.path(), package: &package, os: "linux", arch: "x86_64", most_bytes: MOST };
    pack(&recipe, format, into)
}

/// Packs, looks at it, unpacks and compares.
fn round_trip(files: &[(&str, &[u8])], format: Format) {
    let (into, staging) = (crate::testing::folder(), crate::testing::folder());
    let packed = packed(files, format, into.path()).unwrap_or_else(|err| panic!("{}", chain(&err)));
    let list = FileList::parse(&packed.list.to_json().unwrap(), MOST).unwrap();
    let mut archive = Archive::open(&packed.archive).unwrap();
    assert_eq!(archive.format(), format);
    let plan = archive.inspect(&list, None).unwrap_or_else(|err| panic!("{}", chain(&err)));
    assert_eq!(plan.target_home.as_str(), "versions/1.2.3-01234567");
    unpack(&mut archive, &plan, &list, staging.path()).unwrap_or_else(|err| panic!("{}", chain(&err)));
    verify_tree(staging.path(), &list).unwrap();
    for (path, content) in files {
        assert_eq!(std::fs::read(staging.path().join(path)).unwrap(), *content);
    }
}

#[test]
fn what_is_packed_is_what_is_unpacked() {
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
    let long = format!("{}/{}", "folder-of-some-length/".repeat(4), "name-".repeat(12));
    let files: &[(&str, &[u8])] = &[
        ("outrider", &large),
        ("integrations/integration-git", b"git"),
        ("integrations/empty", b""),
        (&long.replace("//", "/"), b"long"),
        ("ü/ñ", b"not ASCII"),
        ("block", &[7; 512]),
    ];
    for format in FORMATS {
        round_trip(files, format);
    }
}

#[test]
fn the_same_folder_makes_the_same_bytes() {
    for format in FORMATS {
        let into = crate::testing::folder();
        let files: &[(&str, &[u8])] = &[("outrider", b"program"), ("integrations/a", b"a"), ("b", b"")];
        let bytes = |files| std::fs::read(packed(files, format, into.path()).unwrap().archive).unwrap();
        let first = bytes(files);
        let turned: Vec<_> = files.iter().rev().copied().collect();
        assert_eq!(first, bytes(&turned));
        assert_ne!(first, bytes(&files[1..]));
    }
}

#[test]
fn a_package_has_its_names_and_its_hash_beside_it() {
    let into = crate::testing::folder();
    let packed = packed(&[("outrider", b"program")], Format::Zip, into.path()).unwrap();
    assert_eq!(packed.archive, into.path().join("outrider-1.2.3-linux-x86_64.zip"));
    let beside = std::fs::read_to_string(into.path().join("outrider-1.2.3-linux-x86_64.zip.sha512")).unwrap();
    assert_eq!(beside, format!("{}  outrider-1.2.3-linux-x86_64.zip\n", packed.sha512));
    assert_eq!(std::fs::metadata(&packed.archive).unwrap().len(), packed.size);
    let mut zip = zip::ZipArchive::new(File::open(&packed.archive).unwrap()).unwrap();
    let names: Vec<_> = zip.file_names().map(|it| it.unwrap().into_owned()).collect();
    assert_eq!(
        names,
        [
            "outrider-1.2.3-linux-x86_64/.outrider.active.commit",
            "outrider-1.2.3-linux-x86_64/data/outrider-012345/outrider",
            "outrider-1.2.3-linux-x86_64/manifest.yaml",
        ]
    );
    let mut commit = String::new();
    zip.by_index(0).unwrap().read_to_string(&mut commit).unwrap();
    assert_eq!(commit, format!("{HASH}\n"));
    assert_eq!(std::fs::read_dir(into.path()).unwrap().count(), 2);
}

#[test]
fn what_cannot_be_packed_leaves_nothing() {
    let into = crate::testing::folder();
    let refused = |files: &[(&str, &[u8])]| chain(&packed(files, Format::TarGz, into.path()).unwrap_err());
    assert!(refused(&[("manifest.yaml", b"x")]).contains("has a manifest.yaml: expected none"));
    assert!(refused(&[("a\nb", b"x")]).contains("a name cannot be used"));
    assert!(refused(&[("A", b"x"), ("a", b"x")]).contains("the same file on some systems"));
    assert!(refused(&[(&"x".repeat(200), b"x")]).contains("write"));
    assert_eq!(std::fs::read_dir(into.path()).unwrap().count(), 0);
}

#[test]
fn permissions_are_those_of_a_program_or_of_data() {
    let into = crate::testing::folder();
    let content = crate::testing::folder();
    for (name, mode) in [("a", 0o700), ("b", 0o600), ("c", 0o4755), ("d", 0o666)] {
        let path = content.path().join(name);
        std::fs::write(&path, "x").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let package = identity();
    let recipe =
        Recipe { folder: content.path(), package: &package, os: "linux", arch: "x86_64", most_bytes: MOST };
    let packed = pack(&recipe, Format::TarGz, into.path()).unwrap();
    let modes: Vec<_> = packed.list.files().iter().map(|file| file.mode.bits()).collect();
    assert_eq!(modes, [0o755, 0o644, 0o755, 0o644, 0o644]);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 60,
        rng_seed: RngSeed::Fixed(20_261_128),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_folder_goes_there_and_back(
        files in btree_map("[a-d]{1,3}(/[e-h]{1,3}){0,3}", proptest::collection::vec(any::<u8>(), 0..2000), 1..12),
        zip: bool,
    ) {
        // No file in a file.
        let files: Vec<(&str, &[u8])> = files
            .iter()
            .filter(|(path, _)| !files.keys().any(|other| other.starts_with(&format!("{path}/"))))
            .map(|(path, content)| (path.as_str(), &content[..]))
            .collect();
        round_trip(&files, FORMATS[usize::from(zip)]);
    }
}
