//! The way to the backend: it breaks, it is held back, it refuses; and in the end everything has arrived.

use outrider_protocol::fault::code;
use outrider_spool::{Settings, Spool};
use serde_json::json;

use super::action::DONE;
use super::backend::{Refusal, Stream};
use super::*;
use crate::snapshot::{LinkStatus, Snapshot};

/// The backend is told nothing while it is away, and everything once it is back.
#[tokio::test]
async fn a_backend_that_vanishes_and_returns_gets_what_happened_meanwhile() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let script = r#"
log("before")
while not os.path.exists(os.path.join(root, "go")):
    time.sleep(0.01)
log("meanwhile")
answer(report())"#;
    let agent = Agent::new(&server, script);
    let running = agent.start();
    backend.run("c1", &export());
    backend.until("the first line", |it| (it.log_of("c1") == ["before"]).then_some(())).await;
    let addr = server.addr;
    drop(server);
    std::fs::write(agent.dir.path().join("go"), "").unwrap();
    until_file(&agent.root().exports().join("c1.json")).await;
    let hellos = backend.taken("agent.hello").len();
    let _server = backend.serve(Some(addr));
    assert_eq!(backend.ended("c1").await["state"], "done");
    assert_eq!(backend.log_of("c1"), ["before", "meanwhile"]);
    let hello = |it: &Backend| it.taken("agent.hello").get(hellos).cloned();
    backend.until("another hello", hello).await;
    backend.run("c2", &export());
    assert_eq!(backend.ended("c2").await["state"], "done");
    running.stop().await;
}

#[tokio::test]
async fn each_batch_of_a_log_has_the_next_number_and_is_sent_until_it_is_answered() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let mut agent = Agent::new(&server, "for i in range(25): log(str(i))\nanswer(report())");
    agent.config.limits.log_batch_lines = 10;
    backend.fail("command.log", 2);
    let running = agent.start();
    backend.run("c1", &export());
    backend.ended("c1").await;
    let expected: Vec<_> = (0..25).map(|it| it.to_string()).collect();
    assert_eq!(backend.log_of("c1"), expected);
    let numbers: Vec<_> =
        backend.taken("command.log").iter().map(|it| it["batch"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
    running.stop().await;
}

#[tokio::test]
async fn a_log_that_is_too_long_for_the_time_the_backend_is_away_loses_its_middle_and_says_so() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let mut agent = Agent::new(&server, "for i in range(300): log(str(i))\nanswer(report())");
    agent.config.limits.log_queue_lines = 100;
    agent.config.limits.log_batch_lines = 10;
    backend.fail("command.log", u32::MAX);
    let running = agent.start();
    backend.run("c1", &export());
    until_file(&agent.root().exports().join("c1.json")).await;
    backend.fail("command.log", 0);
    backend.ended("c1").await;
    let log = backend.log_of("c1");
    assert_eq!(log.last().unwrap(), "299");
    let lost = log.iter().filter_map(|it| it.split_once(" lines of the log were dropped here"));
    let lost: usize = lost.map(|(count, _)| count.parse::<usize>().unwrap()).sum();
    let kept = log.iter().filter(|it| it.parse::<u32>().is_ok()).count();
    assert_eq!(kept + lost, 300, "{log:?}");
    assert!(lost > 100, "{log:?}");
    running.stop().await;
}

#[tokio::test]
async fn an_outcome_is_told_until_it_is_answered() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, DONE);
    backend.fail("command.ended", 3);
    backend.fail("command.accepted", 2);
    let running = agent.start();
    backend.run("c1", &export());
    backend.ended("c1").await;
    assert_eq!(backend.called("command.ended"), 4);
    assert_eq!(backend.told_of("c1")[0], "command.accepted");
    running.stop().await;
    // It is settled: a restart says nothing more.
    let running = agent.start();
    backend.run("c2", &export());
    backend.ended("c2").await;
    running.stop().await;
    assert_eq!(backend.called("command.ended"), 5);
}

/// An action whose report is too long for what is on the way.
const LONG: &str = r#"
long = report()
long["integrations"][0]["projects"] = [
    {"id": str(i), "name": "x" * 100, "state": "done", "mode": "historical", "objects": 1, "bytes": 1, "duration_ms": 1}
    for i in range(100)]
answer(long)"#;

#[tokio::test]
async fn an_outcome_that_is_too_long_for_a_proxy_arrives_reduced() {
    let backend = Backend::new();
    let server = backend.serve(None);
    backend.refuse_above(2_000, "command.ended", Refusal::TooLong);
    let agent = Agent::new(&server, LONG);
    let running = agent.start();
    backend.run("c1", &export());
    let outcome = backend.ended("c1").await;
    assert_eq!((&outcome["state"], outcome.get("report")), (&json!("done"), None));
    assert!(outcome["error"]["hint"].as_str().unwrap().contains("413"), "{outcome}");
    assert_eq!(running.stop().await.unreported, 0);
    let kept = until_file(&agent.root().exports().join("c1.json")).await;
    assert!(kept.contains("xxxx"), "the host has the whole");
}

#[tokio::test]
async fn an_outcome_that_is_refused_in_every_form_is_told_until_it_is_taken() {
    let backend = Backend::new();
    let server = backend.serve(None);
    backend.refuse_above(0, "command.ended", Refusal::Code(code::INVALID_PARAMS));
    let agent = Agent::new(&server, DONE);
    let running = agent.start();
    backend.run("c1", &export());
    backend.until("some tries", |it| (it.called("command.ended") >= 4).then_some(())).await;
    running.kill().await;
    backend.refuse_no_more();
    let running = agent.start();
    assert_eq!(backend.ended("c1").await["report"]["action"], "export", "the whole is tried first");
    assert_eq!(running.stop().await.unreported, 0);
}

#[tokio::test]
async fn an_outcome_of_a_command_that_the_backend_does_not_have_is_told_once() {
    let backend = Backend::new();
    let server = backend.serve(None);
    backend.refuse_above(0, "command.ended", Refusal::Code(code::NO_COMMAND));
    let agent = Agent::new(&server, DONE);
    let running = agent.start();
    backend.run("c1", &export());
    backend.until("the outcome", |it| (it.called("command.ended") > 0).then_some(())).await;
    assert_eq!(running.stop().await.unreported, 0);
    assert_eq!(backend.called("command.ended"), 1);
}

#[tokio::test]
async fn a_ping_names_every_command_whose_outcome_the_backend_does_not_have() {
    let backend = Backend::new();
    let server = backend.serve(None);
    backend.ping_every_ms(1);
    backend.fail("command.ended", u32::MAX);
    let agent = Agent::new(&server, "if command == 'c2': until_cancelled()\nanswer(report())");
    let running = agent.start();
    for id in ["c1", "c2", "c3"] {
        backend.run(id, &export());
    }
    let all = |it: &Backend| {
        let ping = it.taken("agent.ping").pop()?;
        let mut named: Vec<_> = ping["commands"].as_array()?.iter().filter_map(|it| it.as_str()).collect();
        named.sort_unstable();
        (named == ["c1", "c2", "c3"] && ping["running"] == json!(["c2"])).then_some(())
    };
    backend.until("a ping that names them", all).await;
    backend.fail("command.ended", 0);
    backend.order(json!({"kind": "cancel", "command": "c2"}));
    backend.ended("c3").await;
    let none = |it: &Backend| (it.taken("agent.ping").pop()?["commands"] == json!([])).then_some(());
    backend.until("a ping that names none", none).await;
    running.stop().await;
}

#[tokio::test]
async fn a_file_that_is_refused_when_its_export_has_its_outcome_is_in_the_pings() {
    let backend = Backend::new();
    let server = backend.serve(None);
    backend.ping_every_ms(1);
    backend.say_wrong_hash(5);
    let agent = Agent::new(&server, DONE);
    let running = agent.start();
    backend.run("e1", &export());
    assert_eq!(backend.ended("e1").await["state"], "done");
    running.stop().await;
    spooled(&agent, "e1", 10);
    let running = agent.start();
    let told = |it: &Backend| (it.taken("agent.ping").pop()?["refused_files"] == 1).then_some(());
    backend.until("a ping that counts it", told).await;
    running.stop().await;
}

#[tokio::test]
async fn a_refused_file_that_a_person_dropped_is_refused_no_more() {
    let backend = Backend::new();
    let server = backend.serve(None);
    backend.ping_every_ms(1);
    backend.say_wrong_hash(5);
    let agent = Agent::new(&server, DONE);
    spooled(&agent, "e1", 10);
    let timing = Timing {
        spool_every: Duration::from_millis(20),
        retry_first: Duration::from_millis(10),
        retry_most: Duration::from_millis(100),
        ..Timing::new(&agent.config.limits)
    };
    let running = agent.start_with(timing);
    let refused = |count: u64| {
        move |it: &Backend| (it.taken("agent.ping").pop()?["refused_files"] == count).then_some(())
    };
    backend.until("a ping that counts it", refused(1)).await;
    let spool = Spool::open(agent.root().spool(), Default::default()).unwrap();
    let dropped = async {
        // The service has the export open for moments.
        loop {
            match spool.drop_waiting("e1", outrider_spool::DropWhich::Refused) {
                Ok(dropped) => break dropped,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let dropped = tokio::time::timeout(Duration::from_secs(30), dropped).await.unwrap();
    assert_eq!((dropped.files, dropped.records), (1, 10));
    backend.until("a ping that counts none", refused(0)).await;
    running.stop().await;
}

#[tokio::test]
async fn orders_are_polled_for_where_streams_are_cut_after_the_greeting() {
    let backend = Backend::new();
    let server = backend.serve(None);
    backend.stream_is(Stream::Cut);
    let agent = Agent::new(&server, DONE);
    let timing = Timing {
        retry_first: Duration::from_millis(10),
        retry_most: Duration::from_millis(200),
        ..Timing::new(&agent.config.limits)
    };
    let running = agent.start_with(timing);
    backend.run("c1", &export());
    assert_eq!(backend.ended("c1").await["state"], "done");
    assert!(backend.called("orders.poll") > 0);
    running.stop().await;
}

#[tokio::test]
async fn orders_are_polled_for_where_there_is_no_stream() {
    let backend = Backend::new();
    let server = backend.serve(None);
    backend.stream_is(Stream::Missing);
    let agent = Agent::new(&server, DONE);
    let running = agent.start();
    backend.run("c1", &export());
    assert_eq!(backend.ended("c1").await["state"], "done");
    assert!(backend.called("orders.poll") > 0);
    running.stop().await;
}

#[tokio::test]
async fn a_stream_that_is_held_back_is_replaced_by_polling_and_tried_again() {
    let backend = Backend::new();
    let server = backend.serve(None);
    backend.stream_is(Stream::Silent);
    let agent = Agent::new(&server, DONE);
    let timing = Timing {
        retry_first: Duration::from_millis(10),
        retry_most: Duration::from_millis(200),
        stream_quiet: Duration::from_millis(500),
        stream_again: Duration::from_secs(1),
        poll_wait: Duration::from_millis(100),
        ..Timing::new(&agent.config.limits)
    };
    let running = agent.start_with(timing);
    backend.run("c1", &export());
    assert_eq!(backend.ended("c1").await["state"], "done");
    assert!(backend.called("orders.poll") > 0);
    backend.stream_is(Stream::Works);
    // On a stream, no more polls come; a poll that is under way may still take the order.
    let hellos = backend.called("agent.hello");
    backend.until("the stream", |it| (it.called("agent.hello") > hellos).then_some(())).await;
    backend.run("c2", &export());
    assert_eq!(backend.ended("c2").await["state"], "done");
    running.stop().await;
}

#[tokio::test]
async fn a_refused_token_is_said_and_tried_again() {
    let backend = Backend::new();
    let server = backend.serve(None);
    backend.refuse_token(true);
    let agent = Agent::new(&server, DONE);
    let running = agent.start();
    let refused = async {
        loop {
            match Snapshot::load(&agent.root()).map(|it| it.link) {
                Some(LinkStatus::Refused { error, .. }) => break error,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let error = tokio::time::timeout(Duration::from_secs(60), refused).await.unwrap();
    assert!(error.contains("this token was revoked") && error.contains("enroll again"), "{error}");
    backend.refuse_token(false);
    backend.run("c1", &export());
    backend.ended("c1").await;
    running.stop().await;
}

/// Puts an export of `records` records into the spool, as a run that is over left it.
pub(super) fn spooled(agent: &Agent, export: &str, records: usize) -> Vec<u8> {
    let spool = Spool::open(agent.root().spool(), Settings::default()).unwrap();
    let mut writer = spool.export(export).unwrap();
    let mut session = writer.session("mock", "sourcecode.Commit");
    for number in 0..records {
        // Digits of a square do not compress well.
        session
            .append(format!(r#"{{"id":"{}"}}"#, number * number * 7_919 % 1_000_000_007).as_bytes())
            .unwrap();
    }
    writer.commit(session).unwrap();
    writer.seal_all().unwrap();
    let path = spool.pending().unwrap().files[0].path.clone();
    std::fs::read(path).unwrap()
}

pub(super) const FILE: &str = "/agent/v1/uploads/e1/sourcecode.Commit/0";

pub(super) async fn uploaded(agent: &Agent, backend: &Backend) -> Vec<u8> {
    let bytes = backend.until("the file", |it| it.file(FILE)).await;
    let sent = agent.root().spool().join("sent/e1/sourcecode.Commit/0.json.gz");
    for _ in 0..3000 {
        if sent.exists() {
            return bytes;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the file was not acknowledged")
}

#[tokio::test]
async fn a_file_is_uploaded_in_pieces_and_goes_on_where_a_cut_stopped_it() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, DONE);
    let written = spooled(&agent, "e1", 60_000);
    assert!(written.len() > 150_000, "{} bytes", written.len());
    backend.cut_next_upload_after(10_000);
    let running = agent.start();
    assert_eq!(uploaded(&agent, &backend).await, written);
    // What had come before the cut was not sent again: three pieces, and the one that was cut.
    let pieces = (written.len() - 10_000).div_ceil(65_536);
    assert_eq!(backend.patches() as usize, pieces + 1);
    running.stop().await;
}

#[tokio::test]
async fn a_file_that_the_backend_refuses_for_what_is_in_it_is_sent_from_the_beginning() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, DONE);
    let written = spooled(&agent, "e1", 10);
    backend.say_wrong_hash(2);
    let running = agent.start();
    assert_eq!(uploaded(&agent, &backend).await, written);
    assert_eq!(backend.patches(), 3);
    running.stop().await;
}

#[tokio::test]
async fn files_are_uploaded_although_those_that_were_sent_cannot_be_looked_through() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, DONE);
    let written = spooled(&agent, "e1", 10);
    std::fs::write(agent.root().spool().join("sent"), "no folder").unwrap();
    let running = agent.start();
    assert_eq!(backend.until("the file", |it| it.file(FILE)).await, written);
    running.stop().await;
}

/// Waits until a path is gone.
async fn until_gone(path: &Path) {
    for _ in 0..3000 {
        if !path.exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} is still there", path.display())
}

/// Starts a service that looks into its spool all the time.
fn start_looking(agent: &Agent) -> Running {
    agent.start_with(Timing { spool_every: Duration::from_millis(20), ..Timing::new(&agent.config.limits) })
}

#[tokio::test]
async fn what_was_sent_is_not_kept_where_the_limit_is_no_time() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let mut agent = Agent::new(&server, DONE);
    agent.config.limits.sent_keep_hours = 0;
    let written = spooled(&agent, "e1", 10);
    let running = start_looking(&agent);
    assert_eq!(backend.until("the file", |it| it.file(FILE)).await, written);
    until_gone(&agent.root().spool().join("e1")).await;
    until_gone(&agent.root().spool().join("sent/e1")).await;
    running.stop().await;
}

#[tokio::test]
async fn what_the_spool_knows_of_an_export_stays_for_as_long_as_its_command_may_go_on() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let script = r#"
while not os.path.exists(os.path.join(root, "go")):
    time.sleep(0.01)
answer(report())"#;
    let mut agent = Agent::new(&server, script);
    agent.config.limits.sent_keep_hours = 0;
    backend.run("e1", &export());
    let first = agent.start();
    backend.until("its run", |it| (it.called("command.running") > 0).then_some(())).await;
    first.kill().await;
    spooled(&agent, "e1", 10);
    let second = start_looking(&agent);
    backend.until("the file", |it| it.file(FILE)).await;
    let spool = agent.root().spool();
    until_gone(&spool.join("e1/sourcecode.Commit/0.json.gz")).await;
    until_gone(&spool.join("sent/e1")).await;
    // An export of nobody goes with the next look, and so tells that there was one.
    std::fs::create_dir(spool.join("e2")).unwrap();
    until_gone(&spool.join("e2")).await;
    assert!(spool.join("e1/manifest").exists(), "its next life has to know what this one left");
    std::fs::write(agent.dir.path().join("go"), "").unwrap();
    assert_eq!(backend.ended("e1").await["state"], "done");
    until_gone(&spool.join("e1")).await;
    second.stop().await;
}

#[tokio::test]
async fn what_was_sent_is_kept_for_as_long_as_the_limit_says() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let mut agent = Agent::new(&server, DONE);
    agent.config.limits.sent_keep_hours = 2;
    spooled(&agent, "e1", 10);
    let running = start_looking(&agent);
    uploaded(&agent, &backend).await;
    let aged = |export: &str, hours: u64| {
        let sent = agent.root().spool().join("sent").join(export).join("sourcecode.Commit/0.json.gz");
        let then = std::time::SystemTime::now() - Duration::from_secs(3600 * hours);
        std::fs::File::options().write(true).open(&sent).unwrap().set_modified(then).unwrap();
        sent
    };
    let young = aged("e1", 1);
    spooled(&agent, "e2", 10);
    until_gone(&agent.root().spool().join("e2/sourcecode.Commit/0.json.gz")).await;
    let old = aged("e2", 2);
    until_gone(&old).await;
    assert!(young.exists());
    running.stop().await;
}

/// An action that tells of the file in the spool, once it is let to.
pub(super) const TELLS_OF_A_FILE: &str = r#"
while not os.path.exists(os.path.join(root, "sealed.json")):
    time.sleep(0.01)
call("sealed", json.load(open(os.path.join(root, "sealed.json"))))
until_cancelled()
answer({**report(), "files": 1})"#;

pub(super) fn let_it_be_told(agent: &Agent) {
    let spool = Spool::open(agent.root().spool(), Settings::default()).unwrap();
    let file = &spool.pending().unwrap().files[0];
    let sealed = json!({"export": "e1", "integration": "mock", "model": "sourcecode.Commit", "number": 0,
        "objects": file.records, "raw_bytes": file.raw_bytes, "bytes": file.bytes, "sha256": file.sha256});
    // Put in place whole, since the action looks at any time.
    let path = agent.dir.path().join("sealed.json");
    std::fs::write(path.with_extension("tmp"), sealed.to_string()).unwrap();
    std::fs::rename(path.with_extension("tmp"), path).unwrap();
}

#[tokio::test]
async fn a_file_that_an_action_tells_of_is_uploaded_while_it_runs() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, TELLS_OF_A_FILE);
    let running = agent.start();
    backend.run("e1", &export());
    backend.until("the start", |it| it.told_of("e1").contains(&"command.running".into()).then_some(())).await;
    let written = spooled(&agent, "e1", 10);
    let_it_be_told(&agent);
    assert_eq!(uploaded(&agent, &backend).await, written);
    assert!(backend.taken("command.ended").is_empty(), "the export still runs");
    backend.order(json!({"kind": "cancel", "command": "e1"}));
    assert_eq!(backend.ended("e1").await["report"]["files"], 1, "so the backend knows when it has all");
    running.stop().await;
}

#[tokio::test]
async fn what_cannot_be_read_or_removed_in_the_spool_stops_no_upload() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, DONE);
    spooled(&agent, "e0", 1);
    let manifest = agent.root().spool().join("e0/manifest");
    std::fs::remove_file(&manifest).unwrap();
    std::fs::create_dir(&manifest).unwrap();
    let written = spooled(&agent, "e1", 10);
    // Neither can anything that was sent be found.
    std::fs::write(agent.root().spool().join("sent"), "").unwrap();
    let running = agent.start();
    assert_eq!(backend.until("the file", |it| it.file(FILE)).await, written);
    running.stop().await;
}
