//! One request and its answer, bounded in time and size.
//!
//! # Invariants
//! - An answer that is larger than its bound is refused without being held; few that are large are held at once.
//! - Redirects are not followed: the secrets of a request would go along.
//! - No address in a message has a query, and no message has a secret.

use std::sync::Arc;
use std::time::Duration;

use outrider_protocol::collect::Reach;
use outrider_protocol::collect::apis::{Bounds, Tls};
use outrider_protocol::fault::chain;
use reqwest::header::{LINK, LOCATION, RETRY_AFTER};
use reqwest::{Certificate, Client, Identity, RequestBuilder, Response, StatusCode, Url};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::reach::Resolver;
use crate::retry_after;

/// How much of an answer is repeated in a message, in characters.
const START_SHOWN: usize = 200;
/// An answer beyond this is large, in bytes.
const LARGE: usize = 1 << 20;
/// How many large answers are held at once.
static LARGE_ONES: Semaphore = Semaphore::const_new(2);

/// Why a request brought no answer that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nothing came within the time.
    TimedOut,
    /// Nothing was sent: somebody else found meanwhile that the node is to be left alone.
    NotNow,
    /// There was no connection, or it broke.
    Connection(String),
    /// Another status than one of success.
    Status { status: u16, start: String, after: Option<Duration> },
    /// It leads elsewhere.
    Redirect { status: u16, to: String },
    /// The login at a path brought no token.
    Login { path: String, failure: Box<Failure> },
    /// It is too large.
    TooLarge(usize),
    /// What came is not what it should be.
    Content(String),
    /// A secret or an address of ours cannot be used.
    Ours(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TimedOut => f.write_str("no answer within the time"),
            Self::NotNow => f.write_str("it is left alone for now"),
            Self::Status { status, start, after } => {
                write!(f, "it answers {status}")?;
                if let Some(after) = after {
                    write!(f, ", and asks to be left alone for {} s", after.as_secs())?;
                }
                if start.is_empty() { Ok(()) } else { write!(f, ": {start}") }
            }
            Self::Redirect { status, to } => {
                write!(f, "it answers {status} and leads to {to}, where no secret is sent; name that address")
            }
            Self::TooLarge(most) => write!(f, "its answer is larger than the {most} bytes of `answer_bytes`"),
            Self::Login { path, failure } => write!(f, "log in at {path}: {failure}"),
            Self::Connection(why) | Self::Content(why) | Self::Ours(why) => f.write_str(why),
        }
    }
}

impl Failure {
    /// Whether another try can have another end.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Login { failure, .. } => !self.refuses_login() && failure.may_pass(),
            Self::TimedOut | Self::NotNow | Self::Connection(_) | Self::Content(_) => true,
            Self::Status { status, .. } => matches!(status, 401 | 408 | 425 | 429 | 500..),
            Self::Redirect { .. } | Self::TooLarge(_) | Self::Ours(_) => false,
        }
    }

    /// What went wrong, be it at the login or after it.
    pub(crate) fn cause(&self) -> &Self {
        if let Self::Login { failure, .. } = self { failure } else { self }
    }

    /// Whether name and password are not taken: sent again and again, they may lock the account.
    pub(crate) fn refuses_login(&self) -> bool {
        matches!(self, Self::Login { failure, .. } if matches!(**failure, Self::Status { status: 401 | 403, .. }))
    }

    /// The status that was answered.
    pub(crate) fn status(&self) -> Option<u16> {
        match self.cause() {
            Self::Status { status, .. } | Self::Redirect { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) link: Option<String>,
    pub(crate) headers: reqwest::header::HeaderMap,
    /// Held as long as the answer is, where that is large.
    pub(crate) large: Option<SemaphorePermit<'static>>,
}

/// A client for the systems of one group.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    client: Client,
    timeout: Duration,
    most: usize,
}

impl Http {
    pub(crate) fn new(tls: &Tls, bounds: &Bounds, reach: Reach) -> Result<Self, String> {
        let timeout = Duration::from_millis(bounds.timeout_ms);
        let mut builder = Client::builder()
            .user_agent(concat!("outrider/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(Arc::new(Resolver(reach)))
            .connect_timeout(timeout)
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(Duration::from_secs(30));
        let read = |path: &std::path::Path| {
            std::fs::read(path).map_err(|err| format!("read {}: {err}", path.display()))
        };
        if reach == Reach::NoMetadata {
            // A proxy that the environment names would look names up by itself.
            builder = builder.no_proxy();
        }
        if let Some(path) = &tls.ca_file {
            let certificates = Certificate::from_pem_bundle(&read(path)?)
                .map_err(|err| format!("read the certificates in {}: {}", path.display(), chain(&err)))?;
            builder = builder.tls_certs_merge(certificates);
        }
        if let Some((certificate, key)) = &tls.client {
            let mut pem = read(certificate)?;
            pem.push(b'\n');
            pem.extend(read(key)?);
            let identity = Identity::from_pem(&pem).map_err(|err| {
                format!("use {} with the key {}: {}", certificate.display(), key.display(), chain(&err))
            })?;
            builder = builder.identity(identity);
        }
        if tls.danger_accept_any_certificate {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        let client = builder.build().map_err(|err| format!("set up the HTTP client: {}", chain(&err)))?;
        Ok(Self { client, timeout, most: bounds.answer_bytes })
    }

    pub(crate) fn get(&self, url: Url) -> RequestBuilder {
        self.client.get(url)
    }

    pub(crate) fn post(&self, url: Url, body: String) -> RequestBuilder {
        self.client.post(url).header(reqwest::header::CONTENT_TYPE, "application/json").body(body)
    }

    /// Sends it and reads the whole answer.
    pub(crate) async fn send(&self, request: RequestBuilder, secrets: &[&str]) -> Result<Answer, Failure> {
        let asked = async {
            let response = request.send().await.map_err(broken)?;
            let status = response.status();
            if status.is_success() {
                self.whole(response).await
            } else {
                Err(refused(response, secrets).await)
            }
        };
        tokio::time::timeout(self.timeout, asked).await.unwrap_or(Err(Failure::TimedOut))
    }

    async fn whole(&self, mut response: Response) -> Result<Answer, Failure> {
        let declared = response.content_length().unwrap_or_default();
        if declared > self.most as u64 {
            return Err(Failure::TooLarge(self.most));
        }
        let headers = std::mem::take(response.headers_mut());
        let link = headers.get(LINK).and_then(|it| it.to_str().ok()).map(str::to_owned);
        let (mut bytes, mut large) = (Vec::new(), None);
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if bytes.len() + chunk.len() > self.most {
                return Err(Failure::TooLarge(self.most));
            }
            if large.is_none() && bytes.len() + chunk.len() > LARGE {
                // It is never closed.
                large = LARGE_ONES.acquire().await.ok();
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Answer { bytes, link, headers, large })
    }
}

fn broken(err: reqwest::Error) -> Failure {
    if err.is_timeout() { Failure::TimedOut } else { Failure::Connection(chain(&err.without_url())) }
}

async fn refused(mut response: Response, secrets: &[&str]) -> Failure {
    let status = response.status();
    if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
        let to = response.headers().get(LOCATION).and_then(|it| it.to_str().ok());
        let to = to.and_then(|it| response.url().join(it).ok());
        let to = to.map_or_else(|| "nowhere".to_owned(), |it| it.origin().ascii_serialization());
        return Failure::Redirect { status: status.as_u16(), to };
    }
    let after = response.headers().get(RETRY_AFTER).and_then(|it| it.to_str().ok());
    let after = after.and_then(|it| retry_after::wait(it, jiff::Timestamp::now()));
    let mut bytes = Vec::new();
    while bytes.len() < START_SHOWN * 4 {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk[..chunk.len().min(START_SHOWN * 4)]),
            // The status has been said; the rest is for people.
            Ok(None) | Err(_) => break,
        }
    }
    Failure::Status { status: status.as_u16(), start: start(&bytes, secrets), after }
}

/// The start of a body on one line, with stars for secrets.
pub(crate) fn start(bytes: &[u8], secrets: &[&str]) -> String {
    let mut text = String::from_utf8_lossy(&bytes[..bytes.len().min(START_SHOWN * 4)]).into_owned();
    for secret in secrets.iter().filter(|it| !it.is_empty()) {
        text = text.replace(secret, "***");
    }
    let line = text.split(|it: char| it.is_whitespace() || it.is_control()).filter(|it| !it.is_empty());
    let line = line.collect::<Vec<_>>().join(" ");
    line.chars().take(START_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_body_is_one_line_without_secrets() {
        assert_eq!(start(b"<html>\n <b>\x07no t0ken</b>", &["t0ken", ""]), "<html> <b> no ***</b>");
        assert_eq!(start(&[b'x'; 5000], &[]).len(), START_SHOWN);
    }

    #[test]
    fn what_cannot_pass_is_not_tried_again() {
        let status = |status| Failure::Status { status, start: String::new(), after: None };
        assert!([401, 408, 429, 500, 503].map(status).iter().all(Failure::may_pass));
        assert!(![400, 403, 404].map(status).iter().any(Failure::may_pass));
        assert!(Failure::TimedOut.may_pass() && !Failure::TooLarge(1).may_pass());
        let login = |failure| Failure::Login { path: "/login".to_owned(), failure: Box::new(failure) };
        assert!([429, 500].map(status).map(login).iter().all(Failure::may_pass));
        assert!(![401, 403].map(status).map(login).iter().any(Failure::may_pass));
    }
}
