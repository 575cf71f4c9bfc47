//! Sections `collect` that are ordered of agents, and what agents say of collecting.

use axum::http::StatusCode;
use jiff::Timestamp;
use outrider_protocol::action::Order;
use outrider_protocol::collect::ordered::{CollectSource, CollectingParams, CollectingState, OrderedSection};
use outrider_protocol::control::{CollectingChanged, EndState, Ended, EndedParams, Envelope, Outcome};
use outrider_protocol::fault::{Fault, Retry};
use outrider_protocol::report::Failure;
use serde_json::json;

use super::harness::{FakeAgent, Rig};
use crate::admin::CommandState;
use crate::client::ClientError;

fn section() -> outrider_protocol::Raw {
    serde_json::value::to_raw_value(&json!({ "outputs": [{ "kind": "otlp", "token": "hunter2" }] })).unwrap()
}

/// The section of the run that waits; the inner `None` takes one back.
async fn ordered(agent: &FakeAgent) -> Option<String> {
    match &agent.poll(0).await[..] {
        [Envelope::Run(command)] => match &command.order {
            Order::ConfigureCollect(order) => order.section.as_ref().map(|it| it.get().to_owned()),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_section_is_ordered_as_it_is_and_gone_when_its_command_has_ended() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let set = rig.client.order_collecting(&agent.id, &section()).await.unwrap().summary;
    assert_eq!((set.action.as_str(), set.state), ("configure-collect", CommandState::Queued));
    assert_eq!(ordered(&agent).await.unwrap(), section().get());
    agent.accept(&set.id).await;
    agent.end(&set.id, EndState::Done).await;
    let of = rig.client.collecting(&agent.id).await.unwrap();
    let last = of.ordered.unwrap();
    assert!(of.told.is_none() && !last.clears && last.command.summary.state == CommandState::Done);
    let clear = rig.client.clear_collecting(&agent.id).await.unwrap().summary.id;
    assert_eq!(ordered(&agent).await, None);
    assert!(rig.client.collecting(&agent.id).await.unwrap().ordered.unwrap().clears);

    // An agent that is older than the order says so, and its page shows it.
    agent.accept(&clear).await;
    let error = Failure {
        message: "this agent cannot read the command: unknown variant".into(),
        fault: Fault::Host,
        retry: Retry::No,
        hint: None,
        last_lines: Vec::new(),
    };
    let outcome = Outcome { state: EndState::Failed, report: None, error: Some(error) };
    let ended = EndedParams { command: clear, outcome, ended_at: Timestamp::now() };
    agent.call::<Ended>(&ended).await.unwrap();
    let page = rig.page(&format!("/agents/{}", agent.id)).await;
    assert!(page.contains("has not said whether it collects") && page.contains("unknown variant"), "{page}");
}

#[tokio::test]
async fn what_is_no_section_is_refused_without_a_word_of_it() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let token = crate::DataFolder::at(rig.dir.path().join("data")).admin_token().unwrap();
    let http = reqwest::Client::new();
    let url = format!("{}/admin/v1/agents/{}/collect", rig.url, agent.id);
    for (body, expected) in [
        (r#"{"token": "hunter2" oops"#, StatusCode::BAD_REQUEST),
        ("", StatusCode::BAD_REQUEST),
        ("null", StatusCode::UNPROCESSABLE_ENTITY),
        (r#"["hunter2"]"#, StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        let answer = http.put(&url).bearer_auth(&token).body(body).send().await.unwrap();
        assert_eq!(answer.status(), expected, "{body}");
        assert!(!answer.text().await.unwrap().contains("hunter2"), "{body}");
    }
    let nobody = "nobody".parse().unwrap();
    for err in [
        rig.client.collecting(&nobody).await.map(drop).unwrap_err(),
        rig.client.order_collecting(&nobody, &section()).await.map(drop).unwrap_err(),
    ] {
        assert!(matches!(err, ClientError::Refused { status: 404, .. }), "{err}");
    }
    assert!(agent.poll(0).await.is_empty());
}

#[tokio::test]
async fn what_an_agent_says_is_shown_and_outlives_the_backend() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let page = format!("/agents/{}", agent.id);
    assert!(!rig.page(&page).await.contains("Collecting"));
    let mut told = CollectingParams {
        source: Some(CollectSource::Config),
        state: CollectingState::Running,
        since: Some(Timestamp::now()),
        troubles: vec!["output influx: refused".into()],
        ordered: Some(OrderedSection {
            command: "c1".parse().unwrap(),
            at: Timestamp::now(),
            section: json!({ "interval_ms": 1000 }),
            idle: Some("that of config.json wins".into()),
        }),
        ..CollectingParams::default()
    };
    agent.call::<CollectingChanged>(&told).await.unwrap();
    let html = rig.page(&page).await;
    for part in ["running", "config.json", "output influx: refused", "interval_ms", "config.json wins"] {
        assert!(html.contains(part), "{part}: {html}");
    }
    let id = agent.id.clone();
    let rig = Rig::in_folder(rig.stop().await, crate::Limits::default()).await;
    assert_eq!(rig.client.collecting(&id).await.unwrap().told, Some(told.clone()));

    // However much it is, it is bounded.
    let agent = agent.at(&rig.url);
    told.ordered.as_mut().unwrap().section = json!("s".repeat(2 << 20));
    agent.call::<CollectingChanged>(&told).await.unwrap();
    let kept = rig.client.collecting(&id).await.unwrap().told.unwrap();
    assert_eq!((kept.state, kept.ordered.unwrap().section), (CollectingState::Running, json!(null)));
}
