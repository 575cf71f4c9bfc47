//! How a node is logged into.
//!
//! # Invariants
//! - One login at a time for a node: whoever comes meanwhile waits for its token, or has its failure as well. None of them
//!   tries the same again, and a node that is to be left alone gets no login either.
//! - A token that was refused is not sent again, and one is renewed before its time is over; the old one is given back.
//! - A secret that is in a file is read whenever it is needed.

use std::time::Duration;

use outrider_protocol::collect::Credential;
use outrider_protocol::collect::apis::Login;
use reqwest::header::HeaderValue;
use reqwest::{RequestBuilder, Url};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::ask::Asker;
use super::http::{Failure, Http};
use super::node::{NodeState, State};

/// A login, and the token that it brought.
#[derive(Debug)]
pub(crate) struct Session {
    login: Login,
    /// Locked while somebody logs in.
    known: Mutex<Known>,
}

/// What the last login brought.
#[derive(Debug, Default)]
struct Known {
    held: Option<Held>,
    failed: Option<Failed>,
}

#[derive(Clone)]
struct Held {
    token: String,
    until: Instant,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("until", &self.until).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Failed {
    failure: Failure,
    /// When it was known.
    at: Instant,
}

/// What is done by somebody who needs a token.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// There is one.
    Use(String),
    /// Somebody else's login failed meanwhile; so would ours.
    Share(Failure),
    LogIn,
}

impl Known {
    /// For somebody who came at a time, and has waited until now.
    fn step(&self, came: Instant, now: Instant) -> Step {
        match (&self.held, &self.failed) {
            (Some(held), _) if held.until > now => Step::Use(held.token.clone()),
            (_, Some(failed)) if failed.at >= came => Step::Share(failed.failure.clone()),
            _ => Step::LogIn,
        }
    }
}

impl Session {
    pub(crate) fn new(login: Login) -> Self {
        Self { login, known: Mutex::default() }
    }

    /// A request with what the login needs, and the secret in it.
    pub(crate) async fn sign(
        &self,
        asker: &Asker,
        node: &NodeState,
        request: RequestBuilder,
    ) -> Result<(RequestBuilder, String), Failure> {
        Ok(match &self.login {
            Login::None => (request, String::new()),
            Login::Basic { user, password } => {
                let secret = secret(password)?;
                (request.basic_auth(user, Some(&secret)), secret)
            }
            Login::Bearer(token) => {
                let secret = secret(token)?;
                (request.bearer_auth(&secret), secret)
            }
            Login::Header { name, value } => {
                let secret = secret(value)?;
                (request.header(name, hidden(&secret)?), secret)
            }
            Login::Token { header, .. } => {
                let token = self.token(asker, node).await?;
                (request.header(header, hidden(&token)?), token)
            }
        })
    }

    async fn token(&self, asker: &Asker, node: &NodeState) -> Result<String, Failure> {
        let came = Instant::now();
        let mut known = self.known.lock().await;
        let now = Instant::now();
        match known.step(came, now) {
            Step::Use(token) => return Ok(token),
            Step::Share(failure) => return Err(failure),
            Step::LogIn if node.state(now) != State::Free => return Err(Failure::NotNow),
            Step::LogIn => {}
        }
        if let Some(old) = known.held.take() {
            let give_back = self.give_back(&asker.http, &node.url, old.token);
            tokio::spawn(async move {
                if let Some(give_back) = give_back {
                    give_back.await;
                }
            });
        }
        let brought = self.log_in(&asker.http, &node.url).await;
        // Before anybody else can have the lock: whoever comes next is to see it.
        match brought {
            Ok(held) => {
                let token = held.token.clone();
                *known = Known { held: Some(held), failed: None };
                Ok(token)
            }
            Err(failure) => {
                let at = Instant::now();
                node.failed(&failure, &asker.bounds, at);
                known.failed = Some(Failed { failure: failure.clone(), at });
                Err(failure)
            }
        }
    }

    /// One login.
    async fn log_in(&self, http: &Http, node: &Url) -> Result<Held, Failure> {
        let Login::Token { user, password, path, header, expires_ms, .. } = &self.login else {
            return Err(Failure::Ours("this login has no token".to_owned()));
        };
        let password = secret(password)?;
        let request = http.get(below(node, path)?).basic_auth(user, Some(&password));
        let begun = Instant::now();
        let answer = http.send(request, &[&password]).await.map_err(|failure| match failure {
            Failure::TimedOut => Failure::TimedOut,
            failure => Failure::Login(format!("log in at {path}: {failure}")),
        })?;
        let token = answer.headers.get(header).and_then(|it| it.to_str().ok()).filter(|it| !it.is_empty());
        let token = token
            .ok_or_else(|| Failure::Login(format!("log in at {path}: no header {header} in the answer")))?;
        Ok(Held { token: token.to_owned(), until: begun + Duration::from_millis(*expires_ms) })
    }

    /// What was sent was refused. Answers whether another login may help.
    pub(crate) async fn refused(&self, sent: &str) -> bool {
        if !matches!(self.login, Login::Token { .. }) {
            return false;
        }
        let mut known = self.known.lock().await;
        // Somebody else may have logged in anew meanwhile.
        if known.held.as_ref().is_some_and(|it| it.token == sent) {
            known.held = None;
        }
        true
    }

    /// Gives the token back at the end.
    pub(crate) async fn close(&self, http: &Http, node: &Url) {
        let Some(held) = self.known.lock().await.held.take() else { return };
        if let Some(give_back) = self.give_back(http, node, held.token) {
            give_back.await;
        }
    }

    /// A token that stays there a little longer does no harm: how it ends is nobody's concern.
    fn give_back(
        &self,
        http: &Http,
        node: &Url,
        token: String,
    ) -> Option<impl Future<Output = ()> + 'static> {
        let Login::Token { header, logout: Some(path), .. } = &self.login else { return None };
        let request = http.get(below(node, path).ok()?).header(header, hidden(&token).ok()?);
        let http = http.clone();
        Some(async move { drop(http.send(request, &[&token]).await) })
    }
}

fn hidden(secret: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(secret).map_err(|_| {
        Failure::Ours("the secret cannot stand in a header: it has control characters".to_owned())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn secret(credential: &Credential) -> Result<String, Failure> {
    crate::secret::read(credential).map_err(Failure::Ours)
}

/// An address below a node's own.
pub(crate) fn below(node: &Url, path: &str) -> Result<Url, Failure> {
    let text = format!("{}{path}", node.as_str().trim_end_matches('/'));
    Url::parse(&text).map_err(|err| Failure::Ours(format!("the path {path:?} makes no address ({err})")))
}
