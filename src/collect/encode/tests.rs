//! Every encoder on one batch: what comes out, what is escaped, and that nothing is lost where a limit splits it.

use std::io::Read;
use std::sync::Arc;

use super::*;
use crate::catalogue::{CPU_USAGE, CPU_USED, IO_READ_BYTES, MEMORY_USAGE, RUNNING};
use crate::model::{Metric, MetricRef, Number, Point, Source, Tags, Time};

fn point(metric: &'static Metric, tags: Tags, number: Number) -> Point {
    Point { metric: MetricRef::Known(metric), tags, number, start: None }
}

/// A sample of a source with tags, a second and a half after 1970 began.
pub(crate) fn batch(tags: &[(&'static str, &str)], points: Vec<Point>) -> Vec<Sample> {
    let source = Arc::new(Source { key: "k".into(), tags: Tags::new(tags.iter().copied()) });
    vec![Sample { source, time: Time::from_unix_nanos(1_500_000_000), points }]
}

pub(crate) fn counter(value: u64) -> Point {
    let start = Some(Time::from_unix_nanos(500_000_000));
    Point { start, ..point(&CPU_USAGE, Tags::default(), Number::Unsigned(value)) }
}

pub(crate) fn gauge(value: f64) -> Point {
    point(&CPU_USED, Tags::default(), Number::Float(value))
}

fn sample() -> Sample {
    let none = Tags::default;
    let tags = Tags::new([("host", "h 1"), ("app", "a,b=c"), ("empty", ""), ("odd", "x|y:z\nend\\")]);
    let mut usage = point(&CPU_USAGE, none(), Number::Unsigned(5));
    usage.start = Some(Time::from_unix_nanos(1_600_000_000_000_000_000));
    Sample {
        source: Arc::new(Source { key: "/a#1".into(), tags }),
        time: Time::from_unix_nanos(1_700_000_000_123_456_789),
        points: vec![
            point(&RUNNING, none(), Number::Flag(true)),
            usage,
            point(&IO_READ_BYTES, Tags::new([("device", "8:0")]), Number::Unsigned(u64::MAX)),
            point(&CPU_USED, none(), Number::Float(-1.5)),
        ],
    }
}

fn many(count: usize) -> Vec<Sample> {
    let one = |at: usize| {
        let mut sample = sample();
        let tags = Tags::new([("container", format!("{:x}", at.wrapping_mul(0x9e37_79b9_7f4a_7c15)))]);
        sample.source = Arc::new(Source { key: at.to_string().into(), tags });
        sample.points = vec![point(&MEMORY_USAGE, Tags::default(), Number::Unsigned(at as u64)); 13];
        sample
    };
    (0..count).map(one).collect()
}

#[test]
fn lines_of_influx_are_escaped_and_joined() {
    let bodies = influx::encode(&[sample()], "my metrics", 1 << 20);
    let text = String::from_utf8(bodies[0].bytes.clone()).unwrap();
    let tags = r"app=a\,b\=c,";
    let rest = r"host=h\ 1,odd=x|y:z\ end/";
    assert_eq!(
        text,
        format!(
            "my\\ metrics,{tags}{rest} container.running=true,container.cpu.usage=5i,container.cpu.used=-1.5 \
             1700000000123456789\n\
             my\\ metrics,{tags}device=8:0,{rest} container.io.read.bytes=9223372036854775807i 1700000000123456789\n"
        )
    );
    assert_eq!(bodies[0].points, 4);
}

#[test]
fn statsd_packets_fit_and_hold_no_foreign_characters() {
    let batch = [vec![sample()], many(100)].concat();
    let packets = statsd::encode(&batch, statsd::DATAGRAM);
    assert!(packets.iter().all(|it| it.bytes.len() <= statsd::DATAGRAM));
    assert_eq!(packets.iter().map(|it| it.points).sum::<usize>(), points(&batch));
    let text = String::from_utf8(packets[0].bytes.clone()).unwrap();
    let tags = "|#host:h 1,app:a_b=c,empty:,odd:x_y_z_end\\";
    assert!(text.starts_with(&format!("container.running:1|g{tags}\n")), "{text}");
    let negative = format!("container.cpu.used:0|g{tags}\ncontainer.cpu.used:-1.5|g{tags}\n");
    assert!(text.contains(&negative), "{text}");
    assert!(statsd::encode(&[sample()], 10).is_empty(), "what fits nowhere is not counted");
}

#[test]
fn json_lines_say_everything() {
    let body = json_lines::encode(&[sample(), sample()]);
    let lines: Vec<serde_json::Value> =
        serde_json::Deserializer::from_slice(&body.bytes).into_iter().collect::<Result<_, _>>().unwrap();
    assert_eq!((lines.len(), body.points), (2, 8));
    assert_eq!(lines[0]["time"], "2023-11-14T22:13:20.123456789Z");
    assert_eq!(lines[0]["tags"]["app"], "a,b=c");
    assert_eq!(lines[0]["points"][1]["start"], "2020-09-13T12:26:40Z");
    assert_eq!(lines[0]["points"][2]["value"], u64::MAX);
    assert_eq!(lines[0]["points"][2]["tags"]["device"], "8:0");
}

fn inflated(body: &Body) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::ZlibDecoder::new(&*body.bytes).read_to_end(&mut plain).unwrap();
    plain
}

#[test]
fn datadog_gets_series_with_host_and_unit() {
    let bodies = datadog::encode(&[sample()]);
    let json: serde_json::Value = serde_json::from_slice(&inflated(&bodies[0])).unwrap();
    let series = json["series"].as_array().unwrap();
    assert_eq!(series.len(), 4);
    assert_eq!(series[1]["metric"], "container.cpu.usage");
    assert_eq!(series[1]["points"][0]["timestamp"], 1_700_000_000);
    assert_eq!((&series[1]["type"], &series[1]["unit"]), (&3.into(), &"nanosecond".into()));
    assert_eq!(series[1]["resources"][0]["name"], "h 1");
    assert_eq!(series[2]["tags"][3], "device:8:0");
}

#[test]
fn a_batch_above_datadogs_limits_is_split_and_nothing_is_lost() {
    let batch = many(4000);
    let bodies = datadog::encode(&batch);
    assert!(bodies.len() > 1);
    assert_eq!(bodies.iter().map(|it| it.points).sum::<usize>(), points(&batch));
    for body in &bodies {
        assert!(body.bytes.len() <= datadog::MOST_SENT && inflated(body).len() <= datadog::MOST_PLAIN);
    }
    let narrow = datadog::within(&batch[..100], 2000, 100_000);
    assert!(narrow.iter().all(|it| it.bytes.len() <= 2000));
    let counted: usize = narrow
        .iter()
        .map(|it| serde_json::from_slice::<serde_json::Value>(&inflated(it)).unwrap())
        .map(|it| it["series"].as_array().unwrap().len())
        .sum();
    assert_eq!(counted, points(&batch[..100]));
}

#[test]
fn bodies_of_influx_keep_their_bound() {
    let batch = many(100);
    let bodies = influx::encode(&batch, "m", 5000);
    assert!(bodies.len() > 1 && bodies.iter().all(|it| it.bytes.len() <= 5000));
    assert_eq!(bodies.iter().map(|it| it.points).sum::<usize>(), points(&batch));
}
