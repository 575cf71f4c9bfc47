//! The two slots on a real disk.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::fs::RealFs;
use crate::phase::Phase;
use crate::trial;

struct Place {
    _dir: tempfile::TempDir,
    layout: Layout,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    Place { _dir: dir, layout }
}

fn record(detail: &str) -> Record {
    let name = |text: &str| text.parse().unwrap();
    Record { detail: detail.into(), ..Record::new("a".into(), String::new(), name("1-a"), name("2-b")) }
}

impl Place {
    fn write(&self, detail: &str) {
        write(&RealFs, &self.layout, &record(detail)).unwrap();
    }

    fn read(&self) -> Reading {
        read(&RealFs, &self.layout)
    }

    /// The detail of the latest record.
    fn latest(&self) -> String {
        self.read().journal.record().unwrap().detail.clone()
    }

    /// The slot of the latest record, and the other one.
    fn slots(&self) -> [PathBuf; 2] {
        let [a, b] = self.layout.slots();
        let [of_a, of_b] = self.read().sequences;
        if of_a > of_b { [a, b] } else { [b, a] }
    }
}

#[test]
fn a_record_goes_to_the_older_slot() {
    let place = place();
    assert_eq!(place.read().journal, Journal::Absent);
    for step in ["one", "two", "three", "four"] {
        place.write(step);
        assert_eq!(place.latest(), step);
    }
    assert_eq!(place.read().sequences, [Some(3), Some(4)]);
    assert!(!place.layout.upgrade().join("journal.new").exists());
    let mode = place.layout.slots()[0].metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_bad_slot_costs_one_step_and_is_kept() {
    let long = vec![b'x'; LIMIT + 1];
    let bad: [(&[u8], &str); 5] = [
        (b"", "an empty file"),
        (&[0; 512], "an empty file"),
        (b"garbage\n", "a wrong line \"header\""),
        (b"outrider-upgrade-journal 7\n", "the schema \"7\""),
        (&long, "more than 65536 bytes"),
    ];
    for (bytes, found) in bad {
        let place = place();
        place.write("one");
        place.write("two");
        let [newer, _] = place.slots();
        std::fs::write(&newer, bytes).unwrap();
        let reading = place.read();
        assert_eq!(place.latest(), "one");
        assert_eq!(reading.faults, [SlotFault { path: newer, found: found.into() }]);
        place.write("three");
        assert_eq!(place.latest(), "three");
        assert!(place.read().faults.is_empty());
        assert_eq!(std::fs::read(place.layout.failed().join("journal.b.1")).unwrap(), bytes);
    }
}

#[test]
fn a_slot_that_others_may_write_or_that_is_no_file_is_refused() {
    let place = place();
    place.write("one");
    place.write("two");
    let [newer, older] = place.slots();
    std::fs::set_permissions(&newer, std::fs::Permissions::from_mode(0o622)).unwrap();
    assert_eq!(place.latest(), "one");
    std::fs::remove_file(&newer).unwrap();
    symlink(&older, &newer).unwrap();
    assert_eq!(place.latest(), "one");
    assert_eq!(place.read().faults[0].found, "no file");
    std::fs::remove_file(&newer).unwrap();
    std::fs::create_dir(&newer).unwrap();
    assert_eq!(place.latest(), "one");
    place.write("three");
    assert_eq!(place.latest(), "three");
}

#[test]
fn two_bad_slots_are_unreadable_and_set_aside_not_deleted() {
    let place = place();
    place.write("one");
    place.write("two");
    for slot in place.layout.slots() {
        std::fs::write(slot, "garbage").unwrap();
    }
    assert_eq!(place.read().journal, Journal::Unreadable);
    quarantine(&RealFs, &place.layout).unwrap();
    assert_eq!(place.read().journal, Journal::Absent);
    let mut kept: Vec<_> =
        std::fs::read_dir(place.layout.failed()).unwrap().map(|it| it.unwrap().file_name()).collect();
    kept.sort();
    assert_eq!(kept, ["journal.a.1", "journal.b.1"]);
    place.write("three");
    assert_eq!(place.latest(), "three");
}

#[test]
fn where_both_slots_are_lost_the_copy_is_the_journal() {
    let place = place();
    let garbage = |path: &Path| std::fs::write(path, "garbage").unwrap();
    place.write("one");
    place.write("two");
    std::fs::create_dir(place.layout.versions()).unwrap();
    trial::keep(&RealFs, &place.layout, &record("the copy")).unwrap();
    let [newer, older] = place.slots();
    garbage(&older);
    assert_eq!(place.latest(), "two", "one slot is enough");
    garbage(&newer);
    assert_eq!(place.latest(), "the copy");
    assert_eq!(place.read().faults.len(), 2, "and it is told");
    place.write("three");
    assert_eq!(place.latest(), "three");
    assert!(place.read().faults.is_empty(), "both are set aside, so that none comes back later");
    assert_eq!(std::fs::read_dir(place.layout.failed()).unwrap().count(), 2);

    // The folder of the journal is gone, and the copy is none.
    std::fs::remove_dir_all(place.layout.upgrade()).unwrap();
    assert_eq!(place.latest(), "the copy");
    garbage(&place.layout.trial());
    assert_eq!(place.read().journal, Journal::Unreadable);
    std::fs::create_dir(place.layout.upgrade()).unwrap();
    quarantine(&RealFs, &place.layout).unwrap();
    assert_eq!(place.read().journal, Journal::Absent);
    assert_eq!(std::fs::read(place.layout.failed().join(".trial.1")).unwrap(), b"garbage");
    trial::keep(&RealFs, &place.layout, &record("again")).unwrap();
    trial::forget(&RealFs, &place.layout).unwrap();
    assert_eq!(place.read().journal, Journal::Absent);
    assert_eq!(std::fs::read_dir(place.layout.versions()).unwrap().count(), 0);
}

#[test]
fn a_record_that_is_too_long_is_not_written() {
    let place = place();
    place.write("one");
    let failed = write(&RealFs, &place.layout, &record(&"x".repeat(LIMIT))).unwrap_err();
    assert!(matches!(failed, VersionsError::TooLong { limit: LIMIT, .. }), "{failed}");
    assert_eq!(place.latest(), "one");
    assert_eq!(place.read().journal.record().unwrap().phase, Phase::Requested);
}

#[test]
fn a_phase_that_is_not_known_leaves_the_step_before() {
    let place = place();
    std::fs::create_dir(place.layout.versions()).unwrap();
    trial::keep(&RealFs, &place.layout, &record("the copy")).unwrap();
    place.write("one");
    place.write("two");
    let [newer, older] = place.slots();
    for (slot, then) in [(newer, "one"), (older, "the copy")] {
        let text = std::fs::read_to_string(&slot).unwrap().replace("phase requested", "phase resting");
        let body = &text[..text.rfind("crc32").unwrap()];
        std::fs::write(&slot, format!("{body}crc32 {:08x}\n", crc32(body.as_bytes()))).unwrap();
        assert_eq!(place.latest(), then);
    }
    assert!(place.read().faults.iter().all(|it| it.found.contains("phase")), "{:?}", place.read().faults);
}
