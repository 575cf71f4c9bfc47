//! Which files of a cgroup are read, where they are in each version, and how often.
//!
//! # Invariants
//! - The table is the whole of it: a file that is not in it is never opened.
//! - What changes all the time and is cheap is read each cycle. `memory.stat` costs the kernel as much as all others
//!   together, pressure is averaged by the kernel every 2 s, and limits hardly change: each has an interval of its own.
//!   v1's counts of throttling are read with the limits as long as there is no quota, since they cannot change.

use std::borrow::Cow;
use std::time::Duration;

use crate::detect::{Controller, Layout, Place};
use crate::settings::Intervals;
use Controller::{Blkio, Cpu, Cpuacct, Cpuset, Hugetlb, Memory, Pids};

/// Files with one interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Read in each cycle.
    Each,
    /// What is waited for.
    Pressure,
    /// `memory.stat` and what else says of which kinds memory is.
    Details,
    /// Limits, peaks and what else hardly changes.
    Limits,
}

impl At {
    /// The controller's name in `cgroup.controllers`, for a file that the unified tree has only where it is in force.
    pub(crate) fn unified_controller(self) -> Option<&'static str> {
        match self {
            Self::V2(Blkio) => Some("io"),
            // Without its controller it still counts time.
            Self::V2(Cpu | Cpuacct) | Self::V1(_) | Self::Unified => None,
            Self::V2(controller) => Some(controller.v1_name()),
        }
    }
}

pub(crate) fn interval(intervals: &Intervals, group: Group) -> Duration {
    let seconds = match group {
        Group::Each => 0,
        Group::Pressure => intervals.pressure_s,
        Group::Details => intervals.details_s,
        Group::Limits => intervals.limits_s,
    };
    Duration::from_secs(seconds.into())
}

/// Whether what has an interval is due: once in each span of it, shifted by a phase of the cgroup's own, so that the
/// reads of many cgroups are spread over the interval. What is as fast as the cycles are is always due.
#[must_use]
pub fn due(interval: Duration, phase: u64, last: Option<Duration>, now: Duration) -> bool {
    let Some(last) = last else { return true };
    let every = interval.as_nanos();
    if every == 0 || every <= now.saturating_sub(last).as_nanos() {
        return true;
    }
    let span = |at: Duration| (at.as_nanos() + u128::from(phase) % every) / every;
    span(now) != span(last)
}

/// What a file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the metrics are")]
pub enum What {
    CpuStat,
    CpuacctUsage,
    CpuacctStat,
    CpuMax,
    CfsPeriod,
    CfsQuota,
    Cpus,
    MemoryUsage,
    MemoryStat,
    MemoryLimit,
    MemoryHigh,
    MemoryLow,
    MemoryPeak,
    MemoryEvents,
    MemoryFailures,
    OomControl,
    SwapUsage,
    SwapLimit,
    ZswapUsage,
    IoStat,
    BlkioBytes,
    BlkioOperations,
    Pids,
    PidsLimit,
    PidsEvents,
    CpuPressure,
    MemoryPressure,
    IoPressure,
    HugetlbUsage,
    HugetlbLimit,
    HugetlbEvents,
}

/// Where a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// With a controller that has a hierarchy of its own.
    V1(Controller),
    /// With a controller of the unified tree.
    V2(Controller),
    /// In the unified tree, whatever the controllers do.
    Unified,
}

/// A file of each cgroup.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) at: At,
    pub(crate) name: Cow<'static, str>,
    pub(crate) what: What,
    pub(crate) group: Group,
    /// Whether every kernel has it, so that it is told when it is not there.
    pub(crate) needed: bool,
    /// Of huge pages.
    pub(crate) size: Option<Box<str>>,
}

const YES: bool = true;
const NO: bool = false;

/// In the order in which they are read: a period before its quota, usage before what is subtracted of it.
const TABLE: &[(At, &str, What, Group, bool)] = &[
    // The unified tree counts time for whoever has no `cpuacct` of v1, with or without its own controller.
    (At::V2(Cpuacct), "cpu.stat", What::CpuStat, Group::Each, YES),
    (At::V1(Cpuacct), "cpuacct.usage", What::CpuacctUsage, Group::Each, YES),
    (At::V1(Cpu), "cpu.stat", What::CpuStat, Group::Each, YES),
    (At::V1(Cpuacct), "cpuacct.stat", What::CpuacctStat, Group::Details, NO),
    (At::V2(Memory), "memory.current", What::MemoryUsage, Group::Each, YES),
    (At::V1(Memory), "memory.usage_in_bytes", What::MemoryUsage, Group::Each, YES),
    (At::V2(Memory), "memory.events", What::MemoryEvents, Group::Each, YES),
    (At::V1(Memory), "memory.oom_control", What::OomControl, Group::Each, NO),
    (At::V2(Blkio), "io.stat", What::IoStat, Group::Each, NO),
    (At::V1(Blkio), "blkio.throttle.io_service_bytes_recursive", What::BlkioBytes, Group::Each, NO),
    (At::V1(Blkio), "blkio.throttle.io_serviced_recursive", What::BlkioOperations, Group::Each, NO),
    (At::V2(Pids), "pids.current", What::Pids, Group::Each, YES),
    (At::V1(Pids), "pids.current", What::Pids, Group::Each, YES),
    (At::Unified, "cpu.pressure", What::CpuPressure, Group::Pressure, NO),
    (At::Unified, "memory.pressure", What::MemoryPressure, Group::Pressure, NO),
    (At::Unified, "io.pressure", What::IoPressure, Group::Pressure, NO),
    (At::V2(Memory), "memory.stat", What::MemoryStat, Group::Details, YES),
    (At::V1(Memory), "memory.stat", What::MemoryStat, Group::Details, YES),
    (At::V2(Memory), "memory.swap.current", What::SwapUsage, Group::Details, NO),
    (At::V2(Memory), "memory.zswap.current", What::ZswapUsage, Group::Details, NO),
    (At::V2(Pids), "pids.events", What::PidsEvents, Group::Details, NO),
    (At::V1(Pids), "pids.events", What::PidsEvents, Group::Details, NO),
    (At::V1(Memory), "memory.failcnt", What::MemoryFailures, Group::Details, NO),
    (At::V2(Cpu), "cpu.max", What::CpuMax, Group::Limits, NO),
    (At::V1(Cpu), "cpu.cfs_period_us", What::CfsPeriod, Group::Limits, NO),
    (At::V1(Cpu), "cpu.cfs_quota_us", What::CfsQuota, Group::Limits, NO),
    (At::V2(Cpuset), "cpuset.cpus.effective", What::Cpus, Group::Limits, NO),
    (At::V1(Cpuset), "cpuset.effective_cpus", What::Cpus, Group::Limits, NO),
    (At::V2(Memory), "memory.max", What::MemoryLimit, Group::Limits, NO),
    (At::V1(Memory), "memory.limit_in_bytes", What::MemoryLimit, Group::Limits, NO),
    (At::V2(Memory), "memory.high", What::MemoryHigh, Group::Limits, NO),
    (At::V2(Memory), "memory.low", What::MemoryLow, Group::Limits, NO),
    (At::V2(Memory), "memory.peak", What::MemoryPeak, Group::Limits, NO),
    (At::V1(Memory), "memory.max_usage_in_bytes", What::MemoryPeak, Group::Limits, NO),
    (At::V2(Memory), "memory.swap.max", What::SwapLimit, Group::Limits, NO),
    (At::V2(Pids), "pids.max", What::PidsLimit, Group::Limits, NO),
    (At::V1(Pids), "pids.max", What::PidsLimit, Group::Limits, NO),
];

/// The files of a host: of the table those that its layout has, and those of its sizes of huge pages.
pub(crate) fn specs<'s>(layout: &Layout, sizes: impl IntoIterator<Item = &'s str>) -> Vec<Spec> {
    let has = |at| root(layout, at).is_some();
    let plain = TABLE.iter().filter(|row| has(row.0)).map(|row| {
        let &(at, name, what, group, needed) = row;
        Spec { at, name: Cow::Borrowed(name), what, group, needed, size: None }
    });
    let huge = sizes.into_iter().flat_map(|size| {
        [
            (At::V2(Hugetlb), "current", What::HugetlbUsage, Group::Details),
            (At::V1(Hugetlb), "usage_in_bytes", What::HugetlbUsage, Group::Details),
            (At::V2(Hugetlb), "max", What::HugetlbLimit, Group::Limits),
            (At::V1(Hugetlb), "limit_in_bytes", What::HugetlbLimit, Group::Limits),
            (At::V2(Hugetlb), "events", What::HugetlbEvents, Group::Details),
        ]
        .map(|(at, file, what, group)| {
            let name = Cow::Owned(format!("hugetlb.{size}.{file}"));
            Spec { at, name, what, group, needed: false, size: Some(size.into()) }
        })
    });
    plain.chain(huge.filter(|spec| has(spec.at))).collect()
}

/// The slowest group whose files may keep their descriptors: each group comes before the slower ones, and one that does
/// not fit as a whole is kept in part, before it nothing is left out.
pub(crate) fn kept(specs: &[Spec], cgroups: usize, descriptors: u64) -> Group {
    let fits = |group| {
        let files = specs.iter().filter(|it| it.group <= group).count();
        u64::try_from(files.saturating_mul(cgroups)).is_ok_and(|it| it <= descriptors)
    };
    [Group::Details, Group::Pressure].into_iter().find(|group| fits(*group)).unwrap_or(Group::Each)
}

/// The hierarchy in which a file is.
pub(crate) fn root(layout: &Layout, at: At) -> Option<&std::path::Path> {
    match at {
        At::Unified => layout.unified(),
        At::V1(controller) => match layout.place(controller)? {
            Place::V1(point) => Some(point),
            Place::V2(_) => None,
        },
        At::V2(controller) => match layout.place(controller)? {
            Place::V2(point) => Some(point),
            Place::V1(_) => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_go_to_what_is_read_most_often() {
        let layout = Layout::of_tree(std::path::Path::new("/b"), ["cgroup.controllers"]).unwrap();
        let specs = specs(&layout, []);
        let each = specs.iter().filter(|it| it.group == Group::Each).count() as u64;
        assert_eq!(kept(&specs, 10, 10 * each), Group::Each);
        assert_eq!(kept(&specs, 10, 10 * (each + 3)), Group::Pressure);
        assert_eq!(kept(&specs, 10, 1000), Group::Details);
        assert_eq!(kept(&specs, 10, 0), Group::Each);
    }

    #[test]
    fn a_group_is_due_once_in_its_interval_at_a_time_of_the_cgroups_own() {
        let second = Duration::from_secs(1);
        for phase in [0, 1_500_000_000, 4_999_999_999, u64::MAX] {
            let times = (0..100).filter(|at| {
                let now = second * 10 + second * *at;
                due(second * 5, phase, Some(now.saturating_sub(second)), now)
            });
            assert_eq!(times.count(), 20, "{phase}");
        }
        assert!(due(second * 5, 3, None, second), "the first time");
        assert!(due(second, 0, Some(second), second * 3), "slower cycles");
        let early = Duration::from_millis(999);
        assert!(due(Duration::ZERO, 0, Some(second), second + early), "each cycle, however short");
    }
}
