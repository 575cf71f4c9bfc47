//! What `outrider-aggregator` is told to do: by a file, or by the variables of the original.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::collect::{Credential, Output};

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where collectors connect.
    pub listen: SocketAddr,
    /// TLS of that, where there is any.
    pub tls: Option<ServerTls>,
    /// Where `/metrics` and `/healthz` are; nowhere where nothing is said.
    pub pages: Option<SocketAddr>,
    /// The folder of what is kept until it is sent on.
    pub data: PathBuf,
    /// Its bounds.
    pub bounds: Bounds,
    /// What is put before the names of mini-collector's fields, where a receiver knows them by longer ones.
    pub prefix: String,
    /// Where it is sent on to.
    pub outputs: Vec<Output>,
}

/// Keys of the server, all of it PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// The certificate, with those that lead to its authority.
    pub certificate: Credential,
    /// Its key.
    pub key: Credential,
    /// The authorities of clients: with these, who has no certificate of theirs is refused.
    pub client_ca: Option<Credential>,
}

/// Bounds of an aggregator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The most bytes that wait on the disk; beyond, the oldest are dropped.
    pub queue_bytes: u64,
    /// The most points that go to an output at once, where batches are joined.
    pub batch_points: u64,
    /// The most bytes, as they are kept, likewise.
    pub batch_bytes: usize,
    /// How long fewer points are waited for, in milliseconds.
    pub batch_ms: u64,
    /// The most streams and calls at once; those beyond are refused.
    pub streams: usize,
    /// How long an output may take to answer, in seconds.
    pub answer_s: u64,
    /// The longest pause between two tries of an output, in seconds.
    pub retry_s: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            queue_bytes: 1 << 30,
            batch_points: 10_000,
            batch_bytes: 1 << 20,
            batch_ms: 1000,
            streams: 1000,
            answer_s: 30,
            retry_s: 60,
        }
    }
}
