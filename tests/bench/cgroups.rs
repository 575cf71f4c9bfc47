//! 1,000 cgroups at one cycle a second, all files of the model: processor time and memory, beside Debian's collectd, which
//! reads one file of each. Real cgroups where this machine lets us make some, and a tree of fixtures in any case.

pub(crate) mod reader;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::measure::{Table, cpu_ticks, installed, memory_kib};

const CGROUPS: usize = 1000;
const SECONDS: u32 = 60;
/// How the benchmark is told to be the measured process.
pub(crate) const READER: &str = "read-cgroups";

pub(crate) fn run(table: &mut Table) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    tree(dir.path());
    ours(table, "a tree of fixtures", dir.path());
    match Made::new() {
        Some(made) => {
            ours(table, "real cgroups", Path::new("/sys/fs/cgroup"));
            collectd(table, dir.path());
            drop(made);
        }
        None => table.row("1,000 real cgroups", "they cannot be made here", "-"),
    }
}

fn ours(table: &mut Table, what: &str, base: &Path) {
    let program = std::env::current_exe().expect("the benchmark's own program");
    let output = Command::new(program)
        .args([READER, &base.display().to_string(), &SECONDS.to_string()])
        .output()
        .expect("start the reader");
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let micros = format!("{} µs, {} µs without pauses", said["paced_us"], said["hot_us"]);
    table.row(
        &format!("{what}: CPU a cgroup and cycle, {} of them", said["cgroups"]),
        micros,
        "at most 30 µs",
    );
    table.row(
        &format!("{what}: CPU over {SECONDS} s"),
        format!("{} ms", said["paced_ms"]),
        "at most 2000 ms",
    );
    table.row(&format!("{what}: resident"), format!("{} KiB", said["resident_kib"]), "at most 15 MiB");
}

/// Real files of a hybrid host, many times.
fn tree(base: &Path) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/collect/valid/cgroup/hybrid");
    for hierarchy in std::fs::read_dir(fixtures).expect("fixtures").flatten() {
        let from = hierarchy.path().join("docker/c0ffee");
        for at in 0..CGROUPS {
            let to = base.join(hierarchy.file_name()).join(format!("{at:064x}"));
            std::fs::create_dir_all(&to).expect("a folder");
            for file in std::fs::read_dir(&from).expect("fixtures").flatten() {
                std::fs::copy(file.path(), to.join(file.file_name())).expect("copy a fixture");
            }
        }
    }
}

/// Real cgroups, which end with the benchmark.
struct Made(Vec<PathBuf>);

impl Made {
    fn new() -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let layout =
            outrider_collect::detect::Layout::of_mounts(&mounts, Path::new("/sys/fs/cgroup")).ok()?;
        let mut made = Self(Vec::new());
        for point in layout.points() {
            for at in 0..CGROUPS {
                let folder = point.join(format!("outrider-bench-{}-{at}", std::process::id()));
                std::fs::create_dir(&folder).ok()?;
                made.0.push(folder);
            }
        }
        Some(made)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        self.0.iter().for_each(|folder| drop(std::fs::remove_dir(folder)));
    }
}

struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// `cpuacct.stat` of each cgroup, and nothing else.
fn collectd(table: &mut Table, dir: &Path) {
    let what = "collectd, one file a cgroup";
    if !installed("collectd") {
        return table.row(what, "it is not installed (collectd-core)", "-");
    }
    let config = dir.join("collectd.conf");
    let text =
        format!("BaseDir {:?}\nPIDFile \"{}/pid\"\nInterval 1\nLoadPlugin cgroups\n", dir, dir.display());
    std::fs::write(&config, text).expect("its configuration");
    let started = Command::new("collectd")
        .args(["-f", "-C"])
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let child = Ends(started.expect("start collectd"));
    std::thread::sleep(std::time::Duration::from_secs(3));
    let before = cpu_ticks(child.0.id()).unwrap_or_default();
    std::thread::sleep(std::time::Duration::from_secs(SECONDS.into()));
    let ticks = cpu_ticks(child.0.id()).unwrap_or_default() - before;
    let resident = memory_kib(child.0.id(), "VmRSS").unwrap_or_default();
    table.row(what, format!("{} ms over {SECONDS} s, {resident} KiB", ticks * 10), "-");
}
