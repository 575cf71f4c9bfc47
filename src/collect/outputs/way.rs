//! The way to one output: how a batch is put into bodies for it, and how one of these is sent.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use outrider_protocol::collect::{OtlpProtocol, Output, To};
use tokio::net::UdpSocket;

use super::SetupError;
use super::file::Rotated;
use super::http::Post;
use super::link::{Link, Place, Publish};
use super::otlp_grpc::OtlpGrpc;
use super::queue::{Batch, Items};
use super::set_up::Clients;
use super::verdict::Verdict;
use crate::encode::otlp::Packing;
use crate::encode::{
    Body, as_samples, bulk, datadog, event_points, influx, json_lines, otlp, points, remote_write, statsd,
};
use crate::model::Sample;

/// The largest body of InfluxDB's lines, in bytes: both versions take several times as much.
const INFLUX_BYTES: usize = 4 << 20;
/// A receiver that takes less than this at once is none.
const LEAST_BYTES: usize = 16 << 10;
/// Bodies in a row that have to be taken before larger ones are tried again; twice as many after each try that fails.
const GROW_AFTER: u32 = 100;
const GROW_AFTER_MOST: u32 = 100_000;

/// What is to be sent of a batch.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) bodies: Vec<Body>,
    /// Points for which the output has no form: events without a number, where it takes numbers alone.
    pub(crate) left_out: usize,
}

impl Encoded {
    fn all(mut bodies: Vec<Body>) -> Self {
        bodies.retain(|it| it.points > 0);
        Self { bodies, left_out: 0 }
    }
}

/// How large the next bodies may be, in bytes or points: smaller when the receiver says so, and larger again after a while,
/// since one body too large says little about all others.
#[derive(Debug)]
pub(crate) struct Limit {
    most: usize,
    least: usize,
    full: usize,
    taken: u32,
    grow_after: u32,
    /// Whether the last change was a larger one.
    grown: bool,
}

impl Limit {
    fn new(full: usize, least: usize) -> Self {
        Self { most: full, least, full, taken: 0, grow_after: GROW_AFTER, grown: false }
    }

    /// Answers whether there are smaller ones.
    fn shrink(&mut self) -> bool {
        if self.most <= self.least {
            return false;
        }
        if std::mem::take(&mut self.grown) {
            self.grow_after = (self.grow_after * 2).min(GROW_AFTER_MOST);
        }
        self.most = (self.most / 2).max(self.least);
        self.taken = 0;
        true
    }

    fn grow(&mut self) {
        if self.most == self.full {
            return;
        }
        self.taken += 1;
        if self.taken >= self.grow_after {
            self.most = self.most.saturating_mul(2).min(self.full);
            (self.taken, self.grown) = (0, true);
        }
    }
}

/// How an output is reached.
#[derive(Debug)]
pub(crate) enum Way {
    Stdout,
    File(Rotated),
    Statsd { address: String, socket: Option<UdpSocket> },
    Influx { post: Post, measurement: String, limit: Limit },
    Datadog { post: Post, limit: Limit },
    RemoteWrite { post: Post, limit: Limit },
    Otlp { post: Post, limit: Limit },
    OtlpGrpc { grpc: Box<OtlpGrpc>, limit: Limit },
    Bulk { post: Post, index: String, limit: Limit },
    Link(Box<Link>),
    Publish(Box<Publish>),
}

impl Way {
    pub(crate) fn new(output: &Output, clients: &mut Clients) -> Result<Self, SetupError> {
        let connect = clients.connect();
        Ok(match &output.to {
            To::Stdout => Self::Stdout,
            To::JsonLines { path, file_bytes, files_kept } => {
                Self::File(Rotated { path: path.clone(), file_bytes: *file_bytes, files_kept: *files_kept })
            }
            To::Statsd { address } => Self::Statsd { address: address.clone(), socket: None },
            To::Influx { url, measurement, store } => Self::Influx {
                post: Post::influx(clients.of(output)?, url, store)?,
                measurement: measurement.clone(),
                limit: Limit::new(INFLUX_BYTES, LEAST_BYTES),
            },
            To::Datadog { url, key } => Self::Datadog {
                post: Post::datadog(clients.of(output)?, url, key)?,
                limit: Limit::new(datadog::MOST_SENT, LEAST_BYTES),
            },
            To::RemoteWrite { url, access } => Self::RemoteWrite {
                post: Post::remote_write(clients.of(output)?, url, access)?,
                limit: Limit::new(remote_write::SERIES, 1),
            },
            To::Otlp { url, protocol: OtlpProtocol::Grpc, access } => Self::OtlpGrpc {
                grpc: Box::new(OtlpGrpc::new(url, access, output.ca_file.clone(), connect)),
                limit: Limit::new(otlp::POINTS, 1),
            },
            To::Otlp { url, protocol: OtlpProtocol::Http, access } => Self::Otlp {
                post: Post::otlp(clients.of(output)?, url, access)?,
                limit: Limit::new(otlp::POINTS, 1),
            },
            To::Elasticsearch { url, index, access } => Self::Bulk {
                post: Post::bulk(clients.of(output)?, url, access)?,
                index: index.clone(),
                limit: Limit::new(bulk::BYTES, LEAST_BYTES),
            },
            To::Aggregator { address, tls, .. } => {
                Self::Link(Box::new(Link::new(Place { address: address.clone(), tls: tls.clone(), connect })))
            }
            To::Publish { address, tls } => Self::Publish(Box::new(Publish::new(Place {
                address: address.clone(),
                tls: tls.clone(),
                connect,
            }))),
        })
    }

    /// A batch as bodies, whose points sum up to the batch's but for those that fit nowhere, and those left out.
    pub(crate) fn encode(&self, batch: &Batch) -> Encoded {
        match self {
            Self::Link(_) => Encoded::all(Link::encode(batch)),
            _ => self.items(&batch.items),
        }
    }

    fn items(&self, items: &Items) -> Encoded {
        match (self, items) {
            (_, Items::Both(samples, events)) => {
                let mut both = self.items(&Items::Samples(Arc::clone(samples)));
                let events = self.items(&Items::Events(Arc::clone(events)));
                both.bodies.extend(events.bodies);
                both.left_out += events.left_out;
                both
            }
            (Self::Publish(_), Items::Events(events)) => {
                Encoded { bodies: Vec::new(), left_out: events.iter().map(event_points).sum() }
            }
            (Self::Stdout | Self::File(_), Items::Events(events)) => {
                Encoded::all(vec![json_lines::events(events)])
            }
            (Self::Bulk { index, limit, .. }, Items::Events(events)) => {
                Encoded::all(bulk::events(events, index, limit.most))
            }
            (_, Items::Samples(samples)) => Encoded::all(self.samples(samples)),
            (_, Items::Events(events)) => {
                let samples = as_samples(events);
                let all: usize = events.iter().map(event_points).sum();
                Encoded { bodies: self.samples(&samples), left_out: all - points(&samples) }
            }
        }
    }

    fn samples(&self, batch: &[Sample]) -> Vec<Body> {
        match self {
            // Its batches are encoded whole, above.
            Self::Link(_) => Vec::new(),
            Self::Publish(publish) => publish.encode(batch),
            Self::Stdout | Self::File(_) => vec![json_lines::encode(batch)],
            Self::Statsd { .. } => statsd::encode(batch, statsd::DATAGRAM),
            Self::Influx { measurement, limit, .. } => influx::encode(batch, measurement, limit.most),
            Self::Datadog { limit, .. } => datadog::within(batch, limit.most, datadog::MOST_PLAIN),
            Self::RemoteWrite { limit, .. } => remote_write::encode(batch, limit.most),
            Self::Otlp { limit, .. } => otlp::encode(batch, limit.most, Packing::Gzip),
            Self::OtlpGrpc { limit, .. } => otlp::encode(batch, limit.most, Packing::Plain),
            Self::Bulk { index, limit, .. } => bulk::samples(batch, index, limit.most),
        }
    }

    /// Why a point is in no body.
    pub(crate) fn unfit(&self) -> &'static str {
        match self {
            Self::Publish(_) => {
                "their source lacks one of the tags environment, service, container and host, which that protocol needs"
            }
            _ => "they are too long for what it takes at once",
        }
    }

    fn limit(&mut self) -> Option<&mut Limit> {
        match self {
            Self::Influx { limit, .. }
            | Self::Datadog { limit, .. }
            | Self::RemoteWrite { limit, .. }
            | Self::Otlp { limit, .. }
            | Self::OtlpGrpc { limit, .. }
            | Self::Bulk { limit, .. } => Some(limit),
            Self::Stdout | Self::File(_) | Self::Statsd { .. } | Self::Link(_) | Self::Publish(_) => None,
        }
    }

    /// A body was too large: the next ones are half as large. Answers whether that is worth a try: what holds one thing alone
    /// cannot be smaller.
    pub(crate) fn shrink(&mut self, body: &Body) -> bool {
        let alone = body.points <= 1 || body.parts.len() == 1;
        !alone && self.limit().is_some_and(Limit::shrink)
    }

    /// A body was taken.
    pub(crate) fn grow(&mut self) {
        if let Some(limit) = self.limit() {
            limit.grow();
        }
    }

    /// A body was refused as a whole: as two by the times of what is in it, where the receiver may have the earlier ones already.
    pub(crate) fn rounds(&self, body: &Body) -> Option<[Body; 2]> {
        match self {
            Self::RemoteWrite { .. } => remote_write::rounds(body),
            _ => None,
        }
    }

    /// A body was refused as a whole for something in it: as two, where it is worth finding out in which of them it is.
    pub(crate) fn halves(&self, body: &Body) -> Option<[Body; 2]> {
        match self {
            Self::RemoteWrite { .. } => remote_write::halves(body),
            _ => None,
        }
    }

    /// Sends a body.
    pub(crate) async fn send(&mut self, body: &Body, within: Duration) -> Verdict {
        match self {
            Self::Stdout => {
                blocking(body, |bytes| {
                    let mut out = std::io::stdout().lock();
                    out.write_all(bytes).and_then(|()| out.flush())
                })
                .await
            }
            Self::File(file) => {
                let file = file.clone();
                let place = file.path.display().to_string();
                match blocking(body, move |lines| file.append(lines)).await {
                    Verdict::Later { why, after } => {
                        Verdict::Later { why: format!("write {place}: {why}"), after }
                    }
                    verdict => verdict,
                }
            }
            Self::Statsd { address, socket } => datagram(address, socket, body).await,
            Self::Influx { post, .. }
            | Self::Datadog { post, .. }
            | Self::RemoteWrite { post, .. }
            | Self::Otlp { post, .. }
            | Self::Bulk { post, .. } => post.send(body, within).await,
            Self::OtlpGrpc { grpc, .. } => grpc.send(body, within).await,
            Self::Link(link) => link.send(body, within).await,
            Self::Publish(publish) => publish.send(body, within).await,
        }
    }
}

/// Writes on a thread of its own: a disk or a pipe that hangs holds nothing else up.
async fn blocking(body: &Body, write: impl FnOnce(&[u8]) -> std::io::Result<()> + Send + 'static) -> Verdict {
    let bytes = body.bytes.clone();
    let why = match tokio::task::spawn_blocking(move || write(&bytes)).await {
        Ok(Ok(())) => return Verdict::Taken,
        Ok(Err(err)) => err.to_string(),
        Err(err) => err.to_string(),
    };
    Verdict::Later { why, after: None }
}

async fn datagram(address: &str, socket: &mut Option<UdpSocket>, body: &Body) -> Verdict {
    let sent = async {
        let open = match socket.take() {
            Some(open) => open,
            None => connected(address).await?,
        };
        open.send(&body.bytes).await?;
        Ok::<_, std::io::Error>(open)
    };
    match sent.await {
        Ok(open) => {
            *socket = Some(open);
            Verdict::Taken
        }
        Err(err) => Verdict::Later { why: format!("send to {address}: {err}"), after: None },
    }
}

async fn connected(address: &str) -> std::io::Result<UdpSocket> {
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for found in tokio::net::lookup_host(address).await? {
        let own = if found.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(own).await?;
        match socket.connect(found).await {
            Ok(()) => return Ok(socket),
            Err(err) => last = err,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_grow_again_and_ever_more_slowly_where_that_fails() {
        let mut limit = Limit::new(100, 30);
        let mut pauses = Vec::new();
        for _ in 0..3 {
            assert!(limit.shrink() && limit.most == 50);
            let mut taken = 0;
            while limit.most < 100 {
                limit.grow();
                taken += 1;
            }
            pauses.push(taken);
        }
        assert_eq!(pauses, [GROW_AFTER, 2 * GROW_AFTER, 4 * GROW_AFTER]);
        assert!(limit.shrink() && limit.shrink() && !limit.shrink());
        assert_eq!(limit.most, 30);
    }
}
