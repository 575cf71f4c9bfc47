//! When `outrider collect` runs: while config.json has a section for it, or the backend ordered one, and the service does not
//! stop. Decisions only; the process itself is `process`, and what an order comes to is `ordered`.
//!
//! ```text
//!  off ── a section ──> running ── ended by itself ──> waiting ── its pause is over, or the section changed ──> running
//!   ^                      │                              │
//!   └── section gone, or the service stops ───────────────┘
//! ```
//!
//! # Invariants
//! - There is never more than one, and none that the section is not about: a changed section ends it, and starts the next
//!   when it is gone.
//! - Pauses double from a second to a minute while it keeps dying; one that ran for a while begins anew.

pub(crate) mod ordered;
pub(crate) mod process;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use outrider_protocol::collect::ordered::{CollectEnd, CollectSource, CollectingParams, CollectingState};
use outrider_protocol::collect::{CollectReport, Reading};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

/// The pause after the first death.
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause, and that after a configuration it cannot work with: a change of that is noticed anyway.
const LONGEST: Duration = Duration::from_secs(60);
/// Who ran for so long did not die of how it was started.
const STEADY: Duration = Duration::from_secs(60);
/// How often config.json is looked at for a change.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// What is told of at once that does not work, at most.
const TROUBLES: usize = 10;
/// The longest of such texts, in characters.
const LONGEST_TROUBLE: usize = 500;

/// Whether collecting runs, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum CollectStatus {
    /// It runs.
    Running {
        /// Whose section it is.
        #[serde(default)]
        source: CollectSource,
        /// Its process, once that is started.
        pid: Option<u32>,
        /// Since when.
        since: Timestamp,
        /// How it goes.
        report: CollectReport,
    },
    /// It ended, and is started again.
    Waiting {
        /// Whose section it is.
        #[serde(default)]
        source: CollectSource,
        /// When it ended.
        since: Timestamp,
        /// Why.
        error: String,
    },
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Start the process; it is told by this when to end.
    Start(Signal),
    /// Nothing now.
    Nothing,
}

/// Tells a process that it is to end.
#[derive(Debug)]
pub(crate) struct Signal(pub(crate) watch::Receiver<Option<&'static str>>);

impl PartialEq for Signal {
    fn eq(&self, other: &Self) -> bool {
        self.0.same_channel(&other.0)
    }
}

impl Eq for Signal {}

/// A section as it stands where it was written, and whose it is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) source: CollectSource,
    pub(crate) text: String,
}

impl fmt::Debug for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text holds secrets.
        f.debug_struct("Section").field("source", &self.source).finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum State {
    Off,
    Running {
        section: Section,
        started: Instant,
        stop: watch::Sender<Option<&'static str>>,
        status: CollectStatus,
    },
    Waiting {
        section: Section,
        until: Instant,
        status: CollectStatus,
    },
}

/// Whether it runs, and when to look again.
#[derive(Debug)]
pub(crate) struct Collecting {
    state: State,
    failures: u32,
    look_at: Instant,
    stopped: bool,
    /// How it last ended by itself, with this section.
    last_end: Option<CollectEnd>,
    latest: watch::Sender<Latest>,
}

/// The latest samples in short; none before the first.
pub(crate) type Latest = Arc<[Reading]>;

impl Collecting {
    pub(crate) fn new(now: Instant) -> Self {
        let latest = watch::Sender::new(Latest::default());
        Self { state: State::Off, failures: 0, look_at: now, stopped: false, last_end: None, latest }
    }

    /// What was measured last, as it changes.
    pub(crate) fn latest(&self) -> watch::Receiver<Latest> {
        self.latest.subscribe()
    }

    /// When there is something to do.
    pub(crate) fn at(&self) -> Option<Instant> {
        let pause = match &self.state {
            State::Waiting { until, .. } => *until,
            State::Off | State::Running { .. } => self.look_at,
        };
        (!self.stopped).then(|| pause.min(self.look_at))
    }

    /// Whether config.json is to be looked at; if so, when to look again is settled.
    pub(crate) fn looks(&mut self, now: Instant) -> bool {
        let due = !self.stopped && self.look_at <= now;
        if due {
            self.look_at = now + LOOK_EVERY;
        }
        due
    }

    /// Something may be otherwise: it is to be looked at once.
    pub(crate) fn look(&mut self, now: Instant) {
        self.look_at = now;
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    /// The service stops.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
        self.end("the service stops");
    }

    fn end(&self, why: &'static str) {
        if let State::Running { stop, .. } = &self.state {
            stop.send_if_modified(|now| now.is_none().then(|| *now = Some(why)).is_some());
        }
    }

    /// What follows from the section that is in effect now.
    pub(crate) fn decide(&mut self, section: Option<&Section>, now: Instant) -> Act {
        match (&self.state, section) {
            _ if self.stopped => Act::Nothing,
            (State::Running { section: of, .. }, section) => {
                if section != Some(of) {
                    self.end("the section `collect` is another one");
                }
                Act::Nothing
            }
            (_, None) => {
                self.state = State::Off;
                self.failures = 0;
                self.last_end = None;
                Act::Nothing
            }
            (State::Waiting { section: of, until, .. }, Some(section)) if of == section && now < *until => {
                Act::Nothing
            }
            (state, Some(section)) => {
                if !matches!(state, State::Waiting { section: of, .. } if of == section) {
                    self.last_end = None;
                }
                let (stop, stopped) = watch::channel(None);
                let status = CollectStatus::Running {
                    source: section.source,
                    pid: None,
                    since: Timestamp::now(),
                    report: CollectReport::default(),
                };
                self.state = State::Running { section: section.clone(), started: now, stop, status };
                Act::Start(Signal(stopped))
            }
        }
    }

    /// Its process is there.
    pub(crate) fn started(&mut self, process: u32) {
        if let State::Running { status: CollectStatus::Running { pid, .. }, .. } = &mut self.state {
            *pid = Some(process);
        }
    }

    /// It tells how it goes. What it measured goes to the backend, and not into the state.
    pub(crate) fn reported(&mut self, mut new: CollectReport) {
        let latest = std::mem::take(&mut new.latest);
        self.latest.send_if_modified(|now| {
            let changed = !latest.is_empty() && **now != *latest;
            if changed {
                *now = latest.into();
            }
            changed
        });
        if let State::Running { status: CollectStatus::Running { report, .. }, .. } = &mut self.state {
            *report = new;
        }
    }

    /// It is gone, by itself for a reason, or since it was told to. Answers the pause before the next start, if it needs one.
    pub(crate) fn ended(&mut self, now: Instant, failed: Option<Failed>) -> Option<Duration> {
        let State::Running { section, started, stop, .. } = &self.state else { return None };
        let told = stop.borrow().is_some();
        let (section, steady) = (section.clone(), now.duration_since(*started) >= STEADY);
        if told {
            self.failures = 0;
            self.state = State::Off;
            self.look_at = now;
            return None;
        }
        let why = "it ended though nobody told it to".to_owned();
        let failed = failed.unwrap_or(Failed { why, again: true });
        self.failures = if steady { 0 } else { self.failures };
        let pause = if failed.again {
            FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST)
        } else {
            LONGEST
        };
        self.failures += 1;
        let (source, at) = (section.source, Timestamp::now());
        self.last_end = Some(CollectEnd { at, error: failed.why.clone() });
        let status = CollectStatus::Waiting { source, since: at, error: failed.why };
        self.state = State::Waiting { section, until: now + pause, status };
        Some(pause)
    }

    /// For the backend: without counts, so that it changes seldom.
    pub(crate) fn told(&self) -> CollectingParams {
        let (source, state, since, troubles) = match self.status() {
            None => (None, CollectingState::Off, None, Vec::new()),
            Some(CollectStatus::Running { source, since, report, .. }) => {
                (Some(*source), CollectingState::Running, Some(*since), troubles(report))
            }
            Some(CollectStatus::Waiting { source, since, .. }) => {
                (Some(*source), CollectingState::Waiting, Some(*since), Vec::new())
            }
        };
        CollectingParams { source, state, since, last_end: self.last_end.clone(), troubles, ordered: None }
    }

    /// For people; nothing where it is not wanted.
    pub(crate) fn status(&self) -> Option<&CollectStatus> {
        match &self.state {
            State::Off => None,
            State::Running { status, .. } | State::Waiting { status, .. } => Some(status),
        }
    }
}

/// What does not work, each thing with its last error.
fn troubles(report: &CollectReport) -> Vec<String> {
    let outputs = report
        .outputs
        .iter()
        .filter_map(|it| it.failing.as_ref().map(|failing| format!("output {}: {}", it.name, failing.error)));
    let apis = report.apis.as_ref().filter(|it| it.failing > 0);
    let apis = apis.and_then(|it| it.trouble.as_ref()).map(|it| format!("API {it}"));
    let measured = report.trouble.as_ref().map(|it| format!("not measured: {it}"));
    let all = outputs.chain(apis).chain(measured).take(TROUBLES);
    all.map(|it| it.chars().take(LONGEST_TROUBLE).collect()).collect()
}

/// It ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed {
    /// Why.
    pub(crate) why: String,
    /// Whether it may work the next time.
    pub(crate) again: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(again: bool) -> Option<Failed> {
        Some(Failed { why: "no".into(), again })
    }

    fn own(text: &str) -> Section {
        Section { source: CollectSource::Config, text: text.to_owned() }
    }

    fn started(it: &mut Collecting, section: &str, now: Instant) -> Signal {
        match it.decide(Some(&own(section)), now) {
            Act::Start(signal) => signal,
            Act::Nothing => panic!("it does not start: {it:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_runs_while_there_is_a_section_and_a_changed_one_replaces_it() {
        let now = Instant::now();
        let mut it = Collecting::new(now);
        assert_eq!(it.decide(None, now), Act::Nothing);
        assert!(it.status().is_none());
        let signal = started(&mut it, "a", now);
        assert_eq!(it.decide(Some(&own("a")), now), Act::Nothing, "one at a time");
        assert!(signal.0.borrow().is_none());
        assert_eq!(it.decide(Some(&own("b")), now), Act::Nothing, "the one before has to be gone first");
        assert_eq!(*signal.0.borrow(), Some("the section `collect` is another one"));
        assert_eq!(it.ended(now, failed(true)), None, "it was told to end, whatever it says");
        assert_eq!(it.at(), Some(now), "the next one does not wait");
        let signal = started(&mut it, "b", now);
        it.decide(None, now);
        assert!(signal.0.borrow().is_some());
        it.ended(now, None);
        assert_eq!(it.decide(None, now), Act::Nothing);
        assert!(it.status().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_while_it_keeps_dying() {
        let mut now = Instant::now();
        let mut it = Collecting::new(now);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            started(&mut it, "a", now);
            let pause = it.ended(now, failed(true)).unwrap();
            assert_eq!(it.decide(Some(&own("a")), now + pause - Duration::from_millis(1)), Act::Nothing);
            assert!(matches!(it.status(), Some(CollectStatus::Waiting { .. })));
            pauses.push(pause.as_secs());
            now += pause;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        started(&mut it, "a", now);
        assert_eq!(it.ended(now + STEADY, failed(true)), Some(FIRST), "it ran for a while");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_person_has_to_change_is_tried_anew_when_it_is_changed() {
        let now = Instant::now();
        let mut it = Collecting::new(now);
        started(&mut it, "a", now);
        assert_eq!(it.ended(now, failed(false)), Some(LONGEST));
        assert_eq!(it.decide(Some(&own("a")), now), Act::Nothing);
        started(&mut it, "b", now);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_starts_while_the_service_stops() {
        let now = Instant::now();
        let mut it = Collecting::new(now);
        let signal = started(&mut it, "a", now);
        it.stop();
        assert_eq!(*signal.0.borrow(), Some("the service stops"));
        assert!(it.is_running() && it.at().is_none());
        it.ended(now, None);
        assert_eq!(it.decide(Some(&own("a")), now), Act::Nothing);
        assert!(!it.is_running() && !it.looks(now));
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_section_of_somebody_else_replaces_it() {
        let now = Instant::now();
        let mut it = Collecting::new(now);
        let signal = started(&mut it, "a", now);
        let theirs = Section { source: CollectSource::Backend, text: "a".into() };
        it.decide(Some(&theirs), now);
        assert!(signal.0.borrow().is_some());
        it.ended(now, None);
        assert!(matches!(it.decide(Some(&theirs), now), Act::Start(_)));
        assert_eq!(it.told().source, Some(CollectSource::Backend));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_backend_is_told_is_whose_section_it_is_and_what_does_not_work() {
        use outrider_protocol::collect::{Failing, OutputReport};
        let now = Instant::now();
        let mut it = Collecting::new(now);
        assert_eq!(it.told(), CollectingParams::default());
        started(&mut it, "a", now);
        it.ended(now, failed(true));
        let told = it.told();
        assert_eq!((told.state, told.last_end.unwrap().error.as_str()), (CollectingState::Waiting, "no"));
        started(&mut it, "a", now + FIRST);
        let failing = Some(Failing { since: Timestamp::UNIX_EPOCH, error: "e".repeat(1000) });
        let output = OutputReport { name: "o".into(), failing, ..OutputReport::default() };
        it.reported(CollectReport { outputs: vec![output], ..CollectReport::default() });
        let told = it.told();
        assert_eq!((told.state, told.source), (CollectingState::Running, Some(CollectSource::Config)));
        assert!(told.last_end.is_some(), "it is not forgotten by the next start");
        assert!(told.troubles[0].starts_with("output o: eee") && told.troubles[0].len() == LONGEST_TROUBLE);
        it.decide(Some(&own("b")), now);
        it.ended(now, None);
        started(&mut it, "b", now);
        assert!(it.told().last_end.is_none(), "that was another section");
    }
}
