//! Ten million objects that the backend has: what the store of them takes, and how fast they are left out.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use outrider_home::unchanged::{Delivery, Known, Scope, SessionMarks};
use outrider_home::{Checkpoints, Root, Unchanged};
use outrider_protocol::ids::{ExportId, IntegrationId, Model};
use outrider_spool::{Settings, Spool};

use crate::measure::{OUTRIDER, Table, cpu_ticks, memory_kib, mib, size_below};

const OBJECTS: u32 = 10_000_000;
const SESSION: u32 = 100_000;
/// Objects of the export by hand: one repository of its own for each 100,000 pull requests.
const EXPORTED: u32 = 1_000_000;

pub(crate) fn run(table: &mut Table) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    store(table, &Root::at(dir.path().join("store")));
    export(table, &dir.path().join("root"));
}

fn store(table: &mut Table, root: &Root) {
    root.create().expect("a root");
    let alone = Checkpoints::open(root, Duration::from_secs(1)).expect("the store of checkpoints");
    let (integration, model) =
        (IntegrationId::new("git").expect("an id"), Model::new("a.B").expect("a model"));
    let scope = Scope::new(&integration, &model);
    let open = |run: &str| {
        let export = ExportId::new(run).expect("an id");
        let (store, warnings) = Unchanged::open(root, &alone, &export, &|_, _| Delivery::Acknowledged);
        assert!(warnings.is_empty(), "{warnings:?}");
        store
    };
    let hash = |n: u32| format!("{n:016x}");
    let first = open("e1");
    for start in (0..OBJECTS).step_by(SESSION as usize) {
        let mut session = SessionMarks::default();
        for n in start..start + SESSION {
            let mark = scope.mark(&format!("object-{n}"), Some(&hash(n)));
            first.accept(mark, Known::New, &mut session);
        }
        first.committed(&model, session);
    }
    drop(first);
    let started = Instant::now();
    let second = open("e2");
    let merged = started.elapsed();
    let size = size_below(&root.unchanged());
    let bytes = f64::from(u32::try_from(size / 1000).unwrap_or(u32::MAX)) * 1000.0 / f64::from(OBJECTS);
    table.row(
        &format!("store of {OBJECTS} unchanged objects on disk, merged in {:.1} s", merged.as_secs_f64()),
        format!("{bytes:.1} bytes an object, {:.0} MiB", mib(size)),
        "below 64 bytes an object",
    );
    let (started, ticks) = (Instant::now(), own_ticks());
    let known = (0..OBJECTS)
        .filter(|n| {
            // In an order that has nothing to do with that of the keys: they are hashes.
            second.look_up(scope.mark(&format!("object-{n}"), Some(&hash(*n)))) == Known::Unchanged
        })
        .count();
    assert_eq!(known, OBJECTS as usize, "the store forgot something");
    let wall = started.elapsed().as_secs_f64();
    // 100 ticks a second, on every Linux.
    let cpu = f64::from(own_ticks().saturating_sub(ticks).max(1)) / 100.0;
    table.row(
        "lookups in it on one core, hashing included",
        format!("{:.0}/s, {:.0} a CPU-second", f64::from(OBJECTS) / wall, f64::from(OBJECTS) / cpu),
        "at least 200,000/s",
    );
    let peak = memory_kib(std::process::id(), "VmHWM").unwrap_or_default();
    table.row(
        "peak memory of the process that did all that",
        format!("{:.0} MiB", mib(peak << 10)),
        "bounded",
    );
}

/// The same through integration and action: a second export of which nothing is sent.
fn export(table: &mut Table, root: &Path) {
    let config = format!(
        r#"[{{"name":"mock","config":{{"organizations":1,"repos":10,"pull_requests":{},"object_bytes":200,"skip_unchanged":true}}}}]"#,
        EXPORTED / 10
    );
    let export = || {
        let started = Instant::now();
        let mut command = Command::new(OUTRIDER);
        command.args(["export", "--integrations-json", &config, "--root"]).arg(root).stdout(Stdio::null());
        assert!(command.status().expect("start the export").success(), "the export failed");
        started.elapsed()
    };
    export();
    // As after an upload.
    let spool = Spool::open(root.join("spool"), Settings::default()).expect("open the spool");
    for file in spool.pending().expect("look into the spool").files {
        spool.acknowledge(&file).expect("acknowledge a file");
    }
    std::fs::remove_dir_all(root.join("spool/sent")).expect("remove what was sent");
    let merging = export();
    assert_eq!(size_of_models(root), 0, "something was sent that is known");
    let took = export().min(merging);
    table.row(
        &format!("export by hand of {EXPORTED} unchanged objects of 200 bytes, the mock's work included"),
        format!("{:.0} objects/s", f64::from(EXPORTED) / took.as_secs_f64()),
        "at least 200,000/s",
    );
}

/// The bytes of all models' files in the spool.
fn size_of_models(root: &Path) -> u64 {
    let exports = std::fs::read_dir(root.join("spool")).into_iter().flatten().flatten();
    let models = exports.flat_map(|export| std::fs::read_dir(export.path()).into_iter().flatten().flatten());
    models.filter(|model| model.path().is_dir()).map(|model| size_below(&model.path())).sum()
}

/// User and system time of this process so far.
fn own_ticks() -> u32 {
    cpu_ticks(std::process::id()).and_then(|it| u32::try_from(it).ok()).unwrap_or_default()
}
