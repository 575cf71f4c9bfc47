//! Nothing is lost on the way, what cannot be is refused by name, and the generated code is what the files say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// `UPDATE_SCHEMAS=1 cargo test -p outrider-collect generated` writes it anew.
#[test]
fn generated_code_is_what_the_proto_files_say() {
    let schemas = repository().join("schemas");
    for (name, file) in [("collect.proto", "outrider.collect.v1.rs"), ("publish.proto", "_.rs")] {
        let set = protox::compile([schemas.join(name)], [&schemas]).unwrap();
        let made = tempfile::tempdir().unwrap();
        tonic_prost_build::configure().out_dir(made.path()).compile_fds(set).unwrap();
        let made = std::fs::read_to_string(made.path().join(file)).unwrap();
        let made = format!("//! Made of `schemas/{name}`: do not edit.\n\n{made}");
        let kept =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("wire/generated").join(name).with_extension("rs");
        if std::env::var_os("UPDATE_SCHEMAS").is_some() {
            std::fs::write(&kept, &made).unwrap();
        }
        let found = std::fs::read_to_string(&kept).unwrap_or_default();
        assert!(
            found == made,
            "{} is not what schemas/{name} says: run `UPDATE_SCHEMAS=1 cargo test -p outrider-collect generated`",
            kept.display()
        );
    }
}

fn name() -> impl Strategy<Value = String> {
    "[a-z.]{1,12}"
}

fn some_tags() -> impl Strategy<Value = Tags> {
    prop::collection::vec((name(), "\\PC{0,8}"), 0..4).prop_map(Tags::new)
}

fn some_point() -> impl Strategy<Value = Point> {
    let number = prop_oneof![
        any::<u64>().prop_map(Number::Unsigned),
        any::<i64>().prop_map(Number::Signed),
        (-1e300..1e300).prop_map(Number::Float),
        any::<bool>().prop_map(Number::Flag),
    ];
    let unit = prop::sample::select(vec![Unit::One, Unit::Bytes, Unit::PerSecond, Unit::UnixSeconds]);
    (name(), unit, any::<bool>(), some_tags(), number, any::<Option<i64>>()).prop_map(
        |(name, unit, counter, tags, number, start)| {
            let kind = if counter { Kind::Counter } else { Kind::Gauge };
            let metric = MetricRef::Told(Arc::new(Metric { name: name.into(), unit, kind }));
            Point { metric, tags, number, start: start.map(Time::from_unix_nanos) }
        },
    )
}

fn some_source() -> impl Strategy<Value = Arc<Source>> {
    (name(), some_tags()).prop_map(|(key, tags)| Arc::new(Source { key: key.into(), tags }))
}

proptest! {
    #[test]
    fn nothing_is_lost_on_the_way(
        parts in prop::collection::vec((some_source(), any::<i64>(), prop::collection::vec(some_point(), 0..5)), 0..4),
        events in prop::collection::vec((some_source(), name(), any::<i64>(), any::<i32>()), 0..4),
    ) {
        use prost::Message as _;
        let samples: Vec<_> = parts.into_iter().map(|(source, time, points)| {
            Sample { source, time: Time::from_unix_nanos(time), points }
        }).collect();
        let events: Vec<_> = events.into_iter().map(|(source, name, time, value)| {
            let fields = [("a".to_owned(), value.into())].into_iter().collect();
            Event { source, name: name.into(), time: Time::from_unix_nanos(time), fields }
        }).collect();
        let sent = batch("me", 7, &samples, &events).encode_to_vec();
        let got = proto::Batch::decode(&*sent).unwrap();
        prop_assert_eq!(origin(&got).unwrap(), ("me".to_owned(), 7));
        prop_assert_eq!(read(got).unwrap(), Contents { samples, events });
    }
}

fn one() -> proto::Batch {
    proto::Batch {
        collector: "c".into(),
        sequence: 1,
        metrics: vec![proto::Metric { name: "m".into(), unit: 0, counter: false }],
        samples: vec![proto::Sample {
            source: Some(proto::Source { key: "k".into(), tags: vec![] }),
            time: 1,
            points: vec![proto::Point {
                metric: 0,
                tags: vec![],
                number: Some(proto::point::Number::Float(1.0)),
                start: None,
            }],
        }],
        events: vec![],
    }
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    type Spoil = fn(&mut proto::Batch);
    let cases: [(Spoil, &str); 9] = [
        (|it| it.metrics[0].name = String::new(), "the name of a metric has 0 bytes; expected 1 to 512"),
        (|it| it.metrics[0].unit = 99, "\"m\" has a unit that is not known"),
        (|it| it.samples[0].points[0].metric = 1, "of metric 1, of 1 that are in it"),
        (|it| it.samples[0].points[0].number = None, "a point of \"m\" has no number"),
        (
            |it| it.samples[0].points[0].number = Some(proto::point::Number::Float(f64::NAN)),
            "a point of \"m\" has no number, or one that is not finite",
        ),
        (|it| it.samples[0].source = None, "has no source"),
        (
            |it| {
                it.samples[0].points[0].tags = vec![proto::Tag { name: "t".into(), value: "x".repeat(5000) }];
            },
            "the value of a tag has 5000 bytes",
        ),
        (
            |it| {
                it.samples[0].points[0].tags =
                    vec![proto::Tag { name: "t".into(), value: String::new() }; 200];
            },
            "200 tags in one place",
        ),
        (
            |it| {
                let source = it.samples[0].source.clone();
                it.events = vec![proto::Event { source, name: "e".into(), time: 0, fields: b"[1]".to_vec() }];
            },
            "an event of \"e\" are no object",
        ),
    ];
    assert!(read(one()).is_ok());
    for (spoil, expected) in cases {
        let mut spoiled = one();
        spoil(&mut spoiled);
        let told = read(spoiled).unwrap_err().to_string();
        assert!(told.contains(expected), "{told}");
    }
    let nobody = proto::Batch { collector: String::new(), ..one() };
    assert!(origin(&nobody).unwrap_err().to_string().contains("the collector has 0 bytes"));
    assert_eq!(origin(&proto::Batch { sequence: 0, ..one() }), Err(WireError::Sequence));
}

#[test]
fn the_tags_of_a_call_are_those_of_the_original() {
    let given: BTreeMap<_, _> = [
        ("environment", "e"),
        ("service", "s"),
        ("container", "c"),
        ("host_name", "h"),
        ("app", "a"),
        ("x", "y"),
    ]
    .into();
    let get = |without: &str, name: &str| {
        given.get(name).filter(|_| name != without).map(|it| Ok((*it).to_owned()))
    };
    let tags = publish::tags(|name| get("", name)).unwrap();
    let words: Vec<_> = tags.iter().map(|it| format!("{}={}", it.name, it.value)).collect();
    assert_eq!(words, ["environment=e", "service=s", "container=c", "host=h", "app=a"]);
    assert_eq!(publish::metadata(&tags).unwrap().len(), 5);
    let told = publish::tags(|name| get("service", name)).unwrap_err().to_string();
    assert!(told.starts_with("the tag service is missing;"), "{told}");
    let told = publish::tags(|name| if name == "app" { Some(Err(())) } else { get("", name) }).unwrap_err();
    assert_eq!((told.tag, told.found), ("app", "is no text"));
}

#[test]
fn what_was_not_measured_has_no_point() {
    let said = generated::publish::PublishRequest {
        unix_time: 5,
        running: true,
        disk_usage_mb: -1,
        disk_limit_mb: 3,
        ..Default::default()
    };
    let sample = publish::sample(&said, Tags::default());
    let names: Vec<_> = sample.points.iter().map(|it| &*it.metric.name).collect();
    assert!(!names.contains(&"disk_usage_mb") && names.contains(&"disk_limit_mb"), "{names:?}");
    assert_eq!((names.len(), sample.time.unix_seconds()), (12, 5));
}

/// Field by field as the original writes them: the number of the field times 8 before each, since all are varints; the two
/// of the disk are zigzag, so that -1 is 1 and 300 is 600.
const PUBLISHED: [(u8, &[u8]); 14] = [
    (0x08, &[0xd2, 0x85, 0xcc, 0xaf, 0x06]),
    (0x10, &[0x01]),
    (0x18, &[0xdc, 0x0b]),
    (0x20, &[0x04]),
    (0x28, &[0x05]),
    (0x30, &[0x06]),
    (0x38, &[0x01]),
    (0x40, &[0xd8, 0x04]),
    (0x48, &[0x09]),
    (0x50, &[0x0a]),
    (0x58, &[0x0b]),
    (0x60, &[0x0c]),
    (0x68, &[0x0d]),
    (0x70, &[0x80, 0x01]),
];

#[test]
fn a_message_of_the_original_has_its_bytes() {
    use prost::Message as _;
    let bytes: Vec<u8> = PUBLISHED.iter().flat_map(|(key, value)| [&[*key], *value].concat()).collect();
    let said = generated::publish::PublishRequest {
        unix_time: 1_710_424_786,
        running: true,
        milli_cpu_usage: 1500,
        memory_total_mb: 4,
        memory_rss_mb: 5,
        memory_limit_mb: 6,
        disk_usage_mb: -1,
        disk_limit_mb: 300,
        disk_read_kbps: 9,
        disk_write_kbps: 10,
        disk_read_iops: 11,
        disk_write_iops: 12,
        pids_current: 13,
        pids_limit: 128,
    };
    assert_eq!(generated::publish::PublishRequest::decode(&*bytes).unwrap(), said);
    assert_eq!(said.encode_to_vec(), bytes);
}

#[test]
fn each_value_of_a_message_of_the_original_has_its_own_point_and_field() {
    let entry = crate::original::Entry {
        unix_time: 1,
        running: true,
        milli_cpu_usage: 3,
        memory_total_mb: 4,
        memory_rss_mb: 5,
        memory_limit_mb: 6,
        disk_usage_mb: 7,
        disk_limit_mb: 8,
        disk_read_kbps: 9,
        disk_write_kbps: 10,
        disk_read_iops: 11,
        disk_write_iops: 12,
        pids_current: 13,
        pids_limit: 14,
        milli_cpu_limit: 15,
    };
    let sample = publish::sample(&publish::request(&entry), Tags::default());
    let found: Vec<_> = sample.points.iter().map(|it| (&*it.metric.name, it.number.as_f64())).collect();
    let expected = [
        ("running", 1.0),
        ("milli_cpu_usage", 3.0),
        ("memory_total_mb", 4.0),
        ("memory_rss_mb", 5.0),
        ("memory_limit_mb", 6.0),
        ("disk_usage_mb", 7.0),
        ("disk_limit_mb", 8.0),
        ("disk_read_kbps", 9.0),
        ("disk_write_kbps", 10.0),
        ("disk_read_iops", 11.0),
        ("disk_write_iops", 12.0),
        ("pids_current", 13.0),
        ("pids_limit", 14.0),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_prefix_comes_before_the_names_of_the_original_and_before_no_others() {
    let said = generated::publish::PublishRequest { running: true, ..Default::default() };
    let sample = publish::sample(&said, Tags::new([("container", "c")]));
    let mut sent = batch("me", 1, &[sample], &[]);
    let other = proto::Metric { name: "container.running".into(), ..sent.metrics[0].clone() };
    sent.metrics.push(other);
    let names = |batch: &proto::Batch| batch.metrics.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
    let renamed = publish::renamed(sent.clone(), "enclave.");
    let expected = [
        "enclave.running",
        "enclave.milli_cpu_usage",
        "enclave.memory_total_mb",
        "enclave.memory_rss_mb",
        "enclave.memory_limit_mb",
        "enclave.disk_usage_mb",
        "enclave.disk_limit_mb",
        "enclave.disk_read_kbps",
        "enclave.disk_write_kbps",
        "enclave.disk_read_iops",
        "enclave.disk_write_iops",
        "enclave.pids_current",
        "enclave.pids_limit",
        "container.running",
    ];
    assert_eq!(names(&renamed), expected);
    assert_eq!(publish::renamed(sent.clone(), ""), sent, "no prefix changes nothing");
    let read = read(renamed).unwrap();
    assert_eq!(&*read.samples[0].points[0].metric.name, "enclave.running", "points follow their metrics");
}
