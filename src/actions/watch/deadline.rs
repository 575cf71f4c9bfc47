//! How much time a version on trial has left, by the deadline in the journal.

use std::time::Duration;

use outrider_versions::{Left, Moment, Record};

/// How far the deadline in the journal may be from what it should be: each correction is a write.
const SLACK: Duration = Duration::from_secs(5);

/// How much time is left to the version of this record at `now`. A deadline of another start of the machine, or none, is
/// set anew. One that has passed while nobody watched leaves the `chance` to prove itself.
pub(super) fn time_left(record: &Record, now: Option<&Moment>, chance: Duration) -> Duration {
    let bound = Duration::from_millis(record.bound_ms);
    let left = record.deadline.as_ref().zip(now).map(|(deadline, now)| deadline.left(now));
    match left {
        Some(Left::Time(left)) => left.min(bound),
        Some(Left::Passed) => chance.min(bound),
        Some(Left::OtherBoot) | None => bound,
    }
}

/// Whether the deadline in the journal says about as much as is left.
pub(super) fn is_close(deadline: Option<&Moment>, now: &Moment, left: Duration) -> bool {
    let said = match deadline.map(|it| it.left(now)) {
        Some(Left::Time(said)) => said,
        Some(Left::Passed) => Duration::ZERO,
        Some(Left::OtherBoot) | None => return false,
    };
    said.abs_diff(left) <= SLACK
}

#[cfg(test)]
mod tests {
    use outrider_versions::BootId;

    use super::*;

    fn at(boot: &str, s: u64) -> Moment {
        Moment { boot: BootId(boot.into()), ms: s * 1000 }
    }

    fn left(deadline: Option<Moment>, now: Option<&Moment>) -> u64 {
        let name = |text: &str| text.parse().unwrap();
        let mut record = Record::new("a".into(), String::new(), name("1-a"), name("2-b"));
        record.deadline = deadline;
        time_left(&record, now, Duration::from_secs(80)).as_secs()
    }

    #[test]
    fn a_restart_of_the_machine_or_of_the_watcher_is_no_reason_to_go_back() {
        assert_eq!(left(Some(at("1", 700)), Some(&at("1", 200))), 500);
        assert_eq!(left(Some(at("1", 700)), Some(&at("2", 5))), 600, "another start of the machine");
        assert_eq!(left(Some(at("1", 700)), Some(&at("1", 9999))), 80, "nobody watched");
        assert_eq!(left(Some(at("1", 99_000)), Some(&at("1", 0))), 600, "never more than the bound");
        assert_eq!(left(None, Some(&at("1", 0))), 600);
        assert_eq!(left(Some(at("1", 700)), None), 600, "the clock cannot be read");
    }

    #[test]
    fn the_journal_is_corrected_when_it_is_far_off() {
        let close = |deadline, left| is_close(Some(&deadline), &at("1", 100), Duration::from_secs(left));
        assert!(close(at("1", 200), 100) && close(at("1", 200), 97) && close(at("1", 50), 0));
        assert!(!close(at("1", 200), 200), "the machine slept");
        assert!(!close(at("2", 200), 100) && !is_close(None, &at("1", 0), Duration::ZERO));
    }
}
