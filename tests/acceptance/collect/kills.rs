//! `kill -9` of the aggregator and of the collector while receivers take points: what was acknowledged arrives, and where the
//! receiver knows a point again, nothing is there twice.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use outrider_collect::catalogue::MEMORY_USAGE;
use outrider_collect::model::{MetricRef, Number, Point, Sample, Source, Tags, Time};
use outrider_collect::wire::batch;
use outrider_collect::wire::generated::collect::Batch;
use serde_json::{Value, json};

use super::aggregator::{Stand, Stream, runtime};
use super::bulk::{FLAT, documents};
use super::http::port;
use super::receiver::Receiver;
use super::receivers::Played;
use super::{configure, lines, prometheus, with_outputs};
use crate::random::Random;
use crate::support::{Running, outrider, run, until};

const SERIES: u64 = 10;
const KILLS: u64 = 6;

/// One point of each of ten series, whose values nobody else has: of batch 3, those from 30 to 39.
fn numbered(begin: Time, sequence: u64) -> Batch {
    let nanos = begin.unix_nanos() + i64::try_from(sequence).unwrap() * 1_000_000;
    let sample = |number: u64| Sample {
        source: Arc::new(Source { key: "k".into(), tags: Tags::new([("n", number.to_string())]) }),
        time: Time::from_unix_nanos(nanos),
        points: vec![Point {
            metric: MetricRef::Known(&MEMORY_USAGE),
            tags: Tags::default(),
            number: Number::Unsigned(sequence * SERIES + number),
            start: None,
        }],
    };
    batch("sender", sequence, &(0..SERIES).map(sample).collect::<Vec<_>>(), &[])
}

type Counted = BTreeMap<u64, usize>;

fn counted(values: impl IntoIterator<Item = u64>) -> Counted {
    let mut counted = Counted::new();
    values.into_iter().for_each(|it| *counted.entry(it).or_default() += 1);
    counted
}

fn in_influx(receiver: &Receiver) -> Counted {
    let text: String = receiver.got().into_iter().map(|it| String::from_utf8(it.body).unwrap()).collect();
    let value = |line: &str| {
        let digits = line.split("container.memory.usage=").nth(1)?.split('i').next()?;
        digits.parse().ok()
    };
    counted(text.lines().map(|it| value(it).unwrap_or_else(|| panic!("{it}"))))
}

fn in_elasticsearch(receiver: &Played) -> Counted {
    let value = |it: &Value| it["source"]["metrics"]["container_memory_usage"].as_u64().unwrap();
    counted(receiver.taken().iter().map(value))
}

fn in_prometheus(http: u16) -> Option<Counted> {
    let all = prometheus::found(http, "container_memory_usage[1h]")?;
    let values = all.iter().flat_map(|it| it["values"].as_array().unwrap());
    Some(counted(values.map(|it| it[1].as_str().unwrap().parse().unwrap())))
}

/// Waits until all of these are there.
fn until_all(
    what: &str,
    values: std::ops::Range<u64>,
    stand: &Stand,
    mut look: impl FnMut() -> Option<Counted>,
) -> Counted {
    let mut last = BTreeSet::new();
    let wait = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until(what, || {
            let found = look()?;
            last = values.clone().filter(|it| !found.contains_key(it)).collect();
            last.is_empty().then_some(found)
        })
    }));
    wait.unwrap_or_else(|_| {
        panic!("{what}: of {values:?} {} are missing: {last:?}\n{}", last.len(), stand.process.printed())
    })
}

/// Killed a moment after a receiver has taken something new, which is when the next things are on their way to all three.
#[test]
fn an_aggregator_that_is_killed_while_it_delivers_loses_nothing_that_it_acknowledged() {
    for seed in 1..=2 {
        let dir = tempfile::tempdir().unwrap();
        let http = port();
        let _prometheus = prometheus::start(dir.path(), http);
        let elasticsearch = Played::start("bulk", dir.path(), &[("templates", FLAT)]);
        let influx = Receiver::answering(&[]);
        let outputs = json!([
            { "kind": "elasticsearch", "url": elasticsearch.url() },
            { "kind": "remote_write", "url": format!("http://127.0.0.1:{http}/api/v1/write") },
            { "kind": "influx", "url": influx.url(), "database": "d" },
        ]);
        let mut stand = Stand::start(dir.path(), &outputs);
        let (runtime, address, begin) = (runtime(), stand.address(), Time::now());
        let (mut random, mut sequence, mut repeated) = (Random::new(seed), 1, 0);
        for round in 0..=KILLS {
            let pause = Duration::from_micros(random.below(60_000));
            let pid = stand.process.pid().to_string();
            let last = round == KILLS;
            let sent = runtime.block_on(async {
                let mut stream = Stream::open(&address).await?;
                let before = elasticsearch.requests().len();
                let mut killer = None;
                loop {
                    let told = stream.send(numbered(begin, sequence)).await?;
                    assert_eq!(told.sequence, sequence);
                    repeated += usize::from(told.repeated);
                    sequence += 1;
                    if last {
                        return Some(());
                    }
                    // While it takes: not before it has taken something of what this process has.
                    if killer.is_none() && elasticsearch.requests().len() > before {
                        let pid = pid.clone();
                        killer = Some(std::thread::spawn(move || {
                            std::thread::sleep(pause);
                            assert!(run(Command::new("kill").args(["-9", &pid])).status.success());
                        }));
                    }
                }
            });
            // Until the kill: then it is not acknowledged, and is the first of the next round.
            assert_eq!(sent.is_some(), last, "{}", stand.process.printed());
            if !last {
                stand.process.child.wait().unwrap();
                stand.start_again();
            }
        }
        let acknowledged = SERIES..sequence * SERIES;
        let wait = |what, look: &mut dyn FnMut() -> Option<Counted>| {
            until_all(what, acknowledged.clone(), &stand, look)
        };
        let in_elasticsearch = wait("all at Elasticsearch", &mut || Some(in_elasticsearch(&elasticsearch)));
        let in_prometheus = wait("all in Prometheus", &mut || in_prometheus(http));
        let in_influx = wait("all in InfluxDB's lines", &mut || Some(in_influx(&influx)));
        let more = |all: &Counted| all.values().map(|it| it - 1).sum::<usize>();
        println!(
            "seed {seed}: {} points acknowledged over {KILLS} kills, {repeated} batches sent again by the sender; of what was \
             delivered again, Elasticsearch knew {} documents, and {} of InfluxDB's lines came twice",
            acknowledged.end - acknowledged.start,
            documents(&elasticsearch, 409),
            more(&in_influx),
        );
        assert_eq!((more(&in_elasticsearch), more(&in_prometheus)), (0, 0), "seed {seed}: there once");
        assert_eq!(documents(&elasticsearch, 400), 0);
        for all in [in_elasticsearch, in_prometheus, in_influx] {
            assert!(
                all.keys().all(|it| acknowledged.contains(it)),
                "seed {seed}: nobody sent these: {all:?}"
            );
        }
        stand.process.signal("TERM");
        assert_eq!(stand.process.ended(), Some(0), "{}", stand.process.printed());
    }
}

/// The times of the rounds that were measured, in order.
fn measured(file: &std::path::Path) -> Vec<String> {
    lines(file).iter().map(|it| it["time"].as_str().unwrap().to_owned()).collect()
}

fn arrived(receiver: &Played) -> BTreeSet<String> {
    receiver.taken().iter().map(|it| it["source"]["@timestamp"].as_str().unwrap().to_owned()).collect()
}

/// How many rounds are missing: of each process, which begin at these, its last ones alone may be.
fn lost(rounds: &[String], firsts: &[usize], there: &BTreeSet<String>) -> usize {
    let mut lost = 0;
    for run in firsts.windows(2) {
        let run = &rounds[run[0]..run[1]];
        let until_now = run.iter().take_while(|it| there.contains(*it)).count();
        assert!(until_now > 0, "of {run:?} nothing arrived");
        assert!(run[until_now..].iter().all(|it| !there.contains(it)), "a hole in {run:?}: {there:?}");
        lost += run.len() - until_now;
    }
    lost
}

/// Either is killed, or both. Of each process that collected, what arrives is all but its very last rounds: those that it could
/// not put on its disk before it died.
#[test]
fn a_collector_that_is_killed_while_it_delivers_leaves_no_hole_and_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let http = port();
    let _prometheus = prometheus::start(dir.path(), http);
    let elasticsearch = Played::start("bulk", dir.path(), &[("templates", FLAT)]);
    let outputs = json!([
        { "kind": "elasticsearch", "url": elasticsearch.url() },
        { "kind": "remote_write", "url": format!("http://127.0.0.1:{http}/api/v1/write") },
    ]);
    let mut stand = Stand::start(dir.path(), &outputs);
    let (root, file) = (dir.path().join("root"), dir.path().join("samples"));
    let outputs = json!([
        { "kind": "json_lines", "path": file },
        { "kind": "aggregator", "address": stand.address() },
    ]);
    configure(&root, &with_outputs(&outputs));
    let begin = || Running::start(outrider(&root).arg("collect"), &dir.path().join("out"));
    let mut collect = begin();
    let mut random = Random::new(1);
    // The first round of each process that collected.
    let mut firsts = vec![0];
    for _ in 0..2 * KILLS {
        let first = *firsts.last().unwrap();
        until("what this process measured to arrive", || {
            assert!(collect.child_runs(), "{}", collect.printed());
            let arrived = arrived(&elasticsearch);
            measured(&file)[first..].iter().any(|it| arrived.contains(it)).then_some(())
        });
        std::thread::sleep(Duration::from_micros(random.below(150_000)));
        let which = random.below(3);
        if which != 0 {
            collect.child.kill().unwrap();
            collect.child.wait().unwrap();
            firsts.push(measured(&file).len());
        }
        if which != 1 {
            stand.kill();
            stand.start_again();
        }
        if which != 0 {
            collect = begin();
        }
    }
    let first = *firsts.last().unwrap();
    until("rounds of the last one", || (measured(&file).len() > first + 2).then_some(()));
    // A clean end keeps what is left for the next start.
    collect.signal("TERM");
    assert_eq!(collect.ended(), Some(0), "{}", collect.printed());
    let ended = measured(&file).len();
    firsts.push(ended);
    collect = begin();
    until("all of the one that ended, and something of the next", || {
        let (arrived, rounds) = (arrived(&elasticsearch), measured(&file));
        let all = rounds[first..ended].iter().all(|it| arrived.contains(it));
        (all && rounds[ended..].iter().any(|it| arrived.contains(it))).then_some(())
    });
    collect.signal("TERM");
    assert_eq!(collect.ended(), Some(0), "{}", collect.printed());
    until("as many in Prometheus", || {
        let found = prometheus::found(http, "count_over_time(container_cpu_usage_total[1h])")?;
        let count: usize = found.first()?["value"][1].as_str()?.parse().ok()?;
        (count == arrived(&elasticsearch).len()).then_some(())
    });
    let rounds = measured(&file);
    let there = arrived(&elasticsearch);
    firsts.push(rounds.len());
    let lost = lost(&rounds, &firsts, &there);
    let at = |it: &Value| (it["id"].clone().to_string(), it["source"].to_string());
    let (ids, sources): (BTreeSet<_>, BTreeSet<_>) = elasticsearch.taken().iter().map(at).unzip();
    assert_eq!((ids.len(), sources.len()), (elasticsearch.taken().len(), elasticsearch.taken().len()));
    assert_eq!(documents(&elasticsearch, 400), 0);
    println!(
        "{} rounds measured by {} processes, of which the last {lost} of those that were killed could not be kept; {} arrived; \
         Elasticsearch knew {} documents that came again",
        rounds.len(),
        firsts.len() - 1,
        there.len(),
        documents(&elasticsearch, 409),
    );
    stand.process.signal("TERM");
    assert_eq!(stand.process.ended(), Some(0), "{}", stand.process.printed());
}
