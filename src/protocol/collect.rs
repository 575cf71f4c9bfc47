//! `outrider collect`: what it is to measure and where to deliver it, as config.json says; and what it tells the service.
//!
//! The action is long-running: on link B the service calls `initialize`, then `collect`, which is answered when a `cancel`
//! has ended it and its outputs were given time to send the rest. Meanwhile `collecting` says how it goes.
//! A section may also be the backend's: see [`ordered`].

pub mod apis;
pub mod ordered;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::call::{calls, notices};
use crate::integration::Empty;

calls! {
    /// Service → action: measure and deliver, as config.json says. Answered after a `cancel`.
    Collect = "collect": Empty => CollectReport;
}

notices! {
    /// Action → service: how it goes. At the start, when something changes for better or worse, and now and then.
    Collecting = "collecting": CollectReport;
}

/// Which cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The one of a container, by its id, wherever its runtime puts it.
    Container(String),
    /// One, by its path below the hierarchies' roots: `/system.slice/ssh.service`.
    Path(String),
    /// All below a path, which is none of them; `/` is all.
    Below(String),
}

/// How often the files are read that are not read in each cycle; in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intervals {
    /// Of the pressure files; 0 is each cycle.
    pub pressure_s: u32,
    /// Of `memory.stat`; 0 is each cycle.
    pub details_s: u32,
    /// Of limits; 0 is each cycle.
    pub limits_s: u32,
    /// Of the network of a container's namespace; 0 is each cycle.
    pub network_s: u32,
}

impl Default for Intervals {
    fn default() -> Self {
        Self { pressure_s: 5, details_s: 10, limits_s: 60, network_s: 10 }
    }
}

/// What is collected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Of which cgroups.
    pub target: Target,
    /// Where the hierarchies are mounted, if not at the usual place.
    pub cgroup_path: PathBuf,
    /// Where the processes are.
    pub proc_path: PathBuf,
    /// A file system whose size and use is measured.
    pub mount_path: Option<PathBuf>,
    /// Time between two cycles, in milliseconds.
    pub interval_ms: u64,
    /// How often what is slower is read.
    pub intervals: Intervals,
    /// Time between two looks for new cgroups where the kernel does not tell, in seconds.
    pub rescan_s: u32,
    /// The most cgroups; those beyond are counted and told.
    pub max_cgroups: usize,
    /// Tags of all sources, in this order.
    pub tags: Vec<(String, String)>,
}

impl Settings {
    /// The usual ones for a target.
    #[must_use]
    pub fn of(target: Target) -> Self {
        Self {
            target,
            cgroup_path: "/sys/fs/cgroup".into(),
            proc_path: "/proc".into(),
            mount_path: None,
            interval_ms: 30_000,
            intervals: Intervals::default(),
            rescan_s: 10,
            max_cgroups: 10_000,
            tags: Vec::new(),
        }
    }
}

/// Which addresses may be asked for something by HTTP, or sent something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reach {
    /// All.
    #[default]
    Anywhere,
    /// None where a cloud tells its machines their secrets, and none that only the host's own wire leads to.
    NoMetadata,
}

/// Addresses of metadata services that are not link-local: Google's and Scaleway's by IPv6, Alibaba's, Azure's, Oracle's.
const METADATA: [IpAddr; 5] = [
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

/// The address of IPv4 that one of IPv6 stands for: mapped, or by a translator (NAT64, 6to4).
fn translated(address: IpAddr) -> IpAddr {
    let IpAddr::V6(it) = address.to_canonical() else { return address.to_canonical() };
    let four = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match it.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => four(high, low),
        _ => address,
    }
}

impl Reach {
    /// Whether an address is within it.
    #[must_use]
    pub fn allows(self, address: IpAddr) -> bool {
        let address = translated(address);
        let is_out = match address {
            IpAddr::V4(it) => it.is_link_local(),
            // The second is where AWS has its services for instances and pods.
            IpAddr::V6(it) => it.is_unicast_link_local() || it.segments()[..2] == [0xfd00, 0xec2],
        };
        self == Self::Anywhere || !is_out && !METADATA.contains(&address)
    }
}

/// A place that samples are delivered to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// By which the log and the status know it; each has its own.
    pub name: String,
    /// The most points that wait for it in memory, what is being sent included; beyond, the oldest are dropped.
    pub queue_points: usize,
    /// What waits for it is on the disk instead, and outlives the process: the most bytes; beyond, the oldest are dropped.
    pub queue_bytes: Option<u64>,
    /// Authorities that are believed beside those of the system, as PEM; for what is reached by HTTPS.
    pub ca_file: Option<PathBuf>,
    /// Which addresses it may be at.
    pub reach: Reach,
    /// What it is.
    pub to: To,
}

/// Kinds of outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// JSON lines on stdout, where the action is run by hand.
    Stdout,
    /// JSON lines in a file.
    JsonLines {
        /// Which.
        path: PathBuf,
        /// The size at which the next file is begun, in bytes.
        file_bytes: u64,
        /// How many older files are kept beside it: `PATH.1` is the youngest of them.
        files_kept: u32,
    },
    /// StatsD over UDP.
    Statsd {
        /// As `host:port`.
        address: String,
    },
    /// InfluxDB's line protocol over HTTP.
    Influx {
        /// The server's address, without the path of its API.
        url: String,
        /// The measurement of all lines.
        measurement: String,
        /// Where in it.
        store: InfluxStore,
    },
    /// Datadog's series, version 2.
    Datadog {
        /// The receiver's address, without the path of its API.
        url: String,
        /// The API key.
        key: Credential,
    },
    /// An aggregator of Outrider, by link D. What waits for it is always on the disk.
    Aggregator {
        /// As `host:port`.
        address: String,
        /// TLS, where it asks for it.
        tls: Option<LinkTls>,
    },
    /// An aggregator that speaks mini-collector's protocol only.
    Publish {
        /// As `host:port`.
        address: String,
        /// TLS, where it asks for it.
        tls: Option<LinkTls>,
    },
    /// Prometheus' remote write, version 1.
    RemoteWrite {
        /// The receiver's whole address, as `https://prometheus.example/api/v1/write`.
        url: String,
        /// What it asks for.
        access: Access,
    },
    /// OpenTelemetry's metrics, as protobuf.
    Otlp {
        /// The receiver's address, without `/v1/metrics`.
        url: String,
        /// How they are sent.
        protocol: OtlpProtocol,
        /// What it asks for.
        access: Access,
    },
    /// Elasticsearch or OpenSearch: a document for each event, or for the points of a sample that have the same tags.
    Elasticsearch {
        /// The cluster's address.
        url: String,
        /// A data stream or an index; with `%Y`, `%m` and `%d` one for each year, month or day of UTC.
        index: String,
        /// What it asks for.
        access: Access,
    },
}

impl To {
    /// Its address or URL, where it is reached by a network.
    #[must_use]
    pub fn place(&self) -> Option<&str> {
        match self {
            Self::Stdout | Self::JsonLines { .. } => None,
            Self::Statsd { address } | Self::Aggregator { address, .. } | Self::Publish { address, .. } => {
                Some(address)
            }
            Self::Influx { url, .. }
            | Self::Datadog { url, .. }
            | Self::RemoteWrite { url, .. }
            | Self::Otlp { url, .. }
            | Self::Elasticsearch { url, .. } => Some(url),
        }
    }
}

/// TLS of link D, as a client; all of it PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkTls {
    /// The authorities whose certificates are believed; without them, those of the system.
    pub ca: Option<Credential>,
    /// The client's own certificate and its key, for mutual TLS.
    pub identity: Option<(Credential, Credential)>,
}

/// How OpenTelemetry's metrics are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// As bodies of HTTP.
    Http,
    /// As calls of gRPC.
    Grpc,
}

/// What a receiver of HTTP asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    Open,
    /// A name and a password.
    Basic(String, Credential),
    /// A token.
    Bearer(Credential),
    /// An API key of Elasticsearch.
    ApiKey(Credential),
}

/// Where in an InfluxDB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InfluxStore {
    /// Version 1: `POST /write`.
    V1 {
        /// The database.
        database: String,
        /// The retention policy, if not the database's own.
        retention: Option<String>,
        /// Name and password, where it asks for them.
        login: Option<(String, Credential)>,
    },
    /// Version 2: `POST /api/v2/write`.
    V2 {
        /// The organisation.
        org: String,
        /// The bucket.
        bucket: String,
        /// The token.
        token: Credential,
    },
}

/// A secret that an output is asked for.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// It stands in config.json.
    Given(String),
    /// It is in a file, that is read whenever it is needed.
    File(PathBuf),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("Given(***)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl Output {
    /// The secrets of it that stand in config.json.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let credential = match &self.to {
            To::Influx { store: InfluxStore::V1 { login: Some((_, it)), .. }, .. }
            | To::Influx { store: InfluxStore::V2 { token: it, .. }, .. }
            | To::Datadog { key: it, .. }
            | To::Aggregator { tls: Some(LinkTls { identity: Some((_, it)), .. }), .. }
            | To::Publish { tls: Some(LinkTls { identity: Some((_, it)), .. }), .. } => Some(it),
            To::RemoteWrite { access, .. } | To::Otlp { access, .. } | To::Elasticsearch { access, .. } => {
                match access {
                    Access::Open => None,
                    Access::Basic(_, it) | Access::Bearer(it) | Access::ApiKey(it) => Some(it),
                }
            }
            _ => None,
        };
        credential.into_iter().filter_map(|it| match it {
            Credential::Given(text) => Some(text.as_str()),
            Credential::File(_) => None,
        })
    }
}

/// How collecting goes. Counts are since the action started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct CollectReport {
    /// Rounds of measuring.
    pub cycles: u64,
    /// Rounds that were left out, since the one before them took too long.
    pub late: u64,
    /// Samples that were taken.
    pub samples: u64,
    /// Sources in the last round: cgroups, or processes.
    pub sources: u64,
    /// What could not be measured, each thing once.
    pub troubles: u64,
    /// The last of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// The polling of APIs, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apis: Option<ApisReport>,
    /// Each output.
    pub outputs: Vec<OutputReport>,
    /// The latest samples in short: of the busiest sources only, the busiest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub latest: Vec<Reading>,
}

/// The latest of one source, for people to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Reading {
    /// What people know it by.
    pub source: String,
    /// When it was measured.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub at: Timestamp,
    /// By the metric's name, in its unit, rounded to whole numbers.
    pub values: BTreeMap<String, u64>,
}

/// How polling APIs goes. Counts are since the action started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct ApisReport {
    /// What is polled: each API of each system, VDC or node.
    pub polled: u64,
    /// Of these, those whose last poll failed.
    pub failing: u64,
    /// Polls that ended well.
    pub polls: u64,
    /// Polls that failed.
    pub failed: u64,
    /// Polls that were left out, since the one before them took too long.
    pub late: u64,
    /// Events that were made.
    pub events: u64,
    /// Events that were left out, since one poll had too many.
    pub beyond: u64,
    /// What failed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// How delivering to one output goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct OutputReport {
    /// Its name.
    pub name: String,
    /// Points that it took.
    pub sent: u64,
    /// Points that it did not get, since too many waited or since nothing waits for it any longer.
    pub dropped: u64,
    /// Points that it refused for what they are.
    pub refused: u64,
    /// Points for which it has no form: events without a number, where it takes numbers alone.
    pub left_out: u64,
    /// Points that wait for it.
    pub waiting: u64,
    /// Why it takes nothing now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing: Option<Failing>,
}

/// An output takes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Failing {
    /// Since when.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub since: Timestamp,
    /// What it said last.
    pub error: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cloud_tells_its_machines_is_out_of_reach_in_every_spelling() {
        for (address, is_within) in [
            ("127.0.0.1", true),
            ("10.0.0.1", true),
            ("::1", true),
            ("fd00::1", true),
            ("169.254.169.254", false),
            ("::ffff:169.254.169.254", false),
            ("fe80::1", false),
            ("fd00:ec2::254", false),
            ("fd00:ec2::23", false),
            ("fd20:ce::254", false),
            ("64:ff9b::a9fe:a9fe", false),
            ("2002:a9fe:a9fe::1", false),
            ("168.63.129.16", false),
            ("100.100.100.200", false),
            ("192.0.0.192", false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(Reach::NoMetadata.allows(address), is_within, "{address}");
            assert!(Reach::Anywhere.allows(address));
        }
    }
}
