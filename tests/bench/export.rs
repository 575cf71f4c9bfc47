//! A million objects of 500 bytes from the `mock` integration into the spool, beside gzip level 1 alone.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::measure::{
    OUTRIDER, Table, best, descendants, installed, memory_kib, mib, rate, shell, size_below,
};

const OBJECTS: u64 = 1_000_000;
/// One pull request is one object; a repository of its own is another.
const CONFIG: &str =
    r#"[{"name":"mock","config":{"organizations":1,"repos":10,"pull_requests":100000,"object_bytes":500}}]"#;

pub(crate) fn run(table: &mut Table) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut took = Duration::MAX;
    let mut peak = 0;
    for n in 0..3 {
        let root = dir.path().join(format!("root-{n}"));
        let (time, memory) = export(&root);
        took = took.min(time);
        peak = peak.max(memory);
        if n > 0 {
            std::fs::remove_dir_all(&root).expect("remove a root");
        }
    }
    let spool = dir.path().join("root-0/spool");
    let raw = dir.path().join("raw");
    shell(&format!(
        "find {} -name '*.json.gz' | sort | xargs cat | gzip -dc > {}",
        spool.display(),
        raw.display()
    ));
    let bytes = std::fs::metadata(&raw).map(|it| it.len()).unwrap_or_default();
    let ours = rate(bytes, took);
    let peers = single_streams(&raw, bytes);
    let ratios: Vec<_> = peers
        .iter()
        .map(|(name, rate)| format!("{:.0}% of {name} ({rate:.0} MB/s)", 100.0 * ours / rate))
        .collect();
    table.row(
        &format!(
            "mock export, {OBJECTS} objects, {:.0} MiB in, {:.0} MiB out",
            mib(bytes),
            mib(size_below(&spool))
        ),
        format!("{ours:.0} MB/s: {}", ratios.join(", ")),
        "at least 60% of the best single-stream gzip level 1",
    );
    table.row(
        "peak memory of action and integration together",
        format!("{:.0} MiB", mib(peak << 10)),
        "below 60 MiB with the service",
    );
}

/// One export by hand: how long it took, and the most memory its processes had, in KiB.
fn export(root: &Path) -> (Duration, u64) {
    let started = Instant::now();
    let mut child = Command::new(OUTRIDER)
        .args(["export", "--integrations-json", CONFIG, "--root"])
        .arg(root)
        .stdout(Stdio::null())
        .spawn()
        .expect("start the export");
    let mut peaks = std::collections::HashMap::new();
    loop {
        for pid in descendants(child.id()) {
            if let Some(kib) = memory_kib(pid, "VmHWM") {
                peaks.insert(pid, kib);
            }
        }
        if let Some(status) = child.try_wait().expect("a status") {
            assert!(status.success(), "the export failed");
            return (started.elapsed(), peaks.values().sum());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Gzip level 1 on one thread, fastest first: installed programs, and the library that reads the spool in Outrider.
fn single_streams(raw: &Path, bytes: u64) -> Vec<(String, f64)> {
    let programs = [
        ("gzip", "gzip -1 -c"),
        ("pigz", "pigz -1 -p 1 -c"),
        ("libdeflate-gzip", "libdeflate-gzip -1 -c"),
        ("igzip", "igzip -1 -c"),
    ];
    let mut all: Vec<(String, f64)> = programs
        .iter()
        .filter(|(program, _)| installed(program))
        .map(|(_, line)| {
            let took = best(3, || shell(&format!("{line} < {} > /dev/null", raw.display())));
            (format!("`{line}`"), rate(bytes, took))
        })
        .collect();
    let took = best(3, || {
        let mut file = std::fs::File::open(raw).expect("the raw objects");
        let mut gzip = flate2::write::GzEncoder::new(std::io::sink(), flate2::Compression::new(1));
        std::io::copy(&mut file, &mut gzip).expect("compress");
        gzip.finish().expect("compress");
    });
    all.push(("zlib-rs level 1".into(), rate(bytes, took)));
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all
}
