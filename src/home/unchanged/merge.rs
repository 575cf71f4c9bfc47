//! Marks that the backend has acknowledged become a run; runs of like size become one.

use std::iter::Peekable;
use std::path::Path;
use std::{io, mem};

use super::mark::Mark;
use super::pending::PendingFile;
use super::run::{self, Run};
use super::{PART, marks};
use crate::atomic::FileError;

/// Marks that are sorted in memory at once: 12 MiB.
const CHUNK_MARKS: usize = 512 << 10;
/// A run is merged with a newer one that is at least this part of it. Few runs to look into, and each mark is written
/// again a few times in its life.
const GROWTH: u64 = 8;

type Source<'a> = Box<dyn Iterator<Item = io::Result<Mark>> + 'a>;

/// How many of the newest runs are merged with `fresh` new marks; `runs` are the sizes of all, the newest first.
pub(super) fn absorbed(runs: &[u64], fresh: u64) -> usize {
    let mut total = fresh;
    let grows = |size: &&u64| {
        let merged = **size <= total.saturating_mul(GROWTH);
        total += **size;
        merged
    };
    runs.iter().take_while(grows).count()
}

/// The marks of files, sorted: in part as runs of their own below `folder`, the last of them in memory.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    chunks: Vec<Run>,
    memory: Vec<Mark>,
}

impl Sorted {
    /// Reads files, of which a later one overrides an earlier one.
    pub(super) fn read(files: &[PendingFile], folder: &Path) -> Result<Self, FileError> {
        let mut all = Self::default();
        for file in files {
            let as_known = |mark: Mark| if file.in_doubt { Mark::doubt(mark.key) } else { mark };
            marks::read(&file.path, &mut |mark| all.push(as_known(mark), folder))?;
        }
        sort(&mut all.memory);
        Ok(all)
    }

    fn push(&mut self, mark: Mark, folder: &Path) -> Result<(), FileError> {
        self.memory.push(mark);
        if self.memory.len() == CHUNK_MARKS {
            sort(&mut self.memory);
            let path = folder.join(format!("{PART}chunk-{}", self.chunks.len()));
            let chunk = run::write(&path, self.memory.drain(..).map(Ok))?;
            self.chunks.push(chunk);
        }
        Ok(())
    }

    /// How many there are at most.
    pub(super) fn len(&self) -> u64 {
        self.memory.len() as u64 + self.chunks.iter().map(|it| it.marks).sum::<u64>()
    }

    /// Merges these marks and runs, the newest first. `oldest`: there is no older run, so that marks of doubt, which
    /// only hide older ones, can go.
    pub(super) fn merged<'a>(
        &'a self,
        runs: &'a [Run],
        oldest: bool,
    ) -> impl Iterator<Item = io::Result<Mark>> {
        let memory: Source<'a> = Box::new(self.memory.iter().copied().map(Ok));
        let chunks = self.chunks.iter().rev().map(|it| Box::new(it.stream()) as Source<'a>);
        let runs = runs.iter().map(|it| Box::new(it.stream()) as Source<'a>);
        let sources = [memory].into_iter().chain(chunks).chain(runs).map(Iterator::peekable).collect();
        Merged { sources }.filter(move |it| !oldest || it.as_ref().map_or(true, |mark| !mark.is_doubt()))
    }
}

impl Drop for Sorted {
    fn drop(&mut self) {
        for chunk in mem::take(&mut self.chunks) {
            // What stays is removed by the next opening.
            drop(std::fs::remove_file(chunk.path));
        }
    }
}

/// Sorts by key; of marks of one key the last stays.
fn sort(marks: &mut Vec<Mark>) {
    marks.sort_by_key(|mark| mark.key);
    marks.dedup_by(|later, earlier| {
        let same = later.key == earlier.key;
        if same {
            *earlier = *later;
        }
        same
    });
}

/// Several sorted sources as one; of marks of one key that of the first source stays.
struct Merged<'a> {
    sources: Vec<Peekable<Source<'a>>>,
}

impl Iterator for Merged<'_> {
    type Item = io::Result<Mark>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut least: Option<(usize, Mark)> = None;
        for (at, source) in self.sources.iter_mut().enumerate() {
            match source.peek() {
                None => {}
                Some(Err(_)) => return source.next(),
                Some(Ok(mark)) => match least {
                    Some((_, first)) if first.key == mark.key => drop(source.next()),
                    Some((_, first)) if first.key < mark.key => {}
                    _ => least = Some((at, *mark)),
                },
            }
        }
        self.sources[least?.0].next()
    }
}
