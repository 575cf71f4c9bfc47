//! What `outrider-aggregator` is told to do: by a file, or by the variables of the original.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::collect::{Access, Credential, Output};

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where collectors connect.
    pub listen: SocketAddr,
    /// TLS of that, where there is any.
    pub tls: Option<ServerTls>,
    /// Where `/metrics` and `/healthz` are; nowhere where nothing is said.
    pub pages: Option<SocketAddr>,
    /// Where what was received waits until it is sent on.
    pub queue: Queue,
    /// Its bounds.
    pub bounds: Bounds,
    /// What is put before the names of mini-collector's fields, where a receiver knows them by longer ones.
    pub prefix: String,
    /// Where it is sent on to.
    pub outputs: Vec<Output>,
}

/// What keeps a batch from its acknowledgement on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Queue {
    /// A file of the aggregator's own, in this folder.
    Embedded(PathBuf),
    /// A stream of NATS JetStream, which several aggregators may share.
    Jetstream(Jetstream),
}

/// A stream of NATS JetStream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jetstream {
    /// Servers of one cluster, each as [`nats_addresses`] takes it.
    pub servers: Vec<String>,
    /// The stream's name.
    pub stream: String,
    /// How many servers keep each batch, where the stream is made.
    pub replicas: usize,
    /// For how long a batch that comes again is known, in seconds.
    pub duplicates_s: u64,
    /// What the servers ask for; no API key.
    pub access: Access,
    /// TLS, where the servers or the address do not ask for it by themselves.
    pub tls: Option<NatsTls>,
}

/// TLS as a client of NATS: files of PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsTls {
    /// The authorities whose certificates are believed, in place of the system's.
    pub ca: Option<PathBuf>,
    /// The client's own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Jetstream {
    /// With the usual name and bounds.
    #[must_use]
    pub fn at(servers: Vec<String>) -> Self {
        Self {
            servers,
            stream: "outrider".to_owned(),
            replicas: 1,
            duplicates_s: 120,
            access: Access::Open,
            tls: None,
        }
    }
}

/// What [`nats_addresses`] takes, for messages.
pub const NATS_ADDRESSES: &str = "nats://HOST:PORT or tls://HOST:PORT, as nats://127.0.0.1:4222; several of one cluster with commas between them";

/// The addresses of NATS's servers, with commas between them.
///
/// # Errors
/// What was found in the place of an address; nothing that may be a secret.
pub fn nats_addresses(text: &str) -> Result<Vec<String>, String> {
    if text.contains('@') {
        // Not repeated: what stands before the @ is a password.
        return Err("an address with a user name or password in it".to_owned());
    }
    let mut servers = Vec::new();
    for one in text.split(',').map(str::trim) {
        let host = one.strip_prefix("nats://").or_else(|| one.strip_prefix("tls://"));
        let fits = host.and_then(|it| it.rsplit_once(':')).is_some_and(|(host, port)| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:[]".contains(c);
            !host.is_empty() && host.chars().all(plain) && port.parse::<u16>().is_ok_and(|it| it > 0)
        });
        if !fits {
            return Err(format!("{:?}", one.chars().take(80).collect::<String>()));
        }
        servers.push(one.to_owned());
    }
    Ok(servers)
}

/// What a stream may be named: also the first word of its subject, and a folder at the server.
#[must_use]
pub fn is_stream_name(text: &str) -> bool {
    let plain = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_');
    !text.is_empty() && text.len() <= 64 && text.bytes().all(plain)
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
    /// The most bytes that wait in the queue; beyond, the oldest are dropped.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart_and_a_password_in_one_is_not_repeated() {
        for good in ["nats://127.0.0.1:4222", "tls://n1.example:4222, nats://[::1]:4223", "nats://a_b:1"] {
            assert_eq!(nats_addresses(good).map(|it| it.len()), Ok(1 + good.matches(',').count()), "{good}");
        }
        for bad in [
            "",
            "127.0.0.1:4222",
            "http://a:1",
            "nats://a",
            "nats://a:0",
            "nats://:4222",
            "nats://a:1/x",
            "nats://a:1,",
        ] {
            assert!(nats_addresses(bad).is_err(), "{bad}");
        }
        let told = nats_addresses("nats://u:hunter22@a:1").unwrap_err();
        assert!(!told.contains("hunter22"), "{told}");
    }

    #[test]
    fn the_name_of_a_stream_leads_nowhere_else() {
        assert!(is_stream_name("outrider-2_a"));
        for bad in ["", "a.b", "a b", "*", ">", "../a", "ä"] {
            assert!(!is_stream_name(bad), "{bad}");
        }
    }
}
