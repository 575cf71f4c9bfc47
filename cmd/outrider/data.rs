//! `outrider data`: a look at what was exported and at what is remembered for the next export.
//!
//! **Invariant:** nothing here changes a file of export data; it is read while it is written, uploaded and removed. What a person
//! decides to [`drop`](mod@dropping) goes as a whole file.
//!
//! **Invariant:** no file, no list of objects is held in memory: objects pass in runs of some 100 KB, rows of a table in
//! batches.
//!
//! **Invariant:** what cannot be read is told on stderr with its place, the rest is shown, and the exit status is then 1.
//! Whoever stops reading the output ends the work, which is no error.
//!
//! | module | duty |
//! | --- | --- |
//! | [`source`] | which files: the root's, or those of a backend's data folder |
//! | [`pick`] | pure: members of an object by path, without a tree of the object |
//! | [`filter`] | pure: which objects |
//! | [`table`] | rows that come one by one as a table |
//! | [`list`], [`objects`], [`checkpoints`], [`dropping`] | the subcommands |

pub(crate) mod args;
mod checkpoints;
mod dropping;
mod filter;
mod list;
mod objects;
mod pick;
mod removed;
mod source;
mod table;

use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

use outrider_home::Root;
use outrider_protocol::exit::Exit;

use crate::report::Error;
use args::{Data, Look};

/// How long another process may take to let go of what a command needs; an export that runs holds it much longer.
const WAIT: Duration = Duration::from_millis(500);

/// Runs `outrider data`.
pub(crate) fn data(root: &Root, flags: Data) -> Result<Exit, Error> {
    match flags.look {
        Look::Ls(flags) => list::ls(root, &flags),
        Look::Cat(flags) => objects::cat(root, flags),
        Look::Grep(flags) => objects::grep(root, flags),
        Look::Count(flags) => objects::count(root, flags),
        Look::Checkpoints(flags) => checkpoints::checkpoints(root, &flags),
        Look::Drop(flags) => dropping::drop_waiting(root, &flags),
    }
}

/// What ended a piece of work that writes to stdout.
enum Ended {
    /// Nobody reads it any more.
    Unread,
    Failed(Error),
}

impl From<io::Error> for Ended {
    fn from(err: io::Error) -> Self {
        match err.kind() {
            io::ErrorKind::BrokenPipe => Self::Unread,
            _ => Self::Failed(Error::failed(format!("write to stdout: {err}"))),
        }
    }
}

impl From<Error> for Ended {
    fn from(err: Error) -> Self {
        Self::Failed(err)
    }
}

/// The outcome of work on stdout for the program.
fn conclude(done: Result<Exit, Ended>) -> Result<Exit, Error> {
    match done {
        Ok(exit) => Ok(exit),
        Err(Ended::Unread) => Ok(Exit::Ok),
        Err(Ended::Failed(err)) => Err(err),
    }
}

/// Says something to a person on stderr, beside the data on stdout.
fn note(text: &str) {
    drop(writeln!(io::stderr().lock(), "{}: {}", env!("CARGO_BIN_NAME"), table::visible(text)));
}

/// Asks a person whether to drop what was just told.
fn agreed() -> Result<bool, Error> {
    if !io::stdin().is_terminal() {
        return Err(Error::usage("found no terminal to ask in, expected --yes"));
    }
    let mut err = io::stderr().lock();
    let asked = write!(err, "Drop? [y/N] ").and_then(|()| err.flush());
    asked.map_err(|err| Error::failure(&err))?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(|err| Error::failure(&err))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
