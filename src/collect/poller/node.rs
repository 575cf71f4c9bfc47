//! Who may be asked now: nodes that hang are left alone for a while, and those that say how long to wait are not asked
//! sooner; and how many requests a system gets.
//!
//! # Invariants
//! - What is decided is decided by pure functions of the state and the time; times are those of the monotonic clock.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use outrider_protocol::collect::apis::Bounds;
use reqwest::Url;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::http::Failure;
use super::session::Session;

/// How many requests of one node are under way at once: one that hangs takes few of the turns that all have in common.
const AT_ONCE: usize = 16;
/// The longest time for which a node is left alone because it asks for that: a slip of one server is not to cost days.
const LEFT_ALONE_MOST: Duration = Duration::from_secs(6 * 3600);

/// A node, shared by all that ask it.
#[derive(Debug)]
pub(crate) struct NodeState {
    /// Group, system, VDC and name.
    pub(crate) key: String,
    pub(crate) url: Url,
    pub(crate) id: String,
    pub(crate) name: String,
    /// The number of its VDC in the system.
    pub(crate) vdc: usize,
    pub(crate) session: Session,
    /// Of requests; not of logins, of which there is one at a time.
    pub(crate) turns: Semaphore,
    times: Mutex<Times>,
}

#[derive(Debug, Default)]
struct Times {
    blocked_until: Option<Instant>,
    /// And the status with which it said so.
    not_before: Option<(Instant, u16)>,
}

/// How a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Free,
    /// It asked to wait so long.
    Waits(Duration),
    /// It timed out not long ago.
    Blocked,
}

impl NodeState {
    pub(crate) fn new(vdc: (usize, &str), url: Url, id: String, name: String, session: Session) -> Self {
        let (vdc, key) = (vdc.0, format!("{}/{name}", vdc.1));
        Self { key, url, id, name, vdc, session, turns: Semaphore::new(AT_ONCE), times: Mutex::default() }
    }

    /// The same at another address, of which nothing is known.
    pub(crate) fn at(&self, url: Url, session: Session) -> Self {
        let (key, id, name) = (self.key.clone(), self.id.clone(), self.name.clone());
        Self { key, url, id, name, session, turns: Semaphore::new(AT_ONCE), times: Mutex::default(), ..*self }
    }

    pub(crate) fn state(&self, now: Instant) -> State {
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        if times.blocked_until.is_some_and(|it| it > now) {
            return State::Blocked;
        }
        match times.not_before {
            Some((at, _)) if at > now => State::Waits(at - now),
            _ => State::Free,
        }
    }

    /// Remembers what a failure says of it.
    pub(crate) fn failed(&self, failure: &Failure, bounds: &Bounds, now: Instant) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        match failure.cause() {
            Failure::TimedOut if bounds.block_ms > 0 => {
                times.blocked_until = Some(now + Duration::from_millis(bounds.block_ms));
            }
            Failure::Status { status, after: Some(after), .. } => {
                let until = now + (*after).min(LEFT_ALONE_MOST);
                times.not_before = times.not_before.max(Some((until, *status)));
            }
            _ => {}
        }
    }

    /// How long it asks to be left alone yet, and the status with which it said so.
    pub(crate) fn waits(&self, now: Instant) -> Option<(Duration, u16)> {
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.not_before.filter(|it| it.0 > now).map(|(at, status)| (at - now, status))
    }
}

/// Which of several nodes is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pick {
    This(usize),
    After(Duration),
    Nobody,
}

/// One that is free and did not fail for this request, the preferred before others; else one that failed; else whoever is
/// free first. Those that are blocked are not asked.
pub(crate) fn pick(nodes: &[(State, bool)], preferred: Option<usize>, random: u64) -> Pick {
    let choose = |fits: &dyn Fn(&(State, bool)) -> bool| {
        let fitting: Vec<_> = (0..nodes.len()).filter(|at| fits(&nodes[*at])).collect();
        let random = usize::try_from(random % fitting.len().max(1) as u64).unwrap_or_default();
        preferred.filter(|it| fitting.contains(it)).or_else(|| fitting.get(random).copied())
    };
    let free = choose(&|it| *it == (State::Free, false)).or_else(|| choose(&|it| it.0 == State::Free));
    if let Some(at) = free {
        return Pick::This(at);
    }
    let waits = nodes.iter().filter_map(|it| if let State::Waits(wait) = it.0 { Some(wait) } else { None });
    waits.min().map_or(Pick::Nobody, Pick::After)
}

/// A bucket of tokens: so many requests a minute, some of them at once.
#[derive(Debug)]
pub(crate) struct Bucket {
    per_minute: f64,
    state: Mutex<(f64, Option<Instant>)>,
}

impl Bucket {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "at most a million")]
        let per_minute = bounds.requests_per_min as f64;
        Self { per_minute, state: Mutex::new((Self::most(per_minute), None)) }
    }

    /// Ten seconds' worth at once.
    fn most(per_minute: f64) -> f64 {
        (per_minute / 6.0).max(1.0)
    }

    /// Takes a token; answers how long to wait until it is there.
    pub(crate) fn take(&self, now: Instant) -> Duration {
        if self.per_minute == 0.0 {
            return Duration::ZERO;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = state.1.map_or(Duration::ZERO, |at| now.saturating_duration_since(at)).as_secs_f64();
        let tokens = (state.0 + passed * self.per_minute / 60.0).min(Self::most(self.per_minute)) - 1.0;
        *state = (tokens, Some(now));
        Duration::from_secs_f64((-tokens).max(0.0) * 60.0 / self.per_minute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: (State, bool) = (State::Free, false);
    const FAILED: (State, bool) = (State::Free, true);
    const BLOCKED: (State, bool) = (State::Blocked, false);

    #[test]
    fn another_node_is_asked_where_there_is_one() {
        let wait = |s| (State::Waits(Duration::from_secs(s)), false);
        assert_eq!(pick(&[FREE, FREE, FREE], None, 5), Pick::This(2));
        assert_eq!(pick(&[FREE, FREE, FREE], Some(1), 5), Pick::This(1));
        assert_eq!(pick(&[FAILED, BLOCKED, FREE], Some(0), 0), Pick::This(2));
        assert_eq!(pick(&[FAILED, BLOCKED], Some(0), 3), Pick::This(0));
        assert_eq!(pick(&[wait(9), wait(3), BLOCKED], Some(0), 3), Pick::After(Duration::from_secs(3)));
        assert_eq!(pick(&[BLOCKED], Some(0), 3), Pick::Nobody);
    }

    #[test]
    fn what_a_node_asks_for_is_obeyed_for_hours_but_not_for_days() {
        let url = Url::parse("http://x").unwrap();
        let session = Session::new(outrider_protocol::collect::apis::Login::None);
        let node = NodeState::new((0, "g/s/v"), url, "i".into(), "n".into(), session);
        let (now, bounds, hour) = (Instant::now(), Bounds::default(), Duration::from_secs(3600));
        let says = |after| {
            let failure = Failure::Status { status: 429, start: String::new(), after: Some(after) };
            node.failed(&failure, &bounds, now);
            node.state(now)
        };
        assert_eq!(says(hour), State::Waits(hour));
        assert_eq!(
            says(hour / 60),
            State::Waits(hour),
            "who was asked for less at the same time changes nothing"
        );
        assert_eq!(says(hour * 24), State::Waits(hour * 6));
        assert_eq!(node.waits(now), Some((hour * 6, 429)));
        assert_eq!((node.state(now + hour * 6), node.waits(now + hour * 6)), (State::Free, None));
    }

    #[test]
    fn a_bucket_gives_so_many_a_minute() {
        let bucket = Bucket::new(&Bounds { requests_per_min: 60, ..Bounds::default() });
        let start = Instant::now();
        let waits: Vec<_> = (0..12).map(|_| bucket.take(start).as_secs()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2], "ten at once, then one a second");
        assert_eq!(bucket.take(start + Duration::from_secs(20)), Duration::ZERO);
        let all = Bucket::new(&Bounds::default());
        assert!((0..1000).all(|_| all.take(start).is_zero()));
    }
}
