//! Makes a root an agent of a backend.

use std::net::IpAddr;
use std::path::PathBuf;

use jiff::Timestamp;
use outrider_home::{
    CONFIG_VERSION, Config, ConfigErrors, FileError, Identity, Limits, LockError, OrderedCollect, Root,
    RootLock, Secret, StateError, atomic,
};
use outrider_protocol::bulk::{ENROLL_PATH, EnrollReply, EnrollRequest};
use reqwest::{Method, StatusCode, Url};
use serde::{Deserialize, Serialize};

use crate::run::host;
use crate::uplink::http::{CallError, Http, SetupError};

/// The longest code, in bytes: what is longer was pasted by mistake.
const CODE_LONGEST: usize = 256;

/// How to enroll.
#[derive(Debug, Clone)]
pub struct EnrollOptions {
    /// The backend's address.
    pub backend: String,
    /// The enrollment code.
    pub code: String,
    /// Which releases the agent wants: `stable`, `edge`, `dev`.
    pub channel: String,
    /// Certificates, in PEM, to trust besides the usual ones.
    pub ca_file: Option<PathBuf>,
    /// Whether a backend on another machine may be called without TLS.
    pub allow_http: bool,
}

/// Why a root was not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// It is already.
    #[error("enroll {}: it is enrolled already", root.path().display())]
    Already {
        /// Which root.
        root: Root,
    },
    /// A service runs on it, or another enrollment.
    #[error(transparent)]
    InUse(LockError),
    /// What the backend before ordered to be collected is still there.
    #[error("forget what a backend ordered to be collected before")]
    Ordered(#[source] FileError),
    /// A later version wrote the state, or a start was cut short while it changed it.
    #[error(transparent)]
    State(StateError),
    /// The backend's address cannot be used.
    #[error("--backend {found:?}: expected {expected}")]
    Address {
        /// What was found.
        found: String,
        /// What a right one looks like.
        expected: &'static str,
    },
    /// The code cannot be one.
    #[error("the enrollment code {found}: expected the text that `outrider-backend code create` printed")]
    Code {
        /// What is wrong with it.
        found: &'static str,
    },
    /// The client cannot be made.
    #[error("prepare the way to the backend")]
    Setup(#[source] SetupError),
    /// The backend cannot be reached.
    #[error("reach the backend {backend}")]
    Unreachable {
        /// Its address.
        backend: String,
        /// Why not.
        #[source]
        err: Box<CallError>,
    },
    /// The backend refuses the code.
    #[error("the backend {backend} refuses the enrollment code: {message}")]
    Refused {
        /// Its address.
        backend: String,
        /// Why, in its words.
        message: String,
    },
    /// The backend's answer cannot be used.
    #[error("enroll at {backend}: {message}")]
    Answer {
        /// Its address.
        backend: String,
        /// What it said, or what is wrong with it.
        message: String,
    },
    /// The root cannot be written.
    #[error("write into the root {}", root.path().display())]
    Root {
        /// Which root.
        root: Root,
        /// Why not.
        #[source]
        err: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The configuration cannot be saved.
    #[error("save the agent's configuration")]
    Config(#[source] ConfigErrors),
}

impl EnrollError {
    /// Whether what was typed has to be changed.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Address { .. } | Self::Code { .. } | Self::Already { .. } => true,
            Self::Setup(err) => !matches!(err, SetupError::Client(_)),
            _ => false,
        }
    }

    /// What a person can do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Already { root } => {
                let root = root.path().display();
                return Some(format!(
                    "`outrider unenroll --root {root}` undoes it; or name another root with --root"
                ));
            }
            Self::Address { found, .. } if found.starts_with("http:") => {
                "without TLS the token can be read on the way; --allow-http permits it all the same"
            }
            Self::Unreachable { .. } => {
                "is the backend running, and the address right? proxies are taken from HTTPS_PROXY and NO_PROXY, \
                 certificates from --ca-file; the same command may be repeated: the code is used once only"
            }
            Self::Refused { .. } => "ask for a new code: `outrider-backend code create`",
            Self::InUse(_)
            | Self::State(_)
            | Self::Ordered(_)
            | Self::Address { .. }
            | Self::Code { .. }
            | Self::Setup(_)
            | Self::Answer { .. }
            | Self::Root { .. }
            | Self::Config(_) => {
                return None;
            }
        };
        Some(hint.to_owned())
    }
}

/// An enrollment under way, kept until it is answered, so that a repeated one does not use a code twice.
#[derive(Serialize, Deserialize)]
struct Pending {
    backend: String,
    code: String,
    request: String,
}

impl Pending {
    /// The one that is kept, if it is the same enrollment; otherwise a new one, which is then kept.
    fn of(root: &Root, backend: &str, code: &str) -> Result<Self, FileError> {
        let path = root.enrollment_path();
        let kept = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Self>(&text).ok());
        if let Some(kept) = kept.filter(|it| it.backend == backend && it.code == code) {
            return Ok(kept);
        }
        let request = uuid::Uuid::new_v4().to_string();
        let new = Self { backend: backend.to_owned(), code: code.to_owned(), request };
        // A struct of texts can always be written.
        atomic::write(&path, &serde_json::to_vec(&new).unwrap_or_default(), atomic::PRIVATE)?;
        Ok(new)
    }
}

/// A root that has become an agent.
#[derive(Debug)]
pub struct Enrolled {
    /// Its identity, as it was saved.
    pub config: Config,
    /// Where the root's work for another backend or customer was moved, if there was any: files that were not uploaded,
    /// last-processed values, commands, caches.
    pub set_aside: Option<PathBuf>,
}

/// Asks the backend to take this root as an agent, and saves its identity. May be repeated when it failed midway. What
/// the root holds of the same backend and customer stays; what it holds of another is moved aside.
///
/// # Errors
/// See [`EnrollError`]. The root is not enrolled then.
pub async fn enroll(root: &Root, options: EnrollOptions) -> Result<Enrolled, EnrollError> {
    let backend = origin(&options.backend, options.allow_http)?;
    let code = code(&options.code)?;
    not_enrolled(root)?;
    let limits = Limits::default();
    // As the service will read it: from the root, not from the folder in which the command was typed.
    let ca_file = options.ca_file.map(|path| std::path::absolute(&path).unwrap_or(path));
    let http = Http::anonymous(&backend, ca_file.as_deref(), &limits).map_err(EnrollError::Setup)?;
    root.create().map_err(|err| at_root(root, err))?;
    let lock = lock(root)?;
    match root.check_state() {
        // The service brings it to its schema, and what is written here stays as it is.
        Ok(()) | Err(StateError::Older { .. }) => {}
        Err(err) => return Err(EnrollError::State(err)),
    }
    let pending = Pending::of(root, &backend, code).map_err(|err| at_root(root, err))?;
    let request = EnrollRequest {
        code: code.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: host(),
        channel: options.channel.clone(),
        request: pending.request,
    };
    let reply = ask(&http, &backend, &request).await?;
    let config = Config {
        version: CONFIG_VERSION,
        agent: reply.agent,
        customer_id: reply.customer_id,
        backend,
        token: Secret::new(reply.token),
        channel: options.channel,
        integrations_dir: None,
        ca_file,
        extra_integrations: Vec::new(),
        collect: None,
        backend_collect: true,
        share_last_processed: false,
        limits,
    };
    // Before the configuration, so that no service ever runs with another's work.
    let set_aside =
        Identity::of(&config).take(root, &lock, Timestamp::now()).map_err(|err| at_root(root, err))?;
    // What an enrollment before this one was ordered to collect is no order to this one.
    OrderedCollect::clear(root).map_err(EnrollError::Ordered)?;
    config.save(root).map_err(EnrollError::Config)?;
    // It holds the code; should it stay behind, the next enrollment has another code and replaces it.
    drop(std::fs::remove_file(root.enrollment_path()));
    Ok(Enrolled { config, set_aside })
}

fn not_enrolled(root: &Root) -> Result<(), EnrollError> {
    if root.config_path().exists() {
        return Err(EnrollError::Already { root: root.clone() });
    }
    Ok(())
}

/// Takes the root, which may have become an agent meanwhile.
fn lock(root: &Root) -> Result<RootLock, EnrollError> {
    let lock = root.lock().map_err(|err| match err {
        LockError::InUse { .. } => EnrollError::InUse(err),
        err @ LockError::File(_) => at_root(root, err),
    })?;
    not_enrolled(root)?;
    Ok(lock)
}

async fn ask(http: &Http, backend: &str, request: &EnrollRequest) -> Result<EnrollReply, EnrollError> {
    let backend = backend.to_owned();
    let sent = http.send(http.request(Method::POST, ENROLL_PATH).timeout(http.timeout()).json(request)).await;
    let response = match sent {
        Ok(response) => response,
        Err(err @ CallError::Unreachable { .. }) => {
            return Err(EnrollError::Unreachable { backend, err: Box::new(err) });
        }
        Err(CallError::Token { message, .. }) => return Err(EnrollError::Refused { backend, message }),
        Err(CallError::Status { status, message, .. }) if status == StatusCode::NOT_FOUND => {
            let message = format!("{status} ({message}): is this the address of an Outrider backend?");
            return Err(EnrollError::Answer { backend, message });
        }
        Err(err) => return Err(EnrollError::Answer { backend, message: err.to_string() }),
    };
    response.json().await.map_err(|err| {
        let message =
            format!("the answer does not fit: {}", outrider_protocol::fault::chain(&err.without_url()));
        EnrollError::Answer { backend, message }
    })
}

fn at_root(root: &Root, err: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> EnrollError {
    EnrollError::Root { root: root.clone(), err: err.into() }
}

fn code(text: &str) -> Result<&str, EnrollError> {
    let code = text.trim();
    let found = if code.is_empty() {
        "is empty"
    } else if code.len() > CODE_LONGEST {
        "is too long"
    } else if code.contains(|c: char| c.is_whitespace() || c.is_control()) {
        "has spaces inside"
    } else {
        return Ok(code);
    };
    Err(EnrollError::Code { found })
}

/// The origin of the backend's address.
fn origin(found: &str, allow_http: bool) -> Result<String, EnrollError> {
    let wrong = |expected| EnrollError::Address { found: found.to_owned(), expected };
    let url = Url::parse(found).map_err(|_| wrong("a URL such as https://backend.example:8443"))?;
    let Some(host) = url.host_str() else { return Err(wrong("a URL with a host")) };
    match url.scheme() {
        "https" => {}
        "http" if allow_http || is_loopback(host) => {}
        "http" => return Err(wrong("https:// for a backend on another machine")),
        _ => return Err(wrong("a URL that begins with https:// (or http:// on this machine)")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("a URL without a user or password"));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("the backend's origin alone: no path behind the host and port"));
    }
    Ok(url.origin().ascii_serialization())
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_unless_it_is_allowed() {
        for good in ["https://b.example", "http://127.0.0.1:7878/", "http://localhost:1", "http://[::1]:8080"]
        {
            assert!(origin(good, false).is_ok(), "{good}");
        }
        assert_eq!(origin("http://127.0.0.1:7878/", false).unwrap(), "http://127.0.0.1:7878");
        let err = origin("http://b.example", false).unwrap_err();
        assert!(err.is_usage() && err.to_string().contains("expected https://"), "{err}");
        assert!(origin("http://b.example", true).is_ok());
    }

    #[test]
    fn an_address_that_is_no_origin_is_refused() {
        for bad in
            ["backend", "ftp://b.example", "https://u:p@b.example", "https://b.example/api", "https://b/?q"]
        {
            assert!(origin(bad, true).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_enrollment_that_is_repeated_keeps_its_request() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        root.create().unwrap();
        let first = Pending::of(&root, "https://b", "c1").unwrap().request;
        assert_eq!(Pending::of(&root, "https://b", "c1").unwrap().request, first);
        assert_ne!(Pending::of(&root, "https://b", "c2").unwrap().request, first);
    }

    #[test]
    fn a_code_that_cannot_be_one_is_not_sent() {
        for bad in ["", "  ", "a b", "a\u{7}"] {
            assert!(code(bad).unwrap_err().is_usage(), "{bad:?}");
        }
        assert_eq!(code(" abc\n").unwrap(), "abc");
    }
}
