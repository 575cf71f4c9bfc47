//! From samples to what an output takes: pure functions from a batch to bytes, one module a protocol.
//!
//! # Invariants
//! - Every body keeps its protocol's limits: what is too large is split, and a batch of any size is encoded whole.
//! - A body says how many points are in it; the sum over a batch's bodies is the batch's.
//! - Names and tags from outside cannot break out of their place: each protocol's own characters are escaped or replaced.
//! - An event counts as its numbers and flags, and as one point where it has none. What takes points gets an event's numbers
//!   as gauges, under the names of their fields behind the event's.
//! - No network, no clock, no state: what needs the batch before (differences of counters) is not made here, so that a body
//!   may be sent twice.

mod events;

pub mod bulk;
pub mod datadog;
pub mod influx;
pub mod json_lines;
pub mod otlp;
pub mod remote_write;
pub mod statsd;
#[cfg(test)]
mod tests;

pub use self::events::{as_samples, event_points};
use crate::model::{Sample, Tag, Unit};

/// What is sent at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// As it goes out.
    pub bytes: Vec<u8>,
    /// How many points it holds.
    pub points: usize,
    /// The parts that its receiver judges one by one; none where it judges the whole.
    pub parts: Vec<Part>,
}

/// A part of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Where it ends.
    pub end: usize,
    /// How many points it holds.
    pub points: usize,
}

impl Body {
    /// One that is judged as a whole.
    #[must_use]
    pub fn whole(bytes: Vec<u8>, points: usize) -> Self {
        Self { bytes, points, parts: Vec::new() }
    }
}

/// Points of a batch.
#[must_use]
pub fn points(batch: &[Sample]) -> usize {
    batch.iter().map(|it| it.points.len()).sum()
}

/// A unit as UCUM and OpenTelemetry write it.
#[must_use]
pub fn ucum(unit: Unit) -> &'static str {
    match unit {
        Unit::One | Unit::Flag => "1",
        Unit::Bytes => "By",
        Unit::Nanoseconds => "ns",
        Unit::UnixSeconds => "s",
        Unit::MilliCpu => "m{cpu}",
        Unit::Percent => "%",
        Unit::BytesPerSecond => "By/s",
        Unit::PerSecond => "1/s",
    }
}

/// The tags of a source and of one of its points, each name once: a point's own wins.
fn tags<'s>(sample: &'s Sample, point: &'s crate::model::Tags) -> impl Iterator<Item = &'s Tag> {
    sample.source.tags.iter().filter(|it| point.get(&it.name).is_none()).chain(point)
}
