//! A backend that fails, throttles, stalls, cuts its answers, gives them twice, refuses files, or comes back with an older
//! database: in the end it has everything, once.

use outrider_spool::{Settings, Spool};
use serde_json::json;

use super::action::DONE;
use super::backend::Trouble;
use super::uplink::{FILE, TELLS_OF_A_FILE, let_it_be_told, spooled, uploaded};
use super::*;

async fn running(backend: &Backend, id: &str) {
    backend.until("the start", |it| it.told_of(id).contains(&"command.running".into()).then_some(())).await;
}

#[tokio::test]
async fn whatever_goes_wrong_everything_arrives_once() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let script = r#"
for i in range(30):
    log(str(i))
    time.sleep(0.03)
answer(report())"#;
    let mut agent = Agent::new(&server, script);
    agent.config.limits.request_timeout_s = 1;
    let written = spooled(&agent, "e1", 60_000);
    let all = [Trouble::Broken, Trouble::CutBody, Trouble::Twice, Trouble::Throttled(1)];
    for method in ["agent.hello", "command.accepted", "command.running", "command.log", "command.ended"] {
        backend.trouble(method, &all);
    }
    for method in ["command.log", "command.ended", "upload"] {
        backend.trouble(method, &[Trouble::Stalls]);
    }
    backend.trouble("upload", &[Trouble::Broken, Trouble::Throttled(1), Trouble::Broken]);
    let service = agent.start();
    backend.run("e1", &export());
    assert_eq!(backend.ended("e1").await["state"], "done");
    assert_eq!(uploaded(&agent, &backend).await, written);
    backend.until("the end of all trouble", |it| it.is_well().then_some(())).await;
    let expected: Vec<_> = (0..30).map(|it| it.to_string()).collect();
    assert_eq!(backend.log_of("e1"), expected);
    assert_eq!(service.stop().await.unreported, 0);
    assert_eq!(agent.started(), ["e1"]);
}

#[tokio::test]
async fn a_backend_that_asks_to_be_left_alone_is_left_alone() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, DONE);
    backend.trouble("command.accepted", &[Trouble::Throttled(2)]);
    backend.trouble("upload", &[Trouble::Throttled(2)]);
    spooled(&agent, "e1", 10);
    let service = agent.start();
    let begun = std::time::Instant::now();
    backend.run("c1", &export());
    backend.ended("c1").await;
    uploaded(&agent, &backend).await;
    assert!(
        begun.elapsed() >= Duration::from_secs(2),
        "without the wish it is tried again after 0.4 s at most"
    );
    assert_eq!((backend.called("command.accepted"), backend.patches()), (2, 1));
    service.stop().await;
}

#[tokio::test]
async fn a_file_that_is_refused_for_what_is_in_it_fails_its_export_loudly_and_stays() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, TELLS_OF_A_FILE);
    backend.say_wrong_hash(5);
    let service = agent.start();
    backend.run("e1", &export());
    running(&backend, "e1").await;
    let written = spooled(&agent, "e1", 10);
    let_it_be_told(&agent);
    let given_up =
        |it: &Backend| it.log_of("e1").iter().any(|it| it.contains("next connection")).then_some(());
    backend.until("the last refusal in the log", given_up).await;
    assert_eq!(backend.patches(), 5, "a bounded number of tries");
    let spool = Spool::open(agent.root().spool(), Settings::default()).unwrap();
    assert!(spool.oldest().unwrap().is_none(), "it keeps no export from beginning");
    backend.order(json!({"kind": "cancel", "command": "e1"}));
    let outcome = backend.ended("e1").await;
    let message = outcome["error"]["message"].as_str().unwrap();
    assert_eq!(outcome["state"], "failed", "though its action says that it is done");
    assert!(message.contains("holds 10 objects") && message.contains("found 9 objects"), "{message}");
    assert!(agent.root().spool().join("e1/sourcecode.Commit/0.json.gz").exists());
    // A new connection may be to a backend that was mended.
    let addr = server.addr;
    drop(server);
    let _server = backend.serve(Some(addr));
    assert_eq!(uploaded(&agent, &backend).await, written);
    service.stop().await;
}

#[tokio::test]
async fn a_file_that_is_taken_after_a_refusal_is_no_reason_to_fail() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, TELLS_OF_A_FILE);
    backend.say_wrong_hash(1);
    let service = agent.start();
    backend.run("e1", &export());
    running(&backend, "e1").await;
    let written = spooled(&agent, "e1", 10);
    let_it_be_told(&agent);
    assert_eq!(uploaded(&agent, &backend).await, written);
    until_acknowledged(&agent, 1).await;
    backend.order(json!({"kind": "cancel", "command": "e1"}));
    assert_eq!(backend.ended("e1").await["state"], "done");
    assert!(backend.log_of("e1")[0].contains("it is tried again"), "the refusal is in the log all the same");
    service.stop().await;
}

#[tokio::test]
async fn another_file_of_the_same_name_at_the_backend_is_not_taken_for_this_one() {
    for tells_hash in [true, false] {
        let backend = Backend::new();
        let server = backend.serve(None);
        let agent = Agent::new(&server, TELLS_OF_A_FILE);
        let mut other = spooled(&Agent::new(&server, DONE), "e1", 10);
        if tells_hash {
            other[20] ^= 1;
        } else {
            backend.tell_no_hash();
            other.pop();
        }
        backend.has_file(FILE, &other);
        let service = agent.start();
        backend.run("e1", &export());
        running(&backend, "e1").await;
        spooled(&agent, "e1", 10);
        let_it_be_told(&agent);
        let refused =
            |it: &Backend| it.log_of("e1").iter().any(|it| it.contains("another file")).then_some(());
        backend.until("the refusal in the log", refused).await;
        backend.order(json!({"kind": "cancel", "command": "e1"}));
        let outcome = backend.ended("e1").await;
        let message = outcome["error"]["message"].as_str().unwrap();
        assert_eq!(outcome["state"], "failed", "though its action says that it is done");
        assert!(message.contains("another file of this name"), "{message}");
        assert!(agent.root().spool().join("e1/sourcecode.Commit/0.json.gz").exists());
        assert!(!agent.root().state().join("acknowledged.json").exists());
        service.stop().await;
    }
}

#[tokio::test]
async fn a_file_that_the_backend_has_already_is_acknowledged_and_not_sent() {
    for tells_hash in [true, false] {
        let backend = Backend::new();
        let server = backend.serve(None);
        let agent = Agent::new(&server, DONE);
        let written = spooled(&agent, "e1", 10);
        backend.has_file(FILE, &written);
        if !tells_hash {
            backend.tell_no_hash();
        }
        let service = agent.start();
        uploaded(&agent, &backend).await;
        assert_eq!(backend.patches(), 0);
        service.stop().await;
    }
}

#[tokio::test]
async fn an_acknowledged_file_in_whose_place_the_backend_has_another_waits_in_the_spool_again() {
    let backend = Backend::new();
    let server = backend.serve(None);
    backend.count_files();
    let agent = Agent::new(&server, DONE);
    let mut other = spooled(&agent, "e1", 10);
    other[20] ^= 1;
    let service = agent.start();
    uploaded(&agent, &backend).await;
    until_acknowledged(&agent, 1).await;
    service.stop().await;
    // Fewer than were acknowledged, and one of them not what it was.
    spooled(&agent, "e2", 10);
    let service = agent.start();
    until_acknowledged(&agent, 2).await;
    service.stop().await;
    backend.forget_files();
    backend.has_file(FILE, &other);
    let service = agent.start();
    let back = agent.root().spool().join("e1/sourcecode.Commit/0.json.gz");
    backend.until("its return", |_| back.exists().then_some(())).await;
    service.stop().await;
    assert!(back.exists());
}

async fn until_acknowledged(agent: &Agent, files: u64) {
    let path = agent.root().state().join("acknowledged.json");
    let expected = json!({"files": files, "agent": agent.config.agent});
    for _ in 0..3000 {
        let kept = std::fs::read(&path).ok().and_then(|it| serde_json::from_slice::<Value>(&it).ok());
        if kept.as_ref() == Some(&expected) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{files} files were not acknowledged")
}

#[tokio::test]
async fn a_root_that_is_enrolled_anew_has_lost_nothing_and_sends_nothing_twice() {
    let backend = Backend::new();
    let server = backend.serve(None);
    backend.count_files();
    let mut agent = Agent::new(&server, DONE);
    spooled(&agent, "e1", 10);
    let service = agent.start();
    uploaded(&agent, &backend).await;
    until_acknowledged(&agent, 1).await;
    service.stop().await;
    // The backend counts by agent.
    backend.forget_files();
    agent.config.agent = "a2".parse().unwrap();
    agent.config.save(&agent.root()).unwrap();
    spooled(&agent, "e2", 10);
    let service = agent.start();
    until_acknowledged(&agent, 1).await;
    service.stop().await;
    // A second life is told what the backend has by now.
    let service = agent.start();
    spooled(&agent, "e3", 10);
    until_acknowledged(&agent, 2).await;
    service.stop().await;
    assert!(agent.root().spool().join("sent/e1/sourcecode.Commit/0.json.gz").exists());
    assert!(!agent.root().state().join("unchanged/reset").exists());
}

#[tokio::test]
async fn a_backend_that_comes_back_with_an_older_database_gets_its_files_again() {
    let backend = Backend::new();
    let server = backend.serve(None);
    backend.count_files();
    let agent = Agent::new(&server, DONE);
    let written = spooled(&agent, "e1", 10);
    let service = agent.start();
    uploaded(&agent, &backend).await;
    until_acknowledged(&agent, 1).await;
    service.stop().await;
    let reset = agent.root().state().join("unchanged/reset");
    assert!(!reset.exists());

    backend.forget_files();
    let service = agent.start();
    assert_eq!(backend.until("the file, again", |it| it.file(FILE)).await, written);
    uploaded(&agent, &backend).await;
    assert!(reset.is_file(), "the export action is told");
    until_acknowledged(&agent, 1).await;
    service.stop().await;

    // Now both agree again.
    std::fs::remove_file(&reset).unwrap();
    let patches = backend.patches();
    let service = agent.start();
    backend.run("c1", &export());
    backend.ended("c1").await;
    service.stop().await;
    assert!(!reset.exists());
    assert_eq!(backend.patches(), patches);
}

#[tokio::test]
async fn files_that_an_older_database_lost_and_that_are_kept_no_more_are_in_the_pings_over_restarts() {
    let backend = Backend::new();
    let server = backend.serve(None);
    backend.count_files();
    backend.ping_every_ms(1);
    let agent = Agent::new(&server, DONE);
    spooled(&agent, "e1", 10);
    let service = agent.start();
    uploaded(&agent, &backend).await;
    until_acknowledged(&agent, 1).await;
    service.stop().await;
    std::fs::remove_dir_all(agent.root().spool().join("sent")).unwrap();
    backend.forget_files();
    for _ in 0..2 {
        let service = agent.start();
        let told = |it: &Backend| (it.taken("agent.ping").pop()?["lost_files"] == 1).then_some(());
        backend.until("a ping that counts it", told).await;
        service.stop().await;
    }
    let service = agent.start();
    let mut everything = export();
    everything["reprocess_historical"] = true.into();
    backend.run("c1", &everything);
    assert_eq!(backend.ended("c1").await["state"], "done");
    let told = |it: &Backend| (it.taken("agent.ping").pop()?["lost_files"] == 0).then_some(());
    backend.until("a ping that counts none", told).await;
    service.stop().await;
}
