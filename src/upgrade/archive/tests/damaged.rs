//! A small package, damaged in every way that one byte or one cut can damage it: it is refused, or what is unpacked is
//! what its list says.

use std::path::Path;

use super::take;
use crate::testing::{MOST, identity, write_files};
use crate::{FileList, Format, Recipe, pack, verify_tree};

const FILES: &[(&str, &[u8])] = &[("outrider", b"program"), ("integrations/integration-git", b"git")];

fn packed(folder: &Path, format: Format) -> (Vec<u8>, FileList) {
    let content = folder.join("content");
    std::fs::create_dir(&content).unwrap();
    write_files(&content, FILES);
    let package = identity();
    let recipe =
        Recipe { folder: &content, package: &package, os: "linux", arch: "x86_64", most_bytes: MOST };
    let packed = pack(&recipe, format, folder).unwrap();
    (std::fs::read(packed.archive).unwrap(), packed.list)
}

/// Takes damaged bytes; tells whether they were taken.
#[track_caller]
fn refused_or_whole(at: &Path, bytes: &[u8], list: &FileList) -> bool {
    std::fs::write(at, bytes).unwrap();
    let (taken, staging) = take(at, list);
    if taken.is_ok() {
        verify_tree(staging.path(), list).unwrap();
    }
    taken.is_ok()
}

fn every_damage(format: Format) {
    let folder = crate::testing::folder();
    let (bytes, list) = packed(folder.path(), format);
    let at = folder.path().join("damaged");
    assert!(refused_or_whole(&at, &bytes, &list));
    let (mut cases, mut taken) = (0, 0);
    for place in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[place] ^= flip;
            cases += 1;
            taken += usize::from(refused_or_whole(&at, &damaged, &list));
        }
        assert!(!refused_or_whole(&at, &bytes[..place], &list), "cut at {place}");
        let without = [&bytes[..place], &bytes[place + 1..]].concat();
        taken += usize::from(refused_or_whole(&at, &without, &list));
        cases += 2;
    }
    println!("{format:?}: {cases} damaged packages, {taken} of them taken with the right files");
}

#[test]
fn every_damaged_tar_is_refused_or_whole() {
    every_damage(Format::TarGz);
}

#[test]
fn every_damaged_zip_is_refused_or_whole() {
    every_damage(Format::Zip);
}

/// Below the gzip, whose checksum hides what the tar's own checks are good for.
#[test]
fn every_damaged_tar_within_a_good_gzip_is_refused_or_whole() {
    use crate::testing::tar_bytes::gzip;
    use std::io::Read;
    let folder = crate::testing::folder();
    let (bytes, list) = packed(folder.path(), Format::TarGz);
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut tar).unwrap();
    let at = folder.path().join("damaged");
    let (mut cases, mut taken) = (0, 0);
    for place in 0..tar.len() {
        // Most of a tar is zeros that nobody reads.
        let flips: &[u8] = if tar[place] == 0 && place % 16 != 0 { &[] } else { &[0x01, 0x80] };
        for flip in flips {
            let mut damaged = tar.clone();
            damaged[place] ^= flip;
            cases += 1;
            taken += usize::from(refused_or_whole(&at, &gzip(&damaged), &list));
        }
        if place % 16 == 0 {
            cases += 1;
            taken += usize::from(refused_or_whole(&at, &gzip(&tar[..place]), &list));
        }
    }
    println!("{cases} damaged tars, {taken} of them taken with the right files");
}
