//! The directory tables of an ECS, whose port may fail as any other.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use outrider_protocol::collect::apis::{ApiGroup, Bounds, Level, Login};
use outrider_testkit::until;
use reqwest::Url;

use super::{Polling, Server, api, group, json, status};
use crate::poller::dtinfo::{OWNERS, STATES};

const TABLE: &str =
    "[id:urn:storageos:OwnershipInfo:1_a_OB_5_128_0:, owner:127.0.0.1:9069, creationCompleted:true]\n";

/// A group whose one API is the tables of one node, at its own port.
fn tables(node: &str, at: &Server) -> ApiGroup {
    let mut group = group("g", node, Login::None, &["dt"]);
    group.apis[0].level = Level::Dtinfo { port: Url::parse(&at.url).unwrap().port().unwrap() };
    group
}

#[tokio::test]
async fn the_only_node_is_asked_again_after_a_failure() {
    let asked = AtomicU32::new(0);
    let server = Server::start(move |it| match (it.path.as_str(), asked.fetch_add(1, Ordering::SeqCst)) {
        (_, 0) => status(503),
        (OWNERS, _) => json(TABLE),
        (_, 2) => status(500),
        _ => json("<result/>"),
    })
    .await;
    let polling = Polling::start(&[tables("https://127.0.0.1:1", &server)]);
    until("the tables", || polling.events("dt") > 0).await;
    let asked: Vec<_> = server.asked.lock().unwrap().iter().map(|it| it.path.clone()).take(5).collect();
    assert_eq!(asked, [OWNERS, OWNERS, STATES, OWNERS, STATES], "each try asks the same node for both");
    assert_eq!((polling.news(), polling.poller.report().failed), (Vec::new(), 0));
}

#[tokio::test]
async fn a_port_of_tables_that_hangs_is_left_alone_and_the_node_is_not() {
    let (hangs, works) = (Server::start(|_| None).await, Server::start(|_| json("{}")).await);
    let mut group = tables(&works.url, &hangs);
    group.apis.push(api("a"));
    group.bounds = Bounds { timeout_ms: 200, block_ms: 600_000, ..Bounds::default() };
    let polling = Polling::start(&[group]);
    until("tables to fail again and again", || polling.poller.report().failed >= 3).await;
    let before = polling.events("a");
    until("the node's own answers", || polling.events("a") >= before + 3).await;
    assert_eq!((hangs.asked.lock().unwrap().len(), polling.poller.report().failing), (1, 1));
}

#[tokio::test]
async fn tables_are_asked_for_no_more_often_than_a_system_may_be() {
    let server = Server::start(|it| json(if it.path == OWNERS { TABLE } else { "<result/>" })).await;
    let mut group = tables("https://127.0.0.1:1", &server);
    // Two a second, and twenty at once.
    group.bounds.requests_per_min = 120;
    group.apis[0].interval_ms = 10;
    let begun = Instant::now();
    let _polling = Polling::start(&[group]);
    until("more than may come at once", || server.asked.lock().unwrap().len() >= 24).await;
    assert!(begun.elapsed() >= Duration::from_millis(1900), "{:?}", begun.elapsed());
}
