//! 500 APIs of 100 nodes, each polled once in 60 s: processor time and memory of the program that polls. The nodes are in
//! this process, on ports of their own.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::measure::{OUTRIDER, Table, cpu_ticks, memory_kib};

const NODES: usize = 100;
const APIS: usize = 5;
const SECONDS: u32 = 60;

pub(crate) fn run(table: &mut Table) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let answered = Arc::new(AtomicU64::new(0));
    let nodes: Vec<_> = (0..NODES).map(|_| node(&answered)).collect();
    let apis: Vec<_> = (0..APIS)
        .map(|at| json!({ "name": format!("api{at}"), "level": "node", "path": format!("/{at}"), "split": "all" }))
        .collect();
    let config = json!({
        "apis": [{
            "name": "g", "interval_ms": SECONDS * 1000, "apis": apis,
            "systems": [{ "name": "s", "vdcs": [{ "name": "v", "nodes": nodes }] }],
        }],
        "outputs": [{ "kind": "json_lines", "path": dir.path().join("events"), "file_bytes": 1_048_576 }],
    });
    let path = dir.path().join("collect.json");
    std::fs::write(&path, config.to_string()).expect("the configuration");
    let child = start(dir.path(), &path);
    let pid = child.0.id();
    // The first polls, logins and connections are over.
    std::thread::sleep(Duration::from_secs(SECONDS.into()));
    let (before, asked) = (cpu_ticks(pid).unwrap_or_default(), answered.load(Ordering::Relaxed));
    std::thread::sleep(Duration::from_secs(SECONDS.into()));
    let ticks = cpu_ticks(pid).unwrap_or_default() - before;
    let polls = answered.load(Ordering::Relaxed) - asked;
    let memory = |field| memory_kib(pid, field).unwrap_or_default();
    let what = format!("{APIS} APIs of {NODES} nodes, each once in {SECONDS} s, {polls} polls");
    #[expect(clippy::cast_precision_loss, reason = "ticks of a minute")]
    let percent = ticks as f64 / f64::from(SECONDS);
    table.row(&format!("{what}: CPU"), format!("{percent:.2}% of a core"), "below 1%, 5% while fetching");
    let resident = format!("{} KiB, at most {} KiB", memory("VmRSS"), memory("VmHWM"));
    table.row(&format!("{what}: resident"), resident, "below 20 MiB");
}

struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn start(folder: &Path, config: &Path) -> Ends {
    let started = Command::new(OUTRIDER)
        .args(["collect", "--config"])
        .arg(config)
        .env("OUTRIDER_ROOT", folder.join("root"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Ends(started.expect("start the program"))
}

/// A node that answers ten objects of twenty fields, and its address. Its thread ends with the benchmark.
fn node(answered: &Arc<AtomicU64>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its own address");
    let object: serde_json::Map<_, _> = (0..20).map(|at| (format!("field_{at}"), json!(at * 1000))).collect();
    let body = json!({ "all": vec![object; 10] }).to_string();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let answered = Arc::clone(answered);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (answer, answered) = (answer.clone(), Arc::clone(&answered));
            std::thread::spawn(move || while serve(&stream, &answer, &answered).is_some() {});
        }
    });
    format!("http://{address}")
}

fn serve(mut stream: &TcpStream, answer: &str, answered: &AtomicU64) -> Option<()> {
    let mut head = BufReader::new(stream).lines();
    loop {
        if head.next()?.ok()?.is_empty() {
            break;
        }
    }
    stream.write_all(answer.as_bytes()).ok()?;
    answered.fetch_add(1, Ordering::Relaxed);
    Some(())
}
