//! Points in time as people write them, on the command line and on pages.

use jiff::{SpanRelativeTo, Timestamp, ToSpan as _};

/// What is taken, for help and labels.
pub const EXAMPLES: &str =
    "a time such as 2026-11-25T22:00:00Z, or how long from now, such as 30m, 2h or 1d 12h";

/// Reads a time of RFC 3339, or a time span from `now`.
///
/// # Errors
/// When it is neither, or a span into the past; the text names what was found and what is expected.
pub fn moment(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let text = text.trim();
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let wrong = || format!("{text:?} is no time; expected {EXAMPLES}");
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let far = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    if far.is_negative() {
        return Err(wrong());
    }
    now.checked_add(far).map_err(|_| format!("{text:?} from now is beyond what a calendar holds"))
}

/// A time for people, in UTC to the second. Of today, and the day after, the time of the day is enough.
#[must_use]
pub fn shown(time: Timestamp, now: Timestamp) -> String {
    let is_near = now.checked_add(12.hours()).is_ok_and(|near| time < near)
        && now.checked_sub(12.hours()).is_ok_and(|near| time > near);
    time.strftime(if is_near { "%H:%M:%S UTC" } else { "%Y-%m-%d %H:%M:%S UTC" }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_time_is_one_of_the_calendar_or_a_span_from_now() {
        let now = at("2026-11-25T10:00:00Z");
        let reads = |text| moment(text, now);
        assert_eq!(reads("2026-11-25T22:00:00Z"), Ok(at("2026-11-25T22:00:00Z")));
        assert_eq!(reads("2026-11-26T00:00:00+02:00"), Ok(at("2026-11-25T22:00:00Z")));
        assert_eq!(reads("30m"), Ok(at("2026-11-25T10:30:00Z")));
        assert_eq!(reads(" 1d 12h "), Ok(at("2026-11-26T22:00:00Z")));
        for bad in ["", "soon", "tomorrow", "-2h", "2026-11-25", "22:00"] {
            let err = reads(bad).unwrap_err();
            assert!(err.contains("expected a time such as 2026-11-25T22:00:00Z"), "{bad}: {err}");
        }
        assert!(reads("900000w").is_err());
    }

    #[test]
    fn a_time_far_away_is_shown_with_its_day() {
        let now = at("2026-11-25T10:00:00Z");
        assert_eq!(shown(at("2026-11-25T12:30:05Z"), now), "12:30:05 UTC");
        assert_eq!(shown(at("2026-11-27T12:30:05Z"), now), "2026-11-27 12:30:05 UTC");
    }
}
