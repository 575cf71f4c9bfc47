//! Programs that take long, and answers that no program is run on.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use outrider_protocol::collect::apis::{ApiGroup, Login};
use outrider_testkit::until;

use super::{Polling, Server, group, json};
use crate::poller::{Again, PollNews};

/// Programs get a time that is over soon.
fn polling(group: ApiGroup, program_time: Duration) -> Polling {
    Polling::changed(&[group], |plan| {
        plan.units.iter_mut().for_each(|it| it.program_time = program_time);
    })
}

#[tokio::test]
async fn a_large_answer_without_a_program_may_take_what_it_takes() {
    let server = Server::start(|_| json(&format!("{{\"a\": \"{}\"}}", "x".repeat(200_000)))).await;
    let polling = polling(group("g", &server.url, Login::None, &["a"]), Duration::ZERO);
    until("events", || polling.events("a") >= 2).await;
    assert_eq!((polling.news(), polling.poller.report().failed), (Vec::new(), 0));
}

/// The first answer takes the program longer than it may; the next one does not.
#[tokio::test]
async fn an_api_whose_program_took_too_long_is_polled_again_once_that_has_ended() {
    let asked = AtomicU32::new(0);
    let server = Server::start(move |_| {
        let is_first = asked.fetch_add(1, Ordering::SeqCst) == 0;
        json(if is_first { "{\"n\": 3000000}" } else { "{\"n\": 1}" })
    })
    .await;
    let mut group = group("g", &server.url, Login::None, &["a"]);
    group.apis[0].mapping.jq = Some("{n: [range(.n)] | length}".to_owned());
    let polling = polling(group, Duration::from_millis(100));
    until("an event", || polling.events("a") >= 1).await;
    let news = polling.news();
    let [PollNews::Fails { error, again: Again::AfterProgram, .. }, PollNews::Works { .. }] = &news[..]
    else {
        panic!("{news:?}");
    };
    assert!(error.what.contains("the program `jq` has not ended within 0.1 s"), "{error}");
}
