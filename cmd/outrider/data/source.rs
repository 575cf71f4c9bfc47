//! Which files there are to look at, and their records one run of lines after the other.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;

use outrider_home::Root;
use outrider_protocol::exit::Exit;
use outrider_protocol::fault::chain;
use outrider_spool::{Listing, Place, StoredFile, list_received, list_spool};

use super::args::Which;
use super::{Ended, note};
use crate::report::Error;

/// A file, and the agent that sent it where it lies at a backend.
#[derive(Debug)]
pub(super) struct File {
    pub(super) agent: Option<String>,
    pub(super) stored: StoredFile,
}

/// The files that were asked for.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) files: Vec<File>,
    /// Whether everything could be looked into; what could not be is told already.
    pub(super) whole: bool,
}

/// Finds the files.
pub(super) fn find(root: &Root, which: &Which) -> Result<Source, Error> {
    let mut source = Source { whole: true, ..Source::default() };
    let mut there = There::default();
    match &which.dir {
        None => {
            let listing = list_spool(&root.spool()).map_err(|err| Error::failure(&err))?;
            there.note(&listing, which);
            source.take(None, listing, which);
        }
        Some(dir) => {
            for agent in agents(dir)? {
                if begins(&agent, which.agent.as_deref()) {
                    let listing = list_received(&dir.join("exports").join(&agent));
                    let listing = listing.map_err(|err| Error::failure(&err))?;
                    there.note(&listing, which);
                    source.take(Some(&agent), listing, which);
                }
            }
        }
    }
    if there.named == 0 {
        note(&there.told(which.dir.as_deref().unwrap_or(&root.spool())));
    }
    Ok(source)
}

/// What there is, for those who asked for something else.
#[derive(Debug, Default)]
struct There {
    files: usize,
    /// Of these, the files of the export, the model and the integration that were asked for.
    named: usize,
    exports: BTreeSet<String>,
    models: BTreeSet<String>,
}

/// Names of one kind that are told.
const NAMES: usize = 10;

impl There {
    fn note(&mut self, listing: &Listing, which: &Which) {
        self.files += listing.files.len();
        self.named += listing.files.iter().filter(|it| is_named(it, which)).count();
        for file in &listing.files {
            self.exports.insert(file.export.clone());
            self.models.insert(file.model.clone());
        }
    }

    fn told(&self, place: &Path) -> String {
        if self.files == 0 {
            return format!("no file of an export is in {}", place.display());
        }
        let some = |names: &BTreeSet<String>| {
            // The latest exports come last.
            let mut told: Vec<_> = names.iter().rev().take(NAMES).map(String::as_str).collect();
            told.reverse();
            let more = if names.len() > NAMES {
                format!(" and {} more", names.len() - NAMES)
            } else {
                String::new()
            };
            told.join(", ") + &more
        };
        format!(
            "none of the {} files in {} is what was asked for; there are the models {} and the exports {}",
            self.files,
            place.display(),
            some(&self.models),
            some(&self.exports)
        )
    }
}

/// The agents of which a backend's data folder holds exports: `<dir>/exports/<agent>/<export>/<model>/`.
fn agents(dir: &Path) -> Result<Vec<String>, Error> {
    let exports = dir.join("exports");
    let read = std::fs::read_dir(&exports).and_then(|entries| {
        let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect::<std::io::Result<Vec<String>>>()
    });
    let mut agents = read.map_err(|err| {
        Error::usage(format!("--dir {}: list the folder {}: {err}", dir.display(), exports.display()))
            .hint("name the data folder of an outrider-backend, the one that holds outrider.db")
    })?;
    agents.sort();
    Ok(agents)
}

fn begins(id: &str, wanted: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| id.starts_with(wanted))
}

fn is_named(file: &StoredFile, which: &Which) -> bool {
    begins(&file.export, which.export.as_deref())
        && which.model.as_ref().is_none_or(|it| *it == file.model)
        && which.integration.as_ref().is_none_or(|it| Some(it) == file.origin.as_ref())
}

impl Source {
    fn take(&mut self, agent: Option<&str>, listing: Listing, which: &Which) {
        for err in &listing.failed {
            self.whole = false;
            note(&chain(err));
        }
        let wanted = listing.files.into_iter().filter(|file| {
            is_named(file, which)
                && !(which.sent && file.place != Place::Sent)
                && !(which.waiting && file.place == Place::Sent)
        });
        self.files.extend(wanted.map(|stored| File { agent: agent.map(str::to_owned), stored }));
    }

    /// Hands the records of all files to `visit`, in runs of whole lines, until it breaks off. A file that cannot be read to
    /// its end is told, and the next one follows.
    pub(super) fn read(
        &self,
        mut visit: impl FnMut(&File, &[u8]) -> Result<ControlFlow<()>, Ended>,
    ) -> Result<Exit, Ended> {
        let mut whole = self.whole;
        for file in &self.files {
            let mut records = match file.stored.open() {
                Ok(Some(records)) => records,
                Ok(None) => {
                    let StoredFile { export, model, number, .. } = &file.stored;
                    note(&format!(
                        "file {number} of {model} of the export {export} was acknowledged and removed meanwhile, and is left out"
                    ));
                    continue;
                }
                Err(err) => {
                    whole = false;
                    note(&chain(&err));
                    continue;
                }
            };
            loop {
                match records.next_lines() {
                    Ok(Some(lines)) => {
                        if visit(file, lines)?.is_break() {
                            return Ok(outcome(whole));
                        }
                    }
                    Ok(None) => break,
                    Err(err) => {
                        whole = false;
                        note(&chain(&err));
                        break;
                    }
                }
            }
            if let Some(end) = records.cut() {
                let path = records.path().display();
                note(&format!(
                    "{path} is being written: read up to byte {end}, the end of what is committed"
                ));
            }
        }
        Ok(outcome(whole))
    }
}

/// The exit status of work that saw everything, or not.
pub(super) fn outcome(whole: bool) -> Exit {
    if whole { Exit::Ok } else { Exit::Failure }
}

/// The records in a run of lines.
pub(super) fn each(lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = lines;
    std::iter::from_fn(move || {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len().checked_sub(1)?);
        let (line, after) = rest.split_at(end + 1);
        rest = after;
        Some(line.strip_suffix(b"\n").unwrap_or(line))
    })
}
