//! Reading beside a writer, an uploader, and whoever removes.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::*;
use crate::{Settings, Spool};

const MODEL: &str = "sourcecode.Commit";

fn record(n: u64) -> String {
    let noise = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{{\"id\":{n},\"noise\":\"{noise:016x}\"}}")
}

fn spool() -> (TempDir, Spool) {
    let root = tempfile::tempdir().unwrap();
    let settings = Settings { seal_bytes: 700, buffer_bytes: 1000, ..Settings::default() };
    let spool = Spool::open(root.path().join("spool"), settings).unwrap();
    (root, spool)
}

/// Commits the records of a range in sessions of three.
fn export(spool: &Spool, export: &str, numbers: std::ops::Range<u64>) -> crate::ExportWriter {
    let mut writer = spool.export(export).unwrap();
    for start in numbers.clone().step_by(3) {
        let mut session = writer.session("git", MODEL);
        (start..numbers.end.min(start + 3)).for_each(|n| session.append(record(n).as_bytes()).unwrap());
        writer.commit(session).unwrap();
    }
    writer
}

/// The records of a file, and the place where it was cut.
fn read(file: &StoredFile) -> Result<(Vec<String>, Option<u64>), ReadError> {
    let mut records = file.open()?.unwrap();
    let mut found = Vec::new();
    while let Some(lines) = records.next_lines()? {
        found.extend(std::str::from_utf8(lines).unwrap().lines().map(str::to_owned));
    }
    Ok((found, records.cut()))
}

fn all(dir: &Path) -> Vec<String> {
    let listing = list_spool(dir).unwrap();
    assert!(listing.failed.is_empty(), "{:?}", listing.failed);
    listing.files.iter().flat_map(|file| read(file).unwrap().0).collect()
}

fn records(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(record).collect()
}

#[test]
fn what_is_committed_is_read_wherever_it_is_by_now() {
    let (_root, spool) = spool();
    let mut writer = export(&spool, "one", 0..90);
    assert_eq!(all(spool.dir()), records(0..90));
    let listing = list_spool(spool.dir()).unwrap();
    assert!(listing.files.iter().any(|it| it.place == Place::Writing));
    assert!(listing.files.iter().all(|it| it.origin.as_deref() == Some("git")));

    writer.seal_all().unwrap();
    assert_eq!(all(spool.dir()), records(0..90));
    let pending = spool.pending().unwrap().files;
    for file in &pending[..pending.len() / 2] {
        spool.acknowledge(file).unwrap();
    }
    let now = list_spool(spool.dir()).unwrap();
    assert_eq!(all(spool.dir()), records(0..90));
    let counted: u64 = now.files.iter().filter_map(|it| it.records).sum();
    assert_eq!(counted, 90, "sealed files tell their counts");
    assert!(
        now.files.iter().any(|it| it.place == Place::Sent)
            && now.files.iter().any(|it| it.place == Place::Waiting)
    );

    // Listed when it grew, read when it was sealed, or sent.
    let moved: Vec<_> = listing.files.iter().flat_map(|file| read(file).unwrap().0).collect();
    assert_eq!(moved, records(0..90));
    // Listed, then removed.
    for file in spool.pending().unwrap().files {
        spool.acknowledge(&file).unwrap();
    }
    spool.expire_sent(Duration::ZERO, SystemTime::now() + Duration::from_secs(60), &[].into()).unwrap();
    assert!(listing.files.iter().all(|file| file.open().unwrap().is_none()));
}

#[test]
fn of_a_file_that_is_being_written_whole_members_are_read() {
    let (_root, spool) = spool();
    let _writer = export(&spool, "one", 0..9);
    let open = spool.dir().join("one").join(MODEL).join("0.json.gz.open");
    let whole = std::fs::read(&open).unwrap();
    File::options().append(true).open(&open).unwrap().write_all(&whole[..30]).unwrap();
    let file = list_spool(spool.dir()).unwrap().files.remove(0);
    assert_eq!(read(&file).unwrap(), (records(0..9), Some(whole.len() as u64)));
    // Taken back by its writer between the two looks.
    std::fs::write(&open, &whole[..whole.len() - 5]).unwrap();
    assert_eq!(read(&file).unwrap().0, records(0..6));
}

#[test]
fn a_sealed_file_that_is_torn_or_damaged_says_where() {
    let (_root, spool) = spool();
    let mut writer = export(&spool, "one", 0..9);
    let sealed = writer.seal_all().unwrap().remove(0);
    let file = list_spool(spool.dir()).unwrap().files.remove(0);
    let whole = std::fs::read(&sealed.path).unwrap();
    std::fs::write(&sealed.path, &whole[..whole.len() - 5]).unwrap();
    let err = read(&file).unwrap_err();
    assert!(matches!(err, ReadError::Torn { offset, .. } if offset == whole.len() as u64 - 5), "{err}");
    let mut damaged = whole.clone();
    let last = damaged.len() - 6;
    damaged[last] ^= 0x55;
    std::fs::write(&sealed.path, damaged).unwrap();
    assert!(matches!(read(&file).unwrap_err(), ReadError::Damaged { offset, .. } if offset > 0));
    // A member too many.
    std::fs::write(&sealed.path, [whole.as_slice(), &whole].concat()).unwrap();
    let err = read(&file).unwrap_err().to_string();
    assert!(err.contains("found 18 records, expected 9"), "{err}");
}

#[test]
fn zstd_and_long_records_are_read_from_a_folder_of_received_files() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("one").join(MODEL);
    std::fs::create_dir_all(&folder).unwrap();
    let long = format!("{{\"id\":\"{}\"}}", "x".repeat(3_000_000));
    let mut frames = Vec::new();
    for text in [format!("{}\n", record(1)), format!("{long}\n"), format!("{}\n{}", record(2), record(3))] {
        frames.extend(zstd::bulk::compress(text.as_bytes(), 1).unwrap());
    }
    std::fs::write(folder.join("0.json.zst"), &frames).unwrap();
    for stranger in ["0.json.gz.part", "notes.txt", "01.json.gz", "1.json.gz.open"] {
        std::fs::write(folder.join(stranger), "x").unwrap();
    }
    let mut listing = list_received(root.path()).unwrap();
    let file = listing.files.remove(0);
    assert!(listing.files.is_empty());
    assert_eq!(
        read(&file).unwrap().0,
        [record(1), long, record(2), record(3)],
        "the last line feed is missing"
    );
    std::fs::write(folder.join("0.json.zst"), &frames[..frames.len() - 3]).unwrap();
    assert!(matches!(read(&file).unwrap_err(), ReadError::Torn { .. }));
    assert_eq!(whole(frames[..frames.len() - 3].as_ref()), (frames.len() - last_frame()) as u64);

    fn whole(bytes: &[u8]) -> u64 {
        members::whole(bytes, Packing::Zstd).unwrap()
    }
    fn last_frame() -> usize {
        zstd::bulk::compress(format!("{}\n{}", record(2), record(3)).as_bytes(), 1).unwrap().len()
    }
}

#[test]
fn a_part_is_read_once_its_session_is_committed() {
    let (_root, spool) = spool();
    let mut writer = spool.export("one").unwrap();
    let mut session = writer.session("git", MODEL);
    (0..200).for_each(|n| session.append(record(n).as_bytes()).unwrap());
    assert!(all(spool.dir()).is_empty(), "nothing is committed");
    let sealed = writer.commit(session).unwrap().sealed;
    assert_eq!(all(spool.dir()), records(0..200));
    // As a crash between the manifest's line and the renames leaves it.
    for file in &sealed {
        std::fs::rename(&file.path, file.path.with_extension("gz.part")).unwrap();
    }
    std::fs::write(sealed[0].path.with_file_name("99.json.gz.part"), "not committed").unwrap();
    assert!(!sealed.is_empty());
    assert_eq!(all(spool.dir()), records(0..200));
    let listing = list_spool(spool.dir()).unwrap();
    for file in &sealed {
        std::fs::rename(file.path.with_extension("gz.part"), &file.path).unwrap();
    }
    let moved: Vec<_> = listing.files.iter().flat_map(|file| read(file).unwrap().0).collect();
    assert_eq!(moved, records(0..200));
}

#[test]
fn no_folder_is_no_files() {
    let root = tempfile::tempdir().unwrap();
    assert!(list_spool(&root.path().join("none")).unwrap().files.is_empty());
}
