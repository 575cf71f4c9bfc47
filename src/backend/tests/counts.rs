//! What an export counts is held against what this backend received of it.

use jiff::Timestamp;
use outrider_protocol::action::Compression;
use outrider_protocol::control::{EndState, Ended, EndedParams, Outcome};
use outrider_protocol::ids::CommandId;
use outrider_protocol::report::{ActionReport, ExportReport};
use serde_json::{Value, json};

use super::harness::{FakeAgent, Rig, compressed, sealed};

const LINES: &[u8] = b"{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n";

/// Ends an export whose integration `mock` counted so many objects in so many files.
async fn end(agent: &FakeAgent, command: &CommandId, objects: u64, files: u64) {
    end_with(agent, command, objects, json!({"files": files}), json!([])).await;
}

/// The same with what is said of the files, and with what earlier lives left.
async fn end_with(agent: &FakeAgent, command: &CommandId, objects: u64, files: Value, earlier: Value) {
    let mut report = json!({
        "export": command, "started_at": Timestamp::now(), "duration_ms": 5,
        "integrations": [{
            "integration": "mock", "name": "mock", "state": "done", "mode": "historical", "duration_ms": 5,
            "models": [{"model": "sourcecode.Repo", "objects": objects, "bytes": 300, "duration_ms": 5}],
            "projects": [], "earlier": earlier,
        }],
    });
    report.as_object_mut().unwrap().extend(files.as_object().unwrap().clone());
    let report: ExportReport = serde_json::from_value(report).unwrap();
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
    assert!(shown.contains("not compared: the agent sealed 2 files"), "{shown}");
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

#[tokio::test]
async fn an_export_that_was_gone_on_with_is_judged_by_all_its_lives() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let command = rig.order(&agent).await.summary.id;
    for number in 0..3 {
        upload(&agent, &command, number).await;
    }
    let earlier = json!([{"model": "sourcecode.Repo", "objects": 6, "bytes": 60, "files": 2}]);
    let files = json!({"continued": {"earlier_files": 2, "files": 3}});
    end_with(&agent, &command, 3, files, earlier).await;
    let counts = async || rig.client.command(&command).await.unwrap().counts.unwrap();
    let whole = counts().await;
    assert_eq!((whole.sealed_files, whole.earlier_files), (Some(3), 2));
    assert_eq!((whole.judged, whole.fault), (true, None));
    let it = &whole.integrations[0];
    assert_eq!((it.received, it.reported, it.earlier), (9, 9, 6));
    let page = format!("/commands/{command}");
    let shown = rig.page(&page).await;
    assert!(
        shown.contains("Received 9 of 9 objects, 6 of them from before the export was started again"),
        "{shown}"
    );

    // A file of an earlier life is no longer what it was; then it is not there at all.
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(rig.dir.path().join("data/outrider.db"));
    let database = sqlx::sqlite::SqlitePool::connect_with(options).await.unwrap();
    sqlx::query("UPDATE file SET objects = 2 WHERE number = 0").execute(&database).await.unwrap();
    let fault = counts().await.fault.unwrap();
    assert!(
        fault.contains("9 objects of sourcecode.Repo (6 of them before the export was started again)"),
        "{fault}"
    );
    assert!(
        fault.contains("but 8 were received") && rig.page(&page).await.contains("but 8 were received"),
        "{fault}"
    );
    sqlx::query("DELETE FROM file WHERE number = 0").execute(&database).await.unwrap();
    let counts = counts().await;
    assert_eq!((counts.judged, counts.integrations[0].received), (false, 6));
    assert!(rig.page(&page).await.contains("not compared: the agent sealed 3 files"));
}
