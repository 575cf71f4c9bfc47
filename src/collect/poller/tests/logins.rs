//! Logins that hang or are refused, and who has to wait for them.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use outrider_protocol::collect::Credential;
use outrider_protocol::collect::apis::{Bounds, Login};
use outrider_testkit::until;

use super::{Asked, Polling, Server, group, json, status, token};
use crate::poller::PollNews;

/// `u` and the right one.
const RIGHT: &str = "Basic dTpyaWdodA==";

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

fn with_token() -> Option<Response> {
    Some([("x-token", "t")].into_response())
}

/// Takes one password, and answers whoever has its token.
fn strict(asked: &Asked) -> Option<Response> {
    let header = |name: &str| asked.headers.get(name).and_then(|it| it.to_str().ok());
    if asked.path == "/login" {
        return if header("authorization") == Some(RIGHT) { with_token() } else { status(401) };
    }
    if header("x-token") == Some("t") { json("{}") } else { status(401) }
}

#[tokio::test]
async fn a_wrong_password_is_sent_once_and_told_once_and_another_one_at_once() {
    let server = Server::start(strict).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "wrong").unwrap();
    let login = token(Credential::File(file.clone()));
    let polling = Polling::start(&[group("g", &server.url, login, &["a", "b", "c"])]);
    until("each to fail again and again", || polling.poller.report().failed >= 12).await;
    assert_eq!(server.asked.lock().unwrap().len(), 1, "one login for all, and nothing else");
    let news = polling.news();
    let [PollNews::LoginRefused { what, error }] = &news[..] else { panic!("{news:?}") };
    assert_eq!((what.as_str(), error.status), ("g/s/v/n", Some(401)));
    assert_eq!(polling.poller.report().failing, 3);
    std::fs::write(&file, "right").unwrap();
    until("events of all", || ["a", "b", "c"].iter().all(|it| polling.events(it) > 0)).await;
    assert_eq!(server.count("/login"), 2);
    until("that to be told", || polling.news().len() == 2).await;
    assert_eq!(polling.news()[1], PollNews::LoginTaken { what: "g/s/v/n".to_owned() });
}

#[tokio::test]
async fn a_login_that_is_told_when_to_come_again_comes_no_sooner() {
    let logins = Arc::new(Mutex::new(Vec::new()));
    let times = Arc::clone(&logins);
    let server = Server::start(move |asked| {
        if asked.path != "/login" {
            return json("{}");
        }
        let mut times = times.lock().unwrap();
        times.push(Instant::now());
        let busy = (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "2")]);
        if times.len() > 1 { with_token() } else { Some(busy.into_response()) }
    })
    .await;
    let polling = Polling::start(&[group("g", &server.url, token(password()), &["a", "b", "c"])]);
    until("events of all", || ["a", "b", "c"].iter().all(|it| polling.events(it) > 0)).await;
    let logins = logins.lock().unwrap();
    assert_eq!(logins.len(), 2, "one for all, and one when it may come again");
    assert!(logins[1] - logins[0] >= Duration::from_secs(2), "{logins:?}");
}

/// Each token is good for no time at all, so that each request has its login.
#[tokio::test]
async fn logins_are_requests_as_well_where_these_are_bounded() {
    let server = Server::start(strict).await;
    let mut login = token(Credential::Given("right".to_owned()));
    if let Login::Token { expires_ms, .. } = &mut login {
        *expires_ms = 0;
    }
    let mut group = group("g", &server.url, login, &["a", "b", "c", "d", "e", "f"]);
    // Ten a second, and a hundred at once.
    group.bounds.requests_per_min = 600;
    let begun = Instant::now();
    let _polling = Polling::start(&[group]);
    until("more than may come at once", || server.asked.lock().unwrap().len() >= 130).await;
    assert!(begun.elapsed() >= Duration::from_millis(2900), "{:?}", begun.elapsed());
}
