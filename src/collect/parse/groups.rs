//! The rest of a cgroup's files: its processes, its controllers, its events, tasks and huge pages.

use super::{Fault, Limit, digits, keyed, lines};

/// v2's `cgroup.events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CgroupEvents {
    /// Whether there is a process in it or below.
    pub populated: bool,
    /// Whether it is frozen.
    pub frozen: bool,
}

/// v2's `cgroup.events`.
///
/// # Errors
/// When a line is none of a key and a number, or `populated` is missing.
pub fn cgroup_events(text: &str) -> Result<CgroupEvents, Fault> {
    let mut raw = (None, None);
    keyed(text, &mut raw, |(populated, frozen), key| match key {
        "populated" => Some(populated),
        "frozen" => Some(frozen),
        _ => None,
    })?;
    let populated = raw.0.ok_or(Fault::Missing { key: "populated" })?;
    Ok(CgroupEvents { populated: populated != 0, frozen: raw.1.is_some_and(|it| it != 0) })
}

/// The words of `cgroup.controllers`.
pub fn controllers(text: &str) -> impl Iterator<Item = &str> {
    text.split_ascii_whitespace()
}

/// The process numbers of `cgroup.procs`. A process of another namespace of processes is written as 0, and passed.
///
/// # Errors
/// In each line that is no number.
pub fn cgroup_procs(text: &str) -> impl Iterator<Item = Result<u32, Fault>> {
    let pid = |line: Result<(usize, &str), Fault>| {
        let (at, line) = line?;
        let number = digits(line).and_then(|it| u32::try_from(it).ok());
        number.ok_or_else(|| Fault::line(at, "the number of a process", line))
    };
    lines(text).map(pid).filter(|pid| *pid != Ok(0))
}

/// `pids.events`, `hugetlb.*.events`: how often `max` was met.
///
/// # Errors
/// When a line is none of a key and a number, or `max` is missing.
pub fn limit_hits(text: &str) -> Result<u64, Fault> {
    let mut hits = None;
    keyed(text, &mut hits, |hits, key| (key == "max").then_some(hits))?;
    hits.ok_or(Fault::Missing { key: "max" })
}

/// Huge pages of one size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hugetlb {
    /// Bytes in use.
    pub current: Option<u64>,
    /// The most of them.
    pub limit: Option<Limit>,
    /// How often the limit was met.
    pub hits: Option<u64>,
}

/// The size in the name of a file that says how many huge pages are in use: `2MB` of `hugetlb.2MB.current`, and of v1's
/// `hugetlb.2MB.usage_in_bytes`. None of any other file.
#[must_use]
pub fn hugetlb_size(file: &str) -> Option<&str> {
    let (size, what) = file.strip_prefix("hugetlb.")?.split_once('.')?;
    matches!(what, "current" | "usage_in_bytes").then_some(size)
}
