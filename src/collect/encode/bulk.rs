//! Elasticsearch's and OpenSearch's `_bulk`: two lines a document, its action and itself.
//!
//! # Invariants
//! - A document's id is made of what is in it, and it is only ever created: sent a second time, it is there once.
//! - Each document is a part of its body, since the receiver judges each by itself.
//! - An event is a document; so are the points of a sample that have the same tags.
//! - No name of a field has a dot: the receivers read `a.b` as `b` inside of an object `a`, and refuse a document in which,
//!   or in whose index, `a` is a number as well. Dots become `_`, and nothing is lost where two names become one.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::map::Entry;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{Body, Part, event_points};
use crate::model::{Event, Number, Sample, Source, Tags, Time};

/// The largest body, in bytes: a twentieth of what the receivers take unless they are told otherwise.
pub const BYTES: usize = 5 << 20;

/// Samples as bodies.
#[must_use]
pub fn samples(batch: &[Sample], index: &str, most: usize) -> Vec<Body> {
    let mut bodies = Bodies::new(index, most);
    for sample in batch {
        let mut done = vec![false; sample.points.len()];
        for first in 0..sample.points.len() {
            if done[first] {
                continue;
            }
            let tags = &sample.points[first].tags;
            let (mut metrics, mut points) = (Map::new(), 0);
            for (at, point) in sample.points.iter().enumerate().skip(first) {
                if done[at] || point.tags != *tags {
                    continue;
                }
                // A second one of a name is in the next document.
                if let Entry::Vacant(place) = metrics.entry(undotted(&point.metric.name)) {
                    place.insert(number(point.number));
                    done[at] = true;
                    points += 1;
                }
            }
            let mut document = document(&sample.source, tags, sample.time);
            document.insert("metrics".into(), metrics.into());
            bodies.add(sample.time, document, points);
        }
    }
    bodies.finish()
}

/// Events as bodies.
#[must_use]
pub fn events(batch: &[Event], index: &str, most: usize) -> Vec<Body> {
    let mut bodies = Bodies::new(index, most);
    for event in batch {
        let mut document = document(&event.source, &Tags::default(), event.time);
        document.insert("event".into(), json!({ "dataset": event.name }));
        document.insert("fields".into(), fields(&event.fields).into());
        bodies.add(event.time, document, event_points(event));
    }
    bodies.finish()
}

/// The documents at some places of a body, as a body of their own.
#[must_use]
pub fn only(body: &Body, places: &[usize]) -> Body {
    let mut left = Body::whole(Vec::new(), 0);
    for at in places {
        let start = at.checked_sub(1).and_then(|it| body.parts.get(it)).map_or(0, |it| it.end);
        let Some(part) = body.parts.get(*at) else { continue };
        left.bytes.extend_from_slice(body.bytes.get(start..part.end).unwrap_or_default());
        left.points += part.points;
        left.parts.push(Part { end: left.bytes.len(), points: part.points });
    }
    left
}

fn document(source: &Source, own: &Tags, time: Time) -> Map<String, Value> {
    let tags = source.tags.iter().filter(|it| own.get(&it.name).is_none()).chain(own);
    let labels = renamed(tags.map(|it| (&*it.name, it.value.to_string().into())));
    let mut document = Map::new();
    document.insert("@timestamp".into(), moment(time).to_string().into());
    document.insert("source".into(), source.key.to_string().into());
    document.insert("labels".into(), labels.into());
    document
}

fn undotted(name: &str) -> String {
    name.replace('.', "_")
}

/// The fields of an event, with those of the objects in it.
fn fields(all: &Map<String, Value>) -> Map<String, Value> {
    renamed(all.iter().map(|(name, value)| (name.as_str(), inner(value))))
}

/// Under names without dots, each of its own.
fn renamed<'n>(all: impl Iterator<Item = (&'n str, Value)>) -> Map<String, Value> {
    let mut renamed = Map::new();
    for (name, value) in all {
        let mut name = undotted(name);
        while renamed.contains_key(&name) {
            name.push('_');
        }
        renamed.insert(name, value);
    }
    renamed
}

fn inner(value: &Value) -> Value {
    match value {
        Value::Object(all) => fields(all).into(),
        Value::Array(all) => all.iter().map(inner).collect(),
        other => other.clone(),
    }
}

/// Whole numbers stay whole up to 2^63 - 1, the largest `long`: the receivers refuse the document of a larger one.
fn number(number: Number) -> Value {
    match number {
        Number::Unsigned(value) => i64::try_from(value).unwrap_or(i64::MAX).into(),
        Number::Signed(value) => value.into(),
        Number::Float(value) => value.into(),
        Number::Flag(value) => value.into(),
    }
}

fn moment(time: Time) -> Timestamp {
    Timestamp::from_nanosecond(time.unix_nanos().into()).unwrap_or_default()
}

struct Bodies<'i> {
    index: &'i str,
    most: usize,
    full: Vec<Body>,
    body: Body,
}

impl<'i> Bodies<'i> {
    fn new(index: &'i str, most: usize) -> Self {
        let body = Body::whole(Vec::new(), 0);
        Self { index, most, full: Vec::new(), body }
    }

    fn add(&mut self, time: Time, document: Map<String, Value>, points: usize) {
        let text = Value::Object(document).to_string();
        let id: String = Sha256::digest(&text)[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let index = moment(time).to_zoned(TimeZone::UTC).strftime(self.index).to_string();
        let action = json!({ "create": { "_index": index, "_id": id } }).to_string();
        if !self.body.bytes.is_empty() && self.body.bytes.len() + action.len() + text.len() + 2 > self.most {
            let next = Body::whole(Vec::new(), 0);
            self.full.push(std::mem::replace(&mut self.body, next));
        }
        for line in [action, text] {
            self.body.bytes.extend_from_slice(line.as_bytes());
            self.body.bytes.push(b'\n');
        }
        self.body.points += points;
        self.body.parts.push(Part { end: self.body.bytes.len(), points });
    }

    fn finish(mut self) -> Vec<Body> {
        self.full.extend(Some(self.body).filter(|it| it.points > 0));
        self.full
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::tests::{batch, counter, gauge};

    #[test]
    fn a_document_is_the_same_each_time_it_is_made() {
        let all = batch(&[("env", "prod")], vec![counter(7), gauge(1.5)]);
        let [body] = samples(&all, "m-%Y.%m.%d", BYTES).try_into().unwrap();
        assert_eq!(std::slice::from_ref(&body), samples(&all, "m-%Y.%m.%d", BYTES));
        assert_eq!((body.points, body.parts.len()), (2, 1));
        let lines: Vec<Value> = body
            .bytes
            .split(|it| *it == b'\n')
            .filter(|it| !it.is_empty())
            .map(|it| serde_json::from_slice(it).unwrap())
            .collect();
        assert_eq!(lines[0]["create"]["_index"], "m-1970.01.01");
        assert_eq!(lines[0]["create"]["_id"].as_str().unwrap().len(), 32);
        assert_eq!(lines[1]["@timestamp"], "1970-01-01T00:00:01.5Z");
        assert_eq!(lines[1]["metrics"], json!({ "container_cpu_usage": 7, "container_cpu_used": 1.5 }));
        assert_eq!(lines[1]["labels"]["env"], "prod");
    }

    #[test]
    fn every_metric_of_ours_is_a_field_of_its_own_without_dots() {
        let names: Vec<_> = crate::catalogue::ALL.iter().map(|it| undotted(&it.0.name)).collect();
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(names.len(), distinct.len());
        assert!(names.iter().all(|it| !it.contains('.')));
    }

    #[test]
    fn names_that_become_one_lose_nothing() {
        let twice = batch(&[("a.b", "x")], vec![gauge(1.0), gauge(2.0)]);
        let [body] = samples(&twice, "m", BYTES).try_into().unwrap();
        assert_eq!((body.points, body.parts.len()), (2, 2));
        let fields = json!({ "a": 1, "a.b": 2, "a_b": 3, "deep": [{ "c": 1, "c.d": 2 }], "big": 1 });
        let found = Value::from(super::fields(fields.as_object().unwrap()));
        let expected = json!({ "a": 1, "a_b": 2, "a_b_": 3, "deep": [{ "c": 1, "c_d": 2 }], "big": 1 });
        assert_eq!(found, expected);
        assert_eq!(number(Number::Unsigned(u64::MAX)), json!(i64::MAX));
    }

    #[test]
    fn a_body_can_be_cut_down_to_some_of_its_documents() {
        let all: Vec<_> =
            (0..4).flat_map(|it| batch(&[("n", ["a", "b", "c", "d"][it])], vec![gauge(1.0)])).collect();
        let [body] = samples(&all, "m", BYTES).try_into().unwrap();
        let left = only(&body, &[1, 3]);
        let text = String::from_utf8(left.bytes).unwrap();
        assert_eq!((left.points, left.parts.len(), text.lines().count()), (2, 2, 4));
        assert!(
            text.contains(r#""n":"b""#) && text.contains(r#""n":"d""#) && !text.contains(r#""n":"a""#),
            "{text}"
        );
        assert_eq!(samples(&all, "m", 300).len(), 4, "small bodies");
    }
}
