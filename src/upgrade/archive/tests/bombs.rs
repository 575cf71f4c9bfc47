//! Archives that are too large to be committed: they are made here, and reading them stops where the list ends.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::refused;
use crate::testing::tar_bytes::{blocks, file, of_kind};
use crate::testing::{TOP, small_list};

fn gzip_of(folder: &Path, write: impl FnOnce(&mut dyn Write)) -> PathBuf {
    let path = folder.join("bomb.tar.gz");
    let mut gzip = GzEncoder::new(File::create(&path).unwrap(), Compression::best());
    write(&mut gzip);
    gzip.finish().unwrap();
    path
}

fn zip_of(folder: &Path, entries: usize, size: u64) -> PathBuf {
    let path = folder.join("bomb.zip");
    let mut zip = ZipWriter::new(File::create(&path).unwrap());
    for n in 0..entries {
        zip.start_file(format!("{TOP}/f{n}"), SimpleFileOptions::default()).unwrap();
        io::copy(&mut io::repeat(0).take(size), &mut zip).unwrap();
    }
    zip.finish().unwrap();
    path
}

#[track_caller]
fn says(found: &str, expected: &str) {
    assert!(found.contains(expected), "{found}");
}

#[test]
fn a_million_entries_are_not_read() {
    let folder = crate::testing::folder();
    let bomb = gzip_of(folder.path(), |gzip| {
        for n in 0..1_000_000 {
            gzip.write_all(&blocks(&file(&format!("{TOP}/f{n}"), b""))).unwrap();
            if n == 20_000 {
                // The rest are folders of one name, which compress to nothing and are as many.
                break;
            }
        }
        let folder = blocks(&of_kind(&format!("{TOP}/f/"), b'5')).repeat(1000);
        for _ in 0..980 {
            gzip.write_all(&folder).unwrap();
        }
    });
    says(&refused(&bomb, &small_list()), "more than 258 entries");
    let bomb = zip_of(folder.path(), 60_000, 0);
    says(&refused(&bomb, &small_list()), "more than 258 entries");
    let bomb = zip_of(folder.path(), 70_000, 0);
    says(&refused(&bomb, &small_list()), "zip64");
}

#[test]
fn a_manifest_of_10_gb_is_not_read() {
    let folder = crate::testing::folder();
    let size = 10 << 30;
    let bomb = gzip_of(folder.path(), |gzip| {
        let header = crate::testing::tar_bytes::Item {
            size: Some(size),
            ..file(&format!("{TOP}/manifest.yaml"), b"")
        };
        gzip.write_all(&blocks(&header)).unwrap();
        // The first part of it is enough; nobody comes to the end.
        io::copy(&mut io::repeat(b'#').take(200 << 20), gzip).unwrap();
    });
    says(&refused(&bomb, &small_list()), "manifest.yaml has 10737418240 bytes");
}

#[test]
fn zeros_behind_the_end_are_not_read_for_ever() {
    let folder = crate::testing::folder();
    let bomb = gzip_of(folder.path(), |gzip| {
        io::copy(&mut io::repeat(0).take(300 << 20), gzip).unwrap();
    });
    says(&refused(&bomb, &small_list()), "goes on behind its end");
}

#[test]
fn files_that_are_not_listed_have_a_bound() {
    let folder = crate::testing::folder();
    let bomb = gzip_of(folder.path(), |gzip| {
        gzip.write_all(&blocks(&file(&format!("{TOP}/x"), &vec![0; 2 << 20]))).unwrap();
    });
    says(&refused(&bomb, &small_list()), "its list makes room for");
    says(&refused(&zip_of(folder.path(), 1, 100 << 20), &small_list()), "its list makes room for");
    says(&refused(&zip_of(folder.path(), 20, 100 << 10), &small_list()), "its list makes room for");
}

#[test]
fn a_zip_that_lies_about_its_bomb_is_left() {
    let folder = crate::testing::folder();
    let bomb = zip_of(folder.path(), 1, 100 << 20);
    let mut bytes = std::fs::read(&bomb).unwrap();
    let size = (100_u32 << 20).to_le_bytes();
    let places: Vec<_> =
        bytes.windows(4).enumerate().filter(|(_, it)| *it == size).map(|(at, _)| at).collect();
    assert_eq!(places.len(), 2);
    for place in places {
        bytes[place..place + 4].copy_from_slice(&1000_u32.to_le_bytes());
    }
    std::fs::write(&bomb, bytes).unwrap();
    // What the library says of it, or that there is more than it says.
    let found = refused(&bomb, &small_list());
    assert!(
        found.contains("says that it has 1000 bytes, and has 1001") || found.contains("damaged"),
        "{found}"
    );
}
