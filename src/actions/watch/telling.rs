//! What the watcher logs and keeps of what it sees: each thing once, until it is another.

use std::time::Duration;

use jiff::Timestamp;
use outrider_protocol::fault::chain;
use outrider_protocol::local::{BackendLink, HealthReply, SelfTest};
use outrider_protocol::upgrade::Build;
use outrider_versions::VersionsError;
use tokio::time::Instant;

use super::verdict::Observation;
use super::watcher::Watcher;

/// How long answers are kept for a diagnosis.
const ANSWERS_KEPT: Duration = Duration::from_mins(1);
/// How many at most.
const ANSWERS_MOST: usize = 240;

impl Watcher {
    /// Keeps what was seen, and logs it when it is another than before.
    pub(super) fn tell(&mut self, seen: &Observation) {
        let (state, kept) = match seen {
            Observation::Answer(reply) => {
                (in_words(reply), serde_json::to_string(reply).unwrap_or_else(|err| err.to_string()))
            }
            Observation::Silent { why } => {
                ("a process has the root, and gives no answer".to_owned(), why.clone())
            }
            Observation::Gone => ("it ended, and was not started again yet".to_owned(), "gone".to_owned()),
            Observation::NotStarted => ("it was not started yet".to_owned(), "not started".to_owned()),
            Observation::Stopped => ("it was stopped on purpose".to_owned(), "stopped".to_owned()),
        };
        let now = Instant::now();
        self.answers.push_back((now, format!("{} {kept}", Timestamp::now())));
        let is_old = |it: &(Instant, String)| now.saturating_duration_since(it.0) > ANSWERS_KEPT;
        while self.answers.len() > ANSWERS_MOST || self.answers.front().is_some_and(is_old) {
            self.answers.pop_front();
        }
        if self.said[1] != state {
            tracing::info!(state, "The service's state.");
            self.said[1] = state;
        }
    }

    /// Logs what became of an act, an error once until it is another.
    pub(super) fn told(&mut self, what: &str, done: Result<(), VersionsError>) {
        match done {
            Ok(()) => {
                tracing::info!("Done: {what}");
                self.said[0].clear();
            }
            Err(err) => self.trouble(what, &chain(&err)),
        }
    }

    pub(super) fn trouble(&mut self, what: &str, error: &str) {
        let said = format!("{what} {error}");
        if self.said[0] != said {
            tracing::error!(error, "Not done, and tried again: {what}");
            self.said[0] = said;
        }
    }
}

/// An answer without what changes each time.
fn in_words(reply: &HealthReply) -> String {
    let build = reply.build.as_ref().map_or_else(|| reply.version.clone(), Build::to_string);
    let self_test = match &reply.self_test {
        SelfTest::Pending => "its self-test runs",
        SelfTest::Answered => "its self-test answered",
        SelfTest::Failed { .. } => "its self-test failed",
    };
    let backend = match &reply.backend {
        BackendLink::Unknown => "nothing of the backend yet".to_owned(),
        BackendLink::CheckedIn { .. } => "the backend has taken its check-in".to_owned(),
        BackendLink::Away { error } => format!("the backend is away: {error}"),
        BackendLink::Busy { error } => format!("the backend is busy, or in trouble: {error}"),
        BackendLink::Refused { error } => format!("the backend refuses it: {error}"),
    };
    format!("{build} answers; {self_test}; {backend}")
}
