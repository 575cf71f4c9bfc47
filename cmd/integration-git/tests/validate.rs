//! `validate_config` and `onboard_export`.

use super::made::{Made, many_commits};
use super::*;

#[tokio::test]
async fn everything_wrong_is_told_at_once_with_its_place() {
    let good = Made::new(&[]);
    good.commit("inner/file", "1\n");
    let agent = agent().await;
    let inner = good.file("inner");
    let file = good.file("inner/file");
    let config = json!({ "repositories": [
        good.path(), { "path": "/no/such/folder" }, inner, file, "relative", { "path": good.path(), "name": "again" },
    ]});
    let reply = agent.validate(&config).await.unwrap();
    let mut told: Vec<_> = reply.errors.iter().map(|it| (it.path.as_str(), it.message.as_str())).collect();
    told.sort_unstable();
    let expected = [
        ("/repositories/1/path", "found no folder /no/such/folder, expected a git repository"),
        ("/repositories/2", "is a folder but no git repository; it lies within the repository"),
        ("/repositories/3", "is a file, expected the folder of a git repository"),
        ("/repositories/4", "found the relative path relative, expected an absolute one"),
        ("/repositories/5/path", "is the same repository as /repositories/0"),
    ];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for ((path, message), (expected_path, part)) in told.iter().zip(expected) {
        assert_eq!(*path, expected_path);
        assert!(message.contains(part), "{message}");
    }
    assert!(told[1].1.ends_with(&format!("{}: name that", good.path())), "{}", told[1].1);
    let version = reply.source.unwrap().version.unwrap();
    assert!(good.git(&["version"]).contains(&version), "{version}");
}

#[tokio::test]
async fn every_kind_of_repository_is_valid() {
    let (bare, work, empty) = (Made::new(&["--bare"]), Made::new(&[]), Made::new(&[]));
    bare.import(&many_commits(1));
    work.commit("a", "1\n");
    work.git(&["worktree", "add", "--quiet", "--detach", "../linked"]);
    let config = json!({ "repositories": [bare.path(), work.path(), empty.path(), work.file("../linked")] });
    let agent = agent().await;
    let reply = agent.validate(&config).await.unwrap();
    assert_eq!(reply.errors, []);
    let git_folder = json!({ "repositories": [work.file(".git")] });
    assert_eq!(agent.validate(&git_folder).await.unwrap().errors, []);
}

#[tokio::test]
async fn repositories_and_people_are_listed_for_onboarding() {
    let (one, two) = (Made::new(&["--bare"]), Made::new(&[]));
    one.import(&many_commits(30));
    two.commit("a", "1\n");
    let agent = agent().await;
    let repos = agent.onboard("repos", &config(&[&one, &two])).await.unwrap();
    assert_eq!(each(&repos, "id"), [one.path(), two.path()]);
    assert_eq!(each(&repos, "name"), ["made", "made"]);
    let users = agent.onboard("users", &config(&[&one, &two])).await.unwrap();
    assert_eq!(each(&users, "email")[..3], ["ada@example.org", "carl@example.org", "p0@example.org"]);
    assert_eq!(users.len(), 2 + 7);
    let err = agent.onboard("projects", &config(&[&one])).await.unwrap_err();
    assert!(err.to_string().contains("projects"), "{err}");
}
