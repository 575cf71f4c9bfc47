//! The header `Retry-After`: how long a server asks to be left alone. Pure.

use std::time::Duration;

use jiff::Timestamp;

/// Seconds, or a date, which may be over.
pub(crate) fn wait(header: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = header.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(header.trim()).ok()?.timestamp();
    Some(at.duration_since(now).try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_to_wait_is_seconds_or_a_date() {
        let now = "1994-11-06T08:49:00Z".parse().unwrap();
        assert_eq!(wait(" 7 ", now), Some(Duration::from_secs(7)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(37)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:48:37 GMT", now), Some(Duration::ZERO), "it is over");
        assert_eq!(wait("soon", now), None);
    }
}
