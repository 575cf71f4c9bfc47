//! The log file of an action or an integration: it holds the last run only.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use outrider_protocol::log::LogLine;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

use crate::QUEUE_LINES;

/// A log file of one run. Cheap to clone; all clones write to the same file.
#[derive(Debug, Clone)]
pub struct RunLog {
    queue: NonBlocking,
    worker: Arc<Mutex<Option<WorkerGuard>>>,
}

impl RunLog {
    /// Begins the file anew. It holds at most `max_bytes` and one closing line that says how many did not fit. Should
    /// another run still write to the file of this name, that run keeps it, without its name.
    ///
    /// # Errors
    /// When the file cannot be made or emptied.
    pub fn create(path: &Path, max_bytes: u64) -> io::Result<Self> {
        // Emptied after it is open, so that a refusal leaves the log of the last run as it was.
        let open = || crate::open_private(path, File::options().create(true).write(true).truncate(false));
        let mut file = open()?;
        if !mark(&file) {
            std::fs::remove_file(path)?;
            file = open()?;
            mark(&file);
        }
        file.set_len(0)?;
        let lost = Arc::new(OnceLock::new());
        let writer = Capped::new(file, max_bytes, lost.clone());
        let (queue, worker) = NonBlockingBuilder::default()
            .buffered_lines_limit(QUEUE_LINES)
            .thread_name("run-log")
            .finish(writer);
        // Set before the first line can be written; it cannot be set twice.
        drop(lost.set(queue.error_counter()));
        Ok(Self { queue, worker: Arc::new(Mutex::new(Some(worker))) })
    }

    /// Whether a run of this or another process writes to the file now.
    #[must_use]
    pub fn is_written(path: &Path) -> bool {
        File::open(path).is_ok_and(|file| !mark(&file))
    }

    /// Writes a line. Never waits: a line that finds the queue full is dropped and counted.
    pub fn write_line(&self, line: &LogLine) {
        let text = format!("{line}\n");
        // The queue takes every line or counts it; it has no error to tell.
        drop(self.queue.clone().write_all(text.as_bytes()));
    }

    /// Puts every line that was written into the file, and ends it. Waits for the disk, a second at most. Lines that
    /// come later are dropped.
    pub fn close(&self) {
        drop(self.worker.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// Marks a file as being written, until it is closed. Answers whether nobody else had marked it.
#[cfg(unix)]
fn mark(file: &File) -> bool {
    // A file system without locks has nobody to collide with that could be told.
    !matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock))
}

/// A locked file could not be read by anybody here, so nobody is told apart.
#[cfg(not(unix))]
fn mark(_file: &File) -> bool {
    true
}

/// A file with a cap. Beyond it, lines are only counted, and a last line with the count is kept up to date.
struct Capped {
    file: BufWriter<File>,
    max: u64,
    written: u64,
    left_out: u64,
    said_left_out: u64,
    /// Lines that found the queue full.
    lost: Arc<OnceLock<ErrorCounter>>,
    said_lost: usize,
    /// Lines that the disk refused.
    failed: u64,
}

impl Capped {
    fn new(file: File, max: u64, lost: Arc<OnceLock<ErrorCounter>>) -> Self {
        let file = BufWriter::new(file);
        Self { file, max, written: 0, left_out: 0, said_left_out: 0, lost, said_lost: 0, failed: 0 }
    }

    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        let size = line.len() as u64;
        if self.left_out > 0 || self.written + size > self.max {
            self.left_out += 1;
            return Ok(());
        }
        self.file.write_all(line).inspect_err(|_| self.failed += 1)?;
        self.written += size;
        Ok(())
    }

    /// Says what the queue or the disk swallowed before this line.
    fn say_lost(&mut self) -> io::Result<()> {
        let lost = self.lost.get().map_or(0, ErrorCounter::dropped_lines);
        if lost > self.said_lost {
            let count = lost - self.said_lost;
            self.said_lost = lost;
            self.line(
                format!("… {count} lines dropped here: they came faster than the disk took them\n")
                    .as_bytes(),
            )?;
        }
        let failed = std::mem::take(&mut self.failed);
        if failed > 0 {
            let text = format!("… {failed} lines dropped here: the disk refused them\n");
            return self.line(text.as_bytes()).inspect_err(|_| self.failed = failed);
        }
        Ok(())
    }

    /// Writes the closing line over the one before it, so that its count is always the latest.
    fn say_left_out(&mut self) -> io::Result<()> {
        if self.left_out == self.said_left_out {
            return Ok(());
        }
        self.file.seek(SeekFrom::Start(self.written))?;
        let (count, max) = (self.left_out, self.max);
        writeln!(
            self.file,
            "… {count} more lines dropped: the file may hold {max} bytes (limits.log_file_bytes)"
        )?;
        self.said_left_out = count;
        Ok(())
    }
}

impl Write for Capped {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.say_lost()?;
        self.line(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.say_lost()?;
        self.say_left_out()?;
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use outrider_protocol::log::{Fields, Level};

    use super::*;

    fn line(message: &str) -> LogLine {
        LogLine {
            time: "2026-11-21T08:00:00Z".parse().unwrap(),
            level: Level::Info,
            source: "git".into(),
            message: message.into(),
            fields: Fields::new(),
        }
    }

    #[cfg(unix)]
    #[test]
    fn two_runs_at_once_do_not_garble_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mock");
        let first = RunLog::create(&path, 1 << 20).unwrap();
        first.write_line(&line("the first"));
        assert!(RunLog::is_written(&path));
        let second = RunLog::create(&path, 1 << 20).unwrap();
        first.write_line(&line("the first again"));
        second.write_line(&line("the second"));
        first.close();
        second.close();
        assert!(!RunLog::is_written(&path));
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{}\n", line("the second")));
    }

    #[test]
    fn the_last_line_is_in_the_file_after_close_and_the_run_before_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("export");
        std::fs::write(&path, "an older run\n").unwrap();
        let log = RunLog::create(&path, 1 << 20).unwrap();
        for number in 0..100 {
            log.write_line(&line(&format!("line {number}")));
        }
        log.close();
        log.write_line(&line("too late"));
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 100);
        assert!(text.ends_with("INFO  git: line 99\n"), "{text}");
    }

    #[cfg(unix)]
    #[test]
    fn a_log_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("export");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        RunLog::create(&path, 1024).unwrap().close();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_flood_is_cut_at_the_cap_and_the_last_line_says_how_much_was_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("export");
        let file = File::create(&path).unwrap();
        let mut capped = Capped::new(file, 100, Arc::default());
        for number in 0..20 {
            capped.write_all(format!("line {number:04}\n").as_bytes()).unwrap();
            capped.flush().unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 11, "{text}");
        assert!(text.contains("line 0009\n… 10 more lines dropped"), "{text}");
        assert!(text.len() < 200, "{text}");
    }

    #[test]
    fn lines_that_found_the_queue_full_are_said_in_their_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("export");
        let (stuck, _worker) = NonBlockingBuilder::default().buffered_lines_limit(1).finish(Stuck);
        let lost = Arc::new(OnceLock::new());
        drop(lost.set(stuck.error_counter()));
        for _ in 0..5 {
            stuck.clone().write_all(b"x\n").unwrap();
        }
        let expected = stuck.error_counter().dropped_lines();
        assert!(expected >= 3);
        let mut capped = Capped::new(File::create(&path).unwrap(), 1000, lost);
        capped.write_all(b"after\n").unwrap();
        capped.flush().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            format!("… {expected} lines dropped here: they came faster than the disk took them\nafter\n")
        );
    }

    /// A disk that never answers.
    struct Stuck;

    impl Write for Stuck {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            loop {
                std::thread::park();
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
