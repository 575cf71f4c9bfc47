//! The APIs that `outrider collect` polls, as config.json says.
//!
//! ```text
//! ApiGroup ── systems: System ── vdcs: Vdc ── nodes: Node      (who is asked)
//!         └── apis: Api                                        (what of each system)
//! ```

use std::path::PathBuf;

use super::{Credential, Reach};

/// Systems of one kind, and what they are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiGroup {
    /// By which log lines and the cursors of time windows know it; each has its own.
    pub name: String,
    /// Who is asked.
    pub systems: Vec<System>,
    /// What they are asked for.
    pub apis: Vec<Api>,
    /// What their VDCs say of themselves and of their nodes, as tags.
    pub facts: Vec<Fact>,
    /// Time between two polls of an API that says nothing else, in milliseconds.
    pub interval_ms: u64,
    /// Bounds of all its requests.
    pub bounds: Bounds,
    /// How servers and this client prove who they are.
    pub tls: Tls,
    /// Which addresses its nodes may be at.
    pub reach: Reach,
}

/// Bounds of requests and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How long one request may take, its answer included, in milliseconds.
    pub timeout_ms: u64,
    /// How often a request is tried in all.
    pub tries: u32,
    /// How long a node that timed out is left alone, in milliseconds; 0 is not at all.
    pub block_ms: u64,
    /// Requests a minute to one system; 0 is as many as there are.
    pub requests_per_min: u64,
    /// The largest answer, in bytes.
    pub answer_bytes: usize,
    /// The most pages of one poll.
    pub pages: u64,
    /// The most events of one poll; those beyond are counted and told.
    pub events: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            timeout_ms: 30_000,
            tries: 3,
            block_ms: 60_000,
            requests_per_min: 0,
            answer_bytes: 16 << 20,
            pages: 1000,
            events: 100_000,
        }
    }
}

/// How servers and this client prove who they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates in PEM that are trusted beside those of the host.
    pub ca_file: Option<PathBuf>,
    /// The client's own certificate and its key in PEM.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Any certificate is taken: whoever sits between can read the secrets.
    pub danger_accept_any_certificate: bool,
}

/// What belongs together: a storage system with its data centres, a cluster, one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// The tag `system` of its events.
    pub name: String,
    /// How it is logged into.
    pub login: Login,
    /// Tags of its events.
    pub tags: Vec<(String, String)>,
    /// How long what its VDCs say of themselves is good, in milliseconds: then they are asked for their facts again.
    pub facts_interval_ms: u64,
    /// Its parts; at least one.
    pub vdcs: Vec<Vdc>,
}

/// A part of a system whose nodes answer alike: a virtual data centre.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vdc {
    /// The tag `vdc` of its events.
    pub name: String,
    /// Tags of its events.
    pub tags: Vec<(String, String)>,
    /// Its nodes; at least one.
    pub nodes: Vec<Node>,
}

/// Who answers requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its address without a path: `https://10.0.0.1:4443`.
    pub url: String,
    /// What stands in paths for it.
    pub id: Option<String>,
    /// The tag `node` of its events, in place of its address.
    pub name: Option<String>,
}

/// How a system is logged into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// Not at all.
    None,
    /// Name and password with each request.
    Basic {
        /// Who.
        user: String,
        /// The password.
        password: Credential,
    },
    /// `Authorization: Bearer …`.
    Bearer(Credential),
    /// A header.
    Header {
        /// Its name.
        name: String,
        /// Its value.
        value: Credential,
    },
    /// Name and password once, for a token in a header of the answer, which goes with each request.
    Token {
        /// Who.
        user: String,
        /// The password.
        password: Credential,
        /// Where the token is fetched.
        path: String,
        /// The header, of the answer and of requests.
        header: String,
        /// Where an old token is given back, if there is such a place.
        logout: Option<String>,
        /// For how long a token is used, in milliseconds.
        expires_ms: u64,
    },
}

/// Who is asked by one API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// One node of the system, whichever answers.
    System,
    /// One node in each VDC, whichever answers.
    Vdc,
    /// Every node.
    Node,
    /// The directory tables of an ECS, which any node lists on a port of its own.
    Dtinfo {
        /// The port.
        port: u16,
    },
}

/// A request of each VDC whose answer becomes tags of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// Path and query, with placeholders.
    pub path: String,
    /// Where the array of nodes is, and the field of an element that is a node's host, address, id or name; the answer is of
    /// the VDC as a whole when there is none.
    pub nodes: Option<(String, String)>,
    /// Tags, each with the field that it is of.
    pub tags: Vec<(String, String)>,
}

/// One request, and how its answer becomes events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// The name of its events.
    pub name: String,
    /// Who is asked.
    pub level: Level,
    /// Whether another node of the VDC may answer for a node.
    pub any_node: bool,
    /// Time between two polls, in milliseconds.
    pub interval_ms: u64,
    /// Path and query, with placeholders.
    pub path: String,
    /// A body in JSON, with placeholders; where there is one the request is a POST.
    pub body: Option<String>,
    /// How further pages are asked for.
    pub pages: Pages,
    /// The time that is asked for.
    pub window: Option<Window>,
    /// Where the ids come from that `{ids}` stands for.
    pub ids: Option<Ids>,
    /// From an answer to events.
    pub mapping: Mapping,
}

/// How further pages are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pages {
    /// There is one.
    One,
    /// A field holds the address of the next.
    NextField(String),
    /// The header `Link` does, with `rel="next"`.
    LinkHeader,
    /// A field holds what a parameter of the query is for the next.
    Token {
        /// The field.
        field: String,
        /// The parameter.
        query: String,
    },
    /// A parameter of the query says how many elements are left out.
    Offset {
        /// The parameter.
        query: String,
        /// The parameter for elements a page, if it is sent.
        size_query: Option<String>,
        /// Elements a page.
        size: u64,
    },
    /// A parameter of the query is the page's number.
    Number {
        /// The parameter.
        query: String,
        /// The number of the first.
        first: u64,
        /// The parameter for elements a page, if it is sent.
        size_query: Option<String>,
        /// Elements a page.
        size: u64,
        /// The field that holds the number of the last page.
        last_field: Option<String>,
    },
}

/// The time that is asked for: from where the last poll ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// How `{window.start}` and `{window.end}` are written.
    pub format: TimeFormat,
    /// Both are multiples of it, in milliseconds.
    pub step_ms: u64,
    /// How far it stays behind the clock, in milliseconds.
    pub lag_ms: u64,
    /// How far back the first one reaches, in milliseconds.
    pub first_ms: u64,
    /// The longest; a longer time is asked for in several.
    pub longest_ms: u64,
}

/// How a time is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimeFormat {
    /// As RFC 3339 says.
    Rfc3339,
    /// Seconds since 1970.
    UnixSeconds,
    /// Milliseconds since 1970.
    UnixMillis,
    /// As strftime has it, in UTC.
    Strftime(String),
}

/// Ids that a request lists, so many at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// Path and query of the list.
    pub path: String,
    /// How its further pages are asked for.
    pub pages: Pages,
    /// Where its elements are.
    pub split: String,
    /// The field of an element that is the id; the element itself when there is none.
    pub field: Option<String>,
    /// How many go into one request.
    pub at_a_time: usize,
}

/// From an answer to events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mapping {
    /// The field that holds the array of events; the whole answer is one event when there is none.
    pub split: Option<String>,
    /// An answer without that field has no events, in place of being an error.
    pub split_may_miss: bool,
    /// A program of jq, run on each element: what it puts out are the events.
    pub jq: Option<String>,
    /// Fields that are left out. `*` stands for anything.
    pub drop: Vec<String>,
    /// Fields that hold arrays of values with their times.
    pub history: Option<History>,
    /// Fields that become numbers where their text is one. `*` stands for anything.
    pub numbers: Vec<String>,
    /// Nested objects become fields with dots in their names.
    pub flatten: bool,
    /// The field that holds an event's time, and how it is written there; the poll's time when there is none.
    pub time: Option<(String, TimeFormat)>,
}

/// Fields that hold arrays of values with their times: one event for each time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Which. `*` stands for anything.
    pub fields: Vec<String>,
    /// The field of an element that holds its time.
    pub time: String,
    /// How it is written there.
    pub format: TimeFormat,
}

impl ApiGroup {
    /// Its secrets that stand in config.json.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.systems.iter().filter_map(|it| match it.login.credential()? {
            Credential::Given(text) => Some(text.as_str()),
            Credential::File(_) => None,
        })
    }
}

impl Login {
    /// The secret that it needs.
    #[must_use]
    pub fn credential(&self) -> Option<&Credential> {
        match self {
            Self::None => None,
            Self::Basic { password: it, .. }
            | Self::Bearer(it)
            | Self::Header { value: it, .. }
            | Self::Token { password: it, .. } => Some(it),
        }
    }
}
