//! Every manifest of fixtures/upgrade/valid is taken, every one of fixtures/upgrade/invalid is refused with the text that
//! stands beside it.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::testing::{HASH, chain, files_of, fixtures, says};

fn running() -> RelPath {
    RelPath::parse("versions/1.0.0-aaaaaaaa").unwrap()
}

#[test]
fn every_invalid_manifest_is_refused_with_the_text_beside_it() {
    let files = files_of("invalid", ".yaml");
    assert!(files.len() > 20);
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let err = Manifest::parse(&bytes, Some(&running())).expect_err(&file.display().to_string());
        says(&file, &chain(&err));
    }
}

#[test]
fn every_valid_manifest_is_taken_and_written_without_a_loss() {
    for file in files_of("valid", ".yaml") {
        let manifest = Manifest::parse(&std::fs::read(&file).unwrap(), Some(&running()))
            .unwrap_or_else(|err| panic!("{}: {}", file.display(), chain(&err)));
        let again = Manifest::parse(manifest.to_yaml().as_bytes(), None).unwrap();
        assert_eq!(again, manifest, "{}", file.display());
    }
}

#[test]
fn the_documented_manifest_means_what_it_says() {
    let manifest =
        Manifest::parse(&std::fs::read(fixtures("valid").join("manifest.yaml")).unwrap(), None).unwrap();
    assert_eq!(manifest.identity.directory_name(), "8.13.0-SNAPSHOT-15658b38");
    assert_eq!(manifest.home.as_str(), "data/outrider-15658b");
    assert_eq!(manifest.target_home().unwrap().as_str(), "versions/8.13.0-SNAPSHOT-15658b38");
    let program = RelPath::parse("data/outrider-15658b/outrider").unwrap();
    assert_eq!(
        manifest.mappings.apply(&program).unwrap().as_str(),
        "versions/8.13.0-SNAPSHOT-15658b38/outrider"
    );
}

#[test]
fn the_older_form_is_named_by_its_hash() {
    let hash = parse_commit(format!("{HASH}\n").as_bytes()).unwrap();
    let manifest = Manifest::older(Release::parse("8.12.0-SNAPSHOT").unwrap(), hash).unwrap();
    assert_eq!(manifest.target_home().unwrap().as_str(), "data/outrider-012345");
    assert_eq!(manifest.identity.directory_name(), "8.12.0-SNAPSHOT-01234567");
    for bytes in [&b""[..], b"12345", b"0123456 0123456", b"\xff\xff\xff\xff\xff\xff", &[b'a'; 300]] {
        assert!(matches!(parse_commit(bytes), Err(ManifestError::Commit { .. })), "{bytes:?}");
    }
}

#[test]
fn a_long_manifest_is_not_read() {
    let long = vec![b'#'; usize::try_from(MANIFEST_BYTES).unwrap() + 1];
    assert!(matches!(Manifest::parse(&long, None), Err(ManifestError::TooLong { .. })));
    // Of the longest length, and deep: this may take no stack and no time.
    for deep in ["[", "{a: ", "- ", "? ", "a:\n ", "&a [*a, "] {
        let text = deep.repeat(usize::try_from(MANIFEST_BYTES).unwrap() / deep.len());
        assert!(matches!(Manifest::parse(text.as_bytes(), None), Err(ManifestError::Yaml { .. })), "{deep}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 3000,
        rng_seed: RngSeed::Fixed(20_261_127),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_damaged_manifest_is_refused_or_stays_within_the_tree(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = std::fs::read(fixtures("valid").join("manifest.yaml")).unwrap();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len() - cut.index(bytes.len()) / 4);
        if let Ok(manifest) = Manifest::parse(&bytes, Some(&running())) {
            let home = manifest.target_home().unwrap();
            prop_assert!(RelPath::parse(home.as_str()).is_ok());
        }
    }

    #[test]
    fn nothing_that_looks_like_yaml_makes_it_panic(text in "[-a-c:{}\\[\\],&*!?|>'\"#%@ \n\t]{0,80}") {
        Manifest::parse(text.as_bytes(), None).unwrap_err();
    }
}
