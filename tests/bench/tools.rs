//! The same objects through the tools that people use: records a CPU-second, beside an export with its source.
//!
//! The tools come by pip into a virtual environment below `target/`, once. What cannot be installed is left out, with a note.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::export::config;
use crate::measure::{Table, ratio, run_export, shell, shell_cpu, unpacked};

/// Of ours.
const OBJECTS: u64 = 200_000;
/// Of theirs, which are slower.
const THEIRS: usize = 20_000;

pub(crate) fn run(table: &mut Table) {
    for bytes in [1000, 200] {
        one_size(table, bytes);
    }
}

fn one_size(table: &mut Table, object_bytes: usize) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let root = dir.path().join("root");
    let ran = run_export(&config(OBJECTS, object_bytes), "{}", &root);
    let ours = ratio(OBJECTS, ran.cpu);
    let raw = dir.path().join("raw");
    unpacked(&root.join("spool"), &raw);
    let stored = r#"{"limits":{"gzip_level":0}}"#;
    let ran = run_export(&config(OBJECTS, object_bytes), stored, &dir.path().join("stored"));
    let stored = ratio(OBJECTS, ran.cpu);
    let records = dir.path().join("records");
    // One model, since a tool takes one schema.
    shell(&format!("grep '\"repo_id\"' {0} | head -n {THEIRS} > {1}", raw.display(), records.display()));
    for (files, ours, tools) in [("plain", stored, PLAIN.as_slice()), ("compressed", ours, &COMPRESSED)] {
        let mut best = 0_f64;
        let mut all = Vec::new();
        for (name, tool) in tools {
            match tool(dir.path(), &records) {
                Ok(speed) => {
                    best = best.max(speed);
                    all.push(format!("{name} {speed:.0}"));
                }
                Err(why) => all.push(format!("{name}: {why}")),
            }
        }
        let goal = if best > 0.0 {
            format!("{:.0} = 15 × the best of the tools", 15.0 * best)
        } else {
            "15 × the best of the tools, and none is there".into()
        };
        let times = if best > 0.0 { format!(", {:.0} ×", ours / best) } else { String::new() };
        table.row(
            &format!("records of {object_bytes} B a CPU-second into {files} files, source included"),
            format!("{ours:.0}{times}; {}", all.join(", ")),
            &goal,
        );
    }
}

type Tool = fn(&Path, &Path) -> Result<f64, String>;

/// Those whose files are as large as the records.
const PLAIN: [(&str, Tool); 2] =
    [("Singer target-jsonl", target_jsonl), ("Meltano, tap and target-jsonl", meltano)];
/// Those whose files are like an export's.
const COMPRESSED: [(&str, Tool); 2] =
    [("Singer target-jsonl and `gzip -1`", target_jsonl_gzip), ("dlt to jsonl.gz", dlt)];

/// Singer's messages from a file, so that the tap costs next to nothing.
fn target_jsonl(dir: &Path, records: &Path) -> Result<f64, String> {
    target(dir, records, "true")
}

/// With what makes the same of it as an export is: compressed files.
fn target_jsonl_gzip(dir: &Path, records: &Path) -> Result<f64, String> {
    target(dir, records, "gzip -1 -k *")
}

fn target(dir: &Path, records: &Path, then: &str) -> Result<f64, String> {
    let program = venv("target-jsonl")?.with_file_name("target-jsonl");
    let messages = messages(dir, records);
    let out = emptied(dir.join("singer"))?;
    let took = shell_cpu(&format!(
        "cd {} && {} < {} > /dev/null 2>&1 && {then}",
        out.display(),
        program.display(),
        messages.display()
    ));
    complete(&out, took)
}

/// The records as messages of Singer.
fn messages(dir: &Path, records: &Path) -> PathBuf {
    let messages = dir.join("messages");
    shell(&format!(
        r#"(echo '{{"type":"SCHEMA","stream":"pr","schema":{{"type":"object"}},"key_properties":[]}}'; sed 's/.*/{{"type":"RECORD","stream":"pr","record":&}}/' {}) > {}"#,
        records.display(),
        messages.display()
    ));
    messages
}

fn emptied(folder: PathBuf) -> Result<PathBuf, String> {
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(&folder).map_err(|err| err.to_string())?;
    Ok(folder)
}

/// The speed, when every record is there.
fn complete(out: &Path, took: Duration) -> Result<f64, String> {
    let written = lines_below(out);
    if written == THEIRS as u64 {
        Ok(ratio(written, took))
    } else {
        Err(format!("wrote {written} of {THEIRS} records"))
    }
}

/// A project of one tap that prints the messages, and the same target.
fn meltano(dir: &Path, records: &Path) -> Result<f64, String> {
    let program = venv("meltano")?.with_file_name("meltano");
    let target = venv("target-jsonl")?.with_file_name("target-jsonl");
    let project = emptied(dir.join("meltano"))?;
    let out = emptied(dir.join("meltano-out"))?;
    let tap = project.join("tap.sh");
    shell(&format!(
        "printf '#!/bin/sh\nexec cat {}\n' > {1} && chmod +x {1}",
        messages(dir, records).display(),
        tap.display()
    ));
    let file = format!(
        "project_id: bench\nsend_anonymous_usage_stats: false\ndefault_environment: dev\n\
         environments:\n- name: dev\nplugins:\n  extractors:\n  - name: tap-file\n    namespace: tap_file\n    \
         executable: {}\n    capabilities: []\n  loaders:\n  - name: target-jsonl\n    namespace: target_jsonl\n    \
         executable: {}\n    config:\n      destination_path: {}\n",
        tap.display(),
        target.display(),
        out.display()
    );
    std::fs::write(project.join("meltano.yml"), file).map_err(|err| err.to_string())?;
    let took = shell_cpu(&format!(
        "cd {} && {} run tap-file target-jsonl > {}/meltano.log 2>&1",
        project.display(),
        program.display(),
        dir.display()
    ));
    complete(&out, took)
}

/// A resource that reads the file, and the file system as destination.
fn dlt(dir: &Path, records: &Path) -> Result<f64, String> {
    let python = venv("dlt[filesystem]")?;
    let script = dir.join("dlt_export.py");
    let out = dir.join("dlt");
    std::fs::write(
        &script,
        format!(
            "import json, dlt\n\
             def rows():\n    \
                 for line in open({records:?}):\n        \
                     yield json.loads(line)\n\
             p = dlt.pipeline('bench', destination=dlt.destinations.filesystem(bucket_url={out:?}), \
             dataset_name='d', pipelines_dir={state:?})\n\
             p.run(rows(), table_name='pr', loader_file_format='jsonl')\n",
            records = records.display().to_string(),
            out = out.display().to_string(),
            state = dir.join("dlt-state").display().to_string(),
        ),
    )
    .map_err(|err| err.to_string())?;
    let line = format!(
        "RUNTIME__DLTHUB_TELEMETRY=false {} {} > {}/dlt.log 2>&1",
        python.display(),
        script.display(),
        dir.display()
    );
    let took = shell_cpu(&line);
    let found = dir.join("dlt-count");
    shell(&format!("find {}/d/pr -type f | xargs -r zcat -f | wc -l > {}", out.display(), found.display()));
    let written = std::fs::read_to_string(found).ok().and_then(|it| it.trim().parse().ok()).unwrap_or(0);
    if written == THEIRS as u64 {
        Ok(ratio(written, took))
    } else {
        Err(format!("wrote {written} of {THEIRS} records"))
    }
}

/// Lines of the plain files in a folder.
fn lines_below(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .filter(|it| it.path().extension().is_none_or(|it| it != "gz"))
        .filter_map(|it| std::fs::read(it.path()).ok())
        .map(|it| it.iter().filter(|b| **b == b'\n').count() as u64)
        .sum()
}

/// The Python of a virtual environment that has a package.
fn venv(package: &str) -> Result<PathBuf, String> {
    let name: String = package.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench-tools").join(name);
    let (python, done) = (dir.join("bin/python"), dir.join("installed"));
    if !done.exists() {
        let quiet = |command: &mut Command| {
            let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
            status.is_ok_and(|it| it.success())
        };
        if !quiet(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir)) {
            return Err("python3 makes no virtual environment".into());
        }
        if !quiet(Command::new(&python).args(["-m", "pip", "install", "-q", package])) {
            return Err("pip does not install it".into());
        }
        std::fs::write(done, "").map_err(|err| err.to_string())?;
    }
    Ok(python)
}
