//! `outrider-aggregator` by its built program: between collectors and receivers, killed and started again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use outrider_collect::catalogue::MEMORY_USAGE;
use outrider_collect::model::{MetricRef, Number, Point, Sample, Source, Tags, Time};
use outrider_collect::wire::batch;
use outrider_collect::wire::generated::collect::collect_client::CollectClient;
use outrider_collect::wire::generated::collect::{Acknowledgement, Batch};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

use super::influxdb::port;
use super::receiver::Receiver;
use crate::support::{Running, run, until};

/// A running aggregator, which may be killed and started again on the same port.
struct Stand {
    folder: PathBuf,
    port: u16,
    process: Running,
}

impl Stand {
    fn start(folder: &Path, outputs: &Value) -> Self {
        Self::with(folder, outputs, |_| {})
    }

    fn with(folder: &Path, outputs: &Value, change: impl FnOnce(&mut Value)) -> Self {
        let mut config = json!({
            "data": "kept", "outputs": outputs,
            "bounds": { "batch_ms": 20, "answer_s": 5, "retry_s": 1 },
        });
        change(&mut config);
        std::fs::write(folder.join("aggregator.json"), config.to_string()).unwrap();
        let port = port();
        Self { folder: folder.to_owned(), port, process: begin(folder, port) }
    }

    fn kill(&mut self) {
        self.process.child.kill().unwrap();
        self.process.child.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.process = begin(&self.folder, self.port);
    }

    fn address(&self) -> String {
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

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Ten points whose values nobody else has: of batch 3, those from 30 to 39.
fn numbered(collector: &str, sequence: u64) -> Batch {
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
struct Stream {
    out: mpsc::Sender<Batch>,
    back: Streaming<Acknowledgement>,
}

impl Stream {
    async fn open(address: &str) -> Option<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let mut client = CollectClient::new(endpoint.connect().await.ok()?);
        let (out, batches) = mpsc::channel(1);
        let back = client.send(ReceiverStream::new(batches)).await.ok()?.into_inner();
        Some(Self { out, back })
    }

    async fn send(&mut self, batch: Batch) -> Option<Acknowledgement> {
        self.out.send(batch).await.ok()?;
        self.back.message().await.ok()?
    }
}

/// How often each value arrived, in InfluxDB's lines.
fn arrived(receiver: &Receiver) -> BTreeMap<u64, usize> {
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

fn influx(name: &str, port: u16) -> Value {
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
        stand.process.signal("TERM");
        assert_eq!(stand.process.ended(), Some(0), "{}", stand.process.printed());
    }
}
