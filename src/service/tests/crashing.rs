//! Deaths of processes: told apart, without secrets, until the backend answers; and the lines that were written before.

use serde_json::{Value, json};

use super::action::DONE;
use super::backend::command;
use super::*;

async fn crash(backend: &Backend, component: &str) -> Value {
    let found =
        |it: &Backend| it.taken("agent.crashed").into_iter().find(|it| it["crash"]["component"] == component);
    backend.until("the crash", found).await
}

/// Waits until no crash waits for the backend.
async fn until_answered(agent: &Agent) {
    for _ in 0..6000 {
        if std::fs::read_dir(agent.root().crashes()).unwrap().count() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a crash was never answered")
}

fn with_secret() -> Value {
    json!({"action": "export", "integrations": [{"name": "mock", "config": {"api_token": "hush-hush-hush"}}]})
}

#[tokio::test]
async fn an_action_that_panics_is_told_with_its_last_words_and_without_secrets() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let script = r#"
log("last line")
sys.stderr.write("thread 'main' panicked at src/lib.rs:1:2:\nno luck with hush-hush-hush\n")
sys.stderr.flush()
os._exit(101)"#;
    let agent = Agent::new(&server, script);
    backend.fail("agent.crashed", 2);
    let service = agent.start();
    backend.run("e1", &with_secret());
    let outcome = backend.ended("e1").await;
    let told = crash(&backend, "action/export").await;
    let found = &told["crash"];
    assert_eq!((&found["cause"], &found["command"]), (&json!("panic"), &json!("e1")));
    let detail = found["detail"].as_str().unwrap();
    assert!(detail.contains("panicked at src/lib.rs:1:2: no luck with ***"), "{detail}");
    assert_eq!(found["last_lines"][1], "no luck with ***");
    assert_eq!(outcome["error"]["last_lines"][1], "no luck with ***");
    let log = backend.log_of("e1");
    assert!(log.contains(&"last line".to_owned()) && log.contains(&"no luck with ***".to_owned()), "{log:?}");
    assert!(!format!("{told} {outcome} {log:?}").contains("hush"));
    until_answered(&agent).await;
    service.stop().await;
}

#[tokio::test]
async fn deaths_of_every_kind_are_told_apart() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let script = r#"
log("the last line of " + command)
if command == "signal":
    os.kill(os.getpid(), signal.SIGKILL)
if command == "python":
    raise ValueError("no luck")
if command == "early":
    os._exit(0)
if command == "status":
    os._exit(7)
time.sleep(1000)"#;
    let mut agent = Agent::new(&server, script);
    agent.config.limits.cancel_grace_s = 0;
    let service = agent.start();
    let rows = [
        ("signal", "signal"),
        ("python", "panic"),
        ("early", "exit"),
        ("status", "exit"),
        ("slow", "killed_for_time"),
    ];
    for (id, cause) in rows {
        let mut order = command(id, &export());
        if id == "slow" {
            order["time_limit_ms"] = 500.into();
        }
        backend.order(order);
        backend.ended(id).await;
        assert_eq!(backend.log_of(id)[0], format!("the last line of {id}"), "what its pipe held is told");
        let of = |it: &Backend| it.taken("agent.crashed").into_iter().find(|it| it["crash"]["command"] == id);
        let told = backend.until(id, of).await;
        assert_eq!(told["crash"]["cause"], cause, "{told}");
    }
    service.stop().await;
}

#[tokio::test]
async fn each_death_of_an_integration_is_told_once_whatever_the_report_says() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let script = r#"
died = {"component": "integration/mock", "cause": "out_of_memory", "detail": "it was killed",
    "at": "2026-11-21T08:00:00Z", "version": "1"}
notify("child.died", died)
notify("child.died", died)
it = report("failed")
it["integrations"][0]["crash"] = died
answer(it)"#;
    let agent = Agent::new(&server, script);
    let service = agent.start();
    backend.run("e1", &export());
    let told = crash(&backend, "integration/mock").await;
    assert_eq!((&told["crash"]["cause"], &told["crash"]["command"]), (&json!("out_of_memory"), &json!("e1")));
    backend.ended("e1").await;
    until_answered(&agent).await;
    assert_eq!(backend.taken("agent.crashed").len(), 2);
    service.stop().await;
}

#[tokio::test]
async fn the_death_of_the_service_is_told_by_the_next_one_as_often_as_it_takes_and_a_stop_is_none() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, DONE);
    let service = agent.start();
    backend.until("a hello", |it| (it.called("agent.hello") > 0).then_some(())).await;
    service.kill().await;
    backend.fail("agent.crashed", u32::MAX);
    let service = agent.start();
    backend.until("a try", |it| (it.called("agent.crashed") > 0).then_some(())).await;
    service.stop().await;
    backend.fail("agent.crashed", 0);
    let service = agent.start();
    let told = crash(&backend, "service").await;
    assert!(told["crash"]["detail"].as_str().unwrap().contains("ended without stopping"), "{told}");
    until_answered(&agent).await;
    service.stop().await;
    let service = agent.start();
    backend.run("e1", &export());
    backend.ended("e1").await;
    service.stop().await;
    assert_eq!(backend.taken("agent.crashed").len(), 1);
}

#[tokio::test]
async fn a_line_is_told_soon_though_no_other_follows() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let script = "until = time.time() + 1000\nnote('before', 'x')\nlog('the only line')\nuntil_cancelled()\nanswer(report())";
    let agent = Agent::new(&server, script);
    let service = agent.start_with(Timing::new(&agent.config.limits));
    backend.run("e1", &export());
    until_file(&agent.dir.path().join("before")).await;
    let written = std::time::Instant::now();
    backend.until("the line", |it| (it.log_of("e1") == ["the only line"]).then_some(())).await;
    // Two seconds are the promise; a busy machine may take longer for anything.
    assert!(written.elapsed() < Duration::from_secs(10), "{:?}", written.elapsed());
    backend.order(json!({"kind": "cancel", "command": "e1"}));
    backend.ended("e1").await;
    service.stop().await;
}
