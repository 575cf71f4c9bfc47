//! Samples and events as the messages of link D, and back.
//!
//! # Invariants
//! - The messages are what `schemas/*.proto` says: the generated code is committed, and a test makes it anew.
//! - What comes from outside is bounded and checked before it is believed: [`read`] answers samples that keep what
//!   [`crate::model`] promises, or an error that names the place.
//! - What [`batch`] makes, [`read`] takes, and nothing of it is lost.

pub mod generated;
pub mod publish;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use generated::collect as proto;

use crate::model::{Event, Kind, Metric, MetricRef, Number, Point, Sample, Source, Tags, Time, Unit};

/// The largest message of link D, in bytes: what a batch of 20,000 points takes, with room.
pub const MESSAGE_BYTES: usize = 2 << 20;
/// The longest name of a metric, tag, source or collector, in bytes.
const NAME_BYTES: usize = 512;
/// The longest value of a tag, in bytes.
const VALUE_BYTES: usize = 4096;
/// The most tags in one place.
const TAGS: usize = 128;

/// A message that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// No message at all.
    #[error("read a batch: the bytes are no such message ({0})")]
    Broken(String),
    /// A text that is too long, or not there.
    #[error("read a batch: {what} has {found} bytes; expected 1 to {most}")]
    Length {
        /// Which.
        what: &'static str,
        /// How long it is.
        found: usize,
        /// How long it may be.
        most: usize,
    },
    /// Too many tags.
    #[error("read a batch: {0} tags in one place; expected at most {TAGS}")]
    Tags(usize),
    /// A point of a metric that is not in the batch.
    #[error("read a batch: a point is of metric {found}, of {metrics} that are in it")]
    Metric {
        /// Its index.
        found: u32,
        /// How many there are.
        metrics: usize,
    },
    /// A point that has no number, or none that is finite.
    #[error("read a batch: a point of {0:?} has no number, or one that is not finite")]
    Number(String),
    /// No such unit.
    #[error("read a batch: the metric {0:?} has a unit that is not known; is the sender newer?")]
    Unit(String),
    /// No source.
    #[error("read a batch: a sample or event has no source")]
    Source,
    /// Fields that are no object.
    #[error("read a batch: the fields of an event of {0:?} are no object of JSON")]
    Fields(String),
    /// A sequence of 0.
    #[error("read a batch: it has no sequence; expected one from 1")]
    Sequence,
}

/// Of one batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Contents {
    /// What was measured.
    pub samples: Vec<Sample>,
    /// What APIs said.
    pub events: Vec<Event>,
}

impl Contents {
    /// Its points, those of its events included.
    #[must_use]
    pub fn count(&self) -> usize {
        let events = self.events.iter().map(crate::encode::event_points);
        crate::encode::points(&self.samples) + events.sum::<usize>()
    }
}

/// A message of samples and events.
#[must_use]
pub fn batch(collector: &str, sequence: u64, samples: &[Sample], events: &[Event]) -> proto::Batch {
    let mut metrics = Metrics::default();
    let samples = samples.iter().map(|it| sample(it, &mut metrics)).collect();
    let events = events.iter().map(event).collect();
    proto::Batch { collector: collector.to_owned(), sequence, metrics: metrics.all, samples, events }
}

/// What a message says.
///
/// # Errors
/// When it says something that cannot be.
pub fn read(batch: proto::Batch) -> Result<Contents, WireError> {
    let metrics: Vec<_> = batch.metrics.into_iter().map(read_metric).collect::<Result<_, _>>()?;
    let samples = batch.samples.into_iter().map(|it| read_sample(it, &metrics)).collect::<Result<_, _>>()?;
    let events = batch.events.into_iter().map(read_event).collect::<Result<_, _>>()?;
    Ok(Contents { samples, events })
}

/// Who sent a batch, and which of theirs it is.
///
/// # Errors
/// When it does not say so.
pub fn origin(batch: &proto::Batch) -> Result<(String, u64), WireError> {
    bounded("the collector", &batch.collector, NAME_BYTES)?;
    if batch.sequence == 0 { Err(WireError::Sequence) } else { Ok((batch.collector.clone(), batch.sequence)) }
}

#[derive(Default)]
struct Metrics {
    all: Vec<proto::Metric>,
    places: HashMap<Metric, u32>,
}

impl Metrics {
    fn place(&mut self, metric: &Metric) -> u32 {
        if let Some(place) = self.places.get(metric) {
            return *place;
        }
        let place = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.places.insert(metric.clone(), place);
        let (name, counter) = (metric.name.to_string(), metric.kind == Kind::Counter);
        self.all.push(proto::Metric { name, unit: unit(metric.unit).into(), counter });
        place
    }
}

fn sample(sample: &Sample, metrics: &mut Metrics) -> proto::Sample {
    let points = sample.points.iter().map(|it| proto::Point {
        metric: metrics.place(&it.metric),
        tags: tags(&it.tags),
        number: Some(match it.number {
            Number::Unsigned(value) => proto::point::Number::Unsigned(value),
            Number::Signed(value) => proto::point::Number::Signed(value),
            Number::Float(value) => proto::point::Number::Float(value),
            Number::Flag(value) => proto::point::Number::Flag(value),
        }),
        start: it.start.map(Time::unix_nanos),
    });
    proto::Sample {
        points: points.collect(),
        source: Some(source(&sample.source)),
        time: sample.time.unix_nanos(),
    }
}

fn event(event: &Event) -> proto::Event {
    proto::Event {
        source: Some(source(&event.source)),
        name: event.name.to_string(),
        time: event.time.unix_nanos(),
        // An object of texts, numbers and the like is always written.
        fields: serde_json::to_vec(&event.fields).unwrap_or_default(),
    }
}

fn source(source: &Source) -> proto::Source {
    proto::Source { key: source.key.to_string(), tags: tags(&source.tags) }
}

fn tags(tags: &Tags) -> Vec<proto::Tag> {
    let tags = tags.iter();
    tags.map(|it| proto::Tag { name: it.name.to_string(), value: it.value.to_string() }).collect()
}

fn unit(unit: Unit) -> proto::Unit {
    match unit {
        Unit::One => proto::Unit::One,
        Unit::Flag => proto::Unit::Flag,
        Unit::Bytes => proto::Unit::Bytes,
        Unit::Nanoseconds => proto::Unit::Nanoseconds,
        Unit::UnixSeconds => proto::Unit::UnixSeconds,
        Unit::MilliCpu => proto::Unit::MilliCpu,
        Unit::Percent => proto::Unit::Percent,
        Unit::BytesPerSecond => proto::Unit::BytesPerSecond,
        Unit::PerSecond => proto::Unit::PerSecond,
    }
}

fn read_unit(unit: proto::Unit) -> Unit {
    match unit {
        proto::Unit::One => Unit::One,
        proto::Unit::Flag => Unit::Flag,
        proto::Unit::Bytes => Unit::Bytes,
        proto::Unit::Nanoseconds => Unit::Nanoseconds,
        proto::Unit::UnixSeconds => Unit::UnixSeconds,
        proto::Unit::MilliCpu => Unit::MilliCpu,
        proto::Unit::Percent => Unit::Percent,
        proto::Unit::BytesPerSecond => Unit::BytesPerSecond,
        proto::Unit::PerSecond => Unit::PerSecond,
    }
}

fn read_metric(metric: proto::Metric) -> Result<MetricRef, WireError> {
    bounded("the name of a metric", &metric.name, NAME_BYTES)?;
    let Ok(unit) = proto::Unit::try_from(metric.unit) else { return Err(WireError::Unit(metric.name)) };
    let kind = if metric.counter { Kind::Counter } else { Kind::Gauge };
    Ok(MetricRef::Told(Arc::new(Metric { name: metric.name.into(), unit: read_unit(unit), kind })))
}

fn read_sample(sample: proto::Sample, metrics: &[MetricRef]) -> Result<Sample, WireError> {
    let points = sample.points.into_iter().map(|it| {
        let unknown = || WireError::Metric { found: it.metric, metrics: metrics.len() };
        let metric = usize::try_from(it.metric).ok().and_then(|it| metrics.get(it)).ok_or_else(unknown)?;
        let number = it.number.and_then(|it| match it {
            proto::point::Number::Unsigned(value) => Some(Number::Unsigned(value)),
            proto::point::Number::Signed(value) => Some(Number::Signed(value)),
            proto::point::Number::Float(value) => Number::float(value),
            proto::point::Number::Flag(value) => Some(Number::Flag(value)),
        });
        let number = number.ok_or_else(|| WireError::Number(metric.name.to_string()))?;
        let start = it.start.map(Time::from_unix_nanos);
        Ok(Point { metric: metric.clone(), tags: read_tags(it.tags)?, number, start })
    });
    let points = points.collect::<Result<_, WireError>>()?;
    Ok(Sample { source: read_source(sample.source)?, time: Time::from_unix_nanos(sample.time), points })
}

fn read_event(event: proto::Event) -> Result<Event, WireError> {
    bounded("the name of an event", &event.name, NAME_BYTES)?;
    let Ok(fields) = serde_json::from_slice(&event.fields) else { return Err(WireError::Fields(event.name)) };
    let (source, time) = (read_source(event.source)?, Time::from_unix_nanos(event.time));
    Ok(Event { source, name: event.name.into(), time, fields })
}

fn read_source(source: Option<proto::Source>) -> Result<Arc<Source>, WireError> {
    let source = source.ok_or(WireError::Source)?;
    bounded("the key of a source", &source.key, VALUE_BYTES)?;
    Ok(Arc::new(Source { tags: read_tags(source.tags)?, key: source.key.into() }))
}

fn read_tags(tags: Vec<proto::Tag>) -> Result<Tags, WireError> {
    if tags.len() > TAGS {
        return Err(WireError::Tags(tags.len()));
    }
    for tag in &tags {
        bounded("the name of a tag", &tag.name, NAME_BYTES)?;
        if tag.value.len() > VALUE_BYTES {
            let found = tag.value.len();
            return Err(WireError::Length { what: "the value of a tag", found, most: VALUE_BYTES });
        }
    }
    Ok(Tags::new(tags.into_iter().map(|it| (it.name, it.value))))
}

fn bounded(what: &'static str, text: &str, most: usize) -> Result<(), WireError> {
    let found = text.len();
    if (1..=most).contains(&found) { Ok(()) } else { Err(WireError::Length { what, found, most }) }
}
