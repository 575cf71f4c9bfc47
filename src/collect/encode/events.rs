//! Events for what takes points: the numbers and flags of their fields, told apart by their texts.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use serde_json::{Map, Value};

use crate::model::{Event, Kind, Metric, MetricRef, Number, Point, Sample, Source, Tags, Unit};

/// How deep objects in objects are looked at.
const DEEPEST: usize = 16;

/// The most texts of an event that become tags.
const TEXTS: usize = 16;
/// The longest of them, in bytes: whatever is longer tells people something, and nothing apart.
const TEXT_BYTES: usize = 100;

/// How many points an event counts as.
#[must_use]
pub fn event_points(event: &Event) -> usize {
    let mut points = 0;
    walk(&event.fields, &mut String::new(), 0, &mut |_, leaf| {
        points += usize::from(matches!(leaf, Leaf::Number(_)));
    });
    points.max(1)
}

/// A sample for each event that has numbers: each a gauge `EVENT.FIELD`, with points between the names of nested fields.
/// What stands in arrays has no name of its own, and is left out.
///
/// Short texts that are no times are tags under the names of their fields, since an API that answers a hundred queues tells
/// them apart by their names: without these they would be one series. A name that the source has a tag of is given behind
/// the event's. What is not told apart even so, of one name, source and time, gets a tag `nth`.
///
/// Every number is a float, whether it has a fraction today or not: receivers with types refuse one that changes.
#[must_use]
pub fn as_samples(events: &[Event]) -> Vec<Sample> {
    let sample = |event: &Event| {
        let mut points = Vec::new();
        let mut texts = Vec::new();
        let prefix = event.name.len() + 1;
        walk(&event.fields, &mut event.name.to_string(), 0, &mut |name, leaf| match leaf {
            Leaf::Number(number) => {
                let unit = if matches!(number, Number::Flag(_)) { Unit::Flag } else { Unit::One };
                let metric = Metric { name: name.to_owned().into(), unit, kind: Kind::Gauge };
                let metric = MetricRef::Told(Arc::new(metric));
                points.push(Point { metric, tags: Tags::default(), number, start: None });
            }
            Leaf::Text(text) if tells_apart(text) => {
                let own = name.get(prefix..).unwrap_or(name);
                // InfluxDB takes no tag of the second name.
                let is_taken = event.source.tags.get(own).is_some() || own == "time";
                let name = if is_taken { name } else { own };
                texts.push((name.matches('.').count(), name.to_owned(), text.to_owned()));
            }
            Leaf::Text(_) => {}
        });
        Sample { source: told_apart(&event.source, texts), time: event.time, points }
    };
    let mut alike = HashMap::new();
    let mut samples = Vec::new();
    for event in events {
        let mut found = sample(event);
        if found.points.is_empty() {
            continue;
        }
        let nth: &mut usize =
            alike.entry((Arc::clone(&found.source), event.name.clone(), event.time)).or_default();
        *nth += 1;
        if *nth > 1 {
            found.source = told_apart(&found.source, vec![(0, "nth".to_owned(), nth.to_string())]);
        }
        samples.push(found);
    }
    samples
}

/// A source with tags of its own; those that are least deep go first where there are too many.
fn told_apart(source: &Arc<Source>, mut texts: Vec<(usize, String, String)>) -> Arc<Source> {
    if texts.is_empty() {
        return Arc::clone(source);
    }
    texts.sort();
    texts.truncate(TEXTS);
    let common = source.tags.iter().map(|it| (it.name.clone(), it.value.clone()));
    let own = texts.into_iter().map(|(_, name, text)| (name.into(), text.into()));
    Arc::new(Source { key: source.key.clone(), tags: Tags::new(common.chain(own)) })
}

/// Neither a time, which would begin a series with each poll, nor what only people read.
fn tells_apart(text: &str) -> bool {
    let fits = !text.is_empty() && text.len() <= TEXT_BYTES && !text.contains(char::is_control);
    let has_clock = text.as_bytes().windows(4).any(|it| {
        it[0].is_ascii_digit() && it[1] == b':' && it[2].is_ascii_digit() && it[3].is_ascii_digit()
    });
    fits && !has_clock
        && text.parse::<f64>().is_err()
        && text.parse::<Timestamp>().is_err()
        && text.parse::<jiff::civil::Date>().is_err()
}

/// What a field holds.
enum Leaf<'e> {
    Number(Number),
    Text(&'e str),
}

fn walk(fields: &Map<String, Value>, name: &mut String, depth: usize, found: &mut dyn FnMut(&str, Leaf<'_>)) {
    let above = name.len();
    for (field, value) in fields {
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(field);
        match value {
            Value::Object(inner) if depth < DEEPEST => walk(inner, name, depth + 1, found),
            Value::Number(number) => {
                if let Some(number) = number.as_f64().and_then(Number::float) {
                    found(name, Leaf::Number(number));
                }
            }
            Value::Bool(flag) => found(name, Leaf::Number(Number::Flag(*flag))),
            Value::String(text) => found(name, Leaf::Text(text)),
            _ => {}
        }
        name.truncate(above);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{Source, Time};

    fn event(fields: &Value) -> Event {
        let source = Arc::new(Source { key: "k".into(), tags: Tags::new([("api", "queues")]) });
        let time = Time::from_unix_nanos(1);
        Event { source, name: "queue".into(), time, fields: fields.as_object().unwrap().clone() }
    }

    #[test]
    fn numbers_and_flags_are_points_under_the_names_of_their_fields() {
        let found = event(&json!({
            "depth": 3, "rate": 1.5, "durable": true, "name": "q", "none": null, "list": [1, 2],
            "stats": { "in": { "total": 7 }, "out": {} },
        }));
        assert_eq!(event_points(&found), 4);
        let [sample] = as_samples(&[found]).try_into().unwrap();
        let points: Vec<_> = sample.points.iter().map(|it| (it.metric.name.to_string(), it.number)).collect();
        let float = |it| Number::float(it).unwrap();
        let expected = [
            ("queue.depth", float(3.0)),
            ("queue.durable", Number::Flag(true)),
            ("queue.rate", float(1.5)),
            ("queue.stats.in.total", float(7.0)),
        ];
        assert_eq!(points.len(), 4);
        assert!(
            expected.iter().all(|(name, number)| points.contains(&((*name).to_owned(), *number))),
            "{points:?}"
        );
        assert_eq!(sample.source.tags.get("api"), Some("queues"));
    }

    #[test]
    fn events_of_one_poll_are_told_apart_by_their_texts() {
        let queue = |name: &str| {
            event(&json!({
                "name": name, "api": "other", "depth": 1, "idle_since": "2026-11-29T10:00:00Z", "size": "12.5",
                "date": "2026-11-29 10:00:00", "http": "Sun, 29 Nov 2026 10:00:00 GMT", "day": "2026-11-29",
                "clock": "9:15", "time": "now", "long": "x".repeat(200), "none": "", "in": { "kind": "fast" },
            }))
        };
        let [one, other] = as_samples(&[queue("q1"), queue("q2")]).try_into().unwrap();
        assert_ne!(one.source.tags, other.source.tags);
        let tags: Vec<_> = one.source.tags.iter().map(|it| (&*it.name, &*it.value)).collect();
        let expected = [
            ("api", "queues"),
            ("name", "q1"),
            ("in.kind", "fast"),
            ("queue.api", "other"),
            ("queue.time", "now"),
        ];
        assert_eq!(tags, expected);
        let same = event(&json!({ "id": 7, "depth": 1 }));
        let samples = as_samples(&[same.clone(), same.clone(), same]);
        let nth: Vec<_> = samples.iter().map(|it| it.source.tags.get("nth")).collect();
        assert_eq!(nth, [None, Some("2"), Some("3")]);
        let many: Map<String, Value> = (0..100).map(|at| (format!("f{at}"), json!("text"))).collect();
        let mut many = event(&Value::Object(many));
        many.fields.insert("n".into(), json!(1));
        assert_eq!(as_samples(&[many])[0].source.tags.iter().count(), 1 + TEXTS);
    }

    #[test]
    fn an_event_without_numbers_counts_and_is_no_sample() {
        let found = event(&json!({ "message": "hello" }));
        assert_eq!(event_points(&found), 1);
        assert!(as_samples(&[found]).is_empty());
    }

    #[test]
    fn a_deep_object_ends_somewhere() {
        let mut deep = json!(1);
        for _ in 0..100 {
            deep = json!({ "a": deep });
        }
        assert_eq!(event_points(&event(&deep)), 1);
    }
}
