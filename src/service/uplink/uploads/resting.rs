//! Files that failed for a reason of their own, and those among them that the backend refuses for what is in them.

use outrider_protocol::fault::chain;
use outrider_spool::Sealed;
use tokio::time::Instant;

use super::Uploads;
use crate::event::Event;
use crate::uplink::backoff::Backoff;
use crate::uplink::upload::UploadError;

/// How often a file that the backend refuses for what is in it is tried, before it waits for the next connection.
const REFUSALS_MOST: u32 = 5;

#[derive(Debug)]
pub(super) struct Resting {
    pub(super) file: Sealed,
    pub(super) backoff: Backoff,
    pub(super) until: Instant,
    pub(super) active: bool,
    /// How often the backend refused it for what is in it.
    pub(super) refusals: u32,
}

impl Resting {
    pub(super) fn is_given_up(&self) -> bool {
        self.refusals >= REFUSALS_MOST
    }
}

impl Uploads {
    /// Notes in the spool that the backend refuses a file, so that exports do not pause for its age.
    pub(super) async fn refuse(&self, file: &Sealed) {
        let (spool, file) = (self.spool.clone(), file.clone());
        let noted = tokio::task::spawn_blocking(move || spool.refuse(&file)).await;
        if let Ok(Err(err)) = noted {
            tracing::warn!(
                error = chain(&err),
                "It is not noted that the backend refuses a file: it counts as one that waits."
            );
        }
    }

    /// Of files that were given up, those that a person dropped: nothing is refused of them any more.
    pub(super) fn forget_dropped(&mut self) {
        let dropped = |it: &&Resting| !it.active && it.is_given_up() && !it.file.path.exists();
        let dropped: Vec<_> = self.resting.values().filter(dropped).map(|it| it.file.clone()).collect();
        dropped.iter().for_each(|file| self.forget(file));
    }
}

/// The backend does not take a file: why, with what this side says is in it.
pub(super) fn refused(file: &Sealed, err: &UploadError, given_up: bool) -> Event {
    let Sealed { export, model, number, records, bytes, sha256, .. } = file;
    let why = format!(
        "file {number} of {model} of export {export}, which holds {records} objects in {bytes} bytes (SHA-256 {sha256}), \
         was not uploaded: {}",
        chain(err)
    );
    Event::Refused { export: export.clone(), file: (model.clone(), *number), why, given_up }
}
