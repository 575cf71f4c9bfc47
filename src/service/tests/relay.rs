//! What passes through the service: access tokens, and what the installed integrations say of themselves.

use serde_json::json;

use super::action::DONE;
use super::backend::Refusal;
use super::*;

/// Asks five times at once, then with a token that was refused, then once more; logs what came.
const ASKS: &str = r#"
def ask(id, params):
    send({"jsonrpc": "2.0", "id": id, "method": "oauth.access_token", "params": params})

def told(count):
    answers = [receive() for _ in range(count)]
    return sorted(it["result"]["generation"] if "result" in it else it["error"]["data"]["retry"] for it in answers)

for id in range(5):
    ask(id, {"integration": "mock"})
log(json.dumps(told(5)))
ask(5, {"integration": "mock", "refused": 1})
log(json.dumps(told(1)))
ask(6, {"integration": "mock"})
ask(7, {"integration": "other"})
log(json.dumps(told(2)))
answer(report())"#;

#[tokio::test]
async fn one_request_for_a_token_serves_all_who_ask_and_a_refused_one_is_replaced() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let agent = Agent::new(&server, ASKS);
    let service = agent.start();
    backend.run("e1", &export());
    backend.ended("e1").await;
    assert_eq!(backend.log_of("e1"), ["[1, 1, 1, 1, 1]", "[2]", "[2, 3]"]);
    assert_eq!(backend.called("oauth.access_token"), 3);
    service.stop().await;
}

#[tokio::test]
async fn a_backend_that_gives_no_token_says_why_to_all_who_asked() {
    let backend = Backend::new();
    let server = backend.serve(None);
    backend.refuse_above(0, "oauth.access_token", Refusal::Code(-32004));
    let agent = Agent::new(&server, ASKS);
    let service = agent.start();
    backend.run("e1", &export());
    backend.ended("e1").await;
    assert_eq!(backend.log_of("e1")[0], r#"["no", "no", "no", "no", "no"]"#);
    service.stop().await;
}

#[tokio::test]
async fn a_token_is_asked_for_again_while_the_backend_stumbles() {
    let backend = Backend::new();
    let server = backend.serve(None);
    backend.fail("oauth.access_token", 2);
    let agent = Agent::new(&server, ASKS);
    let service = agent.start();
    backend.run("e1", &export());
    backend.ended("e1").await;
    assert_eq!(backend.log_of("e1")[0], "[1, 1, 1, 1, 1]");
    service.stop().await;
}

#[tokio::test]
async fn what_is_installed_is_told_at_the_start_and_on_each_new_connection() {
    let backend = Backend::new();
    let server = backend.serve(None);
    backend.fail("agent.integrations", 1);
    let agent = Agent::new(&server, DONE);
    let service = agent.start();
    let told = |it: &Backend| it.taken("agent.integrations").into_iter().next();
    let report = backend.until("what is installed", told).await;
    assert_eq!((&report["integrations"][0]["name"], &report["failed"]), (&json!("mock"), &json!([])));
    let addr = server.addr;
    drop(server);
    let _server = backend.serve(Some(addr));
    backend.until("it again", |it| (it.taken("agent.integrations").len() >= 2).then_some(())).await;
    service.stop().await;
    assert!(agent.started().is_empty(), "it is no command");
}
