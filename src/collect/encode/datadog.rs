//! Datadog's series, version 2 (`POST /api/v2/series`, `Content-Encoding: deflate`).
//!
//! # Invariants
//! - A body has at most 512,000 bytes as it is sent, and 5 MiB before it is compressed: both limits are the receiver's. It
//!   is filled up to the second one, and halved as long as it is above the first.
//! - Counters are sent as gauges of their sums: Datadog's counts are differences, and one that is sent twice would count
//!   twice.
//! - The tag `host` becomes the resource that it is there.

use std::io::Write;

use serde::Serialize;

use super::Body;
use crate::model::{Number, Point, Sample, Unit};

/// As it is sent.
pub const MOST_SENT: usize = 512_000;
/// Before it is compressed.
pub const MOST_PLAIN: usize = 5 << 20;

const BEFORE: &[u8] = br#"{"series":["#;
const AFTER: &[u8] = b"]}";
const GAUGE: u8 = 3;

/// Compressed bodies.
#[must_use]
pub fn encode(batch: &[Sample]) -> Vec<Body> {
    within(batch, MOST_SENT, MOST_PLAIN)
}

pub(crate) fn within(batch: &[Sample], sent: usize, plain: usize) -> Vec<Body> {
    let mut bodies = Vec::new();
    let mut series: Vec<Vec<u8>> = Vec::new();
    let mut length = BEFORE.len() + AFTER.len();
    for sample in batch {
        for point in &sample.points {
            let Ok(one) = serde_json::to_vec(&Series::of(sample, point)) else { continue };
            if length + one.len() + 1 > plain {
                compressed(&series, sent, &mut bodies);
                series.clear();
                length = BEFORE.len() + AFTER.len();
            }
            length += one.len() + 1;
            series.push(one);
        }
    }
    compressed(&series, sent, &mut bodies);
    bodies
}

/// Halves what is too large. One series alone is sent as it is, for the receiver to judge.
fn compressed(series: &[Vec<u8>], sent: usize, bodies: &mut Vec<Body>) {
    if series.is_empty() {
        return;
    }
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    let written = encoder.write_all(BEFORE).and_then(|()| {
        for (at, one) in series.iter().enumerate() {
            if at > 0 {
                encoder.write_all(b",")?;
            }
            encoder.write_all(one)?;
        }
        encoder.write_all(AFTER)
    });
    // Writing into memory cannot fail.
    let Ok(bytes) = written.and_then(|()| encoder.finish()) else { return };
    if bytes.len() <= sent || series.len() == 1 {
        bodies.push(Body::whole(bytes, series.len()));
    } else {
        let (first, second) = series.split_at(series.len() / 2);
        compressed(first, sent, bodies);
        compressed(second, sent, bodies);
    }
}

#[derive(Serialize)]
struct Series<'s> {
    metric: &'s str,
    #[serde(rename = "type")]
    kind: u8,
    points: [Value; 1],
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resources: Vec<Resource<'s>>,
}

#[derive(Serialize)]
struct Value {
    timestamp: i64,
    value: f64,
}

#[derive(Serialize)]
struct Resource<'s> {
    name: &'s str,
    #[serde(rename = "type")]
    kind: &'static str,
}

impl<'s> Series<'s> {
    fn of(sample: &'s Sample, point: &'s Point) -> Self {
        let mut resources = Vec::new();
        let mut tags = Vec::new();
        for tag in super::tags(sample, &point.tags) {
            if tag.name == "host" {
                resources.push(Resource { name: &tag.value, kind: "host" });
            } else {
                tags.push(format!("{}:{}", tag.name, tag.value));
            }
        }
        let value = Number::as_f64(point.number);
        let points = [Value { timestamp: sample.time.unix_seconds(), value }];
        Self {
            metric: &point.metric.name,
            kind: GAUGE,
            points,
            tags,
            unit: unit(point.metric.unit),
            resources,
        }
    }
}

/// Of Datadog's own list.
fn unit(unit: Unit) -> Option<&'static str> {
    match unit {
        Unit::Bytes | Unit::BytesPerSecond => Some("byte"),
        Unit::Nanoseconds => Some("nanosecond"),
        Unit::Percent => Some("percent"),
        Unit::One | Unit::Flag | Unit::UnixSeconds | Unit::MilliCpu | Unit::PerSecond => None,
    }
}
