//! Runs the `git` program: the only place that does.
//!
//! **Invariant:** what git does depends on the repository, not on who runs it: no `GIT_…` variable is inherited, and each
//! setting of a person that changes output is overridden.
//!
//! **Invariant:** git never asks. Without a [`Network`] it never writes, locks, or uses the network.
//!
//! **Invariant:** no git outlives its [`Running`], nor its [`Stop`] once that is pulled. Git stays in this process's
//! group, so that whoever ends the group ends it, too.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::network::Network;

/// What git may still need to end after the end of its output.
const EXIT_WAIT: Duration = Duration::from_secs(10);
/// How much of git's last words is kept, in bytes.
const STDERR_BYTES: usize = 4096;
/// The longest output of a command whose output is taken as a whole, in bytes.
const WHOLE_OUTPUT_BYTES: u64 = 64 << 20;

/// Settings that would otherwise be the user's or the repository's. Those on `diff` are git's own defaults.
const SETTINGS: &[&str] = &[
    "core.fsmonitor=false",
    "core.attributesFile=",
    "diff.renames=true",
    "diff.renameLimit=1000",
    "i18n.logOutputEncoding=UTF-8",
    "log.showSignature=false",
    "log.mailmap=false",
    "protocol.allow=never",
    "safe.bareRepository=all",
];

/// Git could not be run, or failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// There is no git.
    #[error("the program git is not in PATH")]
    NoGit,
    /// The system did not start it.
    #[error("start git {what}")]
    Start {
        /// The command.
        what: String,
        /// Why.
        #[source]
        err: io::Error,
    },
    /// Its streams broke.
    #[error("talk to git {what}")]
    Pipe {
        /// The command.
        what: String,
        /// How.
        #[source]
        err: io::Error,
    },
    /// It wrote more than it ever should.
    #[error("git {what} wrote more than {limit} bytes")]
    TooMuch {
        /// The command.
        what: String,
        /// The most that is taken.
        limit: u64,
    },
    /// It failed.
    #[error("git {what} ended with {status}: {said}")]
    Failed {
        /// The command.
        what: String,
        /// How it ended.
        status: ExitStatus,
        /// The last of what it wrote to stderr.
        said: String,
    },
    /// It was stopped from here.
    #[error("git {what} was stopped")]
    Stopped {
        /// The command.
        what: String,
    },
}

/// Ends every git that was started with it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop(Arc<Mutex<Stoppable>>);

#[derive(Debug, Default)]
struct Stoppable {
    pulled: bool,
    children: Vec<Weak<Mutex<Child>>>,
}

impl Stop {
    /// Ends all that run, and any that is started later.
    pub(crate) fn pull(&self) {
        let children = {
            let mut inner = lock(&self.0);
            inner.pulled = true;
            std::mem::take(&mut inner.children)
        };
        for child in children.iter().filter_map(Weak::upgrade) {
            // One that has ended by itself is fine, too.
            drop(lock(&child).kill());
        }
    }

    pub(crate) fn is_pulled(&self) -> bool {
        lock(&self.0).pulled
    }

    /// Takes a new child under its care; one that comes too late is ended at once.
    fn guard(&self, child: Child) -> Arc<Mutex<Child>> {
        let child = Arc::new(Mutex::new(child));
        let mut inner = lock(&self.0);
        inner.children.retain(|it| it.strong_count() > 0);
        inner.children.push(Arc::downgrade(&child));
        if inner.pulled {
            drop(lock(&child).kill());
        }
        drop(inner);
        child
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where git runs, and what ends it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The folder: the root of a work tree, or a repository. Git does not look for a repository above it.
    pub(crate) folder: PathBuf,
    /// What ends it.
    pub(crate) stop: Stop,
}

impl Place {
    /// Starts git. Its stdin is a pipe: see [`Running::stdin`].
    ///
    /// # Errors
    /// When there is no git, or the system does not start it.
    pub(crate) fn start(&self, args: &[&str]) -> Result<Running, RunError> {
        self.start_with(args, None)
    }

    /// The same, for what may use the network.
    ///
    /// # Errors
    /// As [`Place::start`].
    pub(crate) fn start_with(&self, args: &[&str], network: Option<&Network>) -> Result<Running, RunError> {
        let what = args.first().copied().unwrap_or_default().to_owned();
        let mut child = match command(&self.folder, network).args(args).spawn() {
            Ok(child) => child,
            Err(err) if err.kind() == io::ErrorKind::NotFound && self.folder.is_dir() => {
                return Err(RunError::NoGit);
            }
            Err(err) => return Err(RunError::Start { what, err }),
        };
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let heard = Arc::new(AtomicU64::new(0));
        let counted = heard.clone();
        let last_words =
            std::thread::spawn(move || stderr.map(|it| last_of(it, &counted)).unwrap_or_default());
        let child = self.stop.guard(child);
        let last_words = Some(last_words);
        Ok(Running { what, stop: self.stop.clone(), child, stdin, stdout, heard, last_words })
    }

    /// Runs git with `input` on its stdin and takes its output as a whole.
    ///
    /// # Errors
    /// When it cannot be run, fails, or writes more than 64 MiB.
    pub(crate) fn run(&self, args: &[&str], input: Vec<u8>) -> Result<Vec<u8>, RunError> {
        self.run_with(args, input, None)
    }

    /// The same, for what may use the network.
    ///
    /// # Errors
    /// As [`Place::run`].
    pub(crate) fn run_with(
        &self,
        args: &[&str],
        input: Vec<u8>,
        network: Option<&Network>,
    ) -> Result<Vec<u8>, RunError> {
        let mut running = self.start_with(args, network)?;
        running.feed(input);
        let mut output = Vec::new();
        if let Some(stdout) = running.stdout.take() {
            let read = stdout.take(WHOLE_OUTPUT_BYTES + 1).read_to_end(&mut output);
            read.map_err(|err| RunError::Pipe { what: running.what.clone(), err })?;
        }
        if output.len() as u64 > WHOLE_OUTPUT_BYTES {
            return Err(RunError::TooMuch { what: running.what.clone(), limit: WHOLE_OUTPUT_BYTES });
        }
        running.finish()?;
        Ok(output)
    }

    /// Asks git for one line. None when it says with exit status 1 that there is no answer.
    ///
    /// # Errors
    /// As [`Place::run`].
    pub(crate) fn ask(&self, args: &[&str]) -> Result<Option<String>, RunError> {
        match self.run(args, Vec::new()) {
            Ok(output) => {
                Ok(Some(String::from_utf8_lossy(&output).trim_end_matches(['\n', '\r']).to_owned()))
            }
            Err(RunError::Failed { status, said, .. }) if status.code() == Some(1) && said.is_empty() => {
                Ok(None)
            }
            Err(err) => Err(err),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "an integration is a process of its own and runs git itself")]
fn command(folder: &Path, network: Option<&Network>) -> Command {
    let mut command = Command::new("git");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().to_ascii_uppercase().starts_with("GIT_") {
            command.env_remove(name);
        }
    }
    command.current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("GIT_CEILING_DIRECTORIES", folder.parent().unwrap_or(folder));
    command.envs([
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_OPTIONAL_LOCKS", "0"),
        ("GIT_NO_LAZY_FETCH", "1"),
        ("GIT_ATTR_NOSYSTEM", "1"),
        // Its words are read below, and shown to people who search for them.
        ("LC_ALL", "C"),
    ]);
    command.env_remove("LANGUAGE").arg("--no-pager");
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    if let Some(network) = network {
        // Later settings win, and a protocol's own over that of all.
        for setting in &network.settings {
            command.args(["-c", setting]);
        }
        command.envs(network.variables.iter().map(|(name, value)| (name, value)));
    }
    command
}

/// Reads to the end, counts, and keeps the last bytes.
fn last_of(mut stream: impl Read, heard: &AtomicU64) -> String {
    let (mut kept, mut buffer) = (Vec::new(), [0; 1024]);
    while let Ok(count) = stream.read(&mut buffer) {
        if count == 0 {
            break;
        }
        heard.fetch_add(count as u64, Ordering::Relaxed);
        kept.extend_from_slice(&buffer[..count]);
        let surplus = kept.len().saturating_sub(STDERR_BYTES);
        kept.drain(..surplus);
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

/// A git that runs. Dropped, it is ended.
#[derive(Debug)]
pub(crate) struct Running {
    what: String,
    stop: Stop,
    child: Arc<Mutex<Child>>,
    /// To be taken and dropped, or git waits for more.
    pub(crate) stdin: Option<ChildStdin>,
    /// To be read to its end before [`Running::finish`].
    pub(crate) stdout: Option<ChildStdout>,
    /// Bytes on its stderr.
    heard: Arc<AtomicU64>,
    last_words: Option<JoinHandle<String>>,
}

impl Running {
    /// How much it has written to stderr, in bytes: with `--progress`, a sign of life.
    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// When the system does not say.
    pub(crate) fn has_ended(&self) -> Result<bool, RunError> {
        let status = lock(&self.child).try_wait();
        status.map(|it| it.is_some()).map_err(|err| RunError::Pipe { what: self.what.clone(), err })
    }

    /// Writes `input` to its stdin, and ends that, on a thread of its own: git may write before it has read all.
    pub(crate) fn feed(&mut self, input: Vec<u8>) {
        let Some(mut stdin) = self.stdin.take() else { return };
        if !input.is_empty() {
            // A git that does not want it all says why itself.
            std::thread::spawn(move || drop(stdin.write_all(&input)));
        }
    }

    /// Waits for its end, after that of its output.
    ///
    /// # Errors
    /// When it failed, was stopped, or does not end.
    pub(crate) fn finish(mut self) -> Result<(), RunError> {
        drop((self.stdin.take(), self.stdout.take()));
        let status = self.wait().map_err(|err| RunError::Pipe { what: self.what.clone(), err })?;
        if status.success() {
            return Ok(());
        }
        let what = self.what.clone();
        if self.stop.is_pulled() {
            return Err(RunError::Stopped { what });
        }
        let said = self.last_words.take().and_then(|it| it.join().ok()).unwrap_or_default();
        Err(RunError::Failed { what, status, said })
    }

    /// The lock is given up between looks, so that [`Stop::pull`] can take it.
    fn wait(&self) -> io::Result<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Some(status) = lock(&self.child).try_wait()? {
                return Ok(status);
            }
            if begun.elapsed() > EXIT_WAIT {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not end"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut child = lock(&self.child);
        if !matches!(child.try_wait(), Ok(Some(_))) {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
