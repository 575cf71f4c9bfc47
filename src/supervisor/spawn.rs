//! Starting a program.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use process_wrap::tokio::{ChildWrapper, CommandWrap};
use tokio::process::Command;

use crate::child::Child;
use crate::diagnose::{SpawnError, diagnose};
use crate::environment::Environment;
use crate::exit::ExitWatch;
use crate::stderr::{StderrTail, StderrTo, Tail};

/// How often a program that is "busy" is tried. Another thread's child holds a file that was just written open for
/// writing until it calls exec, and until then the system refuses to run that file.
const BUSY_TRIES: u32 = 10;

/// The pause between those tries.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// A program to run, with stdin and stdout as pipes for its owner.
#[derive(Debug, Clone)]
pub struct Spawn {
    /// The program. A bare name is looked up on the child's `PATH`; any other relative path is relative to this
    /// process's folder, not to [`Spawn::cwd`].
    pub program: PathBuf,
    /// Its arguments. Anybody on the machine may read them: no secrets.
    pub args: Vec<OsString>,
    /// The folder it runs in; this process's own when empty.
    pub cwd: PathBuf,
    /// Its variables.
    pub env: Environment,
    /// Where its stderr goes.
    pub stderr: StderrTo,
    /// What is kept of its stderr.
    pub stderr_tail: StderrTail,
}

impl Spawn {
    /// `program` without arguments, in this process's folder, with the usual environment.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            cwd: PathBuf::new(),
            env: Environment::default(),
            stderr: StderrTo::Keep,
            stderr_tail: StderrTail::default(),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets the folder it runs in.
    #[must_use]
    pub fn cwd(mut self, cwd: impl Into<PathBuf>) -> Self {
        self.cwd = cwd.into();
        self
    }

    /// Sets its variables.
    #[must_use]
    pub fn env(mut self, env: Environment) -> Self {
        self.env = env;
        self
    }

    /// Sets where its stderr goes.
    #[must_use]
    pub fn stderr(mut self, stderr: StderrTo) -> Self {
        self.stderr = stderr;
        self
    }

    /// The folder it runs in, where that is not this process's own.
    fn folder(&self) -> Option<&Path> {
        (!self.cwd.as_os_str().is_empty()).then_some(self.cwd.as_path())
    }

    /// The program's full path, and what starts it, but for its streams.
    fn command(&self) -> Result<(PathBuf, Command), SpawnError> {
        let variables = self.env.resolve(env::vars_os());
        let path = variables.get(OsStr::new("PATH")).map(OsString::as_os_str);
        let program = locate(&self.program, path)?;
        let mut command = command(&program);
        command.args(&self.args).env_clear().envs(&variables);
        if let Some(cwd) = self.folder() {
            command.current_dir(cwd);
        }
        Ok((program, command))
    }

    /// Starts a program that is to outlive this process and what started it: in a group of its own, with nothing on stdin
    /// and with stdout and stderr closed. Answers its process id.
    ///
    /// # Errors
    /// As [`Spawn::start`].
    #[cfg(unix)]
    pub fn start_for_good(self) -> Result<u32, SpawnError> {
        let (program, mut command) = self.command()?;
        let cwd = self.folder();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(false);
        command.process_group(0);
        let child = command.spawn().map_err(|err| diagnose(&program, cwd, err))?;
        // tokio reaps it when it ends before this process does.
        Ok(child.id().unwrap_or_default())
    }

    /// Starts the program in a group of its own. Takes about half a millisecond and does not wait for the program.
    ///
    /// # Errors
    /// When the program cannot be run; the error says why and what to do.
    ///
    /// # Panics
    /// Outside a tokio runtime with its I/O and time enabled.
    pub fn start(self) -> Result<Child, SpawnError> {
        let (program, mut command) = self.command()?;
        let cwd = self.folder();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let failed = |err| diagnose(&program, cwd, err);
        let watch = ExitWatch::new().map_err(failed)?;
        let oom_before = crate::oom::kills();
        let mut os = spawn(in_group(command)).map_err(failed)?;
        let Some(pid) = os.id() else {
            return Err(failed(io::Error::other("the system gave no process id")));
        };
        tracing::debug!(pid, program = %program.display(), "Process started.");
        let tail = Tail::new(self.stderr_tail);
        let reader = os
            .stderr()
            .take()
            .map(|stderr| tokio::spawn(crate::stderr::read(stderr, tail.clone(), self.stderr)));
        Ok(Child::new(pid, os, watch, tail, reader, (Instant::now(), oom_before)))
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that starts processes")]
fn command(program: &Path) -> Command {
    Command::new(program)
}

/// A group of its own for the child and what it starts.
fn in_group(command: Command) -> CommandWrap {
    let mut wrap = CommandWrap::from(command);
    #[cfg(unix)]
    wrap.wrap(process_wrap::tokio::ProcessGroup::leader());
    // With `KillOnDrop` the job also ends when this process dies in whatever way.
    #[cfg(windows)]
    wrap.wrap(process_wrap::tokio::KillOnDrop).wrap(process_wrap::tokio::JobObject);
    wrap
}

fn spawn(mut command: CommandWrap) -> io::Result<Box<dyn ChildWrapper>> {
    let mut tries = 1;
    loop {
        match command.spawn() {
            Err(err) if err.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES => {
                tries += 1;
                std::thread::sleep(BUSY_PAUSE);
            }
            result => return result,
        }
    }
}

/// The program's full path. With one, the standard library can use `posix_spawn` although the environment is replaced,
/// and the child's folder does not change what a relative path means.
fn locate(program: &Path, path: Option<&OsStr>) -> Result<PathBuf, SpawnError> {
    let bare = program.components().count() == 1 && program.file_name() == Some(program.as_os_str());
    if !bare {
        return std::path::absolute(program).map_err(|err| diagnose(program, None, err));
    }
    if cfg!(windows) {
        return Ok(program.to_owned()); // The system's own search knows extensions and system folders.
    }
    let folders: Vec<PathBuf> = path.map(|path| env::split_paths(path).collect()).unwrap_or_default();
    let found: Vec<PathBuf> =
        folders.iter().map(|folder| folder.join(program)).filter(|candidate| candidate.is_file()).collect();
    let runnable = found.iter().find(|candidate| is_executable(candidate)).or(found.first());
    match runnable {
        Some(found) => std::path::absolute(found).map_err(|err| diagnose(program, None, err)),
        None => {
            Err(SpawnError::NotOnPath { name: program.to_owned(), path: path.unwrap_or_default().to_owned() })
        }
    }
}

#[cfg(unix)]
pub(crate) fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
pub(crate) fn is_executable(_file: &Path) -> bool {
    true
}
