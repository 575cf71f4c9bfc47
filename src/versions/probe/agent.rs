//! For tests: an agent on a real disk that is told to upgrade, and whatever takes part in that.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use outrider_versions::{
    Duty, Layout, Phase, Record, Told, VersionName, Versions, VersionsError, duties, launch,
};

pub(crate) const OLD: &str = "1.0.0-ffffffff";
pub(crate) const NEW: &str = "2.0.0-aaaaaaaa";
/// The files of a version.
const FILES: [&str; 3] = ["outrider", "manifest.yaml", "integrations/integration-mock"];
const WAIT: Duration = Duration::from_secs(2);

type Outcome<T> = Result<T, Box<dyn Error>>;

pub(crate) fn name(text: &str) -> VersionName {
    text.parse().unwrap_or_else(|_| unreachable!("{text}"))
}

fn content(version: &VersionName, file: &str) -> String {
    format!("#!/bin/sh\n# {file} of {version}\n")
}

/// Writes all files of a version to a folder.
pub(crate) fn unpack(tree: &Path, version: &VersionName) -> std::io::Result<()> {
    std::fs::create_dir_all(tree.join("integrations"))?;
    FILES.iter().try_for_each(|file| std::fs::write(tree.join(file), content(version, file)))
}

/// Whether all files of a version are in a folder, unchanged.
pub(crate) fn is_whole(tree: &Path, version: &VersionName) -> bool {
    FILES
        .iter()
        .all(|file| std::fs::read_to_string(tree.join(file)).is_ok_and(|it| it == content(version, file)))
}

fn staged(layout: &Layout) -> PathBuf {
    layout.staging().join(NEW)
}

/// Starts and serves until nothing is left to do. A version that is not good crashes at each start.
pub(crate) fn run(root: &Path, good: bool) -> Outcome<()> {
    let versions = Versions::of(root);
    loop {
        let start = launch::prepare(&versions)?;
        if !is_whole(&versions.layout().version(&start.version), &start.version) {
            return Err(format!("{} is not whole", start.version).into());
        }
        if let Some(trouble) = start.troubles.into_iter().next() {
            return Err(trouble.into());
        }
        if !good && start.version == name(NEW) {
            continue;
        }
        order(&versions)?;
        let seen = versions.see()?;
        let Some(duty) = duties(&seen).first().copied() else { return Ok(()) };
        let writer = versions.write(WAIT)?;
        match duty {
            Duty::GoOn(phase) => {
                drop(writer);
                go_on(&versions, phase)?;
            }
            Duty::Watch => drop(writer.commit()?),
            Duty::Settle => drop(writer.settle()?),
            Duty::Tell => {
                for record in writer.untold()? {
                    writer.tell(&record.attempt, Told::Acknowledged)?;
                }
            }
            Duty::Prune => drop(writer.prune(&[])?),
        }
    }
}

/// The backend's order, which it repeats.
fn order(versions: &Versions) -> Outcome<()> {
    let wish = Record::new("attempt".into(), "command".into(), name(OLD), name(NEW));
    match versions.write(WAIT)?.begin(wish) {
        Ok(_) | Err(VersionsError::AlreadyCurrent { .. } | VersionsError::FailedHere { .. }) => Ok(()),
        Err(err) => Err(err.into()),
    }
}

fn go_on(versions: &Versions, phase: Phase) -> Outcome<()> {
    let (layout, new) = (versions.layout(), name(NEW));
    let writer = versions.write(WAIT)?;
    match phase {
        Phase::Requested => drop(writer.enter(Phase::Fetching, None)?),
        Phase::Fetching => drop(writer.enter(Phase::Verified, None)?),
        Phase::Verified => {
            unpack(&staged(layout), &new)?;
            writer.enter(Phase::Staged, None)?;
        }
        Phase::Staged if is_whole(&layout.version(&new), &new) => {
            drop(writer.enter(Phase::Armed, None)?);
        }
        Phase::Staged if is_whole(&staged(layout), &new) => drop(writer.place(&staged(layout), &new)?),
        Phase::Staged => drop(writer.enter(Phase::Fetching, None)?),
        _ => drop(writer.switch()?),
    }
    Ok(())
}
