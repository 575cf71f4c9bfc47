//! The kernel's texts, read without copying: one function a format, from `&str` to plain numbers.
//!
//! # Invariants
//! - No I/O, no clock, no panic, whatever the text is.
//! - Keys are looked up by name: kernels add some (47 keys of `memory.stat` on 6.1, 71 on 7.2), and no order is relied upon.
//! - A text that is cut off or is none of the kernel's gives a [`Fault`], never a number that is only almost right: a
//!   number ends where its line ends, so each value's line has to be whole.
//! - `max`, and cgroup v1's rounded 2^63 - 1, are [`Limit::Unlimited`].

mod cpu;
mod devices;
mod groups;
mod memory;
mod mounts;
mod pressure;
mod process;
#[cfg(test)]
mod tests;

pub use cpu::{CpuStat, CpuacctStat, Quota, cpu_count, cpu_max, cpu_stat, cpuacct_stat, cpuacct_usage};
pub use devices::{Device, IoBytes, IoStat, blkio, io_stat};
pub use groups::{CgroupEvents, Hugetlb, cgroup_events, cgroup_procs, controllers, hugetlb_size, limit_hits};
pub use memory::{MemoryEvents, MemoryStat, OomControl, memory_events, memory_stat, oom_control};
pub use mounts::{Membership, Mount, memberships, mounts};
pub use pressure::{Pressure, Stall, pressure};
pub use process::{Interface, ProcessStat, TICKS, boot_time, net_dev, process_stat};

/// What is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nothing where a value has to be.
    #[error("it is empty, and {expected} was expected")]
    Empty {
        /// What should be there.
        expected: &'static str,
    },
    /// A line of another form.
    #[error("line {line} is {found:?}, and {expected} was expected")]
    Line {
        /// From 1.
        line: usize,
        /// What should be there.
        expected: &'static str,
        /// The beginning of what is there.
        found: Box<str>,
    },
    /// A key that every kernel writes.
    #[error("it has no line {key:?}")]
    Missing {
        /// Its name.
        key: &'static str,
    },
    /// Bytes that are no text.
    #[error("it is no text: byte {at} is not of UTF-8")]
    Binary {
        /// From 0.
        at: usize,
    },
}

impl Fault {
    /// Of a line, which is quoted up to a length.
    pub(crate) fn line(line: usize, expected: &'static str, found: &str) -> Self {
        const QUOTED: usize = 60;
        Self::Line { line, expected, found: found.chars().take(QUOTED).collect() }
    }
}

/// A limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// None.
    Unlimited,
    /// At this number.
    At(u64),
}

impl Limit {
    /// The number, where there is one.
    #[must_use]
    pub fn at(self) -> Option<u64> {
        match self {
            Self::Unlimited => None,
            Self::At(value) => Some(value),
        }
    }
}

/// Cgroup v1 writes 'unlimited' as 2^63 - 1, rounded down to whole pages of up to 64 KiB.
const UNLIMITED_FROM: u64 = (i64::MAX as u64) & !0xffff;

/// A file of one whole number.
///
/// # Errors
/// When it is anything else.
pub fn number(text: &str) -> Result<u64, Fault> {
    digits(single(text, "a whole number")?).ok_or_else(|| Fault::line(1, "a whole number", text))
}

/// A file of one number or `max`.
///
/// # Errors
/// When it is anything else.
pub fn limit(text: &str) -> Result<Limit, Fault> {
    let value = single(text, "a whole number or max")?;
    limit_word(value).ok_or_else(|| Fault::line(1, "a whole number or max", text))
}

pub(crate) fn limit_word(word: &str) -> Option<Limit> {
    if word == "max" || word == "-1" {
        return Some(Limit::Unlimited);
    }
    let value = digits(word)?;
    Some(if value >= UNLIMITED_FROM { Limit::Unlimited } else { Limit::At(value) })
}

/// The one line of a text, whole.
pub(crate) fn single<'a>(text: &'a str, expected: &'static str) -> Result<&'a str, Fault> {
    match text.strip_suffix('\n') {
        _ if text.is_empty() => Err(Fault::Empty { expected }),
        Some(line) if !line.contains('\n') => Ok(line),
        _ => Err(Fault::line(1, expected, text)),
    }
}

/// Nothing but digits, and not too many; quicker than the standard library's, which takes a sign as well.
pub(crate) fn digits(text: &str) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    text.bytes().try_fold(0_u64, |sum, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 { None } else { sum.checked_mul(10)?.checked_add(u64::from(digit)) }
    })
}

/// Lines with their numbers from 1. The last one has to end as well: the kernel writes whole lines, so that a missing end
/// means a missing part.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = Result<(usize, &str), Fault>> {
    let mut rest = text;
    let mut at = 0;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        at += 1;
        let Some(end) = rest.bytes().position(|byte| byte == b'\n') else {
            let torn = std::mem::take(&mut rest);
            return Some(Err(Fault::line(at, "a line with its end", torn)));
        };
        let line = &rest[..end];
        rest = &rest[end + 1..];
        Some(Ok((at, line)))
    })
}

/// Lines of a key and a number. `slot` says where a key's number belongs, if anywhere; the others are not looked at.
pub(crate) fn keyed<T>(
    text: &str,
    into: &mut T,
    slot: impl for<'t> Fn(&'t mut T, &str) -> Option<&'t mut Option<u64>>,
) -> Result<(), Fault> {
    const EXPECTED: &str = "a key and a whole number";
    for line in lines(text) {
        let (at, line) = line?;
        let Some((key, value)) = line.split_once(' ') else { return Err(Fault::line(at, EXPECTED, line)) };
        if let Some(slot) = slot(into, key) {
            *slot = Some(digits(value).ok_or_else(|| Fault::line(at, EXPECTED, line))?);
        }
    }
    Ok(())
}
