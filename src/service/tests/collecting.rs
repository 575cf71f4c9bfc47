//! Sections `collect` that the backend orders, as the service keeps and tells them. Its process is a script that dies at once.

use jiff::Timestamp;
use outrider_home::Journal;
use outrider_protocol::control::Command;
use outrider_protocol::fault::code;
use serde_json::{Value, json};

use super::action::DONE;
use super::backend::{Refusal, command};
use super::*;

const TELLS: &str = "agent.collecting";

fn order(section: &Value) -> Value {
    json!({"action": "configure-collect", "section": section})
}

fn section() -> Value {
    json!({"outputs": [{"kind": "otlp", "url": "http://127.0.0.1:1", "token": "hunter2-hunter2"}]})
}

async fn until_told(backend: &Backend, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    backend.until(what, |it| it.taken(TELLS).into_iter().next_back().filter(&is)).await
}

#[tokio::test]
async fn an_order_is_kept_told_without_secrets_and_taken_back() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, DONE);
    let running = agent.start();
    until_told(&backend, "that nothing is collected", |it| it["state"] == "off").await;
    backend.run("c1", &order(&section()));
    let outcome = backend.ended("c1").await;
    assert_eq!((&outcome["state"], &outcome["report"]["in_effect"]), (&json!("done"), &json!("backend")));
    assert!(agent.root().ordered_collect().exists());
    assert_eq!(backend.told_of("c1"), ["command.accepted", "command.running", "command.ended"]);
    let told = until_told(&backend, "its end", |it| it["last_end"].is_object()).await;
    assert_eq!((&told["source"], &told["ordered"]["command"]), (&json!("backend"), &json!("c1")));
    assert_eq!(told["ordered"]["section"]["outputs"][0]["token"], "***");
    running.kill().await;

    let running = agent.start();
    backend.run("c2", &order(&json!({"interval_ms": 1, "mount_path": "/"})));
    let outcome = backend.ended("c2").await;
    assert_eq!(outcome["state"], "failed");
    let errors = outcome["report"]["errors"].as_array().unwrap();
    let places: Vec<_> = errors.iter().map(|it| it["path"].as_str().unwrap()).collect();
    assert_eq!(places, ["/mount_path", "/interval_ms"]);
    until_told(&backend, "what is kept still", |it| it["ordered"]["command"] == "c1").await;
    backend.run("c3", &order(&Value::Null));
    assert_eq!(backend.ended("c3").await["report"]["kept"], false);
    assert!(!agent.root().ordered_collect().exists());
    until_told(&backend, "that nothing is kept", |it| it["ordered"].is_null() && it["state"] == "off").await;
    running.stop().await;
    for (_, params) in backend.all_calls() {
        assert!(!params.to_string().contains("hunter2"), "{params}");
    }
}

#[tokio::test]
async fn an_order_that_a_crash_cut_short_is_carried_out_by_the_next_service() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, DONE);
    let journal = Journal::open(&agent.root(), Duration::from_secs(10)).unwrap();
    let mut text = command("c1", &order(&section()));
    text.as_object_mut().unwrap().remove("kind");
    let command: Command = serde_json::from_value(text).unwrap();
    journal.record(&command).unwrap();
    journal.started(&command.id, Timestamp::now()).unwrap();
    drop(journal);
    let running = agent.start();
    assert_eq!(backend.ended("c1").await["state"], "done");
    assert!(agent.root().ordered_collect().exists());
    running.stop().await;
}

#[tokio::test]
async fn what_is_kept_and_cannot_be_used_is_told_and_stops_nothing() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, DONE);
    std::fs::write(agent.root().ordered_collect(), "{").unwrap();
    let running = agent.start();
    let told = until_told(&backend, "the fault", |it| it["troubles"].is_array()).await;
    assert!(told["troubles"][0].as_str().unwrap().contains("order it again"), "{told}");
    backend.run("c1", &order(&section()));
    assert_eq!(backend.ended("c1").await["state"], "done");
    until_told(&backend, "that it is mended", |it| it["ordered"].is_object() && it["troubles"].is_null())
        .await;
    running.stop().await;
}

#[tokio::test]
async fn a_backend_that_does_not_know_the_call_is_served_as_before() {
    let backend = Backend::new();
    let server = backend.serve(None);
    backend.refuse_above(0, TELLS, Refusal::Code(code::METHOD_NOT_FOUND));
    let agent = Agent::new(&server, DONE);
    let running = agent.start();
    backend.until("the call", |it| (it.called(TELLS) > 0).then_some(())).await;
    backend.run("c1", &export());
    assert_eq!(backend.ended("c1").await["state"], "done");
    assert_eq!(backend.called(TELLS), 1, "it is not asked again before something changes");
    running.stop().await;
}
