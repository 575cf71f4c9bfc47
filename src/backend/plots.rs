//! What agents measured last, as far as a page plots it.
//!
//! # Invariants
//! - In memory only, and gone with the process: samples are kept by the outputs that agents deliver to.
//! - Bounded whatever an agent sends: in sources, in metrics of each, in points of each, in the length of names. Agents
//!   that tell nothing for an hour are forgotten.
//! - Times go forward: a reading that is not later than the one before it is left out, so one told twice counts once. Where a
//!   source's clock was set back, what it told of later times is forgotten.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use outrider_protocol::collect::Reading;
use outrider_protocol::ids::AgentId;

/// Sources of an agent; those that were told of longest ago go first.
const SOURCES: usize = 12;
/// Metrics of a source.
const METRICS: usize = 8;
/// Points of a metric: ten minutes of an agent that tells every ten seconds.
const POINTS: usize = 60;
/// The longest name, in characters.
const NAME: usize = 80;
/// A reading that is so much earlier than the one before is no late one: the clock was set back.
const SET_BACK: SignedDuration = SignedDuration::from_secs(120);
/// How long an agent that tells nothing is remembered.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);

/// Of all agents.
#[derive(Debug, Default)]
pub(crate) struct Plots(Mutex<HashMap<AgentId, Told>>);

#[derive(Debug)]
struct Told {
    at: Instant,
    /// The one that was told of last comes first, and with it those that were told of together with it, in their order.
    sources: Vec<Plotted>,
}

/// One source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plotted {
    /// What people know it by.
    pub(crate) source: String,
    /// When it was measured last.
    pub(crate) at: Timestamp,
    /// By the metric's name, the oldest point first; never empty.
    pub(crate) metrics: BTreeMap<String, VecDeque<(Timestamp, u64)>>,
}

impl Plots {
    /// An agent tells.
    pub(crate) fn take(&self, agent: &AgentId, readings: Vec<Reading>) {
        let now = Instant::now();
        let mut all = self.lock();
        all.retain(|_, told| now.duration_since(told.at) < FORGOTTEN_AFTER);
        let told = all.entry(agent.clone()).or_insert_with(|| Told { at: now, sources: Vec::new() });
        told.at = now;
        told.add(readings);
    }

    /// What an agent told, the sources of its last call first.
    pub(crate) fn of(&self, agent: &AgentId) -> Vec<Plotted> {
        self.lock().get(agent).map(|it| it.sources.clone()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AgentId, Told>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    fn add(&mut self, readings: Vec<Reading>) {
        let mut before = std::mem::take(&mut self.sources);
        for reading in readings.into_iter().take(SOURCES) {
            let source: String = reading.source.chars().take(NAME).collect();
            let known = before.iter().position(|it| it.source == source).map(|at| before.remove(at));
            let new = || Plotted { source, at: Timestamp::MIN, metrics: BTreeMap::new() };
            let mut plotted = known.unwrap_or_else(new);
            plotted.add(reading.at, reading.values);
            self.sources.push(plotted);
        }
        self.sources.append(&mut before);
        self.sources.truncate(SOURCES);
    }
}

impl Plotted {
    fn add(&mut self, at: Timestamp, values: BTreeMap<String, u64>) {
        if at <= self.at {
            if self.at.duration_since(at) < SET_BACK {
                return;
            }
            for points in self.metrics.values_mut() {
                points.retain(|it| it.0 < at);
            }
            self.metrics.retain(|_, points| !points.is_empty());
        }
        self.at = at;
        for (name, value) in values {
            let name: String = name.chars().take(NAME).collect();
            if self.metrics.len() >= METRICS && !self.metrics.contains_key(&name) {
                continue;
            }
            let points = self.metrics.entry(name).or_default();
            if points.len() == POINTS {
                points.pop_front();
            }
            points.push_back((at, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(source: &str, second: i64, values: &[(&str, u64)]) -> Reading {
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        Reading { source: source.into(), at: Timestamp::from_second(second).unwrap(), values }
    }

    fn agent() -> AgentId {
        AgentId::new("agent-1").unwrap()
    }

    #[test]
    fn points_follow_each_other_and_one_that_is_told_twice_counts_once() {
        let plots = Plots::default();
        assert!(plots.of(&agent()).is_empty());
        for second in [1, 2, 2, 1, 3] {
            plots.take(&agent(), vec![reading("a", second, &[("cpu", second.unsigned_abs() * 10)])]);
        }
        let [a] = plots.of(&agent()).try_into().unwrap();
        let values: Vec<_> = a.metrics["cpu"].iter().map(|it| it.1).collect();
        assert_eq!(values, [10, 20, 30]);
        assert!(plots.of(&AgentId::new("agent-2").unwrap()).is_empty());
    }

    #[test]
    fn a_clock_that_was_ahead_and_is_set_back_does_not_freeze_the_plot() {
        let plots = Plots::default();
        for second in [10, 20, 86_400, 30, 40] {
            plots.take(&agent(), vec![reading("a", second, &[("cpu", second.unsigned_abs())])]);
        }
        let [a] = plots.of(&agent()).try_into().unwrap();
        let values: Vec<_> = a.metrics["cpu"].iter().map(|it| it.1).collect();
        assert_eq!((values, a.at.as_second()), (vec![10, 20, 30, 40], 40));
    }

    #[test]
    fn whatever_an_agent_sends_is_bounded_and_the_latest_stay() {
        let plots = Plots::default();
        let names: Vec<String> = (0..100).map(|at| format!("{at}{}", "n".repeat(200))).collect();
        let values: Vec<_> = names.iter().map(|it| (it.as_str(), 1)).collect();
        for second in 0..100 {
            plots.take(&agent(), names.iter().map(|it| reading(it, second, &values)).collect());
        }
        let found = plots.of(&agent());
        assert_eq!(found.len(), SOURCES);
        assert!(found.iter().all(|it| it.source.len() == NAME && it.metrics.len() == METRICS));
        assert!(found[0].metrics.values().all(|it| it.len() == POINTS));
        plots.take(&agent(), vec![reading("new", 100, &[("cpu", 1)])]);
        let found = plots.of(&agent());
        assert_eq!((found.len(), found[0].source.as_str()), (SOURCES, "new"));
    }
}
