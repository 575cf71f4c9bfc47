//! The message of mini-collector's protocol, as plain fields, filled from a sample.
//!
//! # Invariants
//! - A sample of a cgroup that is not there has `running` false and nothing else, as the original's; a container that was named
//!   has one each time for as long as it is not there.
//! - Sizes are cut to whole MiB and KiB, as the original's; unlimited is 0, and no longer 2^64 of anything.
//! - What is read at slower intervals keeps its last value in between. A round that read the limits says what they are
//!   now: one that it has no point of was lifted, and a disk that it has none of could not be measured.

use crate::catalogue::*;
use crate::model::{Metric, Sample};

/// The original's fields in the order of its protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the protocol's fields are")]
pub struct Entry {
    pub unix_time: i64,
    pub running: bool,
    pub milli_cpu_usage: u64,
    pub memory_total_mb: u64,
    pub memory_rss_mb: u64,
    pub memory_limit_mb: u64,
    /// -1 is 'not measured', here and below.
    pub disk_usage_mb: i64,
    pub disk_limit_mb: i64,
    pub disk_read_kbps: u64,
    pub disk_write_kbps: u64,
    pub disk_read_iops: u64,
    pub disk_write_iops: u64,
    pub pids_current: u64,
    pub pids_limit: u64,
    pub milli_cpu_limit: u64,
}

impl Entry {
    /// What a sample says, after what the samples of its source before it said.
    #[must_use]
    pub fn of(sample: &Sample, before: Option<&Self>) -> Self {
        let unix_time = sample.time.unix_seconds();
        if sample.number(&RUNNING).is_none_or(|it| it.as_f64() == 0.0) {
            return Self { unix_time, ..Self::default() };
        }
        let unmeasured = Self { disk_usage_mb: -1, disk_limit_mb: -1, ..Self::default() };
        let mut before = before.filter(|it| it.running).copied().unwrap_or(unmeasured);
        if WITH_LIMITS.iter().any(|it| sample.number(it).is_some()) {
            before = Self { memory_rss_mb: before.memory_rss_mb, ..unmeasured };
        }
        let whole = |metric: &Metric, unit: f64| {
            let number = sample.number(metric)?.as_f64() / unit;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "cut as the original's"
            )]
            Some(number.max(0.0) as u64)
        };
        let kept = |metric, unit, before| whole(metric, unit).unwrap_or(before);
        let signed = |metric, before| whole(metric, MIB).and_then(|it| it.try_into().ok()).unwrap_or(before);
        let now = |metric, unit| whole(metric, unit).unwrap_or_default();
        Self {
            unix_time,
            running: true,
            milli_cpu_usage: now(&CPU_USED, 1.0),
            memory_total_mb: now(&MEMORY_USAGE, MIB),
            memory_rss_mb: kept(&MEMORY_RSS, MIB, before.memory_rss_mb),
            memory_limit_mb: kept(&MEMORY_LIMIT, MIB, before.memory_limit_mb),
            disk_usage_mb: signed(&DISK_USAGE, before.disk_usage_mb),
            disk_limit_mb: signed(&DISK_LIMIT, before.disk_limit_mb),
            disk_read_kbps: now(&IO_READ_RATE, 1024.0),
            disk_write_kbps: now(&IO_WRITE_RATE, 1024.0),
            disk_read_iops: now(&IO_READ_IOPS, 1.0),
            disk_write_iops: now(&IO_WRITE_IOPS, 1.0),
            pids_current: now(&PIDS, 1.0),
            pids_limit: kept(&PIDS_LIMIT, 1.0, before.pids_limit),
            milli_cpu_limit: kept(&CPU_LIMIT, 1.0, before.milli_cpu_limit),
        }
    }
}

const MIB: f64 = 1_048_576.0;

/// What comes only of a round that read the limits, which is also one that measured the disk. Of each version there are
/// some that have a value whatever is unlimited: what is protected, the peak, the start.
static WITH_LIMITS: [&Metric; 9] = [
    &MEMORY_LOW,
    &MEMORY_PEAK,
    &STARTED,
    &CPU_AVAILABLE,
    &CPU_LIMIT,
    &MEMORY_LIMIT,
    &MEMORY_HIGH,
    &SWAP_LIMIT,
    &PIDS_LIMIT,
];

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{MetricRef, Number, Point, Source, Tags, Time};

    const MIBS: u64 = 1 << 20;

    fn sample(values: &[(&'static Metric, u64)]) -> Sample {
        let running = [(&RUNNING, 1)];
        let points = values.iter().chain(&running).map(|(metric, value)| Point {
            metric: MetricRef::Known(metric),
            tags: Tags::default(),
            number: Number::Unsigned(*value),
            start: None,
        });
        let source = Arc::new(Source { key: "a".into(), tags: Tags::default() });
        Sample { source, time: Time::from_unix_nanos(0), points: points.collect() }
    }

    fn full() -> Entry {
        Entry::of(
            &sample(&[
                (&MEMORY_RSS, 3 * MIBS),
                (&MEMORY_LIMIT, 64 * MIBS),
                (&PIDS_LIMIT, 50),
                (&CPU_LIMIT, 1500),
                (&DISK_USAGE, 5 * MIBS),
                (&DISK_LIMIT, 9 * MIBS),
            ]),
            None,
        )
    }

    fn slow(entry: &Entry) -> [u64; 4] {
        [entry.memory_rss_mb, entry.memory_limit_mb, entry.pids_limit, entry.milli_cpu_limit]
    }

    #[test]
    fn what_is_not_read_in_a_round_keeps_its_value() {
        let before = full();
        assert_eq!(slow(&before), [3, 64, 50, 1500]);
        let entry = Entry::of(&sample(&[(&MEMORY_USAGE, 7 * MIBS)]), Some(&before));
        assert_eq!(entry, Entry { memory_total_mb: 7, ..before });
    }

    #[test]
    fn a_round_that_read_the_limits_says_that_one_was_lifted() {
        for other in [&MEMORY_LOW, &MEMORY_PEAK, &STARTED, &CPU_AVAILABLE] {
            let entry = Entry::of(&sample(&[(other, 0), (&DISK_USAGE, MIBS)]), Some(&full()));
            assert_eq!(slow(&entry), [3, 0, 0, 0], "{}", other.name);
        }
        let entry = Entry::of(&sample(&[(&PIDS_LIMIT, 60)]), Some(&full()));
        assert_eq!(slow(&entry), [3, 0, 60, 0], "one limit came of a round that read all");
    }

    #[test]
    fn a_disk_that_cannot_be_measured_any_more_is_not_measured() {
        let entry = Entry::of(&sample(&[(&MEMORY_LOW, 0)]), Some(&full()));
        assert_eq!((entry.disk_usage_mb, entry.disk_limit_mb), (-1, -1));
        let entry = Entry::of(&sample(&[(&DISK_USAGE, 6 * MIBS), (&DISK_LIMIT, 9 * MIBS)]), Some(&full()));
        assert_eq!((entry.disk_usage_mb, entry.disk_limit_mb), (6, 9));
        assert_eq!(slow(&entry), slow(&full()), "the disk is measured more often than limits are read");
    }
}
