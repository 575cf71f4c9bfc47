//! Tells the backend what was measured last, for people to look at.
//!
//! # Invariants
//! - The latest only, and seldom: what was measured while the backend was away, or between two calls, is left out. Outputs
//!   are where samples are kept.
//! - A call that fails is not made again: the next one says more.

use std::time::Duration;

use outrider_protocol::control::{Measured, MeasuredParams};
use outrider_protocol::fault::chain;
use tokio::sync::watch;
use tokio::time::sleep;

use super::http::Verdict;
use super::insist::Insist;
use crate::collecting::Latest;
use crate::snapshot::LinkStatus;

/// The least time between two calls.
const EVERY: Duration = Duration::from_secs(10);

/// Tells it when it changes, until the service ends. A backend that does not know this call may be another one after the
/// next connection.
pub(crate) async fn tell(mut latest: watch::Receiver<Latest>, insist: Insist) {
    let mut link = insist.link.clone();
    // The value that was there before the first sample is no news.
    while latest.changed().await.is_ok() {
        if link.wait_for(LinkStatus::is_connected).await.is_err() {
            return;
        }
        let readings = latest.borrow_and_update().to_vec();
        if let Err(err) = insist.http.call::<Measured>(&MeasuredParams { readings }).await {
            let error = chain(&err);
            tracing::debug!(error, "What was measured last was not told to the backend.");
            if err.verdict() == Verdict::GiveUp && link.wait_for(|it| !it.is_connected()).await.is_err() {
                return;
            }
        }
        sleep(EVERY).await;
    }
}
