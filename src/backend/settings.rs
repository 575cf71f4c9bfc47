//! What a backend can be told when it starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How to run a backend.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder with the database, the exported files and the admin token. Made where it is missing.
    pub data: PathBuf,
    /// Where to listen; port 0 for any free one.
    pub listen: SocketAddr,
    /// The certificate, for a backend that speaks TLS itself.
    pub tls: Option<Tls>,
    /// The folder of signed releases that anybody may read; `releases` in the data folder where nothing is said.
    pub releases: Option<PathBuf>,
    /// The bounds.
    pub limits: Limits,
}

impl Settings {
    /// A backend with its data in `data` that listens at `listen`, without TLS and with the usual limits.
    #[must_use]
    pub fn new(data: PathBuf, listen: SocketAddr) -> Self {
        Self { data, listen, tls: None, releases: None, limits: Limits::default() }
    }
}

/// A certificate and its key, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate with its chain, the server's own first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// The bounds of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The longest body of a call, in bytes. As long as the longest line between processes, so that any report fits.
    pub message_bytes: usize,
    /// The longest order, in bytes. An agent takes events of at most 16 MiB, and an order that it cannot take would keep
    /// all later ones from it; no configuration is near this.
    pub order_bytes: usize,
    /// The largest file an agent may upload, in bytes. Spool files are sealed at some 16 MiB.
    pub file_bytes: u64,
    /// The longest wait for the next bytes of an upload.
    pub upload_quiet: Duration,
    /// Commands of one agent that have not ended.
    pub open_commands: u64,
    /// How long a command waits for its agent where the order says nothing else.
    pub command_expiry: Duration,
    /// An agent that does not list a command which it accepted longer ago than this has lost it. The time covers an
    /// acceptance that overtakes the agent's list on the way.
    pub lost_after: Duration,
    /// Lines kept of a command's log: the newest.
    pub log_lines: u32,
    /// Bytes kept of a log line's message.
    pub log_message_bytes: usize,
    /// Finished sessions kept below one parent; the parent itself counts them all.
    pub finished_sessions: u32,
    /// Sessions kept of a command.
    pub sessions: u32,
    /// How long a command is kept after its end, with its progress and log. Its files stay.
    pub keep_commands: Duration,
    /// How long a browser stays logged in.
    pub login: Duration,
    /// How long a login link works.
    pub login_link: Duration,
    /// How often an agent is to say that it is alive.
    pub ping: Duration,
    /// The longest time to wait for open requests at the end.
    pub stop: Duration,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 32 * 1024 * 1024,
            order_bytes: 4 * 1024 * 1024,
            file_bytes: 4 * 1024 * 1024 * 1024,
            upload_quiet: Duration::from_secs(60),
            open_commands: 1000,
            command_expiry: 7 * DAY,
            lost_after: Duration::from_secs(60),
            log_lines: 10_000,
            log_message_bytes: 8 * 1024,
            finished_sessions: 20,
            sessions: 2_000,
            keep_commands: 90 * DAY,
            login: 30 * DAY,
            login_link: DAY,
            ping: Duration::from_secs(30),
            stop: Duration::from_secs(5),
        }
    }
}
