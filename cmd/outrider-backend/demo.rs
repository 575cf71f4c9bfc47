//! `demo`: a backend, an agent and its first export, all on this machine, to be watched.
//!
//! Everything is real: the agent enrolls with a code, its service takes orders over HTTP, each order runs in a process
//! of its own. Only the backend runs in this process. Nothing is left running when it ends.

mod build;
mod orders;
mod stack;
mod summary;

use std::path::PathBuf;
use std::pin::pin;

use outrider_protocol::exit::Exit;

use crate::args::Demo;
use crate::demo::stack::Stack;
use crate::output::{line, note};
use crate::report::Error;
use crate::serve::stop_signal;

pub(crate) async fn run(flags: Demo) -> Result<Exit, Error> {
    let mut stop = pin!(stop_signal().map_err(|err| Error::failure(&err))?);
    let repositories = repositories(&flags.repo)?;
    let dir = folder(flags.dir)?;
    let mut stack = Stack::new(dir);
    let outcome = tokio::select! {
        outcome = work(&mut stack, &repositories, !flags.once) => outcome.map(Some),
        () = &mut stop => Ok(None),
    };
    if !flags.once && matches!(outcome, Ok(Some(_))) {
        line("Ctrl-C ends the demo.");
        tokio::select! {
            () = stop => {}
            ended = stack.service_ended() => note(&format!("the agent's service has ended: {ended}")),
        }
    }
    stack.stop().await;
    match outcome? {
        Some(true) => Ok(Exit::Ok),
        Some(false) => Ok(Exit::Failure),
        None => Ok(Exit::Cancelled),
    }
}

/// Does everything there is to see. Answers whether all commands are done and all data has arrived.
async fn work(stack: &mut Stack, repositories: &[PathBuf], stays: bool) -> Result<bool, Error> {
    build::all().await?;
    stack.start_backend().await?;
    stack.enroll().await?;
    stack.start_service().await?;
    let done = orders::give(stack, repositories).await?;
    summary::show(stack, &done, stays).await
}

/// The repositories to export, as paths that mean the same everywhere: those that were named, or this checkout.
fn repositories(named: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let this = || std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from);
    let named = if named.is_empty() { vec![this()] } else { named.to_vec() };
    let whole = |path: &PathBuf| {
        path.canonicalize().map_err(|err| Error::usage(format!("--repo {}: {err}", path.display())))
    };
    named.iter().map(whole).collect()
}

/// The folder for everything: the one that was named, or a fresh one that stays.
fn folder(named: Option<PathBuf>) -> Result<PathBuf, Error> {
    let Some(path) = named else {
        let fresh = tempfile::Builder::new().prefix("outrider-demo-").tempdir();
        return Ok(fresh.map_err(|err| Error::failure(&err))?.keep());
    };
    std::fs::create_dir_all(&path)
        .and_then(|()| path.canonicalize())
        .map_err(|err| Error::usage(format!("--dir {}: {err}", path.display())))
}
