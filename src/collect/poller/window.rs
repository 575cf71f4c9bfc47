//! Which times are asked for: pure functions of where the last window ended and what the clock says.
//!
//! # Invariants
//! - Windows are half open and each begins where the one before it ended, across restarts and delays: there is no gap and
//!   no overlap. A clock that goes back a little asks for nothing until it has come to the end of the last window again.
//! - A clock that was wrong for a while stops nothing and costs nothing: where the last window ended more than an hour
//!   ahead, windows begin anew beside that end, and go on from it when the clock has come to it.

use jiff::Timestamp;
use outrider_protocol::collect::apis::{TimeFormat, Window};

/// The most windows of one poll; the next poll goes on where they end.
const AT_ONCE: usize = 100;

/// How far the end of the last window may be ahead of the clock, in milliseconds.
const AHEAD: i64 = 3_600_000;

/// Where windows go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// Where the last one ended.
    pub cursor: Option<i64>,
    /// By how much the end of the last window is ahead of the clock, in milliseconds, where that is too much to wait for: then
    /// these are windows beside it.
    pub ahead_ms: Option<i64>,
}

/// Decides by the end of the last window, and of the last one beside it.
#[must_use]
pub fn begin(end: Option<i64>, beside: Option<i64>, now: i64) -> Begin {
    let ahead = |it: i64| Some(it.saturating_sub(now)).filter(|it| *it > AHEAD);
    if let Some(ahead_ms) = end.and_then(ahead) {
        return Begin { cursor: beside.filter(|it| ahead(*it).is_none()), ahead_ms: Some(ahead_ms) };
    }
    // Where the clock was ahead, and time came to it, those beside have asked for what is before it.
    let joins = |(end, beside): (i64, i64)| (beside.saturating_add(2 * AHEAD) >= end).then_some(beside);
    Begin { cursor: end.zip(beside).and_then(joins).or(end), ahead_ms: None }
}

/// From, included, to, not included; in milliseconds since 1970.
pub type Span = (i64, i64);

/// The windows that are due.
#[must_use]
pub fn due(window: &Window, cursor: Option<i64>, now: i64) -> Vec<Span> {
    let whole = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    let step = whole(window.step_ms).max(1);
    let end = now.saturating_sub(whole(window.lag_ms)).div_euclid(step) * step;
    let first = || end.saturating_sub(whole(window.first_ms).div_euclid(step).max(1) * step);
    let mut start = cursor.unwrap_or_else(first);
    let longest = whole(window.longest_ms).div_euclid(step).max(1) * step;
    let mut windows = Vec::new();
    while start < end && windows.len() < AT_ONCE {
        let to = start.saturating_add(longest).min(end);
        windows.push((start, to));
        start = to;
    }
    windows
}

/// A time as an API wants it.
#[must_use]
pub fn write(ms: i64, format: &TimeFormat) -> String {
    let time = Timestamp::from_millisecond(ms).unwrap_or_default();
    match format {
        TimeFormat::Rfc3339 => time.to_string(),
        TimeFormat::UnixSeconds => ms.div_euclid(1000).to_string(),
        TimeFormat::UnixMillis => ms.to_string(),
        // What cannot be written was refused with the configuration.
        TimeFormat::Strftime(format) => jiff::fmt::strtime::format(format, time).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> Window {
        Window {
            format: TimeFormat::Strftime("%Y-%m-%dT%H:%M".into()),
            step_ms: 60_000,
            lag_ms: 60_000,
            first_ms: 300_000,
            longest_ms: 3_600_000,
        }
    }

    #[test]
    fn each_begins_where_the_last_one_ended() {
        let minute = 60_000;
        let all = due(&window(), None, 100 * minute + 12_345);
        assert_eq!(all, [(94 * minute, 99 * minute)]);
        assert_eq!(due(&window(), Some(99 * minute), 101 * minute - 1), [], "no minute has passed");
        assert_eq!(due(&window(), Some(99 * minute), 104 * minute + 1), [(99 * minute, 103 * minute)]);
        let late = due(&window(), Some(99 * minute), 250 * minute);
        assert_eq!(
            late,
            [(99, 159), (159, 219), (219, 249)].map(|(from, to)| (from * minute, to * minute)),
            "a long time is asked for in parts"
        );
    }

    #[test]
    fn a_clock_that_goes_back_asks_for_nothing_twice() {
        let hour = 3_600_000;
        assert_eq!(due(&window(), Some(100 * hour), 99 * hour), []);
        assert_eq!(due(&window(), Some(100 * hour), 101 * hour).first().unwrap().0, 100 * hour);
    }

    #[test]
    fn a_clock_that_was_wrong_stops_nothing_and_costs_nothing() {
        let (hour, year) = (3_600_000, 365 * 24 * 3_600_000_i64);
        let now = 1_000_000 * hour;
        // A year ahead once: windows beside it, until time has come to it.
        let wrong = Some(now + year);
        assert_eq!(begin(wrong, None, now), Begin { cursor: None, ahead_ms: Some(year) });
        let beside = Some(now + hour);
        assert_eq!(begin(wrong, beside, now + 2 * hour).cursor, beside);
        let last = Some(now + year - hour - hour / 2);
        assert_eq!(begin(wrong, last, now + year - hour / 2), Begin { cursor: last, ahead_ms: None });
        // Back at 2000 for a while: what was known then is good again.
        let known = Some(now);
        assert_eq!(begin(known, None, 100 * hour).ahead_ms, Some(now - 100 * hour));
        assert_eq!(begin(known, Some(101 * hour), now + hour), Begin { cursor: known, ahead_ms: None });
        // An hour is waited for.
        assert_eq!(begin(Some(now + hour), None, now), Begin { cursor: Some(now + hour), ahead_ms: None });
        assert_eq!(begin(None, None, now), Begin { cursor: None, ahead_ms: None });
    }

    #[test]
    fn however_polls_are_delayed_windows_join() {
        let mut cursor = None;
        let mut asked = Vec::new();
        let mut now = 1_000_000_000;
        for wait in [60_000, 61_000, 1, 900_000, 59_999, 200_000_000, 60_000, 120_000] {
            now += wait;
            for (from, to) in due(&window(), cursor, now) {
                asked.push((from, to));
                cursor = Some(to);
            }
        }
        assert!(asked.windows(2).all(|it| it[0].1 == it[1].0 && it[1].0 < it[1].1), "{asked:?}");
    }

    #[test]
    fn times_are_written_as_asked() {
        let ms = 1_764_396_061_234;
        assert_eq!(write(ms, &TimeFormat::Rfc3339), "2025-11-29T06:01:01.234Z");
        assert_eq!(write(ms, &TimeFormat::UnixSeconds), "1764396061");
        assert_eq!(write(ms, &TimeFormat::UnixMillis), ms.to_string());
        assert_eq!(write(ms, &window().format), "2025-11-29T06:01");
    }
}
