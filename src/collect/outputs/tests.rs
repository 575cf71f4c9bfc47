//! Outputs against receivers that fail in every way: what arrives, what is told, and that none holds another up.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri};
use outrider_protocol::collect::{
    Access, Credential, InfluxStore, OtlpProtocol, Output, OutputReport, Reach, To,
};

use super::*;
use crate::catalogue::MEMORY_USAGE;
use crate::model::{Event, MetricRef, Number, Point, Source, Tags, Time};

/// Longer than anything takes; a state ends it at once.
const SOON: Duration = Duration::from_secs(30);
const TIMING: Timing = Timing {
    connect: Duration::from_secs(5),
    answer: Duration::from_secs(5),
    retry_first: Duration::from_millis(5),
    retry_most: Duration::from_millis(50),
};

/// What a receiver was sent.
#[derive(Debug, Clone)]
struct Got {
    uri: Uri,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Got {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A receiver with answers that are given in order; then it takes everything.
#[derive(Debug, Clone, Default)]
struct Receiver {
    answers: Arc<Mutex<VecDeque<(u16, String)>>>,
    got: Arc<Mutex<Vec<Got>>>,
    /// Whether it does not answer at all.
    hangs: bool,
    /// Bodies it refuses with 400, whatever else it was told to answer.
    refuses: Option<fn(&[u8]) -> bool>,
    /// Bodies on which it answers 500, whatever else it was told to answer.
    breaks_at: Option<fn(&[u8]) -> bool>,
}

impl Receiver {
    fn answering(answers: &[(u16, &str)]) -> Self {
        let answers = answers.iter().map(|(status, text)| (*status, (*text).to_owned())).collect();
        Self { answers: Arc::new(Mutex::new(answers)), ..Self::default() }
    }

    async fn start(&self) -> String {
        let it = self.clone();
        let handler = move |uri: Uri, headers: HeaderMap, body: Bytes| async move {
            it.got.lock().unwrap().push(Got { uri, headers, body: body.to_vec() });
            if it.refuses.is_some_and(|refuses| refuses(&body)) {
                return (StatusCode::BAD_REQUEST, "out of order sample".to_owned());
            }
            if it.breaks_at.is_some_and(|breaks| breaks(&body)) {
                return (StatusCode::INTERNAL_SERVER_ERROR, "a bug".to_owned());
            }
            if it.hangs {
                std::future::pending::<()>().await;
            }
            let (status, text) = it.answers.lock().unwrap().pop_front().unwrap_or((204, String::new()));
            (StatusCode::from_u16(status).unwrap(), text)
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(handler)).await });
        url
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }
}

fn samples(number: u64, count: usize) -> Vec<Sample> {
    let source = Arc::new(Source { key: "/a#1".into(), tags: Tags::new([("cgroup", "/a")]) });
    let point = |at: usize| Point {
        metric: MetricRef::Known(&MEMORY_USAGE),
        tags: Tags::new([("at", at.to_string())]),
        number: Number::Unsigned(number),
        start: None,
    };
    vec![Sample { source, time: Time::from_unix_nanos(7), points: (0..count).map(point).collect() }]
}

fn influx(url: &str) -> To {
    let store = InfluxStore::V2 {
        org: "o".into(),
        bucket: "b".into(),
        token: Credential::Given("hunter22-token".into()),
    };
    To::Influx { url: url.to_owned(), measurement: "m".into(), store }
}

type Heard = Arc<Mutex<Vec<(String, News)>>>;

fn start(outputs: &[(&str, usize, To)]) -> (Outputs, Heard) {
    let outputs: Vec<_> = outputs
        .iter()
        .map(|(name, most, to)| Output {
            name: (*name).to_owned(),
            queue_points: *most,
            queue_bytes: None,
            ca_file: None,
            reach: Reach::Anywhere,
            to: to.clone(),
        })
        .collect();
    set_up(&outputs, Path::new("/nowhere"))
}

fn set_up(outputs: &[Output], state: &Path) -> (Outputs, Heard) {
    try_set_up(outputs, state).unwrap()
}

fn try_set_up(outputs: &[Output], state: &Path) -> Result<(Outputs, Heard), SetupError> {
    let heard = Heard::default();
    let hearing = Arc::clone(&heard);
    let tell: Tell = Arc::new(move |name, news| hearing.lock().unwrap().push((name.to_owned(), news)));
    Ok((Outputs::start(outputs, state, TIMING, &tell)?, heard))
}

async fn until(inlet: &Inlet, what: &str, is: impl Fn(&[OutputReport]) -> bool) -> Vec<OutputReport> {
    let begun = Instant::now();
    loop {
        let report = inlet.report();
        if is(&report) {
            return report;
        }
        assert!(begun.elapsed() < SOON, "waited for {what}: {report:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_receiver_that_fails_for_a_while_gets_everything_once_and_the_failure_is_told_once() {
    let receiver = Receiver::answering(&[(500, "no"), (500, "no"), (429, "no"), (204, "")]);
    let (outputs, heard) = start(&[("influx", 100, influx(&receiver.start().await))]);
    let inlet = outputs.inlet();
    inlet.push(samples(1, 2));
    inlet.push(samples(2, 2));
    let report = until(&inlet, "both batches", |it| it[0].sent == 4).await;
    assert_eq!((report[0].dropped, report[0].refused, &report[0].failing), (0, 0, &None));
    let got = receiver.got();
    assert_eq!(got.len(), 5);
    assert_eq!(got[0].uri.to_string(), "/api/v2/write?org=o&bucket=b&precision=ns");
    assert_eq!(got[0].headers["authorization"], "Token hunter22-token");
    assert!(got[3].text().contains("container.memory.usage=1i 7\n") && got[4].text().contains("=2i 7\n"));
    let heard = heard.lock().unwrap();
    let words: Vec<_> = heard
        .iter()
        .map(|(_, news)| match news {
            News::Fails { why, denied: false } => why.as_str(),
            News::Works { .. } => "works",
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(words, ["it answers 500: no", "it answers 429: no", "works"]);
}

#[tokio::test]
async fn a_partial_write_is_not_sent_again_and_a_refused_body_is_counted() {
    let partial = r#"{"error":"partial write: field type conflict dropped=1"}"#;
    let receiver = Receiver::answering(&[(400, partial), (400, "unable to parse"), (204, "")]);
    let (outputs, heard) = start(&[("influx", 100, influx(&receiver.start().await))]);
    let inlet = outputs.inlet();
    for number in 1..=3 {
        inlet.push(samples(number, 3));
    }
    let report = until(&inlet, "the third batch", |it| it[0].sent == 5).await;
    assert_eq!((report[0].refused, report[0].dropped), (4, 0));
    assert_eq!(receiver.got().len(), 3, "each was sent once");
    let heard = heard.lock().unwrap();
    assert!(matches!(
        &heard[..],
        [(_, News::Refused { points: 1, .. }), (_, News::Refused { points: 3, .. })]
    ));
}

#[tokio::test]
async fn a_refused_key_is_told_once_without_it_and_what_waits_is_kept() {
    let said = (401, "token hunter22-token is unknown");
    let receiver = Receiver::answering(&[said, said, said]);
    let (outputs, heard) = start(&[("influx", 100, influx(&receiver.start().await))]);
    let inlet = outputs.inlet();
    inlet.push(samples(1, 2));
    until(&inlet, "the batch", |it| it[0].sent == 2).await;
    let heard = heard.lock().unwrap();
    let (_, News::Fails { why, denied: true }) = &heard[0] else { panic!("{heard:?}") };
    assert_eq!(why, "it answers 401: token *** is unknown");
    assert!(matches!(heard[1..], [(_, News::Works { .. })]), "{heard:?}");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_sent_in_smaller_ones() {
    let receiver = Receiver::answering(&[(413, ""); 9]);
    let (outputs, _) = start(&[("influx", 100_000, influx(&receiver.start().await))]);
    let inlet = outputs.inlet();
    inlet.push(samples(1, 2_000));
    let report = until(&inlet, "the batch", |it| it[0].sent + it[0].refused == 2_000).await;
    assert!(report[0].sent > 0 && report[0].dropped == 0, "{report:?}");
    let sizes: Vec<_> = receiver.got().iter().map(|it| it.body.len()).collect();
    assert!(sizes.last().unwrap() <= &(32 << 10) && sizes[0] > 64 << 10, "{sizes:?}");
}

#[tokio::test]
async fn a_dead_and_a_hanging_output_hold_neither_a_file_nor_the_feeding_up_and_the_oldest_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("samples");
    let hanging = Receiver { hangs: true, ..Receiver::default() };
    let url = hanging.start().await;
    let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let file = To::JsonLines { path: path.clone(), file_bytes: 1 << 20, files_kept: 1 };
    let all = [
        ("hanging", 20, influx(&url)),
        ("dead", 20, influx(&format!("http://{dead}"))),
        ("file", 1_000, file),
    ];
    let (outputs, heard) = start(&all);
    let inlet = outputs.inlet();
    for number in 0..50 {
        inlet.push(samples(number, 2));
    }
    let report = until(&inlet, "the file", |it| it[2].sent == 100).await;
    assert!(report[0].dropped >= 70 && report[1].dropped >= 70, "{report:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 50);
    until(&inlet, "the failure of the dead one", |it| it[1].failing.is_some()).await;
    let begun = Instant::now();
    let report = outputs.finish(Duration::from_millis(300)).await;
    assert!(begun.elapsed() < SOON);
    for it in &report {
        assert_eq!((it.sent + it.dropped, it.waiting), (100, 0), "each point is accounted for: {it:?}");
    }
    let heard = heard.lock().unwrap();
    let told = |name: &str| -> usize {
        let all = heard.iter().filter(|it| it.0 == name);
        all.filter_map(|(_, news)| match news {
            News::Dropped { points } => Some(*points),
            _ => None,
        })
        .sum()
    };
    assert_eq!((told("hanging"), told("dead"), told("file")), (100, 100, 0), "what is dropped is told");
}

#[tokio::test]
async fn the_end_sends_what_waits() {
    let receiver = Receiver::default();
    let (outputs, _) = start(&[("influx", 100, influx(&receiver.start().await))]);
    for number in 0..5 {
        outputs.inlet().push(samples(number, 2));
    }
    let report = outputs.finish(SOON).await;
    assert_eq!((report[0].sent, report[0].dropped), (10, 0));
    assert_eq!(receiver.got().len(), 5);
}

#[tokio::test]
async fn datadog_gets_its_key_and_an_encoding_it_knows() {
    let receiver = Receiver::answering(&[(202, "{}"), (202, r#"{"errors":["too old"]}"#)]);
    let to = To::Datadog { url: receiver.start().await, key: Credential::Given("hunter22".into()) };
    let (outputs, heard) = start(&[("datadog", 100, to)]);
    outputs.inlet().push(samples(1, 2));
    outputs.inlet().push(samples(2, 2));
    let report = outputs.finish(SOON).await;
    assert_eq!((report[0].sent, report[0].refused), (3, 1));
    let heard = heard.lock().unwrap();
    assert!(matches!(&heard[0].1, News::Refused { why, .. } if why.contains("too old")), "{heard:?}");
    let got = receiver.got();
    assert_eq!(got[0].uri.path(), "/api/v2/series");
    assert_eq!(
        (&got[0].headers["dd-api-key"], &got[0].headers["content-encoding"]),
        (&"hunter22".parse().unwrap(), &"deflate".parse().unwrap())
    );
}

#[tokio::test]
async fn statsd_gets_datagrams() {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let to = To::Statsd { address: socket.local_addr().unwrap().to_string() };
    let (outputs, _) = start(&[("statsd", 100, to)]);
    outputs.inlet().push(samples(5, 1));
    assert_eq!(outputs.finish(SOON).await[0].sent, 1);
    let mut bytes = [0; 2000];
    let length = socket.recv(&mut bytes).await.unwrap();
    assert_eq!(&bytes[..length], b"container.memory.usage:5|g|#cgroup:/a,at:0\n");
}

#[tokio::test]
async fn a_full_disk_is_told_and_the_lines_are_kept_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("samples");
    // A folder in the file's place.
    std::fs::create_dir(&path).unwrap();
    let to = To::JsonLines { path: path.clone(), file_bytes: 1 << 20, files_kept: 1 };
    let (outputs, heard) = start(&[("file", 100, to)]);
    let inlet = outputs.inlet();
    inlet.push(samples(1, 2));
    until(&inlet, "the failure", |it| it[0].failing.is_some()).await;
    std::fs::remove_dir(&path).unwrap();
    until(&inlet, "the lines", |it| it[0].sent == 2).await;
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
    assert!(matches!(&heard.lock().unwrap()[0].1, News::Fails { why, .. } if why.contains("samples")));
}

#[tokio::test]
async fn events_are_lines_in_a_file_and_their_numbers_points_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    let receiver = Receiver::default();
    let file = To::JsonLines { path: path.clone(), file_bytes: 1 << 20, files_kept: 1 };
    let (outputs, heard) = start(&[("file", 100, file), ("influx", 100, influx(&receiver.start().await))]);
    let source = Arc::new(Source { key: "a".into(), tags: Tags::new([("node", "n1")]) });
    let event = |fields: serde_json::Value| Event {
        source: Arc::clone(&source),
        name: "queue".into(),
        time: Time::from_unix_nanos(7),
        fields: fields.as_object().unwrap().clone(),
    };
    let events = vec![
        event(serde_json::json!({"depth": 3, "name": "q"})),
        event(serde_json::json!({"text": "no number"})),
    ];
    outputs.inlet().keep_events(events).await.unwrap();
    let report = outputs.finish(SOON).await;
    assert_eq!((report[0].sent, report[1].sent), (2, 1));
    assert!(report.iter().all(|it| (it.refused, it.dropped) == (0, 0)), "{report:?}");
    assert!(heard.lock().unwrap().is_empty());
    let text = std::fs::read_to_string(&path).unwrap();
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["event"], &first["fields"]["name"], &first["tags"]["node"]),
        (&"queue".into(), &"q".into(), &"n1".into())
    );
    assert_eq!(text.lines().count(), 2);
    assert_eq!(receiver.got()[0].body, b"m,name=q,node=n1 queue.depth=3 7\n");
}

fn write_to(url: &str) -> To {
    To::RemoteWrite {
        url: format!("{url}/api/v1/write"),
        access: Access::Bearer(Credential::Given("hunter22".into())),
    }
}

#[tokio::test]
async fn one_sample_that_prometheus_refuses_costs_no_other() {
    // The whole is refused, then its second half is, and of that the first series.
    let refused = (400, "out of order sample");
    let receiver = Receiver::answering(&[refused, (204, ""), refused, refused, (204, "")]);
    let (outputs, heard) = start(&[("prometheus", 100, write_to(&receiver.start().await))]);
    outputs.inlet().push(samples(1, 4));
    let report = outputs.finish(SOON).await;
    assert_eq!((report[0].sent, report[0].refused, report[0].dropped), (3, 1, 0));
    let got = receiver.got();
    assert_eq!(got.len(), 5, "it is found by halving");
    assert_eq!(got[0].headers["authorization"], "Bearer hunter22");
    assert_eq!(got[0].headers["content-encoding"], "snappy");
    assert!(
        matches!(&heard.lock().unwrap()[0].1, News::Refused { points: 1, why } if why.contains("out of order"))
    );
}

#[tokio::test]
async fn a_prometheus_that_refuses_everything_is_not_asked_for_each_sample() {
    let receiver = Receiver::answering(&vec![(400, "out of bounds"); 1000]);
    let (outputs, _) = start(&[("prometheus", 10_000, write_to(&receiver.start().await))]);
    outputs.inlet().push(samples(1, 2_000));
    let report = outputs.finish(SOON).await;
    assert_eq!((report[0].sent, report[0].refused), (0, 2_000));
    assert!(receiver.got().len() < 200, "{}", receiver.got().len());
}

#[tokio::test]
async fn points_that_opentelemetry_refuses_are_counted_and_not_sent_again() {
    // partial_success { rejected_data_points: 3, error_message: "old" }
    let receiver = Receiver::answering(&[(503, "busy"), (200, "\n\x07\x08\x03\x12\x03old")]);
    let to = To::Otlp { url: receiver.start().await, protocol: OtlpProtocol::Http, access: Access::Open };
    let (outputs, heard) = start(&[("otlp", 100, to)]);
    let inlet = outputs.inlet();
    inlet.push(samples(1, 4));
    until(&inlet, "the rest", |it| it[0].sent == 1).await;
    let report = outputs.finish(SOON).await;
    assert_eq!((report[0].sent, report[0].refused), (1, 3));
    assert_eq!(receiver.got()[0].uri.path(), "/v1/metrics");
    let heard = heard.lock().unwrap();
    assert!(heard.iter().any(|it| matches!(&it.1, News::Refused { points: 3, why } if why.contains("old"))));
}

#[tokio::test]
async fn only_the_documents_that_may_work_later_are_sent_to_elasticsearch_again() {
    let first = r#"{"errors":true,"items":[{"create":{"status":201}},{"create":{"status":429,"error":{"type":"busy"}}},
        {"create":{"status":400,"error":{"type":"mapper_parsing_exception"}}},{"create":{"status":409}}]}"#;
    let receiver = Receiver::answering(&[(200, first), (200, r#"{"errors":false}"#)]);
    let access = Access::ApiKey(Credential::Given("hunter22".into()));
    let to = To::Elasticsearch { url: receiver.start().await, index: "m".into(), access };
    let (outputs, heard) = start(&[("elastic", 100, to)]);
    let inlet = outputs.inlet();
    // Each point has a tag of its own, and so a document.
    inlet.push(samples(1, 4));
    until(&inlet, "the rest", |it| it[0].sent == 3).await;
    let report = outputs.finish(SOON).await;
    assert_eq!((report[0].sent, report[0].refused, report[0].dropped), (3, 1, 0));
    let got = receiver.got();
    let all: Vec<_> = got[0].body.split(|it| *it == b'\n').collect();
    let again: Vec<_> = got[1].body.split(|it| *it == b'\n').collect();
    assert_eq!(again[..2], all[2..4], "the same document with the same id");
    assert_eq!((got.len(), again.len()), (2, 3));
    assert_eq!(got[0].headers["authorization"], "ApiKey hunter22");
    assert_eq!(got[0].uri.path(), "/_bulk");
    let heard = heard.lock().unwrap();
    assert!(
        heard
            .iter()
            .any(|it| matches!(&it.1, News::Refused { points: 1, why } if why.contains("mapper_parsing")))
    );
}

#[test]
fn what_waits_for_outputs_that_are_gone_can_be_swept_away() {
    let dir = tempfile::tempdir().unwrap();
    let output = Output {
        name: "a b".into(),
        queue_points: 1,
        queue_bytes: None,
        ca_file: None,
        reach: Reach::Anywhere,
        to: To::Statsd { address: "h:1".into() },
    };
    sweep(std::slice::from_ref(&output), &dir.path().join("none")).unwrap();
    for name in ["a%20b", "gone"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    std::fs::write(dir.path().join("api-windows.json"), "{}").unwrap();
    sweep(&[output], dir.path()).unwrap();
    let mut left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["a%20b", "api-windows.json"]);
}

/// Whether a body of remote write has a point that is tagged with a hundred, or a multiple of it.
fn has_a_hundred(body: &[u8]) -> bool {
    let plain = snap::raw::Decoder::new().decompress_vec(body).unwrap();
    let labels = plain.windows(8).filter(|it| it.starts_with(b"\x0a\x02at\x12"));
    labels.into_iter().any(|it| it[5] >= 3)
        && (1..20).any(|hundred| {
            let value = (hundred * 100).to_string();
            let label =
                [b"\x0a\x02at\x12", &[u8::try_from(value.len()).unwrap()][..], value.as_bytes()].concat();
            plain.windows(label.len()).any(|it| it == label)
        })
}

#[tokio::test]
async fn many_samples_that_prometheus_refuses_among_thousands_cost_no_other() {
    let receiver = Receiver { refuses: Some(has_a_hundred), ..Receiver::default() };
    let (outputs, _) = start(&[("prometheus", 10_000, write_to(&receiver.start().await))]);
    outputs.inlet().push(samples(1, 2_000));
    let report = outputs.finish(SOON).await;
    assert_eq!((report[0].sent, report[0].refused, report[0].dropped), (1_981, 19, 0));
}

#[tokio::test]
async fn a_secret_is_in_no_answer_that_is_repeated() {
    let bulk = r#"{"errors":true,"items":[{"create":{"status":400,"error":"Basic dTpodW50ZXIyMi1rZXk="}},{"create":{"status":201}}]}"#;
    let otlp = "\n\x12\x08\x01\x12\x0ehunter22-key !";
    let access = Access::Basic("u".into(), Credential::Given("hunter22-key".into()));
    let first = Receiver::answering(&[(200, bulk)]).start().await;
    let second = Receiver::answering(&[(200, otlp)]).start().await;
    let all = [
        ("bulk", 100, To::Elasticsearch { url: first, index: "m".into(), access: access.clone() }),
        ("otlp", 100, To::Otlp { url: second, protocol: OtlpProtocol::Http, access }),
    ];
    let (outputs, heard) = start(&all);
    outputs.inlet().push(samples(1, 2));
    let report = outputs.finish(SOON).await;
    assert!(report.iter().all(|it| (it.sent, it.refused) == (1, 1)), "{report:?}");
    let heard = heard.lock().unwrap();
    let whys: Vec<_> = heard
        .iter()
        .filter_map(|(_, news)| if let News::Refused { why, .. } = news { Some(why) } else { None })
        .collect();
    assert_eq!(whys.len(), 2);
    for why in whys {
        assert!(why.contains("***") && !why.contains("hunter") && !why.contains("dTpo"), "{why}");
    }
}

#[tokio::test]
async fn a_page_in_the_place_of_an_answer_keeps_what_waits() {
    let app = Router::new().fallback(|| async { axum::response::Html("<h1>Log in</h1>") });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let (outputs, _) = start(&[("influx", 100, influx(&url))]);
    let inlet = outputs.inlet();
    inlet.push(samples(1, 2));
    let report = until(&inlet, "the failure", |it| it[0].failing.is_some()).await;
    let failing = report[0].failing.as_ref().unwrap();
    assert!(failing.error.contains("answers 200 with a page") && report[0].waiting == 2, "{report:?}");
}

#[tokio::test]
async fn what_is_refused_before_a_smaller_body_is_asked_for_is_counted_once() {
    // Two bodies: of the first three points are refused, the second is too large; then all goes again in smaller ones.
    let partly = (200, "\n\x07\x08\x03\x12\x03old");
    let receiver = Receiver::answering(&[partly, (413, ""), partly]);
    let to = To::Otlp { url: receiver.start().await, protocol: OtlpProtocol::Http, access: Access::Open };
    let (outputs, _) = start(&[("otlp", 100_000, to)]);
    outputs.inlet().push(samples(1, 10_000));
    let report = outputs.finish(SOON).await;
    assert_eq!((report[0].sent, report[0].refused, report[0].dropped), (9_997, 3, 0));
    assert_eq!(receiver.got().len(), 2 + 4);
}

#[tokio::test]
async fn what_was_taken_of_a_batch_that_the_end_cuts_off_is_not_told_as_dropped() {
    // Of two documents one is taken; the other is to come later, and later is never.
    let half = r#"{"errors":true,"items":[{"create":{"status":201}},{"create":{"status":503}}]}"#;
    let mut answers = vec![(200, half)];
    answers.extend([(503, "busy"); 10_000]);
    let receiver = Receiver::answering(&answers);
    let to = To::Elasticsearch { url: receiver.start().await, index: "m".into(), access: Access::Open };
    let (outputs, _) = start(&[("elastic", 100, to)]);
    outputs.inlet().push(samples(1, 2));
    until(&outputs.inlet(), "the second try", |_| receiver.got().len() > 1).await;
    let report = outputs.finish(Duration::from_millis(300)).await;
    assert_eq!((report[0].sent, report[0].refused, report[0].dropped), (1, 0, 1));
}

#[tokio::test]
async fn a_queue_on_the_disk_outlives_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::answering(&vec![(503, "away"); 10_000]);
    let output = on_the_disk(&receiver.start().await, 1 << 20);
    let (outputs, _) = set_up(std::slice::from_ref(&output), dir.path());
    let source = Arc::new(Source { key: "a".into(), tags: Tags::default() });
    let fields = serde_json::json!({ "depth": 3 }).as_object().unwrap().clone();
    let event = Event { source, name: "queue".into(), time: Time::from_unix_nanos(7), fields };
    let inlet = outputs.inlet();
    inlet.keep_events(vec![event]).await.unwrap();
    inlet.push(samples(1, 30));
    until(&inlet, "all of it on the disk", |it| it[0].waiting == 31).await;
    // As a kill would: nothing is told that it ends.
    drop((inlet, outputs));
    receiver.answers.lock().unwrap().clear();
    let (outputs, _) = set_up_again(&output, dir.path()).await;
    let all_sent = |it: &[OutputReport]| it[0].sent == 31 && it[0].waiting == 0;
    let report = until(&outputs.inlet(), "what waited", all_sent).await;
    assert_eq!(report[0].dropped, 0);
    let got = receiver.got();
    let last: String = got[got.len() - 2..].iter().map(Got::text).collect();
    assert!(last.contains("queue.depth=3 7") && last.contains("container.memory.usage=1i 7"), "{last}");
}

/// A receiver that answers 500 for ever to what one batch is in holds nothing up for longer than the bound allows.
#[tokio::test]
async fn above_the_bound_of_a_queue_on_the_disk_what_is_in_hand_goes_first_and_is_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let breaks_at: fn(&[u8]) -> bool = |body| contains(body, "container.memory.usage=1i");
    let receiver = Receiver { breaks_at: Some(breaks_at), ..Receiver::default() };
    let output = on_the_disk(&receiver.start().await, 4000);
    let (outputs, heard) = set_up(std::slice::from_ref(&output), dir.path());
    let inlet = outputs.inlet();
    inlet.push(samples(1, 20));
    until(&inlet, "the first try", |_| !receiver.got().is_empty()).await;
    for number in 2..12 {
        inlet.push(samples(number, 20));
        let all = 20 * number;
        until(&inlet, "it is on the disk or dropped", |it| it[0].waiting + it[0].dropped + it[0].sent == all)
            .await;
    }
    let report = until(&inlet, "what follows arrives", |it| it[0].waiting == 0).await;
    let OutputReport { sent, dropped, refused, .. } = report[0];
    assert_eq!((sent + dropped, refused), (220, 0));
    assert!(dropped >= 20 && sent >= 20, "{dropped} dropped, {sent} sent");
    let arrived = receiver.got().into_iter().filter(|it| !contains(&it.body, "usage=1i"));
    let lines: usize = arrived.map(|it| it.text().lines().count()).sum();
    assert_eq!(lines as u64, sent, "each once");
    outputs.finish(SOON).await;
    let heard = heard.lock().unwrap();
    let told = heard.iter().map(|it| if let News::Dropped { points } = it.1 { points as u64 } else { 0 });
    assert_eq!(told.sum::<u64>(), dropped, "{heard:?}");
}

#[tokio::test]
async fn what_the_bound_dropped_of_a_batch_that_the_end_cuts_off_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::answering(&vec![(503, "away"); 10_000]);
    let output = on_the_disk(&receiver.start().await, 4000);
    // The first try is the last: what is in hand is not given up before the end.
    let timing = Timing { retry_first: SOON, retry_most: SOON, ..TIMING };
    let quiet: Tell = Arc::new(|_: &str, _: News| {});
    let outputs = Outputs::start(std::slice::from_ref(&output), dir.path(), timing, &quiet).unwrap();
    let inlet = outputs.inlet();
    inlet.push(samples(1, 20));
    until(&inlet, "the first try", |_| !receiver.got().is_empty()).await;
    for number in 2..12 {
        inlet.push(samples(number, 20));
        until(&inlet, "it is on the disk or dropped", |it| it[0].waiting + it[0].dropped == 20 * number)
            .await;
    }
    drop(inlet);
    let dropped = outputs.finish(SOON).await[0].dropped;
    receiver.answers.lock().unwrap().clear();
    let (outputs, _) = set_up_again(&output, dir.path()).await;
    let all_sent = |it: &[OutputReport]| it[0].sent > 0 && it[0].waiting == 0;
    let sent = until(&outputs.inlet(), "what is left", all_sent).await[0].sent;
    assert_eq!(dropped + sent, 220, "{dropped} dropped, {sent} sent");
}

/// An output whose queue is on the disk.
fn on_the_disk(url: &str, queue_bytes: u64) -> Output {
    Output {
        name: "influx".into(),
        queue_points: 10,
        queue_bytes: Some(queue_bytes),
        ca_file: None,
        reach: Reach::Anywhere,
        to: influx(url),
    }
}

/// The thread of a backlog ends a moment later than its last handle.
async fn set_up_again(output: &Output, folder: &Path) -> (Outputs, Heard) {
    let begun = Instant::now();
    loop {
        match try_set_up(std::slice::from_ref(output), folder) {
            Ok(again) => return again,
            Err(err) => assert!(begun.elapsed() < SOON, "{err:?}"),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn contains(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|it| it == text.as_bytes())
}
