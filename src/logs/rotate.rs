//! The log file of a process that runs for months: rotated by size.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A log file that is renamed to `NAME.1` when it is full, `NAME.1` to `NAME.2`, and so on; the oldest is removed.
#[derive(Debug)]
pub struct RotatingFile {
    path: PathBuf,
    file: File,
    size: u64,
    max_bytes: u64,
    kept: u32,
}

impl RotatingFile {
    /// Opens the file to go on writing at its end. It is rotated before it would hold more than `max_bytes`, and
    /// `kept` older ones stay.
    ///
    /// # Errors
    /// When the file cannot be made or opened.
    pub fn open(path: impl Into<PathBuf>, max_bytes: u64, kept: u32) -> io::Result<Self> {
        let path = path.into();
        let file = open(&path)?;
        let size = file.metadata()?.len();
        Ok(Self { path, file, size, max_bytes, kept })
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.kept == 0 {
            self.file.set_len(0)?;
        } else {
            for number in (1..self.kept).rev() {
                let older = self.numbered(number + 1);
                rename_if_there(&self.numbered(number), &older)?;
            }
            rename_if_there(&self.path, &self.numbered(1))?;
            self.file = open(&self.path)?;
        }
        self.size = 0;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    crate::open_private(path, File::options().create(true).append(true))
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl Write for RotatingFile {
    /// Takes all of `line`, so that a line never stands in two files.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let size = line.len() as u64;
        if self.size > 0 && self.size + size > self.max_bytes {
            self.rotate()?;
        }
        self.file.write_all(line)?;
        self.size += size;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_moves_up_and_the_oldest_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("service-run");
        let mut file = RotatingFile::open(&path, 20, 2).unwrap();
        for number in 0..10 {
            file.write_all(format!("line {number}\n").as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("service-run"), "line 8\nline 9\n");
        assert_eq!(read("service-run.1"), "line 6\nline 7\n");
        assert_eq!(read("service-run.2"), "line 4\nline 5\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_restart_goes_on_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("service-run");
        for number in 0..3 {
            let mut file = RotatingFile::open(&path, 100, 1).unwrap();
            file.write_all(format!("start {number}\n").as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "start 0\nstart 1\nstart 2\n");
    }
}
