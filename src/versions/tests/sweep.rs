//! A whole upgrade is killed, or gets an error, at each call that it makes of the system; then the machine goes on.
//!
//! `OUTRIDER_CASES=100000 cargo test -p outrider-versions --test real sweep -- --nocapture` tries every call.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use outrider_versions::{Link, Phase, Points, Versions};

use crate::agent::{self, NEW, OLD, is_whole, name, unpack};

const OLDER: &str = "0.9.0-cccccccc";
/// Cases unless `OUTRIDER_CASES` says otherwise.
const CASES: usize = 760;
/// Calls that touch files, each with its names on the machines that there are.
const CALLS: &str = "?open,openat,?creat,read,write,close,fsync,fdatasync,flock,?rename,?renameat,renameat2,\
                     ?symlink,symlinkat,?unlink,unlinkat,?mkdir,mkdirat,?rmdir,?readlink,readlinkat,getdents64,\
                     ?stat,?lstat,?newfstatat,statx";
const FAULTS: [&str; 4] = ["signal=KILL", "error=ENOSPC", "error=EIO", "error=EROFS"];

#[derive(Debug, Clone)]
struct Case {
    good: bool,
    call: String,
    number: usize,
    fault: &'static str,
}

/// In memory where the system has such a folder: a killed process takes nothing with it that it has written.
fn fresh() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let versions = Versions::of(dir.path());
    let writer = versions.write(Duration::ZERO).unwrap();
    for (version, link) in [(OLDER, Link::Previous), (OLD, Link::Current)] {
        let tree = versions.layout().staging().join(version);
        unpack(&tree, &name(version)).unwrap();
        writer.place(&tree, &name(version)).unwrap();
        let link = versions.layout().link(link);
        std::os::unix::fs::symlink(Path::new("versions").join(version), link).unwrap();
    }
    drop(writer);
    dir
}

/// Runs the upgrade under strace; answers whether it was killed and what strace wrote.
fn traced(root: &Path, good: bool, flags: &[String]) -> (bool, String) {
    let trace = root.join("trace");
    let run = Command::new("strace")
        .args(["-f", "-qq", "-o"])
        .arg(&trace)
        .args(flags)
        .arg(env!("CARGO_BIN_EXE_versions-probe"))
        .arg(root)
        .env("VERSIONS_PROBE", if good { "good" } else { "bad" })
        .output()
        .expect("strace runs: install it (`apt-get install strace`), and allow ptrace");
    let text = std::fs::read_to_string(&trace).unwrap_or_else(|_| {
        panic!("strace wrote nothing, is ptrace allowed? {}", String::from_utf8_lossy(&run.stderr))
    });
    std::fs::remove_file(&trace).unwrap();
    (run.status.signal().is_some() || run.status.code() == Some(128 + 9), text)
}

/// How often an upgrade makes each call.
fn calls(good: bool) -> BTreeMap<String, usize> {
    let dir = fresh();
    let (killed, text) = traced(dir.path(), good, &["-e".into(), format!("trace={CALLS}")]);
    assert!(!killed);
    check_end(dir.path(), good);
    let mut calls = BTreeMap::new();
    for line in text.lines() {
        let call = line.split_whitespace().nth(1).and_then(|it| it.split_once('('));
        if let Some((call, _)) = call.filter(|(it, _)| it.chars().all(|it| it.is_ascii_alphanumeric())) {
            *calls.entry(call.to_owned()).or_default() += 1;
        }
    }
    calls
}

fn check_end(root: &Path, good: bool) {
    let versions = Versions::of(root);
    let seen = versions.see().unwrap();
    let (current, previous, end) =
        if good { (NEW, OLD, Phase::Committed) } else { (OLD, OLDER, Phase::RolledBack) };
    assert_eq!(seen.links.current, Points::To(name(current)), "{seen:?}");
    assert_eq!(seen.links.previous, Points::To(name(previous)), "{seen:?}");
    assert_eq!(seen.tree.versions, [current, previous].into_iter().map(name).collect(), "{seen:?}");
    for version in [current, previous].map(name) {
        assert!(is_whole(&versions.layout().version(&version), &version), "{version}");
    }
    assert_eq!(seen.journal.record().map(|it| it.phase), Some(end), "{seen:?}");
    assert_eq!(versions.verdict(&name(NEW)).unwrap().is_some(), !good);
    assert!(versions.slot_faults().is_empty());
    let left: Vec<_> = std::fs::read_dir(root.join("versions")).unwrap().collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

/// Answers whether the fault came to pass.
fn check(case: &Case) -> bool {
    let Case { good, call, number, fault } = case;
    let dir = fresh();
    let flags =
        ["-e".into(), format!("trace={call}"), "-e".into(), format!("inject={call}:{fault}:when={number}")];
    let (killed, text) = traced(dir.path(), *good, &flags);
    // Between the two starts: whatever happened, something whole would run now.
    let start = outrider_versions::launch::prepare(&Versions::of(dir.path())).unwrap();
    assert!(is_whole(&dir.path().join("versions").join(start.version.as_str()), &start.version));
    agent::run(dir.path(), *good).unwrap_or_else(|err| panic!("{case:?}: {err}"));
    check_end(dir.path(), *good);
    killed || text.contains("(INJECTED)")
}

/// Whether a call of this name changes what is on the disk.
fn changes(call: &str) -> bool {
    ["write", "fsync", "rename", "symlink", "unlink", "mkdir", "rmdir"].iter().any(|it| call.starts_with(it))
}

/// About `most` of the cases, evenly spread; the stride is odd, so that it meets every kind of fault.
fn pick<'a>(cases: &'a [&'a Case], most: usize) -> impl Iterator<Item = &'a Case> {
    let stride = if most >= cases.len() { 1 } else { (cases.len() / most.max(1)) | 1 };
    cases.iter().step_by(stride).copied()
}

#[test]
fn an_upgrade_survives_a_kill_and_an_error_at_each_of_its_calls() {
    let mut all = Vec::new();
    for good in [true, false] {
        for (call, times) in calls(good) {
            for number in 1..=times {
                let new = |fault| Case { good, call: call.clone(), number, fault };
                all.extend(FAULTS.map(new));
            }
        }
    }
    let most = std::env::var("OUTRIDER_CASES").ok().and_then(|it| it.parse().ok()).unwrap_or(CASES);
    // Most of them at calls that change something.
    let (changing, looking): (Vec<_>, Vec<_>) = all.iter().partition(|it| changes(&it.call));
    let chosen = pick(&changing, most * 3 / 4).chain(pick(&looking, most.div_ceil(4)));
    let mut hit: BTreeMap<&str, usize> = BTreeMap::new();
    let mut tried = 0;
    for case in chosen {
        tried += 1;
        if check(case) {
            *hit.entry(case.fault).or_default() += 1;
        }
    }
    println!("{tried} of {} cases of a fault at a call, of which came to pass: {hit:?}", all.len());
    assert!(hit.values().sum::<usize>() * 10 >= tried * 9, "{hit:?} of {tried}");
}
