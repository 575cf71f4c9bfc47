//! OpenTelemetry's metrics by a receiver that decodes them with the protocol's own generated classes.

use serde_json::{Value, json};

use super::receivers::Played;
use super::told::{Point, collected, host_and_api, points, same, set_usage};

/// A point as the receiver has to have it.
fn expected(point: &Point) -> Value {
    let (kind, value) = match &point.value {
        Value::Bool(flag) => ("int", json!(u8::from(*flag))),
        // There are no unsigned numbers: what is beyond 63 bits is as large as it can be.
        Value::Number(number) if number.is_u64() => {
            ("int", json!(number.as_u64().unwrap().min(i64::MAX as u64)))
        }
        value if value.is_i64() => ("int", value.clone()),
        value => ("double", value.clone()),
    };
    let mut told = json!({
        "resource": point.source, "scope": { "name": "outrider", "version": env!("CARGO_PKG_VERSION") },
        "name": point.metric, "unit": point.unit, "description": "", "time": point.time,
        "start": point.start.unwrap_or(0), "flags": 0, "type": kind, "value": value, "attributes": point.own,
    });
    if point.is_counter {
        told["kind"] = "sum".into();
        told["monotonic"] = true.into();
    } else {
        told["kind"] = "gauge".into();
    }
    told
}

fn without_way(taken: Vec<Value>, by: &str) -> Vec<Value> {
    let one = |mut it: Value| {
        assert_eq!(it.as_object_mut().unwrap().remove("by"), Some(by.into()));
        it
    };
    taken.into_iter().map(one).collect()
}

/// What it refuses for a while comes again: each point is there once, as it was measured.
#[test]
fn every_point_arrives_as_it_was_measured() {
    let dir = tempfile::tempdir().unwrap();
    let answers = json!([
        { "status": 503, "headers": { "Retry-After": "1" } }, { "status": 429 }, { "status": 413 }, { "status": 502 },
    ]);
    let receiver = Played::start("otlp", dir.path(), &[("answers", &answers.to_string())]);
    let (section, api) = host_and_api(dir.path());
    let output = json!({ "kind": "otlp", "url": receiver.url() });
    let mut fell = false;
    let (told, printed) = collected(dir.path(), &section, &output, "points of both, and a start", |_| {
        let taken = receiver.taken();
        let of = |name: &str| taken.iter().filter(|it| it["name"] == name).count();
        if !fell && of("container.running") > 1 {
            // A counter that falls began anew, and from then on it is known since when it counts.
            set_usage(dir.path(), 5);
            fell = true;
        }
        of("container.running") > 3 && of("queue.depth") > 3 && taken.iter().any(|it| it["start"] != 0)
    });
    let measured = points(&told);
    same(&without_way(receiver.taken(), "http"), &measured.iter().map(expected).collect::<Vec<_>>());
    let has = |test: &dyn Fn(&Point) -> bool| assert!(measured.iter().any(test), "{measured:?}");
    has(&|it| it.value == json!(super::told::LARGE));
    has(&|it| it.value == json!(true) && it.unit == "1");
    has(&|it| it.is_counter && it.start.is_some_and(|start| start < it.time));
    has(&|it| !it.own.is_empty());
    has(&|it| it.metric == "queue.low" && it.value == json!(-2.5e-7));

    assert!(!api.asked().is_empty());
    assert_eq!(receiver.statuses()[..5], [503, 429, 413, 502, 200]);
    assert!(receiver.statuses()[4..].iter().all(|it| *it == 200), "{:?}", receiver.requests());
    let headers = &receiver.requests()[0]["headers"];
    assert_eq!(headers["content-encoding"], "gzip", "{headers}");
    assert!(printed.contains("it answers 503") && !printed.contains("refuses points"), "{printed}");
}

/// What it refuses for what it is, in part or as a whole, is counted and said, and nothing else is missing.
#[test]
fn what_is_refused_is_said_and_everything_else_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let answers = json!([{ "status": 400 }]);
    let refused = "container.memory.usage";
    let flags = [("answers", answers.to_string()), ("refuse", refused.to_owned())];
    let receiver = Played::start("otlp", dir.path(), &flags.each_ref().map(|it| (it.0, it.1.as_str())));
    let section = super::fixtures();
    let output = json!({ "kind": "otlp", "url": receiver.url() });
    let (told, printed) =
        collected(dir.path(), &section, &output, "a few rounds", |_| receiver.requests().len() > 4);
    // The first round was refused as a whole.
    let measured = points(&told[1..]);
    let left: Vec<_> = measured.iter().filter(|it| it.metric != refused).map(expected).collect();
    same(&without_way(receiver.taken(), "http"), &left);
    assert!(left.len() < measured.len());
    assert_eq!(receiver.requests().len(), told.len(), "nothing is sent again");
    assert!(printed.contains("it answers 400"), "{printed}");
    assert!(printed.contains(&format!("{refused} is refused")), "{printed}");
}

/// The same by gRPC: what is refused for a while comes again, when the receiver says, and what is refused in part does not.
#[test]
fn every_point_arrives_by_grpc() {
    let dir = tempfile::tempdir().unwrap();
    let answers = json!([
        { "grpc": "UNAVAILABLE", "status": 503, "retry_s": 1 }, { "grpc": "RESOURCE_EXHAUSTED", "status": 429 },
    ]);
    let refused = "container.memory.usage";
    let flags = [("answers", answers.to_string()), ("refuse", refused.to_owned())];
    let receiver = Played::start("otlp", dir.path(), &flags.each_ref().map(|it| (it.0, it.1.as_str())));
    let (section, _api) = host_and_api(dir.path());
    std::fs::write(dir.path().join("otlp.token"), "hunter22-token\n").unwrap();
    let output = json!({
        "kind": "otlp", "protocol": "grpc", "url": receiver.grpc_url(),
        "token_file": dir.path().join("otlp.token"),
    });
    let (told, printed) = collected(dir.path(), &section, &output, "points of both", |_| {
        let taken = receiver.taken();
        let of = |name: &str| taken.iter().filter(|it| it["name"] == name).count();
        of("container.running") > 3 && of("queue.depth") > 3
    });
    let measured = points(&told);
    let left: Vec<_> = measured.iter().filter(|it| it.metric != refused).map(expected).collect();
    same(&without_way(receiver.taken(), "grpc"), &left);
    assert!(left.len() < measured.len() && printed.contains(&format!("{refused} is refused")), "{printed}");
    assert!(printed.contains("answers Unavailable: ordered") && !printed.contains("hunter22"), "{printed}");
    let statuses: Vec<_> = receiver.requests().iter().map(|it| it["status"].clone()).collect();
    assert_eq!(statuses[..2], ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]);
    assert!(statuses[2..].iter().all(|it| it == "OK"), "{statuses:?}");
    let headers = &receiver.requests()[0]["headers"];
    assert_eq!(headers["authorization"], "Bearer hunter22-token");
}
