//! Servers that say when to come again.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use outrider_protocol::collect::apis::{Bounds, Login};
use outrider_testkit::{soon, until};

use super::{Polling, Server, group};
use crate::poller::{PollNews, Sink, check};

fn busy(after: &str) -> Option<Response> {
    Some((StatusCode::TOO_MANY_REQUESTS, [("retry-after", after)], "busy").into_response())
}

#[tokio::test]
async fn a_server_that_asks_for_an_hour_is_asked_once_and_that_is_told_once() {
    let server = Server::start(|_| busy("3600")).await;
    let polling = Polling::start(&[group("g", &server.url, Login::None, &["a"])]);
    until("polls to fail", || polling.poller.report().failed >= 5).await;
    assert_eq!(server.count("/a"), 1);
    let news = polling.news();
    let [PollNews::Fails { error, .. }] = &news[..] else { panic!("{news:?}") };
    assert_eq!(error.to_string(), "n: /a: it answers 429, and asks to be left alone for 3600 s: busy");
    let trouble = polling.poller.report().trouble.unwrap();
    assert!(trouble.contains("n: it answered 429, and asks to be left alone for 35"), "{trouble}");
}

#[tokio::test]
async fn a_check_says_how_long_a_server_asks_to_be_left_alone_and_does_not_wait() {
    let server = Server::start(|_| busy("20")).await;
    let groups = [group("g", &server.url, Login::None, &["a"])];
    let sink = Sink::Look(Arc::new(|_| {}));
    let mut told = Vec::new();
    let checked = check(&groups, &[], &sink, |what, polled| {
        told.push(format!("{what}: {}", polled.unwrap_err()));
    });
    soon("the check to be over", checked).await.unwrap();
    assert_eq!(told, ["g/s/a: n: /a: it answers 429, and asks to be left alone for 20 s: busy"]);
    assert_eq!(server.count("/a"), 1);
}

#[tokio::test]
async fn a_node_that_hangs_again_and_again_is_told_once() {
    let server = Server::start(|_| None).await;
    let mut group = group("g", &server.url, Login::None, &["a"]);
    group.bounds = Bounds { timeout_ms: 100, block_ms: 250, tries: 1, ..Bounds::default() };
    let polling = Polling::start(&[group]);
    until("requests", || server.count("/a") >= 4).await;
    let failed = || usize::try_from(polling.poller.report().failed).unwrap();
    until("polls without a request: it is left alone", || failed() > server.count("/a")).await;
    assert_eq!(polling.news().len(), 1, "{:?}", polling.news());
}
