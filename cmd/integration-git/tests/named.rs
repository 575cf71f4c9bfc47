//! Branches and tags: what is sent, when they move, and when they are gone.

use super::made::Made;
use super::*;
use crate::named::{BRANCH, TAG};

#[tokio::test]
async fn branches_are_sent_when_they_move_and_once_more_when_they_are_gone() {
    let made = Made::new(&[]);
    let first = made.commit("a", "1\n");
    made.git(&["branch", "feature/x"]);
    let agent = agent().await;
    export(&agent, &[&made]).await;
    let id = |name: &str| format!("{}@refs/heads/{name}", made.path());
    let expected = json!({
        "id": id("feature/x"), "repo_id": made.path(), "name": "feature/x", "ref": "refs/heads/feature/x", "sha": first
    });
    assert_eq!(agent.objects(BRANCH)[0], expected);
    assert_eq!(each(&agent.objects(BRANCH), "name"), ["feature/x", "main"]);

    agent.forget_objects();
    let second = made.commit("a", "2\n");
    made.git(&["branch", "--quiet", "-D", "feature/x"]);
    export(&agent, &[&made]).await;
    let branches = agent.objects(BRANCH);
    assert_eq!(each(&branches, "sha"), [second.as_str(), ""]);
    assert_eq!((&branches[1]["id"], &branches[1]["deleted"]), (&json!(id("feature/x")), &json!(true)));

    agent.forget_objects();
    export(&agent, &[&made]).await;
    assert!(agent.objects(BRANCH).is_empty());
}

#[tokio::test]
async fn branches_of_a_remote_are_sent_without_its_head() {
    let origin = Made::new(&[]);
    origin.commit("a", "1\n");
    origin.git(&["branch", "b/c"]);
    let made = Made::clone_of(&origin, &["--origin=up"]);
    let agent = agent().await;
    export(&agent, &[&made]).await;
    let branches = agent.objects(BRANCH);
    assert_eq!(each(&branches, "name"), ["main", "up/b/c", "up/main"]);
    assert_eq!(each(&branches, "remote"), ["", "up", "up"]);
}

#[tokio::test]
async fn tags_of_every_kind_are_told_apart() {
    let made = Made::new(&[]);
    let sha = made.commit("a", "1\n");
    made.git(&["tag", "light"]);
    made.git(&["tag", "-a", "-m", "One\n\nlong\nstory", "annotated"]);
    made.git(&["tag", "-a", "-m", "of a tag", "nested", "annotated"]);
    made.git(&["tag", "tree", "HEAD^{tree}"]);
    made.git(&["tag", "blob", "HEAD:a"]);
    let agent = agent().await;
    export(&agent, &[&made]).await;
    let tags = agent.objects(TAG);
    assert_eq!(each(&tags, "name"), ["annotated", "blob", "light", "nested", "tree"]);
    assert_eq!(each(&tags, "target_type")[..3], ["commit", "blob", "commit"]);
    assert_eq!(each(&tags, "message"), ["One\n\nlong\nstory", "", "", "of a tag", ""]);
    assert_eq!(tags[0]["target"], json!(sha));
    assert_eq!(tags[0]["sha"], json!(made.git(&["rev-parse", "annotated"])));
    assert_eq!(tags[0]["tagger"]["name"], "Carl Committer");
    assert_eq!(tags[2]["target"], json!(sha));
    assert_eq!((tags[2].get("sha"), tags[2].get("tagger")), (None, None));

    agent.forget_objects();
    made.git(&["tag", "--delete", "light"]);
    made.git(&["tag", "-f", "-a", "-m", "moved", "annotated"]);
    export(&agent, &[&made]).await;
    assert_eq!(
        each(&agent.objects(crate::export::USER), "id"),
        [tags[0]["tagger"]["user_id"].as_str().unwrap()]
    );
    let tags = agent.objects(TAG);
    assert_eq!(each(&tags, "name"), ["annotated", "light"]);
    assert_eq!((&tags[0]["message"], &tags[1]["deleted"]), (&json!("moved"), &json!(true)));
}
