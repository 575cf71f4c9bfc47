//! The mock against an agent in the same process. What ends the process (crash, kill) is left to the acceptance tests.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use outrider_integration::testing::Agent;
use outrider_integration::{ProjectState, Served};
use serde_json::{Value, json};

use super::*;
use crate::content::{Content, mixed};
use crate::fault::{FLOOD_LINES, GARBAGE};
use crate::models::PullRequest;

const PULL_REQUEST: &str = "sourcecode.PullRequest";
const MODELS: [&str; 3] = ["sourcecode.User", "sourcecode.Repo", PULL_REQUEST];

async fn agent() -> Agent {
    Agent::greet(Mock { stray: Stray::new(io::sink()) }).await.unwrap()
}

fn counts(agent: &Agent) -> [usize; 3] {
    MODELS.map(|model| agent.objects(model).len())
}

fn ids(objects: &[Value]) -> Vec<String> {
    objects.iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_empty_configuration_makes_a_small_world() {
    let agent = agent().await;
    let reply = agent.export(&json!({})).await.unwrap();
    assert_eq!(counts(&agent), [3, 2, 20]);
    assert_eq!(reply.projects.len(), 2);
    assert_eq!(agent.open_sessions(), 0);
    let all: HashSet<_> = MODELS.iter().flat_map(|model| ids(&agent.objects(model))).collect();
    assert_eq!(all.len(), 25, "ids are unique");
}

#[tokio::test]
async fn every_object_has_the_size_that_was_asked_for() {
    let agent = agent().await;
    let config = json!({ "organizations": 2, "pull_requests": 50, "object_bytes": 500, "seed": 7 });
    agent.export(&config).await.unwrap();
    assert_eq!(counts(&agent), [6, 4, 200]);
    for model in MODELS {
        for object in agent.objects(model) {
            assert_eq!(object.to_string().len(), 500, "{object}");
        }
    }
}

#[test]
fn a_seed_makes_the_same_words_in_every_version() {
    let mut content = Content::new(0, 1000, false);
    let mut json = String::new();
    content.pull_request(mixed(0), "o1-r1", 0, &mut json);
    assert_eq!(json.len(), 1000);
    assert!(json.contains(r#""title":"naxy contiunga untistafi stafirefi ticonunre""#), "{json}");
}

#[tokio::test]
async fn a_pull_request_is_written_as_its_type_says() {
    for skip_unchanged in [false, true] {
        let mut content = Content::new(3, 500, skip_unchanged);
        let mut json = String::new();
        content.pull_request(5, "o1-r1", 41, &mut json);
        let read: Value = serde_json::from_str(&json).unwrap();
        let (text, number) = (|name: &str| read[name].as_str(), |name: &str| read[name].as_u64().unwrap());
        let one = PullRequest {
            id: text("id").unwrap(),
            ref_type: "mock",
            repo_id: text("repo_id").unwrap(),
            number: number("number"),
            title: text("title").unwrap(),
            author_id: text("author_id").unwrap(),
            status: ["open", "merged", "closed"].into_iter().find(|it| text("status") == Some(it)).unwrap(),
            created_at_ms: number("created_at_ms"),
            updated_at_ms: number("updated_at_ms"),
            hash: text("hash"),
            body: text("body").unwrap(),
        };
        assert_eq!(serde_json::to_string(&one).unwrap(), json);
        assert_eq!(one.hash.is_some(), skip_unchanged);
    }
}

#[tokio::test]
async fn the_same_seed_makes_the_same_objects_and_another_seed_others_with_the_same_ids() {
    let mut worlds = Vec::new();
    for seed in [1, 1, 2] {
        let agent = agent().await;
        agent.export(&json!({ "seed": seed })).await.unwrap();
        worlds.push(agent.objects(PULL_REQUEST));
    }
    assert_eq!(worlds[0], worlds[1]);
    assert_ne!(worlds[0], worlds[2]);
    assert_eq!(ids(&worlds[0]), ids(&worlds[2]));
}

#[tokio::test]
async fn an_object_does_not_depend_on_how_many_others_there_are() {
    let (few, many) = (agent().await, agent().await);
    few.export(&json!({ "pull_requests": 3, "repos": 1 })).await.unwrap();
    many.export(&json!({ "pull_requests": 9, "repos": 1, "users": 0 })).await.unwrap();
    assert_eq!(few.objects(PULL_REQUEST), many.objects(PULL_REQUEST)[..3]);
}

#[tokio::test]
async fn a_second_run_sends_nothing_and_a_third_with_higher_counts_what_is_missing() {
    let agent = agent().await;
    agent.export(&json!({ "pull_requests": 5 })).await.unwrap();
    let path = [("organization", None), ("sourcecode.Repo", Some("o1")), (PULL_REQUEST, Some("o1-r2"))];
    assert_eq!(agent.checkpoint(&path), Some(json!(5)));
    agent.forget_objects();

    agent.export(&json!({ "pull_requests": 5 })).await.unwrap();
    assert_eq!(counts(&agent), [0, 0, 0]);

    agent.export(&json!({ "pull_requests": 7, "repos": 3, "users": 4 })).await.unwrap();
    assert_eq!(counts(&agent), [1, 1, 2 + 2 + 7]);
    assert_eq!(ids(&agent.objects(PULL_REQUEST))[..2], ["o1-r1-p6", "o1-r1-p7"]);
    agent.forget_objects();

    // Lower counts take nothing back.
    agent.export(&json!({ "pull_requests": 1 })).await.unwrap();
    assert_eq!((counts(&agent), agent.checkpoint(&path)), ([0, 0, 0], Some(json!(7))));
}

#[tokio::test]
async fn a_failed_project_leaves_nothing_and_the_others_are_complete() {
    let agent = agent().await;
    let config = json!({ "repos": 3, "pull_requests": 10, "fault": { "kind": "project", "at": 10 } });
    let reply = agent.export(&config).await.unwrap();
    let states: Vec<_> = reply.projects.iter().map(|it| it.state).collect();
    assert_eq!(states, [ProjectState::Failed, ProjectState::Done, ProjectState::Done]);
    assert!(reply.projects[0].error.as_ref().unwrap().contains("at object 10"));
    assert_eq!(counts(&agent), [3, 3, 20]);

    // The next run sends what was missing.
    agent.export(&json!({ "repos": 3, "pull_requests": 10 })).await.unwrap();
    assert_eq!(counts(&agent), [3, 3, 30]);
}

#[tokio::test]
async fn a_failure_is_answered_and_what_was_done_before_is_kept() {
    let agent = agent().await;
    let config = json!({ "batch": 2, "fault": { "kind": "fail", "at": 20 } });
    let err = agent.export(&config).await.unwrap_err().to_string();
    assert!(err.contains("failed at object 20"), "{err}");
    assert_eq!(counts(&agent), [3, 0, 10], "the users and the first repository's pull requests");
    agent.export(&json!({})).await.unwrap();
    assert_eq!(counts(&agent), [3, 2, 20]);
}

#[tokio::test]
async fn a_hanging_export_ends_when_it_is_cancelled() {
    let agent = agent().await;
    let config = json!({ "fault": { "kind": "hang", "at": 4 } });
    let export = agent.export(&config);
    tokio::pin!(export);
    while !agent.log().iter().any(|it| it.message.contains("hanging at object 4")) {
        tokio::select! {
            reply = &mut export => panic!("{reply:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    agent.cancel("enough").await.unwrap();
    let err = export.await.unwrap_err().to_string();
    assert_eq!(err, "cancelled: enough");
}

#[tokio::test]
async fn a_panic_ends_the_program_after_it_was_answered() {
    let agent = agent().await;
    let err = agent.export(&json!({ "fault": { "kind": "panic" } })).await.unwrap_err().to_string();
    assert!(err.contains("the integration panicked: the mock integration panics at object 1"), "{err}");
    assert!(matches!(agent.hang_up().await, Served::Panicked));
}

#[tokio::test]
async fn a_flood_of_lines_arrives_whole_and_the_export_goes_on() {
    let agent = agent().await;
    agent.export(&json!({ "fault": { "kind": "flood", "at": 2 } })).await.unwrap();
    assert_eq!(agent.log().len() as u64, FLOOD_LINES);
    assert_eq!(counts(&agent), [3, 2, 20]);
}

#[tokio::test]
async fn garbage_goes_behind_the_links_back_and_the_export_goes_on() {
    #[derive(Clone)]
    struct Kept(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let kept = Kept(Arc::default());
    let agent = Agent::greet(Mock { stray: Stray::new(kept.clone()) }).await.unwrap();
    agent.export(&json!({ "fault": { "kind": "garbage", "at": 5 } })).await.unwrap();
    assert_eq!(*kept.0.lock().unwrap(), GARBAGE);
    assert_eq!(counts(&agent), [3, 2, 20]);
}

#[tokio::test]
async fn batches_have_the_size_that_was_asked_for() {
    let agent = agent().await;
    agent.export(&json!({ "users": 0, "repos": 1, "pull_requests": 10, "batch": 4 })).await.unwrap();
    assert_eq!(agent.batches(), 1 + 3);
}

async fn check_invalid(config: Value, expected: &[(&str, &str)]) {
    let agent = agent().await;
    let reply = agent.validate(&config).await.unwrap();
    let found: Vec<_> = reply.errors.iter().map(|it| (it.path.as_str(), it.message.as_str())).collect();
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for ((path, message), (expected_path, part)) in found.iter().zip(expected) {
        assert!(path == expected_path && message.contains(part), "{found:?}");
    }
    // The same configuration starts no export either.
    let err = agent.export(&config).await.unwrap_err().to_string();
    assert!(err.contains(expected[0].1), "{err}");
    assert_eq!(agent.batches(), 0);
}

#[tokio::test]
async fn a_wrong_configuration_is_told_with_its_place_and_all_counts_at_once() {
    let expected = [
        ("/repos", "-1 is out of range; expected a whole number from 0 to 100000"),
        ("/pull_requests", "999999999999 is out of range"),
        ("/batch", "0 is out of range; expected a whole number from 1"),
        ("/fault/at", "0 is out of range"),
    ];
    let fault = json!({ "kind": "fail", "at": 0 });
    check_invalid(
        json!({ "repos": -1, "pull_requests": 999_999_999_999_u64, "batch": 0, "fault": fault }),
        &expected,
    )
    .await;
    check_invalid(json!({ "repos": "two" }), &[("/repos", "invalid type: string \"two\", expected i64")])
        .await;
    check_invalid(json!({ "repos": 1.5 }), &[("/repos", "invalid type: floating point `1.5`")]).await;
    check_invalid(json!({ "fault": { "kind": "sulk" } }), &[("/fault/kind", "unknown variant `sulk`")]).await;
    check_invalid(json!({ "fault": { "at": 3 } }), &[("/fault", "missing field `kind`")]).await;
    check_invalid(json!({ "repositories": 3 }), &[("/repositories", "unknown field `repositories`")]).await;
    check_invalid(json!({ "organizations": 1000, "repos": 1000 }), &[("", "1000000 repositories in all")])
        .await;
    check_invalid(json!([]), &[("", "expected")]).await;
}

#[tokio::test]
async fn a_valid_configuration_is_told_what_it_stands_for() {
    let reply = agent().await.validate(&json!({ "pull_requests": 0 })).await.unwrap();
    assert!(reply.errors.is_empty());
    assert_eq!(reply.source.unwrap().version.as_deref(), Some("5 objects, made up"));
}

#[tokio::test]
async fn lists_for_onboarding_have_ids_and_names_and_other_kinds_are_not_offered() {
    let agent = agent().await;
    let config = json!({ "organizations": 2 });
    for (kind, count, first) in [("users", 6, "o1-u1"), ("repos", 4, "o1-r1"), ("projects", 2, "o1")] {
        let records = agent.onboard(kind, &config).await.unwrap();
        assert_eq!((records.len(), records[0]["id"].as_str()), (count, Some(first)));
        assert!(records.iter().all(|it| it["name"].is_string()));
    }
    let err = agent.onboard("calendars", &config).await.unwrap_err();
    assert!(err.to_string().contains("\"calendars\" is not offered"), "{err}");
}

#[tokio::test]
async fn the_schema_that_it_tells_fits_its_own_settings() {
    let agent = agent().await;
    let about = agent.about();
    assert_eq!((about.name.as_str(), about.models.len(), about.onboard_kinds.len()), ("mock", 3, 3));
    let schema: Value = serde_json::from_str(about.config_schema.as_ref().unwrap().get()).unwrap();
    let members: Vec<_> = schema["properties"].as_object().unwrap().keys().cloned().collect();
    // A member that the schema names and the settings lack would be refused here.
    for member in members {
        let value = match member.as_str() {
            "fault" => json!({ "kind": "fail" }),
            "leak" => json!({ "texts": ["a"], "end": "go_on" }),
            "skip_unchanged" | "announce" => json!(true),
            "token" | "pin" | "url" => json!("https://source.example.com"),
            _ => json!(1),
        };
        let reply = agent.validate(&json!({ (member.clone()): value })).await.unwrap();
        assert!(reply.errors.is_empty(), "{member}: {:?}", reply.errors);
    }
}

#[tokio::test]
async fn access_tokens_are_asked_for_until_one_is_taken() {
    let agent = agent().await;
    agent.export(&json!({ "access_tokens": 3 })).await.unwrap();
    let log: Vec<_> = agent.log().iter().map(|it| it.message.clone()).collect();
    let said = |n: u64| log.contains(&format!("logging in with {n}, access-token-{n}"));
    assert!((1..=3).all(said) && log.len() == 3, "{log:?}");
    assert_eq!(counts(&agent), [3, 2, 20]);
}

#[tokio::test]
async fn a_rate_limit_is_told_and_waited_for() {
    let agent = agent().await;
    agent.export(&json!({ "pause_s": 1 })).await.unwrap();
    assert!(agent.pauses()[0].reason.contains("allows no more"), "{:?}", agent.pauses());
}
