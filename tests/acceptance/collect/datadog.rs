//! Datadog's series by a receiver that decodes them with the models of Datadog's own client.

use serde_json::{Value, json};

use super::receivers::Played;
use super::simulator::{Answer, Simulator};
use super::told::{Point, collected, host_and_api, points, polling, same};
use crate::random::Random;

/// Datadog's limits of a body, as it is sent and before it is compressed.
const SENT: u64 = 512_000;
const PLAIN: u64 = 5_242_880;

/// A point as the receiver has to have it: a gauge, in whole seconds, with its host as a resource.
fn expected(point: &Point) -> Value {
    let mut tags = point.tags();
    let resources: Vec<_> = tags.remove("host").map(|it| ["host".to_owned(), it]).into_iter().collect();
    let mut tags: Vec<_> = tags.iter().map(|(name, value)| format!("{name}:{value}")).collect();
    tags.sort();
    let unit = match point.unit.as_str() {
        "By" | "By/s" => Some("byte"),
        "ns" => Some("nanosecond"),
        "%" => Some("percent"),
        _ => None,
    };
    json!({
        "metric": point.metric, "type": 3, "unit": unit, "tags": tags, "resources": resources,
        "timestamp": point.time.div_euclid(1_000_000_000), "value": point.float(),
    })
}

fn within_limits(receiver: &Played) {
    for request in receiver.requests() {
        let size = |name: &str| request[name].as_u64().unwrap();
        assert!(size("sent") <= SENT && size("plain") <= PLAIN, "{request}");
    }
}

/// The key is a wrong one at first, and it is busy: each point is there once, as it was measured.
#[test]
fn every_point_arrives_as_it_was_measured() {
    let dir = tempfile::tempdir().unwrap();
    let answers = json!([
        { "status": 429, "headers": { "X-RateLimit-Reset": "1" } }, { "status": 413 }, { "status": 408 },
        { "status": 503 },
    ]);
    let flags = [("key", "not-a-real-key"), ("answers", &answers.to_string())];
    let receiver = Played::start("datadog", dir.path(), &flags);
    let (section, _api) = host_and_api(dir.path());
    let key = dir.path().join("key");
    std::fs::write(&key, "another-key").unwrap();
    let output = json!({ "kind": "datadog", "url": receiver.url(), "api_key_file": key });
    let (told, printed) = collected(dir.path(), &section, &output, "points of both", |printed| {
        if printed.contains("it answers 403") {
            std::fs::write(&key, "not-a-real-key").unwrap();
        }
        let taken = receiver.taken();
        let of = |name: &str| taken.iter().filter(|it| it["metric"] == name).count();
        of("container.running") > 3 && of("queue.depth") > 3
    });
    let measured: Vec<_> = points(&told).iter().map(expected).collect();
    same(&receiver.taken(), &measured);
    for unit in ["byte", "nanosecond", "percent"] {
        assert!(measured.iter().any(|it| it["unit"] == unit), "none in {unit}");
    }
    let statuses: Vec<_> = receiver.statuses().into_iter().skip_while(|it| *it == 403).collect();
    assert_eq!(statuses[..4], [429, 413, 408, 503]);
    assert!(statuses[4..].iter().all(|it| *it == 202), "{statuses:?}");
    within_limits(&receiver);
    assert!(printed.contains("it answers 403") && printed.contains("Forbidden"), "{printed}");
    assert!(!printed.contains("-key"), "{printed}");
}

/// Polls an API once that answers these numbers: each is a series of its own.
fn all_at_once(numbers: Vec<(String, u64)>, tags: &Value) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Played::start("datadog", dir.path(), &[("key", "k")]);
    let all = numbers.len();
    let fields: serde_json::Map<_, _> =
        numbers.into_iter().map(|(name, value)| (name, value.into())).collect();
    let text = Value::from(fields).to_string();
    let api = Simulator::start(move |_| Answer::ok(text.clone()));
    let mut apis = polling(&api);
    // The first poll is within the interval; whatever another one brings is compared as well.
    apis[0]["interval_ms"] = 10_000.into();
    let output = json!({ "kind": "datadog", "url": receiver.url(), "api_key": "k" });
    let section = json!({ "apis": apis, "tags": tags });
    let (told, printed) =
        collected(dir.path(), &section, &output, "all points", |_| receiver.taken_count() >= all);
    same(&receiver.taken(), &points(&told).iter().map(expected).collect::<Vec<_>>());
    assert!(receiver.statuses().iter().all(|it| *it == 202), "{printed}");
    within_limits(&receiver);
    receiver.requests()
}

fn sum(requests: &[Value], name: &str) -> u64 {
    requests.iter().map(|it| it[name].as_u64().unwrap()).sum()
}

/// One poll has more than fits into a body as it is sent: nothing is refused or missing.
#[test]
fn no_body_is_larger_than_it_takes_when_it_is_sent() {
    let mut random = Random::new(1);
    // Names and whole numbers that no compression makes much smaller.
    let mut name =
        |at| (0..9).fold(format!("n{at}_"), |name, _| format!("{name}{:012x}", random.below(1 << 48)));
    let names: Vec<_> = (0..7000).map(&mut name).collect();
    let numbers = names.into_iter().map(|name| (name, random.below(1 << 53)));
    let requests = all_at_once(numbers.collect(), &json!({}));
    assert!(sum(&requests, "sent") > SENT && sum(&requests, "plain") < PLAIN, "{requests:?}");
}

/// The same of a body before it is compressed.
#[test]
fn no_body_is_larger_than_it_takes_when_it_is_unpacked() {
    let tags: serde_json::Map<_, _> = (0..12).map(|it| (format!("t{it}"), "x".repeat(190).into())).collect();
    let requests = all_at_once((0..2400).map(|at| (format!("n{at}"), at)).collect(), &tags.into());
    assert!(sum(&requests, "sent") < SENT && sum(&requests, "plain") > PLAIN, "{requests:?}");
}
