//! Logins that hang or are refused, and who has to wait for them.

use outrider_protocol::collect::Credential;
use outrider_protocol::collect::apis::{Bounds, Login};
use outrider_testkit::until;

use super::{Polling, Server, group, json, token};

fn password() -> Credential {
    Credential::Given("not-a-real-password".to_owned())
}

/// More APIs than may be asked at once.
fn many() -> Vec<String> {
    (0..120).map(|it| format!("a{it}")).collect()
}

#[tokio::test]
async fn one_login_that_hangs_holds_up_nobody_else_and_is_not_tried_by_each_who_waits() {
    let hangs = Server::start(|_| None).await;
    let works = Server::start(|_| json("{}")).await;
    let names = many();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut hanging = group("hangs", &hangs.url, token(password()), &names);
    hanging.bounds = Bounds { timeout_ms: 1000, block_ms: 600_000, ..Bounds::default() };
    let polling = Polling::start(&[hanging, group("works", &works.url, Login::None, &["a"])]);
    until("the login to be begun", || hangs.count("/login") == 1).await;
    let before = polling.events("a");
    until("the other one to be polled while it hangs", || polling.events("a") >= before + 5).await;
    until("all to have failed", || polling.poller.report().failing == names.len() as u64).await;
    let before = polling.events("a");
    until("the other one to be polled afterwards", || polling.events("a") >= before + 5).await;
    assert_eq!(hangs.asked.lock().unwrap().len(), 1, "one login, and nothing else");
}

#[tokio::test]
async fn a_node_that_hangs_takes_not_all_turns_and_is_not_asked_by_each_who_waits_for_one() {
    let hangs = Server::start(|_| None).await;
    let works = Server::start(|_| json("{}")).await;
    let names = many();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut hanging = group("hangs", &hangs.url, Login::None, &names);
    hanging.bounds = Bounds { timeout_ms: 2000, block_ms: 600_000, ..Bounds::default() };
    let polling = Polling::start(&[hanging, group("works", &works.url, Login::None, &["a"])]);
    until("as many as may to wait for it", || hangs.asked.lock().unwrap().len() >= 16).await;
    let before = polling.events("a");
    until("the other one to be polled while it hangs", || polling.events("a") >= before + 5).await;
    until("all to have failed", || polling.poller.report().failing == names.len() as u64).await;
    assert_eq!(hangs.asked.lock().unwrap().len(), 16, "nobody asked once it was to be left alone");
}
