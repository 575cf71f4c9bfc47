//! Prometheus' remote write, version 1: a `WriteRequest` of protobuf, compressed by Snappy's block format.
//!
//! # Invariants
//! - Each point is a series with one sample; its labels are sorted by name, and each name is there once.
//! - Names have the characters that Prometheus takes: others become `_`. A counter's name ends in `_total`, as its
//!   conventions want it.
//! - Times are in milliseconds.

use std::borrow::Cow;
use std::collections::BTreeSet;

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

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
    let most = most.max(1);
    let (mut bodies, mut plain, mut held) = (Vec::new(), Vec::new(), 0);
    let mut labels = Labels::default();
    for sample in batch {
        for point in &sample.points {
            labels.fill(sample, point);
            labels.write(point.number.as_f64(), sample.time.unix_millis(), &mut plain);
            held += 1;
            if held == most {
                bodies.extend(compressed(&plain, std::mem::take(&mut held)));
                plain.clear();
            }
        }
    }
    bodies.extend(compressed(&plain, held));
    bodies
}

/// A body that was refused as a whole, as its earlier rounds and its later ones: a receiver that has some of them already, since
/// they are sent again after a kill, refuses those, and takes the rest. Nothing where all of it is of one time.
#[must_use]
pub fn rounds(body: &Body) -> Option<[Body; 2]> {
    let time = |it: &Series| it.samples.first().map(|it| it.milliseconds);
    let all = unpacked(body)?;
    let times: BTreeSet<_> = all.iter().map(time).collect();
    let middle = times.iter().nth(times.len() / 2)?;
    let (earlier, later): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| time(it) < *middle);
    if earlier.is_empty() { None } else { Some([packed(earlier)?, packed(later)?]) }
}

/// A body that was refused as a whole, as two: what is wrong may be in one of them. Nothing where it has one series only.
#[must_use]
pub fn halves(body: &Body) -> Option<[Body; 2]> {
    let mut first = unpacked(body)?;
    let second = first.split_off(first.len() / 2);
    if first.is_empty() { None } else { Some([packed(first)?, packed(second)?]) }
}

fn unpacked(body: &Body) -> Option<Vec<Series>> {
    let bytes = snap::raw::Decoder::new().decompress_vec(&body.bytes).ok()?;
    Some(WriteRequest::decode(bytes.as_slice()).ok()?.series)
}

fn packed(series: Vec<Series>) -> Option<Body> {
    let points = series.len();
    compressed(&WriteRequest { series }.encode_to_vec(), points)
}

fn compressed(plain: &[u8], points: usize) -> Option<Body> {
    if points == 0 {
        return None;
    }
    // Fails above 4 GiB alone.
    let bytes = snap::raw::Encoder::new().compress_vec(plain).ok()?;
    Some(Body::whole(bytes, points))
}

/// The labels of one series, sorted by name, and how long each is as a message. Kept from point to point: making a message
/// of texts of its own for each took most of the time of sending.
#[derive(Default)]
struct Labels<'s> {
    all: Vec<(Cow<'s, str>, Cow<'s, str>)>,
}

impl<'s> Labels<'s> {
    fn fill(&mut self, sample: &'s Sample, point: &'s Point) {
        self.all.clear();
        let tags = super::tags(sample, &point.tags).filter(|it| !it.value.is_empty());
        self.all.extend(tags.map(|it| (name(&it.name, false), Cow::Borrowed(&*it.value))));
        let mut metric = name(&point.metric.name, true);
        if point.metric.kind == Kind::Counter && !metric.ends_with("_total") {
            metric.to_mut().push_str("_total");
        }
        self.all.push((Cow::Borrowed("__name__"), metric));
        // Of those that became one name the last is kept, which is the point's own.
        self.all.reverse();
        self.all.sort_by(|one, other| one.0.cmp(&other.0));
        self.all.dedup_by(|later, kept| later.0 == kept.0);
    }

    /// A field `series` of a `WriteRequest`, as [`Series`] would be.
    fn write(&self, value: f64, milliseconds: i64, into: &mut Vec<u8>) {
        let label = |(name, value): &(Cow<'_, str>, Cow<'_, str>)| text_len(name) + text_len(value);
        let sample = Value { value, milliseconds };
        let sample_len = sample.encoded_len();
        let labels_len: usize = self.all.iter().map(|it| field_len(label(it))).sum();
        open(1, labels_len + field_len(sample_len), into);
        for one in &self.all {
            open(1, label(one), into);
            for (tag, text) in [(1, &one.0), (2, &one.1)] {
                if !text.is_empty() {
                    open(tag, text.len(), into);
                    into.extend_from_slice(text.as_bytes());
                }
            }
        }
        open(2, sample_len, into);
        // A vector has room for all that comes.
        sample.encode_raw(into);
    }
}

/// The head of a field of protobuf that says its own length.
fn open(tag: u32, length: usize, into: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, into);
    encode_varint(length as u64, into);
}

/// Of a field with a tag below 16, its head included.
fn field_len(length: usize) -> usize {
    1 + encoded_len_varint(length as u64) + length
}

fn text_len(text: &str) -> usize {
    if text.is_empty() { 0 } else { field_len(text.len()) }
}

/// With the characters that are allowed; a metric may also have colons.
fn name(text: &str, of_metric: bool) -> Cow<'_, str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || (of_metric && c == ':');
    // Two of these at the beginning are Prometheus' own.
    let taken = text.is_empty() || text.starts_with(|c: char| c.is_ascii_digit()) || text.starts_with("__");
    if !taken && text.chars().all(fits) {
        return Cow::Borrowed(text);
    }
    let mut name: String = text.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || name.starts_with("__") {
        name.insert_str(0, "x_");
    }
    Cow::Owned(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::tests::{batch, counter, gauge};

    #[test]
    fn labels_are_sorted_and_names_are_those_that_prometheus_takes() {
        let batch = batch(&[("pod.name", "a"), ("1st", "b"), ("none", "")], vec![counter(7), gauge(1.5)]);
        let [body] = encode(&batch, 10).try_into().unwrap();
        let found = unpacked(&body).unwrap();
        assert_eq!(body.points, 2);
        let text: Vec<_> = found[0].labels.iter().map(|it| format!("{}={}", it.name, it.value)).collect();
        assert_eq!(text, ["__name__=container_cpu_usage_total", "pod_name=a", "x_1st=b"]);
        assert_eq!(found[0].samples, [Value { value: 7.0, milliseconds: 1500 }]);
        assert_eq!(found[1].labels[0].value, "container_cpu_used");
    }

    #[test]
    fn what_is_written_is_what_the_message_would_be_and_names_that_become_one_are_there_once() {
        let mut all = batch(&[("a.b", "source"), ("none", "")], vec![counter(7), gauge(0.0), gauge(-1.5)]);
        all[0].points[1].tags = crate::model::Tags::new([("a_b", "point"), ("zone", "z")]);
        let [body] = encode(&all, 10).try_into().unwrap();
        let found = unpacked(&body).unwrap();
        let plain = snap::raw::Decoder::new().decompress_vec(&body.bytes).unwrap();
        assert_eq!(WriteRequest { series: found.clone() }.encode_to_vec(), plain);
        let text: Vec<_> = found[1].labels.iter().map(|it| format!("{}={}", it.name, it.value)).collect();
        assert_eq!(text, ["__name__=container_cpu_used", "a_b=point", "zone=z"]);
        assert_eq!(found[2].samples[0].value, -1.5);
    }

    #[test]
    fn a_batch_is_put_into_bodies_and_a_refused_body_can_be_taken_apart_down_to_one_series() {
        let batch = batch(&[], (0..5).map(|it| gauge(f64::from(it))).collect());
        let bodies = encode(&batch, 3);
        assert_eq!(bodies.iter().map(|it| it.points).collect::<Vec<_>>(), [3, 2]);
        let [one, two] = halves(&bodies[0]).unwrap();
        assert_eq!((one.points, two.points), (1, 2));
        let values =
            |it: &Body| unpacked(it).unwrap().iter().map(|it| it.samples[0].value).collect::<Vec<_>>();
        assert_eq!((values(&one), values(&two)), (vec![0.0], vec![1.0, 2.0]));
        assert!(halves(&one).is_none());
        assert!(rounds(&bodies[0]).is_none(), "it is of one time");
    }

    #[test]
    fn a_refused_body_can_be_taken_apart_by_time() {
        let mut all = Vec::new();
        for second in [3, 1, 2] {
            let mut one = batch(&[], vec![gauge(second.into()), gauge(f64::from(second) + 0.5)]);
            one[0].time = crate::model::Time::from_unix_nanos(i64::from(second) * 1_000_000_000);
            all.extend(one);
        }
        let [body] = encode(&all, 10).try_into().unwrap();
        let values =
            |it: &Body| unpacked(it).unwrap().iter().map(|it| it.samples[0].value).collect::<Vec<_>>();
        let [earlier, later] = rounds(&body).unwrap();
        assert_eq!((values(&earlier), values(&later)), (vec![1.0, 1.5], vec![3.0, 3.5, 2.0, 2.5]));
        assert!(rounds(&earlier).is_none());
        let [earlier, later] = rounds(&later).unwrap();
        assert_eq!((values(&earlier), values(&later)), (vec![2.0, 2.5], vec![3.0, 3.5]));
    }
}
