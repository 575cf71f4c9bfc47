//! What is exported of every kind of history is what git itself counts.

use super::made::{Made, many_commits};
use super::*;
use crate::git::{Repository, Selection};
use crate::process::Stop;
use crate::read::Pace;

/// Names that a reader of git's output could take for something else.
const ODD_NAMES: [&str; 8] =
    [":100644 x", "c0ffee", "12 3 name", "-", "\"quoted\"", "ä ö", " space ", "{a => b}"];

async fn exported(made: &Made) -> Agent {
    let agent = agent().await;
    export(&agent, &[made]).await;
    assert_counts_are_gits(&agent, made);
    agent
}

fn by_message(agent: &Agent, message: &str) -> Value {
    commits(agent).into_iter().find(|it| it["message"] == message).unwrap()
}

#[tokio::test]
async fn every_kind_of_change_is_counted_as_git_counts_it() {
    let made = Made::new(&[]);
    made.commit("a.txt", "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\n");
    made.commit("binary", b"a\0b");
    made.git(&["mv", "a.txt", "moved.txt"]);
    std::fs::write(made.file("moved.txt"), "one\ntwo\nthree\nfour\nfive\nsix\nseven\nEIGHT\nnine\n").unwrap();
    std::fs::write(made.file("binary"), b"a\0bc").unwrap();
    made.commit_all("rename");
    made.commit("empty", "");
    made.commit_all("nothing changed");
    made.git(&["commit", "--quiet", "--allow-empty", "--allow-empty-message", "-m", ""]);
    for name in ODD_NAMES {
        made.commit(name, "y\nz\n");
    }
    made.git(&["rm", "--quiet", "moved.txt"]);
    made.commit_all("gone");

    let agent = exported(&made).await;
    let rename = by_message(&agent, "rename");
    let files = [
        json!({ "path": "binary", "status": "modified", "binary": true }),
        json!({
            "path": "moved.txt", "old_path": "a.txt", "status": "renamed", "similarity": 75, "additions": 2, "deletions": 1
        }),
    ];
    assert_eq!(rename["files"], json!(files));
    assert_eq!(
        by_message(&agent, "empty")["files"],
        json!([{ "path": "empty", "status": "added", "additions": 0, "deletions": 0 }])
    );
    assert_eq!(by_message(&agent, "nothing changed")["files"], json!([]));
    assert_eq!(by_message(&agent, "")["files"], json!([]));
    for name in ODD_NAMES {
        assert_eq!(by_message(&agent, name.trim_end())["files"][0]["path"], *name, "{name}");
    }
    assert_eq!(by_message(&agent, "gone")["files"][0]["status"], "deleted");
}

#[tokio::test]
async fn commits_that_only_a_tag_a_stash_or_a_detached_head_holds_are_exported() {
    let made = Made::new(&[]);
    made.commit("a", "1\n");
    made.git(&["checkout", "--quiet", "-b", "side"]);
    made.commit("b", "2\n");
    made.git(&["tag", "only-here"]);
    made.git(&["checkout", "--quiet", "main"]);
    made.git(&["branch", "--quiet", "-D", "side"]);
    made.commit("c", "3\n");
    made.git(&["merge", "--quiet", "--no-ff", "-m", "merge", "only-here"]);
    std::fs::write(made.file("a"), "changed\n").unwrap();
    made.git(&["stash", "--quiet"]);
    made.git(&["checkout", "--quiet", "--orphan", "second-root"]);
    made.commit_all("another root");
    made.git(&["worktree", "add", "--quiet", "--detach", "../other", "main"]);
    let other = made.file("../other");
    made.git(&[
        "-C",
        other.to_str().unwrap(),
        "commit",
        "--quiet",
        "--allow-empty",
        "-m",
        "in another work tree",
    ]);
    made.git(&["checkout", "--quiet", "--detach"]);
    made.commit_all("on a detached HEAD");

    let agent = exported(&made).await;
    let merge = by_message(&agent, "merge");
    assert_eq!(merge["parents"].as_array().unwrap().len(), 2);
    assert_eq!(merge["files"], json!([]));
    assert_eq!(by_message(&agent, "in another work tree")["parents"][0], merge["sha"]);
    assert_eq!(agent.objects(crate::export::REPO)[0].get("default_branch"), None);
}

#[tokio::test]
async fn a_submodule_and_a_change_of_type_are_counted_as_git_counts_them() {
    let inner = Made::new(&[]);
    inner.commit("x", "x\n");
    let made = Made::new(&[]);
    made.commit("file", "1\n2\n");
    made.git(&["submodule", "--quiet", "add", inner.path(), "sub"]);
    made.commit_all("submodule");
    let moved = inner.commit("x", "y\n");
    made.git(&["-C", "sub", "fetch", "--quiet"]);
    made.git(&["-C", "sub", "checkout", "--quiet", &moved]);
    made.commit_all("submodule moved");
    made.git(&["rm", "--quiet", "--cached", "file"]);
    made.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{moved},file")]);
    made.git(&["commit", "--quiet", "-m", "a file becomes a submodule"]);

    let agent = exported(&made).await;
    let change =
        json!([{ "path": "sub", "status": "modified", "additions": 1, "deletions": 1, "submodule": true }]);
    assert_eq!(by_message(&agent, "submodule moved")["files"], change);
    let becomes = by_message(&agent, "a file becomes a submodule");
    assert_eq!(becomes["files"][0]["status"], "type_changed");
    assert_eq!(becomes["files"][0]["submodule"], true);
    // The repository within is one of its own.
    assert_eq!(agent.objects(crate::export::REPO).len(), 1);
}

#[tokio::test]
async fn names_and_messages_that_are_no_utf8_lose_nothing_that_matters() {
    let made = Made::new(&["--bare"]);
    let mut stream = b"commit refs/heads/main\nauthor J\xf6rg \xff <j@example.org> 1700000000 +0100\n\
        committer J\xc3\xb6rg <j@example.org> 1700000000 -0800\ndata 5\nfirst\n"
        .to_vec();
    stream.extend(b"M 100644 inline \"\\344/\\\\\\377\"\ndata 2\nx\n\n");
    stream.extend(b"commit refs/heads/main\ncommitter J\xf6rg <j@example.org> 1700000050 +0000\n");
    stream.extend(b"encoding ISO-8859-1\ndata 6\ngr\xfc\xdfe\n");
    stream.extend(b"commit refs/heads/\xe4\ncommitter A <a@x> 1700000100 +0000\ndata 4\n\xff\xfe!\nfrom refs/heads/main\n");
    stream.extend(b"R \"\\344/\\\\\\377\" \"\\303\\244\"\n");
    made.import(&stream);

    let agent = exported(&made).await;
    let first = by_message(&agent, "first");
    assert_eq!(first["author"]["name"], "J\u{fffd}rg \u{fffd}");
    assert_eq!(first["author"]["time"], "2023-11-14T23:13:20+01:00");
    assert_eq!(first["committer"]["name"], "Jörg");
    assert_eq!(first["committer"]["time"], "2023-11-14T14:13:20-08:00");
    assert_eq!(
        first["files"],
        json!([{ "path": "\\xe4/\\\\\\xff", "escaped": true, "status": "added", "additions": 1, "deletions": 0 }])
    );
    assert_eq!(by_message(&agent, "grüße")["author"]["name"], "Jörg");
    let second = by_message(&agent, "\u{fffd}\u{fffd}!");
    assert_eq!(second["files"][0]["old_path"], "\\xe4/\\\\\\xff");
    assert_eq!(second["files"][0]["path"], "ä");
    let branches = agent.objects(crate::named::BRANCH);
    assert_eq!(each(&branches, "name"), ["main", "\\xe4"]);
    let ids: std::collections::HashSet<_> =
        each(&agent.objects(crate::export::USER), "id").into_iter().collect();
    assert_eq!(ids.len(), 3);
    assert!(ids.contains(first["author"]["user_id"].as_str().unwrap()));
}

#[tokio::test]
async fn settings_of_the_repository_do_not_change_what_is_exported() {
    let made = Made::new(&[]);
    made.commit("a.txt", "1\n2\n3\n4\n5\n6\n7\n8\n");
    made.git(&["mv", "a.txt", "b.txt"]);
    made.commit("b.txt", "1\n2\n3\n4\n5\n6\n7\n8\n9\n");
    let expected = made.numstat();
    for setting in [
        "diff.renames=false",
        "diff.renameLimit=0",
        "log.showSignature=true",
        "diff.external=false",
        "core.quotePath=true",
        "diff.noPrefix=true",
        "log.date=human",
        "color.ui=always",
        "i18n.logOutputEncoding=UTF-16",
        "log.showRoot=false",
        "log.diffMerges=on",
        "core.pager=false",
        "diff.ignoreSubmodules=all",
        "format.pretty=raw",
        "core.abbrev=5",
    ] {
        let (name, value) = setting.split_once('=').unwrap();
        made.git(&["config", name, value]);
    }
    let agent = agent().await;
    export(&agent, &[&made]).await;
    assert_eq!(lines(&commits(&agent)), expected);
    assert_eq!(by_message(&agent, "b.txt")["files"][0]["old_path"], "a.txt");
}

#[tokio::test]
async fn a_repository_of_sha256_is_read() {
    let made = Made::new(&["--bare", "--object-format=sha256"]);
    made.import(&many_commits(3));
    let agent = exported(&made).await;
    assert_eq!(commits(&agent)[0]["sha"].as_str().unwrap().len(), 64);
    assert_eq!(agent.objects(crate::export::REPO)[0]["object_format"], "sha256");
}

#[tokio::test]
async fn an_empty_repository_is_skipped_and_described() {
    let made = Made::new(&[]);
    let agent = agent().await;
    let reply = agent.export(&config(&[&made])).await.unwrap();
    assert_eq!(reply.projects[0].state, outrider_integration::ProjectState::Skipped);
    assert_eq!(reply.projects[0].error.as_deref(), Some("the repository has no commits"));
    let repo = &agent.objects(crate::export::REPO)[0];
    assert_eq!(
        (&repo["empty"], &repo["bare"], &repo["default_branch"]),
        (&json!(true), &json!(false), &json!("main"))
    );
    made.commit("a", "1\n");
    export(&agent, &[&made]).await;
    assert_counts_are_gits(&agent, &made);
}

#[tokio::test]
async fn an_object_is_what_its_documentation_says() {
    let made = Made::new(&[]);
    let sha = made.commit("a", "1\n");
    made.git(&["remote", "add", "origin", "https://me:s3cret@example.org/a.git"]);
    let agent = exported(&made).await;
    let repo_id = made.path();
    let commit = &commits(&agent)[0];
    assert_eq!(commit["id"], format!("{repo_id}@{sha}"));
    assert_eq!(commit["repo_id"], repo_id);
    assert_eq!(commit["author"]["email"], "ada@example.org");
    assert_eq!(commit["committer"]["name"], "Carl Committer");
    let repo = json!({
        "id": repo_id, "name": "made", "default_branch": "main", "remote_url": "https://example.org/a.git",
        "bare": false, "shallow": false, "empty": false, "object_format": "sha1"
    });
    assert_eq!(agent.objects(crate::export::REPO), [repo]);
    let users = agent.objects(crate::export::USER);
    assert_eq!(each(&users, "name"), ["Ada Author", "Carl Committer"]);
    assert_eq!(commit["author"]["user_id"], users[0]["id"]);
    assert_eq!(agent.open_sessions(), 0);
}

#[tokio::test]
async fn the_order_is_gits_however_the_work_is_shared_out() {
    let made = Made::new(&["--bare"]);
    made.import(&many_commits(500));
    let expected: Vec<_> = made.git(&["rev-list", "--all"]).lines().map(str::to_owned).collect();
    let repository = Repository::open(made.path().as_ref(), &Stop::default()).unwrap();
    for (lanes, batches_of_a_git) in [(1, 100), (2, 100), (3, 2), (20, 1), (1, 1), (2, 3)] {
        let pace = Pace { lanes, batches_of_a_git };
        let selection = Selection { from: vec![expected[0].clone()], not: Vec::new() };
        let mut reading = crate::read::commits(&repository, selection, pace);
        let mut found = Vec::new();
        while let Some(piece) = reading.next().await.unwrap() {
            found.extend(piece.commits.into_iter().map(|it| it.sha));
        }
        assert_eq!(found, expected, "{pace:?}");
    }
    exported(&made).await;
}
