//! A way to signed releases: a folder of this host, or a web server that serves one. Nothing that comes from it is trusted.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use outrider_releases::{ByteStream, Bytes, Fetch, FetchError, Folder, async_trait};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, RANGE, RETRY_AFTER};
use reqwest::{Certificate, Client, Response, StatusCode, Url};
use tokio::sync::mpsc;

/// How long a server may take to begin its answer, and to go on with it.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(15);
/// The longest pause that a server may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// A way to releases.
#[derive(Debug, Clone)]
pub enum Mirror {
    /// A folder of this host.
    Folder(PathBuf),
    /// A web server.
    Http {
        /// The client, which follows no redirect.
        client: Client,
        /// Where the folder is served, ending in `/`.
        base: Url,
    },
}

/// A way that is none.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The text names neither.
    #[error("{found:?} is no source of releases: expected https://… or the path of a folder")]
    Address {
        /// The text.
        found: String,
    },
    /// The certificates cannot be read.
    #[error("read the certificates in {}", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        err: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The client cannot be made.
    #[error("set up the HTTP client (certificates, the proxies that the environment names)")]
    Client(#[source] reqwest::Error),
}

/// A file of a mirror that is being read.
pub struct Reading {
    /// From which byte on; 0 where the server does not begin elsewhere.
    pub from: u64,
    /// The pieces.
    pub pieces: ByteStream,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").field("from", &self.from).finish_non_exhaustive()
    }
}

/// A file that could not be read, or not on.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// This mirror does not have it, and will not.
    #[error("{what}: {why}")]
    Gone {
        /// Where.
        what: String,
        /// What was found.
        why: String,
    },
    /// It may go better later.
    #[error("{what}")]
    Later {
        /// Where.
        what: String,
        /// How long the server asks to be left alone.
        after: Option<Duration>,
        /// What went wrong.
        #[source]
        err: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Mirror {
    /// The mirror that a text names: an address with `http` or `https`, or a folder. `ca_file` holds certificates to trust
    /// beside the system's.
    ///
    /// # Errors
    /// When it is neither, or no client can be made.
    pub fn named(text: &str, ca_file: Option<&Path>) -> Result<Self, MirrorError> {
        let address = || MirrorError::Address { found: text.to_owned() };
        if !text.contains("://") {
            let path = PathBuf::from(text);
            return if text.is_empty() { Err(address()) } else { Ok(Self::Folder(path)) };
        }
        let mut base = Url::parse(text).map_err(|_| address())?;
        match base.scheme() {
            "http" | "https" if base.has_host() => {}
            "file" => return base.to_file_path().map(Self::Folder).map_err(|()| address()),
            _ => return Err(address()),
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        // Whoever set one before us chose it for the whole process.
        drop(rustls::crypto::ring::default_provider().install_default());
        // Redirects stay away: a mirror is a place, and what it sends elsewhere is not it.
        let mut builder = Client::builder()
            .user_agent(concat!("outrider/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .redirect(reqwest::redirect::Policy::none());
        if let Some(path) = ca_file {
            builder = builder.tls_certs_merge(certificates(path)?);
        }
        Ok(Self::Http { client: builder.build().map_err(MirrorError::Client)?, base })
    }

    /// Where a file lies, for people.
    #[must_use]
    pub fn place(&self, name: &str) -> String {
        match self {
            Self::Folder(folder) => folder.join(name).display().to_string(),
            Self::Http { base, .. } => format!("{base}{name}"),
        }
    }

    /// Reads a file from a byte on; a server that cannot begins at 0, and says so.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read_from(&self, name: &str, from: u64) -> Result<Reading, ReadError> {
        match self {
            Self::Folder(folder) => self.read_folder(folder, name, from).await,
            Self::Http { client, base } => self.read_http(client, base, name, from).await,
        }
    }

    async fn read_folder(&self, folder: &Path, name: &str, from: u64) -> Result<Reading, ReadError> {
        use tokio::io::AsyncSeekExt as _;
        let path = folder.join(name);
        let failed = |err: io::Error| match err.kind() {
            io::ErrorKind::NotFound if folder.is_dir() => {
                ReadError::Gone { what: self.place(name), why: err.to_string() }
            }
            _ => {
                ReadError::Later { what: format!("read {}", self.place(name)), after: None, err: err.into() }
            }
        };
        let mut file = tokio::fs::File::open(&path).await.map_err(failed)?;
        file.seek(io::SeekFrom::Start(from)).await.map_err(failed)?;
        let name = name.to_owned();
        let pieces = tokio_util::io::ReaderStream::with_capacity(file, 64 << 10);
        Ok(Reading { from, pieces: Box::pin(pieces.map_err(move |err| FetchError::no_way(&name, err))) })
    }

    async fn read_http(
        &self,
        client: &Client,
        base: &Url,
        name: &str,
        from: u64,
    ) -> Result<Reading, ReadError> {
        let what = || format!("GET {}", self.place(name));
        let later = |err: reqwest::Error| ReadError::Later {
            what: what(),
            after: None,
            err: err.without_url().into(),
        };
        let url = base.join(name).map_err(|err| ReadError::Gone { what: what(), why: err.to_string() })?;
        // What is packed once more could not be gone on with, and would hide its length.
        let mut request = client.get(url).header(ACCEPT_ENCODING, "identity");
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let response = request.send().await.map_err(later)?;
        let status = response.status();
        let from = match status {
            StatusCode::PARTIAL_CONTENT => begin(&response).unwrap_or(u64::MAX),
            StatusCode::OK => 0,
            StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
                return Err(ReadError::Gone { what: what(), why: format!("the server answered {status}") });
            }
            _ => {
                let after = pause(&response);
                let err = format!("the server answered {status}").into();
                return Err(ReadError::Later { what: what(), after, err });
            }
        };
        let name = name.to_owned();
        let pieces = response.bytes_stream();
        Ok(Reading {
            from,
            pieces: forwarded(pieces.map_err(move |err| FetchError::no_way(&name, err.without_url()))),
        })
    }
}

#[async_trait]
impl Fetch for Mirror {
    async fn fetch(&self, name: &str, most: u64) -> Result<ByteStream, FetchError> {
        match self {
            Self::Folder(folder) => Folder::new(folder).fetch(name, most).await,
            Self::Http { .. } => match self.read_from(name, 0).await {
                Ok(reading) => Ok(reading.pieces),
                Err(ReadError::Gone { why, .. }) if why.contains("404") || why.contains("410") => {
                    Err(FetchError::Missing { name: name.to_owned() })
                }
                Err(err) => Err(FetchError::no_way(name, err)),
            },
        }
    }
}

/// A stream that several threads may look at, as [`ByteStream`] asks for, of one that only one may.
fn forwarded(pieces: impl Stream<Item = Result<Bytes, FetchError>> + Send + 'static) -> ByteStream {
    let (sender, receiver) = mpsc::channel(2);
    tokio::spawn(async move {
        tokio::pin!(pieces);
        while let Some(piece) = pieces.next().await {
            if sender.send(piece).await.is_err() {
                return;
            }
        }
    });
    Box::pin(futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    }))
}

/// Where a partial answer begins: `bytes 100-199/200`.
fn begin(response: &Response) -> Option<u64> {
    let text = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    text.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

/// How long the server asks to be left alone, in seconds; a date is not taken, since clocks differ.
fn pause(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_PAUSE))
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, MirrorError> {
    let failed = |err: Box<dyn std::error::Error + Send + Sync>| MirrorError::Certificates {
        path: path.to_owned(),
        err,
    };
    let pem = std::fs::read(path).map_err(|err| failed(err.into()))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|err| failed(err.into()))?;
    if certificates.is_empty() {
        return Err(failed("it holds none: expected PEM, `-----BEGIN CERTIFICATE-----`".into()));
    }
    Ok(certificates)
}
