//! The demo: everything with one command, and nothing left behind.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::{BACKEND, Running, make_repository, printed, run, until};

fn demo(dir: &Path, repository: &Path) -> Command {
    let mut command = Command::new(BACKEND);
    command.arg("demo").arg("--dir").arg(dir).arg("--repo").arg(repository);
    // It builds the programs first when it is started through cargo; here they are built.
    command.env_remove("CARGO");
    command
}

/// Processes that have the folder on their command line.
fn left_behind(dir: &Path) -> Vec<String> {
    let Output { stdout, .. } = run(Command::new("ps").args(["-eo", "args="]));
    let all = String::from_utf8_lossy(&stdout).into_owned();
    all.lines().filter(|line| line.contains(dir.to_str().unwrap())).map(str::to_owned).collect()
}

#[test]
fn the_demo_exports_a_repository_and_leaves_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let (stack, repository) = (dir.path().join("stack"), dir.path().join("repository"));
    make_repository(&repository);
    let output = run(demo(&stack, &repository).arg("--once"));
    let text = printed(&output);
    assert!(output.status.success(), "{text}");
    for told in ["validate-config", "export-onboard-data", "sourcecode.Commit", "page ", "logs ", "data "] {
        assert!(text.contains(told), "expected {told:?} in {text}");
    }
    assert!(stack.join("agent/logs/export").exists());
    assert_eq!(left_behind(&stack), Vec::<String>::new());
}

#[test]
fn the_demo_says_when_a_repository_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(demo(&dir.path().join("stack"), &dir.path().join("nowhere")).arg("--once"));
    assert!(matches!(output.status.code(), Some(1 | 2)), "{}", printed(&output));
    assert!(printed(&output).contains("nowhere"), "{}", printed(&output));
    assert_eq!(left_behind(dir.path()), Vec::<String>::new());
}

#[test]
fn the_demo_stays_until_it_is_told_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let (stack, repository) = (dir.path().join("stack"), dir.path().join("repository"));
    make_repository(&repository);
    let mut demo = Running::start(&mut demo(&stack, &repository), &dir.path().join("demo.out"));
    // Not the table's models: the lines of progress name them before it.
    until("the demo to be done", || demo.printed().contains("Ctrl-C ends the demo").then_some(()));
    assert!(demo.child.try_wait().unwrap().is_none(), "it stays: {}", demo.printed());
    demo.signal("INT");
    assert_eq!(demo.ended(), Some(0), "{}", demo.printed());
    assert_eq!(left_behind(&stack), Vec::<String>::new());
}
