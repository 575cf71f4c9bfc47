//! Tells the backend whether this agent collects, by whose section, and what does not work.

use std::sync::Arc;
use std::time::Duration;

use outrider_protocol::collect::ordered::CollectingParams;
use outrider_protocol::control::CollectingChanged;
use outrider_protocol::fault::chain;
use tokio::sync::watch;
use tokio::time::sleep;

use super::http::Verdict;
use super::insist::Insist;
use super::integrations::connected;
use crate::snapshot::LinkStatus;

/// The least time between two calls: a receiver that comes and goes is no reason for more.
const EVERY: Duration = Duration::from_secs(2);

/// What is to be told; nothing until config.json was looked at.
pub(crate) type Told = Option<Arc<CollectingParams>>;

/// Tells the latest when it changes, and again on each new connection: the backend may be another one by then. Ends with the
/// service. A backend that is older than this call refuses it, which is no fault of anybody.
pub(crate) async fn tell(mut told: watch::Receiver<Told>, insist: Insist) {
    let mut link = insist.link.clone();
    loop {
        let since = match link.wait_for(LinkStatus::is_connected).await {
            Ok(link) => connected(&link),
            Err(_) => return,
        };
        let now = told.borrow_and_update().clone();
        if let Some(now) = now {
            let called = insist.http.call::<CollectingChanged>(&now).await;
            sleep(EVERY).await;
            if let Err(err) = called {
                tracing::debug!(
                    error = chain(&err),
                    "Whether this agent collects was not told to the backend."
                );
                if err.verdict() != Verdict::GiveUp {
                    continue;
                }
            }
        }
        tokio::select! {
            changed = told.changed() => if changed.is_err() { return },
            changed = link.wait_for(|it| connected(it) != since) => if changed.is_err() { return },
        }
    }
}
