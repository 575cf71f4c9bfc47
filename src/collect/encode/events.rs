//! Events for what takes points: the numbers and flags of their fields.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::model::{Event, Kind, Metric, MetricRef, Number, Point, Sample, Tags, Unit};

/// How deep objects in objects are looked at.
const DEEPEST: usize = 16;

/// How many points an event counts as.
#[must_use]
pub fn event_points(event: &Event) -> usize {
    let mut points = 0;
    walk(&event.fields, &mut String::new(), 0, &mut |_, _| points += 1);
    points.max(1)
}

/// A sample for each event that has numbers: each a gauge `EVENT.FIELD`, with points between the names of nested fields.
/// What stands in arrays has no name of its own, and is left out, as texts are.
///
/// Every number is a float, whether it has a fraction today or not: receivers with types refuse one that changes.
#[must_use]
pub fn as_samples(events: &[Event]) -> Vec<Sample> {
    let sample = |event: &Event| {
        let mut points = Vec::new();
        let mut name = event.name.to_string();
        walk(&event.fields, &mut name, 0, &mut |name, number| {
            let unit = if matches!(number, Number::Flag(_)) { Unit::Flag } else { Unit::One };
            let metric = Metric { name: name.to_owned().into(), unit, kind: Kind::Gauge };
            let metric = MetricRef::Told(Arc::new(metric));
            points.push(Point { metric, tags: Tags::default(), number, start: None });
        });
        Sample { source: Arc::clone(&event.source), time: event.time, points }
    };
    events.iter().map(sample).filter(|it| !it.points.is_empty()).collect()
}

fn walk(fields: &Map<String, Value>, name: &mut String, depth: usize, found: &mut dyn FnMut(&str, Number)) {
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
                    found(name, number);
                }
            }
            Value::Bool(flag) => found(name, Number::Flag(*flag)),
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
