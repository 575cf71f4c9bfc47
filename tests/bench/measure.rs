//! Clocks, memory, and the table.

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The agent, built with the benchmark's profile.
pub(crate) const OUTRIDER: &str = env!("CARGO_BIN_EXE_outrider");
/// The backend.
pub(crate) const BACKEND: &str = env!("CARGO_BIN_EXE_outrider-backend");

/// What was measured, beside what it should be.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<(String, String, String)>);

impl Table {
    pub(crate) fn row(&mut self, what: &str, found: impl Into<String>, goal: &str) {
        let row = (what.to_owned(), found.into(), goal.to_owned());
        println!("{}: {} (goal: {})", row.0, row.1, row.2);
        self.0.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n| what | measured | goal |\n| --- | --- | --- |")?;
        self.0.iter().try_for_each(|(what, found, goal)| writeln!(f, "| {what} | {found} | {goal} |"))
    }
}

/// The shortest of several runs: the one that others disturbed least.
pub(crate) fn best(runs: usize, mut work: impl FnMut()) -> Duration {
    let one = |_| {
        let started = Instant::now();
        work();
        started.elapsed()
    };
    (0..runs).map(one).min().unwrap_or_default()
}

/// The middle one of several runs.
pub(crate) fn median(runs: usize, mut work: impl FnMut()) -> Duration {
    let mut all: Vec<_> = (0..runs)
        .map(|_| {
            let started = Instant::now();
            work();
            started.elapsed()
        })
        .collect();
    all.sort_unstable();
    all[all.len() / 2]
}

/// Runs a shell line to its end; it must succeed.
pub(crate) fn shell(line: &str) {
    let status = Command::new("sh").args(["-c", line]).stdin(Stdio::null()).status();
    assert!(status.is_ok_and(|it| it.success()), "{line}");
}

/// The same; the processor time it took, with all its children.
pub(crate) fn shell_cpu(line: &str) -> Duration {
    let before = children_cpu();
    shell(line);
    children_cpu().saturating_sub(before)
}

/// User and system time of all children that have ended.
fn children_cpu() -> Duration {
    /// `/proc` counts in these.
    const TICK_MS: u64 = 10;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<u64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().map(|it| it.parse().unwrap_or_default()).collect())
        .unwrap_or_default();
    let ticks = fields.get(13).unwrap_or(&0) + fields.get(14).unwrap_or(&0);
    Duration::from_millis(ticks * TICK_MS)
}

/// What an export by hand took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ran {
    pub(crate) wall: Duration,
    /// Of all its processes.
    pub(crate) cpu: Duration,
    /// The most memory of the action.
    pub(crate) action_kib: u64,
    /// The most memory of its integration.
    pub(crate) integration_kib: u64,
}

/// Runs an export by hand to its end; `agent` is its `--agent-config-json`. It must start and end, whatever it says.
pub(crate) fn run_export(config: &str, agent: &str, root: &Path) -> Ran {
    let (started, cpu) = (Instant::now(), children_cpu());
    let mut child = Command::new(OUTRIDER)
        .args(["export", "--integrations-json", config, "--agent-config-json", agent, "--root"])
        .arg(root)
        .stdout(Stdio::null())
        .spawn()
        .expect("start the export");
    let (mut action_kib, mut integration_kib) = (0, 0);
    let status = loop {
        for pid in descendants(child.id()) {
            let kib = memory_kib(pid, "VmHWM").unwrap_or_default();
            let most = if pid == child.id() { &mut action_kib } else { &mut integration_kib };
            *most = kib.max(*most);
        }
        if let Some(status) = child.try_wait().expect("a status") {
            break status;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(status.success(), "the export failed: {config}");
    Ran { wall: started.elapsed(), cpu: children_cpu().saturating_sub(cpu), action_kib, integration_kib }
}

/// Everything that a spool's gzip files hold, into one file.
pub(crate) fn unpacked(spool: &Path, to: &Path) {
    shell(&format!(
        "find {} -name '*.json.gz' | sort | xargs cat | gzip -dc > {}",
        spool.display(),
        to.display()
    ));
}

/// So many a second.
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(crate) fn ratio(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// Whether a program is installed.
pub(crate) fn installed(program: &str) -> bool {
    let found =
        Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status();
    found.is_ok_and(|it| it.success())
}

/// The size of everything below a folder, in bytes.
pub(crate) fn size_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size_below(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// MB (10^6) a second.
pub(crate) fn rate(bytes: u64, took: Duration) -> f64 {
    mib(bytes) * 1.048_576 / took.as_secs_f64()
}

/// A number of `/proc/PID/status` in KiB, as `VmHWM` or `VmRSS`.
pub(crate) fn memory_kib(pid: u32, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// User and system time of a process so far, in clock ticks.
pub(crate) fn cpu_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// The process and all below it.
pub(crate) fn descendants(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut at = 0;
    while at < found.len() {
        let children =
            std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", found[at])).unwrap_or_default();
        found.extend(children.split_whitespace().filter_map(|it| it.parse::<u32>().ok()));
        at += 1;
    }
    found
}
