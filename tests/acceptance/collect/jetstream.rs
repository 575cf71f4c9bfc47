//! `outrider-aggregator` with a stream of a real NATS in the place of its disk: both killed and started again, full, away, and
//! shared.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use outrider_collect::wire::generated::collect::{Batch, Tag};
use prost::Message;
use serde_json::{Value, json};
use tonic::Code;

use super::aggregator::{Keys, Stand, Stream, arrived, influx, numbered, page, runtime};
use super::http::port;
use super::receiver::Receiver;
use crate::support::{Running, until, until_or};

/// A NATS with JetStream, which may be killed and started again on the same port.
struct Nats {
    folder: PathBuf,
    port: u16,
    process: Running,
}

impl Nats {
    fn start(folder: &Path) -> Self {
        Self::with(folder, port(), "")
    }

    fn with(folder: &Path, port: u16, more: &str) -> Self {
        let there = Command::new("nats-server").arg("-v").output();
        assert!(there.is_ok(), "this test needs nats-server, on Debian the package nats-server: {there:?}");
        let store = folder.join("nats");
        let config = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{}\" }}\n{more}\n",
            store.display()
        );
        std::fs::write(folder.join("nats.conf"), config).unwrap();
        Self { folder: folder.to_owned(), port, process: begin(folder, port) }
    }

    fn kill(&mut self) {
        self.process.child.kill().unwrap();
        self.process.child.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.process = begin(&self.folder, self.port);
    }

    /// As if the file of an emptied stream had been cut and the note of its numbers had not been written.
    fn forget_messages(&self) {
        let messages = self.folder.join("nats/jetstream/$G/streams/outrider/msgs");
        for file in std::fs::read_dir(messages).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
    }

    /// Puts a batch into the stream, past every aggregator.
    fn publish(&self, batch: &Batch) {
        let bytes = batch.encode_to_vec();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "CONNECT {{\"verbose\":false}}\r\nPUB outrider.batches {}\r\n", bytes.len()).unwrap();
        stream.write_all(&bytes).unwrap();
        stream.write_all(b"\r\nPING\r\n").unwrap();
        let answered = BufReader::new(stream).lines().any(|it| it.unwrap() == "PONG");
        assert!(answered, "NATS closed the connection");
    }

    fn address(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
}

fn begin(folder: &Path, port: u16) -> Running {
    let mut command = Command::new("nats-server");
    command.arg("-c").arg(folder.join("nats.conf"));
    let mut process = Running::start(&mut command, &folder.join("nats.out"));
    until("NATS to listen", || {
        assert!(process.child_runs(), "{}", process.printed());
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
    process
}

/// An aggregator with a stream.
fn stand(folder: &Path, outputs: &Value, queue: &Value, change: impl FnOnce(&mut Value)) -> Stand {
    std::fs::create_dir_all(folder).unwrap();
    Stand::with(folder, outputs, |config| {
        config.as_object_mut().unwrap().remove("data");
        let mut whole = json!({ "kind": "jetstream" });
        whole.as_object_mut().unwrap().extend(queue.as_object().unwrap().clone());
        config["queue"] = whole;
        change(config);
    })
}

/// Sends one batch as soon as it is taken.
async fn sent(address: &str, sender: &str, sequence: u64) -> bool {
    loop {
        if let Some(mut stream) = Stream::open(address).await
            && let Some(told) = stream.send(numbered(sender, sequence)).await
        {
            assert_eq!(told.sequence, sequence);
            return told.repeated;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn each_output_takes_everything_once_and_a_batch_that_comes_again_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let nats = Nats::start(dir.path());
    let (fast, slow) = (Receiver::answering(&[]), Receiver::hanging());
    let outputs = json!([influx("a slow one", slow.port()), influx("fast", fast.port())]);
    let pages = port();
    let queue = json!({ "address": nats.address() });
    let mut stand = stand(dir.path(), &outputs, &queue, |config| {
        config["pages"] = format!("127.0.0.1:{pages}").into();
    });
    let address = stand.address();
    until("the stream", || (page(pages, "/healthz") == "ok\n").then_some(()));
    runtime().block_on(async {
        let mut stream = Stream::open(&address).await.unwrap();
        for sequence in 1..=20 {
            assert!(!stream.send(numbered("sender", sequence)).await.unwrap().repeated);
        }
        assert!(stream.send(numbered("sender", 7)).await.unwrap().repeated, "kept once");
    });
    until("all points at the fast one", || (arrived(&fast).len() == 200).then_some(()));
    assert!(arrived(&fast).values().all(|it| *it == 1));
    let metrics = until("the metrics to say so", || {
        let text = page(pages, "/metrics");
        let waiting = |output, batches| {
            text.contains(&format!("_output_waiting_batches{{output=\"{output}\"}} {batches}\n"))
        };
        (waiting("fast", 0) && waiting("a slow one", 20)).then_some(text)
    });
    for line in [
        "outrider_aggregator_repeated_batches_total 1",
        "outrider_aggregator_output_sent_points_total{output=\"fast\"} 200",
        "outrider_aggregator_received_points_total 200",
        "outrider_aggregator_output_dropped_batches_total{output=\"fast\"} 0",
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line}\n{metrics}");
    }
    stand.process.signal("TERM");
    assert_eq!(stand.process.ended(), Some(0), "in bounded time: {}", stand.process.printed());

    // What the hanging one never got waits for the next start, and is given back at once.
    let quick = Receiver::answering(&[]);
    let outputs = json!([influx("a slow one", quick.port()), influx("fast", fast.port())]);
    let mut again = self::stand(dir.path(), &outputs, &queue, |_| {});
    until("what waited", || (arrived(&quick).len() == 200).then_some(()));
    assert!(arrived(&fast).values().all(|it| *it == 1), "and nothing twice");
    again.stop();
}

/// NATS or the aggregator is killed at moments that only the seed knows, while a sender sends and the receiver takes: what was
/// acknowledged arrives.
#[test]
fn a_kill_of_nats_or_of_the_aggregator_loses_nothing_that_was_acknowledged() {
    for seed in 1..=3_u64 {
        let dir = tempfile::tempdir().unwrap();
        let mut nats = Nats::start(dir.path());
        let receiver = Receiver::answering(&[]);
        let queue = json!({ "address": nats.address() });
        let mut stand = stand(dir.path(), &json!([influx("one", receiver.port())]), &queue, |_| {});
        let (acknowledged, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let runtime = runtime();
        let sender = {
            let (address, acknowledged, is_over) =
                (stand.address(), Arc::clone(&acknowledged), Arc::clone(&is_over));
            runtime.spawn(async move {
                let mut sequence = 1;
                while !is_over.load(Ordering::Relaxed) {
                    if let Some(mut stream) = Stream::open(&address).await {
                        while !is_over.load(Ordering::Relaxed)
                            && let Some(told) = stream.send(numbered("sender", sequence)).await
                        {
                            assert_eq!(told.sequence, sequence);
                            acknowledged.store(sequence, Ordering::Relaxed);
                            sequence += 1;
                            tokio::time::sleep(Duration::from_millis(2)).await;
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
        };
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for round in 0..6 {
            let before = acknowledged.load(Ordering::Relaxed);
            until("an acknowledgement", || {
                assert!(stand.process.child_runs(), "{}", stand.process.printed());
                (acknowledged.load(Ordering::Relaxed) > before).then_some(())
            });
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            std::thread::sleep(Duration::from_micros((random >> 33) % 200_000));
            if round % 2 == 0 {
                nats.kill();
                nats.start_again();
            } else {
                stand.kill();
                stand.start_again();
            }
        }
        is_over.store(true, Ordering::Relaxed);
        runtime.block_on(sender).unwrap();
        let sent = acknowledged.load(Ordering::Relaxed);
        assert!(sent > 10, "seed {seed}: {sent} batches");
        let missing = || {
            let counted = arrived(&receiver);
            let whole = |it: &u64| (it * 10..it * 10 + 10).all(|point| counted.contains_key(&point));
            (1..=sent).filter(|it| !whole(it)).collect::<Vec<_>>()
        };
        let printed = || format!("{}\n{}", stand.process.printed(), nats.process.printed());
        until_or(
            "all that was acknowledged",
            || missing().is_empty().then_some(()),
            || format!("seed {seed}: of {sent} batches missing {:?}\n{}", missing(), printed()),
        );
        let counted = arrived(&receiver);
        assert!(counted.len() as u64 <= (sent + 1) * 10, "seed {seed}: {} of {sent} batches", counted.len());
        stand.stop();
        assert!(!stand.process.printed().contains("were dropped"), "{}", stand.process.printed());
    }
}

/// What a server makes of a kill between the emptying of a stream's file and the note of how far it was: it gives out numbers
/// again. What is in hand from before is not settled under the number of another batch.
#[test]
fn a_server_that_counts_anew_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut nats = Nats::start(dir.path());
    let down = port();
    let queue = json!({ "address": nats.address() });
    let mut stand = stand(dir.path(), &json!([influx("one", down)]), &queue, |_| {});
    let (address, runtime) = (stand.address(), runtime());
    assert!(!runtime.block_on(sent(&address, "sender", 1)));
    until("the batch to be in hand", || stand.process.printed().contains("Connection refused").then_some(()));
    nats.kill();
    nats.forget_messages();
    nats.start_again();
    for sequence in 2..=6 {
        assert!(!runtime.block_on(sent(&address, "sender", sequence)));
    }
    let receiver = Receiver::at(down);
    until_or(
        "all batches",
        || (arrived(&receiver).len() == 60).then_some(()),
        || format!("{:?}\n{}", arrived(&receiver), stand.process.printed()),
    );
    assert!(arrived(&receiver).values().all(|it| *it == 1), "and nothing twice");
    stand.stop();
    assert!(!stand.process.printed().contains("were dropped"), "{}", stand.process.printed());
}

/// What is in such a stream already, below where the consumer was, waits for nobody else: making the consumer anew keeps it.
#[test]
fn what_a_server_has_that_counts_anew_is_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let mut nats = Nats::start(dir.path());
    let down = port();
    let (outputs, queue) = (json!([influx("one", down)]), json!({ "address": nats.address() }));
    let pages = port();
    let mut first = stand(dir.path(), &outputs, &queue, |config| {
        config["pages"] = format!("127.0.0.1:{pages}").into();
    });
    until("the stream and its consumer", || (page(pages, "/healthz") == "ok\n").then_some(()));
    first.stop();
    // All are there when the output comes, so that it takes all of them at once.
    for sequence in 1..=3 {
        nats.publish(&numbered("sender", sequence));
    }
    first.start_again();
    until("them to be in hand", || first.process.printed().contains("Connection refused").then_some(()));
    first.kill();
    nats.process.signal("TERM");
    assert!(nats.process.ended().is_some());
    nats.forget_messages();
    nats.start_again();
    for sequence in 4..=5 {
        nats.publish(&numbered("sender", sequence));
    }
    let receiver = Receiver::at(down);
    first.start_again();
    until_or(
        "all batches",
        || (arrived(&receiver).len() == 20).then_some(()),
        || format!("{:?}\n{}", arrived(&receiver), first.process.printed()),
    );
    first.stop();
}

#[test]
fn above_the_bound_the_oldest_goes_and_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let nats = Nats::start(dir.path());
    let (down, pages) = (port(), port());
    let queue = json!({ "address": nats.address() });
    let mut stand = stand(dir.path(), &json!([influx("one", down)]), &queue, |config| {
        config["bounds"]["queue_bytes"] = (1 << 20).into();
        config["pages"] = format!("127.0.0.1:{pages}").into();
    });
    until("the stream", || (page(pages, "/healthz") == "ok\n").then_some(()));
    let address = stand.address();
    let batches = 150;
    runtime().block_on(async {
        let mut stream = Stream::open(&address).await.unwrap();
        for sequence in 1..=batches {
            let mut batch = numbered("sender", sequence);
            let tags = (0..10).map(|number| Tag { name: format!("t{number}"), value: "x".repeat(2000) });
            batch.samples[0].points[0].tags = tags.collect();
            assert!(!stream.send(batch).await.unwrap().repeated);
        }
    });
    until("the drops to be said", || stand.process.printed().contains("Batches were dropped").then_some(()));
    let receiver = Receiver::at(down);
    let counted = until("the newest", || {
        let counted = arrived(&receiver);
        counted.contains_key(&(batches * 10)).then_some(counted)
    });
    // What the output had in hand is counted in points, what it never saw in batches.
    let dropped = |text: &str| -> Option<u64> {
        let number = |what: &str| -> Option<u64> {
            let line = format!("outrider_aggregator_output_dropped_{what}_total{{output=\"one\"}} ");
            text.lines().find_map(|it| it.strip_prefix(line.as_str()))?.parse().ok()
        };
        Some(number("batches")? + number("points")? / 10)
    };
    let counted = until("all to be accounted for", || {
        let (now, dropped) = (arrived(&receiver), dropped(&page(pages, "/metrics"))?);
        (now.len() as u64 / 10 + dropped == batches && now.len() >= counted.len()).then_some(now)
    });
    let kept = counted.len() as u64 / 10;
    assert!((20..100).contains(&kept), "{kept} batches of some 20 KB in 1 MiB");
    // The oldest may have been with the output already.
    let mut newest = (batches - 20) * 10..batches * 10 + 10;
    assert!(newest.all(|it| counted.contains_key(&it)), "{counted:?}");
    stand.stop();
}

/// With TLS, and a token that is in a file alone.
#[test]
fn a_nats_that_is_away_or_refuses_is_told_and_nothing_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    Keys::make(dir.path());
    let (at, pages) = (port(), port());
    let receiver = Receiver::answering(&[]);
    let token = dir.path().join("nats.token");
    std::fs::write(&token, "not-the-real-token\n").unwrap();
    let queue = json!({ "address": format!("tls://localhost:{at}"), "token_file": "nats.token", "ca_file": "ca.pem" });
    let outputs = json!([influx("one", receiver.port())]);
    let mut stand = stand(dir.path(), &outputs, &queue, |config| {
        config["pages"] = format!("127.0.0.1:{pages}").into();
    });
    let (address, runtime) = (stand.address(), runtime());
    let refused = || {
        runtime.block_on(async {
            let mut stream = Stream::open(&address).await.unwrap();
            stream.out.send(numbered("sender", 1)).await.unwrap();
            stream.back.message().await.unwrap_err()
        })
    };
    assert_eq!(refused().code(), Code::Unavailable);
    until("the trouble to be told", || {
        stand.process.printed().contains("An output takes nothing").then_some(())
    });
    let health = page(pages, "/healthz");
    assert!(health.contains(&format!("of NATS at tls://localhost:{at}: connect")), "{health}");

    let file = |name: &str| dir.path().join(name).display().to_string();
    let more = format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\" }}\nauthorization {{ token: \"hunter22hunter22\" }}",
        file("server.pem"),
        file("server.key")
    );
    let mut nats = Nats::with(dir.path(), at, &more);
    until("the refusal to be told", || {
        let told = stand.process.printed();
        told.contains("it refuses the name, the password or the token").then_some(())
    });
    assert_eq!(refused().code(), Code::Unavailable);
    std::fs::write(&token, "hunter22hunter22\n").unwrap();
    assert!(!runtime.block_on(sent(&address, "sender", 1)));
    until("its points", || (arrived(&receiver).len() == 10).then_some(()));
    until("the end of the trouble", || {
        stand.process.printed().contains("An output works again").then_some(())
    });

    nats.kill();
    until("the server to be missed", || (page(pages, "/healthz") != "ok\n").then_some(()));
    assert_eq!(refused().code(), Code::Unavailable);
    nats.start_again();
    assert!(!runtime.block_on(sent(&address, "sender", 2)));
    until("its points", || (arrived(&receiver).len() == 20).then_some(()));

    let arguments = std::fs::read(format!("/proc/{}/cmdline", stand.process.pid())).unwrap();
    let said = stand.process.printed() + &String::from_utf8_lossy(&arguments);
    for secret in ["hunter22", "not-the-real-token"] {
        assert!(!said.contains(secret), "{said}");
    }
    stand.stop();
}

/// Their outputs have the same name, so each batch goes out by one of them; when one dies, what it held goes out by the other.
#[test]
fn two_aggregators_share_a_stream_and_one_stands_in_for_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let nats = Nats::start(dir.path());
    let (receiver, down) = (Receiver::answering(&[]), port());
    let queue = json!({ "address": nats.address() });
    let mut first = stand(&dir.path().join("a"), &json!([influx("one", down)]), &queue, |_| {});
    runtime().block_on(async {
        assert!(!sent(&first.address(), "sender", 1).await);
        for sequence in 2..=30 {
            assert!(!sent(&first.address(), "sender", sequence).await);
        }
    });
    until("the first one to hold a batch", || {
        first.process.printed().contains("An output takes nothing").then_some(())
    });
    let outputs = json!([influx("one", receiver.port())]);
    let mut second = stand(&dir.path().join("b"), &outputs, &queue, |_| {});
    assert!(runtime().block_on(sent(&second.address(), "sender", 30)), "the other one kept it");
    first.kill();
    runtime().block_on(async {
        for sequence in 31..=40 {
            assert!(!sent(&second.address(), "sender", sequence).await);
        }
    });
    let counted = until("all of both", || {
        let counted = arrived(&receiver);
        (counted.len() == 400).then_some(counted)
    });
    assert!(counted.values().all(|it| *it == 1), "{counted:?}");
    second.stop();
}
