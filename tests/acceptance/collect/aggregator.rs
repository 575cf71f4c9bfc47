//! `outrider-aggregator` by its built program: between collectors and receivers, killed and started again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use outrider_collect::catalogue::MEMORY_USAGE;
use outrider_collect::model::{MetricRef, Number, Point, Sample, Source, Tags, Time};
use outrider_collect::wire::batch;
use outrider_collect::wire::generated::collect::collect_client::CollectClient;
use outrider_collect::wire::generated::collect::{Acknowledgement, Batch, Tag};
use outrider_collect::wire::generated::publish::PublishRequest;
use outrider_collect::wire::generated::publish::aggregator_client::AggregatorClient;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status, Streaming};

use super::http::port;
use super::receiver::Receiver;
use super::receivers::Played;
use super::{configure, fixtures, lines, with_outputs};
use crate::support::{Running, outrider, printed, run, until};

/// A running aggregator, which may be killed and started again on the same port.
pub(super) struct Stand {
    folder: PathBuf,
    port: u16,
    pub(super) process: Running,
}

impl Stand {
    pub(super) fn start(folder: &Path, outputs: &Value) -> Self {
        Self::with(folder, outputs, |_| {})
    }

    pub(super) fn with(folder: &Path, outputs: &Value, change: impl FnOnce(&mut Value)) -> Self {
        let mut config = json!({
            "data": "kept", "outputs": outputs,
            "bounds": { "batch_ms": 20, "answer_s": 5, "retry_s": 1 },
        });
        change(&mut config);
        std::fs::write(folder.join("aggregator.json"), config.to_string()).unwrap();
        let port = port();
        Self { folder: folder.to_owned(), port, process: begin(folder, port) }
    }

    pub(super) fn kill(&mut self) {
        self.process.child.kill().unwrap();
        self.process.child.wait().unwrap();
    }

    /// In good order.
    pub(super) fn stop(&mut self) {
        self.process.signal("TERM");
        assert_eq!(self.process.ended(), Some(0), "{}", self.process.printed());
    }

    pub(super) fn start_again(&mut self) {
        self.process = begin(&self.folder, self.port);
    }

    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_outrider-aggregator"))
}

fn begin(folder: &Path, port: u16) -> Running {
    let log = folder.join("aggregator.out");
    let before = std::fs::read_to_string(&log).unwrap_or_default().matches("takes what").count();
    let mut command = program();
    command.arg("--config").arg(folder.join("aggregator.json"));
    command.arg("--listen").arg(format!("127.0.0.1:{port}"));
    let mut process = Running::start(&mut command, &log);
    until("the aggregator to listen", || {
        assert!(process.child_runs(), "{}", process.printed());
        (process.printed().matches("takes what").count() > before).then_some(())
    });
    process
}

pub(super) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Ten points whose values nobody else has: of batch 3, those from 30 to 39.
pub(super) fn numbered(collector: &str, sequence: u64) -> Batch {
    let source = Arc::new(Source { key: "k".into(), tags: Tags::new([("who", collector)]) });
    let samples: Vec<_> = (0..10)
        .map(|number| Sample {
            source: Arc::clone(&source),
            time: Time::now(),
            points: vec![Point {
                metric: MetricRef::Known(&MEMORY_USAGE),
                tags: Tags::default(),
                number: Number::Unsigned(sequence * 10 + number),
                start: None,
            }],
        })
        .collect();
    batch(collector, sequence, &samples, &[])
}

/// A stream of link D, from a client that is made of the committed protocol and nothing else.
pub(super) struct Stream {
    pub(super) out: mpsc::Sender<Batch>,
    pub(super) back: Streaming<Acknowledgement>,
}

impl Stream {
    pub(super) async fn open(address: &str) -> Option<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let mut client = CollectClient::new(endpoint.connect().await.ok()?);
        let (out, batches) = mpsc::channel(1);
        let back = client.send(ReceiverStream::new(batches)).await.ok()?.into_inner();
        Some(Self { out, back })
    }

    pub(super) async fn send(&mut self, batch: Batch) -> Option<Acknowledgement> {
        self.out.send(batch).await.ok()?;
        self.back.message().await.ok()?
    }
}

/// How often each value arrived, in InfluxDB's lines.
pub(super) fn arrived(receiver: &Receiver) -> BTreeMap<u64, usize> {
    let mut counted = BTreeMap::new();
    for got in receiver.got() {
        for line in String::from_utf8(got.body).unwrap().lines() {
            let (_, rest) = line.split_once("container.memory.usage=").unwrap_or_else(|| panic!("{line}"));
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            *counted.entry(digits.parse().unwrap()).or_default() += 1;
        }
    }
    counted
}

pub(super) fn influx(name: &str, port: u16) -> Value {
    json!({ "kind": "influx", "name": name, "url": format!("http://127.0.0.1:{port}"), "database": "d" })
}

/// The receiver is down, the aggregator is killed at moments that only the seed knows, and the sender sends again what was not
/// acknowledged: every point arrives, and none that was acknowledged before is missing.
#[test]
fn a_kill_with_the_receiver_down_loses_nothing_that_was_acknowledged() {
    for seed in 1..=3_u64 {
        let dir = tempfile::tempdir().unwrap();
        let down = port();
        let mut stand = Stand::start(dir.path(), &json!([influx("one", down)]));
        let runtime = runtime();
        let (address, mut sequence, mut repeated) = (stand.address(), 1, 0);
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for _ in 0..5 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let pause = Duration::from_micros(5_000 + (random >> 33) % 150_000);
            let pid = stand.process.pid().to_string();
            let killer = std::thread::spawn(move || {
                std::thread::sleep(pause);
                assert!(run(Command::new("kill").args(["-9", &pid])).status.success());
            });
            // Until the kill: then it is not acknowledged, and is the first of the next round.
            runtime.block_on(async {
                let Some(mut stream) = Stream::open(&address).await else { return };
                while let Some(told) = stream.send(numbered("sender", sequence)).await {
                    assert_eq!(told.sequence, sequence);
                    repeated += usize::from(told.repeated);
                    sequence += 1;
                }
            });
            killer.join().unwrap();
            stand.process.child.wait().unwrap();
            stand.start_again();
        }
        let sent = sequence - 1;
        assert!(sent > 10, "seed {seed}: {sent} batches");
        let receiver = Receiver::at(down);
        let counted = until("all that was acknowledged", || {
            let counted = arrived(&receiver);
            (counted.len() as u64 >= sent * 10).then_some(counted)
        });
        let acknowledged: Vec<u64> = (10..(sent + 1) * 10).collect();
        let missing: Vec<_> = acknowledged.iter().filter(|it| !counted.contains_key(it)).collect();
        assert!(missing.is_empty(), "seed {seed}: {missing:?}");
        let twice = counted.values().filter(|it| **it > 1).count();
        assert_eq!(
            twice, 0,
            "seed {seed}: the receiver was down at each kill, and {repeated} batches came again"
        );
        stand.stop();
    }
}

/// What the collector measured, by the times of its lines in a file beside.
fn measured(file: &Path) -> usize {
    lines(file).len()
}

/// Rounds of one source that arrived at a receiver of InfluxDB's lines: the sample's time is the last word of each.
fn rounds(receiver: &Receiver) -> usize {
    let mut times = std::collections::BTreeSet::new();
    for got in receiver.got() {
        let text = String::from_utf8(got.body).unwrap();
        times.extend(text.lines().filter_map(|it| it.rsplit(' ').next()?.parse::<u64>().ok()));
    }
    times.len()
}

/// The aggregator is away at first, is killed in between, and the collector is killed too: what it said that it had kept for it
/// arrives.
#[test]
fn what_is_measured_while_the_aggregator_is_away_waits_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::answering(&[]);
    let mut stand = Stand::start(dir.path(), &json!([influx("one", receiver.port())]));
    stand.kill();
    let root = dir.path().join("root");
    let outputs = json!([
        { "kind": "json_lines", "path": dir.path().join("samples") },
        { "kind": "aggregator", "address": stand.address() },
    ]);
    configure(&root, &with_outputs(&outputs));
    let begin = || Running::start(outrider(&root).arg("collect"), &dir.path().join("out"));
    let mut collect = begin();
    until("some rounds", || {
        assert!(collect.child_runs(), "{}", collect.printed());
        (measured(&dir.path().join("samples")) > 5).then_some(())
    });
    assert!(collect.printed().contains("An output takes nothing"), "{}", collect.printed());
    // A clean end has kept all; a kill may lose the round that is under way.
    collect.signal("TERM");
    assert_eq!(collect.ended(), Some(0), "{}", collect.printed());
    let kept = measured(&dir.path().join("samples"));
    assert!(root.join("state/collect/aggregator/backlog.redb").exists());
    collect = begin();
    until("another round", || (measured(&dir.path().join("samples")) > kept).then_some(()));
    collect.child.kill().unwrap();
    collect.child.wait().unwrap();
    collect = begin();
    stand.start_again();
    until("all that was kept", || {
        assert!(collect.child_runs(), "{}", collect.printed());
        (rounds(&receiver) > kept + 1).then_some(())
    });
    collect.signal("TERM");
    assert_eq!(collect.ended(), Some(0), "{}", collect.printed());
    until("the rest", || {
        // The rounds that were under way at the kill are in neither, one or both.
        (rounds(&receiver) + 1 >= measured(&dir.path().join("samples"))).then_some(())
    });
    stand.stop();
}

pub(super) fn page(port: u16, path: &str) -> String {
    super::http::ask(port, &format!("GET {path}")).unwrap_or_default()
}

#[test]
fn a_slow_output_holds_no_other_up_and_the_pages_say_how_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let (fast, slow) = (Receiver::answering(&[]), Receiver::hanging());
    let outputs = json!([influx("slow", slow.port()), influx("fast", fast.port())]);
    let pages = port();
    let mut stand = Stand::with(dir.path(), &outputs, |config| {
        config["pages"] = format!("127.0.0.1:{pages}").into();
    });
    let address = stand.address();
    runtime().block_on(async {
        let mut stream = Stream::open(&address).await.unwrap();
        for sequence in 1..=20 {
            assert!(!stream.send(numbered("sender", sequence)).await.unwrap().repeated);
        }
        let again = stream.send(numbered("sender", 20)).await.unwrap();
        assert!(again.repeated, "kept once");
    });
    until("all points at the fast one", || (arrived(&fast).len() == 200).then_some(()));
    assert!(arrived(&fast).values().all(|it| *it == 1));
    let metrics = until("the metrics to say so", || {
        let text = page(pages, "/metrics");
        text.contains("outrider_aggregator_output_waiting_points{output=\"fast\"} 0").then_some(text)
    });
    for line in [
        "outrider_aggregator_received_points_total 200",
        "outrider_aggregator_repeated_batches_total 1",
        "outrider_aggregator_output_sent_points_total{output=\"fast\"} 200",
        "outrider_aggregator_output_waiting_points{output=\"slow\"} 200",
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line}\n{metrics}");
    }
    assert_eq!(page(pages, "/healthz"), "ok\n");
    stand.process.signal("TERM");
    assert_eq!(stand.process.ended(), Some(0), "in bounded time: {}", stand.process.printed());
}

async fn publish(endpoint: Endpoint, tags: &[(&'static str, &'static str)]) -> Result<(), Status> {
    publish_at(1_700_000_000, endpoint, tags).await
}

async fn publish_at(
    unix_time: i64,
    endpoint: Endpoint,
    tags: &[(&'static str, &'static str)],
) -> Result<(), Status> {
    let channel = endpoint.connect().await.map_err(|err| Status::unavailable(err.to_string()))?;
    let mut request = Request::new(PublishRequest {
        unix_time,
        running: true,
        milli_cpu_usage: 250,
        disk_usage_mb: -1,
        disk_limit_mb: 4,
        ..Default::default()
    });
    for (name, value) in tags {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    AggregatorClient::new(channel).publish(request).await.map(drop)
}

const TAGS: [(&str, &str); 5] = [
    ("environment", "prod"),
    ("service", "web"),
    ("container", "c0ffee"),
    ("host", "c0ffee"),
    ("app", "shop"),
];

/// The variables of the original, and a client of its protocol.
#[test]
fn an_old_collector_and_old_variables_are_understood() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::answering(&[]);
    let port = port();
    let configuration = json!({ "address": receiver.url(), "username": "", "password": "", "database": "d" });
    let mut command = program();
    command.env("AGGREGATOR_INFLUXDB_CONFIGURATION", configuration.to_string());
    command.env("AGGREGATOR_MINIMUM_PUBLISH_FREQUENCY", "10ms");
    command.arg("--data").arg(dir.path().join("kept")).arg("--listen").arg(format!("127.0.0.1:{port}"));
    let mut process = Running::start(&mut command, &dir.path().join("out"));
    until("it to listen", || process.printed().contains("takes what").then_some(()));
    let endpoint = || Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
    let runtime = runtime();
    runtime.block_on(publish(endpoint(), &TAGS)).unwrap();
    let refused = runtime.block_on(publish(endpoint(), &TAGS[1..])).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().starts_with("the tag environment is missing"), "{refused}");
    let line = until("its line", || Some(String::from_utf8(receiver.got().pop()?.body).unwrap()));
    assert!(line.starts_with("metrics,"), "{line}");
    for part in
        ["app=shop", "environment=prod", "host=c0ffee", "milli_cpu_usage=250", "disk_limit_mb=4", "running="]
    {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(!line.contains("disk_usage_mb") && line.trim_end().ends_with("1700000000000000000"), "{line}");
    process.signal("TERM");
    assert_eq!(process.ended(), Some(0), "{}", process.printed());

    let nothing = run(program().arg("--data").arg(dir.path()));
    assert_eq!(nothing.status.code(), Some(2));
    assert!(printed(&nothing).contains("AGGREGATOR_DATADOG_CONFIGURATION"), "{}", printed(&nothing));
}

/// The original's variables for Datadog keep the names of its series, and those for text write lines.
#[test]
fn old_variables_for_datadog_and_for_text_keep_the_original_names() {
    let dir = tempfile::tempdir().unwrap();
    let datadog = Played::start("datadog", dir.path(), &[("key", "not-a-real-key")]);
    let configuration = json!({
        "api_key": "not-a-real-key", "series_url": format!("{}/api/v1/series", datadog.url()), "timeout": "30s",
        "retry_count": 3,
    });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let now = i64::try_from(now).unwrap();
    let begin = |name: &str, value: &str| {
        let port = port();
        let mut command = program();
        command.env(name, value).env("AGGREGATOR_MINIMUM_PUBLISH_FREQUENCY", "10ms");
        command.arg("--data").arg(dir.path().join(name)).arg("--listen").arg(format!("127.0.0.1:{port}"));
        let process = Running::start(&mut command, &dir.path().join(format!("{name}.out")));
        until("it to listen", || process.printed().contains("takes what").then_some(()));
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
        // Datadog takes none that is older than an hour.
        runtime().block_on(publish_at(now, endpoint, &TAGS)).unwrap();
        process
    };
    let mut process = begin("AGGREGATOR_DATADOG_CONFIGURATION", &configuration.to_string());
    let taken = until("its series", || Some(datadog.taken()).filter(|it| !it.is_empty()));
    let of = |name: &str| taken.iter().find(|it| it["metric"] == name);
    let cpu = of("enclave.milli_cpu_usage").unwrap_or_else(|| panic!("{taken:?}"));
    assert_eq!((&cpu["value"], &cpu["timestamp"]), (&json!(250.0), &json!(now)));
    assert!(of("enclave.running").is_some() && of("enclave.disk_usage_mb").is_none(), "{taken:?}");
    assert!(taken.iter().all(|it| it["metric"].as_str().unwrap().starts_with("enclave.")), "{taken:?}");
    process.signal("TERM");
    assert_eq!(process.ended(), Some(0), "{}", process.printed());
    assert!(!process.printed().contains("not-a-real-key"), "{}", process.printed());

    let mut process = begin("AGGREGATOR_TEXT_CONFIGURATION", "{}");
    let line = until("its line", || {
        let printed = process.printed();
        printed.lines().find(|it| it.starts_with('{') && it.contains("milli_cpu_usage")).map(str::to_owned)
    });
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["tags"]["container"], TAGS.iter().find(|it| it.0 == "container").unwrap().1, "{line}");
    process.signal("TERM");
    assert_eq!(process.ended(), Some(0), "{}", process.printed());
}

const HTTPS: &str = "
import http.server, ssl, sys
class Takes(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers['content-length']))
        print('TAKEN', body.count(b'container.memory.usage'), flush=True)
        self.send_response(204)
        self.end_headers()
server = http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), Takes)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain('server.pem', 'server.key')
server.socket = tls.wrap_socket(server.socket, server_side=True)
server.serve_forever()
";

/// Link D with both certificates, and an HTTPS output: each believes the authority that is named for it, and no stranger.
#[test]
fn link_d_and_https_outputs_believe_the_authority_that_is_named() {
    let dir = tempfile::tempdir().unwrap();
    drop(Keys::make(dir.path()));
    let (receiver, https) = (Receiver::answering(&[]), port());
    let mut python = Command::new("python3");
    python.current_dir(dir.path()).args(["-c", HTTPS, &https.to_string()]);
    let mut server = Running::start(&mut python, &dir.path().join("python.out"));
    until("the server to listen", || {
        assert!(server.child_runs(), "{}", server.printed());
        std::net::TcpStream::connect(("127.0.0.1", https)).ok()
    });
    let stand = Stand::with(dir.path(), &json!([influx("one", receiver.port())]), |config| {
        config["tls"] = json!({
            "certificate_file": "server.pem", "key_file": "server.key", "client_ca_file": "ca.pem",
        });
    });
    let file = |name: &str| dir.path().join(name);
    let link = format!("localhost:{}", stand.port);
    let url = format!("https://localhost:{https}");
    let root = dir.path().join("root");
    let outputs = |is_trusting: bool| {
        let mut link = json!({ "kind": "aggregator", "name": "link", "address": link, "tls": true });
        let mut https = json!({ "kind": "influx", "name": "https", "url": url, "database": "d" });
        if is_trusting {
            https["ca_file"] = json!(file("ca.pem"));
            link["ca_file"] = json!(file("ca.pem"));
            link["certificate_file"] = json!(file("client.pem"));
            link["key_file"] = json!(file("client.key"));
        }
        with_outputs(&json!([link, https]))
    };
    configure(&root, &outputs(false));
    let begin = || Running::start(outrider(&root).arg("collect"), &dir.path().join("out"));
    let mut collect = begin();
    until("both to be told", || {
        assert!(collect.child_runs(), "{}", collect.printed());
        let printed = collect.printed();
        let is_told = |name: &str| {
            printed
                .lines()
                .any(|it| it.contains("An output takes nothing") && it.contains(&format!("output={name}")))
        };
        (is_told("link") && is_told("https") && printed.contains("UnknownIssuer")).then_some(())
    });
    collect.signal("TERM");
    collect.ended();
    assert!(receiver.got().is_empty() && !server.printed().contains("TAKEN"), "{}", server.printed());
    configure(&root, &outputs(true));
    let mut collect = begin();
    until("points by both", || {
        assert!(collect.child_runs(), "{}", collect.printed());
        (!receiver.got().is_empty() && server.printed().contains("TAKEN")).then_some(())
    });
    collect.signal("TERM");
    assert_eq!(collect.ended(), Some(0), "{}", collect.printed());
}

/// The file may not grow: what is not kept is not acknowledged, what was is there after the next start, and a call that cannot
/// be kept is never answered with success.
#[test]
fn a_full_disk_is_told_and_nothing_is_acknowledged_that_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let down = port();
    let mut stand = Stand::start(dir.path(), &json!([influx("one", down)]));
    stand.kill();
    let config = dir.path().join("aggregator.json");
    let mut limited = Command::new("bash");
    // In KiB; the signal that comes with it would end the process, which a full disk does not.
    limited.arg("-c").arg("trap '' XFSZ; ulimit -f 3072; exec \"$@\"").arg("bash");
    limited.arg(env!("CARGO_BIN_EXE_outrider-aggregator")).arg("--config").arg(&config);
    limited.arg("--listen").arg(stand.address());
    let mut full = Running::start(&mut limited, &dir.path().join("full.out"));
    until("it to listen", || {
        assert!(full.child_runs(), "{}", full.printed());
        full.printed().contains("takes what").then_some(())
    });
    let runtime = runtime();
    let address = stand.address();
    let mut kept = 0;
    runtime.block_on(async {
        let mut stream = Stream::open(&address).await.unwrap();
        loop {
            let mut batch = numbered("sender", kept + 1);
            // Much to keep, in few batches.
            let tags = (0..100).map(|number| Tag { name: format!("t{number}"), value: "x".repeat(2000) });
            batch.samples[0].points[0].tags = tags.collect();
            stream.out.send(batch).await.unwrap();
            match stream.back.message().await {
                Ok(Some(_)) => kept += 1,
                Ok(None) => panic!("the stream ended without an error"),
                Err(refused) => {
                    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
                    break;
                }
            }
        }
    });
    assert!(kept > 3, "{kept}");
    // Calls are small: some may still find room, and then they are there.
    let endpoint = || Endpoint::from_shared(format!("http://{address}")).unwrap();
    let answered = (0..200).filter(|_| runtime.block_on(publish(endpoint(), &TAGS)).is_ok()).count();
    assert!(full.printed().contains("A batch was not kept"), "{}", full.printed());
    full.child.kill().unwrap();
    full.child.wait().unwrap();
    stand.start_again();
    let receiver = Receiver::at(down);
    let (points, calls) = until("all that was acknowledged", || {
        let text: String = receiver.got().into_iter().map(|it| String::from_utf8(it.body).unwrap()).collect();
        let calls = text.lines().filter(|it| it.contains("milli_cpu_usage=")).count();
        let points = text.lines().filter(|it| it.contains("container.memory.usage=")).count();
        (points as u64 >= kept * 10 && calls >= answered).then_some((points, calls))
    });
    assert_eq!((points as u64, calls), (kept * 10, answered), "and nothing else");
    stand.stop();
}

/// The file of what waits for an aggregator may not grow: that is told, what is not kept is counted, and another output gets all.
#[test]
fn a_full_disk_of_a_collector_costs_what_waits_there_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::answering(&[]);
    let root = dir.path().join("root");
    let mut section = with_outputs(&json!([
        { "kind": "aggregator", "name": "away", "address": format!("127.0.0.1:{}", port()) },
        influx("there", receiver.port()),
    ]));
    section["interval_ms"] = 100.into();
    // Much to keep, in few rounds.
    section["tags"] = (0..40).map(|it| (format!("t{it}"), Value::from("x".repeat(1000)))).collect();
    configure(&root, &section);
    let mut limited = Command::new("bash");
    // In KiB; the signal that comes with it would end the process, which a full disk does not.
    limited.arg("-c").arg("trap '' XFSZ; ulimit -f 2560; exec \"$@\"").arg("bash");
    let plain = outrider(&root);
    limited.arg(plain.get_program()).args(plain.get_args()).arg("collect");
    for (name, value) in plain.get_envs() {
        limited.env(name, value.unwrap_or_default());
    }
    let mut collect = Running::start(&mut limited, &dir.path().join("out"));
    until("the disk to be told", || {
        assert!(collect.child_runs(), "{}", collect.printed());
        collect.printed().contains("nothing of it was kept").then_some(())
    });
    let before = rounds(&receiver);
    until("more rounds at the other one", || (rounds(&receiver) > before + 10).then_some(()));
    collect.signal("TERM");
    assert_eq!(collect.ended(), Some(0), "{}", collect.printed());
    let printed = collect.printed();
    let ended = printed.lines().find(|it| it.contains("Collecting has ended.")).unwrap();
    let number = |name: &str| -> u64 {
        let rest = ended.split(&format!("{name}=")).nth(1).unwrap();
        rest.split_whitespace().next().unwrap().parse().unwrap()
    };
    assert!(number("dropped") > 0 && number("sent") > 0, "{ended}");
    assert!(
        printed.lines().any(|it| it.contains("Points were dropped") && it.contains("output=away")),
        "{printed}"
    );
}

/// A deployment of mini-collector whose image alone was changed, with mutual TLS, and an aggregator that speaks both.
#[test]
fn mini_collectors_variables_are_enough_and_only_who_has_a_certificate_gets_in() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::answering(&[]);
    let keys = Keys::make(dir.path());
    let mut stand = Stand::with(dir.path(), &json!([influx("one", receiver.port())]), |config| {
        config["tls"] = json!({
            "certificate_file": "server.pem", "key_file": "server.key", "client_ca_file": "ca.pem",
        });
    });
    let file = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let section = fixtures();
    let mut command = outrider(&dir.path().join("root"));
    command.arg("collect");
    for (name, value) in [
        ("REMOTE_ADDRESS", format!("localhost:{}", stand.port)),
        ("CONTAINER_ID", "c0ffee".to_owned()),
        ("ENVIRONMENT_NAME", "prod".to_owned()),
        ("SERVICE_NAME", "web".to_owned()),
        ("CGROUP_PATH", section["cgroup_path"].as_str().unwrap().to_owned()),
        ("POLL_INTERVAL", "100ms".to_owned()),
        ("TLS", String::new()),
        ("TLS_CA_CERTIFICATE", file("ca.pem")),
        ("TLS_CERTIFICATE", file("client.pem")),
        ("TLS_KEY", file("client.key")),
    ] {
        command.env(format!("MINI_COLLECTOR_{name}"), value);
    }
    command.env("MINI_COLLECTOR_DEBUG", "");
    // The aggregator is away, and the collector is killed: what waits is on the disk.
    stand.kill();
    let mut collect = Running::start(&mut command, &dir.path().join("out"));
    until("it to say that the aggregator is away, and how it goes", || {
        assert!(collect.child_runs(), "{}", collect.printed());
        let printed = collect.printed();
        (printed.contains("An output takes nothing") && printed.contains("Collecting goes on.")).then_some(())
    });
    collect.child.kill().unwrap();
    collect.child.wait().unwrap();
    let killed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    stand.start_again();
    let mut collect = Running::start(&mut command, &dir.path().join("out"));
    until("what was measured before the kill", || {
        assert!(collect.child_runs(), "{}", collect.printed());
        let got = receiver.got();
        let times = got.iter().flat_map(|it| it.body.split(|it| *it == b'\n'));
        let time = |line: &[u8]| String::from_utf8_lossy(line).rsplit(' ').next()?.parse::<u128>().ok();
        times.filter_map(time).any(|it| it < killed).then_some(())
    });
    let line = until("a line", || {
        assert!(collect.child_runs(), "{}", collect.printed());
        Some(String::from_utf8(receiver.got().pop()?.body).unwrap())
    });
    for part in ["environment=prod", "service=web", "container=c0ffee", "memory_total_mb=", "running="] {
        assert!(line.contains(part), "{part}: {line}");
    }
    collect.signal("TERM");
    assert_eq!(collect.ended(), Some(0), "{}", collect.printed());

    let runtime = runtime();
    let trusting = || ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&keys.ca));
    let endpoint = |tls| {
        let endpoint = Endpoint::from_shared(format!("https://localhost:{}", stand.port)).unwrap();
        endpoint.tls_config(tls).unwrap()
    };
    let known = trusting().identity(Identity::from_pem(file("client.pem"), file("client.key")));
    runtime.block_on(publish(endpoint(known), &TAGS)).unwrap();
    runtime.block_on(publish(endpoint(trusting()), &TAGS)).unwrap_err();
    stand.stop();
}

/// An authority with a certificate for a server and one for a client, as files.
pub(super) struct Keys {
    ca: String,
}

impl Keys {
    pub(super) fn make(folder: &Path) -> Self {
        use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = authority.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(authority, key);
        std::fs::write(folder.join("ca.pem"), &ca).unwrap();
        for name in ["server", "client"] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
            std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        Self { ca }
    }
}
