//! The message of mini-collector's protocol, as plain fields, filled from a sample.
//!
//! # Invariants
//! - A sample of a cgroup that is not there has `running` false and nothing else, as the original's.
//! - Sizes are cut to whole MiB and KiB, as the original's; unlimited is 0, and no longer 2^64 of anything.
//! - What is read at slower intervals keeps its last value in between.

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
        let before = before.filter(|it| it.running).copied().unwrap_or(unmeasured);
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
