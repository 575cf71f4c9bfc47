//! What a writer that goes on with an export is told of those before it.

use std::collections::HashSet;

use super::*;
use crate::Total;
use crate::faulty::Dice;

fn total(origin: &str, files: u64, amounts: &[Amount]) -> Total {
    let mut amount = Amount::default();
    amounts.iter().for_each(|it| amount += *it);
    Total { origin: origin.into(), model: MODEL.into(), files, amount }
}

fn committed(writer: &mut ExportWriter, origin: &str, records: u64) -> Amount {
    let session = filled(writer, origin, records);
    writer.commit(session).unwrap().total()
}

/// Acknowledges all files and lets them expire, all but the manifests of `open`.
fn acknowledge_and_expire(spool: &Spool, open: &[&str]) {
    spool.recover().unwrap();
    for file in spool.pending().unwrap().files {
        spool.acknowledge(&file).unwrap();
    }
    let open: HashSet<String> = open.iter().map(|it| (*it).to_owned()).collect();
    let later = SystemTime::now() + Duration::from_secs(60);
    let removed = spool.expire_sent(Duration::ZERO, later, &open).unwrap();
    assert!(removed.failed.is_empty(), "{:?}", removed.failed);
}

#[test]
fn what_waits_was_sent_or_has_expired_counts_alike() {
    let (_root, spool) = spool(small());
    let mut writer = spool.export("run-1").unwrap();
    assert_eq!(writer.earlier(), [], "there was none before");
    let expired = committed(&mut writer, "git", 3);
    writer.seal_all().unwrap();
    acknowledge_and_expire(&spool, &["run-1"]);
    assert!(spool.pending().unwrap().files.is_empty() && spool.sent().unwrap().files.is_empty());
    let sent = committed(&mut writer, "git", 4);
    writer.seal_all().unwrap().iter().for_each(|it| spool.acknowledge(it).unwrap());
    let waits = committed(&mut writer, "git", 5);
    writer.seal_all().unwrap();
    let other = committed(&mut writer, "jira", 1);
    // Not sealed yet, and never committed.
    let open = committed(&mut writer, "git", 6);
    drop(filled(&writer, "git", 100));
    let mut expected = vec![total("git", 3, &[expired, sent, waits])];
    assert_eq!(writer.totals().unwrap(), expected, "what is sealed");
    drop(writer);

    let mut writer = spool.export("run-1").unwrap();
    expected = vec![total("git", 4, &[expired, sent, waits, open]), total("jira", 1, &[other])];
    assert_eq!(writer.earlier(), expected);
    let since = committed(&mut writer, "git", 2);
    writer.seal_all().unwrap();
    assert_eq!(writer.earlier(), expected, "what is written now is not of an earlier life");
    let all = total("git", 5, &[expired, sent, waits, open, since]);
    assert_eq!(writer.totals().unwrap(), [all, total("jira", 1, &[other])]);
}

#[test]
fn a_file_that_another_recovery_sealed_counts_as_well() {
    let (_root, spool) = spool(small());
    let mut writer = spool.export("run-1").unwrap();
    let left = committed(&mut writer, "git", 3);
    drop(writer);
    acknowledge_and_expire(&spool, &["run-1"]);
    assert_eq!(spool.export("run-1").unwrap().earlier(), [total("git", 1, &[left])]);
}

#[test]
fn only_an_export_that_nobody_goes_on_with_is_forgotten() {
    let (_root, spool) = spool(small());
    for export in ["run-1", "run-2"] {
        committed(&mut spool.export(export).unwrap(), "git", 3);
    }
    acknowledge_and_expire(&spool, &["run-1"]);
    assert!(!spool.dir().join("run-2").exists());
    assert_eq!(spool.export("run-1").unwrap().earlier()[0].amount.records, 3);
    acknowledge_and_expire(&spool, &[]);
    assert!(!spool.dir().join("run-1").exists());
}

#[test]
fn a_power_cut_at_any_operation_leaves_counts_of_what_is_there() {
    let mut cuts = 0;
    for (operations, seed) in (0..60).flat_map(|it| (0..4).map(move |seed| (it, seed))) {
        let (fs, _spool, mut writer) = on_a_faulty_disk();
        let before = writer.seal_all().unwrap().iter().map(|it| it.records).sum::<u64>();
        let now = fs.operations();
        fs.fail(now + operations..u64::MAX, ErrorKind::Other);
        let few = filled(&writer, "git", 2);
        let mut answered = writer.commit(few).map_or(0, |it| it.total().records);
        let mut large = writer.session("git", MODEL);
        if (0..200).all(|n| large.append(record(n).as_bytes()).is_ok()) {
            answered += writer.commit(large).map_or(0, |it| it.total().records);
        }
        drop(writer);
        cuts += u64::from(fs.operations() > now + operations);
        let after = fs.cut(&mut Dice::new(seed));
        let spool = Spool::open_on(Arc::new(after.clone()), "/spool".into(), small()).unwrap();
        let writer = spool.export("run-1").unwrap();
        let files = spool.pending().unwrap().files;
        let there: u64 = files.iter().map(|it| it.records).sum();
        let told: u64 = writer.earlier().iter().map(|it| it.amount.records).sum();
        let told_files: u64 = writer.earlier().iter().map(|it| it.files).sum();
        assert_eq!((told_files, told), (files.len() as u64, there), "cut after {operations} operations");
        assert!(told >= before + answered, "what was answered is counted, after {operations} operations");
    }
    assert!(cuts > 20, "{cuts} cuts");
}
