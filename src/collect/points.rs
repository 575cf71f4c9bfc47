//! From the text of a file to points: a pure function of (text, what was before, the moment).
//!
//! # Invariants
//! - A text is parsed to its end before it makes a point: a broken file makes none.
//! - Both versions make the same points of the same metrics.
//! - What is unlimited or was not said makes no point.

use crate::catalogue::*;
use crate::files::What;
use crate::labels::Labels;
use crate::model::{Metric, MetricRef, Moment, Number, Point, Tags, Time};
use crate::parse::{self, Device, Fault, IoBytes, IoStat, Limit, Pressure};
use crate::rates::{Counted, Counters, Grown};

/// What a source said before, for what comes of several files or of several times.
#[derive(Debug, Default)]
pub struct State {
    counters: Counters,
    /// Since when its counters count, where that is known.
    start: Option<Time>,
    memory_usage: Option<u64>,
    period: Option<u64>,
    unlimited: bool,
    swap_seen: bool,
}

impl State {
    /// Of a source whose counters count since a time, where that is known.
    #[must_use]
    pub fn since(start: Option<Time>) -> Self {
        Self { start, ..Self::default() }
    }

    /// Whether it is known to have no quota, so that it cannot be held back.
    pub(crate) fn is_unlimited(&self) -> bool {
        self.unlimited
    }
}

/// Takes points of one sample.
#[derive(Debug)]
pub struct Taker<'t> {
    /// Of the source.
    pub state: &'t mut State,
    /// Of all sources.
    pub labels: &'t mut Labels,
    /// When.
    pub moment: Moment,
    /// Where to.
    pub points: &'t mut Vec<Point>,
}

const NO_SERIES: u64 = 0;

impl Taker<'_> {
    /// Takes what a file says; `size` is that of a file of huge pages.
    ///
    /// # Errors
    /// When the text is not what such a file holds.
    pub fn file(&mut self, what: What, size: Option<&str>, text: &str) -> Result<(), Fault> {
        match what {
            What::CpuStat => self.cpu_stat(text)?,
            What::CpuacctUsage => self.usage(parse::cpuacct_usage(text)?),
            What::CpuacctStat => {
                let stat = parse::cpuacct_stat(text)?;
                self.counter(&CPU_USER, stat.user);
                self.counter(&CPU_SYSTEM, stat.system);
            }
            What::CpuMax => self.gauge(&CPU_LIMIT, parse::cpu_max(text)?.milli_cpu()),
            What::CfsPeriod => self.state.period = Some(parse::number(text)?),
            What::CfsQuota => {
                let quota = parse::limit(text)?;
                self.state.unlimited = quota == Limit::Unlimited;
                let quota = quota.at().zip(self.state.period);
                let milli = quota.and_then(|(quota, period)| quota.saturating_mul(1000).checked_div(period));
                self.gauge(&CPU_LIMIT, milli);
            }
            What::Cpus => self.gauge(&CPU_AVAILABLE, Some(parse::cpu_count(text)?)),
            What::MemoryUsage => {
                self.state.memory_usage = Some(parse::number(text)?);
                self.gauge(&MEMORY_USAGE, self.state.memory_usage);
            }
            What::MemoryStat => self.memory_stat(text)?,
            What::MemoryEvents => self.memory_events(text)?,
            What::OomControl => {
                let control = parse::oom_control(text)?;
                self.push(&MEMORY_UNDER_OOM, Number::Flag(control.under_oom));
                self.counter(&MEMORY_OOM_KILLS, control.oom_kill);
            }
            What::MemoryFailures => self.counter(&MEMORY_MAX_EVENTS, Some(parse::number(text)?)),
            What::MemoryPeak => self.gauge(&MEMORY_PEAK, Some(parse::number(text)?)),
            What::MemoryLow => self.gauge(&MEMORY_LOW, parse::limit(text)?.at()),
            What::MemoryLimit => self.limit(&MEMORY_LIMIT, parse::limit(text)?),
            What::MemoryHigh => self.limit(&MEMORY_HIGH, parse::limit(text)?),
            What::SwapLimit => self.limit(&SWAP_LIMIT, parse::limit(text)?),
            What::SwapUsage => {
                self.state.swap_seen = true;
                self.gauge(&SWAP_USAGE, Some(parse::number(text)?));
            }
            What::ZswapUsage => self.gauge(&ZSWAP_USAGE, Some(parse::number(text)?)),
            What::IoStat => self.io_stat(text)?,
            What::BlkioBytes => self.blkio(text, Io::Bytes)?,
            What::BlkioOperations => self.blkio(text, Io::Operations)?,
            What::Pids => self.gauge(&PIDS, Some(parse::number(text)?)),
            What::PidsLimit => self.limit(&PIDS_LIMIT, parse::limit(text)?),
            What::PidsEvents => self.counter(&PIDS_LIMIT_HITS, Some(parse::limit_hits(text)?)),
            What::CpuPressure => self.pressure(parse::pressure(text)?, [&CPU_SOME, &CPU_FULL, &CPU_SOME_10]),
            What::MemoryPressure => {
                self.pressure(parse::pressure(text)?, [&MEMORY_SOME, &MEMORY_FULL, &MEMORY_SOME_10]);
            }
            What::IoPressure => self.pressure(parse::pressure(text)?, [&IO_SOME, &IO_FULL, &IO_SOME_10]),
            What::HugetlbUsage | What::HugetlbLimit | What::HugetlbEvents => {
                self.hugetlb(what, size.unwrap_or_default(), text)?;
            }
        }
        Ok(())
    }

    fn cpu_stat(&mut self, text: &str) -> Result<(), Fault> {
        let stat = parse::cpu_stat(text)?;
        if let Some(usage) = stat.usage {
            self.usage(usage);
        }
        self.counter(&CPU_USER, stat.user);
        self.counter(&CPU_SYSTEM, stat.system);
        self.counter(&CPU_PERIODS, stat.periods);
        self.counter(&CPU_THROTTLED_PERIODS, stat.throttled_periods);
        self.counter(&CPU_THROTTLED_TIME, stat.throttled);
        Ok(())
    }

    /// Nanoseconds a second are millionths of thousandths of a processor.
    fn usage(&mut self, nanos: u64) {
        let grown = self.count(&CPU_USAGE, NO_SERIES, Tags::default(), nanos);
        self.rate(&CPU_USED, grown.rate.map(|it| it / 1e6));
    }

    fn memory_stat(&mut self, text: &str) -> Result<(), Fault> {
        let stat = parse::memory_stat(text)?;
        self.gauge(&MEMORY_RSS, stat.rss());
        let inactive = self.state.memory_usage.zip(stat.inactive_file);
        self.gauge(&MEMORY_WORKING_SET, inactive.map(|(usage, inactive)| usage.saturating_sub(inactive)));
        for (metric, value) in [
            (&MEMORY_ANON, stat.anon),
            (&MEMORY_FILE, stat.file),
            (&MEMORY_MAPPED, stat.file_mapped),
            (&MEMORY_SHMEM, stat.shmem),
            (&MEMORY_KERNEL, stat.kernel),
            (&MEMORY_SLAB, stat.slab),
            (&MEMORY_SOCK, stat.sock),
            (&MEMORY_DIRTY, stat.file_dirty),
            (&MEMORY_WRITEBACK, stat.file_writeback),
            (&MEMORY_INACTIVE_FILE, stat.inactive_file),
            (&MEMORY_UNEVICTABLE, stat.unevictable),
        ] {
            self.gauge(metric, value);
        }
        if !self.state.swap_seen {
            self.gauge(&SWAP_USAGE, stat.swap);
        }
        let refaults = stat.refault_anon.zip(stat.refault_file).map(|(anon, file)| anon.saturating_add(file));
        self.counter(&MEMORY_FAULTS, stat.pgfault);
        self.counter(&MEMORY_MAJOR_FAULTS, stat.pgmajfault);
        self.counter(&MEMORY_REFAULTS, refaults);
        self.counter(&MEMORY_SCANNED, stat.pgscan);
        self.counter(&MEMORY_RECLAIMED, stat.pgsteal);
        Ok(())
    }

    fn memory_events(&mut self, text: &str) -> Result<(), Fault> {
        let events = parse::memory_events(text)?;
        self.counter(&MEMORY_LOW_EVENTS, events.low);
        self.counter(&MEMORY_HIGH_EVENTS, events.high);
        self.counter(&MEMORY_MAX_EVENTS, events.max);
        self.counter(&MEMORY_OOM, events.oom);
        self.counter(&MEMORY_OOM_KILLS, events.oom_kill);
        Ok(())
    }

    fn pressure(&mut self, pressure: Pressure, [some, full, some_10]: [&'static Metric; 3]) {
        self.counter(some, Some(pressure.some.total));
        self.counter(full, pressure.full.map(|it| it.total));
        self.rate(some_10, Some(pressure.some.avg10));
    }

    fn io_stat(&mut self, text: &str) -> Result<(), Fault> {
        self.devices(|found| parse::io_stat(text, found), &[Io::Bytes, Io::Operations])
    }

    /// A file of v1 says one of the two.
    fn blkio(&mut self, text: &str, of: Io) -> Result<(), Fault> {
        let stat = |io| match of {
            Io::Bytes => IoStat { bytes: io, operations: IoBytes::default() },
            Io::Operations => IoStat { bytes: IoBytes::default(), operations: io },
        };
        self.devices(|found| parse::blkio(text, |device, io| found(device, stat(io))), &[of])
    }

    /// Takes what a file says of devices once it is parsed to its end.
    fn devices(
        &mut self,
        parse: impl FnOnce(&mut dyn FnMut(Device, IoStat)) -> Result<(), Fault>,
        wanted: &[Io],
    ) -> Result<(), Fault> {
        let mut found = std::mem::take(&mut self.labels.found);
        found.clear();
        let parsed = parse(&mut |device, stat| found.push((device, stat)));
        if parsed.is_ok() {
            for of in wanted {
                self.io(*of, found.iter().map(|(device, stat)| (*device, of.part(stat))));
            }
        }
        self.labels.found = found;
        parsed
    }

    /// Counters by device, and the rate over all of them once there is one to tell.
    fn io(&mut self, of: Io, devices: impl Iterator<Item = (Device, IoBytes)>) {
        let (read, write, read_rate, write_rate) = match of {
            Io::Bytes => (&IO_READ_BYTES, &IO_WRITE_BYTES, &IO_READ_RATE, &IO_WRITE_RATE),
            Io::Operations => (&IO_READS, &IO_WRITES, &IO_READ_IOPS, &IO_WRITE_IOPS),
        };
        let mut rates: (Option<f64>, Option<f64>) = (None, None);
        let add = |sum: &mut Option<f64>, grown: Grown| {
            if let Some(rate) = grown.rate {
                *sum = Some(sum.unwrap_or_default() + rate);
            }
        };
        for (device, io) in devices {
            let series = u64::from(device.major) << 32 | u64::from(device.minor);
            let tags = self.labels.of_device(device);
            add(&mut rates.0, self.count(read, series, tags.clone(), io.read));
            add(&mut rates.1, self.count(write, series, tags.clone(), io.write));
            if of == Io::Bytes && io.discard > 0 {
                self.count(&IO_DISCARD_BYTES, series, tags, io.discard);
            }
        }
        self.rate(read_rate, rates.0);
        self.rate(write_rate, rates.1);
    }

    fn hugetlb(&mut self, what: What, size: &str, text: &str) -> Result<(), Fault> {
        let (series, tags) = self.labels.named("size", size);
        let (metric, number) = match what {
            What::HugetlbUsage => (&HUGETLB_USAGE, parse::number(text)?),
            What::HugetlbLimit => match parse::limit(text)?.at() {
                Some(limit) => (&HUGETLB_LIMIT, limit),
                None => return Ok(()),
            },
            _ => {
                let hits = parse::limit_hits(text)?;
                self.count(&HUGETLB_LIMIT_HITS, series, tags, hits);
                return Ok(());
            }
        };
        let number = Number::Unsigned(number);
        self.points.push(Point { metric: MetricRef::Known(metric), tags, number, start: None });
        Ok(())
    }

    /// Takes the interfaces of a namespace; its loopback leads nowhere, and is left out.
    ///
    /// # Errors
    /// When the text is no `/proc/PID/net/dev`.
    pub fn network(&mut self, text: &str) -> Result<(), Fault> {
        let all = parse::net_dev(text).collect::<Result<Vec<_>, _>>()?;
        for it in all.into_iter().filter(|it| it.name != "lo") {
            let (series, tags) = self.labels.named("interface", it.name);
            for (metric, value) in [
                (&NETWORK_RECEIVED, it.received_bytes),
                (&NETWORK_RECEIVED_PACKETS, it.received_packets),
                (&NETWORK_RECEIVED_ERRORS, it.received_errors),
                (&NETWORK_RECEIVED_DROPPED, it.received_dropped),
                (&NETWORK_SENT, it.sent_bytes),
                (&NETWORK_SENT_PACKETS, it.sent_packets),
                (&NETWORK_SENT_ERRORS, it.sent_errors),
                (&NETWORK_SENT_DROPPED, it.sent_dropped),
            ] {
                self.count(metric, series, tags.clone(), value);
            }
        }
        Ok(())
    }

    pub(crate) fn push(&mut self, metric: &'static Metric, number: Number) {
        let tags = Tags::default();
        self.points.push(Point { metric: MetricRef::Known(metric), tags, number, start: None });
    }

    pub(crate) fn gauge(&mut self, metric: &'static Metric, value: Option<u64>) {
        if let Some(value) = value {
            self.push(metric, Number::Unsigned(value));
        }
    }

    fn limit(&mut self, metric: &'static Metric, limit: Limit) {
        self.gauge(metric, limit.at());
    }

    pub(crate) fn rate(&mut self, metric: &'static Metric, rate: Option<f64>) {
        if let Some(number) = rate.and_then(Number::float) {
            self.push(metric, number);
        }
    }

    fn counter(&mut self, metric: &'static Metric, value: Option<u64>) {
        if let Some(value) = value {
            self.count(metric, NO_SERIES, Tags::default(), value);
        }
    }

    pub(crate) fn count(&mut self, metric: &'static Metric, series: u64, tags: Tags, value: u64) -> Grown {
        let now = Counted { value, at: self.moment.monotonic };
        let grown = self.state.counters.take((metric, series), now, self.moment.wall, self.state.start);
        let (metric, number) = (MetricRef::Known(metric), Number::Unsigned(value));
        self.points.push(Point { metric, tags, number, start: grown.start });
        grown
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Io {
    Bytes,
    Operations,
}

impl Io {
    fn part(self, stat: &IoStat) -> IoBytes {
        match self {
            Self::Bytes => stat.bytes,
            Self::Operations => stat.operations,
        }
    }
}
