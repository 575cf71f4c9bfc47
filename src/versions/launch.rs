//! The launcher: what the system starts. It finishes what was cut short, counts a start of a version on trial, and becomes
//! `outrider`.
//!
//! Whatever goes wrong with the journal, the lock or the disk, it runs something if anything complete is there: a machine
//! without its agent cannot even say what is wrong.

mod exec;

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::decide::{Act, back};
use crate::error::VersionsError;
use crate::layout::Link;
use crate::links;
use crate::name::VersionName;
use crate::versions::Versions;

pub use exec::{launch, main, stands_in};

/// The exit status for wrong arguments.
pub const EXIT_USAGE: u8 = 64;
/// The exit status when no complete version is there.
pub const EXIT_NOTHING: u8 = 70;
/// The exit status when no version could be started.
pub const EXIT_NOT_STARTED: u8 = 71;

/// How long to wait for the writer's lock, which others hold for a moment only.
const WAIT: Duration = Duration::from_secs(5);

/// What to start.
#[derive(Debug)]
pub struct Start {
    /// The version.
    pub version: VersionName,
    /// Its program.
    pub program: PathBuf,
    /// Whether it is on trial: a start that fails was counted, and the next [`prepare`] may answer another version.
    pub on_trial: bool,
    /// The program that is to watch the trial: that of the version known good.
    pub watcher: Option<PathBuf>,
    /// What went wrong and did not keep it from running something.
    pub troubles: Vec<VersionsError>,
}

/// There is no complete version in a root.
#[derive(Debug)]
pub struct NothingToRun {
    /// The folder where one was expected.
    pub versions: PathBuf,
    /// What went wrong on the way.
    pub troubles: Vec<VersionsError>,
}

impl fmt::Display for NothingToRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let folder = self.versions.display();
        write!(f, "run outrider: expected a complete version in {folder}, found none; install it again")
    }
}

impl Error for NothingToRun {}

/// Finishes what was cut short and says what to start. A start on trial is counted, durably, when this returns.
///
/// # Errors
/// [`NothingToRun`], and nothing else: every other trouble is told beside the answer.
pub fn prepare(versions: &Versions) -> Result<Start, NothingToRun> {
    // Told here, since they may be set aside before anybody else looks.
    let mut troubles: Vec<_> = versions.slot_faults().into_iter().map(VersionsError::Slot).collect();
    match settle(versions, &mut troubles) {
        Ok(Act::Run(version)) => Ok(start(versions, version, troubles)),
        Ok(Act::Try(version, _)) => {
            let watcher = watcher(versions);
            Ok(Start { on_trial: true, watcher, ..start(versions, version, troubles) })
        }
        Ok(_) => Err(NothingToRun { versions: versions.layout.versions(), troubles }),
        Err(err) => {
            troubles.push(err);
            match candidates(versions).into_iter().next() {
                Some(version) => Ok(start(versions, version, troubles)),
                None => Err(NothingToRun { versions: versions.layout.versions(), troubles }),
            }
        }
    }
}

fn start(versions: &Versions, version: VersionName, troubles: Vec<VersionsError>) -> Start {
    let program = versions.layout.program(&version);
    Start { version, program, on_trial: false, watcher: None, troubles }
}

fn settle(versions: &Versions, troubles: &mut Vec<VersionsError>) -> Result<Act, VersionsError> {
    let writer = versions.write(WAIT)?;
    let act = writer.settle();
    troubles.extend(writer.take_troubles());
    let act = act?;
    if let Act::Try(_, counted) = &act
        && let Err(err) = writer.count(counted)
    {
        // It is run all the same: the way back would have to write as well.
        troubles.push(err);
    }
    Ok(act)
}

fn watcher(versions: &Versions) -> Option<PathBuf> {
    let seen = versions.see().ok()?;
    let version = back(&seen, seen.journal.record()?)?;
    Some(versions.layout.program(version))
}

/// What may be run without a change of anything, best first: `current`, `previous`, then the newest of the others, those that
/// failed here last: where nothing else can be started, one of them may. An error on the way counts as nothing there.
pub(crate) fn candidates(versions: &Versions) -> Vec<VersionName> {
    let (fs, layout) = (&*versions.fs, &versions.layout);
    let mut candidates = Vec::new();
    for link in [Link::Current, Link::Previous] {
        if let Ok(links::Points::To(version)) = links::points(fs, layout, link)
            && links::is_whole(fs, layout, &version).unwrap_or(false)
            && !candidates.contains(&version)
        {
            candidates.push(version);
        }
    }
    let tree = links::tree(fs, layout).unwrap_or_default();
    let mut others: Vec<_> = tree.versions.into_iter().filter(|it| !candidates.contains(it)).collect();
    others.sort_by_cached_key(|it| (!matches!(versions.verdict(it), Ok(None)), std::cmp::Reverse(it.age())));
    candidates.extend(others);
    candidates
}

#[cfg(test)]
#[path = "launch_tests.rs"]
mod tests;
