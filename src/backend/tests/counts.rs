//! What an export counts is held against what this backend received of it.

use jiff::Timestamp;
use outrider_protocol::action::Compression;
use outrider_protocol::control::{EndState, Ended, EndedParams, Outcome};
use outrider_protocol::ids::CommandId;
use outrider_protocol::report::{ActionReport, ExportReport};
use serde_json::json;

use super::harness::{FakeAgent, Rig, compressed, sealed};

const LINES: &[u8] = b"{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n";

/// Ends an export whose integration `mock` counted so many objects in so many files.
async fn end(agent: &FakeAgent, command: &CommandId, objects: u64, files: u64) {
    let report: ExportReport = serde_json::from_value(json!({
        "export": command, "started_at": Timestamp::now(), "duration_ms": 5, "files": files,
        "integrations": [{
            "integration": "mock", "name": "mock", "state": "done", "mode": "historical", "duration_ms": 5,
            "models": [{"model": "sourcecode.Repo", "objects": objects, "bytes": 300, "duration_ms": 5}],
            "projects": [],
        }],
    }))
    .unwrap();
    let report = Some(ActionReport::Export(report));
    let outcome = Outcome { state: EndState::Done, report, error: None };
    let ended = EndedParams { command: command.clone(), outcome, ended_at: Timestamp::now() };
    agent.call::<Ended>(&ended).await.unwrap();
}

/// Uploads a file of three objects.
async fn upload(agent: &FakeAgent, command: &CommandId, number: u64) {
    let content = compressed(LINES, Compression::Gzip);
    let mut file = sealed(command, number, &content);
    file.raw_bytes = LINES.len() as u64;
    assert!(agent.patch(&file, 0, content).await.2);
}

#[tokio::test]
async fn an_export_that_counts_other_objects_than_were_received_is_a_fault_when_its_last_file_is_here() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let command = rig.order(&agent).await.summary.id;
    let page = format!("/commands/{command}");
    upload(&agent, &command, 1).await;
    assert_eq!(rig.client.command(&command).await.unwrap().counts, None, "it has not ended");
    end(&agent, &command, 7, 2).await;
    let counts = rig.client.command(&command).await.unwrap().counts.unwrap();
    assert_eq!((counts.integrations[0].received, counts.integrations[0].reported), (3, 7));
    assert_eq!((counts.sealed_files, counts.fault), (Some(2), None), "a file is still on its way");
    let shown = rig.page(&page).await;
    assert!(shown.contains("Received 3 of 7 objects") && !shown.contains("differ"), "{shown}");
    upload(&agent, &command, 2).await;
    let fault = rig.client.command(&command).await.unwrap().counts.unwrap().fault.unwrap();
    assert!(
        fault.contains("mock: the agent counted 7 objects of sourcecode.Repo, but 6 were received"),
        "{fault}"
    );
    let shown = rig.page(&page).await;
    assert!(
        shown.contains("The counts of this export differ.") && shown.contains("but 6 were received"),
        "{shown}"
    );
}

#[tokio::test]
async fn an_export_of_which_everything_was_received_says_so() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let command = rig.order(&agent).await.summary.id;
    end(&agent, &command, 6, 2).await;
    upload(&agent, &command, 1).await;
    upload(&agent, &command, 2).await;
    let counts = rig.client.command(&command).await.unwrap().counts.unwrap();
    assert_eq!((counts.integrations[0].received, counts.fault), (6, None));
    assert!(rig.page(&format!("/commands/{command}")).await.contains("Received 6 of 6 objects"));
}
