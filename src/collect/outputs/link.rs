//! Link D and mini-collector's protocol, as outputs: one batch, or one sample, at a time, each until it is answered.
//!
//! # Invariants
//! - A batch is taken when it is acknowledged by its sequence, and by nothing else.
//! - After any failure the next try connects anew, and reads the files of TLS anew.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use outrider_protocol::collect::{Credential, LinkTls};
use outrider_protocol::fault::chain;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status, Streaming};

use super::queue::Batch;
use super::verdict::Verdict;
use crate::encode::Body;
use crate::model::Sample;
use crate::original::Entry;
use crate::wire;
use crate::wire::generated::collect as proto;
use crate::wire::generated::collect::collect_client::CollectClient;
use crate::wire::generated::publish::PublishRequest;
use crate::wire::generated::publish::aggregator_client::AggregatorClient;

/// The most sources of which the last entry is remembered.
const ENTRIES: usize = 10_000;
/// A connection that says nothing is asked this often whether it is there.
const ALIVE: Duration = Duration::from_secs(20);

/// Where an aggregator is.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) address: String,
    pub(crate) tls: Option<LinkTls>,
    pub(crate) connect: Duration,
}

impl Place {
    async fn connect(&self) -> Result<Channel, Verdict> {
        let later =
            |why: String| Verdict::Later { why: format!("connect to {}: {why}", self.address), after: None };
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let wrong = |err: tonic::transport::Error| Verdict::Denied {
            why: format!("{}: {}", self.address, chain(&err)),
        };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", self.address))
            .map_err(wrong)?
            .connect_timeout(self.connect)
            .http2_keep_alive_interval(ALIVE)
            .keep_alive_timeout(self.connect)
            .tcp_nodelay(true);
        if let Some(tls) = &self.tls {
            let config = ClientTlsConfig::new();
            let mut config = match &tls.ca {
                Some(ca) => config.ca_certificate(Certificate::from_pem(text(ca).await?)),
                None => config.with_native_roots(),
            };
            if let Some((certificate, key)) = &tls.identity {
                config = config.identity(Identity::from_pem(text(certificate).await?, text(key).await?));
            }
            endpoint = endpoint.tls_config(config).map_err(wrong)?;
        }
        // The bound of connecting does not cover the handshake of TLS.
        match timeout(self.connect * 2, endpoint.connect()).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(err)) => Err(later(chain(&err))),
            Err(_) => Err(later(format!("no answer within {:?}", self.connect * 2))),
        }
    }

    fn silent(&self, within: Duration) -> Verdict {
        Verdict::Later { why: format!("{} did not answer within {within:?}", self.address), after: None }
    }
}

/// A text of PEM.
async fn text(secret: &Credential) -> Result<String, Verdict> {
    match secret {
        Credential::Given(text) => Ok(text.clone()),
        Credential::File(path) => tokio::fs::read_to_string(path)
            .await
            .map_err(|err| Verdict::Denied { why: format!("read {}: {err}", path.display()) }),
    }
}

fn judge(place: &Place, status: &Status) -> Verdict {
    let why = format!("{} answers {:?}: {}", place.address, status.code(), status.message());
    match status.code() {
        Code::InvalidArgument | Code::OutOfRange => Verdict::Refused { why },
        Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented => Verdict::Denied { why },
        _ => Verdict::Later { why, after: None },
    }
}

/// Link D.
#[derive(Debug)]
pub(crate) struct Link {
    place: Place,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    out: mpsc::Sender<proto::Batch>,
    back: Streaming<proto::Acknowledgement>,
}

impl Link {
    pub(crate) fn new(place: Place) -> Self {
        Self { place, open: None }
    }

    /// A batch of the backlog is one body: it comes again under the same sequence.
    pub(crate) fn encode(batch: &Batch) -> Vec<Body> {
        let (collector, sequence) = batch.origin.as_ref().map_or(("", 0), |it| (it.0.as_str(), it.1));
        let (samples, events) = batch.items.parts();
        let message = wire::batch(collector, sequence, samples, events);
        vec![Body::whole(message.encode_to_vec(), batch.points)]
    }

    pub(crate) async fn send(&mut self, body: &Body, within: Duration) -> Verdict {
        match timeout(within, self.send_at(body)).await {
            Ok(Ok(())) => Verdict::Taken,
            Ok(Err(verdict)) => {
                self.open = None;
                verdict
            }
            Err(_) => {
                self.open = None;
                self.place.silent(within)
            }
        }
    }

    async fn send_at(&mut self, body: &Body) -> Result<(), Verdict> {
        let batch =
            proto::Batch::decode(&*body.bytes).map_err(|err| Verdict::Refused { why: err.to_string() })?;
        let sequence = batch.sequence;
        let mut open = match self.open.take() {
            Some(open) => open,
            None => Self::opened(&self.place).await?,
        };
        let gone =
            || Verdict::Later { why: format!("{} closed the stream", self.place.address), after: None };
        // A stream that has ended says why when it is read.
        drop(open.out.send(batch).await);
        loop {
            let told = open.back.message().await.map_err(|status| judge(&self.place, &status))?;
            if told.ok_or_else(gone)?.sequence == sequence {
                break;
            }
        }
        self.open = Some(open);
        Ok(())
    }

    async fn opened(place: &Place) -> Result<Open, Verdict> {
        let mut client = CollectClient::new(place.connect().await?);
        let (out, batches) = mpsc::channel(1);
        let answer = client.send(ReceiverStream::new(batches)).await;
        let back = answer.map_err(|status| judge(place, &status))?.into_inner();
        Ok(Open { out, back })
    }
}

/// mini-collector's protocol.
#[derive(Debug)]
pub(crate) struct Publish {
    place: Place,
    client: Option<AggregatorClient<Channel>>,
    before: Mutex<HashMap<Box<str>, Entry>>,
}

/// A call with its metadata.
#[derive(Clone, PartialEq, Message)]
struct Call {
    #[prost(message, optional, tag = "1")]
    request: Option<PublishRequest>,
    #[prost(string, repeated, tag = "2")]
    tags: Vec<String>,
}

impl Publish {
    pub(crate) fn new(place: Place) -> Self {
        Self { place, client: None, before: Mutex::default() }
    }

    /// One body a sample; a sample that lacks a tag of that protocol is in none.
    pub(crate) fn encode(&self, batch: &[Sample]) -> Vec<Body> {
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bodies = Vec::new();
        for sample in batch {
            let Ok(tags) = wire::publish::metadata(&sample.source.tags) else { continue };
            let entry = Entry::of(sample, before.get(&sample.source.key));
            if before.len() >= ENTRIES {
                before.clear();
            }
            before.insert(sample.source.key.clone(), entry);
            let tags = tags.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
            let call = Call { request: Some(wire::publish::request(&entry)), tags };
            bodies.push(Body::whole(call.encode_to_vec(), sample.points.len()));
        }
        bodies
    }

    pub(crate) async fn send(&mut self, body: &Body, within: Duration) -> Verdict {
        let sent = timeout(within, self.call(body)).await;
        let verdict = match sent {
            Ok(Ok(())) => return Verdict::Taken,
            Ok(Err(verdict)) => verdict,
            Err(_) => self.place.silent(within),
        };
        if !matches!(verdict, Verdict::Refused { .. }) {
            self.client = None;
        }
        verdict
    }

    async fn call(&mut self, body: &Body) -> Result<(), Verdict> {
        let refused = |why: String| Verdict::Refused { why };
        let call = Call::decode(&*body.bytes).map_err(|err| refused(err.to_string()))?;
        let mut request = Request::new(call.request.unwrap_or_default());
        for pair in call.tags.chunks_exact(2) {
            insert(request.metadata_mut(), &pair[0], &pair[1]).map_err(refused)?;
        }
        if self.client.is_none() {
            self.client = Some(AggregatorClient::new(self.place.connect().await?));
        }
        let Some(client) = &mut self.client else { return Ok(()) };
        let answer = client.publish(request).await;
        answer.map(drop).map_err(|status| judge(&self.place, &status))
    }
}

fn insert(metadata: &mut MetadataMap, name: &str, value: &str) -> Result<(), String> {
    let value = MetadataValue::try_from(value)
        .map_err(|_| format!("the tag {name} is {value:?}, which this protocol cannot carry"))?;
    let name = tonic::metadata::MetadataKey::from_bytes(name.as_bytes()).map_err(|err| err.to_string())?;
    metadata.insert(name, value);
    Ok(())
}
