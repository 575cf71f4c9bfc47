//! What is kept of a version that was taken back, for a person: beside the note that it is not tried again.
//!
//! **Invariant:** what it answered is written last and appears as a whole, so where that is, all is; watcher and service may
//! keep the same diagnosis at once.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use outrider_home::Root;

/// The logs whose ends are kept.
const LOGS: [&str; 3] = ["service-run", "watch", "upgrade"];
/// What it answered; each diagnosis has it.
const HEALTH: &str = "health";
/// The most of each file, in bytes.
const FILE_MOST: u64 = 1 << 20;

/// What is to be kept of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// Where.
    pub folder: PathBuf,
    /// The logs whose ends are kept: name and file.
    pub logs: Vec<(&'static str, PathBuf)>,
    /// What it answered when it was asked how it is, a line each.
    pub health: String,
    /// Its process, of which is kept what the system says of it.
    pub pid: Option<u32>,
}

impl Diagnosis {
    /// One with the logs of a root, and with no process.
    #[must_use]
    pub fn of(root: &Root, folder: PathBuf, health: String) -> Self {
        let logs = LOGS.map(|name| (name, root.log_file(name))).into();
        Self { folder, logs, health, pid: None }
    }

    /// Whether there is one in a folder, with all that there was to keep.
    #[must_use]
    pub fn is_kept(folder: &Path) -> bool {
        folder.join(HEALTH).exists()
    }

    /// Writes all that there is, and answers what went wrong.
    #[must_use]
    pub fn keep(&self) -> Vec<String> {
        let folder = &self.folder;
        let mut faults = Vec::new();
        let mut note = |what: &Path, done: io::Result<()>| {
            if let Err(err) = done {
                faults.push(format!("{}: {err}", what.display()));
            }
        };
        note(folder, private_folder(folder));
        for (name, path) in &self.logs {
            match end_of(path) {
                Ok(end) => note(path, write(&folder.join(name), &end)),
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                Err(err) => note(path, Err(err)),
            }
        }
        if let Some(pid) = self.pid {
            let status = PathBuf::from(format!("/proc/{pid}/status"));
            let kept = beginning_of(&status).and_then(|it| write(&folder.join("process"), &it));
            note(&status, kept);
        }
        let health = folder.join(HEALTH);
        note(&health, write_whole(&health, self.health.as_bytes()));
        faults
    }
}

fn private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
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
        let line = end.iter().position(|it| *it == b'\n').map_or(0, |it| it + 1);
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
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(bytes)
}

/// Under another name first, which no other process takes.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension(format!("{}.new", std::process::id()));
    write(&new, bytes)?;
    std::fs::rename(&new, path)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_long_logs_are_kept_in_whole_lines_and_what_is_missing_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let line = "a line of the log that says something\n";
        std::fs::write(&log, line.repeat(100_000)).unwrap();
        let logs = vec![("service-run", log), ("watch", dir.path().join("none"))];
        let folder = dir.path().join("upgrade/failed/2.0.0-b");
        assert!(!Diagnosis::is_kept(&folder));
        let pid = Some(std::process::id());
        let diagnosis = Diagnosis { folder: folder.clone(), logs, health: "asked\n".into(), pid };
        assert_eq!(diagnosis.keep(), Vec::<String>::new());
        assert!(Diagnosis::is_kept(&folder));
        let kept = std::fs::read_to_string(folder.join("service-run")).unwrap();
        assert!(kept.len() as u64 <= FILE_MOST && kept.len() as u64 > FILE_MOST - 100);
        assert!(kept.starts_with(line) && kept.ends_with(line));
        assert!(!folder.join("watch").exists());
        assert!(std::fs::read_to_string(folder.join("process")).unwrap().contains("State:"));
        assert_eq!(std::fs::read_to_string(folder.join("health")).unwrap(), "asked\n");
        let nowhere = Diagnosis { folder: folder.join("health"), pid: Some(u32::MAX), ..diagnosis };
        let faults = nowhere.keep();
        assert!(faults.len() >= 3 && faults[0].contains("health"), "{faults:?}");
    }

    #[test]
    fn what_it_answered_comes_last_and_whole() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (folder, log) = (dir.path().to_owned(), other.path().join("log"));
        // More than a pipe holds, so that whoever writes it waits for the reader.
        std::fs::write(&log, "a line\n".repeat(100_000)).unwrap();
        let pipe = folder.join("service-run");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let logs = vec![("service-run", log)];
        let diagnosis = Diagnosis { folder: folder.clone(), logs, health: "asked\n".into(), pid: None };
        let again = Diagnosis { health: "asked again\n".into(), logs: Vec::new(), ..diagnosis.clone() };
        let keeps = std::thread::spawn(move || diagnosis.keep());
        let mut read = File::open(&pipe).unwrap();
        assert!(!Diagnosis::is_kept(&folder), "not all is there");
        read.read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(keeps.join().unwrap(), Vec::<String>::new());
        assert!(Diagnosis::is_kept(&folder));
        let mut first = File::open(folder.join("health")).unwrap();
        assert_eq!(again.keep(), Vec::<String>::new());
        let mut text = String::new();
        first.read_to_string(&mut text).unwrap();
        assert_eq!(text, "asked\n", "another one took its place");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2);
    }
}
