//! Starts a backend, serves it, and stops it without waiting for streams that never end by themselves.

use outrider_protocol::fault::chain;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app::{App, Shared};
use crate::data::{Address, DataError, DataFolder, DataLock};
use crate::hub::Hub;
use crate::oauth::Tokens;
use crate::plots::Plots;
use crate::secret::Hash;
use crate::settings::{Settings, Tls};
use crate::store::{Store, StoreError};
use crate::uploads::Uploads;
use crate::{admin_api, agent_api, janitor, mirror, pages};

/// A backend that could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its folder cannot be used.
    #[error("prepare the data folder")]
    Data(#[from] DataError),
    /// Its database cannot be used.
    #[error("prepare the database")]
    Store(#[from] StoreError),
    /// The folder of releases would give away what is private.
    #[error(
        "{path} cannot be served as releases, which anybody may read: {why}; name a folder of releases with --releases"
    )]
    Releases {
        /// The folder.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// Its address cannot be used.
    #[error("listen at {address}; is another program using that port? name another with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        err: std::io::Error,
    },
    /// Its certificate or key cannot be used.
    #[error("read the certificate {cert} and its key {key}; both must be PEM files that belong together")]
    Tls {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        #[source]
        err: std::io::Error,
    },
}

/// The server ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It can no longer accept connections.
    #[error("serve connections")]
    Io(#[source] std::io::Error),
    /// It panicked.
    #[error("the server's task ended by a bug")]
    Task(#[source] tokio::task::JoinError),
}

/// A backend that runs.
#[derive(Debug)]
pub struct Backend {
    app: Shared,
    address: SocketAddr,
    handle: Handle<SocketAddr>,
    server: JoinHandle<std::io::Result<()>>,
    janitor: JoinHandle<()>,
    _lock: DataLock,
}

/// Starts a backend. When this returns it takes requests.
///
/// # Errors
/// When its folder, database, address or certificate cannot be used.
pub async fn start(settings: Settings) -> Result<Backend, StartError> {
    let data = DataFolder::at(&settings.data);
    data.create()?;
    let lock = data.lock()?;
    let releases = releases_of(&settings, &data)?;
    let admin = Hash::of(&data.make_admin_token()?);
    let tls = match &settings.tls {
        Some(tls) => Some(load_tls(tls).await?),
        None => None,
    };
    let store = Store::open(&data.database()).await?;
    let (listener, address) = listen(settings.listen)?;
    let app: Shared = Arc::new(App {
        store,
        hub: Arc::new(Hub::new()),
        data,
        releases,
        limits: settings.limits,
        uploads: Uploads::default(),
        plots: Plots::default(),
        tokens: Tokens::default(),
        unfolded: AtomicBool::new(true),
        admin,
        secure: tls.is_some(),
        stopping: CancellationToken::new(),
    });
    let handle = Handle::new();
    let server = serve(listener, tls, handle.clone(), router(&app))
        .map_err(|err| StartError::Listen { address, err })?;
    let janitor = tokio::spawn(janitor::run(Arc::clone(&app)));
    let backend = Backend { app, address, handle, server, janitor, _lock: lock };
    backend.app.data.write_address(&Address { url: backend.url(), pid: std::process::id() })?;
    tracing::info!(address = %backend.url(), data = %settings.data.display(), "Backend started.");
    Ok(backend)
}

fn router(app: &Shared) -> Router {
    agent_api::routes(app)
        .merge(admin_api::routes(app))
        .merge(mirror::routes())
        .merge(pages::routes(app))
        .with_state(Arc::clone(app))
}

fn releases_of(settings: &Settings, data: &DataFolder) -> Result<PathBuf, StartError> {
    let path = settings.releases.clone().unwrap_or_else(|| data.releases());
    if let Some(why) = mirror::guard(data.path(), &data.releases(), &path) {
        return Err(StartError::Releases { path, why });
    }
    if settings.releases.is_some() && !path.is_dir() {
        tracing::warn!(releases = %path.display(), "The folder of releases is not there yet: nobody can download one.");
    }
    Ok(path)
}

fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |err| StartError::Listen { address, err };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

async fn load_tls(tls: &Tls) -> Result<RustlsConfig, StartError> {
    // Whoever came first has chosen the provider; there is only one in this program.
    drop(rustls::crypto::ring::default_provider().install_default());
    RustlsConfig::from_pem_file(&tls.cert, &tls.key).await.map_err(|err| StartError::Tls {
        cert: tls.cert.clone(),
        key: tls.key.clone(),
        err,
    })
}

fn serve(
    listener: TcpListener,
    tls: Option<RustlsConfig>,
    handle: Handle<SocketAddr>,
    router: Router,
) -> std::io::Result<JoinHandle<std::io::Result<()>>> {
    let service = router.into_make_service();
    Ok(match tls {
        Some(tls) => {
            let server = axum_server::from_tcp_rustls(listener, tls)?.handle(handle);
            tokio::spawn(server.serve(service))
        }
        None => {
            let server = axum_server::from_tcp(listener)?.handle(handle);
            tokio::spawn(server.serve(service))
        }
    })
}

impl Backend {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its origin, as somebody on this machine reaches it.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.app.secure { "https" } else { "http" };
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        format!("{scheme}://{address}")
    }

    /// Its folder.
    #[must_use]
    pub fn data(&self) -> &DataFolder {
        &self.app.data
    }

    /// A link that logs one browser in, once. `None` if the store failed, which its log tells.
    pub async fn login_link(&self) -> Option<String> {
        let link = admin_api::login_link(&self.app).await.ok()?;
        Some(format!("{}{}", self.url(), link.path))
    }

    /// Serves until `stop` is over, then stops: open streams end at once, open requests have a bounded time.
    ///
    /// # Errors
    /// When the server ended before, by itself.
    pub async fn run_until(mut self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let early = tokio::select! {
            () = stop => None,
            ended = &mut self.server => Some(ended),
        };
        self.app.stopping.cancel();
        let outcome = match early {
            Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(err))) => Err(ServeError::Io(err)),
            Some(Err(err)) => Err(ServeError::Task(err)),
            None => {
                self.finish_requests().await;
                Ok(())
            }
        };
        if tokio::time::timeout(self.app.limits.stop, self.app.tokens.settle()).await.is_err() {
            tracing::warn!(
                "A refresh of an access token did not end in time; its new refresh token may be lost."
            );
        }
        self.janitor.abort();
        if let Err(err) = janitor::drop_configs(&self.app).await {
            // The next start does it.
            tracing::error!(error = chain(&err), "Configurations of ended commands cannot be removed.");
        }
        self.app.data.remove_address();
        self.app.store.close().await;
        tracing::info!("Backend stopped.");
        outcome
    }

    async fn finish_requests(&mut self) {
        let within = self.app.limits.stop;
        self.handle.graceful_shutdown(Some(within));
        // The server keeps the time itself; a little more tells whether it does.
        if tokio::time::timeout(within * 2, &mut self.server).await.is_err() {
            tracing::warn!("Open requests did not end in time.");
            self.server.abort();
        }
    }
}
