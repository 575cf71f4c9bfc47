//! A disk that is full. By hand: a clear error, nothing lost, and the next run goes on where this one stopped. Under a
//! service: the export waits. What the backend has and is kept for a while is no reason for either.

#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use outrider_backend::admin::CommandState;
use serde_json::json;

use crate::bad_days::{PULL_REQUEST, counted, limits, mock};
use crate::played::Played;
use crate::support::{OUTRIDER, Running, Stack, export, printed, run, sealed, spooled, until};

/// Runs a shell script with a small disk at `dir`.
fn on_a_small_disk(dir: &Path, script: &str) -> Output {
    let mount = format!("set -e; mount -t tmpfs -o size=2m tmpfs {0}; cd {0}; {script}", dir.display());
    run(&mut may_mount(&mount))
}

/// A shell script in a mount namespace of its own; what is mounted ends with it. A user who is not root becomes one in a
/// user namespace.
fn may_mount(script: &str) -> Command {
    let mut unshare = Command::new("unshare");
    if !run(Command::new("id").arg("-u")).stdout.starts_with(b"0\n") {
        unshare.arg("--map-root-user");
    }
    unshare.args(["--mount", "sh", "-c", script]);
    unshare
}

#[test]
fn a_full_disk_fails_the_export_and_the_next_one_has_everything() {
    let dir = tempfile::tempdir().unwrap();
    // Objects that cannot be compressed to the size of the disk.
    let config =
        json!([{ "name": "mock", "config": { "repos": 6, "pull_requests": 400, "object_bytes": 4000 } }]);
    // Nothing is left free, so that the disk itself is the limit.
    let agent = json!({ "limits": { "spool_free_bytes": 0 } });
    let export =
        format!("{OUTRIDER} export --root root --agent-config-json '{agent}' --integrations-json '{config}'");
    let script = format!(
        "{export} > full.log 2>&1 && exit 9; tail -n 5 full.log; mount -o remount,size=64m .; \
         {export} | tail -n 1; {OUTRIDER} data cat --root root --model {PULL_REQUEST} > all; sort all | uniq -d | wc -l; wc -l < all"
    );
    let output = on_a_small_disk(dir.path(), &script);
    let text = printed(&output);
    assert!(output.status.success(), "{text}");
    assert!(
        text.to_lowercase().contains("no space left") && text.contains("make room on the disk"),
        "{text}"
    );
    assert!(text.contains(" done: "), "{text}");
    let counts: Vec<_> = text.lines().rev().take(2).collect();
    assert_eq!(counts, ["2400", "0"], "every pull request, and none in both runs: {text}");
}

/// The action on a small disk of its own that holds a file which leaves almost no room. The disk ends with the action.
fn on_a_full_disk(root: &Path) -> (Played, PathBuf) {
    let script = format!(
        "mount -t tmpfs -o size=24m tmpfs {0} && head -c 23500000 /dev/zero > {0}/ballast && exec {1} export --link --root {0}",
        root.display(),
        OUTRIDER,
    );
    let agent = limits(&json!({ "spool_free_bytes": 0, "integration_idle_s": 2 }));
    let config = json!({ "repos": 6, "pull_requests": 400, "object_bytes": 4000 });
    let order = json!({ "action": "export", "agent": agent, "integrations": mock(&config) });
    let mut action = Played::start(&mut may_mount(&script), "c1", &order);
    action.until_paused("disk full, waiting for room");
    let disk = format!("/proc/{}/root{}", action.action.id(), root.display());
    (action, disk.into())
}

#[test]
fn a_disk_that_is_full_pauses_an_export_and_nothing_is_lost() {
    let root = tempfile::tempdir().unwrap();
    let (mut action, disk) = on_a_full_disk(root.path());
    // Longer than an integration may be silent: it is not the one that keeps silent.
    std::thread::sleep(Duration::from_secs(4));
    std::fs::remove_file(disk.join("ballast")).unwrap();
    let report = action.report();
    assert_eq!(report["integrations"][0]["state"], "done", "{report:#}");
    assert_eq!((counted(&report, PULL_REQUEST), &report["integrations"][0]["attempts"]), (2400, &json!(1)));
    assert_eq!(spooled(&disk, PULL_REQUEST).len(), 2400);
}

#[test]
fn a_cancel_ends_the_wait_for_a_full_disk_and_the_report_counts_what_was_done() {
    let root = tempfile::tempdir().unwrap();
    let (mut action, disk) = on_a_full_disk(root.path());
    action.cancel();
    let report = action.report();
    let it = &report["integrations"][0];
    assert_eq!(it["state"], "cancelled", "{it:#}");
    let counted = counted(&report, PULL_REQUEST);
    assert!(counted < 2400, "{it:#}");
    // What could not be sealed on the full disk is durable all the same: whoever comes next seals it.
    let open = disk.join("spool/c1").join(PULL_REQUEST);
    let found = open.read_dir().unwrap().map(|it| lines(&it.unwrap().path())).sum::<u64>();
    assert_eq!(found, counted, "{it:#}");
}

#[test]
fn files_that_the_backend_has_never_stop_an_export_for_want_of_room() {
    let limits = json!({ "spool_free_bytes": 4 << 20, "spool_file_bytes": 1 << 18, "gzip_level": 0 });
    let mut stack = Stack::start(&limits);
    stack.until_connected();
    stack.kill_service();
    // The service and its actions on a small disk of their own, with the root as it was.
    let (root, saved) = (stack.root(), stack.dir.path().join("saved"));
    let script = format!(
        "cp -a {0} {1} && mount -t tmpfs -o size=24m tmpfs {0} && cp -a {1}/. {0} && exec {2} service-run --root {0}",
        root.display(),
        saved.display(),
        OUTRIDER,
    );
    stack.service = Running::start(&mut may_mount(&script), &stack.dir.path().join("small.out"));
    stack.until_connected();
    // More than the disk holds.
    let config = json!({ "repos": 6, "pull_requests": 400, "object_bytes": 24_000 });
    let id = stack.order(export(&mock(&config)));
    stack.until_state(&id, CommandState::Done);
    let log = stack.log(&id);
    assert_eq!(log.iter().filter(|it| it.contains("from now on files go early")).count(), 1, "{log:#?}");
    let spool = format!("/proc/{}/root{}/spool", stack.service.pid(), root.display());
    until("the upload of all files", || sealed(Path::new(&spool)).is_empty().then_some(()));
    assert_eq!(stack.objects(&id, PULL_REQUEST).len(), 2400);
}

/// Objects of a spool file that may still grow; those of a large session that is not done count for nothing.
fn lines(path: &Path) -> u64 {
    if path.extension().is_some_and(|it| it == "part") {
        return 0;
    }
    let mut text = Vec::new();
    let file = std::fs::File::open(path).unwrap();
    std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(file), &mut text).unwrap();
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}
