//! Which times are asked for: pure functions of where the last window ended and what the clock says.
//!
//! # Invariants
//! - Windows are half open and each begins where the one before it ended, across restarts and delays: there is no gap and
//!   no overlap. A clock that goes back a little asks for nothing until it has come to the end of the last window again.
//! - A clock that was wrong for a while stops nothing: where the last window ended further ahead than [`AHEAD`], windows begin
//!   anew, and some times may be asked for twice.

use jiff::Timestamp;
use outrider_protocol::collect::apis::{TimeFormat, Window};

/// The most windows of one poll; the next poll goes on where they end.
const AT_ONCE: usize = 100;

/// How far the end of the last window may be ahead of the clock, in milliseconds.
const AHEAD: i64 = 3_600_000;

/// By how much the end of the last window is ahead of the clock, in milliseconds, where that is too much to wait for.
#[must_use]
pub fn ahead(cursor: Option<i64>, now: i64) -> Option<i64> {
    cursor.map(|it| it.saturating_sub(now)).filter(|it| *it > AHEAD)
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
    let known = cursor.filter(|_| ahead(cursor, now).is_none());
    let mut start = known.unwrap_or_else(first);
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
    fn a_clock_that_was_a_year_ahead_stops_nothing() {
        let (minute, hour) = (60_000, 3_600_000);
        let now = 1_000_000 * hour;
        let wrong = now + 365 * 24 * hour;
        let Some((_, cursor)) = due(&window(), Some(now - minute), wrong).last().copied() else { panic!() };
        assert!(ahead(Some(cursor), now + hour).is_some_and(|it| it > 24 * hour));
        let again = due(&window(), Some(cursor), now + hour);
        assert_eq!(again, [(now + hour - 6 * minute, now + hour - minute)]);
        assert_eq!(ahead(Some(again[0].1), now + hour), None, "once");
        assert_eq!(ahead(None, now), None);
        assert_eq!(ahead(Some(now + hour), now), None, "so much is waited for");
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
