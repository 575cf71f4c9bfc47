//! What agents measured, on their pages.

use std::collections::BTreeMap;

use jiff::Timestamp;
use outrider_protocol::collect::Reading;
use outrider_protocol::control::{Measured, MeasuredParams};

use super::harness::Rig;

fn reading(second: i64, memory: u64) -> MeasuredParams {
    let values = BTreeMap::from([("container.memory.usage".to_owned(), memory)]);
    let at = Timestamp::from_second(second).unwrap();
    MeasuredParams { readings: vec![Reading { source: "container c0ffee".into(), at, values }] }
}

#[tokio::test]
async fn the_latest_samples_are_plotted_on_the_page_of_their_agent_alone() {
    let rig = Rig::new().await;
    let (one, two) = (rig.agent().await, rig.agent_again("request-of-the-second").await);
    let page = format!("/agents/{}", one.id);
    assert!(!rig.page(&page).await.contains("Measured"), "nothing was measured");
    for params in [reading(10, 1 << 20), reading(20, 3 << 20), reading(20, 3 << 20)] {
        one.call::<Measured>(&params).await.unwrap();
    }
    let html = rig.page(&page).await;
    assert!(
        html.contains("container c0ffee") && html.contains("memory: 3.0 MiB now, at most 3.0 MiB"),
        "{html}"
    );
    assert!(html.contains(r#"<polyline points="0.0,18.3 120.0,1.0">"#), "{html}");
    assert!(!rig.page(&format!("/agents/{}", two.id)).await.contains("c0ffee"));
}
