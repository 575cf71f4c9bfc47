//! What waits, what was sent and how much there is, while single exports cannot be read and others move files.

use super::*;

#[test]
fn an_export_that_cannot_be_read_hides_no_other() {
    let (_root, spool) = spool(Settings::default());
    for export in ["run-1", "run-2", "run-3"] {
        let mut writer = spool.export(export).unwrap();
        commit(&mut writer, 1);
        writer.seal_all().unwrap();
    }
    // What is no file can be read by no user.
    for export in ["run-1", "run-2"] {
        let manifest = spool.dir().join(export).join("manifest");
        std::fs::remove_file(&manifest).unwrap();
        std::fs::create_dir(&manifest).unwrap();
    }
    let pending = spool.pending().unwrap();
    assert_eq!(pending.files.iter().map(|it| it.export.as_str()).collect::<Vec<_>>(), ["run-3"]);
    assert_eq!(names(&pending.failed), ["run-1", "run-2"]);
    assert!(pending.failed[0].1.to_string().starts_with("read "), "{:?}", pending.failed);
    spool.acknowledge(&pending.files[0]).unwrap();
    std::fs::remove_dir_all(spool.dir().join("run-2").join(MODEL)).unwrap();
    let removed =
        spool.expire_sent(Duration::ZERO, SystemTime::now() + Duration::from_secs(60), &[].into()).unwrap();
    assert_eq!((removed.files, names(&removed.failed)), (1, vec!["run-2"]));
    assert!(!spool.dir().join("run-3").exists(), "{:?}", files(spool.dir()));
}

#[test]
fn a_folder_that_cannot_be_listed_keeps_neither_the_others_from_being_counted_nor_a_new_export() {
    let (fs, spool, mut writer) = on_a_faulty_disk();
    let sealed = writer.seal_all().unwrap().remove(0);
    let mut other = spool.export("run-2").unwrap();
    commit(&mut other, 1);
    let now = fs.operations();
    // The spool's folder, then the first export's.
    fs.fail(now + 1..now + 2, ErrorKind::PermissionDenied);
    let usage = spool.usage().unwrap();
    assert_eq!((usage.files, names(&usage.failed)), (1, vec!["run-1"]));
    fs.heal();
    assert_eq!((spool.usage().unwrap().files, sealed.records), (2, 1));
    let begun = (0..40).filter(|at| {
        let now = fs.operations();
        fs.fail(now + at..now + at + 1, ErrorKind::PermissionDenied);
        let begun = spool.export("run-3").is_ok();
        let met = fs.operations() > now + at;
        fs.heal();
        begun && met
    });
    // The folders of two exports and of their models among them: what they hold counts for the limit.
    assert!(begun.count() >= 5);
}

#[test]
fn a_file_is_acknowledged_whenever_empty_folders_are_removed_meanwhile() {
    for at in 0.. {
        let (fs, spool, mut writer) = on_a_faulty_disk();
        let file = writer.seal_all().unwrap().remove(0);
        let other = spool.clone();
        let now = fs.operations();
        fs.meanwhile(now + at, move || {
            // Nothing is old enough; folders without files go all the same.
            let removed =
                other.expire_sent(Duration::from_secs(3600), SystemTime::UNIX_EPOCH, &[].into()).unwrap();
            assert!(removed.files == 0 && removed.failed.is_empty(), "{removed:?}");
        });
        spool.acknowledge(&file).unwrap_or_else(|err| panic!("before operation {at}: {err}: {err:?}"));
        if fs.operations() <= now + at {
            // It ended before.
            assert!(at >= 8, "{at}");
            break;
        }
        let usage = spool.usage().unwrap();
        assert_eq!((usage.files, usage.sent_files), (0, 1), "before operation {at}");
    }
}

#[test]
fn an_acknowledged_file_is_kept_from_its_acknowledgement_on() {
    for at in 0.. {
        let (fs, spool, mut writer) = on_a_faulty_disk();
        let file = writer.seal_all().unwrap().remove(0);
        let sealed_at = fs.operations();
        // Time goes by.
        (0..100).for_each(|_| drop(spool.usage().unwrap()));
        let other = spool.clone();
        let now = fs.operations();
        fs.meanwhile(now + at, move || {
            // Older than a little after the sealing.
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(sealed_at + 1);
            assert_eq!(other.expire_sent(Duration::ZERO, time, &[].into()).unwrap().files, 0);
        });
        spool.acknowledge(&file).unwrap();
        if fs.operations() <= now + at {
            break;
        }
    }
}

fn names(failed: &[(String, SpoolError)]) -> Vec<&str> {
    failed.iter().map(|(export, _)| export.as_str()).collect()
}
