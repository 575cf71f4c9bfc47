//! A disk that is full: a clear error, nothing lost, and the next run goes on where this one stopped.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;

use crate::support::{OUTRIDER, printed, run};

/// Runs a shell script in a mount namespace of its own with a small disk at `dir`; what is mounted ends with it. A
/// user who is not root becomes one in a user namespace.
#[cfg(target_os = "linux")]
fn on_a_small_disk(dir: &Path, script: &str) -> Output {
    let mut unshare = Command::new("unshare");
    if !run(Command::new("id").arg("-u")).stdout.starts_with(b"0\n") {
        unshare.arg("--map-root-user");
    }
    let mount = format!("set -e; mount -t tmpfs -o size=2m tmpfs {0}; cd {0}; {script}", dir.display());
    run(unshare.args(["--mount", "sh", "-c", &mount]))
}

#[cfg(target_os = "linux")]
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
         {export} | tail -n 1; find root/spool -name '*.json.gz' | grep PullRequest | xargs cat | gzip -dc | sort -u | wc -l"
    );
    let output = on_a_small_disk(dir.path(), &script);
    let text = printed(&output);
    assert!(output.status.success(), "{text}");
    assert!(
        text.to_lowercase().contains("no space left") && text.contains("make room on the disk"),
        "{text}"
    );
    assert!(text.contains(" done: "), "{text}");
    assert_eq!(text.lines().last(), Some("2400"), "every pull request, some in both runs: {text}");
}
