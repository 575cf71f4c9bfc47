//! How a node is logged into.
//!
//! # Invariants
//! - One login at a time for a node: whoever comes meanwhile waits for its token, or has its failure as well. None of them
//!   tries the same again, and a node that is to be left alone gets no login either.
//! - A name and password that were refused a token are sent again only after a pause, which grows each time, whoever needs one:
//!   more might lock the account. Another password, in its file, is tried at once.
//! - A token that was refused is not sent again, and one is renewed before its time is over; the old one is given back.
//! - A secret that is in a file is read whenever it is needed.

use std::sync::PoisonError;
use std::time::Duration;

use outrider_protocol::collect::Credential;
use outrider_protocol::collect::apis::Login;
use reqwest::header::HeaderValue;
use reqwest::{RequestBuilder, Url};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::ask::{Asker, PollError};
use super::http::{Failure, Http};
use super::node::{NodeState, State};
use super::telling::Telling;

/// The pause after a password was refused; it doubles each time.
const REFUSED: Duration = Duration::from_secs(30);
/// The longest of them.
const REFUSED_MOST: Duration = Duration::from_secs(1800);

/// A login, and the token that it brought.
#[derive(Debug)]
pub(crate) struct Session {
    login: Login,
    /// Locked while somebody logs in.
    known: Mutex<Known>,
    telling: std::sync::Mutex<Telling>,
}

/// What the last login brought.
#[derive(Debug, Default)]
struct Known {
    held: Option<Held>,
    failed: Option<Failed>,
    refusal: Option<Refusal>,
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

/// A password that was not taken.
struct Refusal {
    password: String,
    failure: Failure,
    /// How often it was sent.
    times: u32,
    /// Until when it is not sent again.
    until: Instant,
}

impl std::fmt::Debug for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Refusal")
            .field("times", &self.times)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

/// How long a refused password is not sent again.
fn refused_pause(times: u32) -> Duration {
    REFUSED.saturating_mul(1 << times.saturating_sub(1).min(10)).min(REFUSED_MOST)
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

    /// How this password was refused, if it is not to be sent again yet.
    fn refused(&self, password: &str, now: Instant) -> Option<Failure> {
        let refusal = self.refusal.as_ref()?;
        (refusal.password == password && refusal.until > now).then(|| refusal.failure.clone())
    }

    /// Remembers a failure, and what it says of the password.
    fn failed(&mut self, failure: &Failure, password: String, now: Instant) {
        self.failed = Some(Failed { failure: failure.clone(), at: now });
        if failure.refuses_login() {
            let before = self.refusal.as_ref().filter(|it| it.password == password).map_or(0, |it| it.times);
            let times = before.saturating_add(1);
            let until = now + refused_pause(times);
            self.refusal = Some(Refusal { password, failure: failure.clone(), times, until });
        }
    }
}

impl Session {
    pub(crate) fn new(login: Login) -> Self {
        Self { login, known: Mutex::default(), telling: std::sync::Mutex::default() }
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
        match known.step(came, Instant::now()) {
            Step::Use(token) => return Ok(token),
            Step::Share(failure) => return Err(failure),
            Step::LogIn => {}
        }
        let password = self.password()?;
        if let Some(failure) = known.refused(&password, Instant::now()) {
            return Err(failure);
        }
        sleep(asker.bucket.take(Instant::now())).await;
        if node.state(Instant::now()) != State::Free {
            return Err(Failure::NotNow);
        }
        if let Some(old) = known.held.take() {
            let give_back = self.give_back(&asker.http, &node.url, old.token);
            tokio::spawn(async move {
                if let Some(give_back) = give_back {
                    give_back.await;
                }
            });
        }
        let brought = self.log_in(&asker.http, &node.url, &password).await;
        // Before anybody else can have the lock: whoever comes next is to see it.
        match brought {
            Ok(held) => {
                let token = held.token.clone();
                *known = Known { held: Some(held), ..Known::default() };
                self.telling().went(Ok(()));
                Ok(token)
            }
            Err(failure) => {
                let at = Instant::now();
                node.failed(&failure, &asker.bounds, at);
                known.failed(&failure, password, at);
                if failure.refuses_login() {
                    let error =
                        PollError { status: failure.status(), ..PollError::of(node, failure.to_string()) };
                    self.telling().went(Err(&error));
                }
                Err(failure)
            }
        }
    }

    /// One login.
    async fn log_in(&self, http: &Http, node: &Url, password: &str) -> Result<Held, Failure> {
        let Login::Token { user, path, header, expires_ms, .. } = &self.login else {
            return Err(Failure::Ours("this login has no token".to_owned()));
        };
        let failed = |failure| Failure::Login { path: path.clone(), failure: Box::new(failure) };
        let request = http.get(below(node, path)?).basic_auth(user, Some(password));
        let begun = Instant::now();
        let answer = http.send(request, &[password]).await.map_err(failed)?;
        let token = answer.headers.get(header).and_then(|it| it.to_str().ok()).filter(|it| !it.is_empty());
        let token =
            token.ok_or_else(|| failed(Failure::Content(format!("no header {header} in the answer"))))?;
        Ok(Held { token: token.to_owned(), until: begun + Duration::from_millis(*expires_ms) })
    }

    fn password(&self) -> Result<String, Failure> {
        self.login.credential().map_or_else(|| Ok(String::new()), secret)
    }

    fn telling(&self) -> std::sync::MutexGuard<'_, Telling> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the login is refused, or taken again, where that was not told yet.
    pub(crate) fn news(&self) -> Option<Result<(), PollError>> {
        self.telling().news()
    }

    /// Whether the last login was refused, and is not tried again yet.
    pub(crate) fn is_refused(&self, now: Instant) -> bool {
        // While somebody logs in it is open again.
        let known = self.known.try_lock();
        known.is_ok_and(|it| it.refusal.as_ref().is_some_and(|it| it.until > now))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> Failure {
        let failure = Failure::Status { status: 401, start: String::new(), after: None };
        Failure::Login { path: "/login".to_owned(), failure: Box::new(failure) }
    }

    #[test]
    fn a_refused_password_is_sent_again_after_pauses_that_grow() {
        let mut known = Known::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            known.failed(&refused(), "wrong".to_owned(), now);
            assert_eq!(known.refused("wrong", now), Some(refused()));
            assert_eq!(known.refused("another", now), None);
            let until = known.refusal.as_ref().unwrap().until;
            pauses.push((until - now).as_secs());
            now = until;
            assert_eq!(known.refused("wrong", now), None);
        }
        assert_eq!(pauses, [30, 60, 120, 240, 480, 960, 1800, 1800, 1800]);
        known.failed(&refused(), "another".to_owned(), now);
        assert_eq!(known.refusal.as_ref().unwrap().times, 1);
        known.failed(&Failure::TimedOut, "another".to_owned(), now);
        assert_eq!(known.refused("another", now), Some(refused()), "other trouble says nothing of it");
    }

    #[test]
    fn a_failure_is_shared_with_those_who_waited_for_it_alone() {
        let mut known = Known::default();
        let came = Instant::now();
        let failed = came + Duration::from_secs(3);
        assert_eq!(known.step(came, failed), Step::LogIn);
        known.failed(&Failure::TimedOut, String::new(), failed);
        assert_eq!(known.step(came, failed), Step::Share(Failure::TimedOut));
        let later = failed + Duration::from_millis(1);
        assert_eq!(known.step(later, later), Step::LogIn);
        known.held = Some(Held { token: "t".to_owned(), until: later + Duration::from_secs(1) });
        assert_eq!(known.step(came, later), Step::Use("t".to_owned()));
        let over = later + Duration::from_secs(1);
        assert_eq!(known.step(over, over), Step::LogIn);
    }
}
