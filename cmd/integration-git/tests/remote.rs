//! Repositories by their address: from a web server that asks for a password, and from files.

use std::path::{Path, PathBuf};

use outrider_integration::ProjectState;
use tempfile::TempDir;

use super::made::{Made, commits_on, many_commits};
use super::served::{SECRET, Served, USER};
use super::*;

/// The tip of `main`, for `git fast-import`.
const MAIN: Option<&str> = Some("refs/heads/main^0");

/// An agent with a cache of its own.
async fn agent_with_cache() -> (Agent, TempDir) {
    let cache = tempfile::tempdir().unwrap();
    (Agent::greet_in(crate::Git, 32 << 20, cache.path()).await.unwrap(), cache)
}

fn of_url(url: &str) -> Value {
    json!({ "repositories": [{ "url": url, "username": USER, "token": SECRET }] })
}

/// Exports, and returns the one project.
async fn project(agent: &Agent, config: &Value) -> outrider_integration::ProjectResult {
    agent.forget_objects();
    agent.export(config).await.unwrap().projects.remove(0)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// The one clone in a cache.
fn clone_in(cache: &TempDir) -> PathBuf {
    let clones = std::fs::read_dir(cache.path().join("clones")).unwrap();
    let mut clones: Vec<_> = clones.map(|it| it.unwrap().path()).filter(|it| it.is_dir()).collect();
    assert_eq!(clones.len(), 1, "{clones:?}");
    clones.remove(0)
}

#[tokio::test]
async fn a_repository_is_cloned_and_then_only_what_is_new_is_exported() {
    let made = Made::new(&["--bare"]);
    made.import(&many_commits(40));
    made.git(&["branch", "side", "main~3"]);
    made.git(&["tag", "v1", "main~5"]);
    let served = Served::new(&made);
    let (agent, cache) = agent_with_cache().await;
    let config = of_url(&served.url("made"));
    let first = project(&agent, &config).await;
    assert_eq!(
        (first.state, first.id.as_str()),
        (ProjectState::Done, served.url("made").as_str()),
        "{first:?}"
    );
    assert_counts_are_gits(&agent, &made);
    let repo = &agent.objects(crate::export::REPO)[0];
    assert_eq!(
        (repo["id"].as_str(), repo["default_branch"].as_str()),
        (Some(first.id.as_str()), Some("main"))
    );

    // Nothing new; then new commits, a branch that is moved back and one that is gone, a tag that is moved, another HEAD.
    assert_eq!(project(&agent, &config).await.state, ProjectState::Done);
    assert!(commits(&agent).is_empty() && agent.objects(crate::named::BRANCH).is_empty());
    let before = made.git(&["rev-list", "--all"]);
    made.import(&commits_on(MAIN, 7));
    made.git(&["branch", "new", "main"]);
    made.git(&["update-ref", "refs/heads/main", "main~20"]);
    made.git(&["branch", "-D", "side"]);
    made.git(&["tag", "--force", "v1", "main~6"]);
    made.git(&["symbolic-ref", "HEAD", "refs/heads/new"]);
    assert_eq!(project(&agent, &config).await.state, ProjectState::Done);
    let after = made.git(&["rev-list", "--all"]);
    let fresh = after.lines().filter(|it| !before.contains(it)).count();
    assert_eq!((commits(&agent).len(), fresh), (7, 7));
    let branches = agent.objects(crate::named::BRANCH);
    let told: Vec<_> =
        branches.iter().map(|it| (it["name"].as_str().unwrap(), it["deleted"] == true)).collect();
    assert!(
        told.contains(&("side", true)) && told.contains(&("new", false)) && told.contains(&("main", false)),
        "{told:?}"
    );
    assert_eq!(agent.objects(crate::named::TAG).len(), 1);
    assert_eq!(agent.objects(crate::export::REPO)[0]["default_branch"], "new");

    // The clone is what the other side is, and the secret stands nowhere.
    let clone = clone_in(&cache);
    let refs = |folder: &Path| made.git(&["--git-dir", folder.to_str().unwrap(), "for-each-ref"]);
    assert_eq!(refs(&clone), refs(Path::new(made.path())));
    for file in files(cache.path()) {
        let text = std::fs::read(&file).unwrap();
        assert!(memchr::memmem::find(&text, b"s3cr3t").is_none(), "{}", file.display());
    }
    assert!(!format!("{:?}", agent.log()).contains("s3cr3t"));
    assert_eq!(served.leaks(), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_wrong_with_an_address_is_told_with_its_place() {
    let (made, empty) = (Made::new(&["--bare"]), Made::new(&["--bare"]));
    made.import(&many_commits(3));
    let served = Served::new(&made);
    let url = served.url("made");
    let with = |login: &str| url.replace("http://", &format!("http://{login}@"));
    let config = json!({ "repositories": [
        { "url": url, "username": USER, "token": SECRET },
        { "url": url, "username": USER, "token": "wr0ng" },
        with("reader:wr0ng"),
        { "url": served.url("none"), "username": USER, "token": SECRET },
        "https://no-such-host.invalid/x.git",
        format!("file://{}", empty.path()),
        format!("file://{}", made.path()),
        "file:///no/such/folder",
        "http://127.0.0.1:1/x.git",
        served.url("unasked"),
    ]});
    let agent = agent().await;
    let reply = agent.validate(&config).await.unwrap();
    let told: Vec<_> = reply.errors.iter().map(|it| (it.path.as_str(), it.message.as_str())).collect();
    let expected = [
        ("/repositories/1/url", "the credentials are refused"),
        ("/repositories/2", "the credentials are refused"),
        ("/repositories/3/url", "there is no git repository"),
        ("/repositories/4", "the host is not found"),
        ("/repositories/5", "is an empty repository"),
        ("/repositories/7", "there is no git repository"),
        ("/repositories/8", "the host does not answer"),
        ("/repositories/9", "the credentials are refused, or there are none"),
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for ((path, message), (expected_path, part)) in told.iter().zip(expected) {
        assert!(
            *path == expected_path && message.contains(part),
            "{path}: {message}, expected {expected_path}: {part}"
        );
        assert!(!message.contains("wr0ng") && !message.contains("s3cr3t"), "{message}");
    }
    let source = reply.source.unwrap();
    assert_eq!(source.account.as_deref(), Some(USER));
    assert_eq!(source.scopes[0], format!("{url}: 1 branches and tags, default branch main"));
    assert_eq!(source.scopes.len(), 2, "{:?}", source.scopes);
}

#[tokio::test]
async fn a_clone_that_is_broken_or_was_left_half_done_is_made_anew() {
    let made = Made::new(&["--bare"]);
    made.import(&many_commits(20));
    let (agent, cache) = agent_with_cache().await;
    let config = json!({ "repositories": [format!("file://{}", made.path())] });
    // A clone, a login and a fetch that were killed in the middle.
    let clones = cache.path().join("clones");
    for left in ["new-abc/clone.git/objects", "login-abc"] {
        std::fs::create_dir_all(clones.join(left)).unwrap();
    }
    std::fs::write(clones.join("login-abc/store"), "x").unwrap();
    assert_eq!(project(&agent, &config).await.state, ProjectState::Done);
    assert_counts_are_gits(&agent, &made);
    let clone = clone_in(&cache);
    for lock in ["packed-refs.lock", "HEAD.lock", "config.lock"] {
        std::fs::write(clone.join(lock), "").unwrap();
    }
    made.import(&commits_on(MAIN, 2));
    assert_eq!(project(&agent, &config).await.state, ProjectState::Done);
    assert_eq!(commits(&agent).len(), 2);

    for damage in ["objects", "HEAD", "config"] {
        let path = clone.join(damage);
        if path.is_dir() {
            std::fs::remove_dir_all(&path).unwrap();
            std::fs::create_dir(&path).unwrap();
        } else {
            std::fs::write(&path, "damaged").unwrap();
        }
        made.import(&commits_on(MAIN, 3));
        let done = project(&agent, &config).await;
        assert_eq!(done.state, ProjectState::Done, "{damage}: {done:?}");
        assert_eq!(commits(&agent).len(), 3, "{damage}");
    }
}

#[tokio::test]
async fn a_clone_that_is_cancelled_leaves_nothing_and_is_made_by_the_next_run() {
    let made = Made::new(&["--bare"]);
    made.import(&many_commits(20));
    let served = Served::new(&made);
    served.stall(true);
    let (agent, cache) = agent_with_cache().await;
    let config = of_url(&served.url("made"));
    let clones = cache.path().join("clones");
    let begun = || {
        let entries = std::fs::read_dir(&clones).into_iter().flatten().flatten();
        entries.into_iter().any(|it| it.file_name().to_string_lossy().starts_with("new-"))
    };
    let cancel = async {
        while !begun() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        agent.cancel("enough").await.unwrap();
    };
    let (cancelled, ()) = tokio::join!(agent.export(&config), cancel);
    cancelled.unwrap_err();
    let told = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    let begun = std::time::Instant::now();
    while files(&clones).iter().map(told).any(|it| it != "lock") {
        assert!(begun.elapsed().as_secs() < 60, "{:?}", files(&clones));
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    served.stall(false);
    assert_eq!(project(&agent, &config).await.state, ProjectState::Done);
    assert_counts_are_gits(&agent, &made);
}

#[tokio::test]
async fn a_clone_that_grows_too_large_is_given_up() {
    let made = Made::new(&[]);
    let mut noise = 1_u64;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        noise.to_be_bytes()[0]
    })
    .take(1_500_000)
    .collect();
    made.commit("noise", bytes);
    let (agent, cache) = agent_with_cache().await;
    let url = format!("file://{}", made.path());
    let failed = project(&agent, &json!({ "repositories": [url], "clone_limit_mb": 1 })).await;
    assert_eq!(failed.state, ProjectState::Failed);
    assert!(failed.error.as_ref().unwrap().contains("larger than 1 MB"), "{failed:?}");
    assert_eq!(files(cache.path()).len(), 1, "only the lock stays");
    assert_eq!(project(&agent, &json!({ "repositories": [url] })).await.state, ProjectState::Done);
}

#[tokio::test]
async fn a_host_that_says_nothing_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x.git", silent.local_addr().unwrap());
    let (agent, _cache) = agent_with_cache().await;
    let config = json!({ "repositories": [url], "quiet_limit_s": 1 });
    let reply = agent.validate(&config).await.unwrap();
    assert!(reply.errors[0].message.contains("wrote nothing for 1 s"), "{:?}", reply.errors);
    let failed = project(&agent, &config).await;
    assert!(failed.error.as_ref().unwrap().contains("wrote nothing for 1 s"), "{failed:?}");
}

#[tokio::test]
async fn people_and_repositories_are_listed_by_address() {
    let made = Made::new(&["--bare"]);
    made.import(&many_commits(30));
    let served = Served::new(&made);
    let (agent, cache) = agent_with_cache().await;
    let config = of_url(&served.url("made"));
    let repos = agent.onboard("repos", &config).await.unwrap();
    assert_eq!(
        (each(&repos, "id"), each(&repos, "default_branch")),
        (vec![served.url("made")], vec!["main".to_owned()])
    );
    assert!(!cache.path().join("clones").exists(), "a list of repositories needs no clone");
    let users = agent.onboard("users", &config).await.unwrap();
    assert_eq!(users.len(), 7);
    let err = agent.onboard("projects", &config).await.unwrap_err();
    assert!(err.to_string().contains("projects"), "{err}");
}
