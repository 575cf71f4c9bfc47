//! Calls that are made again and again until the backend answers.

use std::time::Duration;

use outrider_protocol::Call;
use outrider_protocol::fault::chain;
use tokio::sync::watch;
use tokio::time::sleep;

use super::Timing;
use super::backoff::Backoff;
use super::http::{CallError, Http, Verdict};
use crate::snapshot::LinkStatus;

/// Calls the backend until it answers.
#[derive(Debug, Clone)]
pub(crate) struct Insist {
    pub(crate) http: Http,
    pub(crate) timing: Timing,
    pub(crate) link: watch::Receiver<LinkStatus>,
}

impl Insist {
    /// Calls until it is answered. The error is an answer too: that this will never be taken. `about` is for the log.
    pub(crate) async fn call<M: Call>(&self, about: &str, params: &M::Params) -> Result<M::Reply, CallError> {
        let mut backoff = Backoff::new(&self.timing);
        loop {
            let err = match self.http.call::<M>(params).await {
                Ok(reply) => return Ok(reply),
                Err(err) => err,
            };
            let error = chain(&err);
            if err.is_no_command() {
                // Of an order that was given on the host, or that the backend has forgotten: nobody there waits for it.
                tracing::debug!(about, method = M::NAME, "The backend has no such command.");
                return Err(err);
            }
            if err.verdict() == Verdict::GiveUp {
                tracing::error!(about, method = M::NAME, error, "The backend does not take this.");
                return Err(err);
            }
            tracing::debug!(about, method = M::NAME, error, "Not delivered; it is tried again.");
            self.pause(&mut backoff, &err).await;
        }
    }

    /// Waits before the next try, as long as the backend asked for, but no longer than until it is back.
    pub(crate) async fn pause(&self, backoff: &mut Backoff, err: &CallError) {
        sleep(err.retry_after().unwrap_or(Duration::ZERO)).await;
        let mut link = self.link.clone();
        let was_connected = link.borrow_and_update().is_connected();
        tokio::select! {
            () = sleep(backoff.pause()) => {}
            Ok(_) = link.wait_for(LinkStatus::is_connected), if !was_connected => {}
        }
    }
}
