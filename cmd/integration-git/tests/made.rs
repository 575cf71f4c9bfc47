//! Makes repositories with the git program: fixed people, fixed times, no settings of the machine.

use std::cell::Cell;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A repository in a folder of its own, which goes with it.
pub(crate) struct Made {
    folder: TempDir,
    path: PathBuf,
    /// Seconds since the first commit.
    clock: Cell<u64>,
}

impl Made {
    /// A new repository with a work tree, made with further arguments of `git init`.
    pub(crate) fn new(init: &[&str]) -> Self {
        Self::with(&[&["init", "--quiet", "--initial-branch=main"], init].concat())
    }

    /// A clone of another, made with further arguments of `git clone`.
    pub(crate) fn clone_of(other: &Self, clone: &[&str]) -> Self {
        // By address, as otherwise `--depth` is ignored.
        let address = format!("file://{}", other.path());
        Self::with(&[&["clone", "--quiet"], clone, &[&address]].concat())
    }

    fn with(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("made");
        let made = Self { folder, path, clock: Cell::new(0) };
        made.run(made.folder.path(), &[args, &[made.path()]].concat(), &[]);
        made
    }

    pub(crate) fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Runs git in the repository; its output without the line feed at the end.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        let output = self.run(&self.path, args, &[]);
        String::from_utf8(output).unwrap().trim_end().to_owned()
    }

    /// Writes a file and commits everything.
    pub(crate) fn commit(&self, file: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.file(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self.commit_all(file)
    }

    /// Commits everything as it is.
    pub(crate) fn commit_all(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// A history in the format of `git fast-import`.
    pub(crate) fn import(&self, stream: &[u8]) {
        self.run(&self.path, &["fast-import", "--quiet"], stream);
    }

    /// Lines added and deleted, as git counts them with its own defaults.
    pub(crate) fn numstat(&self) -> (u64, u64) {
        let mut sums = (0, 0);
        for line in
            self.run(&self.path, &["log", "--all", "--numstat", "--format="], &[]).split(|it| *it == b'\n')
        {
            let line = String::from_utf8_lossy(line);
            let mut parts = line.split('\t').map(|it| it.parse().unwrap_or(0));
            sums.0 += parts.next().unwrap_or(0);
            sums.1 += parts.next().unwrap_or(0);
        }
        sums
    }

    #[expect(clippy::disallowed_methods, reason = "the tests make repositories with git itself")]
    fn run(&self, folder: &Path, args: &[&str], input: &[u8]) -> Vec<u8> {
        self.clock.set(self.clock.get() + 60);
        let time = format!("{} +0130", 1_700_000_000 + self.clock.get());
        let mut git = Command::new("git");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GIT_")) {
            git.env_remove(name);
        }
        git.current_dir(folder)
            .args(["-c", "protocol.file.allow=always", "-c", "advice.detachedHead=false"])
            .args(args)
            .envs([("GIT_AUTHOR_NAME", "Ada Author"), ("GIT_AUTHOR_EMAIL", "ada@example.org")])
            .envs([("GIT_COMMITTER_NAME", "Carl Committer"), ("GIT_COMMITTER_EMAIL", "carl@example.org")])
            .envs([("GIT_AUTHOR_DATE", &time), ("GIT_COMMITTER_DATE", &time)])
            .envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = git.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

/// A stream for [`Made::import`] with `count` commits on `main`, each of which changes a few lines of some files.
pub(crate) fn many_commits(count: u32) -> Vec<u8> {
    commits_on(None, count)
}

/// The same on top of a commit of the repository.
pub(crate) fn commits_on(base: Option<&str>, count: u32) -> Vec<u8> {
    let mut stream = Vec::new();
    for number in 1..=count {
        let time = 1_700_000_000 + u64::from(number) * 60;
        let person = format!("Person {0} <p{0}@example.org> {time} +0000", number % 7);
        let message = format!("change {number}");
        write!(stream, "commit refs/heads/main\nmark :{number}\nauthor {person}\ncommitter {person}\n")
            .unwrap();
        write!(stream, "data {}\n{message}\n", message.len()).unwrap();
        if number > 1 {
            writeln!(stream, "from :{}", number - 1).unwrap();
        } else if let Some(base) = base {
            writeln!(stream, "from {base}").unwrap();
        }
        let content: String = (number..number + 20).map(|line| format!("line {}\n", line / 3)).collect();
        writeln!(stream, "M 100644 inline file{}\ndata {}\n{content}", number % 5, content.len()).unwrap();
    }
    stream
}
