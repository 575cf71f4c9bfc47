//! The system that starts the launcher again whenever what it started has ended, and the agent's processes in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::SOON;

/// The agent's processes of a root, by their command lines.
pub(super) fn processes(root: &Path, wanted: impl Fn(&str) -> bool) -> Vec<u32> {
    let ours = |pid: &u32| {
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let line = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        // What the launcher starts is told its root by a variable only.
        let environment = String::from_utf8_lossy(&read("environ")).into_owned();
        let root = format!("{}", root.display());
        let named = |text: &str| {
            text.match_indices(&root)
                .any(|(at, it)| !text[at + it.len()..].starts_with(|it: char| it.is_alphanumeric()))
        };
        (named(&line) || named(&environment)) && wanted(&line)
    };
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok()).filter(ours).collect()
}

/// Kills everything of a root's agent. A process in the middle of an `exec` has no command line and is not seen, so it is
/// looked for until several looks in a row have found nothing.
pub(super) fn kill_below(root: &Path) {
    let (mut empty, started) = (0, Instant::now());
    while empty < 3 {
        assert!(started.elapsed() < SOON, "what runs below {} cannot be killed", root.display());
        let found = processes(root, |_| true);
        empty = if found.is_empty() { empty + 1 } else { 0 };
        kill(&found);
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(super) fn kill(pids: &[u32]) {
    if pids.is_empty() {
        return;
    }
    let pids = pids.iter().map(ToString::to_string);
    drop(Command::new("kill").arg("-9").args(pids).output());
}

/// What starts the launcher, and starts it again.
pub(super) struct System {
    stop: Arc<AtomicBool>,
    pid: Arc<AtomicU32>,
    /// Held at each start.
    starts: Arc<Mutex<()>>,
    thread: Option<JoinHandle<()>>,
}

impl System {
    pub(super) fn start(root: &Path, variables: &[(&str, PathBuf)]) -> Self {
        let variables: Vec<_> = variables.iter().map(|(name, it)| ((*name).to_owned(), it.clone())).collect();
        let (stop, pid) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let starts = Arc::new(Mutex::new(()));
        let (stopped, started, root) = (stop.clone(), pid.clone(), root.to_owned());
        let gate = starts.clone();
        let thread = std::thread::spawn(move || {
            let out = fs::File::options().create(true).append(true).open(root.join("system.out")).unwrap();
            while !stopped.load(Ordering::SeqCst) {
                let mut launcher = Command::new(root.join("outrider-launcher"));
                launcher.arg("--root").arg(&root).arg("service-run").envs(variables.clone());
                launcher
                    .stdin(Stdio::null())
                    .stdout(out.try_clone().unwrap())
                    .stderr(out.try_clone().unwrap());
                let mut child = {
                    let _start = gate.lock().unwrap();
                    launcher.spawn().unwrap()
                };
                started.store(child.id(), Ordering::SeqCst);
                drop(child.wait());
                // As a system's pause between two starts.
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Self { stop, pid, starts, thread: Some(thread) }
    }

    /// Starts nothing for as long as this is held.
    pub(super) fn hold(&self) -> MutexGuard<'_, ()> {
        self.starts.lock().unwrap()
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let started = Instant::now();
        while self.thread.as_ref().is_some_and(|it| !it.is_finished()) {
            // 0 would be everybody of this process's group.
            let pid = self.pid.load(Ordering::SeqCst);
            if pid > 0 {
                kill(&[pid]);
            }
            assert!(started.elapsed() < Duration::from_secs(30), "the service does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(self.thread.take().map(JoinHandle::join));
    }
}
