//! The way to one output: how a batch is put into bodies for it, and how one of these is sent.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use outrider_protocol::collect::To;
use reqwest::Client;
use tokio::net::UdpSocket;

use super::SetupError;
use super::file::Rotated;
use super::http::Post;
use super::link::{Link, Place, Publish};
use super::queue::{Batch, Items};
use super::verdict::Verdict;
use crate::encode::{
    Body, as_samples, bulk, datadog, event_points, influx, json_lines, otlp, points, remote_write, statsd,
};
use crate::model::Sample;

/// The largest body of InfluxDB's lines, in bytes: both versions take several times as much.
const INFLUX_BYTES: usize = 4 << 20;
/// A receiver that takes less than this at once is none.
const LEAST_BYTES: usize = 16 << 10;

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

/// How an output is reached.
#[derive(Debug)]
pub(crate) enum Way {
    Stdout,
    File(Rotated),
    Statsd { address: String, socket: Option<UdpSocket> },
    Influx { post: Post, measurement: String, most: usize },
    Datadog { post: Post, most: usize },
    RemoteWrite { post: Post, most: usize },
    Otlp { post: Post, most: usize },
    Bulk { post: Post, index: String, most: usize },
    Link(Box<Link>),
    Publish(Box<Publish>),
}

impl Way {
    pub(crate) fn new(to: &To, client: &Client, connect: Duration) -> Result<Self, SetupError> {
        Ok(match to {
            To::Stdout => Self::Stdout,
            To::JsonLines { path, file_bytes, files_kept } => {
                Self::File(Rotated { path: path.clone(), file_bytes: *file_bytes, files_kept: *files_kept })
            }
            To::Statsd { address } => Self::Statsd { address: address.clone(), socket: None },
            To::Influx { url, measurement, store } => Self::Influx {
                post: Post::influx(client.clone(), url, store)?,
                measurement: measurement.clone(),
                most: INFLUX_BYTES,
            },
            To::Datadog { url, key } => {
                Self::Datadog { post: Post::datadog(client.clone(), url, key)?, most: datadog::MOST_SENT }
            }
            To::RemoteWrite { url, access } => Self::RemoteWrite {
                post: Post::remote_write(client.clone(), url, access)?,
                most: remote_write::SERIES,
            },
            To::Otlp { url, access } => {
                Self::Otlp { post: Post::otlp(client.clone(), url, access)?, most: otlp::POINTS }
            }
            To::Elasticsearch { url, index, access } => Self::Bulk {
                post: Post::bulk(client.clone(), url, access)?,
                index: index.clone(),
                most: bulk::BYTES,
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
            (Self::Bulk { index, most, .. }, Items::Events(events)) => {
                Encoded::all(bulk::events(events, index, *most))
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
            Self::Influx { measurement, most, .. } => influx::encode(batch, measurement, *most),
            Self::Datadog { most, .. } => datadog::within(batch, *most, datadog::MOST_PLAIN),
            Self::RemoteWrite { most, .. } => remote_write::encode(batch, *most),
            Self::Otlp { most, .. } => otlp::encode(batch, *most),
            Self::Bulk { index, most, .. } => bulk::samples(batch, index, *most),
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

    /// A body was too large: from now on they are half as large. Answers whether that is still worth a try.
    pub(crate) fn shrink(&mut self) -> bool {
        match self {
            Self::Influx { most, .. } | Self::Datadog { most, .. } | Self::Bulk { most, .. }
                if *most > LEAST_BYTES =>
            {
                *most /= 2;
                true
            }
            Self::RemoteWrite { most, .. } | Self::Otlp { most, .. } if *most > 1 => {
                *most /= 2;
                true
            }
            _ => false,
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
