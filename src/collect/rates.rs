//! From two counts to a rate, and from a row of counts to a counter with its start: pure functions of (before, now, time between).
//!
//! # Invariants
//! - The time between is a monotonic clock's, in nanoseconds: half a second and 1.9 s give right rates, and no step of the
//!   wall clock shows.
//! - The first count gives no rate: there is nothing to compare it with, so nothing can spike.
//! - A count below the one before is a reset: it gives no rate, and the counter starts anew at the time of the one before.
//! - A series that its file no longer has is forgotten: where interfaces come and go, memory and time stay with those that are
//!   there.

use std::collections::HashMap;
use std::time::Duration;

use crate::model::{Metric, Time};

/// A count with when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// How many.
    pub value: u64,
    /// When, on the monotonic clock.
    pub at: Duration,
}

/// How many a second; none after a reset, or where no time passed.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a rate needs no more")]
pub fn rate(before: Counted, now: Counted) -> Option<f64> {
    let between = now.at.checked_sub(before.at).filter(|it| !it.is_zero())?;
    let more = now.value.checked_sub(before.value)?;
    Some(more as f64 / between.as_secs_f64())
}

/// A counter of a series, from one sample to the next.
#[derive(Debug, Clone, Copy)]
struct Track {
    metric: &'static Metric,
    series: u64,
    last: Counted,
    last_wall: Time,
    start: Option<Time>,
}

/// The counters of one source.
///
/// They are looked up in the order in which they were found the last time, which is the order in which they come.
#[derive(Debug, Default)]
pub struct Counters {
    tracks: Vec<Track>,
    next: usize,
    /// How many there were when those that are gone were forgotten last.
    swept: usize,
}

/// Fewer series than this are not worth a look for those that are gone.
const FEW: usize = 64;

/// What a count means after those before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grown {
    /// How many a second, where that can be said.
    pub rate: Option<f64>,
    /// Since when the counter counts, where that is known.
    pub start: Option<Time>,
}

impl Counters {
    /// Takes the count of a series, told apart from others of its metric by a number. `start` is when a series that was
    /// not seen before began, where it is known.
    pub fn take(
        &mut self,
        (metric, series): (&'static Metric, u64),
        now: Counted,
        wall: Time,
        start: Option<Time>,
    ) -> Grown {
        let Some(at) = self.find(metric, series) else {
            if self.tracks.len() >= FEW.max(self.swept * 2) {
                self.sweep();
            }
            self.tracks.push(Track { metric, series, last: now, last_wall: wall, start });
            self.next = self.tracks.len();
            return Grown { rate: None, start };
        };
        self.next = at + 1;
        let track = &mut self.tracks[at];
        let rate = rate(track.last, now);
        if now.value < track.last.value {
            track.start = Some(track.last_wall);
        }
        track.last = now;
        track.last_wall = wall;
        Grown { rate, start: track.start }
    }

    /// Forgets the series that the last whole reading of their metric did not have: one that is under way may come to them yet.
    fn sweep(&mut self) {
        let mut readings: HashMap<*const Metric, [Duration; 2]> = HashMap::new();
        for track in &self.tracks {
            let [latest, before] = readings.entry(std::ptr::from_ref(track.metric)).or_default();
            if track.last.at > *latest {
                (*before, *latest) = (*latest, track.last.at);
            } else if track.last.at > *before && track.last.at < *latest {
                *before = track.last.at;
            }
        }
        self.tracks.retain(|it| it.last.at >= readings[&std::ptr::from_ref(it.metric)][1]);
        self.swept = self.tracks.len();
    }

    fn find(&self, metric: &'static Metric, series: u64) -> Option<usize> {
        let is = |it: &Track| std::ptr::eq(it.metric, metric) && it.series == series;
        let after = self.tracks.get(self.next..).unwrap_or_default().iter().position(is);
        after.map(|at| at + self.next).or_else(|| self.tracks.iter().take(self.next).position(is))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{CPU_USAGE, IO_READS};

    fn counted(value: u64, millis: u64) -> Counted {
        Counted { value, at: Duration::from_millis(millis) }
    }

    #[test]
    fn a_rate_is_right_whatever_the_time_between() {
        assert_eq!(rate(counted(1000, 1000), counted(1500, 1500)), Some(1000.0));
        assert_eq!(rate(counted(0, 0), counted(1900, 1900)), Some(1000.0));
        assert_eq!(rate(counted(0, 0), counted(5, 0)), None, "no time passed");
        assert_eq!(rate(counted(0, 5), counted(5, 0)), None, "time went back");
    }

    #[test]
    fn a_reset_gives_no_rate_and_a_later_start() {
        let mut counters = Counters::default();
        let wall = |seconds: i64| Time::from_unix_nanos(seconds * 1_000_000_000);
        let mut take = |value, seconds: u16| {
            counters.take(
                (&CPU_USAGE, 0),
                counted(value, u64::from(seconds) * 1000),
                wall(seconds.into()),
                None,
            )
        };
        assert_eq!(take(1_000_000, 1), Grown { rate: None, start: None }, "the first does not spike");
        assert_eq!(take(1_000_010, 2), Grown { rate: Some(10.0), start: None });
        assert_eq!(take(5, 3), Grown { rate: None, start: Some(wall(2)) });
        assert_eq!(take(9, 4), Grown { rate: Some(4.0), start: Some(wall(2)) });
    }

    #[test]
    fn series_that_come_and_go_are_forgotten_and_those_that_stay_are_not() {
        let mut counters = Counters::default();
        let wall = Time::from_unix_nanos(0);
        for round in 0..1000_u64 {
            let at = |value| counted(value, round * 1000);
            // Another metric, read less often.
            if round % 10 == 0 {
                let grown = counters.take((&CPU_USAGE, 0), at(round), wall, None);
                assert_eq!(grown.rate, (round > 0).then_some(1.0));
            }
            // Of 40 that are there at once, 20 are new ones.
            for series in round * 20..round * 20 + 40 {
                let grown = counters.take((&IO_READS, series), at(series + round), wall, None);
                let is_new = round == 0 || series >= round * 20 + 20;
                assert_eq!(grown.rate, (!is_new).then_some(1.0), "{round}, {series}");
            }
            assert!(counters.tracks.len() <= 200, "{round}: {}", counters.tracks.len());
        }
    }

    #[test]
    fn series_of_one_metric_are_kept_apart_in_any_order() {
        let mut counters = Counters::default();
        let wall = Time::from_unix_nanos(0);
        for round in 0..3_u64 {
            let order: &[u64] = if round == 1 { &[2, 0, 1] } else { &[0, 1, 2] };
            for series in order {
                let grown =
                    counters.take((&IO_READS, *series), counted(round * series, round * 1000), wall, None);
                #[expect(clippy::cast_precision_loss, reason = "small")]
                let expected = (round > 0).then_some(*series as f64);
                assert_eq!(grown.rate, expected);
            }
        }
    }
}
