//! Prometheus' remote write, version 1: a `WriteRequest` of protobuf, compressed by Snappy's block format.
//!
//! # Invariants
//! - Each point is a series with one sample; its labels are sorted by name, and each name is there once.
//! - Names have the characters that Prometheus takes: others become `_`. A counter's name ends in `_total`, as its
//!   conventions want it.
//! - Times are in milliseconds.

use std::collections::BTreeMap;

use prost::Message;

use super::Body;
use crate::model::{Kind, Point, Sample};

/// Series in a body: as many as Prometheus itself sends at once.
pub const SERIES: usize = 2000;

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    series: Vec<Series>,
}

#[derive(Clone, PartialEq, Message)]
struct Series {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Value {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    milliseconds: i64,
}

/// Bodies of up to so many series.
#[must_use]
pub fn encode(batch: &[Sample], most: usize) -> Vec<Body> {
    let all = batch.iter().flat_map(|sample| sample.points.iter().map(move |point| series(sample, point)));
    let all: Vec<Series> = all.collect();
    all.chunks(most.max(1)).filter_map(|it| packed(it.to_vec())).collect()
}

/// A body that was refused as a whole, as two: what is wrong may be in one of them. Nothing where it has one series only.
#[must_use]
pub fn halves(body: &Body) -> Option<[Body; 2]> {
    let bytes = snap::raw::Decoder::new().decompress_vec(&body.bytes).ok()?;
    let mut first = WriteRequest::decode(bytes.as_slice()).ok()?.series;
    let second = first.split_off(first.len() / 2);
    if first.is_empty() { None } else { Some([packed(first)?, packed(second)?]) }
}

fn packed(series: Vec<Series>) -> Option<Body> {
    let points = series.len();
    let plain = WriteRequest { series }.encode_to_vec();
    // Fails above 4 GiB alone.
    let bytes = snap::raw::Encoder::new().compress_vec(&plain).ok()?;
    Some(Body::whole(bytes, points))
}

fn series(sample: &Sample, point: &Point) -> Series {
    let mut labels = BTreeMap::new();
    for tag in super::tags(sample, &point.tags).filter(|it| !it.value.is_empty()) {
        labels.insert(name(&tag.name, false), tag.value.to_string());
    }
    let mut metric = name(&point.metric.name, true);
    if point.metric.kind == Kind::Counter && !metric.ends_with("_total") {
        metric.push_str("_total");
    }
    labels.insert("__name__".to_owned(), metric);
    let labels = labels.into_iter().map(|(name, value)| Label { name, value }).collect();
    let value = Value { value: point.number.as_f64(), milliseconds: sample.time.unix_millis() };
    Series { labels, samples: vec![value] }
}

/// With the characters that are allowed; a metric may also have colons.
fn name(text: &str, of_metric: bool) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || (of_metric && c == ':');
    let mut name: String = text.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    // Two of these at the beginning are Prometheus' own.
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || name.starts_with("__") {
        name.insert_str(0, "x_");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::tests::{batch, counter, gauge};

    fn unpacked(body: &Body) -> Vec<Series> {
        let bytes = snap::raw::Decoder::new().decompress_vec(&body.bytes).unwrap();
        WriteRequest::decode(bytes.as_slice()).unwrap().series
    }

    #[test]
    fn labels_are_sorted_and_names_are_those_that_prometheus_takes() {
        let batch = batch(&[("pod.name", "a"), ("1st", "b"), ("none", "")], vec![counter(7), gauge(1.5)]);
        let [body] = encode(&batch, 10).try_into().unwrap();
        let found = unpacked(&body);
        assert_eq!(body.points, 2);
        let text: Vec<_> = found[0].labels.iter().map(|it| format!("{}={}", it.name, it.value)).collect();
        assert_eq!(text, ["__name__=container_cpu_usage_total", "pod_name=a", "x_1st=b"]);
        assert_eq!(found[0].samples, [Value { value: 7.0, milliseconds: 1500 }]);
        assert_eq!(found[1].labels[0].value, "container_cpu_used");
    }

    #[test]
    fn a_batch_is_put_into_bodies_and_a_refused_body_can_be_taken_apart_down_to_one_series() {
        let batch = batch(&[], (0..5).map(|it| gauge(f64::from(it))).collect());
        let bodies = encode(&batch, 3);
        assert_eq!(bodies.iter().map(|it| it.points).collect::<Vec<_>>(), [3, 2]);
        let [one, two] = halves(&bodies[0]).unwrap();
        assert_eq!((one.points, two.points), (1, 2));
        let values = |it: &Body| unpacked(it).iter().map(|it| it.samples[0].value).collect::<Vec<_>>();
        assert_eq!((values(&one), values(&two)), (vec![0.0], vec![1.0, 2.0]));
        assert!(halves(&one).is_none());
    }
}
