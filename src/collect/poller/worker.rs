//! The task of one unit: polls it at its interval, tells what changes, and counts.
//!
//! # Invariants
//! - Polls begin at multiples of the interval after the first one, and never overlap: what is missed is left out and counted.
//! - After a program that took too long nothing is polled until it has ended and has rested.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use outrider_protocol::collect::ApisReport;
use tokio::time::{Instant, sleep, sleep_until};

use super::ask::{PollError, chance, random};
use super::cursors::Cursors;
use super::plan::Unit;
use super::poll::Polled;
use super::telling::Telling;
use super::{Again, PollNews, Sink, TellPolls};
use crate::sampling::{begins, next};

/// The first poll is within this time, however long the interval is.
const FIRST_WITHIN: Duration = Duration::from_secs(60);
/// The longest time that a program which ran too long is not run again.
const REST_MOST: Duration = Duration::from_secs(1800);

/// How long a program that ran too long is not run again: it gets a tenth of a processor at most, but for a long one.
fn rest(ran: Duration) -> Duration {
    ran.saturating_mul(9).min(REST_MOST)
}

/// What polls a unit.
pub(crate) struct Worker {
    unit: Unit,
    cursors: Arc<Cursors>,
    sink: Sink,
    tell: TellPolls,
    report: Arc<Mutex<ApisReport>>,
    is_failing: bool,
    telling: Telling,
    /// Whether the last poll that brought something had too many events.
    was_beyond: bool,
    /// Whether the last poll found the end of its windows ahead of the clock.
    was_ahead: bool,
}

impl Worker {
    pub(crate) fn new(
        unit: Unit,
        cursors: &Arc<Cursors>,
        sink: &Sink,
        tell: &TellPolls,
        report: &Arc<Mutex<ApisReport>>,
    ) -> Self {
        Self {
            unit,
            cursors: Arc::clone(cursors),
            sink: sink.clone(),
            tell: Arc::clone(tell),
            report: Arc::clone(report),
            is_failing: false,
            telling: Telling::default(),
            was_beyond: false,
            was_ahead: false,
        }
    }

    /// Never ends.
    pub(crate) async fn run(mut self) {
        let interval = Duration::from_millis(self.unit.api.interval_ms);
        let first = Instant::now() + interval.min(FIRST_WITHIN).mul_f64(chance(random()));
        let mut number = 0;
        loop {
            sleep_until(first + begins(interval, number)).await;
            let begun = Instant::now();
            // Most of the time it rests, and holds nothing of a poll then.
            let polled = Box::pin(self.unit.poll(&self.cursors, &self.sink)).await;
            self.tell_facts();
            self.tell_logins();
            match polled {
                Ok(polled) => self.went_well(polled),
                Err((error, polled)) => {
                    self.went_wrong(&error, polled);
                    if polled.too_long {
                        // It may never end. Another one beside it would take another processor from others.
                        self.unit.program_ended().await;
                        sleep(rest(begun.elapsed())).await;
                    }
                }
            }
            let late;
            (number, late) = next(interval, first.elapsed(), number);
            self.count(|it| it.late += late);
        }
    }

    /// What is known of the VDC is told by whoever polls first.
    fn tell_facts(&self) {
        let Some(facts) = &self.unit.facts else { return };
        let what = facts.key.clone();
        match facts.news() {
            Some(Err(error)) => (self.tell)(PollNews::Fails { what, error, again: Again::AtInterval }),
            Some(Ok(())) => (self.tell)(PollNews::Works { what }),
            None => {}
        }
    }

    /// What is known of a node's login is told by whoever polls first.
    fn tell_logins(&self) {
        for node in &self.unit.asker.nodes {
            let what = node.key.clone();
            match node.session.news() {
                Some(Err(error)) => (self.tell)(PollNews::LoginRefused { what, error }),
                Some(Ok(())) => (self.tell)(PollNews::LoginTaken { what }),
                None => {}
            }
        }
    }

    fn count(&self, change: impl FnOnce(&mut ApisReport)) {
        change(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn went_well(&mut self, polled: Polled) {
        let worked = std::mem::replace(&mut self.is_failing, false);
        self.count(|it| {
            it.polls += 1;
            it.failing -= u64::from(worked);
        });
        self.telling.went(Ok(()));
        if self.telling.news().is_some() {
            (self.tell)(PollNews::Works { what: self.unit.key.clone() });
        }
        self.brought(polled);
    }

    fn went_wrong(&mut self, error: &PollError, polled: Polled) {
        let is_first = !std::mem::replace(&mut self.is_failing, true);
        self.count(|it| {
            it.failed += 1;
            it.failing += u64::from(is_first);
            it.trouble = Some(format!("{}: {error}", self.unit.key));
        });
        self.telling.went(Err(error));
        if let Some(Err(error)) = self.telling.news() {
            let what = self.unit.key.clone();
            let again = if polled.too_long { Again::AfterProgram } else { Again::AtInterval };
            (self.tell)(PollNews::Fails { what, error, again });
        }
        self.brought(polled);
    }

    fn brought(&mut self, polled: Polled) {
        if let Some(ahead_ms) = polled.ahead_ms.filter(|_| !std::mem::replace(&mut self.was_ahead, true)) {
            (self.tell)(PollNews::Ahead { what: self.unit.key.clone(), seconds: ahead_ms / 1000 });
        }
        self.was_ahead = polled.ahead_ms.is_some();
        self.count(|it| {
            it.events += polled.events;
            it.beyond += polled.beyond;
        });
        let was_beyond = std::mem::replace(&mut self.was_beyond, polled.beyond > 0);
        if polled.beyond > 0 && !was_beyond {
            (self.tell)(PollNews::Beyond { what: self.unit.key.clone(), events: polled.beyond });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_takes_long_rests_longer() {
        assert_eq!(rest(Duration::from_secs(12)), Duration::from_secs(108));
        assert_eq!(rest(Duration::MAX), REST_MOST);
    }
}
