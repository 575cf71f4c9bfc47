//! `outrider data drop`: files that nobody is to have. They are those of an export that the backend refused, or of one by hand
//! that nobody uploads, and would keep others from running.
//!
//! **Invariant:** what goes was told and agreed to, and the objects in it are none that a later export may take for delivered.

use std::thread::sleep;
use std::time::{Duration, Instant};

use outrider_home::Root;
use outrider_protocol::exit::Exit;
use outrider_spool::{DropWhich, Dropped, Settings, Spool, SpoolError};

use super::{WAIT, agreed, args};
use crate::report::Error;
use crate::say::say;

/// How often an export that another process has open is tried again.
const TRY_EVERY: Duration = Duration::from_millis(20);

/// Drops, after a person agreed.
pub(super) fn drop_waiting(root: &Root, flags: &args::Drop) -> Result<Exit, Error> {
    root.settle_state_by_hand().map_err(|err| Error::failure(&err))?;
    let spool = Spool::open(root.spool(), Settings::default()).map_err(|err| Error::failure(&err))?;
    let export = one(&spool, &flags.export)?;
    let which = if flags.refused { DropWhich::Refused } else { DropWhich::Waiting };
    let found = once_free(|| spool.to_drop(&export, which))?;
    if found.files == 0 {
        let of = if flags.refused { "that the backend refused" } else { "that waits for the backend" };
        say(format!("Nothing to drop: export {export} has no file {of}."));
        return Ok(Exit::Ok);
    }
    say(format!("{} of export {export}, which the backend does not have", told(found)));
    say(
        "What last-processed values say was exported does not come again: their objects are gone until an export with reprocess_historical.",
    );
    if !flags.yes && !agreed()? {
        say("Nothing was dropped.");
        return Ok(Exit::Cancelled);
    }
    let now = once_free(|| spool.to_drop(&export, which))?;
    if now != found {
        return Err(Error::failed(format!(
            "drop files of export {export}: found {} by now, expected {} as was agreed to; nothing was dropped",
            told(now),
            told(found)
        ))
        .hint("run the command again"));
    }
    // First, since a model without files that wait counts as delivered.
    outrider_service::forget_unchanged(root).map_err(|err| {
        Error::failed(format!("note that objects are not delivered, in {}: {err}", root.state().display()))
    })?;
    let dropped = once_free(|| spool.drop_waiting(&export, which))?;
    say(format!(
        "Dropped {} of export {export}. To have the objects again, export with reprocess_historical.",
        told(dropped)
    ));
    Ok(Exit::Ok)
}

/// The one export that is meant.
fn one(spool: &Spool, begins: &str) -> Result<String, Error> {
    let mut waiting = spool.waiting_exports().map_err(|err| Error::failure(&err))?;
    if waiting.contains(begins) {
        return Ok(begins.to_owned());
    }
    waiting.retain(|it| it.starts_with(begins));
    let count = waiting.len();
    let hint = "see what waits with `outrider data ls --waiting`";
    match (count, waiting.pop_first()) {
        (1, Some(export)) => Ok(export),
        (0, _) => Err(Error::usage(format!(
            "--export {begins}: found no export with files that wait for the backend, expected one"
        ))
        .hint(hint)),
        _ => Err(Error::usage(format!(
            "--export {begins}: found {count} exports whose ids begin so, expected one"
        ))
        .hint(hint)),
    }
}

/// Does something with an export that another process may have open for a moment, as the service has when it looks into
/// the spool.
fn once_free(work: impl Fn() -> Result<Dropped, SpoolError>) -> Result<Dropped, Error> {
    let started = Instant::now();
    loop {
        match work() {
            Err(SpoolError::InUse { .. }) if started.elapsed() < WAIT => sleep(TRY_EVERY),
            Err(err @ SpoolError::InUse { .. }) => {
                return Err(Error::of(Exit::RootInUse, &err)
                    .hint("the export runs: try again when it is over (`outrider status`)"));
            }
            other => return other.map_err(|err| Error::failure(&err)),
        }
    }
}

fn told(dropped: Dropped) -> String {
    let Dropped { files, records, bytes } = dropped;
    let s = |count: u64| if count == 1 { "" } else { "s" };
    format!("{files} file{} with {records} object{} in {bytes} bytes", s(files), s(records))
}
