//! What a second run sends, after everything that may happen to a repository in between.

use super::made::{Made, many_commits};
use super::*;
use crate::frontier::Checkpoint;

/// Exports again and returns what was new.
async fn again(agent: &Agent, made: &Made) -> Vec<Value> {
    agent.forget_objects();
    export(agent, &[made]).await;
    commits(agent)
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort_unstable();
    texts
}

fn all_hashes(made: &Made) -> Vec<String> {
    sorted(made.git(&["rev-list", "--all"]).lines().map(str::to_owned).collect())
}

fn checkpoint(agent: &Agent, made: &Made) -> Checkpoint {
    let path = [("repository", Some(made.path())), (crate::export::COMMIT, Some(made.path()))];
    serde_json::from_value(agent.checkpoint(&path).unwrap()).unwrap()
}

/// Forgets everything that no ref reaches.
fn collect_garbage(made: &Made) {
    made.git(&["reflog", "expire", "--expire=now", "--all"]);
    made.git(&["gc", "--quiet", "--prune=now"]);
}

#[tokio::test]
async fn a_run_without_news_sends_nothing_and_the_next_commit_alone_is_new() {
    let made = Made::new(&[]);
    made.commit("a", "1\n");
    made.commit("a", "2\n");
    let agent = agent().await;
    export(&agent, &[&made]).await;
    assert_eq!(again(&agent, &made).await, Vec::<Value>::new());
    for model in [crate::export::REPO, crate::export::USER, crate::named::BRANCH, crate::named::TAG] {
        assert_eq!(agent.objects(model), Vec::<Value>::new(), "{model}");
    }
    let sha = made.commit("a", "3\n");
    assert_eq!(each(&again(&agent, &made).await, "sha"), [sha]);
    assert_eq!(agent.objects(crate::export::USER).len(), 2);
    assert_eq!(checkpoint(&agent, &made).tips.len(), 1);
}

#[tokio::test]
async fn a_merge_of_known_branches_is_one_commit() {
    let made = Made::new(&[]);
    made.commit("a", "1\n");
    made.git(&["checkout", "--quiet", "-b", "side"]);
    made.commit("b", "1\n");
    made.git(&["checkout", "--quiet", "main"]);
    made.commit("c", "1\n");
    let agent = agent().await;
    export(&agent, &[&made]).await;
    assert_eq!(checkpoint(&agent, &made).tips.len(), 2);
    made.git(&["merge", "--quiet", "--no-ff", "-m", "merge", "side"]);
    assert_eq!(each(&again(&agent, &made).await, "message"), ["merge"]);
    assert_eq!(checkpoint(&agent, &made).tips.len(), 1);
}

#[tokio::test]
async fn a_rewritten_branch_sends_what_is_new_and_nothing_when_it_is_set_back() {
    let made = Made::new(&[]);
    made.commit("a", "1\n");
    let first = made.commit("a", "2\n");
    let agent = agent().await;
    export(&agent, &[&made]).await;
    made.git(&["commit", "--quiet", "--amend", "-m", "amended"]);
    assert_eq!(each(&again(&agent, &made).await, "message"), ["amended"]);
    made.git(&["reset", "--quiet", "--hard", &first]);
    assert!(again(&agent, &made).await.is_empty());
}

#[tokio::test]
async fn after_a_rewrite_and_garbage_collection_little_is_sent_twice_and_nothing_is_missed() {
    let made = Made::new(&[]);
    made.import(&many_commits(200));
    made.git(&["reset", "--quiet", "--hard", "main"]);
    let agent = agent().await;
    export(&agent, &[&made]).await;
    let known: Vec<_> = each(&commits(&agent), "sha");
    made.git(&["reset", "--quiet", "--hard", "HEAD~5"]);
    made.commit("new", "1\n");
    collect_garbage(&made);
    let new = each(&again(&agent, &made).await, "sha");
    let missing: Vec<_> = all_hashes(&made).into_iter().filter(|it| !known.contains(it)).collect();
    assert!(missing.iter().all(|it| new.contains(it)), "{missing:?} {new:?}");
    assert!(new.len() < 10, "{}", new.len());
    assert!(agent.log().iter().any(|it| it.message.contains("are gone from the repository")));
    assert!(again(&agent, &made).await.is_empty());
}

#[tokio::test]
async fn a_repository_that_was_replaced_by_another_is_exported_whole() {
    let made = Made::new(&["--bare"]);
    made.import(&many_commits(5));
    let agent = agent().await;
    export(&agent, &[&made]).await;
    std::fs::remove_dir_all(made.path()).unwrap();
    let other = Made::new(&["--bare"]);
    other.import(&many_commits(3)[..].iter().map(|b| if *b == b'P' { b'Q' } else { *b }).collect::<Vec<_>>());
    std::fs::rename(other.path(), made.path()).unwrap();
    assert_eq!(again(&agent, &made).await.len(), 3);
    assert_counts_are_gits(&agent, &made);
}

#[tokio::test]
async fn a_shallow_clone_is_counted_as_it_is_and_exported_whole_once_it_is_longer() {
    let origin = Made::new(&["--bare"]);
    origin.import(&many_commits(12));
    let made = Made::clone_of(&origin, &["--depth=4"]);
    let agent = agent().await;
    export(&agent, &[&made]).await;
    assert_eq!(commits(&agent).len(), 4);
    assert_counts_are_gits(&agent, &made);
    assert_eq!(agent.objects(crate::export::REPO)[0]["shallow"], true);
    assert!(again(&agent, &made).await.is_empty());

    made.git(&["fetch", "--quiet", "--deepen=3"]);
    assert_eq!(again(&agent, &made).await.len(), 7);
    assert_counts_are_gits(&agent, &made);

    made.git(&["fetch", "--quiet", "--unshallow"]);
    assert_eq!(again(&agent, &made).await.len(), 12);
    assert_counts_are_gits(&agent, &made);
    assert_eq!(agent.objects(crate::export::REPO)[0]["shallow"], false);
    assert!(again(&agent, &made).await.is_empty());
}

#[tokio::test]
async fn a_shallow_clone_that_moves_on_sends_what_is_new() {
    let origin = Made::new(&["--bare"]);
    origin.import(&many_commits(6));
    let made = Made::clone_of(&origin, &["--depth=1", "--bare"]);
    let agent = agent().await;
    export(&agent, &[&made]).await;
    let work = Made::clone_of(&origin, &[]);
    let new = work.commit("new", "1\n");
    work.git(&["push", "--quiet", "origin", "main"]);
    made.git(&["fetch", "--quiet", "--depth=1", "origin", "+main:main"]);
    assert_eq!(each(&again(&agent, &made).await, "sha"), [new]);
    collect_garbage(&made);
    assert!(again(&agent, &made).await.is_empty());
}

#[tokio::test]
async fn a_checkpoint_of_another_shape_means_that_everything_is_sent() {
    let made = Made::new(&[]);
    made.commit("a", "1\n");
    let known = serde_json::from_value::<Checkpoint>(json!({ "tips": 7 }));
    assert!(known.is_err());
    // A later version may add members; this one reads what it knows.
    let later: Checkpoint = serde_json::from_value(json!({ "tips": ["a"], "more": true })).unwrap();
    assert_eq!(later.tips, ["a"]);
}
