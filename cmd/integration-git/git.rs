//! A repository as git tells of it: what it is, its refs, which commits are new. Everything here blocks.

use std::collections::HashSet;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use crate::error::{GitError, OLDEST_GIT, explain};
use crate::models::Repo;
use crate::process::{Place, Running, Stop};
use crate::text::{version, without_credentials};
use crate::tokens::ParseError;

/// The longest list of cut-off commits that is read, in bytes: 100,000 of them.
const SHALLOW_BYTES: u64 = 4_100_000;

/// The version of git.
///
/// # Errors
/// When there is no git, or it is too old.
pub(crate) fn git_version(stop: &Stop) -> Result<String, GitError> {
    let path = std::env::temp_dir();
    let place = Place { folder: path.clone(), stop: stop.clone() };
    let said =
        place.ask(&["version"]).map_err(|err| GitError::Run { path: path.clone(), err })?.unwrap_or_default();
    match version(&said) {
        Some((found, number)) if number >= OLDEST_GIT => Ok(found),
        Some((found, _)) => Err(GitError::TooOld { found }),
        None => Err(GitError::Answer { what: "the version", path, found: said }),
    }
}

/// A repository that is known to be one.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    place: Place,
    /// What it is known by, where that is not its path.
    known_as: Option<String>,
    bare: bool,
    shallow_file: PathBuf,
    object_format: String,
}

impl Repository {
    /// Finds the repository at `path`.
    ///
    /// # Errors
    /// When there is none, or git may not read it.
    pub(crate) fn open(path: &Path, stop: &Stop) -> Result<Self, GitError> {
        let folder =
            std::fs::canonicalize(path).map_err(|err| GitError::NoFolder { path: path.into(), err })?;
        if !folder.is_dir() {
            return Err(GitError::NotAFolder { path: path.into() });
        }
        let place = Place { folder: plain(folder), stop: stop.clone() };
        let args = ["rev-parse", "--is-bare-repository", "--show-object-format", "--git-path", "shallow"];
        let said = place.ask(&args).map_err(|err| explain(&place.folder, err))?.unwrap_or_default();
        let mut lines = said.splitn(3, '\n');
        let (Some(bare), Some(format), Some(shallow)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(GitError::Answer { what: "the kind", path: place.folder, found: said });
        };
        let (bare, object_format) = (bare == "true", format.to_owned());
        let shallow_file = place.folder.join(shallow);
        Ok(Self { place, known_as: None, bare, shallow_file, object_format })
    }

    /// The same as the clone of an address.
    pub(crate) fn known_as(self, address: &str) -> Self {
        Self { known_as: Some(address.to_owned()), ..self }
    }

    /// The repository's id: the address that it is a clone of, or its real path.
    pub(crate) fn id(&self) -> String {
        self.known_as.clone().unwrap_or_else(|| self.place.folder.to_string_lossy().into_owned())
    }

    /// The address of the remote `origin`.
    ///
    /// # Errors
    /// When git fails.
    pub(crate) fn remote(&self) -> Result<Option<String>, GitError> {
        let said = self.place.ask(&["config", "--get", "remote.origin.url"]);
        said.map_err(|err| explain(&self.place.folder, err))
    }

    /// Lets HEAD name a branch. For clones of our own.
    ///
    /// # Errors
    /// When git fails.
    pub(crate) fn set_head(&self, branch: &str) -> Result<(), GitError> {
        self.run(&["symbolic-ref", "HEAD", branch], Vec::new()).map(drop)
    }

    /// What the repository says of itself. `empty` is for the caller to find out.
    ///
    /// # Errors
    /// When git fails.
    pub(crate) fn describe(&self, name: String, shallow: bool, empty: bool) -> Result<Repo, GitError> {
        let ask = |args: &[&str]| self.place.ask(args).map_err(|err| explain(&self.place.folder, err));
        let head = ask(&["symbolic-ref", "--quiet", "HEAD"])?;
        let remote = self.remote()?;
        Ok(Repo {
            id: self.id(),
            name,
            default_branch: head.and_then(|it| Some(it.strip_prefix("refs/heads/")?.to_owned())),
            remote_url: remote.map(|it| without_credentials(&it)),
            bare: self.bare,
            shallow,
            empty,
            object_format: self.object_format.clone(),
        })
    }

    /// The commits at which the history is cut off; none unless the clone is shallow.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub(crate) fn shallow(&self) -> Result<Vec<String>, GitError> {
        let failed = |err| GitError::File { path: self.shallow_file.clone(), err };
        let file = match std::fs::File::open(&self.shallow_file) {
            Ok(file) => file,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(err) => return Err(failed(err)),
        };
        let mut text = String::new();
        file.take(SHALLOW_BYTES).read_to_string(&mut text).map_err(failed)?;
        let mut commits: Vec<_> = text.lines().map(str::to_owned).collect();
        commits.sort_unstable();
        Ok(commits)
    }

    /// The commits that git means with `--all`: what all refs, and the HEADs of all work trees, point to.
    ///
    /// # Errors
    /// When git fails, as when a ref points to nothing.
    pub(crate) fn tips(&self) -> Result<HashSet<String>, GitError> {
        let lines = self.run(&["rev-list", "--all", "--no-walk"], Vec::new())?;
        Ok(lines.lines().map(str::to_owned).collect())
    }

    /// Those of `commits` that the repository has.
    ///
    /// # Errors
    /// When git fails.
    pub(crate) fn present<'a>(
        &self,
        commits: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<Vec<String>, GitError> {
        let mut input = String::new();
        commits.clone().for_each(|commit| input.extend([commit, "\n"]));
        if input.is_empty() {
            return Ok(Vec::new());
        }
        let answers = self.run(&["cat-file", "--batch-check=%(objecttype)"], input.into_bytes())?;
        let there = answers.lines().zip(commits).filter(|(kind, _)| *kind == "commit");
        Ok(there.map(|(_, commit)| commit.to_owned()).collect())
    }

    /// Whether the repository has a parent of any of `commits`: for commits at which the history was cut off, whether
    /// it has been made longer.
    ///
    /// # Errors
    /// When git fails.
    pub(crate) fn has_parent_of(&self, commits: &[String]) -> Result<bool, GitError> {
        let parents: Vec<_> = commits.iter().map(|commit| format!("{commit}^1")).collect();
        Ok(!self.present(parents.iter().map(String::as_str))?.is_empty())
    }

    /// How many commits `selection` holds.
    ///
    /// # Errors
    /// When git fails.
    pub(crate) fn count(&self, selection: &Selection) -> Result<u64, GitError> {
        let said = self.run(&["rev-list", "--count", "--stdin"], selection.input())?;
        let answer = |found| GitError::Answer {
            what: "the number of commits",
            path: self.place.folder.clone(),
            found,
        };
        said.trim().parse().map_err(|_| answer(said.clone()))
    }

    /// Lists the hashes of `selection`, the newest first, a line each.
    ///
    /// # Errors
    /// When git cannot be started.
    pub(crate) fn list(&self, selection: &Selection) -> Result<Running, GitError> {
        let mut running = self.start(&["rev-list", "--stdin"])?;
        running.feed(selection.input());
        Ok(running)
    }

    /// Writes each commit whose hash is put into its stdin, a line each, as [`crate::parse::Commits`] reads them.
    ///
    /// # Errors
    /// When git cannot be started.
    pub(crate) fn show_commits(&self) -> Result<Running, GitError> {
        let format = format!("--format={}", crate::parse::COMMIT_FORMAT);
        self.start(&[
            "diff-tree",
            "--stdin",
            "--root",
            "--always",
            "-r",
            "-z",
            "-M",
            "--raw",
            "--numstat",
            "--no-abbrev",
            "--no-ext-diff",
            "--no-textconv",
            "--no-notes",
            "--date=raw",
            "--encoding=UTF-8",
            &format,
        ])
    }

    /// Lists the refs below `under` in `format`, sorted by name.
    ///
    /// # Errors
    /// When git cannot be started.
    pub(crate) fn refs(&self, format: &str, under: &[&str]) -> Result<Running, GitError> {
        let format = format!("--format={format}");
        let mut running = self.start(&[&["for-each-ref", &format], under].concat())?;
        running.feed(Vec::new());
        Ok(running)
    }

    /// Lists name and e-mail address of the author and the committer of each commit, each ended by a NUL.
    ///
    /// # Errors
    /// When git cannot be started.
    pub(crate) fn people(&self) -> Result<Running, GitError> {
        let mut running =
            self.start(&["log", "--all", "--no-notes", "--format=%an%x00%ae%x00%cn%x00%ce%x00"])?;
        running.feed(Vec::new());
        Ok(running)
    }

    /// Waits for a git's end.
    ///
    /// # Errors
    /// When it failed.
    pub(crate) fn finish(&self, running: Running) -> Result<(), GitError> {
        running.finish().map_err(|err| explain(&self.place.folder, err))
    }

    /// The error that git's output cannot be read.
    pub(crate) fn unread(&self, err: ParseError) -> GitError {
        GitError::Unread { path: self.place.folder.clone(), err }
    }

    fn start(&self, args: &[&str]) -> Result<Running, GitError> {
        self.place.start(args).map_err(|err| explain(&self.place.folder, err))
    }

    fn run(&self, args: &[&str], input: Vec<u8>) -> Result<String, GitError> {
        let output = self.place.run(args, input).map_err(|err| explain(&self.place.folder, err))?;
        Ok(String::from_utf8_lossy(&output).into_owned())
    }
}

/// Git's output as it is read.
pub(crate) type Output = BufReader<Box<dyn Read + Send>>;

/// Git's output with a buffer that takes much at once; nothing where it was taken already.
pub(crate) fn output(running: &mut Running) -> Output {
    let stream: Box<dyn Read + Send> = match running.stdout.take() {
        Some(stdout) => Box::new(stdout),
        None => Box::new(std::io::empty()),
    };
    BufReader::with_capacity(64 << 10, stream)
}

/// Which commits: those that can be reached from some and not from others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    /// From where.
    pub(crate) from: Vec<String>,
    /// What is known, with everything before it. The repository must have each.
    pub(crate) not: Vec<String>,
}

impl Selection {
    fn input(&self) -> Vec<u8> {
        let mut input = String::with_capacity((self.from.len() + self.not.len()) * 42);
        self.from.iter().for_each(|commit| input.extend([commit, "\n"]));
        self.not.iter().for_each(|commit| input.extend(["^", commit, "\n"]));
        input.into_bytes()
    }
}

/// Windows' real paths begin with `\\?\`, which git does not take.
fn plain(path: PathBuf) -> PathBuf {
    match path.to_str().and_then(|text| text.strip_prefix(r"\\?\")) {
        Some(rest) if cfg!(windows) && !rest.starts_with("UNC") => rest.into(),
        _ => path,
    }
}
