//! For tests: the launcher, or with `VERSIONS_PROBE` set a whole upgrade in one process, to be killed at every call.

mod agent;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(story) = std::env::var_os("VERSIONS_PROBE") else { return outrider_versions::launch::main() };
    let root = std::env::args_os().nth(1).unwrap_or_default();
    match agent::run(Path::new(&root), story == "good") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
