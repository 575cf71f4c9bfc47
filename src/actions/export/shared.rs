//! Last-processed values that leave the host with the report of an export, where config.json of the host says so. An
//! order cannot: nothing of it comes here.
//!
//! **Invariant:** a value is listed only when it is durable: what is in doubt waits here until its objects are committed
//! (see [`Sharing::in_doubt`]).
//!
//! **Invariant:** memory is bounded for each integration: [`MOST_SESSIONS`] and [`MOST_BYTES`], and a number for each of
//! [`MOST_COUNTED`] sessions beyond; and for all of them together, [`MOST_BYTES_OF_ALL`], so that the values make no report
//! too long for the link and the backend.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use outrider_home::SessionPath;
use outrider_protocol::Raw;
use outrider_protocol::ids::IntegrationId;
use outrider_protocol::report::{LastProcessed, SessionValue};

use super::starred::starred;

/// Sessions of an integration that are listed. A report has to pass through a message and a request.
const MOST_SESSIONS: usize = 1000;
/// What paths and values of an integration may take together, as JSON in bytes, for the same reason.
const MOST_BYTES: usize = 256 << 10;
/// The same of all integrations together.
const MOST_BYTES_OF_ALL: usize = 4 << 20;
/// The longest value that is listed, in bytes: room for a cursor, a time, some hashes. What is longer is told by its size.
const LONGEST_VALUE: usize = 4 << 10;
/// Sessions beyond those listed that are told apart; above it, each value that is stored counts as another session.
const MOST_COUNTED: usize = 131_072;

/// A session's path below its integration.
type Parts = Vec<(String, Option<String>)>;

/// The values of all integrations of an export.
#[derive(Debug, Default)]
pub(super) struct Sharing(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    listed: HashMap<IntegrationId, List>,
    in_doubt: Vec<Noted>,
}

/// A value as it is listed.
pub(super) struct Noted {
    path: SessionPath,
    bytes: usize,
    /// Unless it is too long.
    value: Option<Raw>,
}

impl Noted {
    pub(super) fn of(path: &SessionPath, value: &Raw) -> Self {
        let bytes = value.get().len();
        Self { path: path.clone(), bytes, value: (bytes <= LONGEST_VALUE).then(|| value.clone()) }
    }
}

/// Without the value, which is nothing for a log.
impl std::fmt::Debug for Noted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Noted({} bytes)", self.bytes)
    }
}

impl Sharing {
    /// These values, and no others, are about to become durable with their objects.
    pub(super) fn in_doubt(&self, values: Vec<Noted>) {
        self.state().in_doubt = values;
    }

    /// The values in doubt are durable.
    pub(super) fn confirmed(&self) {
        let mut state = self.state();
        for noted in std::mem::take(&mut state.in_doubt) {
            state.list(noted);
        }
    }

    /// These values are durable.
    pub(super) fn stored(&self, values: &[(SessionPath, Option<Raw>)]) {
        let mut state = self.state();
        for (path, value) in values {
            if let Some(value) = value {
                state.list(Noted::of(path, value));
            }
        }
    }

    /// What leaves the host of an integration's values, without what `redact` takes out of a text.
    pub(super) fn report(
        &self,
        integration: &IntegrationId,
        redact: &dyn Fn(&str) -> String,
    ) -> LastProcessed {
        self.state().listed.get(integration).map(|list| list.report(redact)).unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn list(&mut self, noted: Noted) {
        let Noted { path, bytes, value } = noted;
        let all: usize = self.listed.values().map(|it| it.bytes).sum();
        let list = self.listed.entry(path.integration).or_default();
        let room = MOST_BYTES.min(list.bytes + MOST_BYTES_OF_ALL.saturating_sub(all));
        list.put(path.parts, bytes, value, room);
    }
}

/// The values of one integration.
#[derive(Default)]
struct List {
    sessions: HashMap<Parts, Listed>,
    /// What they take.
    bytes: usize,
    /// How many values were stored.
    stored: u64,
    /// Sessions for which there was no room, by a hash of their paths.
    beyond: HashSet<u64>,
    /// Values of such sessions that could not be told apart any more.
    uncounted: u64,
    hasher: RandomState,
}

/// As for [`Noted`].
impl std::fmt::Debug for List {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "List({} sessions, {} bytes)", self.sessions.len(), self.bytes)
    }
}

struct Listed {
    /// Its place among all that were stored.
    number: u64,
    /// How long the value is.
    bytes: usize,
    value: Option<Raw>,
    /// What path and value take.
    takes: usize,
}

impl List {
    /// Lists a session with its value, in the place of an earlier one, where the list may take so many bytes.
    fn put(&mut self, path: Parts, bytes: usize, value: Option<Raw>, room: usize) {
        self.stored += 1;
        if let Some(earlier) = self.sessions.remove(&path) {
            self.bytes -= earlier.takes;
        }
        let takes = json_bytes(&path) + value.as_ref().map_or(0, |it| it.get().len());
        if self.sessions.len() < MOST_SESSIONS && self.bytes + takes <= room {
            self.beyond.remove(&self.hasher.hash_one(&path));
            self.bytes += takes;
            self.sessions.insert(path, Listed { number: self.stored, bytes, value, takes });
            return;
        }
        let hash = self.hasher.hash_one(&path);
        if self.beyond.contains(&hash) {
            return;
        }
        if self.beyond.len() < MOST_COUNTED {
            self.beyond.insert(hash);
        } else {
            self.uncounted += 1;
        }
    }

    fn report(&self, redact: &dyn Fn(&str) -> String) -> LastProcessed {
        let mut sessions: Vec<_> = self.sessions.iter().collect();
        sessions.sort_unstable_by_key(|(_, it)| it.number);
        let part = |(name, object): &(String, Option<String>)| (redact(name), object.as_deref().map(redact));
        let value = |(path, it): (&Parts, &Listed)| SessionValue {
            path: path.iter().map(part).collect(),
            bytes: it.bytes as u64,
            value: it.value.as_ref().map(|it| starred(it, redact)),
        };
        LastProcessed {
            values: sessions.into_iter().map(value).collect(),
            more: self.beyond.len() as u64 + self.uncounted,
        }
    }
}

fn json_bytes(path: &Parts) -> usize {
    // Texts can always be written.
    serde_json::to_string(path).map_or(0, |it| it.len())
}

#[cfg(test)]
mod tests;
