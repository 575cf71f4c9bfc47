//! Every metric that Outrider measures itself, with its name, unit and kind.
//!
//! Units are basic ones: bytes and nanoseconds, whatever the kernel counts in. Names do not change; a metric that must mean
//! something else gets another name.

use std::borrow::Cow;

use crate::model::{Kind, Metric, Unit};

macro_rules! metrics {
    ($($constant:ident = $name:literal $kind:ident $unit:ident : $doc:literal)*) => {
        $(#[doc = $doc] pub static $constant: Metric =
            Metric { name: Cow::Borrowed($name), unit: Unit::$unit, kind: Kind::$kind };)*

        /// All of them, each with what it is.
        pub static ALL: &[(&Metric, &str)] = &[$((&$constant, $doc)),*];
    };
}

metrics! {
    RUNNING = "container.running" Gauge Flag: "Whether it is there; the last sample of one that went says no."
    STARTED = "container.started" Gauge UnixSeconds: "When its first process started."

    CPU_USAGE = "container.cpu.usage" Counter Nanoseconds: "Processor time."
    CPU_USER = "container.cpu.user" Counter Nanoseconds: "Processor time in user mode."
    CPU_SYSTEM = "container.cpu.system" Counter Nanoseconds: "Processor time in the kernel."
    CPU_USED = "container.cpu.used" Gauge MilliCpu: "Processors in use since the sample before."
    CPU_LIMIT = "container.cpu.limit" Gauge MilliCpu: "The quota; absent where there is none."
    CPU_AVAILABLE = "container.cpu.available" Gauge One: "Processors it may run on."
    CPU_PERIODS = "container.cpu.periods" Counter One: "Periods of the quota that passed."
    CPU_THROTTLED_PERIODS = "container.cpu.throttled.periods" Counter One: "Periods in which it was held back."
    CPU_THROTTLED_TIME = "container.cpu.throttled.time" Counter Nanoseconds: "How long it was held back."

    MEMORY_USAGE = "container.memory.usage" Gauge Bytes: "All memory, caches included."
    MEMORY_RSS = "container.memory.rss" Gauge Bytes: "Anonymous and mapped memory."
    MEMORY_WORKING_SET = "container.memory.working_set" Gauge Bytes: "Usage without the inactive part of the page cache."
    MEMORY_LIMIT = "container.memory.limit" Gauge Bytes: "The hard limit; absent where there is none."
    MEMORY_HIGH = "container.memory.high" Gauge Bytes: "Where it is held back; absent where there is none."
    MEMORY_LOW = "container.memory.low" Gauge Bytes: "What is protected as far as possible."
    MEMORY_PEAK = "container.memory.peak" Gauge Bytes: "The most it ever used."
    MEMORY_ANON = "container.memory.anon" Gauge Bytes: "Anonymous memory."
    MEMORY_FILE = "container.memory.file" Gauge Bytes: "Page cache."
    MEMORY_MAPPED = "container.memory.mapped" Gauge Bytes: "Mapped files."
    MEMORY_SHMEM = "container.memory.shmem" Gauge Bytes: "Shared memory and tmpfs."
    MEMORY_KERNEL = "container.memory.kernel" Gauge Bytes: "Memory of the kernel."
    MEMORY_SLAB = "container.memory.slab" Gauge Bytes: "Slabs of the kernel."
    MEMORY_SOCK = "container.memory.sock" Gauge Bytes: "Buffers of the network."
    MEMORY_DIRTY = "container.memory.dirty" Gauge Bytes: "Page cache that waits to be written."
    MEMORY_WRITEBACK = "container.memory.writeback" Gauge Bytes: "Page cache that is being written."
    MEMORY_INACTIVE_FILE = "container.memory.inactive_file" Gauge Bytes: "Page cache that goes first."
    MEMORY_UNEVICTABLE = "container.memory.unevictable" Gauge Bytes: "Memory that cannot be reclaimed."
    MEMORY_FAULTS = "container.memory.faults" Counter One: "Page faults."
    MEMORY_MAJOR_FAULTS = "container.memory.major_faults" Counter One: "Page faults that read from a disk."
    MEMORY_REFAULTS = "container.memory.refaults" Counter One: "Pages that were reclaimed too early."
    MEMORY_SCANNED = "container.memory.scanned" Counter One: "Pages looked at to reclaim them."
    MEMORY_RECLAIMED = "container.memory.reclaimed" Counter One: "Pages reclaimed."
    MEMORY_LOW_EVENTS = "container.memory.events.low" Counter One: "Reclaimed though below its protection."
    MEMORY_HIGH_EVENTS = "container.memory.events.high" Counter One: "Held back at the high limit."
    MEMORY_MAX_EVENTS = "container.memory.events.max" Counter One: "Met the hard limit."
    MEMORY_OOM = "container.memory.events.oom" Counter One: "Out of memory."
    MEMORY_OOM_KILLS = "container.memory.events.oom_kill" Counter One: "Processes killed since memory was out."
    MEMORY_UNDER_OOM = "container.memory.under_oom" Gauge Flag: "Whether its tasks wait for memory now."
    SWAP_USAGE = "container.swap.usage" Gauge Bytes: "Memory that was swapped out."
    SWAP_LIMIT = "container.swap.limit" Gauge Bytes: "The limit of swap; absent where there is none."
    ZSWAP_USAGE = "container.zswap.usage" Gauge Bytes: "Memory of what is swapped to compressed memory."

    IO_READ_BYTES = "container.io.read.bytes" Counter Bytes: "Read from a device."
    IO_WRITE_BYTES = "container.io.write.bytes" Counter Bytes: "Written to a device."
    IO_DISCARD_BYTES = "container.io.discard.bytes" Counter Bytes: "Discarded on a device."
    IO_READS = "container.io.read.operations" Counter One: "Reads from a device."
    IO_WRITES = "container.io.write.operations" Counter One: "Writes to a device."
    IO_READ_RATE = "container.io.read.rate" Gauge BytesPerSecond: "Read from all devices since the sample before."
    IO_WRITE_RATE = "container.io.write.rate" Gauge BytesPerSecond: "Written to all devices since the sample before."
    IO_READ_IOPS = "container.io.read.iops" Gauge PerSecond: "Reads from all devices since the sample before."
    IO_WRITE_IOPS = "container.io.write.iops" Gauge PerSecond: "Writes to all devices since the sample before."

    PIDS = "container.pids.current" Gauge One: "Tasks."
    PIDS_LIMIT = "container.pids.limit" Gauge One: "The most tasks; absent where there is no limit."
    PIDS_LIMIT_HITS = "container.pids.limit_hits" Counter One: "Tasks that could not be made since the limit was reached."

    CPU_SOME = "container.pressure.cpu.some" Counter Nanoseconds: "How long a task waited for a processor."
    CPU_FULL = "container.pressure.cpu.full" Counter Nanoseconds: "How long all tasks waited for a processor."
    CPU_SOME_10 = "container.pressure.cpu.some.avg10" Gauge Percent: "Share of the last 10 s in which a task waited for a processor."
    MEMORY_SOME = "container.pressure.memory.some" Counter Nanoseconds: "How long a task waited for memory."
    MEMORY_FULL = "container.pressure.memory.full" Counter Nanoseconds: "How long all tasks waited for memory."
    MEMORY_SOME_10 = "container.pressure.memory.some.avg10" Gauge Percent: "Share of the last 10 s in which a task waited for memory."
    IO_SOME = "container.pressure.io.some" Counter Nanoseconds: "How long a task waited for a device."
    IO_FULL = "container.pressure.io.full" Counter Nanoseconds: "How long all tasks waited for a device."
    IO_SOME_10 = "container.pressure.io.some.avg10" Gauge Percent: "Share of the last 10 s in which a task waited for a device."

    HUGETLB_USAGE = "container.hugetlb.usage" Gauge Bytes: "Huge pages in use, by size."
    HUGETLB_LIMIT = "container.hugetlb.limit" Gauge Bytes: "The limit of huge pages; absent where there is none."
    HUGETLB_LIMIT_HITS = "container.hugetlb.limit_hits" Counter One: "Huge pages refused since the limit was reached."

    NETWORK_RECEIVED = "container.network.receive.bytes" Counter Bytes: "Received on an interface."
    NETWORK_RECEIVED_PACKETS = "container.network.receive.packets" Counter One: "Packets received on an interface."
    NETWORK_RECEIVED_ERRORS = "container.network.receive.errors" Counter One: "Faulty packets received on an interface."
    NETWORK_RECEIVED_DROPPED = "container.network.receive.dropped" Counter One: "Received packets that were dropped."
    NETWORK_SENT = "container.network.transmit.bytes" Counter Bytes: "Sent on an interface."
    NETWORK_SENT_PACKETS = "container.network.transmit.packets" Counter One: "Packets sent on an interface."
    NETWORK_SENT_ERRORS = "container.network.transmit.errors" Counter One: "Packets that could not be sent."
    NETWORK_SENT_DROPPED = "container.network.transmit.dropped" Counter One: "Packets dropped before they were sent."

    DISK_USAGE = "container.disk.usage" Gauge Bytes: "Used of the mounted file system, what is kept for root included."
    DISK_LIMIT = "container.disk.limit" Gauge Bytes: "The size of the mounted file system."

    PROCESS_CPU_USAGE = "process.cpu.usage" Counter Nanoseconds: "Processor time of a process."
    PROCESS_CPU_USED = "process.cpu.used" Gauge MilliCpu: "Processors a process used since the sample before."
    PROCESS_RSS = "process.memory.rss" Gauge Bytes: "Resident memory of a process."
    PROCESS_THREADS = "process.threads" Gauge One: "Threads of a process."
    PROCESS_STARTED = "process.started" Gauge UnixSeconds: "When a process started."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_metrics_have_one_name() {
        let names: std::collections::BTreeSet<_> = ALL.iter().map(|(metric, _)| &metric.name).collect();
        assert_eq!(names.len(), ALL.len());
    }
}
