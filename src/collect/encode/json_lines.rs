//! JSON lines: a sample or an event a line, with everything that the model knows of it.
//!
//! # Invariants
//! - Times are RFC 3339 with nanoseconds, in UTC; numbers are JSON's, whole ones without a point.

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use super::{Body, event_points, ucum};
use crate::model::{Event, Kind, Number, Point, Sample, Tags, Time};

/// All samples as one body.
#[must_use]
pub fn encode(batch: &[Sample]) -> Body {
    let mut bytes = Vec::new();
    let mut points = 0;
    for sample in batch {
        let start = bytes.len();
        // Nothing in it can fail: keys are text, and numbers are finite.
        if serde_json::to_writer(&mut bytes, &Line(sample)).is_ok() {
            bytes.push(b'\n');
            points += sample.points.len();
        } else {
            bytes.truncate(start);
        }
    }
    Body::whole(bytes, points)
}

/// All events as one body.
#[must_use]
pub fn events(batch: &[Event]) -> Body {
    let mut body = Body::whole(Vec::new(), 0);
    for event in batch {
        let start = body.bytes.len();
        if serde_json::to_writer(&mut body.bytes, &EventLine(event)).is_ok() {
            body.bytes.push(b'\n');
            body.points += event_points(event);
        } else {
            body.bytes.truncate(start);
        }
    }
    body
}

struct EventLine<'e>(&'e Event);

impl Serialize for EventLine<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let event = self.0;
        let mut map = to.serialize_map(Some(5))?;
        map.serialize_entry("time", &text(event.time))?;
        map.serialize_entry("source", &event.source.key)?;
        map.serialize_entry("event", &event.name)?;
        map.serialize_entry("tags", &Tagged(&event.source.tags))?;
        map.serialize_entry("fields", &event.fields)?;
        map.end()
    }
}

struct Line<'s>(&'s Sample);

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(4))?;
        map.serialize_entry("time", &text(self.0.time))?;
        map.serialize_entry("source", &self.0.source.key)?;
        map.serialize_entry("tags", &Tagged(&self.0.source.tags))?;
        map.serialize_entry("points", &Points(&self.0.points))?;
        map.end()
    }
}

struct Points<'s>(&'s [Point]);

impl Serialize for Points<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut all = to.serialize_seq(Some(self.0.len()))?;
        self.0.iter().try_for_each(|it| all.serialize_element(&One(it)))?;
        all.end()
    }
}

struct One<'s>(&'s Point);

impl Serialize for One<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let point = self.0;
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("metric", &point.metric.name)?;
        let kind = match point.metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        map.serialize_entry("kind", kind)?;
        map.serialize_entry("unit", ucum(point.metric.unit))?;
        match point.number {
            Number::Unsigned(value) => map.serialize_entry("value", &value)?,
            Number::Signed(value) => map.serialize_entry("value", &value)?,
            Number::Float(value) => map.serialize_entry("value", &value)?,
            Number::Flag(value) => map.serialize_entry("value", &value)?,
        }
        if let Some(start) = point.start {
            map.serialize_entry("start", &text(start))?;
        }
        if !point.tags.is_empty() {
            map.serialize_entry("tags", &Tagged(&point.tags))?;
        }
        map.end()
    }
}

struct Tagged<'s>(&'s Tags);

impl Serialize for Tagged<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|it| (&*it.name, &*it.value)))
    }
}

/// Every 64-bit count of nanoseconds is a time that jiff has.
fn text(time: Time) -> String {
    jiff::Timestamp::from_nanosecond(time.unix_nanos().into()).unwrap_or_default().to_string()
}
