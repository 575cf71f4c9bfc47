//! Follows a command to its end.

use std::time::Duration;

use outrider_backend::admin::{Command, WatchQuery};
use outrider_backend::client::{Client, ClientError};
use outrider_protocol::ids::CommandId;

use crate::output::{in_terminal, note};
use crate::report::Error;
use crate::sessions::Live;

/// How long one question waits for something new. Some proxies cut requests after 30 s.
const WAIT_MS: u64 = 20_000;
/// How often a question is asked again while the backend does not answer.
const TRIES: u32 = 5;
/// The time between two of those.
const PAUSE: Duration = Duration::from_secs(1);

/// What is shown of a command while it is followed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown {
    progress: bool,
    log: bool,
}

impl Shown {
    /// Progress and log; nothing where the end is to be JSON.
    pub(crate) fn all(as_json: bool) -> Self {
        Self { progress: !as_json, log: !as_json }
    }

    pub(crate) fn log_only() -> Self {
        Self { progress: false, log: true }
    }

    pub(crate) fn progress_only() -> Self {
        Self { progress: true, log: false }
    }
}

/// Shows a command until it has ended.
pub(crate) async fn to_end(client: &Client, id: &CommandId, shown: Shown) -> Result<Command, Error> {
    let mut live = if shown.progress { Live::new(in_terminal()) } else { Live::Quiet };
    let mut query = WatchQuery { mark: None, after_line: 0, wait_ms: WAIT_MS };
    loop {
        let watched = patient(client, id, &query).await?;
        for numbered in &watched.lines {
            query.after_line = numbered.number;
            if shown.log {
                live.line(&numbered.line.to_string());
            }
        }
        live.update(&watched.progress);
        query.mark = Some(watched.mark);
        // The log comes in batches: what is still on its way comes before the outcome.
        if watched.command.summary.state.is_end() && watched.lines.is_empty() {
            live.clear();
            return Ok(watched.command);
        }
        if watched.command.summary.state.is_end() {
            query.wait_ms = 0;
        }
    }
}

/// Asks again when the backend is away for a moment.
async fn patient(
    client: &Client,
    id: &CommandId,
    query: &WatchQuery,
) -> Result<outrider_backend::admin::Watched, Error> {
    let mut tries = 0;
    loop {
        match client.watch(id, query).await {
            Err(err @ ClientError::Unreachable { .. }) if tries < TRIES => {
                tries += 1;
                note(&format!("{err} (trying again)"));
                tokio::time::sleep(PAUSE).await;
            }
            other => return Ok(other?),
        }
    }
}
