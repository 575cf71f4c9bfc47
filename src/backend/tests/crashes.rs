//! Crashes that agents tell of.

use jiff::Timestamp;
use outrider_protocol::control::{Crashed, CrashedParams};
use outrider_protocol::crash::{Crash, CrashCause};
use outrider_protocol::fault::code;

use super::harness::Rig;
use crate::admin::CrashFilter;

fn crash(id: &str) -> CrashedParams {
    CrashedParams {
        id: id.into(),
        crash: Crash {
            component: "integration/mock".into(),
            cause: CrashCause::Panic,
            detail: "panicked at src/main.rs:5: index out of bounds".into(),
            at: Timestamp::now(),
            version: "0.1.0".into(),
            command: Some("c1".parse().unwrap()),
            last_lines: vec!["so long".into()],
        },
    }
}

#[tokio::test]
async fn a_crash_told_twice_is_kept_once_and_shown() {
    let rig = Rig::new().await;
    let (one, two) = (rig.agent().await, rig.agent_again("request-of-the-second").await);
    let told = crash("k1");
    for _ in 0..2 {
        one.call::<Crashed>(&told).await.unwrap();
    }
    // The ids of agents have nothing to do with each other.
    two.call::<Crashed>(&told).await.unwrap();
    one.call::<Crashed>(&crash("k2")).await.unwrap();
    assert_eq!(rig.client.crashes(&CrashFilter::default()).await.unwrap().len(), 3);
    let filter = CrashFilter { agent: Some(one.id.clone()), limit: None };
    let shown = rig.client.crashes(&filter).await.unwrap();
    assert_eq!(shown.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["k2", "k1"]);
    assert_eq!(shown[1].crash, told.crash);
    let page = rig.page(&format!("/agents/{}", one.id)).await;
    assert!(page.contains("integration/mock") && page.contains("so long"), "{page}");
}

#[tokio::test]
async fn a_crash_is_cut_to_size_and_the_oldest_go() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let mut told = crash("first");
    told.crash.last_lines = (0..1000).map(|at| format!("{at} {}", "ä".repeat(5000))).collect();
    agent.call::<Crashed>(&told).await.unwrap();
    let shown = rig.client.crashes(&CrashFilter::default()).await.unwrap();
    let lines = &shown[0].crash.last_lines;
    assert!(lines.len() == 100 && lines.iter().all(|line| line.len() < 4200), "{}", lines.len());
    assert!(lines[99].starts_with("999 "));
    for at in 0..500 {
        agent.call::<Crashed>(&crash(&format!("k{at}"))).await.unwrap();
    }
    let filter = CrashFilter { agent: None, limit: Some(1000) };
    let shown = rig.client.crashes(&filter).await.unwrap();
    assert_eq!((shown.len(), shown[499].id.as_str()), (500, "k0"));
    let nameless = agent.call::<Crashed>(&crash("")).await.unwrap_err();
    assert_eq!(nameless["code"], code::INVALID_PARAMS);
}
