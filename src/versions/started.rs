//! Which process a version on trial runs as. Whoever takes the version back may have to end one that never came as far as
//! to take the root, and cannot be found by what it holds.
//!
//! The note names the process by its number, by when it was started, and by which start of the machine that was: the first
//! two may be another one's after a restart. It is removed with the end of the trial.

use std::fs;
use std::path::Path;

use crate::clock::BootId;
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
pub(crate) fn note(versions: &Versions) -> Result<(), FileError> {
    let pid = std::process::id();
    let Some(start) = start_of(pid) else { return Ok(()) };
    let path = versions.layout.started();
    let text = format!("{pid} {start} {}\n", this_boot(versions));
    versions.fs.write(&path, text.as_bytes()).map_err(FileError::at("write", &path))
}

/// Removes the note; it need not be there.
pub(crate) fn forget(fs: &dyn Fs, layout: &Layout) -> Result<(), FileError> {
    let path = layout.started();
    if_there(fs.remove(&path)).map(drop).map_err(FileError::at("remove", &path))
}

impl Versions {
    /// The process that the version on trial was started as last, while it runs.
    #[must_use]
    pub fn started(&self) -> Option<u32> {
        let bytes = if_there(self.fs.read(&self.layout.started(), LIMIT)).ok()??;
        let mut words = std::str::from_utf8(&bytes).ok()?.strip_suffix('\n')?.splitn(3, ' ');
        let (pid, start, boot) = (words.next()?.parse().ok()?, words.next()?, words.next()?);
        (start_of(pid)? == start && this_boot(self).0 == boot).then_some(pid)
    }
}

/// Empty where the system does not tell.
fn this_boot(versions: &Versions) -> BootId {
    versions.now().map(|it| it.boot).unwrap_or_default()
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
        note(&versions).unwrap();
        let own = std::process::id();
        assert_eq!(versions.started(), Some(own));
        let start: u64 = start_of(own).unwrap().parse().unwrap();
        let boot = versions.now().unwrap().boot;
        let another = BootId("another".into());
        for (pid, start, boot) in [(own, start + 1, &boot), (u32::MAX, start, &boot), (own, start, &another)]
        {
            fs::write(versions.layout().started(), format!("{pid} {start} {boot}\n")).unwrap();
            assert_eq!(versions.started(), None, "{pid} {start} {boot}");
        }
        for text in ["", "x", "1", "-1 2 3", "\u{0}", &format!("{own} {start}\n")] {
            fs::write(versions.layout().started(), text).unwrap();
            assert_eq!(versions.started(), None, "{text:?}");
        }
    }
}
