//! A million objects of 1 KB, and of 200 bytes, from the `mock` integration into the spool, beside the compressors alone.

use std::path::Path;
use std::time::Duration;

use crate::measure::{Ran, Table, installed, mib, rate, ratio, run_export, shell_cpu, size_below, unpacked};

const OBJECTS: u64 = 1_000_000;
/// Each of ours and of theirs; the best counts.
const RUNS: usize = 3;

/// Ten repositories, of which each is an object of its own.
pub(crate) fn config(objects: u64, bytes: usize) -> String {
    let each = objects / 10;
    format!(
        r#"[{{"name":"mock","config":{{"organizations":1,"repos":10,"pull_requests":{each},"object_bytes":{bytes}}}}}]"#
    )
}

pub(crate) fn run(table: &mut Table) {
    for bytes in [1000, 200] {
        one_size(table, bytes);
    }
}

fn one_size(table: &mut Table, object_bytes: usize) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let root = dir.path().join("root");
    let raw = dir.path().join("raw");
    let config = config(OBJECTS, object_bytes);
    let (gzip, size) = exported(&config, "{}", &root);
    unpacked(&root.join("spool"), &raw);
    let bytes = std::fs::metadata(&raw).map(|it| it.len()).unwrap_or_default();
    let peer = fastest(table, &raw, bytes, object_bytes);
    let (zstd, zstd_size) = exported(&config, r#"{"limits":{"zstd_level":1}}"#, &root);
    for (name, ran, size) in [("gzip 1", gzip, size), ("zstd 1", zstd, zstd_size)] {
        let goal = match name {
            "gzip 1" => "at least 80% of the fastest gzip level 1".to_owned(),
            _ => format!("at least {:.0} MB/s, 1.5 × 80% of the fastest gzip level 1", 1.2 * peer),
        };
        let speed = rate(bytes, ran.wall);
        let found = format!(
            "{speed:.0} MB/s, {:.0}% of the fastest gzip; {:.0} MB and {:.0} objects a CPU-second; {:.0} of {:.0} MiB",
            100.0 * speed / peer,
            rate(bytes, ran.cpu),
            ratio(OBJECTS, ran.cpu),
            mib(size),
            mib(bytes)
        );
        table.row(&format!("mock export, {OBJECTS} objects of {object_bytes} B, {name}"), found, &goal);
        let memory =
            format!("{:.0} and {:.0} MiB", mib(ran.action_kib << 10), mib(ran.integration_kib << 10));
        table.row(
            &format!("peak memory of action and integration, {name}"),
            memory,
            "below 60 MiB with the service",
        );
    }
}

/// The best of a few exports: its times, the most memory of any, and the size of the spool.
fn exported(config: &str, agent: &str, root: &Path) -> (Ran, u64) {
    let mut best = Ran { wall: Duration::MAX, cpu: Duration::MAX, action_kib: 0, integration_kib: 0 };
    for _ in 0..RUNS {
        drop(std::fs::remove_dir_all(root));
        let ran = run_export(config, agent, root);
        best.wall = best.wall.min(ran.wall);
        best.cpu = best.cpu.min(ran.cpu);
        best.action_kib = best.action_kib.max(ran.action_kib);
        best.integration_kib = best.integration_kib.max(ran.integration_kib);
    }
    (best, size_below(&root.join("spool")))
}

/// The speed of the fastest gzip level 1 on one core, in MB a CPU-second, since others use the machine as well.
fn fastest(table: &mut Table, raw: &Path, bytes: u64, object_bytes: usize) -> f64 {
    let programs = [
        ("gzip", "gzip -1 -c"),
        ("pigz", "pigz -1 -p 1 -c"),
        ("libdeflate-gzip", "libdeflate-gzip -1 -c"),
        ("igzip", "igzip -1 -c"),
        ("zstd", "zstd -1 -q --single-thread -c"),
    ];
    let mut best = 0_f64;
    let mut all = Vec::new();
    for (program, line) in programs {
        if !installed(program) {
            all.push(format!("`{program}` is not installed"));
            continue;
        }
        let line = format!("{line} < {} > /dev/null", raw.display());
        let took = (0..RUNS).map(|_| shell_cpu(&line)).min().unwrap_or_default();
        let speed = rate(bytes, took);
        all.push(format!("`{program} -1` {speed:.0}"));
        if program != "zstd" {
            best = best.max(speed);
        }
    }
    table.row(
        &format!("compressors alone on the {object_bytes} B objects, MB a CPU-second"),
        all.join(", "),
        "",
    );
    best
}
