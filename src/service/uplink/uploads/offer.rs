//! Offers acknowledged files again to a backend that came back with an older database.

use jiff::Timestamp;
use outrider_protocol::fault::chain;
use outrider_spool::{Sealed, Spool};
use tokio::task::{JoinError, JoinHandle};

use super::Uploads;
use crate::uplink::Timing;
use crate::uplink::backoff::Backoff;
use crate::uplink::ledger::forget_unchanged;
use crate::uplink::lost;
use crate::uplink::upload::{Upload, UploadError};

/// What was offered.
#[derive(Debug, Default)]
pub(super) struct Offered {
    /// Files that are still kept.
    kept: u64,
    /// Those of them that the backend did not have, and that wait to be uploaded again.
    taken_back: u64,
}

impl Uploads {
    /// Begins to offer files again when the backend has fewer than it has acknowledged. Answers with how many fewer.
    pub(super) fn compare(&self, has: u64) -> Option<(u64, JoinHandle<Offered>)> {
        let acknowledged = self.ledger.files();
        let lost = acknowledged.checked_sub(has).filter(|it| *it > 0)?;
        tracing::warn!(
            acknowledged,
            has,
            lost,
            "The backend came back with an older database: it has fewer files than it acknowledged. Those that are kept \
             are offered again."
        );
        // Before anything else, so that a crash from here on leaves it to be found again.
        if let Err(err) = forget_unchanged(&self.root) {
            tracing::error!(%err, "Exports cannot be told that the backend has lost objects; it is tried again.");
            return None;
        }
        Some((lost, tokio::spawn(offer(self.upload(), self.timing.clone()))))
    }

    pub(super) async fn offered(&mut self, lost: u64, offered: Result<Offered, JoinError>) {
        let Offered { kept, taken_back } = match offered {
            Ok(offered) => offered,
            Err(err) => {
                tracing::error!(error = chain(&err), "Offering files again panicked: this is a bug.");
                return;
            }
        };
        tracing::warn!(lost, kept, taken_back, "Files that the backend has lost are uploaded again.");
        if taken_back < lost {
            let gone = lost - taken_back;
            tracing::error!(
                gone,
                "The backend has lost files that are no longer kept here: export again with reprocess_historical."
            );
            // Before the count is settled: a crash in between finds the loss again, and counts it twice rather than not.
            lost::add(&self.root, self.ledger.agent(), gone, Timestamp::now());
        }
        self.ledger.lost(lost);
        self.look().await;
    }
}

/// Asks for each acknowledged file that is still kept whether the backend has it, and takes back those that it has not.
/// As long as the backend is away, it is asked again.
async fn offer(upload: Upload, timing: Timing) -> Offered {
    let mut offered = Offered::default();
    for file in kept(&upload.spool).await {
        offered.kept += 1;
        if known(&upload, &file, &timing).await {
            continue;
        }
        let (spool, moved) = (upload.spool.clone(), file.clone());
        let taken = tokio::task::spawn_blocking(move || spool.take_back(&moved)).await;
        match taken {
            Ok(Ok(true)) => offered.taken_back += 1,
            Ok(Ok(false)) => {}
            Ok(Err(err)) => told(&file, &chain(&err)),
            Err(err) => told(&file, &chain(&err)),
        }
    }
    offered
}

async fn kept(spool: &Spool) -> Vec<Sealed> {
    let spool = spool.clone();
    let found = tokio::task::spawn_blocking(move || spool.sent()).await;
    match found {
        Ok(Ok(found)) => {
            for (export, err) in &found.failed {
                tracing::error!(
                    export,
                    error = chain(err),
                    "Files that were sent cannot be read; they are not offered."
                );
            }
            found.files
        }
        Ok(Err(err)) => {
            tracing::error!(
                error = chain(&err),
                "Files that were sent cannot be read; none is offered again."
            );
            Vec::new()
        }
        Err(err) => {
            tracing::error!(error = chain(&err), "Reading what was sent panicked: this is a bug.");
            Vec::new()
        }
    }
}

/// Whether the backend has the file. One whose name is none of ours is left alone; one in whose place the backend has
/// another is taken back, so that its upload is refused for all to see.
async fn known(upload: &Upload, file: &Sealed, timing: &Timing) -> bool {
    let mut backoff = Backoff::new(timing);
    loop {
        match upload.is_known(file).await {
            Ok(known) => return known,
            Err(UploadError::Name(_)) => return true,
            Err(err) => {
                tracing::debug!(export = file.export, error = chain(&err), "A file cannot be offered yet.");
                tokio::time::sleep(backoff.pause().max(err.retry_after().unwrap_or_default())).await;
            }
        }
    }
}

fn told(file: &Sealed, error: &str) {
    let Sealed { export, model, number, .. } = file;
    tracing::error!(export, model, number, error, "A file that the backend has lost cannot be taken back.");
}
