//! Real children: shells and small programs that end, hang, flood and fork.

use std::fs;
use std::future::{Future, pending, ready};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, getpgid, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::ChildStdout;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;

/// Far above what anything here takes, so that a hang is a failed test and a slow machine is none.
const LONG: Duration = Duration::from_secs(60);

/// Short steps for children that are known to sit them out.
const SHORT: StopBudget =
    StopBudget { polite: Duration::from_millis(50), term: Duration::from_millis(200), kill: LONG };

/// Steps for children that are known to end early.
const PATIENT: StopBudget = StopBudget { polite: LONG, term: LONG, kill: LONG };

fn sh(script: &str) -> Spawn {
    Spawn::new("sh").arg("-c").arg(script)
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(LONG, what).await.expect("took far too long")
}

async fn run(spawn: Spawn) -> Ended {
    let mut child = spawn.start().unwrap();
    within(child.wait()).await
}

/// Starts a child and waits for its first line.
async fn started(script: &str) -> (Child, BufReader<ChildStdout>, String) {
    let mut child = sh(script).start().unwrap();
    let mut stdout = BufReader::new(child.take_stdout().unwrap());
    let mut line = String::new();
    within(stdout.read_line(&mut line)).await.unwrap();
    (child, stdout, line.trim().to_owned())
}

/// Waits until nobody holds the other end any more.
async fn rest_of(mut stdout: impl tokio::io::AsyncRead + Unpin) -> String {
    let mut text = String::new();
    within(stdout.read_to_string(&mut text)).await.unwrap();
    text
}

#[tokio::test]
async fn an_exit_status_tells_success_failure_and_panic_apart() {
    assert_eq!(run(sh("exit 0")).await.how, How::Ok);
    assert_eq!(run(sh("exit 3")).await.how, How::Failed { code: 3 });
    assert_eq!(run(sh("exit 101")).await.how, How::Panicked);
}

#[tokio::test]
async fn a_signal_that_we_did_not_send_is_told_as_one() {
    let ended = run(sh("kill -SEGV $$")).await;
    assert!(matches!(ended.how, How::Signalled { signal: 11, .. }), "{ended:?}");

    let (mut child, _stdout, _) = started("echo ready; exec sleep 1000").await;
    let pid = Pid::from_raw(child.pid().cast_signed()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    let ended = within(child.wait()).await;
    assert_eq!(ended.how, How::Signalled { signal: 9, core: false });
    assert!(ended.to_string().contains("killed with SIGKILL by somebody else"), "{ended}");
}

#[tokio::test]
async fn last_words_are_kept_for_the_report() {
    let ended = run(sh("echo one >&2; echo two >&2; printf three >&2; exit 1")).await;
    assert_eq!(ended.last_stderr, ["one", "two", "three"]);
    assert_eq!(ended.how, How::Failed { code: 1 });
}

#[tokio::test]
async fn a_panic_is_told_with_its_message_however_long_its_trace_is() {
    let script = "echo 'panic: boom' >&2; echo >&2; echo 'goroutine 1 [running]:' >&2; \
        for n in $(seq 40); do echo \"main.f$n()\" >&2; printf '\\t/a.go:%s\\n' $n >&2; done; exit 2";
    let ended = run(sh(script)).await;
    assert_eq!(cause(&ended), Some(Cause::Panic { language: Language::Go }), "{ended:?}");
    assert!(detail(&ended).ends_with(": panic: boom"), "{}", detail(&ended));
    assert_eq!(cry(&ended), ["panic: boom"]);
    assert_eq!(ended.last_stderr.len(), StderrTail::default().lines);
    assert_eq!(ended.last_stderr[..2], ["panic: boom", "  … (24 lines left out)"]);
    assert_eq!(ended.last_stderr.last().unwrap(), "\t/a.go:40");
}

#[tokio::test]
async fn a_child_that_ends_when_asked_is_not_signalled() {
    let mut child = Spawn::new("cat").start().unwrap();
    let stdin = child.take_stdin().unwrap();
    let ended = within(child.stop(async { drop(stdin) }, PATIENT)).await;
    assert_eq!(ended.how, How::Ok);
}

#[tokio::test]
async fn a_child_that_ends_on_sigterm_by_itself_keeps_its_status() {
    let (mut child, _stdout, _) = started("trap 'exit 7' TERM; sleep 1000 & echo ready; wait; exit 1").await;
    let budget = StopBudget { polite: SHORT.polite, ..PATIENT };
    assert_eq!(within(child.stop(ready(()), budget)).await.how, How::Failed { code: 7 });
}

#[tokio::test]
async fn a_child_without_a_handler_dies_of_sigterm_and_the_reason_is_told() {
    let mut child = sh("exec sleep 1000").start().unwrap();
    let budget = StopBudget { polite: Duration::ZERO, ..PATIENT };
    let ended = within(child.stop_for(KilledFor::Time, ready(()), budget)).await;
    assert_eq!(ended.how, How::Killed { for_: KilledFor::Time, signal: 15 });
}

#[tokio::test]
async fn a_child_that_ignores_cancel_and_sigterm_is_killed() {
    let (mut child, stdout, _) = started("trap '' TERM; echo ready; while :; do sleep 1000; done").await;
    let ended = within(child.stop(pending(), SHORT)).await;
    assert_eq!(ended.how, How::Killed { for_: KilledFor::Cancel, signal: 9 });
    assert_eq!(rest_of(stdout).await, "", "the sleeping grandchild is dead too");
}

#[tokio::test]
async fn a_suspended_child_is_killed() {
    let (mut child, _stdout, _) = started("echo ready; kill -STOP $$").await;
    let ended = within(child.stop(ready(()), SHORT)).await;
    assert_eq!(ended.how, How::Killed { for_: KilledFor::Cancel, signal: 9 });
}

#[tokio::test]
async fn a_grandchild_that_keeps_the_pipes_is_killed_when_the_child_exits() {
    let (mut child, stdout, _) = started("trap '' TERM; sleep 1000 & echo ready; exit 4").await;
    assert_eq!(within(child.wait()).await.how, How::Failed { code: 4 });
    assert_eq!(rest_of(stdout).await, "");
}

#[tokio::test]
async fn a_process_that_left_the_group_does_not_hold_up_the_end() {
    let (mut child, stdout, escaped) =
        started("echo last >&2; setsid sh -c 'echo $$; exec sleep 1000' & read go; exit 0").await;
    let mut stdin = child.take_stdin().unwrap();
    stdin.write_all(b"go\n").await.unwrap();
    let ended = within(child.wait()).await;
    assert_eq!((ended.how, ended.last_stderr), (How::Ok, vec!["last".to_owned()]));
    assert!(kill_group(escaped.parse().unwrap()), "it leads a group of its own");
    assert_eq!(rest_of(stdout).await, "");
}

#[tokio::test]
async fn a_child_that_closes_stdout_and_lives_on_is_stopped() {
    let mut child = sh("exec >&-; exec sleep 1000").start().unwrap();
    let stdout = child.take_stdout().unwrap();
    assert_eq!(rest_of(stdout).await, "");
    assert!(timeout(Duration::ZERO, child.wait()).await.is_err(), "it lives on");
    let budget = StopBudget { polite: SHORT.polite, ..PATIENT };
    let ended = within(child.stop(ready(()), budget)).await;
    assert_eq!(ended.how, How::Killed { for_: KilledFor::Cancel, signal: 15 });
}

#[tokio::test]
async fn a_child_that_dies_in_mid_message_leaves_what_it_wrote() {
    let mut child = sh("printf '{\"half\":'; exit 1").start().unwrap();
    let stdout = child.take_stdout().unwrap();
    assert_eq!(rest_of(stdout).await, "{\"half\":");
    assert_eq!(within(child.wait()).await.how, How::Failed { code: 1 });
}

#[tokio::test]
async fn a_flood_on_stderr_neither_blocks_the_child_nor_grows_memory() {
    let (sender, mut untaken) = mpsc::channel(8);
    let flood = "yes 'a line of stderr that says nothing of interest at all' | head -c 100000000 >&2";
    let mut child =
        sh(&format!("{flood}; echo >&2; echo last >&2")).stderr(StderrTo::Lines(sender)).start().unwrap();
    let before = resident();
    let ended = within(child.wait()).await;
    assert_eq!(ended.how, How::Ok);
    let bounds = StderrTail::default();
    assert_eq!(ended.last_stderr.last().map(String::as_str), Some("last"));
    assert!(ended.last_stderr.len() <= bounds.lines);
    assert!(ended.last_stderr.iter().map(String::len).sum::<usize>() <= bounds.bytes);
    assert!(resident() < before + 32 * 1024, "grew from {before} to {} KiB", resident());
    assert!(untaken.recv().await.unwrap().starts_with("a line of stderr"));
}

/// This process's resident memory in KiB; 0 where the system does not tell it this way.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or_default()
}

#[tokio::test]
async fn each_line_of_stderr_reaches_the_receiver_and_then_the_end() {
    let (sender, mut lines) = mpsc::channel(8);
    let mut child = sh("echo one >&2; echo two >&2").stderr(StderrTo::Lines(sender)).start().unwrap();
    within(child.wait()).await;
    let mut got = Vec::new();
    while let Some(line) = within(lines.recv()).await {
        got.push(line);
    }
    assert_eq!(got, ["one", "two"]);
}

#[tokio::test]
async fn dropping_a_child_kills_its_group() {
    let (child, stdout, _) = started("trap '' TERM; sleep 1000 & echo ready; wait").await;
    drop(child);
    assert_eq!(rest_of(stdout).await, "");
}

#[tokio::test]
async fn kill_now_kills_without_waiting() {
    let (mut child, stdout, _) = started("sleep 1000 & echo ready; wait").await;
    child.kill_now();
    assert_eq!(within(child.wait()).await.how, How::Killed { for_: KilledFor::Cancel, signal: 9 });
    assert_eq!(rest_of(stdout).await, "");
    child.kill_now(); // Nobody is hit any more.
}

#[tokio::test]
async fn waiting_may_be_given_up_and_taken_up_again() {
    let mut child = sh("read go; echo said >&2; exit 5").start().unwrap();
    let mut stdin = child.take_stdin().unwrap();
    for _ in 0..3 {
        assert!(timeout(Duration::from_millis(1), child.wait()).await.is_err());
    }
    stdin.write_all(b"go\n").await.unwrap();
    let ended = within(async {
        loop {
            if let Ok(ended) = timeout(Duration::from_micros(50), child.wait()).await {
                break ended;
            }
        }
    })
    .await;
    assert_eq!(ended.how, How::Failed { code: 5 });
    assert_eq!(ended.last_stderr, ["said"]);
    assert_eq!(child.wait().await, ended);
    assert_eq!(child.stop(pending(), SHORT).await, ended, "stopping an ended child changes nothing");
}

#[tokio::test]
async fn many_children_that_end_at_once_are_all_noticed() {
    let mut waits = tokio::task::JoinSet::new();
    for code in 1..=30 {
        waits.spawn(async move { (code, run(sh(&format!("exit {code}"))).await.how) });
    }
    while let Some(done) = within(waits.join_next()).await {
        let (code, how) = done.unwrap();
        assert_eq!(how, How::Failed { code });
    }
}

#[tokio::test]
async fn a_child_leads_a_group_of_its_own() {
    let (child, _stdout, _) = started("echo ready; exec sleep 1000").await;
    let pid = Pid::from_raw(child.pid().cast_signed()).unwrap();
    assert_eq!(getpgid(Some(pid)).unwrap(), pid);
}

#[tokio::test]
async fn a_child_sees_only_the_listed_variables_and_runs_in_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let spawn = sh("env; pwd").cwd(&folder).env(Environment::default().set("OWN", "1"));
    let mut child = spawn.start().unwrap();
    let stdout = child.take_stdout().unwrap();
    let text = rest_of(stdout).await;
    let known = |name: &str| {
        Environment::usual_names().contains(&name) || ["OWN", "PWD", "SHLVL", "_"].contains(&name)
    };
    let (names, last): (Vec<_>, _) = {
        let mut lines: Vec<_> = text.lines().collect();
        let last = lines.pop().unwrap();
        (lines.iter().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect(), last)
    };
    assert!(names.contains(&"OWN") && names.contains(&"PATH"), "{names:?}");
    assert!(names.iter().all(|name| known(name)), "{names:?}");
    assert_eq!(Path::new(last), folder);
    within(child.wait()).await;
}

#[tokio::test]
async fn what_cannot_be_started_is_diagnosed() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode: u32| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let check = |spawn: Spawn, message: &str, hint: &str| {
        let err = spawn.start().expect_err(message);
        assert!(err.to_string().contains(message), "{err} / {message}");
        assert!(err.hint().unwrap_or_default().contains(hint), "{:?} / {hint}", err.hint());
        assert!(!err.is_transient());
    };
    let path = |name: &str| Spawn::new(folder.path().join(name));
    check(path("missing"), "there is no such file", "check the path");
    check(Spawn::new("no-such-program"), "no such program in the folders of PATH (/", "install it");
    check(Spawn::new(folder.path()), "it is a folder", "in that folder");
    check(Spawn::new(file("plain", "x", 0o644)), "the file is not executable", "chmod +x");
    check(Spawn::new(file("empty", "", 0o755)), "found an empty file, expected a program for", "version");
    check(Spawn::new(file("text", "hi\n", 0o755)), "found a text file without a #! line", "version");
    check(Spawn::new(file("exe", "MZ\u{90}\0", 0o755)), "found a Windows program", "version");
    check(Spawn::new(file("script", "#!/no/such\n", 0o755)), "missing: \"/no/such\"", "install /no/such");
    check(
        Spawn::new(file("crlf", "#!/bin/sh\r\n", 0o755)),
        "missing: \"/bin/sh\\r\"",
        "line ends of Windows",
    );
    check(sh("exit 0").cwd(folder.path().join("gone")), "the folder to run it in", "create the folder");
    check(Spawn::new(file("data", "x", 0o644)).cwd(folder.path()), "is not executable", "chmod +x");
}

#[tokio::test]
async fn a_relative_program_is_relative_to_our_folder() {
    let err = Spawn::new("./missing").cwd("/").start().unwrap_err();
    let expected = std::env::current_dir().unwrap().join("missing");
    assert!(matches!(&err, SpawnError::NotFound { program } if *program == expected), "{err}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_program_that_is_being_written_is_told_as_busy_until_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    fs::copy("/bin/sh", &program).unwrap();
    let writing = fs::File::options().append(true).open(&program).unwrap();
    let err = Spawn::new(&program).start().unwrap_err();
    assert!(matches!(err, SpawnError::Busy { .. }) && err.is_transient(), "{err}");
    drop(writing);
    assert_eq!(run(Spawn::new(&program).args(["-c", "exit 0"])).await.how, How::Ok);
}

/// A process that is no child as far as its end is concerned: whether it is gone is told by what it holds open.
async fn foreign(script: &str) -> (Child, ForeignEnd) {
    let (child, stdout, _) = started(script).await;
    let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = over.clone();
    tokio::spawn(async move {
        rest_of(stdout).await;
        seen.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let is_gone = || over.load(std::sync::atomic::Ordering::Relaxed);
    let end = within(end_foreign(child.pid(), Duration::from_millis(300), LONG, is_gone)).await;
    (child, end)
}

#[tokio::test]
async fn a_process_of_somebody_else_is_asked_and_then_killed() {
    let (_child, end) = foreign("echo ready; exec sleep 1000").await;
    assert_eq!(end, ForeignEnd::Asked);
    let (_child, end) = foreign("trap '' TERM; echo ready; while :; do sleep 1000; done").await;
    assert_eq!(end, ForeignEnd::Killed, "with what it started, as it leads a group");
}

#[tokio::test]
async fn a_process_that_leads_no_group_is_killed_alone() {
    // The inner shell is in the group of the outer one, which lives on.
    let script = "sh -c 'trap \"\" TERM; echo $$; exec 1>&-; while :; do read x; done' & read go; echo alive";
    let mut child = sh(script).start().unwrap();
    let mut stdin = child.take_stdin().unwrap();
    let mut stdout = BufReader::new(child.take_stdout().unwrap());
    let mut line = String::new();
    within(stdout.read_line(&mut line)).await.unwrap();
    let inner: u32 = line.trim().parse().unwrap();
    let stat = || fs::read_to_string(format!("/proc/{inner}/stat")).unwrap_or_default();
    let is_gone = || stat().is_empty() || stat().contains(") Z ");
    let end = within(end_foreign(inner, Duration::from_millis(100), LONG, is_gone)).await;
    assert!(matches!(end, ForeignEnd::Killed | ForeignEnd::Asked), "{end:?}");
    stdin.write_all(b"go\n").await.unwrap();
    assert_eq!(rest_of(stdout).await, "alive\n");
}

#[tokio::test]
async fn this_process_is_never_ended() {
    for pid in [0, 1, std::process::id(), u32::MAX] {
        let end = end_foreign(pid, LONG, LONG, || false).await;
        assert_eq!(end, ForeignEnd::Refused, "{pid}");
    }
    let (_child, end) = foreign_that_is_gone().await;
    assert_eq!(end, ForeignEnd::Asked, "nothing is sent to one that is gone");
}

async fn foreign_that_is_gone() -> (Child, ForeignEnd) {
    let (child, _stdout, _) = started("trap '' TERM; echo ready; exec sleep 1000").await;
    let end = end_foreign(child.pid(), LONG, LONG, || true).await;
    (child, end)
}

#[tokio::test]
async fn what_does_not_go_away_is_told_in_bounded_time() {
    let (child, _stdout, _) = started("echo ready; exec sleep 1000").await;
    let short = Duration::from_millis(20);
    assert_eq!(within(end_foreign(child.pid(), short, short, || false)).await, ForeignEnd::Still);
}
