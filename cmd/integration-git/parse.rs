//! Commits as git writes them, read from any stream of bytes. Pure: nothing here knows where the bytes come from.
//!
//! Git's output is asked for with `-z`: a sequence of tokens, each ended by a NUL, so that any name is allowed in it.
//!
//! A commit is `c` and its hash, its parents, author (name, e-mail, date), committer (the same), message; then, where
//! it changed files, a line feed; then of each file `:MODE MODE HASH HASH STATUS`, its path, and for a rename its new
//! path; then of each file `ADDED TAB DELETED TAB PATH`, or for a rename `ADDED TAB DELETED TAB`, the old and the new path.
//! Hence the first byte of a token tells what comes, and the end of a commit is seen by the beginning of the next.
//!
//! **Invariant:** what is held in memory is bounded by [`Limits`], however much git writes about one commit.

use std::io::BufRead;

use crate::models::{Commit, FileChange, Signature, Status};
use crate::text::{escaped, is_text, signature, text};
use crate::tokens::{ParseError, Tokens, hash, unexpected};

/// The format that [`Commits`] reads, for git's `--format`.
pub(crate) const COMMIT_FORMAT: &str = "c%H%x00%P%x00%an%x00%ae%x00%ad%x00%cn%x00%ce%x00%cd%x00%B";
/// How much of one commit is kept. Counts and sums take in everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The longest message, in bytes.
    pub(crate) message_bytes: usize,
    /// The most files.
    pub(crate) files: usize,
    /// The most bytes of all their paths.
    pub(crate) path_bytes: usize,
}

impl Default for Limits {
    /// Far above what people commit (the largest known imports have some 100,000 files), far below what a machine
    /// has: a commit at these limits is about 20 MB of JSON.
    fn default() -> Self {
        Self { message_bytes: 1 << 20, files: 100_000, path_bytes: 8 << 20 }
    }
}

/// Reads commits, one after the other.
#[derive(Debug)]
pub(crate) struct Commits<R> {
    tokens: Tokens<R>,
    repo_id: String,
    limits: Limits,
}

impl<R: BufRead> Commits<R> {
    pub(crate) fn new(input: R, repo_id: &str, limits: Limits) -> Self {
        Self { tokens: Tokens::new(input), repo_id: repo_id.to_owned(), limits }
    }

    /// The next commit; nothing at the end. Waits until git has begun to write the one after it, or has ended.
    ///
    /// # Errors
    /// When the stream breaks, ends within a commit, or holds something else.
    pub(crate) fn next(&mut self) -> Result<Option<Commit>, ParseError> {
        match self.tokens.peek()? {
            None => return Ok(None),
            Some(b'c') => {}
            Some(other) => return Err(unexpected(&[other], "the beginning of a commit")),
        }
        let mut commit = self.header()?;
        let changes = self.changes()?;
        commit.additions = changes.additions;
        commit.deletions = changes.deletions;
        commit.files_changed = changes.files.len() as u64 + changes.dropped;
        commit.files_truncated = changes.dropped > 0;
        commit.files = changes.files.into_iter().map(Change::finish).collect();
        Ok(Some(commit))
    }

    fn header(&mut self) -> Result<Commit, ParseError> {
        let sha = self.tokens.whole("the hash of a commit")?;
        let sha = hash(&sha[1..])?;
        let parents = self.tokens.whole("the parents of a commit")?;
        let parents = parents.split(|&byte| byte == b' ').filter(|it| !it.is_empty()).map(hash);
        let parents = parents.collect::<Result<_, _>>()?;
        let author = self.signature()?;
        let committer = self.signature()?;
        let (message, message_truncated) = self.tokens.next(self.limits.message_bytes, "a message")?;
        let mut message = text(&message);
        message.truncate(message.trim_end_matches('\n').len());
        Ok(Commit {
            id: format!("{}@{sha}", self.repo_id),
            repo_id: self.repo_id.clone(),
            sha,
            parents,
            author,
            committer,
            message,
            message_truncated,
            additions: 0,
            deletions: 0,
            files_changed: 0,
            files: Vec::new(),
            files_truncated: false,
        })
    }

    fn signature(&mut self) -> Result<Signature, ParseError> {
        let name = self.tokens.whole("a person's name")?;
        let email = self.tokens.whole("a person's e-mail address")?;
        let date = self.tokens.whole("a date")?;
        Ok(signature(&name, &email, &date))
    }

    fn changes(&mut self) -> Result<Changes, ParseError> {
        self.tokens.skip_line_feed()?;
        let mut changes = Changes::new(self.limits);
        loop {
            match self.tokens.peek()? {
                None | Some(b'c') => return Ok(changes),
                Some(b':') => changes.begin(self.change()?),
                Some(_) => self.count(&mut changes)?,
            }
        }
    }

    /// `:100644 100644 HASH HASH R087`, path, and another path.
    fn change(&mut self) -> Result<Change, ParseError> {
        let line = self.tokens.whole("a change")?;
        let mut parts = line.split(|&byte| byte == b' ');
        let (Some(from), Some(to), Some(_), Some(_), Some(status)) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(unexpected(&line, "`:MODE MODE HASH HASH STATUS`"));
        };
        let mut path = self.tokens.whole("a path")?;
        let mut old_path = None;
        if matches!(status.first(), Some(b'R' | b'C')) {
            old_path = Some(std::mem::replace(&mut path, self.tokens.whole("the new path of a rename")?));
        }
        let similarity = std::str::from_utf8(&status[1..]).ok().and_then(|it| it.parse().ok());
        let submodule = to == b"160000" || (from == b":160000" && to == b"000000");
        Ok(Change { path, old_path, status: kind(status), similarity, submodule, lines: Lines::Unknown })
    }

    /// `12 TAB 3 TAB path`, or `12 TAB 3 TAB`, old path, new path; `-` for the numbers of a binary file.
    fn count(&mut self, changes: &mut Changes) -> Result<(), ParseError> {
        let line = self.tokens.whole("the line count of a file")?;
        let wrong = || unexpected(&line, "`ADDED TAB DELETED TAB PATH`");
        let mut parts = line.splitn(3, |&byte| byte == b'\t');
        let (Some(added), Some(deleted), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wrong());
        };
        let lines = match (added, deleted) {
            (b"-", b"-") => Lines::Binary,
            _ => Lines::Counted {
                added: number(added).ok_or_else(wrong)?,
                deleted: number(deleted).ok_or_else(wrong)?,
            },
        };
        if path.is_empty() {
            self.tokens.whole("the old path of a rename")?;
            let path = self.tokens.whole("the new path of a rename")?;
            changes.count(&path, lines);
        } else {
            changes.count(path, lines);
        }
        Ok(())
    }
}

fn kind(status: &[u8]) -> Status {
    match status.first() {
        Some(b'A') => Status::Added,
        Some(b'D') => Status::Deleted,
        Some(b'M') => Status::Modified,
        Some(b'R') => Status::Renamed,
        Some(b'T') => Status::TypeChanged,
        _ => Status::Other,
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The changes of one commit while they are read.
struct Changes {
    files: Vec<Change>,
    limits: Limits,
    path_bytes: usize,
    /// Changes beyond the limits.
    dropped: u64,
    /// The file whose lines are expected next: git counts them in the order in which it listed them.
    next: usize,
    additions: u64,
    deletions: u64,
}

/// One change while it is read.
struct Change {
    path: Vec<u8>,
    old_path: Option<Vec<u8>>,
    status: Status,
    similarity: Option<u8>,
    submodule: bool,
    lines: Lines,
}

#[derive(Clone, Copy)]
enum Lines {
    Unknown,
    Counted { added: u64, deleted: u64 },
    Binary,
}

impl Changes {
    fn new(limits: Limits) -> Self {
        Self { files: Vec::new(), limits, path_bytes: 0, dropped: 0, next: 0, additions: 0, deletions: 0 }
    }

    fn begin(&mut self, change: Change) {
        let bytes = change.path.len() + change.old_path.as_ref().map_or(0, Vec::len);
        let full = self.files.len() >= self.limits.files || self.path_bytes + bytes > self.limits.path_bytes;
        if full || self.dropped > 0 {
            self.dropped += 1;
            return;
        }
        self.path_bytes += bytes;
        self.files.push(change);
    }

    fn count(&mut self, path: &[u8], lines: Lines) {
        if let Lines::Counted { added, deleted } = lines {
            self.additions += added;
            self.deletions += deleted;
        }
        let rest = &self.files[self.next.min(self.files.len())..];
        if let Some(skipped) = rest.iter().position(|file| file.path == path) {
            self.next += skipped + 1;
            self.files[self.next - 1].lines = lines;
        }
    }
}

impl Change {
    fn finish(self) -> FileChange {
        let escape = !is_text(&self.path) || self.old_path.as_ref().is_some_and(|old| !is_text(old));
        let name = |path: &[u8]| if escape { escaped(path) } else { text(path) };
        let (additions, deletions) = match self.lines {
            Lines::Counted { added, deleted } => (Some(added), Some(deleted)),
            Lines::Unknown | Lines::Binary => (None, None),
        };
        FileChange {
            path: name(&self.path),
            old_path: self.old_path.as_deref().map(name),
            escaped: escape,
            status: self.status,
            similarity: self.similarity,
            additions,
            deletions,
            binary: matches!(self.lines, Lines::Binary),
            submodule: self.submodule,
        }
    }
}
