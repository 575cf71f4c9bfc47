//! Exports survive the death of their service: in order, counted, and not for ever.

use serde_json::json;

use super::action::DONE;
use super::backend::command;
use super::*;

/// Answers once there is a file `go`; until then it only says that it is there.
const UNTIL_GO: &str = r#"
log("a life")
if not os.path.exists(os.path.join(root, "go")):
    receive()
    os._exit(3)
answer(report())"#;

fn go(agent: &Agent) {
    std::fs::write(agent.dir.path().join("go"), "").unwrap();
}

async fn running(backend: &Backend, id: &str) {
    let what = format!("the start of {id}");
    backend.until(&what, |it| it.told_of(id).contains(&"command.running".into()).then_some(())).await;
}

#[tokio::test]
async fn an_export_whose_service_was_killed_is_started_again_before_those_that_came_later() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, UNTIL_GO);
    let service = agent.start();
    for id in ["z1", "a2", "m3"] {
        backend.run(id, &export());
    }
    backend.until("a sign of life", |it| (it.log_of("z1") == ["a life"]).then_some(())).await;
    let accepted = |it: &Backend| it.told_of("m3").contains(&"command.accepted".into()).then_some(());
    backend.until("the last", accepted).await;
    service.kill().await;
    go(&agent);
    let service = agent.start();
    for id in ["z1", "a2", "m3"] {
        assert_eq!(backend.ended(id).await["state"], "done", "{id}");
    }
    service.stop().await;
    assert_eq!(agent.started(), ["z1", "z1", "a2", "m3"]);
    let log = backend.log_of("z1");
    assert_eq!((log[0].as_str(), log[2].as_str(), log.len()), ("a life", "a life", 3), "{log:?}");
    assert!(
        log[1].starts_with("the agent went down while this command ran (it was started 1 times"),
        "{log:?}"
    );
}

#[tokio::test]
async fn an_export_that_takes_its_service_down_three_times_is_set_aside_and_the_next_one_runs() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, &format!("if command == 'bad': receive()\n{DONE}"));
    backend.run("bad", &export());
    backend.run("good", &export());
    for life in 1..=3 {
        let service = agent.start();
        for _ in 0..6000 {
            if agent.started().len() == life {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(agent.started(), vec!["bad"; life]);
        service.kill().await;
        // A backend that was not told repeats what it ordered.
        backend.run("good", &export());
    }
    let service = agent.start();
    let outcome = backend.ended("bad").await;
    assert_eq!(outcome["state"], "set_aside");
    let message = outcome["error"]["message"].as_str().unwrap();
    assert!(message.contains("it was started 3 times (at 20"), "{message}");
    assert!(outcome["error"]["hint"].as_str().unwrap().contains("order the export again"), "{outcome}");
    assert_eq!(backend.ended("good").await["state"], "done");
    service.stop().await;
    assert_eq!(agent.started(), ["bad", "bad", "bad", "good"]);
}

#[tokio::test]
async fn a_service_that_is_stopped_in_good_order_may_be_so_as_often_as_it_likes() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let mut agent = Agent::new(&server, UNTIL_GO);
    agent.config.limits.command_attempts = 1;
    let mut order = command("e1", &export());
    order["expires_at"] = "2999-01-01T00:00:00Z".into();
    backend.order(order);
    for life in 1..=2 {
        let service = agent.start();
        backend.until("a life", |it| (it.log_of("e1").len() == life).then_some(())).await;
        running(&backend, "e1").await;
        let stopped = service.stop().await;
        assert_eq!(stopped.queued, 1);
    }
    go(&agent);
    let service = agent.start();
    assert_eq!(backend.ended("e1").await["state"], "done");
    service.stop().await;
    assert_eq!(agent.started(), ["e1", "e1", "e1"]);
    assert_eq!(backend.log_of("e1"), ["a life", "a life", "a life"], "a stop in good order is no death");
}

#[tokio::test]
async fn what_an_export_says_last_before_a_stop_is_told() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, "until_cancelled()\nlog('the last line')\nanswer(report('cancelled'))");
    let service = agent.start_with(Timing::new(&agent.config.limits));
    backend.run("e1", &export());
    running(&backend, "e1").await;
    assert_eq!(service.stop().await.queued, 1);
    assert_eq!(backend.log_of("e1"), ["the last line"]);
    assert_eq!(backend.called("command.ended"), 0);
}

#[tokio::test]
async fn an_order_that_is_too_old_is_answered_when_it_is_taken_though_another_export_runs() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, "until_cancelled()\nanswer(report())");
    let service = agent.start();
    backend.run("e1", &export());
    running(&backend, "e1").await;
    let mut old = command("e2", &export());
    old["expires_at"] = "2026-01-01T00:00:00Z".into();
    backend.order(old);
    let outcome = backend.ended("e2").await;
    assert_eq!(outcome["state"], "expired");
    assert!(outcome["error"]["message"].as_str().unwrap().contains("too old"), "{outcome}");
    assert!(backend.taken("command.ended").iter().all(|it| it["command"] != "e1"), "the other one runs on");
    backend.order(json!({"kind": "cancel", "command": "e1"}));
    backend.ended("e1").await;
    service.stop().await;
    assert_eq!(agent.started(), ["e1"]);
}
