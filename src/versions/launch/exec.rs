//! The launcher as a program: arguments, the exchange of one program for another, and the words for what went wrong.

mod header;

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use super::{EXIT_NOT_STARTED, EXIT_NOTHING, EXIT_USAGE, NothingToRun, Start, candidates, prepare};
use crate::started;
use crate::versions::Versions;

/// The variable that names the root; it is set for what is started, too.
const ROOT: &str = "OUTRIDER_ROOT";
/// The variable that says to a program that it was started since `current` could not be.
const STANDS_IN: &str = "OUTRIDER_STANDS_IN";
/// More starts in a row than tries and versions there are.
const MOST_STARTS: usize = 16;

/// `outrider-launcher [--root DIR] [ARGS…]`: becomes `outrider ARGS…` of the version that is to run. The root is `--root`,
/// else `OUTRIDER_ROOT`, else the folder that the launcher lies in. Returns only when nothing could be started:
/// [`EXIT_USAGE`], [`EXIT_NOTHING`] or [`EXIT_NOT_STARTED`].
#[must_use]
pub fn main() -> ExitCode {
    let args = std::env::args_os().skip(1).collect();
    let program = std::env::current_exe().ok();
    match place(args, std::env::var_os(ROOT), program.as_deref()) {
        Ok((root, args)) => launch(&Versions::of(root), &args),
        Err(usage) => {
            say(&usage);
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// Whether this process was started by the launcher since what `current` points to could not be. It must not go over to
/// that again: there would be no end.
#[must_use]
pub fn stands_in() -> bool {
    std::env::var_os(STANDS_IN).is_some()
}

/// The root, and the arguments that are not the launcher's.
fn place(
    mut args: Vec<OsString>,
    variable: Option<OsString>,
    program: Option<&Path>,
) -> Result<(PathBuf, Vec<OsString>), String> {
    let given = match args.first().map(|it| it.as_encoded_bytes()) {
        Some(b"--root") if args.len() == 1 => return Err("--root: expected a folder after it".into()),
        Some(b"--root") => {
            args.remove(0);
            Some(args.remove(0))
        }
        Some(first) if first.starts_with(b"--root=") => {
            let first = args.remove(0);
            let text = first.into_string().map_err(|it| format!("{}: expected UTF-8", it.display()))?;
            text.strip_prefix("--root=").map(OsString::from)
        }
        _ => None,
    };
    let root = given.or(variable).filter(|it| !it.is_empty()).map(PathBuf::from);
    let root = root.or_else(|| Some(program?.parent()?.to_owned()));
    let root = root.ok_or("say where the root is with --root DIR")?;
    let root = std::path::absolute(&root).map_err(|err| format!("--root {}: {err}", root.display()))?;
    Ok((root, args))
}

/// Becomes `outrider ARGS…` of the version that is to run, as the launcher does: also for a service that goes over to another
/// version without the system's help. Returns only when nothing could be started.
#[must_use]
pub fn launch(versions: &Versions, args: &[OsString]) -> ExitCode {
    for _ in 0..MOST_STARTS {
        match prepare(versions) {
            Ok(start) => {
                start.troubles.iter().for_each(|it| say(&chain(it)));
                watch(versions, &start);
                if start.on_trial
                    && let Err(err) = started::note(versions)
                {
                    say(&chain(&err));
                }
                let err = become_program(command(&start.program, versions), &start.program, args);
                say(&format!("start {}: {err}", start.program.display()));
                if !start.on_trial {
                    break;
                }
                if !is_for_good(&err) {
                    return ExitCode::from(EXIT_NOT_STARTED);
                }
            }
            Err(nothing) => return tell_nothing(&nothing),
        }
    }
    // `current` cannot be started, so nothing is lost by trying the others; no link is changed for it.
    for version in candidates(versions) {
        let program = versions.layout().program(&version);
        let mut command = command(&program, versions);
        command.env(STANDS_IN, "1");
        say(&format!("start {}: {}", program.display(), become_program(command, &program, args)));
    }
    ExitCode::from(EXIT_NOT_STARTED)
}

fn tell_nothing(nothing: &NothingToRun) -> ExitCode {
    nothing.troubles.iter().for_each(|it| say(&chain(it)));
    say(&nothing.to_string());
    ExitCode::from(EXIT_NOTHING)
}

/// Whether a program that could not be started for this reason never can be: it is no program, for another machine, or
/// lacks its interpreter. Otherwise the system's next start may go better.
fn is_for_good(err: &io::Error) -> bool {
    let kind = err.kind();
    matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput)
        || err.raw_os_error() == Some(header::NO_PROGRAM)
}

/// Starts the watcher of a trial, in a group of its own, so that it outlives the version that it watches. Where one watches
/// already, it sees so by its lock and ends.
fn watch(versions: &Versions, start: &Start) {
    let Some(watcher) = &start.watcher else { return };
    let mut command = command(watcher, versions);
    command.arg("watch").stdin(Stdio::null()).stdout(Stdio::null());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    if let Err(err) = command.spawn() {
        say(&format!("start the watcher {}: {err}", watcher.display()));
    }
}

#[expect(clippy::disallowed_methods, reason = "the launcher becomes the service: there is no owner above it")]
fn command(program: &Path, versions: &Versions) -> Command {
    let mut command = Command::new(program);
    command.env(ROOT, versions.layout().root()).env_remove(STANDS_IN);
    command
}

/// Returns only when that fails.
#[cfg(unix)]
fn become_program(mut command: Command, program: &Path, args: &[OsString]) -> io::Error {
    if let Err(err) = header::check(program) {
        return err;
    }
    std::os::unix::process::CommandExt::exec(command.args(args))
}

/// There a process cannot become another: it waits for it, and ends as it.
#[cfg(not(unix))]
#[expect(clippy::exit, reason = "this process stands for the other one")]
fn become_program(mut command: Command, _: &Path, args: &[OsString]) -> io::Error {
    match command.args(args).status() {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(err) => err,
    }
}

/// An error with all its causes.
fn chain(err: &dyn Error) -> String {
    let mut text = err.to_string();
    let mut next = err.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// On stderr, which the system keeps; where that is closed, nobody listens.
fn say(text: &str) {
    drop(writeln!(io::stderr(), "{}: {text}", OsStr::new("outrider-launcher").display()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_the_flags_then_the_variables_then_the_launchers_own_folder() {
        let split = |args: &[&str], variable: Option<&str>| {
            let args = args.iter().map(OsString::from).collect();
            place(args, variable.map(OsString::from), Some(Path::new("/opt/outrider/outrider-launcher")))
        };
        let root = |text: &str| PathBuf::from(text);
        let (found, args) = split(&["--root", "/r", "service-run", "--root", "/x"], Some("/v")).unwrap();
        assert_eq!((found, args.len()), (root("/r"), 3), "what follows is not the launcher's");
        assert_eq!(split(&["--root=/r", "status"], None).unwrap().0, root("/r"));
        assert_eq!(split(&["status"], Some("/v")).unwrap().0, root("/v"));
        assert_eq!(split(&[], Some("")).unwrap().0, root("/opt/outrider"));
        assert!(split(&["--root"], None).is_err());
    }
}
