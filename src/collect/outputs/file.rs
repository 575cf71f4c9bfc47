//! A file of JSON lines: rotated by size, the older ones bounded by count.
//!
//! # Invariants
//! - It holds whole lines: what a full disk took in part is cut off again, and so is what a killed process left.
//! - It is opened for each batch, so that a file that was moved away or deleted is begun anew.
//! - It is for its owner only. Lines are not synced: the system decides when they are on the disk.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// How much is read at once to find the end of the last whole line, in bytes.
const PIECE: u64 = 64 << 10;

/// Which file, and its bounds.
#[derive(Debug, Clone)]
pub(crate) struct Rotated {
    pub(crate) path: PathBuf,
    pub(crate) file_bytes: u64,
    pub(crate) files_kept: u32,
}

impl Rotated {
    /// Adds lines at the end; begins the next file where they would make this one too large.
    ///
    /// # Errors
    /// When a file cannot be opened, moved or written; then none of the lines is in it.
    pub(crate) fn append(&self, lines: &[u8]) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = open(&self.path)?;
        let mut length = whole_lines(&mut file)?;
        if length > 0 && length + lines.len() as u64 > self.file_bytes {
            drop(file);
            self.rotate()?;
            file = open(&self.path)?;
            length = file.metadata()?.len();
        }
        file.seek(SeekFrom::Start(length))?;
        file.write_all(lines).inspect_err(|_| {
            // Where even this fails, the next batch cuts it off.
            drop(file.set_len(length));
        })
    }

    fn rotate(&self) -> io::Result<()> {
        if self.files_kept == 0 {
            return std::fs::remove_file(&self.path);
        }
        for number in (1..self.files_kept).rev() {
            match std::fs::rename(numbered(&self.path, number), numbered(&self.path, number + 1)) {
                Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
                _ => {}
            }
        }
        std::fs::rename(&self.path, numbered(&self.path, 1))
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// Cuts off what comes after the last line, and answers how long the file is then.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut end = length;
    let mut piece = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(PIECE);
        file.seek(SeekFrom::Start(start))?;
        piece.clear();
        Read::by_ref(file).take(end - start).read_to_end(&mut piece)?;
        if let Some(at) = piece.iter().rposition(|it| *it == b'\n') {
            end = start + at as u64 + 1;
            break;
        }
        end = start;
    }
    if end < length {
        file.set_len(end)?;
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn files_are_bounded_by_size_and_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/samples");
        let file = Rotated { path: path.clone(), file_bytes: 10, files_kept: 2 };
        for line in ["1234\n", "5678\n", "9\n", "longer than a file\n", "x\n", "y\n"] {
            file.append(line.as_bytes()).unwrap();
        }
        assert_eq!(text(&path), "x\ny\n");
        assert_eq!(text(&numbered(&path, 1)), "longer than a file\n");
        assert_eq!(text(&numbered(&path, 2)), "9\n");
        assert_eq!(std::fs::read_dir(dir.path().join("made")).unwrap().count(), 3, "the oldest is gone");
    }

    #[test]
    fn none_kept_is_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = Rotated { path: dir.path().join("s"), file_bytes: 4, files_kept: 0 };
        ["12\n", "34\n"].iter().for_each(|it| file.append(it.as_bytes()).unwrap());
        assert_eq!((text(&file.path), std::fs::read_dir(dir.path()).unwrap().count()), ("34\n".into(), 1));
    }

    #[test]
    fn what_a_killed_process_left_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let file = Rotated { path: dir.path().join("s"), file_bytes: 1 << 30, files_kept: 1 };
        let torn = "x".repeat(200_000);
        for (before, after) in [("1\n{\"ti", "1\n2\n"), (&*torn, "2\n"), ("1\n", "1\n2\n")] {
            std::fs::write(&file.path, before).unwrap();
            file.append(b"2\n").unwrap();
            assert_eq!(text(&file.path), after);
        }
    }

    #[test]
    fn a_file_that_was_moved_away_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let file = Rotated { path: dir.path().join("s"), file_bytes: 1 << 30, files_kept: 1 };
        file.append(b"1\n").unwrap();
        std::fs::rename(&file.path, dir.path().join("moved")).unwrap();
        file.append(b"2\n").unwrap();
        assert_eq!(text(&file.path), "2\n");
    }

    #[test]
    fn a_disk_without_room_costs_no_line_that_was_there() {
        // Writes to this device always find it full.
        let file = Rotated { path: "/dev/full".into(), file_bytes: 1 << 30, files_kept: 1 };
        assert_eq!(file.append(b"1\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
