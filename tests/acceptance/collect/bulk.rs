//! Elasticsearch's `_bulk` by a played receiver that its own client has tried: what it maps and refuses, a real one does too.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::receivers::Played;
use super::simulator::{Answer, Simulator};
use super::told::{Point, collected, host_and_api, points, polling, same, set_usage};

/// How many documents have been answered with a status.
pub(super) fn documents(receiver: &Played, status: u16) -> u64 {
    let of = |it: &Value| it["documents"][status.to_string()].as_u64().unwrap_or(0);
    receiver.requests().iter().map(of).sum()
}

/// What was wrong with documents, each thing once.
fn errors(receiver: &Played) -> BTreeSet<String> {
    let all = receiver.requests();
    let all = all.iter().filter_map(|it| it["errors"].as_array()).flatten();
    all.map(|it| it["reason"].as_str().unwrap_or_default().to_owned()).collect()
}

/// A document a sample and its points' own tags, and one an event.
fn expected(lines: &[Value]) -> Vec<Value> {
    let mut all = Vec::new();
    for line in lines {
        let whole =
            |tags: Value| json!({ "@timestamp": line["time"], "source": line["source"], "labels": tags });
        if line.get("event").is_some() {
            let mut document = whole(line["tags"].clone());
            document["event"] = json!({ "dataset": line["event"] });
            document["fields"] = line["fields"].clone();
            all.push(document);
            continue;
        }
        let mut groups: BTreeMap<_, Vec<Point>> = BTreeMap::new();
        for point in points(std::slice::from_ref(line)) {
            groups.entry(point.own.clone()).or_default().push(point);
        }
        for group in groups.into_values() {
            let mut document = whole(json!(group[0].tags()));
            document["metrics"] =
                group.iter().map(|it| (it.metric.replace('.', "_"), it.value.clone())).collect();
            all.push(document);
        }
    }
    all
}

fn sources(receiver: &Played) -> Vec<Value> {
    receiver.taken().into_iter().map(|it| it["source"].clone()).collect()
}

/// Where names are not taken for paths.
pub(super) const FLAT: &str =
    r#"{"t":{"index_patterns":["*"],"template":{"mappings":{"subobjects":false}}}}"#;

/// It is busy, with all and with some, and dies when it has taken something but not said so: each document is there once.
#[test]
fn every_document_is_there_once() {
    let dir = tempfile::tempdir().unwrap();
    let answers = json!([
        { "status": 429 }, { "status": 413 }, { "status": 503, "late": true },
        { "documents": [429] }, { "documents": [503] }, { "status": 502, "late": true },
    ]);
    let flags = [("templates", FLAT), ("api-key", "not-a-real-key"), ("answers", &answers.to_string())];
    let receiver = Played::start("bulk", dir.path(), &flags);
    let (section, _api) = host_and_api(dir.path());
    // The large counter has a test of its own.
    set_usage(dir.path(), 5);
    let output = json!({ "kind": "elasticsearch", "url": receiver.url(), "index": "m-%Y", "api_key": "not-a-real-key" });
    let (told, printed) = collected(dir.path(), &section, &output, "documents of both", |_| {
        let taken = sources(&receiver);
        let of = |name: &str| taken.iter().filter(|it| it.get(name).is_some()).count();
        of("metrics") > 9 && of("fields") > 3
    });
    same(&sources(&receiver), &expected(&told));
    assert!(documents(&receiver, 409) > 0, "what was taken and not answered comes again");
    assert_eq!((documents(&receiver, 429), documents(&receiver, 503)), (1, 1));
    assert_eq!(documents(&receiver, 201), receiver.taken().len() as u64);
    assert_eq!(documents(&receiver, 400), 0, "{:?}", errors(&receiver));
    assert!(!printed.contains("refuses points") && !printed.contains("-key"), "{printed}");
}

/// As an index is where nobody has set anything up: names with dots are paths there, and every document has to fit.
#[test]
fn every_document_fits_an_index_that_nobody_has_prepared() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Played::start("bulk", dir.path(), &[]);
    let output = json!({ "kind": "elasticsearch", "url": receiver.url() });
    let (told, printed) =
        collected(dir.path(), &super::fixtures(), &output, "a few rounds", |_| receiver.requests().len() > 3);
    let measured = points(&told);
    assert!(measured.iter().any(|it| it.metric.starts_with("container.pressure.cpu.some")), "no pressure");
    assert_eq!(documents(&receiver, 400), 0, "{:#?}", errors(&receiver));
    assert_eq!(receiver.taken().len(), expected(&told).len());
    assert!(!printed.contains("refuses points"), "{printed}");
}

/// Its whole numbers have 63 bits and a sign. One that is beyond them must not cost the rest of its document.
#[test]
fn a_counter_beyond_its_whole_numbers_costs_no_document() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Played::start("bulk", dir.path(), &[("templates", FLAT)]);
    let (mut section, _api) = host_and_api(dir.path());
    section.as_object_mut().unwrap().remove("apis");
    let output = json!({ "kind": "elasticsearch", "url": receiver.url() });
    let (told, _) =
        collected(dir.path(), &section, &output, "a few rounds", |_| receiver.requests().len() > 3);
    assert!(points(&told).iter().any(|it| it.value == json!(super::told::LARGE)));
    assert_eq!(documents(&receiver, 400), 0, "{:#?}", errors(&receiver));
    let usage: Vec<_> = sources(&receiver)
        .iter()
        .filter_map(|it| it["metrics"].get("container_cpu_usage").cloned())
        .collect();
    assert!(!usage.is_empty() && usage.iter().all(|it| *it == json!(i64::MAX)), "{usage:?}");
}

/// One of three documents has another type than its field: that one is counted and said, and not sent again.
#[test]
fn a_document_that_does_not_fit_is_said_and_costs_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Played::start("bulk", dir.path(), &[]);
    let api = Simulator::start(|_| {
        Answer::ok(
            json!([{ "depth": 1 }, { "depth": "deep" }, { "depth": { "now": 2 } }, { "depth": 3 }])
                .to_string(),
        )
    });
    let output = json!({ "kind": "elasticsearch", "url": receiver.url() });
    let section = json!({ "apis": polling(&api) });
    let (told, printed) =
        collected(dir.path(), &section, &output, "a few polls", |_| receiver.requests().len() > 3);
    let all = expected(&told);
    let fit: Vec<_> = all.iter().filter(|it| it["fields"]["depth"].is_i64()).cloned().collect();
    same(&sources(&receiver), &fit);
    let polls = receiver.requests().len();
    assert_eq!((all.len(), fit.len()), (4 * polls, 2 * polls), "each poll is sent once");
    assert_eq!(documents(&receiver, 400), 2 * polls as u64);
    assert!(printed.contains("document_parsing_exception"), "{printed}");
    assert!(printed.contains("failed to parse field [fields.depth] of type [long]"), "{printed}");
}
