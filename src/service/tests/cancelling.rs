//! A cancel at each stage of a command: it ends in bounded time, and the answer says what really happened.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::action::DONE;
use super::*;

fn cancel(backend: &Backend, id: &str) {
    backend.order(json!({"kind": "cancel", "command": id, "reason": "not needed"}));
}

async fn running(backend: &Backend, id: &str) {
    backend.until("the start", |it| it.told_of(id).contains(&"command.running".into()).then_some(())).await;
}

fn outcomes(backend: &Backend, id: &str) -> usize {
    backend.taken("command.ended").iter().filter(|it| it["command"] == id).count()
}

#[tokio::test]
async fn one_that_waits_is_cancelled_without_a_process() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, "until_cancelled()\nanswer(report('cancelled'))");
    let service = agent.start();
    backend.run("e1", &export());
    backend.run("e2", &export());
    running(&backend, "e1").await;
    cancel(&backend, "e2");
    let outcome = backend.ended("e2").await;
    assert_eq!(
        (&outcome["state"], &outcome["error"]["message"]),
        (&json!("cancelled"), &json!("not needed"))
    );
    service.stop().await;
    assert_eq!(agent.started(), ["e1"]);
}

#[tokio::test]
async fn one_that_is_being_started_is_cancelled_though_its_process_never_greets() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, DONE);
    let silent = "#!/usr/bin/env python3\nimport sys, time\n\
        open(sys.argv[sys.argv.index('--root') + 1] + '/silent-' + sys.argv[1], 'w').write('x')\ntime.sleep(1000)\n";
    std::fs::write(agent.program(), silent).unwrap();
    std::fs::set_permissions(agent.program(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let service = agent.start();
    backend.run("e1", &export());
    until_file(&agent.dir.path().join("silent-export")).await;
    cancel(&backend, "e1");
    let outcome = backend.ended("e1").await;
    assert_eq!(outcome["state"], "cancelled", "{outcome}");
    assert!(outcome["error"]["message"].as_str().unwrap().starts_with("not needed"), "{outcome}");
    service.stop().await;
}

#[tokio::test]
async fn one_that_runs_is_done_when_it_was_done_before_the_cancel_came() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, "until_cancelled()\nanswer(report('done'))");
    let service = agent.start();
    backend.run("e1", &export());
    running(&backend, "e1").await;
    cancel(&backend, "e1");
    let outcome = backend.ended("e1").await;
    assert_eq!((&outcome["state"], outcome.get("error")), (&json!("done"), None));
    service.stop().await;
}

#[tokio::test]
async fn one_that_is_being_stopped_or_has_ended_has_one_outcome_however_often_it_is_cancelled() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let script = r#"
until_cancelled()
note("cancelled", "x")
while not os.path.exists(os.path.join(root, "go")):
    time.sleep(0.01)
answer(report("cancelled"))"#;
    let agent = Agent::new(&server, script);
    let service = agent.start();
    backend.run("e1", &export());
    running(&backend, "e1").await;
    cancel(&backend, "e1");
    until_file(&agent.dir.path().join("cancelled")).await;
    cancel(&backend, "e1");
    std::fs::write(agent.dir.path().join("go"), "").unwrap();
    let outcome = backend.ended("e1").await;
    assert_eq!((&outcome["state"], &outcome["report"]["action"]), (&json!("cancelled"), &json!("export")));
    cancel(&backend, "e1");
    backend.run("e2", &export());
    running(&backend, "e2").await;
    cancel(&backend, "e2");
    backend.ended("e2").await;
    assert_eq!(outcomes(&backend, "e1"), 1);
    service.stop().await;
}
