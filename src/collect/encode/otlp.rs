//! OpenTelemetry's metrics: an `ExportMetricsServiceRequest` of protobuf, for HTTP compressed by gzip.
//!
//! # Invariants
//! - A source is a resource, with its tags as attributes. Counters are cumulative, monotonic sums with their start; all
//!   else are gauges.
//! - Whole numbers stay whole, up to 2^63 - 1.

use std::io::Write;

use prost::{Message, Oneof};

use super::{Body, ucum};
use crate::model::{Kind, Number, Point, Sample, Tags};

/// Points in a body.
pub const POINTS: usize = 5000;
/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: i32 = 2;

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resource_metrics: Vec<ResourceMetrics>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceMetrics {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_metrics: Vec<ScopeMetrics>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeMetrics {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    metrics: Vec<MetricData>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct MetricData {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "3")]
    unit: String,
    #[prost(oneof = "Data", tags = "5, 7")]
    data: Option<Data>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Data {
    #[prost(message, tag = "5")]
    Gauge(Gauge),
    #[prost(message, tag = "7")]
    Sum(Sum),
}

#[derive(Clone, PartialEq, Message)]
struct Gauge {
    #[prost(message, repeated, tag = "1")]
    data_points: Vec<DataPoint>,
}

#[derive(Clone, PartialEq, Message)]
struct Sum {
    #[prost(message, repeated, tag = "1")]
    data_points: Vec<DataPoint>,
    #[prost(int32, tag = "2")]
    aggregation_temporality: i32,
    #[prost(bool, tag = "3")]
    is_monotonic: bool,
}

#[derive(Clone, PartialEq, Message)]
struct DataPoint {
    #[prost(fixed64, tag = "2")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "3")]
    time_unix_nano: u64,
    #[prost(oneof = "Value", tags = "4, 6")]
    value: Option<Value>,
    #[prost(message, repeated, tag = "7")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, Copy, PartialEq, Oneof)]
enum Value {
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(sfixed64, tag = "6")]
    Int(i64),
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(string, tag = "1")]
    text: String,
}

#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_data_points: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// How a body goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// As gRPC's message.
    Plain,
    /// As HTTP's body.
    Gzip,
}

/// Bodies of up to so many points; a source is never split over two of them unless it has more by itself.
#[must_use]
pub fn encode(batch: &[Sample], most: usize, packing: Packing) -> Vec<Body> {
    let most = most.max(1);
    let pieces = batch.iter().flat_map(|sample| sample.points.chunks(most).map(move |it| (sample, it)));
    let (mut bodies, mut resources, mut held) = (Vec::new(), Vec::new(), 0);
    for (sample, points) in pieces {
        if held + points.len() > most {
            bodies.extend(packed(std::mem::take(&mut resources), std::mem::take(&mut held), packing));
        }
        resources.push(resource(sample, points));
        held += points.len();
    }
    bodies.extend(packed(resources, held, packing));
    bodies
}

/// How many points an answer says were refused, and why, where it refuses some.
///
/// # Errors
/// When it is no such answer.
pub fn refused(answer: &[u8]) -> Result<Option<(usize, String)>, prost::DecodeError> {
    let partial = Response::decode(answer)?.partial_success;
    Ok(partial.and_then(|it| {
        let refused = usize::try_from(it.rejected_data_points).ok().filter(|it| *it > 0)?;
        Some((refused, it.error_message))
    }))
}

fn packed(resource_metrics: Vec<ResourceMetrics>, points: usize, packing: Packing) -> Option<Body> {
    if points == 0 {
        return None;
    }
    let plain = Request { resource_metrics }.encode_to_vec();
    if packing == Packing::Plain {
        return Some(Body::whole(plain, points));
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    // Writing into memory cannot fail.
    let bytes = encoder.write_all(&plain).and_then(|()| encoder.finish()).ok()?;
    Some(Body::whole(bytes, points))
}

fn resource(sample: &Sample, points: &[Point]) -> ResourceMetrics {
    let scope = Scope { name: "outrider".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let metrics = points.iter().map(|point| metric(sample, point)).collect();
    ResourceMetrics {
        resource: Some(Resource { attributes: attributes(&sample.source.tags) }),
        scope_metrics: vec![ScopeMetrics { scope: Some(scope), metrics }],
    }
}

fn metric(sample: &Sample, point: &Point) -> MetricData {
    let nanos = |it: crate::model::Time| u64::try_from(it.unix_nanos()).unwrap_or_default();
    let value = match point.number {
        Number::Unsigned(value) => Value::Int(i64::try_from(value).unwrap_or(i64::MAX)),
        Number::Signed(value) => Value::Int(value),
        Number::Float(value) => Value::Double(value),
        Number::Flag(value) => Value::Int(value.into()),
    };
    let data_points = vec![DataPoint {
        start_time_unix_nano: point.start.map_or(0, nanos),
        time_unix_nano: nanos(sample.time),
        value: Some(value),
        attributes: attributes(&point.tags),
    }];
    let data = match point.metric.kind {
        Kind::Gauge => Data::Gauge(Gauge { data_points }),
        Kind::Counter => {
            Data::Sum(Sum { data_points, aggregation_temporality: CUMULATIVE, is_monotonic: true })
        }
    };
    MetricData {
        name: point.metric.name.clone().into_owned(),
        unit: ucum(point.metric.unit).to_owned(),
        data: Some(data),
    }
}

fn attributes(tags: &Tags) -> Vec<KeyValue> {
    let one = |it: &crate::model::Tag| KeyValue {
        key: it.name.clone().into_owned(),
        value: Some(AnyValue { text: it.value.to_string() }),
    };
    tags.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::encode::tests::{batch, counter, gauge};

    fn unpacked(body: &Body) -> Vec<ResourceMetrics> {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(body.bytes.as_slice()).read_to_end(&mut plain).unwrap();
        Request::decode(plain.as_slice()).unwrap().resource_metrics
    }

    #[test]
    fn a_counter_is_a_sum_since_its_start_and_a_source_a_resource() {
        let [body] = encode(&batch(&[("env", "prod")], vec![counter(7), gauge(1.5)]), 10, Packing::Gzip)
            .try_into()
            .unwrap();
        assert_eq!(body.points, 2);
        let [found] = unpacked(&body).try_into().unwrap();
        assert_eq!(found.resource.unwrap().attributes[0].key, "env");
        let metrics = &found.scope_metrics[0].metrics;
        let Some(Data::Sum(sum)) = &metrics[0].data else { panic!("{metrics:?}") };
        assert_eq!((sum.aggregation_temporality, sum.is_monotonic), (CUMULATIVE, true));
        let point = &sum.data_points[0];
        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (500_000_000, 1_500_000_000));
        assert_eq!((point.value, metrics[0].unit.as_str()), (Some(Value::Int(7)), "ns"));
        assert!(
            matches!(&metrics[1].data, Some(Data::Gauge(it)) if it.data_points[0].value == Some(Value::Double(1.5)))
        );
    }

    #[test]
    fn bodies_hold_as_many_points_as_they_may() {
        let all = batch(&[], (0..5).map(|it| gauge(f64::from(it))).collect());
        let sizes: Vec<_> = encode(&all, 2, Packing::Plain).iter().map(|it| it.points).collect();
        assert_eq!(sizes, [2, 2, 1]);
        assert!(encode(&[], 2, Packing::Gzip).is_empty());
    }

    #[test]
    fn what_was_refused_in_part_is_read() {
        let error_message = "too old".to_owned();
        let partial = PartialSuccess { rejected_data_points: 3, error_message };
        let answer = Response { partial_success: Some(partial) }.encode_to_vec();
        assert_eq!(refused(&answer), Ok(Some((3, "too old".to_owned()))));
        assert_eq!(refused(&[]), Ok(None));
        assert!(refused(b"<html>").is_err() && refused(b"{}").is_err());
    }
}
