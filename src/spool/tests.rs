//! What the spool does, on a real disk but for the disk's own failures.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;

use crate::faulty::FaultyFs;
use crate::world::unpack;
use crate::{
    Amount, Codec, Compression, ExportWriter, Sealed, Session, Settings, Spool, SpoolError, UNKNOWN_ORIGIN,
};

mod housekeeping;
mod lives;

const MODEL: &str = "sourcecode.Commit";

fn small() -> Settings {
    Settings { seal_bytes: 2000, buffer_bytes: 1000, ..Settings::default() }
}

fn spool(settings: Settings) -> (TempDir, Spool) {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::open(root.path().join("spool"), settings).unwrap();
    (root, spool)
}

/// Records that hardly compress.
fn record(n: u64) -> String {
    let noise = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{{\"id\":{n},\"noise\":\"{noise:016x}{:016x}\"}}", noise.rotate_left(23) ^ 0x5bd1_e995)
}

fn filled(writer: &ExportWriter, origin: &str, records: u64) -> Session {
    let mut session = writer.session(origin, MODEL);
    (0..records).for_each(|n| session.append(record(n).as_bytes()).unwrap());
    session
}

fn commit(writer: &mut ExportWriter, records: u64) -> Vec<Sealed> {
    let session = filled(writer, "git", records);
    writer.commit(session).unwrap().sealed
}

/// The names of all files below a folder, sorted.
fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_string_lossy().replace('\\', "/");
                found.push(name);
            }
        }
    }
    found.sort();
    found
}

fn text(file: &Sealed) -> String {
    unpack(&std::fs::read(&file.path).unwrap(), file.compression)
}

#[test]
fn small_sessions_share_a_file_that_any_gzip_reader_takes() {
    let (_root, spool) = spool(Settings::default());
    let mut writer = spool.export("run-1").unwrap();
    let sessions = vec![filled(&writer, "git", 3), filled(&writer, "git", 0), filled(&writer, "git", 2)];
    let committed = writer.commit_many(sessions).unwrap();
    let records: Vec<_> = committed.sessions.iter().map(|it| it.records).collect();
    assert_eq!((records, committed.total().records), (vec![3, 0, 2], 5));
    commit(&mut writer, 1);
    assert_eq!(
        files(spool.dir()),
        ["run-1/lock", "run-1/manifest", "run-1/sourcecode.Commit/0.json.gz.open"]
    );
    let sealed = writer.seal_all().unwrap();
    let [file] = sealed.as_slice() else { panic!("{sealed:?}") };
    assert_eq!(files(spool.dir()), ["run-1/lock", "run-1/manifest", "run-1/sourcecode.Commit/0.json.gz"]);
    let expected: String = [0, 1, 2, 0, 1, 0].map(|n| record(n) + "\n").concat();
    assert_eq!(text(file), expected);
    assert_eq!((file.records, file.raw_bytes, file.origin.as_str()), (6, expected.len() as u64, "git"));
    assert_eq!(spool.pending().unwrap().files, sealed);
    assert_eq!(writer.seal_all().unwrap(), []);
}

#[test]
fn an_export_goes_on_in_the_other_compression() {
    let (root, gzip) = spool(small());
    let dir = root.path().join("spool");
    let zstd = Spool::open(&dir, Settings { codec: Codec::Zstd { level: 3 }, ..small() }).unwrap();
    // Each leaves an `.open` file with one commit, which the next seals as what it is.
    for spool in [&gzip, &zstd, &gzip] {
        let mut writer = spool.export("run-1").unwrap();
        let mut large = filled(&writer, "git", 100);
        large.append(&[b'x'; 5000]).unwrap();
        writer.commit(large).unwrap();
        commit(&mut writer, 3);
    }
    gzip.recover().unwrap();
    let pending = zstd.pending().unwrap().files;
    let mut numbers: Vec<_> = pending.iter().map(|it| it.number).collect();
    numbers.sort_unstable();
    let files = numbers.len();
    numbers.dedup();
    assert_eq!(numbers.len(), files, "a number was used twice: {pending:?}");
    for compression in [Compression::Gzip, Compression::Zstd] {
        assert!(pending.iter().any(|it| it.compression == compression), "{pending:?}");
    }
    assert_eq!(pending.iter().map(|it| it.records).sum::<u64>(), 3 * 104);
    for file in &pending {
        assert_eq!(text(file).lines().count() as u64, file.records);
        gzip.acknowledge(file).unwrap();
    }
    assert_eq!(gzip.pending().unwrap().files, []);
    assert_eq!(gzip.usage().unwrap().sent_files, files as u64);
}

#[cfg(unix)]
#[test]
fn nobody_else_may_read_the_spool() {
    use std::os::unix::fs::MetadataExt;
    let (_root, spool) = spool(Settings::default());
    let mut writer = spool.export("run-1").unwrap();
    commit(&mut writer, 1);
    let file = writer.seal_all().unwrap().remove(0).path;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    assert_eq!(mode(spool.dir()), 0o700);
}

#[test]
fn a_large_session_is_invisible_until_it_is_committed_and_then_there_as_a_whole() {
    let (_root, spool) = spool(small());
    let mut writer = spool.export("run-1").unwrap();
    let session = filled(&writer, "git", 200);
    assert!(
        files(spool.dir()).iter().filter(|it| it.ends_with(".part")).count() >= 2,
        "{:?}",
        files(spool.dir())
    );
    assert_eq!(spool.pending().unwrap().files, []);
    let committed = writer.commit(session).unwrap();
    assert!(committed.sealed.len() >= 2, "{committed:?}");
    assert_eq!(spool.pending().unwrap().files.len(), committed.sealed.len());
    let all: String = committed.sealed.iter().map(text).collect();
    let expected: String = (0..200).map(|n| record(n) + "\n").collect();
    assert_eq!(all, expected);
    assert_eq!(committed.total(), Amount { records: 200, raw_bytes: expected.len() as u64 });
    assert_eq!(committed.sealed.iter().map(|it| it.records).sum::<u64>(), 200);
    assert!(!files(spool.dir()).iter().any(|it| it.ends_with(".part")));
}

#[test]
fn lines_and_single_records_make_the_same_file() {
    let (_root, spool) = spool(small());
    let mut writer = spool.export("run-1").unwrap();
    let lines: String = (0..9).map(|n| record(n) + "\n").collect();
    for session in [0, 1] {
        let mut it = writer.session("git", MODEL);
        if session == 0 {
            it.append_lines(lines.as_bytes()).unwrap();
        } else {
            (0..9).for_each(|n| it.append(record(n).as_bytes()).unwrap());
        }
        assert_eq!(it.amount(), Amount { records: 9, raw_bytes: lines.len() as u64 });
        writer.commit(it).unwrap();
        assert_eq!(text(&writer.seal_all().unwrap()[0]), lines);
    }
}

#[test]
fn a_record_larger_than_the_buffer_passes() {
    let (_root, spool) = spool(small());
    let mut writer = spool.export("run-1").unwrap();
    let mut session = filled(&writer, "git", 1);
    let large = format!("\"{}\"", "x".repeat(50_000));
    session.append(large.as_bytes()).unwrap();
    session.append(b"{}").unwrap();
    let committed = writer.commit(session).unwrap();
    assert_eq!(text(&committed.sealed[0]), format!("{}\n{large}\n{{}}\n", record(0)));
}

#[test]
fn rolled_back_and_dropped_sessions_leave_nothing() {
    let (_root, spool) = spool(small());
    let writer = spool.export("run-1").unwrap();
    filled(&writer, "git", 200).rollback();
    drop(filled(&writer, "git", 200));
    filled(&writer, "git", 1).rollback();
    assert_eq!(files(spool.dir()), ["run-1/lock", "run-1/manifest"]);
}

#[test]
fn each_origin_has_files_of_its_own() {
    let (_root, spool) = spool(Settings::default());
    let mut writer = spool.export("run-1").unwrap();
    let sessions = vec![filled(&writer, "git", 1), filled(&writer, "jira\n\"2\"", 2)];
    writer.commit_many(sessions).unwrap();
    let sealed = writer.seal_all().unwrap();
    let found: Vec<_> = sealed.iter().map(|it| (it.origin.as_str(), it.records, it.number)).collect();
    assert_eq!(found, [("git", 1, 0), ("jira\n\"2\"", 2, 1)]);
}

#[test]
fn a_file_is_sealed_when_it_is_large_enough() {
    let (_root, spool) = spool(small());
    let mut writer = spool.export("run-1").unwrap();
    let mut commits = 0;
    let sealed = loop {
        commits += 1;
        let sealed = commit(&mut writer, 10);
        if !sealed.is_empty() {
            break sealed;
        }
    };
    assert!(sealed[0].bytes >= 2000 && sealed[0].records == commits * 10, "{sealed:?}");
    commit(&mut writer, 1);
    assert_eq!(writer.seal_all().unwrap()[0].number, 1);
}

#[test]
fn a_file_is_sealed_when_it_is_old_enough() {
    let (_root, spool) = spool(Settings::default());
    let mut writer = spool.export("run-1").unwrap();
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(writer.seal_due(at(0)).unwrap(), []);
    commit(&mut writer, 1);
    assert_eq!(writer.seal_due(at(100)).unwrap(), []);
    commit(&mut writer, 1);
    assert_eq!(writer.seal_due(at(109)).unwrap(), []);
    assert_eq!(writer.seal_due(at(110)).unwrap()[0].records, 2);
}

#[test]
fn an_acknowledged_file_is_kept_for_a_while_and_then_goes_with_its_folders() {
    let (_root, spool) = spool(Settings::default());
    let mut writer = spool.export("run-1").unwrap();
    commit(&mut writer, 3);
    let file = writer.seal_all().unwrap().remove(0);
    commit(&mut writer, 3);
    let second = writer.seal_all().unwrap().remove(0);
    assert_eq!(spool.pending().unwrap().files, [file.clone(), second.clone()]);
    spool.acknowledge(&file).unwrap();
    spool.acknowledge(&file).unwrap();
    assert_eq!(spool.pending().unwrap().files, std::slice::from_ref(&second));
    spool.acknowledge(&second).unwrap();
    let (files_, bytes) = (2, file.bytes + second.bytes);
    let usage = spool.usage().unwrap();
    assert_eq!((usage.files, usage.bytes, usage.sent_files, usage.sent_bytes), (0, 0, files_, bytes));
    let (hour, now) = (Duration::from_secs(3600), SystemTime::now());
    assert_eq!(spool.expire_sent(hour, now, &[].into()).unwrap().files, 0);
    // A living writer keeps its folder.
    let removed = spool.expire_sent(hour, now + 2 * hour, &[].into()).unwrap();
    assert_eq!((removed.files, removed.bytes), (files_, bytes));
    assert_eq!(files(spool.dir()), ["run-1/lock", "run-1/manifest"]);
    commit(&mut writer, 1);
    assert_eq!(writer.seal_all().unwrap()[0].number, 2);
    drop(writer);
    spool.acknowledge(&spool.pending().unwrap().files[0]).unwrap();
    spool.expire_sent(Duration::ZERO, now + 2 * hour, &[].into()).unwrap();
    assert_eq!(std::fs::read_dir(spool.dir()).unwrap().count(), 1, "only sent/ stays");
    assert_eq!(files(spool.dir()), [""; 0]);
}

#[test]
fn numbers_go_on_after_the_files_have_gone() {
    let (_root, spool) = spool(Settings::default());
    let mut writer = spool.export("run-1").unwrap();
    commit(&mut writer, 1);
    let file = writer.seal_all().unwrap().remove(0);
    drop(writer);
    spool.acknowledge(&file).unwrap();
    std::fs::remove_dir_all(spool.dir().join("sent")).unwrap();
    std::fs::remove_dir(file.path.parent().unwrap()).unwrap();
    let mut writer = spool.export("run-1").unwrap();
    commit(&mut writer, 1);
    assert_eq!(writer.seal_all().unwrap()[0].number, 1);
}

#[test]
fn an_export_has_one_writer() {
    let (_root, spool) = spool(Settings::default());
    let mut writer = spool.export("run-1").unwrap();
    commit(&mut writer, 3);
    let err = spool.export("run-1").unwrap_err();
    assert!(matches!(&err, SpoolError::InUse { export } if export == "run-1"), "{err}");
    let recovered = spool.recover().unwrap();
    assert_eq!((recovered.sealed.len(), recovered.in_use), (0, vec!["run-1".to_owned()]));
    let session = filled(&writer, "git", 1);
    drop(writer);
    // A session alone can still write.
    assert!(spool.export("run-1").is_err());
    drop(session);
    assert_eq!(spool.export("run-1").unwrap().recovered()[0].records, 3);
}

#[test]
fn what_a_dead_writer_left_is_sealed_and_what_it_did_not_commit_is_removed() {
    let (_root, spool) = spool(small());
    let mut writer = spool.export("run-1").unwrap();
    commit(&mut writer, 3);
    std::mem::forget(filled(&writer, "git", 100).parts.drain(..).collect::<Vec<_>>());
    drop(writer);
    let folder = spool.dir().join("run-1").join(MODEL);
    let open = folder.join("0.json.gz.open");
    // The beginning of another member.
    let head = std::fs::read(&open).unwrap()[..20].to_vec();
    std::fs::OpenOptions::new().append(true).open(&open).unwrap().write_all(&head).unwrap();
    std::fs::write(folder.join("notes.txt"), "a stranger's").unwrap();
    let recovered = spool.recover().unwrap();
    assert_eq!((recovered.sealed[0].records, recovered.sealed[0].origin.as_str()), (3, "git"));
    assert_eq!(text(&recovered.sealed[0]).lines().count(), 3);
    assert_eq!(
        files(&folder),
        ["0.json.gz", "notes.txt"],
        "parts are gone, a stranger's file is not touched"
    );
    assert_eq!(spool.recover().unwrap().sealed, []);
}

#[test]
fn a_file_of_which_the_manifest_says_nothing_is_counted() {
    let (_root, spool) = spool(Settings::default());
    let mut writer = spool.export("run-1").unwrap();
    commit(&mut writer, 3);
    let file = writer.seal_all().unwrap().remove(0);
    drop(writer);
    std::fs::remove_file(spool.dir().join("run-1/manifest")).unwrap();
    assert_eq!(spool.pending().unwrap().files, []);
    spool.recover().unwrap();
    assert_eq!(spool.pending().unwrap().files, [Sealed { origin: UNKNOWN_ORIGIN.into(), ..file }]);
}

#[test]
fn a_manifest_may_be_torn_damaged_or_hold_lines_of_a_later_program() {
    let (_root, spool) = spool(Settings::default());
    let mut writer = spool.export("run-1").unwrap();
    commit(&mut writer, 3);
    let file = writer.seal_all().unwrap().remove(0);
    drop(writer);
    let manifest = spool.dir().join("run-1/manifest");
    let whole = std::fs::read_to_string(&manifest).unwrap();
    let (version, rest) = whole.split_once('\n').unwrap();
    let odd = format!("{version}\n\0\0\0garbage\n{{\"colour\":\"red\"}}\n{rest}{{\"sealed\":[{{\"mod");
    std::fs::write(&manifest, odd).unwrap();
    assert_eq!(spool.pending().unwrap().files, [file]);
    let mut writer = spool.export("run-1").unwrap();
    commit(&mut writer, 1);
    assert_eq!(writer.seal_all().unwrap()[0].number, 1);
    assert_eq!(spool.pending().unwrap().files.len(), 2);
}

#[test]
fn a_manifest_of_a_later_version_is_left_alone_and_stops_no_other_export() {
    let (_root, spool) = spool(Settings::default());
    for export in ["run-1", "run-2"] {
        commit(&mut spool.export(export).unwrap(), 1);
    }
    let manifest = spool.dir().join("run-1/manifest");
    std::fs::write(&manifest, "{\"version\":2}\n").unwrap();
    let err = spool.export("run-1").unwrap_err().to_string();
    assert!(err.ends_with("is of version 2, this program knows 1: use the newer program"), "{err}");
    let recovered = spool.recover().unwrap();
    assert_eq!((recovered.sealed.len(), recovered.failed.len()), (1, 1));
    assert_eq!(std::fs::read_to_string(manifest).unwrap(), "{\"version\":2}\n");
}

#[test]
fn names_that_could_leave_their_folder_are_refused() {
    let (_root, spool) = spool(Settings::default());
    for name in
        ["", ".", "..", "a/b", "a\\b", "../a", "sent", "lock", "manifest", "a b", "ä", &"x".repeat(129)]
    {
        let err = spool.export(name).unwrap_err();
        assert!(matches!(err, SpoolError::BadName { what: "an export", .. }), "{err}");
    }
    let mut writer = spool.export("run-1").unwrap();
    let mut session = writer.session("git", "../elsewhere");
    let err = session.append(b"{}").unwrap_err();
    assert!(
        err.to_string().starts_with("\"../elsewhere\" is no name for a model: expected letters"),
        "{err}"
    );
    assert_eq!(writer.commit(session).unwrap().total(), Amount::default());
}

#[test]
fn what_is_not_a_line_is_refused_and_the_session_goes_on() {
    let (_root, spool) = spool(Settings::default());
    let mut writer = spool.export("run-1").unwrap();
    let mut session = filled(&writer, "git", 1);
    let err = session.append(b"{\n}").unwrap_err().to_string();
    assert_eq!(
        err,
        "a record of 3 bytes holds a line feed: expected one line, with line feeds in texts escaped"
    );
    let err = session.append_lines(b"{}\n{}").unwrap_err().to_string();
    assert_eq!(err, "a record of 5 bytes ends without a line feed: expected lines, the last ended as well");
    session.append_lines(b"").unwrap();
    assert_eq!(writer.commit(session).unwrap().total().records, 1);
}

#[test]
fn a_session_of_another_export_is_refused() {
    let (_root, spool) = spool(Settings::default());
    let (one, mut two) = (spool.export("run-1").unwrap(), spool.export("run-2").unwrap());
    let err = two.commit(filled(&one, "git", 1)).unwrap_err();
    assert!(matches!(err, SpoolError::OtherExport { .. }), "{err}");
}

#[test]
fn a_full_spool_takes_nothing_until_files_are_acknowledged() {
    let (_root, spool) = spool(Settings { total_bytes: 100, ..Settings::default() });
    let mut writer = spool.export("run-1").unwrap();
    commit(&mut writer, 5);
    let file = writer.seal_all().unwrap().remove(0);
    let mut session = writer.session("git", MODEL);
    let err = session.append(record(1).as_bytes()).unwrap_err();
    assert!(matches!(err, SpoolError::Full { used, limit: 100, .. } if used == file.bytes), "{err}");
    assert!(err.is_space());
    assert_eq!(writer.seal_all().unwrap(), []);
    spool.acknowledge(&file).unwrap();
    session.append(record(1).as_bytes()).unwrap();
    writer.commit(session).unwrap();
    assert_eq!(writer.seal_all().unwrap()[0].records, 1);
}

#[test]
fn what_was_taken_before_the_spool_was_full_is_committed() {
    let (_root, spool) = spool(Settings { total_bytes: 100, ..Settings::default() });
    let mut writer = spool.export("run-1").unwrap();
    let early = filled(&writer, "git", 3);
    commit(&mut writer, 5);
    assert!(writer.session("git", MODEL).append(b"{}").unwrap_err().is_space());
    writer.commit(early).unwrap();
    let usage = spool.usage().unwrap();
    assert!(usage.bytes > 100 && usage.oldest.is_none(), "a file that grows does not wait yet: {usage:?}");
    assert_eq!(writer.seal_all().unwrap()[0].records, 8);
    assert!(spool.oldest().unwrap().is_some());
    assert_eq!(spool.oldest().unwrap(), spool.usage().unwrap().oldest);
}

/// Whether it is the failure of a sync in the background, after which the system may have let go of the data: that is not
/// repeated, and is the only one that is no want of room here.
fn is_lost(err: &SpoolError) -> bool {
    assert!(err.is_space() || err.to_string().starts_with("sync "), "{err}");
    !err.is_space()
}

#[test]
fn an_append_and_a_commit_that_failed_for_space_are_repeated_and_nothing_is_there_twice() {
    // Sessions of one buffer, and of several files.
    for records in [3, 400] {
        let mut failed = 0;
        'each: for at in 0..60 {
            let (fs, spool, mut writer) = on_a_faulty_disk();
            let now = fs.operations();
            fs.fail(now + at..now + at + 1, ErrorKind::StorageFull);
            let mut session = writer.session("git", MODEL);
            for n in 0..records {
                let record = record(n);
                if let Err(err) = session.append(record.as_bytes()) {
                    failed += 1;
                    if is_lost(&err) {
                        continue 'each;
                    }
                    session.append(record.as_bytes()).unwrap();
                }
            }
            let mut sessions = vec![session];
            if let Err(err) = writer.try_commit(&mut sessions) {
                failed += 1;
                if is_lost(&err) {
                    continue;
                }
                writer.try_commit(&mut sessions).unwrap();
            }
            assert!(sessions.is_empty());
            if fs.operations() <= now + at {
                // The failure would come only later.
                continue;
            }
            writer.seal_all().unwrap();
            drop(writer);
            spool.recover().unwrap();
            let files = spool.pending().unwrap().files;
            assert_eq!(files.iter().map(|it| it.records).sum::<u64>(), 1 + records, "failure {at}");
        }
        assert!(failed > 1, "{records} records: {failed} failures");
    }
}

#[test]
fn many_open_sessions_share_a_bounded_memory() {
    let settings = Settings { memory_bytes: 256 << 10, ..Settings::default() };
    let (_root, spool) = spool(settings);
    let mut writer = spool.export("run-1").unwrap();
    let mut sessions: Vec<_> = (0..50).map(|_| writer.session("git", MODEL)).collect();
    for n in 0..40_u64 {
        for session in &mut sessions {
            (0..20).for_each(|i| session.append(record(n * 20 + i).as_bytes()).unwrap());
        }
        let held: usize = sessions.iter().map(|it| it.buffer.capacity()).sum();
        assert!(held <= (256 << 10) + 50 * (32 << 10), "{held} bytes after round {n}");
    }
    let committed = writer.commit_many(sessions).unwrap();
    assert_eq!(committed.total().records, 50 * 800);
    writer.seal_all().unwrap();
    assert_eq!(spool.pending().unwrap().files.iter().map(|it| it.records).sum::<u64>(), 50 * 800);
}

#[test]
fn a_full_disk_is_an_error_that_names_the_file_and_takes_nothing_back() {
    let fs = FaultyFs::new(Path::new("/"));
    let spool = Spool::open_on(Arc::new(fs.clone()), "/spool".into(), small()).unwrap();
    let mut writer = spool.export("run-1").unwrap();
    commit(&mut writer, 1);
    let session = filled(&writer, "git", 2);
    // The file is open; the next operation is the write.
    let now = fs.operations();
    fs.fail(now..now + 1, ErrorKind::StorageFull);
    let err = writer.commit(session).unwrap_err();
    let said = err.to_string();
    assert!(
        said.starts_with("append to /spool/run-1/sourcecode.Commit/0.json.gz.open (")
            && said.ends_with(" bytes): the disk is full; free some space, what is committed is kept"),
        "{said}"
    );
    assert!(err.is_space());
    commit(&mut writer, 4);
    let sealed = writer.seal_all().unwrap();
    assert_eq!(sealed[0].records, 5);
    let text = unpack(&fs.contents(&sealed[0].path).unwrap(), sealed[0].compression);
    assert_eq!(text.lines().count(), 5);
}

/// A writer with one record committed, on a disk that can fail.
fn on_a_faulty_disk() -> (FaultyFs, Spool, ExportWriter) {
    let fs = FaultyFs::new(Path::new("/"));
    let spool = Spool::open_on(Arc::new(fs.clone()), "/spool".into(), small()).unwrap();
    let mut writer = spool.export("run-1").unwrap();
    commit(&mut writer, 1);
    (fs, spool, writer)
}

#[test]
fn a_commit_that_failed_is_not_found_by_recovery() {
    let (fs, spool, mut writer) = on_a_faulty_disk();
    let session = filled(&writer, "git", 2);
    let now = fs.operations();
    // The member is written as a whole, and cannot be synced.
    fs.fail(now + 1..now + 2, ErrorKind::Other);
    let err = writer.commit(session).unwrap_err();
    assert!(err.to_string().starts_with("sync "), "{err}");
    drop(writer);
    assert_eq!(spool.recover().unwrap().sealed[0].records, 1);
}

#[test]
fn what_is_committed_after_a_sealing_that_failed_is_found_by_recovery() {
    let (fs, spool, mut writer) = on_a_faulty_disk();
    let now = fs.operations();
    // The line of the manifest can neither be synced nor taken back.
    fs.fail(now + 1..now + 3, ErrorKind::Other);
    writer.seal_all().unwrap_err();
    commit(&mut writer, 2);
    drop(writer);
    assert_eq!(spool.pending().unwrap().files, []);
    assert_eq!(spool.recover().unwrap().sealed[0].records, 3);
    assert_eq!(spool.pending().unwrap().files[0].records, 3);
}

#[test]
fn a_session_whose_rolled_file_could_not_be_synced_is_never_committed() {
    let mut found_out_late = 0;
    for at in 0..40 {
        let fs = FaultyFs::new(Path::new("/"));
        // With threads, files are rolled so late that the commit writes what would fail.
        let settings = Settings { threads: 0, ..small() };
        let spool = Spool::open_on(Arc::new(fs.clone()), "/spool".into(), settings).unwrap();
        let mut writer = spool.export("run-1").unwrap();
        let mut session = writer.session("git", MODEL);
        let now = fs.operations();
        fs.fail(now + at..now + at + 1, ErrorKind::Other);
        let failed = (0..100).filter(|n| session.append(record(*n).as_bytes()).is_err()).count();
        if failed > 0 || fs.operations() <= now + at {
            continue;
        }
        // A sync is begun when a file is full, and its failure is heard of only now.
        found_out_late += 1;
        let err = writer.commit(session).unwrap_err();
        assert!(err.to_string().starts_with("sync /spool/run-1/sourcecode.Commit/"), "{err}");
        drop(writer);
        spool.recover().unwrap();
        assert_eq!(spool.pending().unwrap().files, []);
    }
    assert!(found_out_late > 0);
}

#[test]
fn the_writer_may_live_on_a_thread_of_its_own() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    send::<ExportWriter>();
    send::<Session>();
    send::<Sealed>();
    send::<Spool>();
    sync::<Spool>();
    send::<SpoolError>();
    sync::<SpoolError>();
}
