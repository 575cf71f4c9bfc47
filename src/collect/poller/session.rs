//! How a node is logged into.
//!
//! # Invariants
//! - One login at a time for a node: whoever comes meanwhile waits for its token.
//! - A token that was refused is not sent again, and one is renewed before its time is over; the old one is given back.
//! - A secret that is in a file is read whenever it is needed.

use std::time::Duration;

use outrider_protocol::collect::Credential;
use outrider_protocol::collect::apis::Login;
use reqwest::header::HeaderValue;
use reqwest::{RequestBuilder, Url};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::http::{Failure, Http};

/// A login, and the token that it brought.
#[derive(Debug)]
pub(crate) struct Session {
    login: Login,
    held: Mutex<Option<Held>>,
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

impl Session {
    pub(crate) fn new(login: Login) -> Self {
        Self { login, held: Mutex::new(None) }
    }

    /// A request with what the login needs, and the secret in it.
    pub(crate) async fn sign(
        &self,
        http: &Http,
        node: &Url,
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
                let token = self.token(http, node).await?;
                (request.header(header, hidden(&token)?), token)
            }
        })
    }

    async fn token(&self, http: &Http, node: &Url) -> Result<String, Failure> {
        let Login::Token { user, password, path, header, expires_ms, .. } = &self.login else {
            return Ok(String::new());
        };
        let mut held = self.held.lock().await;
        let now = Instant::now();
        if let Some(it) = held.as_ref().filter(|it| it.until > now) {
            return Ok(it.token.clone());
        }
        if let Some(old) = held.take() {
            let give_back = self.give_back(http, node, old.token);
            tokio::spawn(async move {
                if let Some(give_back) = give_back {
                    give_back.await;
                }
            });
        }
        let password = secret(password)?;
        let request = http.get(below(node, path)?).basic_auth(user, Some(&password));
        let answer = http.send(request, &[&password]).await.map_err(|failure| match failure {
            Failure::TimedOut => Failure::TimedOut,
            failure => Failure::Login(format!("log in at {path}: {failure}")),
        })?;
        let token = answer.headers.get(header).and_then(|it| it.to_str().ok()).filter(|it| !it.is_empty());
        let token = token
            .ok_or_else(|| Failure::Login(format!("log in at {path}: no header {header} in the answer")))?;
        *held = Some(Held { token: token.to_owned(), until: now + Duration::from_millis(*expires_ms) });
        Ok(token.to_owned())
    }

    /// What was sent was refused. Answers whether another login may help.
    pub(crate) async fn refused(&self, sent: &str) -> bool {
        if !matches!(self.login, Login::Token { .. }) {
            return false;
        }
        let mut held = self.held.lock().await;
        // Somebody else may have logged in anew meanwhile.
        if held.as_ref().is_some_and(|it| it.token == sent) {
            *held = None;
        }
        true
    }

    /// Gives the token back at the end.
    pub(crate) async fn close(&self, http: &Http, node: &Url) {
        let Some(held) = self.held.lock().await.take() else { return };
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
