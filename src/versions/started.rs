//! Which process a version on trial runs as. Whoever takes the version back may have to end one that never came as far as
//! to take the root, and cannot be found by what it holds.

use std::fs;
use std::path::Path;

use crate::error::FileError;
use crate::fs::{Fs, if_there};
use crate::layout::Layout;
use crate::versions::Versions;

/// The longest note that is read, in bytes.
const LIMIT: usize = 256;
/// Where the state and the start time of a process stand in what the system says of it, behind its name.
const STATE: usize = 0;
const START: usize = 19;

/// Notes this process: it is about to become the program of a version on trial.
pub(crate) fn note(fs: &dyn Fs, layout: &Layout) -> Result<(), FileError> {
    let pid = std::process::id();
    let Some(start) = start_of(pid) else { return Ok(()) };
    let path = layout.started();
    fs.write(&path, format!("{pid} {start}\n").as_bytes()).map_err(FileError::at("write", &path))
}

impl Versions {
    /// The process that the version on trial was started as last, while it runs.
    #[must_use]
    pub fn started(&self) -> Option<u32> {
        let bytes = if_there(self.fs.read(&self.layout.started(), LIMIT)).ok()??;
        let (pid, start) = std::str::from_utf8(&bytes).ok()?.trim().split_once(' ')?;
        let pid = pid.parse().ok()?;
        (start_of(pid)? == start).then_some(pid)
    }
}

/// When a process was started, in ticks since the start of the machine: its number may be given to another one later.
/// Nothing for one that has ended, or where the system does not tell.
fn start_of(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The name is in parentheses, and may have some itself.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.nth(STATE)?;
    let start = fields.nth(START - STATE - 1)?;
    (!matches!(state, "Z" | "X" | "x")).then(|| start.to_owned())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_while_it_runs_and_no_other_is_taken_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let versions = Versions::of(dir.path());
        assert_eq!(versions.started(), None);
        fs::create_dir(versions.layout().upgrade()).unwrap();
        note(&*versions.fs, versions.layout()).unwrap();
        let own = std::process::id();
        assert_eq!(versions.started(), Some(own));
        let start: u64 = start_of(own).unwrap().parse().unwrap();
        for (pid, start) in [(own, start + 1), (u32::MAX, start)] {
            fs::write(versions.layout().started(), format!("{pid} {start}\n")).unwrap();
            assert_eq!(versions.started(), None, "{pid} {start}");
        }
        for text in ["", "x", "1", "-1 2", "\u{0}"] {
            fs::write(versions.layout().started(), text).unwrap();
            assert_eq!(versions.started(), None, "{text:?}");
        }
    }
}
