//! Broken repositories, silent disks, cancels.

use outrider_integration::ProjectState;

use super::made::{Made, many_commits};
use super::*;

/// Removes the contents of a repository, not its refs.
fn break_apart(made: &Made) {
    let pack = made.file("objects/pack");
    for file in std::fs::read_dir(pack).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
}

#[tokio::test]
async fn a_repository_that_fails_fails_alone() {
    let (good, broken) = (Made::new(&["--bare"]), Made::new(&["--bare"]));
    good.import(&many_commits(3));
    broken.import(&many_commits(150));
    broken.git(&["repack", "-adq"]);
    let saved = tempfile::tempdir().unwrap();
    broken.git(&["clone", "--quiet", "--bare", ".", saved.path().to_str().unwrap()]);
    break_apart(&broken);
    let agent = agent().await;
    let mut config = config(&[&broken, &good]);
    config["repositories"].as_array_mut().unwrap().push(json!("/there/is/no/such/folder"));
    let reply = agent.export(&config).await.unwrap();
    let states: Vec<_> = reply.projects.iter().map(|it| it.state).collect();
    assert_eq!(states, [ProjectState::Failed, ProjectState::Done, ProjectState::Failed]);
    let why = reply.projects[0].error.as_deref().unwrap();
    assert!(why.contains(broken.path()) && why.contains("git rev-list ended with"), "{why}");
    let why = reply.projects[2].error.as_deref().unwrap();
    assert!(why.contains("/there/is/no/such/folder") && why.contains("correct the path"), "{why}");
    assert_eq!(commits(&agent).len(), 3);
    assert_eq!(agent.open_sessions(), 0);

    // Put right, it is exported whole, and the others have no news.
    agent.forget_objects();
    std::fs::remove_dir_all(broken.path()).unwrap();
    broken_again(&broken, saved.path());
    export(&agent, &[&broken, &good]).await;
    assert_eq!(commits(&agent).len(), 150);
}

fn broken_again(made: &Made, saved: &std::path::Path) {
    std::fs::rename(saved, made.path()).unwrap();
}

#[tokio::test]
async fn a_content_that_is_missing_fails_the_repository_and_leaves_no_commit_behind() {
    let made = Made::new(&["--bare"]);
    made.git(&["config", "fastimport.unpackLimit", "10000"]);
    made.import(&many_commits(200));
    let blob = made.git(&["rev-parse", "main~150:file0"]);
    std::fs::remove_file(made.file(&format!("objects/{}/{}", &blob[..2], &blob[2..]))).unwrap();
    let agent = agent().await;
    let reply = agent.export(&config(&[&made])).await.unwrap();
    let why = reply.projects[0].error.as_deref().unwrap();
    assert!(why.contains("git diff-tree ended with") && why.contains(&blob), "{why}");
    assert!(commits(&agent).is_empty());
}

/// Commits the size of what people really do wrong.
#[tokio::test]
async fn a_commit_beyond_every_limit_is_cut_and_still_counted() {
    let made = Made::new(&["--bare"]);
    let mut stream = b"commit refs/heads/main\ncommitter A <a@x> 1700000000 +0000\n".to_vec();
    let message = "long ".repeat(500_000);
    stream.extend(format!("data {}\n{message}\n", message.len()).bytes());
    let name = "n".repeat(200);
    for number in 0..60_000 {
        stream.extend(format!("M 100644 inline {}/{name}{number}\ndata 2\nx\n\n", number % 199).bytes());
    }
    made.import(&stream);
    let agent = agent().await;
    export(&agent, &[&made]).await;
    let commit = &commits(&agent)[0];
    assert_eq!(commit["files_changed"], 60_000);
    assert_eq!(commit["additions"], 60_000);
    assert_eq!((&commit["files_truncated"], &commit["message_truncated"]), (&json!(true), &json!(true)));
    assert!(commit["files"].as_array().unwrap().len() > 10_000);
    assert_eq!(commit["message"].as_str().unwrap().len(), 1 << 20);
}

#[cfg(unix)]
mod silent {
    use std::path::Path;
    use std::time::Duration;

    use rustix::fs::{Mode, OFlags, mkfifoat, open};

    use super::*;

    /// A repository that git cannot read to its end: its list of other folders with objects is a pipe.
    fn stuck() -> (Made, std::path::PathBuf) {
        let made = Made::new(&["--bare"]);
        made.import(&many_commits(3));
        let pipe = made.file("objects/info/alternates");
        mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
        (made, pipe)
    }

    /// Whether some process waits at the other end of the pipe.
    fn has_reader(pipe: &Path) -> bool {
        open(pipe, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty()).is_ok()
    }

    async fn until(what: &str, mut holds: impl FnMut() -> bool) {
        for _ in 0..2000 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("never: {what}");
    }

    #[tokio::test]
    async fn a_git_that_is_silent_is_stopped_and_named() {
        let (made, pipe) = stuck();
        let good = Made::new(&["--bare"]);
        good.import(&many_commits(2));
        let mut config = config(&[&made, &good]);
        config["quiet_limit_s"] = json!(1);
        let agent = agent().await;
        let reply = agent.export(&config).await.unwrap();
        let why = reply.projects[0].error.as_deref().unwrap();
        assert!(why.contains("wrote nothing for 1 s") && why.contains("quiet_limit_s"), "{why}");
        assert_eq!(reply.projects[1].state, ProjectState::Done);
        until("the git is gone", || !has_reader(&pipe)).await;
    }

    #[tokio::test]
    async fn a_cancel_and_a_lost_agent_end_the_git() {
        for cancel in [true, false] {
            let (made, pipe) = stuck();
            let agent = agent().await;
            let config = config(&[&made]);
            {
                let mut export = std::pin::pin!(agent.export(&config));
                tokio::select! {
                    _ = &mut export => panic!("the pipe was read"),
                    () = until("git waits", || agent.open_sessions() > 1) => {}
                }
                if cancel {
                    agent.cancel("enough").await.unwrap();
                    let err = export.await.unwrap_err().to_string();
                    assert!(err.contains("cancelled: enough"), "{err}");
                }
            }
            agent.hang_up().await;
            until("the git is gone", || !has_reader(&pipe)).await;
        }
    }
}
