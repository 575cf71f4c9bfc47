//! The aggregator: takes what collectors measure, keeps it until it is sent on, and sends it on.
//!
//! ```text
//!  collectors ──(link D)───────────> receive ─> store ─┬─ place ─> task ─> output
//!  old ones ───(/Aggregator/Publish)─┘                 └─ place ─> task ─> output
//! ```
//!
//! The store is a file on its disk with a cursor for each output, or a stream of NATS JetStream with a consumer for each.
//!
//! # Invariants
//! - What is acknowledged, or answered with success, is in the store. What cannot be kept is answered with an error.
//! - No output waits for another: each has a place of its own in the store, and a task.
//! - The end is bounded. What is not sent by then is sent after the next start.
//! - No message holds a secret.

mod counts;
mod environment;
mod pages;
mod receive;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use outrider_collect::outputs::{Batching, Behind, Inlet, Outputs, SetupError, Tell, Timing};
use outrider_collect::store::Store;
use outrider_collect::wire::MESSAGE_BYTES;
use outrider_collect::wire::generated::collect::collect_server::CollectServer;
use outrider_collect::wire::generated::publish::aggregator_server::AggregatorServer;
use outrider_protocol::aggregator::{ServerTls, Settings};
use outrider_protocol::collect::{Credential, OutputReport};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

pub use environment::{EnvironmentFault, from_environment};

use counts::Counts;
use receive::Receiver;

/// How long connections, calls and outputs may take at the end, each.
const END: Duration = Duration::from_secs(5);
/// A connection that says nothing is asked this often whether it is there, and has as long to answer.
const ALIVE: Duration = Duration::from_secs(20);

/// The aggregator cannot begin, or go on.
#[derive(Debug, thiserror::Error)]
pub enum AggregatorError {
    /// An address is taken, or not of this host.
    #[error("listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why not.
        #[source]
        err: std::io::Error,
    },
    /// A file of TLS cannot be read.
    #[error("read {}", path.display())]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        err: std::io::Error,
    },
    /// TLS cannot be set up.
    #[error("set up TLS with the certificate, the key and the clients' authority that are named")]
    Tls(#[source] tonic::transport::Error),
    /// The outputs or the disk cannot be set up.
    #[error(transparent)]
    Outputs(#[from] SetupError),
    /// A part ended by itself.
    #[error("{part} ended by itself: this is a bug; the last lines on stderr say where")]
    Broken {
        /// Which.
        part: &'static str,
    },
}

/// A running aggregator.
#[derive(Debug)]
pub struct Aggregator {
    address: SocketAddr,
    pages: Option<SocketAddr>,
    outputs: Outputs,
    servers: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Aggregator {
    /// Opens the store, begins to send what waits there, and then to listen. NATS is not waited for.
    ///
    /// # Errors
    /// When an address is taken, or TLS, the outputs or the disk cannot be set up.
    pub async fn start(settings: &Settings, tell: &Tell) -> Result<Self, AggregatorError> {
        let bounds = settings.bounds;
        let timing = Timing {
            connect: Duration::from_secs(bounds.answer_s.clamp(1, 10)),
            answer: Duration::from_secs(bounds.answer_s),
            retry_first: Duration::from_secs(1).min(Duration::from_secs(bounds.retry_s)),
            retry_most: Duration::from_secs(bounds.retry_s),
        };
        let batching = Batching {
            points: bounds.batch_points,
            bytes: bounds.batch_bytes,
            wait: Duration::from_millis(bounds.batch_ms),
        };
        let behind = Behind {
            queue: &settings.queue,
            most_bytes: bounds.queue_bytes,
            batching,
            prefix: &settings.prefix,
        };
        let (outputs, store) = Outputs::behind(&settings.outputs, &behind, timing, tell)?;
        let mut started = Self {
            address: settings.listen,
            pages: None,
            outputs,
            servers: JoinSet::new(),
            stop: watch::Sender::new(false),
        };
        let counts = Arc::new(Counts::default());
        started.receive(settings, store.clone(), Arc::clone(&counts)).await?;
        if let Some(address) = settings.pages {
            started.show(address, started.outputs.inlet(), store, counts).await?;
        }
        Ok(started)
    }

    async fn receive(
        &mut self,
        settings: &Settings,
        store: Store,
        counts: Arc<Counts>,
    ) -> Result<(), AggregatorError> {
        let mut server = Server::builder()
            .http2_keepalive_interval(Some(ALIVE))
            .http2_keepalive_timeout(Some(ALIVE))
            .max_concurrent_streams(64)
            .initial_stream_window_size(1 << 18)
            .initial_connection_window_size(1 << 20)
            .http2_max_header_list_size(32 << 10)
            .tcp_nodelay(true);
        if let Some(tls) = &settings.tls {
            server = server.tls_config(tls_config(tls).await?).map_err(AggregatorError::Tls)?;
        }
        let (listener, address) = listen(settings.listen).await?;
        self.address = address;
        let receiver = Receiver::new(store, settings.bounds.streams, self.stop.subscribe(), counts);
        let router = server
            .add_service(CollectServer::new(receiver.clone()).max_decoding_message_size(MESSAGE_BYTES))
            .add_service(AggregatorServer::new(receiver).max_decoding_message_size(64 << 10));
        let stopping = stopping(&self.stop);
        self.servers.spawn(async move {
            let served =
                router.serve_with_incoming_shutdown(TcpListenerStream::new(listener), stopping).await;
            if let Err(err) = served {
                tracing::error!(err = %err, "Listening for collectors has ended.");
            }
        });
        Ok(())
    }

    async fn show(
        &mut self,
        address: SocketAddr,
        inlet: Inlet,
        store: Store,
        counts: Arc<Counts>,
    ) -> Result<(), AggregatorError> {
        let (listener, address) = listen(address).await?;
        self.pages = Some(address);
        let served = axum::serve(listener, pages::router(inlet, store, counts));
        let served = served.with_graceful_shutdown(stopping(&self.stop));
        self.servers.spawn(async move {
            if let Err(err) = served.await {
                tracing::error!(err = %err, "Listening for /metrics has ended.");
            }
        });
        Ok(())
    }

    /// Where collectors connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the pages are.
    #[must_use]
    pub fn pages(&self) -> Option<SocketAddr> {
        self.pages
    }

    /// Waits until a part of it ends by itself. May be dropped.
    pub async fn broken(&mut self) -> AggregatorError {
        let part = tokio::select! {
            () = self.outputs.broken() => "the task of an output",
            _ = self.servers.join_next() => "a listener",
        };
        AggregatorError::Broken { part }
    }

    /// Ends: takes nothing more, and sends what it can within a bounded time.
    pub async fn finish(mut self) -> Vec<OutputReport> {
        self.stop.send_replace(true);
        let ended = async { while self.servers.join_next().await.is_some() {} };
        // Whoever holds a connection open holds no end up.
        drop(tokio::time::timeout(END, ended).await);
        self.servers.shutdown().await;
        self.outputs.finish(END).await
    }
}

fn stopping(stop: &watch::Sender<bool>) -> impl Future<Output = ()> + Send + 'static {
    let mut stop = stop.subscribe();
    async move {
        // An error says that whoever could stop it is gone.
        drop(stop.wait_for(|it| *it).await);
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), AggregatorError> {
    let cannot = |err| AggregatorError::Listen { address, err };
    let listener = TcpListener::bind(address).await.map_err(cannot)?;
    let bound = listener.local_addr().map_err(cannot)?;
    Ok((listener, bound))
}

async fn tls_config(tls: &ServerTls) -> Result<ServerTlsConfig, AggregatorError> {
    let identity = Identity::from_pem(text(&tls.certificate).await?, text(&tls.key).await?);
    let config = ServerTlsConfig::new().identity(identity);
    match &tls.client_ca {
        Some(ca) => Ok(config.client_ca_root(Certificate::from_pem(text(ca).await?))),
        None => Ok(config),
    }
}

async fn text(secret: &Credential) -> Result<String, AggregatorError> {
    match secret {
        Credential::Given(text) => Ok(text.clone()),
        Credential::File(path) => tokio::fs::read_to_string(path)
            .await
            .map_err(|err| AggregatorError::File { path: path.clone(), err }),
    }
}
