//! A request until it is answered: tried again after growing pauses, of another node where that may answer.
//!
//! # Invariants
//! - Every try sends the whole request, its body included.
//! - A node that timed out is left alone for a while; one that says when to come again is not asked sooner. That is looked
//!   at before it is chosen, and again when its turn has come.
//! - Whoever waits, for a login or for one node's turn, holds up nobody who asks another node.

use std::sync::Arc;
use std::time::Duration;

use outrider_protocol::collect::apis::Bounds;
use reqwest::Url;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::http::{Answer, Failure, Http};
use super::node::{Bucket, NodeState, Pick, State, pick};
use super::poll::{like_json, shown};
use super::session::below;

/// The first pause between two tries; it doubles each time.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest of them.
const PAUSE_MOST: Duration = Duration::from_secs(30);
/// How many requests are under way at once.
static AT_ONCE: Semaphore = Semaphore::const_new(64);

/// What asks.
#[derive(Debug)]
pub(crate) struct Asker {
    pub(crate) http: Http,
    pub(crate) bounds: Bounds,
    pub(crate) bucket: Arc<Bucket>,
    /// Who may be asked.
    pub(crate) nodes: Vec<Arc<NodeState>>,
    /// The first of them before the others, where all are well.
    pub(crate) first_first: bool,
    /// How long one is waited for that asks to be left alone; where it asks for more there is no answer now.
    pub(crate) patience: Duration,
}

/// What is asked for: one path, or several that only the answers of one node are good for together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'p> {
    pub(crate) paths: &'p [&'p str],
    pub(crate) body: Option<&'p str>,
}

/// Why a try brought nothing.
struct Refused<'p> {
    failure: Failure,
    /// What it was signed with.
    secret: String,
    /// Which path it is about; none where it is about all of several.
    path: Option<&'p str>,
}

/// Why a poll failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollError {
    /// The node that was asked last.
    pub node: Option<String>,
    /// What it answered, if it did.
    pub status: Option<u16>,
    /// What went wrong.
    pub what: String,
    /// What it is about.
    pub about: About,
}

/// What a failed poll is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// What was asked, or what came of it.
    Asked,
    /// A login that the node refuses, which is told of the node.
    Login,
    /// Nobody was asked: trouble before this said that they are to be left alone.
    LeftAlone,
}

impl std::fmt::Display for PollError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.node {
            Some(node) => write!(f, "{node}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl PollError {
    /// No node's fault.
    pub(crate) fn ours(what: String) -> Self {
        Self { node: None, status: None, what, about: About::Asked }
    }

    /// Of a node, after its answer.
    pub(crate) fn of(node: &NodeState, what: String) -> Self {
        Self { node: Some(node.name.clone()), ..Self::ours(what) }
    }

    /// Whether it is no news after the other: what differs is where it happened, or the words of an answer.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        self.status == other.status && (self.status.is_some() || self.what == other.what)
    }
}

impl Asker {
    /// Asks for JSON, of a preferred node if that is well. The answer comes with the number of the node.
    pub(crate) async fn ask_json(
        &self,
        path: &str,
        body: Option<&str>,
        preferred: Option<usize>,
    ) -> Result<(Answer, usize), PollError> {
        let none = || Failure::Content("there is no answer".to_owned());
        let read = |mut answers: Vec<Answer>| answers.pop().ok_or_else(none).and_then(like_json);
        self.ask(&Asked { paths: &[path], body }, preferred, read).await
    }

    /// Asks until a node's answers can be read, of a preferred node if that is well. With what was read comes the number of
    /// the node.
    pub(crate) async fn ask<T>(
        &self,
        asked: &Asked<'_>,
        preferred: Option<usize>,
        read: impl Fn(Vec<Answer>) -> Result<T, Failure>,
    ) -> Result<(T, usize), PollError> {
        let now = Instant::now();
        let mut failed: Vec<_> = self.nodes.iter().map(|it| it.session.is_refused(now)).collect();
        let mut renewed = vec![false; self.nodes.len()];
        let (mut preferred, mut attempt) = (preferred, 0);
        let mut last: Option<PollError> = None;
        // Others' requests may find again and again that there is more to wait.
        let mut left = self.patience.saturating_mul(self.bounds.tries);
        while attempt < self.bounds.tries {
            let Some(at) = self.choose(&failed, preferred, &mut left).await else { break };
            let node = &self.nodes[at];
            let Refused { failure, secret, path } = match self.once(node, asked, &read).await {
                Ok(found) => return Ok((found, at)),
                // Nothing was sent, so it is no try. There is somebody else to ask, or a time to wait, or nobody.
                Err(Refused { failure: Failure::NotNow, .. }) => continue,
                Err(refused) => refused,
            };
            failed[at] = true;
            last = Some(PollError {
                node: Some(node.name.clone()),
                status: failure.status(),
                what: path.map_or_else(|| failure.to_string(), |it| format!("{}: {failure}", shown(it))),
                about: if failure.refuses_login() { About::Login } else { About::Asked },
            });
            if self.is_final(node, &failure, &secret).await {
                break;
            }
            // A token whose time was over says nothing against its node, and its renewal is no try; but once is enough.
            let is_over = matches!(failure, Failure::Status { status: 401, .. });
            if is_over && !std::mem::replace(&mut renewed[at], true) {
                (failed[at], preferred) = (false, Some(at));
                continue;
            }
            attempt += 1;
            if attempt < self.bounds.tries {
                sleep(pause(attempt - 1, random())).await;
            }
        }
        Err(last.unwrap_or_else(|| self.nobody(Instant::now())))
    }

    /// Why nobody can be asked.
    fn nobody(&self, now: Instant) -> PollError {
        let waits = self.nodes.iter().filter_map(|node| node.waits(now).map(|it| (it, node)));
        let Some(((wait, status), node)) = waits.min_by_key(|it| it.0) else {
            let nodes = self.nodes.len();
            let what = format!("none of {nodes} nodes can be asked now: they timed out not long ago");
            return PollError { about: About::LeftAlone, ..PollError::ours(what) };
        };
        let what = format!("it answered {status}, and asks to be left alone for {} s more", wait.as_secs());
        PollError { status: Some(status), about: About::LeftAlone, ..PollError::of(node, what) }
    }

    /// Whether no further try can help.
    async fn is_final(&self, node: &NodeState, failure: &Failure, secret: &str) -> bool {
        match failure {
            Failure::Status { status: 401, .. } => !node.session.refused(secret).await,
            _ => !failure.may_pass(),
        }
    }

    /// The node to ask. Waits for one that says when it may be asked, but not for long.
    async fn choose(&self, failed: &[bool], preferred: Option<usize>, left: &mut Duration) -> Option<usize> {
        let preferred = preferred.or(self.first_first.then_some(0));
        loop {
            let now = Instant::now();
            let states: Vec<(State, bool)> =
                self.nodes.iter().zip(failed).map(|(node, failed)| (node.state(now), *failed)).collect();
            match pick(&states, preferred, random()) {
                Pick::This(at) => return Some(at),
                Pick::After(wait) if wait <= self.patience && wait <= *left => {
                    *left -= wait;
                    sleep(wait).await;
                }
                Pick::After(_) | Pick::Nobody => return None,
            }
        }
    }

    /// One try: all paths of one node.
    async fn once<'p, T>(
        &self,
        node: &NodeState,
        asked: &Asked<'p>,
        read: &impl Fn(Vec<Answer>) -> Result<T, Failure>,
    ) -> Result<T, Refused<'p>> {
        let mut answers = Vec::new();
        for &path in asked.paths {
            let mut answer = self.one(node, path, asked.body).await.map_err(|(failure, secret)| Refused {
                failure,
                secret,
                path: Some(path),
            })?;
            if asked.paths.len() > 1 {
                // Two who have one each and wait for another would wait for each other.
                answer.large = None;
            }
            answers.push(answer);
        }
        let path = asked.paths.first().copied().filter(|_| asked.paths.len() == 1);
        read(answers).map_err(|failure| Refused { failure, secret: String::new(), path })
    }

    /// One request.
    async fn one(
        &self,
        node: &NodeState,
        path: &str,
        body: Option<&str>,
    ) -> Result<Answer, (Failure, String)> {
        sleep(self.bucket.take(Instant::now())).await;
        let url: Url = below(&node.url, path).map_err(|it| (it, String::new()))?;
        let request = match body {
            Some(body) => self.http.post(url, body.to_owned()),
            None => self.http.get(url),
        };
        let signed = node.session.sign(self, node, request).await;
        let (request, secret) = signed.map_err(|it| (it, String::new()))?;
        // Only now: a login may hang, and all who wait for it would keep the turns of those who ask others. They are never
        // closed.
        let _turns = (node.turns.acquire().await.ok(), AT_ONCE.acquire().await.ok());
        if node.state(Instant::now()) != State::Free {
            return Err((Failure::NotNow, secret));
        }
        self.http.send(request, &[&secret]).await.map_err(|failure| {
            // While the turn is kept: whoever has it next is to see it.
            node.failed(&failure, &self.bounds, Instant::now());
            (failure, secret)
        })
    }
}

/// A growing pause, of which a half is left to chance.
fn pause(attempt: u32, random: u64) -> Duration {
    let whole = PAUSE.saturating_mul(1 << attempt.min(10)).min(PAUSE_MOST);
    whole / 2 + whole.mul_f64(chance(random) / 2.0)
}

/// From 0 to 1.
pub(crate) fn chance(random: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "chance needs no more than what is left")]
    let part = (random >> 11) as f64 / (1_u64 << 53) as f64;
    part
}

pub(crate) fn random() -> u64 {
    // Without the system's chance all pauses are the shortest, which is no harm.
    getrandom::u64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_bounded() {
        assert_eq!(pause(0, 0), PAUSE / 2);
        assert!(pause(0, u64::MAX) <= PAUSE && pause(3, 0) == PAUSE * 4);
        assert!(pause(30, u64::MAX) <= PAUSE_MOST);
    }

    #[test]
    fn the_same_trouble_elsewhere_is_no_news() {
        let error = |node: &str, status, what: &str| PollError {
            node: Some(node.into()),
            status,
            ..PollError::ours(what.into())
        };
        assert!(error("a", Some(500), "x").is_like(&error("b", Some(500), "y")));
        assert!(!error("a", Some(500), "x").is_like(&error("a", Some(503), "x")));
        assert!(error("a", None, "no answer").is_like(&error("b", None, "no answer")));
        assert!(!error("a", None, "no answer").is_like(&error("a", None, "broken")));
    }
}
