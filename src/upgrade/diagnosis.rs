//! What is kept of a version that was taken back, for a person: beside the note that it is not tried again.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use outrider_versions::Record;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::watcher::Watcher;

/// The logs whose ends are kept.
const LOGS: [&str; 3] = ["service-run", "watch", "upgrade"];
/// The most of each file, in bytes.
const FILE_MOST: u64 = 1 << 20;
/// How long it may take: a disk that hangs must not keep a bad version running.
const TIME: Duration = Duration::from_secs(5);

impl Watcher {
    /// Keeps the diagnosis of an attempt, once: the ends of the logs, what the service answered in the last minute, and what
    /// the system says of its process. What cannot be kept is logged, and nothing more.
    pub(super) async fn diagnose(&mut self, record: &Record, pid: Option<u32>) {
        if self.diagnosed.as_ref() == Some(&record.attempt) {
            return;
        }
        self.diagnosed = Some(record.attempt.clone());
        let folder = self.versions.layout().diagnosis(&record.to);
        let logs = LOGS.map(|name| (name, self.root.log_file(name)));
        let mut answers: String = self.answers.iter().map(|(_, line)| format!("{line}\n")).collect();
        if answers.is_empty() {
            answers = "It was not asked.\n".to_owned();
        }
        let keep = spawn_blocking(move || keep(&folder, &logs, &answers, pid));
        match timeout(TIME, keep).await {
            Ok(Ok(faults)) if faults.is_empty() => tracing::info!("The diagnosis is kept."),
            Ok(Ok(faults)) => tracing::warn!(faults = faults.join("; "), "The diagnosis is not whole."),
            Ok(Err(err)) => tracing::error!(%err, "The diagnosis is not kept."),
            Err(_) => tracing::error!(?TIME, "The diagnosis is not kept: the disk does not answer in time."),
        }
    }
}

/// Writes all that there is, and answers what went wrong.
fn keep(folder: &Path, logs: &[(&str, PathBuf)], answers: &str, pid: Option<u32>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut note = |what: &Path, done: io::Result<()>| {
        if let Err(err) = done {
            faults.push(format!("{}: {err}", what.display()));
        }
    };
    note(folder, private_folder(folder));
    for (name, path) in logs {
        match end_of(path) {
            Ok(end) => note(path, write(&folder.join(name), &end)),
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            Err(err) => note(path, Err(err)),
        }
    }
    let health = folder.join("health");
    note(&health, write(&health, answers.as_bytes()));
    if let Some(pid) = pid {
        let status = PathBuf::from(format!("/proc/{pid}/status"));
        let kept = beginning_of(&status).and_then(|it| write(&folder.join("process"), &it));
        note(&status, kept);
    }
    faults
}

fn private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

/// The last lines of a file.
fn end_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let from = size.saturating_sub(FILE_MOST);
    file.seek(SeekFrom::Start(from))?;
    let mut end = Vec::new();
    file.take(FILE_MOST).read_to_end(&mut end)?;
    if from > 0 {
        let line = memchr::memchr(b'\n', &end).map_or(0, |it| it + 1);
        end.drain(..line);
    }
    Ok(end)
}

fn beginning_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.create(true).write(true).truncate(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_long_logs_are_kept_in_whole_lines_and_what_is_missing_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let line = "a line of the log that says something\n";
        std::fs::write(&log, line.repeat(100_000)).unwrap();
        let logs = [("service-run", log), ("watch", dir.path().join("none"))];
        let folder = dir.path().join("upgrade/failed/2.0.0-b");
        assert_eq!(keep(&folder, &logs, "asked\n", Some(std::process::id())), Vec::<String>::new());
        let kept = std::fs::read_to_string(folder.join("service-run")).unwrap();
        assert!(kept.len() as u64 <= FILE_MOST && kept.len() as u64 > FILE_MOST - 100);
        assert!(kept.starts_with(line) && kept.ends_with(line));
        assert!(!folder.join("watch").exists());
        assert!(std::fs::read_to_string(folder.join("process")).unwrap().contains("State:"));
        assert_eq!(std::fs::read_to_string(folder.join("health")).unwrap(), "asked\n");
        let faults = keep(&folder.join("health"), &logs, "", Some(u32::MAX));
        assert!(faults.len() >= 3 && faults[0].contains("health"), "{faults:?}");
    }
}
