//! What `json_lines` has of what was measured and polled, a point each: what another output of the same run is compared with.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::simulator::{Answer, Simulator};
use super::{configure, fixtures, lines};
use crate::support::{Running, outrider, repository, run, until};

type Tags = BTreeMap<String, String>;

/// A point, or what points are made of by outputs that take no events.
#[derive(Debug, Clone)]
pub(super) struct Point {
    /// In nanoseconds since 1970, as is the start.
    pub(super) time: i64,
    pub(super) source: Tags,
    pub(super) own: Tags,
    pub(super) metric: String,
    pub(super) is_counter: bool,
    pub(super) unit: String,
    pub(super) value: Value,
    pub(super) start: Option<i64>,
}

impl Point {
    /// The tags of its source and its own, which win.
    pub(super) fn tags(&self) -> Tags {
        self.source.iter().chain(&self.own).map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Its value for what knows no whole numbers and no flags.
    pub(super) fn float(&self) -> f64 {
        match &self.value {
            Value::Bool(flag) => f64::from(u8::from(*flag)),
            value => value.as_f64().unwrap(),
        }
    }
}

/// All points of lines; the numbers and flags of events are points too, each under its event's name and with its event's
/// texts as tags.
pub(super) fn points(lines: &[Value]) -> Vec<Point> {
    let mut all = Vec::new();
    for line in lines {
        let (time, source) = (nanos(&line["time"]), tags(&line["tags"]));
        for point in line["points"].as_array().into_iter().flatten() {
            all.push(Point {
                time,
                source: source.clone(),
                own: tags(&point["tags"]),
                metric: point["metric"].as_str().unwrap().to_owned(),
                is_counter: point["kind"] == "counter",
                unit: point["unit"].as_str().unwrap().to_owned(),
                value: point["value"].clone(),
                start: point.get("start").map(nanos),
            });
        }
        if let Some(fields) = line["fields"].as_object() {
            let mut found = Vec::new();
            flattened(fields, line["event"].as_str().unwrap(), &mut found);
            let texts = fields.iter().filter_map(|(name, it)| Some((name.clone(), it.as_str()?.to_owned())));
            let source: Tags =
                source.iter().map(|(name, it)| (name.clone(), it.clone())).chain(texts).collect();
            all.extend(found.into_iter().map(|(metric, value)| Point {
                time,
                source: source.clone(),
                own: Tags::new(),
                metric,
                is_counter: false,
                unit: "1".into(),
                value,
                start: None,
            }));
        }
    }
    all
}

fn flattened(fields: &Map<String, Value>, above: &str, found: &mut Vec<(String, Value)>) {
    for (name, value) in fields {
        let name = format!("{above}.{name}");
        match value {
            Value::Object(inner) => flattened(inner, &name, found),
            Value::Number(number) => found.push((name, json!(number.as_f64().unwrap()))),
            Value::Bool(_) => found.push((name, value.clone())),
            _ => {}
        }
    }
}

fn nanos(text: &Value) -> i64 {
    let time: Timestamp = text.as_str().unwrap().parse().unwrap();
    time.as_nanosecond().try_into().unwrap()
}

fn tags(of: &Value) -> Tags {
    let all = of.as_object().into_iter().flatten();
    all.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

/// Compares two lists whose order means nothing.
pub(super) fn same(found: &[Value], expected: &[Value]) {
    let sorted = |all: &[Value]| {
        let mut all: Vec<_> = all.iter().map(Value::to_string).collect();
        all.sort();
        all
    };
    let (found, expected) = (sorted(found), sorted(expected));
    let differs = found.iter().zip(&expected).find(|(found, expected)| found != expected);
    assert!(differs.is_none(), "found and expected: {differs:#?}");
    assert_eq!(found.len(), expected.len(), "{:?} {:?}", found.last(), expected.last());
}

/// A counter beyond what 63 bits hold, as a kernel may say it.
pub(super) const LARGE: u64 = u64::MAX - 1;

/// An API, and the fixtures' host with a counter that is [`LARGE`] and a device, both as a section without outputs.
pub(super) fn host_and_api(folder: &Path) -> (Value, Simulator) {
    let cgroups = folder.join("cgroups");
    let copied = run(Command::new("cp")
        .arg("-r")
        .arg(repository().join("fixtures/collect/valid/cgroup/hybrid"))
        .arg(&cgroups));
    assert!(copied.status.success());
    set_usage(folder, LARGE);
    // A device, so that some points have tags of their own.
    for name in ["io_service_bytes", "io_serviced"] {
        for end in ["", "_recursive"] {
            let file = cgroups.join(format!("blkio/docker/c0ffee/blkio.throttle.{name}{end}"));
            std::fs::write(file, "8:0 Read 4096\n8:0 Write 12\n8:0 Total 4108\nTotal 4108\n").unwrap();
        }
    }
    let api = Simulator::start(|_| {
        Answer::ok(
            json!({ "depth": 3, "rate": 0.1, "low": -2.5e-7, "durable": true, "name": "q", "in": { "total": 1e15 } })
                .to_string(),
        )
    });
    let mut section = fixtures();
    section["cgroup_path"] = json!(cgroups);
    section["tags"]["host"] = "h1".into();
    section["apis"] = polling(&api);
    (section, api)
}

/// What that host has used of its processors, from now on.
pub(super) fn set_usage(folder: &Path, nanoseconds: u64) {
    // In its place: who measures keeps it open.
    let file = folder.join("cgroups/cpuacct/docker/c0ffee/cpuacct.usage");
    std::fs::write(file, format!("{nanoseconds}\n")).unwrap();
}

/// One API, polled as fast as the host is measured.
pub(super) fn polling(api: &Simulator) -> Value {
    let nodes = json!([{ "url": api.url() }]);
    json!([{
        "name": "g", "interval_ms": 100,
        "systems": [{ "name": "s", "vdcs": [{ "name": "v", "nodes": nodes }] }],
        "apis": [{ "name": "queue", "level": "system", "path": "/queues" }],
    }])
}

/// Collects into an output and into a file, until something is said to be done, and then to a clean end. Answers what is in the
/// file, and what was printed.
pub(super) fn collected(
    folder: &Path,
    section: &Value,
    output: &Value,
    what: &str,
    mut done: impl FnMut(&str) -> bool,
) -> (Vec<Value>, String) {
    let mut section = section.clone();
    let file = folder.join("samples");
    section["outputs"] = json!([output, { "kind": "json_lines", "path": file }]);
    let root = folder.join("root");
    configure(&root, &section);
    let mut collect = Running::start(outrider(&root).arg("collect"), &folder.join("collect.out"));
    until(what, || {
        assert!(collect.child_runs(), "{}", collect.printed());
        done(&collect.printed()).then_some(())
    });
    collect.signal("TERM");
    assert_eq!(collect.ended(), Some(0), "{}", collect.printed());
    (lines(&file), collect.printed())
}
