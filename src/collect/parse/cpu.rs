//! Processor time, its quota, and where it may run: `cpu.stat`, `cpuacct.usage`, `cpuacct.stat`, `cpu.max`,
//! `cpuset.cpus.effective`.

use super::{Fault, Limit, digits, keyed, limit_word, single};

/// `cpu.stat` of either version, in nanoseconds. What a version does not write is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuStat {
    /// Processor time; v2 only.
    pub usage: Option<u64>,
    /// The same in user mode.
    pub user: Option<u64>,
    /// The same in the kernel.
    pub system: Option<u64>,
    /// Periods of the quota that passed; absent where no controller is.
    pub periods: Option<u64>,
    /// Periods in which it was held back.
    pub throttled_periods: Option<u64>,
    /// How long it was held back.
    pub throttled: Option<u64>,
}

/// `cpu.stat`. The two versions differ in their keys: `usage_usec`, `throttled_usec` of v2, `throttled_time` of v1.
///
/// # Errors
/// When a line is none of a key and a number, or neither version's first key is there.
pub fn cpu_stat(text: &str) -> Result<CpuStat, Fault> {
    let mut raw = (CpuStat::default(), None);
    keyed(text, &mut raw, |(stat, throttled_usec), key| {
        Some(match key {
            "usage_usec" => &mut stat.usage,
            "user_usec" => &mut stat.user,
            "system_usec" => &mut stat.system,
            "nr_periods" => &mut stat.periods,
            "nr_throttled" => &mut stat.throttled_periods,
            "throttled_usec" => throttled_usec,
            "throttled_time" => &mut stat.throttled,
            _ => return None,
        })
    })?;
    let (mut stat, throttled_usec) = raw;
    if stat.usage.is_none() && stat.periods.is_none() {
        return Err(Fault::Missing { key: "usage_usec" });
    }
    let nanos = |usec: u64| usec.saturating_mul(1000);
    stat.usage = stat.usage.map(nanos);
    stat.user = stat.user.map(nanos);
    stat.system = stat.system.map(nanos);
    stat.throttled = throttled_usec.map(nanos).or(stat.throttled);
    Ok(stat)
}

/// v1's `cpuacct.usage`: nanoseconds.
///
/// # Errors
/// When it is no whole number.
pub fn cpuacct_usage(text: &str) -> Result<u64, Fault> {
    super::number(text)
}

/// v1's `cpuacct.stat`, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuacctStat {
    /// Processor time in user mode.
    pub user: Option<u64>,
    /// Processor time in the kernel.
    pub system: Option<u64>,
}

/// v1's `cpuacct.stat`. The kernel counts in hundredths of a second, whatever it is built for.
///
/// # Errors
/// When a line is none of a key and a number, or a key is missing.
pub fn cpuacct_stat(text: &str) -> Result<CpuacctStat, Fault> {
    const TICK: u64 = 10_000_000;
    let mut stat = CpuacctStat::default();
    keyed(text, &mut stat, |stat, key| match key {
        "user" => Some(&mut stat.user),
        "system" => Some(&mut stat.system),
        _ => None,
    })?;
    let nanos =
        |key, ticks: Option<u64>| ticks.ok_or(Fault::Missing { key }).map(|it| it.saturating_mul(TICK));
    Ok(CpuacctStat { user: Some(nanos("user", stat.user)?), system: Some(nanos("system", stat.system)?) })
}

/// So much processor time in each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// In microseconds.
    pub quota: Limit,
    /// In microseconds.
    pub period: u64,
}

impl Quota {
    /// In thousandths of a processor; none where there is no limit.
    #[must_use]
    pub fn milli_cpu(self) -> Option<u64> {
        self.quota.at()?.saturating_mul(1000).checked_div(self.period)
    }
}

/// v2's `cpu.max`: the quota or `max`, and the period.
///
/// # Errors
/// When it is anything else.
pub fn cpu_max(text: &str) -> Result<Quota, Fault> {
    const EXPECTED: &str = "a quota or max, and a period";
    let line = single(text, EXPECTED)?;
    let quota = || {
        let (quota, period) = line.split_once(' ')?;
        Some(Quota { quota: limit_word(quota)?, period: digits(period)? })
    };
    quota().ok_or_else(|| Fault::line(1, EXPECTED, line))
}

/// The count of processors in a list such as `0-3,8`.
///
/// # Errors
/// When it is no such list.
pub fn cpu_count(text: &str) -> Result<u64, Fault> {
    const EXPECTED: &str = "a list of processors";
    let line = single(text, EXPECTED)?;
    let count = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        digits(last)?.checked_sub(digits(first)?)?.checked_add(1)
    };
    if line.is_empty() {
        return Ok(0);
    }
    line.split(',')
        .try_fold(0_u64, |sum, part| sum.checked_add(count(part)?))
        .ok_or_else(|| Fault::line(1, EXPECTED, line))
}
