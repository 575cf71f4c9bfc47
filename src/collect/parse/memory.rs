//! Memory: `memory.stat`, `memory.events`, `memory.oom_control`.

use super::{Fault, keyed};

/// `memory.stat` of either version under the names of v2. What a kernel does not write is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the kernel's names, which its own documentation explains")]
pub struct MemoryStat {
    pub anon: Option<u64>,
    pub file: Option<u64>,
    pub file_mapped: Option<u64>,
    pub file_dirty: Option<u64>,
    pub file_writeback: Option<u64>,
    pub shmem: Option<u64>,
    pub kernel: Option<u64>,
    pub slab: Option<u64>,
    pub sock: Option<u64>,
    pub inactive_file: Option<u64>,
    pub unevictable: Option<u64>,
    pub swap: Option<u64>,
    pub pgfault: Option<u64>,
    pub pgmajfault: Option<u64>,
    pub pgscan: Option<u64>,
    pub pgsteal: Option<u64>,
    pub refault_anon: Option<u64>,
    pub refault_file: Option<u64>,
}

impl MemoryStat {
    /// Anonymous and mapped memory.
    #[must_use]
    pub fn rss(&self) -> Option<u64> {
        Some(self.anon?.saturating_add(self.file_mapped?))
    }
}

/// `memory.stat` of either version: `anon`, `file` and so on of v2; of v1 the sums over the whole subtree, `total_rss`,
/// `total_cache` and so on, as all of v2's are, or without `total_` where the hierarchy is not used.
///
/// # Errors
/// When a line is none of a key and a number, or neither `anon` nor `rss` is there.
pub fn memory_stat(text: &str) -> Result<MemoryStat, Fault> {
    let mut stat = MemoryStat::default();
    if text.starts_with("cache ") {
        keyed(text, &mut stat, v1_key)?;
    } else {
        keyed(text, &mut stat, v2_key)?;
    }
    if stat.anon.is_none() {
        return Err(Fault::Missing { key: "anon" });
    }
    Ok(stat)
}

fn v2_key<'t>(stat: &'t mut MemoryStat, key: &str) -> Option<&'t mut Option<u64>> {
    Some(match key {
        "anon" => &mut stat.anon,
        "file" => &mut stat.file,
        "kernel" => &mut stat.kernel,
        "sock" => &mut stat.sock,
        "shmem" => &mut stat.shmem,
        "file_mapped" => &mut stat.file_mapped,
        "file_dirty" => &mut stat.file_dirty,
        "file_writeback" => &mut stat.file_writeback,
        "inactive_file" => &mut stat.inactive_file,
        "unevictable" => &mut stat.unevictable,
        "slab" => &mut stat.slab,
        "workingset_refault_anon" => &mut stat.refault_anon,
        "workingset_refault_file" => &mut stat.refault_file,
        "pgscan" => &mut stat.pgscan,
        "pgsteal" => &mut stat.pgsteal,
        "pgfault" => &mut stat.pgfault,
        "pgmajfault" => &mut stat.pgmajfault,
        _ => return None,
    })
}

/// The sums come after the cgroup's own, and take their place.
fn v1_key<'t>(stat: &'t mut MemoryStat, key: &str) -> Option<&'t mut Option<u64>> {
    Some(match key.strip_prefix("total_").unwrap_or(key) {
        "rss" => &mut stat.anon,
        "cache" => &mut stat.file,
        "mapped_file" => &mut stat.file_mapped,
        "dirty" => &mut stat.file_dirty,
        "writeback" => &mut stat.file_writeback,
        "shmem" => &mut stat.shmem,
        "swap" => &mut stat.swap,
        "inactive_file" => &mut stat.inactive_file,
        "unevictable" => &mut stat.unevictable,
        "workingset_refault_anon" => &mut stat.refault_anon,
        "workingset_refault_file" => &mut stat.refault_file,
        "pgfault" => &mut stat.pgfault,
        "pgmajfault" => &mut stat.pgmajfault,
        _ => return None,
    })
}

/// v2's `memory.events` and `memory.events.local`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the kernel's names, which its own documentation explains")]
pub struct MemoryEvents {
    pub low: Option<u64>,
    pub high: Option<u64>,
    pub max: Option<u64>,
    pub oom: Option<u64>,
    pub oom_kill: Option<u64>,
}

/// v2's `memory.events` and `memory.events.local`.
///
/// # Errors
/// When a line is none of a key and a number, or `max` is missing.
pub fn memory_events(text: &str) -> Result<MemoryEvents, Fault> {
    let mut events = MemoryEvents::default();
    keyed(text, &mut events, |events, key| {
        Some(match key {
            "low" => &mut events.low,
            "high" => &mut events.high,
            "max" => &mut events.max,
            "oom" => &mut events.oom,
            "oom_kill" => &mut events.oom_kill,
            _ => return None,
        })
    })?;
    if events.max.is_none() { Err(Fault::Missing { key: "max" }) } else { Ok(events) }
}

/// v1's `memory.oom_control`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OomControl {
    /// Whether its tasks wait for memory now.
    pub under_oom: bool,
    /// Processes killed; since Linux 4.13.
    pub oom_kill: Option<u64>,
}

/// v1's `memory.oom_control`.
///
/// # Errors
/// When a line is none of a key and a number, or `under_oom` is missing.
pub fn oom_control(text: &str) -> Result<OomControl, Fault> {
    let mut raw = (None, None);
    keyed(text, &mut raw, |(under, kill), key| match key {
        "under_oom" => Some(under),
        "oom_kill" => Some(kill),
        _ => None,
    })?;
    let under_oom = raw.0.ok_or(Fault::Missing { key: "under_oom" })?;
    Ok(OomControl { under_oom: under_oom != 0, oom_kill: raw.1 })
}
