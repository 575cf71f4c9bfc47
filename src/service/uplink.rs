//! Everything that passes between the service and the backend: the only HTTP of this crate.

pub(crate) mod backoff;
pub(crate) mod collecting;
pub(crate) mod courier;
pub(crate) mod crashes;
pub(crate) mod http;
pub(crate) mod insist;
pub(crate) mod integrations;
pub(crate) mod ledger;
pub(crate) mod lost;
pub(crate) mod measured;
pub(crate) mod orders;
mod stream;
mod upload;
pub(crate) mod uploads;

use std::time::Duration;

use outrider_home::Limits;
use outrider_protocol::control::STREAM_QUIET_S;

/// How long the uplink waits for what. Those that a person may want to set are in [`Limits`].
#[derive(Debug, Clone)]
pub(crate) struct Timing {
    /// The first pause after a failure.
    pub(crate) retry_first: Duration,
    /// The longest pause between two tries.
    pub(crate) retry_most: Duration,
    /// A stream of orders that is silent for longer is given up: two signs of life were missed.
    pub(crate) stream_quiet: Duration,
    /// How long to poll before a stream is tried again, where one was held back.
    pub(crate) stream_again: Duration,
    /// How long the backend may keep a poll: below the idle limit of common proxies.
    pub(crate) poll_wait: Duration,
    /// Progress of one command is told no more often.
    pub(crate) progress_every: Duration,
    /// How long a log line waits for company.
    pub(crate) log_linger: Duration,
    /// How often files that were acknowledged long ago are removed, and those looked for that nobody told of.
    pub(crate) spool_every: Duration,
}

impl Timing {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            retry_first: Duration::from_millis(500),
            retry_most: limits.reconnect_max(),
            stream_quiet: Duration::from_secs(STREAM_QUIET_S * 2),
            stream_again: Duration::from_secs(600),
            poll_wait: Duration::from_secs(25),
            progress_every: Duration::from_millis(500),
            // With it, a line is there well within the two seconds that a person may wait for it.
            log_linger: Duration::from_millis(500),
            spool_every: Duration::from_secs(600),
        }
    }
}
