//! Makes sure that all programs are there, when cargo runs the demo.

use std::path::{Path, PathBuf};

use outrider_supervisor::{Environment, Spawn, StderrTo};
use tokio::sync::mpsc;

use crate::output::note;
use crate::report::Error;

/// Lines of cargo that wait to be shown. It says a line a crate.
const LINES: usize = 256;

/// Builds all programs of the workspace beside this one. Does nothing where cargo did not start this program.
pub(super) async fn all() -> Result<(), Error> {
    let (Some(cargo), Some(workspace)) = (std::env::var_os("CARGO"), std::env::var_os("CARGO_MANIFEST_DIR"))
    else {
        return Ok(());
    };
    // What was just built with these variables would be built once more without them.
    let everything = std::env::vars_os().fold(Environment::default(), |all, (name, _)| all.inherit(name));
    let (said, mut lines) = mpsc::channel(LINES);
    let mut spawn = Spawn::new(cargo).args(["build", "--bins"]).cwd(workspace).env(everything);
    if is_release() {
        spawn = spawn.arg("--release");
    }
    let child = spawn.stderr(StderrTo::Lines(said)).start();
    let mut child = child.map_err(|err| Error::failure(&err))?;
    super::stack::read_away(&mut child);
    let show = async {
        while let Some(text) = lines.recv().await {
            note(&text);
        }
    };
    let (ended, ()) = tokio::join!(child.wait(), show);
    if ended.how.is_ok() {
        return Ok(());
    }
    Err(Error::failed(format!("build the programs: cargo {}", ended.how)).hint("the errors stand above"))
}

fn is_release() -> bool {
    std::env::current_exe().is_ok_and(|exe| exe.parent().is_some_and(|folder| folder.ends_with("release")))
}

/// A program beside this one.
pub(super) fn program(name: &str) -> Result<PathBuf, Error> {
    let exe = std::env::current_exe().map_err(|err| Error::failure(&err))?;
    let folder = exe.parent().unwrap_or(Path::new("."));
    let path = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::failed(format!("the program {name} is not in {}", folder.display()))
        .hint("build all programs with `cargo build --bins`, or run `cargo demo`"))
}
