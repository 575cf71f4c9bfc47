//! What VDCs say of themselves, which changes.

use std::sync::atomic::{AtomicU32, Ordering};

use outrider_protocol::collect::apis::{Fact, Level, Login};
use outrider_testkit::until;

use super::{Polling, Server, group, json};

#[tokio::test]
async fn facts_are_asked_for_again_after_the_time_that_the_system_says() {
    let version = AtomicU32::new(0);
    let server = Server::start(move |asked| match asked.path.as_str() {
        "/facts" => json(&format!("{{\"version\": {}}}", version.fetch_add(1, Ordering::SeqCst))),
        _ => json("{}"),
    })
    .await;
    let mut group = group("g", &server.url, Login::None, &["a"]);
    group.apis[0].level = Level::Vdc;
    let tags = vec![("version".to_owned(), "version".to_owned())];
    group.facts = vec![Fact { path: "/facts".to_owned(), nodes: None, tags }];
    group.systems[0].facts_interval_ms = 1000;
    let polling = Polling::start(&[group]);
    let versions = || {
        let events = polling.events.lock().unwrap();
        let mut all: Vec<_> =
            events.iter().map(|it| it.source.tags.get("version").map(str::to_owned)).collect();
        all.dedup();
        all
    };
    until("what changed", || versions().len() >= 3).await;
    let versions: Vec<_> = versions().into_iter().flatten().collect();
    let numbers: Vec<u32> = versions.iter().map(|it| it.parse().unwrap()).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    assert!(server.count("/facts") < server.count("/a"), "not at each poll");
}
