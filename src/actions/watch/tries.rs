//! Whether a service that does not run was stopped on purpose, told by the starts that are left to it.

use outrider_versions::{Record, TRIES};

use super::verdict::Observation;

/// The starts that were left while the service ran.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tries(u32);

impl Tries {
    pub(super) fn of(record: &Record) -> Self {
        Self(record.tries_left)
    }

    /// The service answers, and this was the record before.
    pub(super) fn answers(&mut self, record: &Record) {
        self.0 = record.tries_left;
    }

    /// Nobody has the root.
    pub(super) fn nobody(&mut self, record: &Record) -> Observation {
        let left = record.tries_left;
        if record.tried_in.is_none() {
            return Observation::NotStarted;
        }
        // A start after a restart of the machine costs no try, so one that is given back does not show.
        if left > self.0 || left >= TRIES {
            return Observation::Stopped;
        }
        self.0 = left;
        Observation::Gone
    }

    /// A process has the root, and does not answer.
    pub(super) fn silent(&mut self, record: &Record) {
        // It may be giving its start back just now.
        self.0 = self.0.min(record.tries_left);
    }
}

#[cfg(test)]
mod tests {
    use outrider_versions::BootId;

    use super::*;

    fn boot(text: &str) -> BootId {
        BootId(text.into())
    }

    fn record() -> Record {
        let name = |text: &str| text.parse().unwrap();
        Record::new("a".into(), String::new(), name("1-a"), name("2-b"))
    }

    #[test]
    fn a_stop_in_good_order_is_told_from_a_death() {
        let one = record().counted(&boot("1")).unwrap();
        let mut tries = Tries::of(&one);
        assert_eq!(tries.nobody(&one), Observation::Gone);
        assert_eq!(tries.nobody(&one.uncounted()), Observation::Stopped);
        let two = one.counted(&boot("1")).unwrap();
        tries.answers(&two);
        assert_eq!(tries.nobody(&two), Observation::Gone, "a second death");
        let three = two.counted(&boot("1")).unwrap();
        assert_eq!(tries.nobody(&three), Observation::Gone, "a death before it answered");
        assert_eq!(tries.nobody(&three.uncounted()), Observation::Stopped);
        tries.silent(&three.uncounted());
        assert_eq!(tries.nobody(&three.uncounted()), Observation::Stopped, "seen while it stopped");
    }

    #[test]
    fn what_was_never_started_was_not_stopped() {
        assert_eq!(Tries::of(&record()).nobody(&record()), Observation::NotStarted);
    }

    #[test]
    fn a_stop_after_a_restart_of_the_machine_is_one() {
        let stopped = record().counted(&boot("1")).unwrap().uncounted();
        let started = stopped.counted(&boot("2")).unwrap();
        let mut tries = Tries::of(&started);
        tries.answers(&started);
        assert_eq!(tries.nobody(&started.uncounted()), Observation::Stopped);
    }
}
