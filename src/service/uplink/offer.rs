//! Offers acknowledged files again to a backend that came back with an older database.

use outrider_spool::{Sealed, Spool};

use super::Timing;
use super::backoff::Backoff;
use super::upload::{Upload, UploadError};
use crate::task::chain;

/// What was offered.
#[derive(Debug, Default)]
pub(super) struct Offered {
    /// Files that are still kept.
    pub(super) kept: u64,
    /// Those of them that the backend did not have, and that wait to be uploaded again.
    pub(super) taken_back: u64,
}

/// Asks for each acknowledged file that is still kept whether the backend has it, and takes back those that it has not.
/// As long as the backend is away, it is asked again.
pub(super) async fn offer(upload: Upload, timing: Timing) -> Offered {
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

/// Whether the backend has the file. One whose name is none of ours is left alone.
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
