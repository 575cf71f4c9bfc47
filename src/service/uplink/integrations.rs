//! Tells the backend what the installed integrations say of themselves.

use std::sync::Arc;

use jiff::Timestamp;
use outrider_protocol::control::Integrations;
use outrider_protocol::report::DescribeReport;
use tokio::sync::watch;

use super::insist::Insist;
use crate::snapshot::LinkStatus;

/// What is known; nothing until the first answer.
pub(crate) type Known = Option<Arc<DescribeReport>>;

/// Tells what is known when it changes, and again on each new connection: the backend may be another one by then, or have
/// lost it. Ends with the service.
pub(crate) async fn tell(mut known: watch::Receiver<Known>, insist: Insist) {
    let mut link = insist.link.clone();
    loop {
        let since = connected(&link.borrow());
        let report = known.borrow_and_update().clone();
        if let (Some(report), Some(_)) = (report, since) {
            // A refusal is in the log, and is no reason to tell it again before something changes.
            drop(insist.call::<Integrations>("integrations", &report).await);
        }
        tokio::select! {
            changed = known.changed() => if changed.is_err() { return },
            changed = link.wait_for(|it| connected(it) != since) => if changed.is_err() { return },
        }
    }
}

/// Which connection it is.
pub(super) fn connected(link: &LinkStatus) -> Option<Timestamp> {
    match link {
        LinkStatus::Connected { since, .. } => Some(*since),
        LinkStatus::Connecting | LinkStatus::Away { .. } | LinkStatus::Refused { .. } => None,
    }
}
