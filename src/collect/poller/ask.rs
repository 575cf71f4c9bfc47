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
use super::session::below;

/// The first pause between two tries; it doubles each time.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest pause, also where a server asks for a longer one.
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
    /// The node refuses the login, which is told of the node.
    pub is_login: bool,
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
        Self { node: None, status: None, what, is_login: false }
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
    /// Asks for a path, of a preferred node if that is well. The answer comes with the number of the node.
    pub(crate) async fn ask(
        &self,
        path: &str,
        body: Option<&str>,
        preferred: Option<usize>,
        check: impl Fn(&Answer) -> Result<(), Failure>,
    ) -> Result<(Answer, usize), PollError> {
        let now = Instant::now();
        let mut failed: Vec<_> = self.nodes.iter().map(|it| it.session.is_refused(now)).collect();
        let mut renewed = vec![false; self.nodes.len()];
        let (mut preferred, mut attempt) = (preferred, 0);
        let mut last: Option<PollError> = None;
        while attempt < self.bounds.tries {
            let Some(at) = self.choose(&failed, preferred).await else { break };
            let node = &self.nodes[at];
            let (failure, secret) = match self.once(node, path, body, &check).await {
                Ok(answer) => return Ok((answer, at)),
                // Nothing was sent, so it is no try. There is somebody else to ask, or a time to wait, or nobody.
                Err((Failure::NotNow, _)) => continue,
                Err(failed) => failed,
            };
            failed[at] = true;
            last = Some(PollError {
                node: Some(node.name.clone()),
                status: failure.status(),
                what: format!("{}: {failure}", path.split_once('?').map_or(path, |it| it.0)),
                is_login: failure.refuses_login(),
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
        Err(last.unwrap_or_else(|| {
            let nodes = self.nodes.len();
            PollError::ours(format!("none of {nodes} nodes can be asked now: they timed out not long ago"))
        }))
    }

    /// Whether no further try can help.
    async fn is_final(&self, node: &NodeState, failure: &Failure, secret: &str) -> bool {
        match failure {
            Failure::Status { status: 401, .. } => !node.session.refused(secret).await,
            _ => !failure.may_pass(),
        }
    }

    /// The node to ask. Waits for one that says when it may be asked, but not for long.
    async fn choose(&self, failed: &[bool], preferred: Option<usize>) -> Option<usize> {
        let preferred = preferred.or(self.first_first.then_some(0));
        loop {
            let now = Instant::now();
            let states: Vec<(State, bool)> =
                self.nodes.iter().zip(failed).map(|(node, failed)| (node.state(now), *failed)).collect();
            match pick(&states, preferred, random()) {
                Pick::This(at) => return Some(at),
                Pick::After(wait) => sleep(wait).await,
                Pick::Nobody => return None,
            }
        }
    }

    async fn once(
        &self,
        node: &NodeState,
        path: &str,
        body: Option<&str>,
        check: &impl Fn(&Answer) -> Result<(), Failure>,
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
        let answer = self.http.send(request, &[&secret]).await;
        match answer.and_then(|answer| check(&answer).map(|()| answer)) {
            Ok(answer) => Ok(answer),
            Err(failure) => {
                // While the turn is kept: whoever has it next is to see it.
                node.failed(&failure, &self.bounds, Instant::now());
                Err((failure, secret))
            }
        }
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
