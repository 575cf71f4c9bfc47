//! The aggregator: what a point costs it from being received to being sent on, and its memory with a hundred collectors.
//! Beside it Prometheus as an agent, which also takes points, writes them into a log and sends them on, though it does not
//! wait for the disk before it answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use outrider_collect::catalogue::ALL;
use outrider_collect::encode::remote_write;
use outrider_collect::model::{Kind, MetricRef, Number, Point, Sample, Source, Tags, Time};
use outrider_collect::wire::batch;
use outrider_collect::wire::generated::collect::Batch;
use outrider_collect::wire::generated::collect::collect_client::CollectClient;
use serde_json::{Value, json};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use crate::measure::{Table, cpu_ticks, installed, memory_kib, ratio};

const AGGREGATOR: &str = env!("CARGO_BIN_EXE_outrider-aggregator");
/// Containers of a host, and points of each: a round of a collector.
const CONTAINERS: usize = 50;
const POINTS: usize = 40;
const ROUNDS: u64 = 250;
const SENDERS: u64 = 4;
const ALL_POINTS: u64 = SENDERS * ROUNDS * (CONTAINERS * POINTS) as u64;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn run(table: &mut Table) {
    let write = |sink: u16| json!({ "kind": "remote_write", "url": format!("http://127.0.0.1:{sink}/w") });
    let lines =
        |sink: u16| json!({ "kind": "influx", "url": format!("http://127.0.0.1:{sink}"), "database": "d" });
    for (name, output) in [("remote write", &write as &dyn Fn(u16) -> Value), ("InfluxDB's lines", &lines)] {
        throughput(table, name, output);
    }
    peer(table);
    many(table, &lines);
}

/// What `/proc` counts in.
fn cpu(pid: u32) -> Duration {
    Duration::from_millis(cpu_ticks(pid).unwrap_or_default() * 10)
}

fn throughput(table: &mut Table, name: &str, output: &dyn Fn(u16) -> Value) {
    let stand = Stand::start(&output(sink()));
    let begun = Instant::now();
    runtime().block_on(async {
        let senders: Vec<_> =
            (0..SENDERS).map(|it| tokio::spawn(send(stand.listen, it, ROUNDS, 8))).collect();
        for sender in senders {
            sender.await.expect("a sender");
        }
    });
    let kept = begun.elapsed();
    wait(stand.pages, "outrider_aggregator_output_sent_points_total", ALL_POINTS);
    let what = format!("aggregator, {ALL_POINTS} points kept with fsync and sent on as {name}");
    row(table, &what, stand.child.0.id(), begun.elapsed(), "at least 200,000 points a CPU-second");
    let all = format!("{:.0} points/s of wall time", ratio(ALL_POINTS, kept));
    table.row(&format!("{what}: until the last is acknowledged"), all, "");
}

fn row(table: &mut Table, what: &str, pid: u32, wall: Duration, goal: &str) {
    let cpu = cpu(pid);
    let found = format!(
        "{:.0} points a CPU-second ({:.2} CPU-seconds in {:.2} s), at most {:.1} MiB resident",
        ratio(ALL_POINTS, cpu),
        cpu.as_secs_f64(),
        wall.as_secs_f64(),
        mib(pid),
    );
    table.row(what, found, goal);
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn mib(pid: u32) -> f64 {
    memory_kib(pid, "VmHWM").unwrap_or_default() as f64 / 1024.0
}

/// A hundred collectors at once, each with a stream of its own and a batch in flight.
fn many(table: &mut Table, output: &dyn Fn(u16) -> Value) {
    const COLLECTORS: u64 = 100;
    let stand = Stand::start(&output(sink()));
    runtime().block_on(async {
        let senders: Vec<_> = (0..COLLECTORS).map(|it| tokio::spawn(send(stand.listen, it, 20, 1))).collect();
        for sender in senders {
            sender.await.expect("a sender");
        }
    });
    let points = COLLECTORS * 20 * (CONTAINERS * POINTS) as u64;
    wait(stand.pages, "outrider_aggregator_output_sent_points_total", points);
    let what = format!("aggregator, {COLLECTORS} collectors at once, {points} points: resident");
    table.row(&what, format!("at most {:.1} MiB", mib(stand.child.0.id())), "below 64 MiB");
}

fn peer(table: &mut Table) {
    if !installed("prometheus") {
        return table.row("Prometheus as an agent, the same points", "`prometheus` is not installed", "");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let config = dir.path().join("agent.yml");
    let sink = format!("http://127.0.0.1:{}/w", sink());
    std::fs::write(&config, format!("remote_write:\n  - url: {sink}\n")).expect("its configuration");
    let port = free();
    let mut command = Command::new("prometheus");
    command
        .args(["--enable-feature=agent", "--web.enable-remote-write-receiver"])
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.agent.path={}", dir.path().join("wal").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let child = begin(command);
    ready(port, "/-/ready");
    let begun = Instant::now();
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            std::thread::spawn(move || {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("Prometheus");
                for round in 0..ROUNDS {
                    for body in remote_write::encode(&samples(sender, round), remote_write::SERIES) {
                        post(&mut stream, &body.bytes);
                    }
                }
            })
        })
        .collect();
    senders.into_iter().for_each(|it| it.join().expect("a sender"));
    wait(port, "prometheus_remote_storage_samples_total", ALL_POINTS);
    let what =
        format!("Prometheus as an agent, {ALL_POINTS} points written to its log and sent on as remote write");
    row(table, &what, child.0.id(), begun.elapsed(), "");
}

fn post(stream: &mut TcpStream, body: &[u8]) {
    let head = format!(
        "POST /api/v1/write HTTP/1.1\r\nhost: x\r\ncontent-encoding: snappy\r\ncontent-type: application/x-protobuf\r\n\
         x-prometheus-remote-write-version: 0.1.0\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).expect("a request");
    let mut lines = BufReader::new(&mut *stream).lines();
    let status = lines.next().expect("an answer").expect("an answer");
    assert!(status.contains(" 20"), "{status}");
    while lines.next().is_some_and(|it| it.is_ok_and(|it| !it.is_empty())) {}
}

/// A round: sources with the tags of a container, and points of the model's metrics, a quarter of them with a device.
fn samples(sender: u64, round: u64) -> Vec<Sample> {
    let time = Time::now();
    let one = |container: usize| {
        let tags = Tags::new([
            ("host", format!("host-{sender}")),
            ("container", format!("{container:064x}")),
            ("environment", "production".to_owned()),
            ("service", format!("service-{}", container % 7)),
        ]);
        let source = Source { key: format!("/docker/{container}#{sender}").into(), tags };
        let metrics = ALL.iter().map(|it| it.0).cycle().take(POINTS).enumerate();
        let points = metrics.map(|(at, metric)| {
            let tags = if at % 4 == 0 { Tags::new([("device", format!("8:{at}"))]) } else { Tags::default() };
            let number = Number::Unsigned(round * 1_000_003 + at as u64 * 7919 + sender);
            let start =
                (metric.kind == Kind::Counter).then_some(Time::from_unix_nanos(1_700_000_000_000_000_000));
            Point { metric: MetricRef::Known(metric), tags, number, start }
        });
        Sample { source: Arc::new(source), time, points: points.collect() }
    };
    (0..CONTAINERS).map(one).collect()
}

/// Sends rounds as a collector does, with so many in flight, until all are acknowledged.
async fn send(port: u16, sender: u64, rounds: u64, in_flight: usize) {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).expect("an address");
    let mut client = CollectClient::new(endpoint.connect().await.expect("the aggregator"));
    let (out, batches) = tokio::sync::mpsc::channel::<Batch>(in_flight);
    let (room, mut taken) = tokio::sync::mpsc::channel::<()>(in_flight);
    let made = tokio::spawn(async move {
        for sequence in 1..=rounds {
            room.send(()).await.expect("a reader");
            let message = batch(&format!("collector-{sender}"), sequence, &samples(sender, sequence), &[]);
            out.send(message).await.expect("a stream");
        }
    });
    let mut back = client.send(ReceiverStream::new(batches)).await.expect("a stream").into_inner();
    let mut last = 0;
    while last < rounds {
        last = back.next().await.expect("an acknowledgement").expect("an acknowledgement").sequence;
        taken.recv().await.expect("a sender");
    }
    made.await.expect("a sender");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn begin(mut command: Command) -> Ends {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ends(command.spawn().expect("start the program"))
}

struct Stand {
    child: Ends,
    listen: u16,
    pages: u16,
    _folder: tempfile::TempDir,
}

impl Stand {
    fn start(output: &Value) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (listen, pages) = (free(), free());
        let config = json!({
            "data": folder.path().join("kept"), "outputs": [output], "pages": format!("127.0.0.1:{pages}"),
        });
        let path: &Path = &folder.path().join("aggregator.json");
        std::fs::write(path, config.to_string()).expect("its configuration");
        let mut command = Command::new(AGGREGATOR);
        command.arg("--config").arg(path).arg("--listen").arg(format!("127.0.0.1:{listen}"));
        let child = begin(command);
        ready(pages, "/healthz");
        Self { child, listen, pages, _folder: folder }
    }
}

fn free() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its own address").port()
}

fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nhost: x\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.0 200").then_some(answer).filter(|it| !it.is_empty())
}

fn ready(port: u16, path: &str) {
    let begun = Instant::now();
    while get(port, path).is_none() {
        assert!(begun.elapsed() < PATIENCE, "nobody answers on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until a number of `/metrics` is there, over all its labels.
fn wait(port: u16, name: &str, number: u64) {
    let begun = Instant::now();
    loop {
        let text = get(port, "/metrics").unwrap_or_default();
        let rows = text.lines().filter(|it| it.starts_with(name));
        let sum: f64 = rows.filter_map(|it| it.rsplit(' ').next()?.parse::<f64>().ok()).sum();
        #[expect(clippy::cast_precision_loss, reason = "millions")]
        if sum >= number as f64 {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{name} is {sum} of {number}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A receiver that reads bodies and takes them all. Its threads end with the benchmark.
fn sink() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("its own address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(&stream));
        }
    });
    port
}

fn serve(mut stream: &TcpStream) -> Option<()> {
    let mut reader = BufReader::with_capacity(1 << 16, stream);
    let (mut line, mut body) = (String::new(), Vec::new());
    loop {
        let mut length = 0;
        loop {
            line.clear();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let header = line.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(number) = header.strip_prefix("content-length:") {
                length = number.trim().parse().ok()?;
            }
        }
        body.resize(length, 0);
        reader.read_exact(&mut body).ok()?;
        stream.write_all(b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n").ok()?;
    }
}
