//! Tells the backend of crashes, one after the other, each until it is answered.

use std::path::PathBuf;

use outrider_protocol::control::Crashed;

use super::insist::Insist;
use crate::crashes::Crashes;

/// Tells of what waits and of what is added, for ever. A crash that the backend does not take at all, as one that is
/// older than this call, is in this log.
pub(crate) async fn tell(crashes: Crashes, insist: Insist) {
    let mut last = PathBuf::new();
    loop {
        // One that could not be removed is not told again and again.
        while let Some((path, crash)) = crashes.oldest().filter(|(path, _)| *path != last) {
            let told = insist.call::<Crashed>(&crash.crash.component, &crash).await;
            if told.is_err() {
                tracing::error!(detail = crash.crash.detail, "The backend does not want to hear of a crash.");
            }
            Crashes::settled(&path);
            last = path;
        }
        crashes.added().await;
    }
}
