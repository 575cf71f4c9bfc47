//! The configuration: as it is written, and as the rest of the program knows it.

use std::time::Duration;

use outrider_integration::{ConfigError, Error};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::leak::Leak;

/// The configuration as it is written. Numbers are read wide, so that all that are out of range are told at once.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) organizations: i64,
    pub(crate) users: i64,
    pub(crate) repos: i64,
    pub(crate) pull_requests: i64,
    pub(crate) object_bytes: i64,
    pub(crate) delay_ms: i64,
    pub(crate) batch: i64,
    pub(crate) seed: u64,
    pub(crate) skip_unchanged: bool,
    pub(crate) announce: bool,
    pub(crate) fault: Option<FaultSettings>,
    pub(crate) access_tokens: i64,
    pub(crate) pause_s: i64,
    /// A secret by its name.
    pub(crate) token: Option<String>,
    /// A secret by the schema's word.
    pub(crate) pin: Option<String>,
    /// Where the source is; nobody goes there.
    pub(crate) url: Option<String>,
    pub(crate) leak: Option<Leak>,
}

/// A fault as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FaultSettings {
    kind: FaultKind,
    #[serde(default = "first")]
    at: i64,
}

fn first() -> i64 {
    1
}

/// How to misbehave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FaultKind {
    Fail,
    Project,
    Hang,
    Crash,
    Panic,
    Kill,
    Flood,
    Garbage,
}

/// How to misbehave, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    /// At this object of the run, counted from 1.
    pub(crate) at: u64,
}

/// The configuration when it is valid.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) organizations: u64,
    /// In each organization.
    pub(crate) users: u64,
    /// In each organization.
    pub(crate) repos: u64,
    /// In each repository.
    pub(crate) pull_requests: u64,
    pub(crate) object_bytes: usize,
    pub(crate) delay: Duration,
    pub(crate) batch: usize,
    pub(crate) seed: u64,
    pub(crate) skip_unchanged: bool,
    /// Whether it logs when its first object was accepted.
    pub(crate) announce: bool,
    pub(crate) fault: Option<Fault>,
    /// Access tokens that it asks for; it takes the last one.
    pub(crate) access_tokens: u64,
    /// How long it waits for a made-up rate limit at its beginning.
    pub(crate) pause: Duration,
    pub(crate) leak: Option<Leak>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            organizations: 1,
            users: 3,
            repos: 2,
            pull_requests: 10,
            object_bytes: 400,
            delay_ms: 0,
            batch: 200,
            seed: 0,
            skip_unchanged: false,
            announce: false,
            fault: None,
            access_tokens: 0,
            pause_s: 0,
            token: None,
            pin: None,
            url: None,
            leak: None,
        }
    }
}

/// Each number, its least and its greatest value. The greatest are what a slip of the pen exceeds and a benchmark does not.
const COUNTS: [(&str, i64, i64); 9] = [
    ("organizations", 0, 10_000),
    ("users", 0, 1_000_000),
    ("repos", 0, 100_000),
    ("pull_requests", 0, 100_000_000),
    ("object_bytes", 0, 512 * 1024 * 1024),
    ("delay_ms", 0, 3_600_000),
    ("batch", 1, 10_000),
    ("access_tokens", 0, 100),
    ("pause_s", 0, 3600),
];

/// Objects of one run. Above this some count has a zero too many.
const MOST_OBJECTS: u64 = 10_000_000_000;

/// Repositories of one run, since the answer to `export` names each.
const MOST_REPOS: u64 = 100_000;

impl TryFrom<Settings> for Plan {
    type Error = Error;

    fn try_from(settings: Settings) -> Result<Self, Error> {
        let found = [
            settings.organizations,
            settings.users,
            settings.repos,
            settings.pull_requests,
            settings.object_bytes,
            settings.delay_ms,
            settings.batch,
            settings.access_tokens,
            settings.pause_s,
        ];
        let mut errors: Vec<_> = COUNTS
            .iter()
            .zip(found)
            .filter_map(|((name, least, most), found)| {
                out_of_range(&format!("/{name}"), found, *least, *most)
            })
            .collect();
        if let Some(fault) = &settings.fault {
            errors.extend(out_of_range("/fault/at", fault.at, 1, i64::MAX));
        }
        // What is out of range was told above, and the plan is then not used.
        let number = |found: i64| u64::try_from(found).unwrap_or_default();
        let plan = Self {
            organizations: number(settings.organizations),
            users: number(settings.users),
            repos: number(settings.repos),
            pull_requests: number(settings.pull_requests),
            object_bytes: usize::try_from(settings.object_bytes).unwrap_or_default(),
            delay: Duration::from_millis(number(settings.delay_ms)),
            batch: usize::try_from(settings.batch).unwrap_or_default(),
            seed: settings.seed,
            skip_unchanged: settings.skip_unchanged,
            announce: settings.announce,
            leak: settings.leak,
            fault: settings.fault.map(|fault| Fault { kind: fault.kind, at: number(fault.at) }),
            access_tokens: number(settings.access_tokens),
            pause: Duration::from_secs(number(settings.pause_s)),
        };
        let all = [("objects", plan.objects(), MOST_OBJECTS), ("repositories", plan.all_repos(), MOST_REPOS)];
        if errors.is_empty() {
            let exceeded = all.iter().filter(|(_, found, most)| found > most);
            errors.extend(exceeded.map(|(what, found, most)| ConfigError {
                path: String::new(),
                message: format!("{found} {what} in all; expected at most {most}"),
            }));
        }
        if errors.is_empty() { Ok(plan) } else { Err(Error::Config(errors)) }
    }
}

impl Plan {
    fn all_repos(&self) -> u64 {
        self.organizations.saturating_mul(self.repos)
    }

    /// How many objects there are in all.
    pub(crate) fn objects(&self) -> u64 {
        let in_organization = self.users + self.repos + self.repos.saturating_mul(self.pull_requests);
        self.organizations.saturating_mul(in_organization)
    }
}

fn out_of_range(path: &str, found: i64, least: i64, most: i64) -> Option<ConfigError> {
    let message = || format!("{found} is out of range; expected a whole number from {least} to {most}");
    (!(least..=most).contains(&found)).then(|| ConfigError { path: path.to_owned(), message: message() })
}

/// JSON Schema of the configuration.
pub(crate) fn schema() -> Value {
    let mut properties: serde_json::Map<_, _> = COUNTS
        .iter()
        .map(|(name, least, most)| {
            ((*name).to_owned(), json!({ "type": "integer", "minimum": least, "maximum": most }))
        })
        .collect();
    properties.insert("seed".into(), json!({ "type": "integer", "minimum": 0 }));
    properties.insert("skip_unchanged".into(), json!({ "type": "boolean" }));
    properties.insert("announce".into(), json!({ "type": "boolean" }));
    let kinds = ["fail", "project", "hang", "crash", "panic", "kill", "flood", "garbage"];
    let fault = json!({
        "type": "object",
        "properties": {
            "kind": { "enum": kinds },
            "at": { "type": "integer", "minimum": 1, "default": 1 },
        },
        "required": ["kind"],
        "additionalProperties": false,
    });
    properties.insert("fault".into(), fault);
    let leak = json!({
        "type": "object",
        "properties": {
            "texts": { "type": "array", "items": { "type": "string" } },
            "end": { "enum": ["go_on", "fail", "panic", "misuse"], "default": "go_on" },
        },
        "required": ["texts"],
        "additionalProperties": false,
    });
    properties.insert("leak".into(), leak);
    for secret in ["token", "pin"] {
        properties.insert(secret.into(), json!({ "type": "string", "writeOnly": true }));
    }
    properties.insert("url".into(), json!({ "type": "string" }));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}
