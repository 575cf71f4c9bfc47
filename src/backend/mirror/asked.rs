//! What of a file a request asks for: decisions on headers, after RFC 9110.

use std::ops::RangeInclusive;

use axum::http::{HeaderMap, HeaderName, header};

/// What is to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Everything.
    All,
    /// These bytes.
    Part(RangeInclusive<u64>),
    /// Nothing: whoever asks has this very file.
    Nothing,
    /// Nothing: the file ends before.
    Unsatisfiable,
}

/// What a request with these headers asks for of a file. Of several ranges at once nobody here has a use: they, and what
/// is no range, are answered with everything, as any server may.
pub(super) fn of(headers: &HeaderMap, is_get: bool, tag: &str, length: u64) -> Asked {
    if text(headers, &header::IF_NONE_MATCH).is_some_and(|known| names(known, tag)) {
        return Asked::Nothing;
    }
    let same = match text(headers, &header::IF_RANGE) {
        // A date, or a weak tag, is no proof that the file is the same.
        Some(condition) => condition.trim() == tag,
        None => !headers.contains_key(header::IF_RANGE),
    };
    let range = text(headers, &header::RANGE).filter(|_| is_get && same);
    let Some(Ok(ranges)) = range.map(http_range_header::parse_range_header) else { return Asked::All };
    if ranges.len() != 1 {
        return Asked::All;
    }
    match ranges.validate(length) {
        Ok(parts) => parts.into_iter().next().map_or(Asked::All, Asked::Part),
        Err(_) => Asked::Unsatisfiable,
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Whether a list of tags names one, be it as a weak one.
fn names(list: &str, tag: &str) -> bool {
    list.trim() == "*" || list.split(',').any(|it| it.trim().trim_start_matches("W/") == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = "\"t1\"";

    fn asks(headers: &[(HeaderName, &str)], length: u64) -> Asked {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        of(&headers, true, TAG, length)
    }

    #[test]
    fn a_range_is_a_part_where_the_file_has_one() {
        let cases = [
            ("bytes=0-0", Asked::Part(0..=0)),
            ("bytes=2-", Asked::Part(2..=9)),
            ("bytes=2-99", Asked::Part(2..=9)),
            ("bytes=-3", Asked::Part(7..=9)),
            ("bytes=-99", Asked::Part(0..=9)),
            ("bytes=0-18446744073709551616", Asked::Part(0..=9)),
            ("bytes=10-", Asked::Unsatisfiable),
            ("bytes=-0", Asked::Unsatisfiable),
            ("bytes=0-1,3-4", Asked::All),
            ("bytes=5-2", Asked::All),
            ("bytes=x", Asked::All),
            ("lines=0-1", Asked::All),
        ];
        for (range, expected) in cases {
            assert_eq!(asks(&[(header::RANGE, range)], 10), expected, "{range}");
        }
        assert_eq!(asks(&[(header::RANGE, "bytes=0-")], 0), Asked::Unsatisfiable);
        assert_eq!(asks(&[(header::RANGE, "bytes=-5")], 0), Asked::All);
        assert_eq!(asks(&[], 0), Asked::All);
    }

    #[test]
    fn a_part_is_of_the_same_file_or_everything_is_sent() {
        let with = |condition| asks(&[(header::RANGE, "bytes=2-"), (header::IF_RANGE, condition)], 10);
        assert_eq!(with(TAG), Asked::Part(2..=9));
        for other in ["\"t2\"", "W/\"t1\"", "Wed, 25 Nov 2026 10:00:00 GMT"] {
            assert_eq!(with(other), Asked::All, "{other}");
        }
    }

    #[test]
    fn who_has_the_file_gets_nothing() {
        for known in [TAG, "W/\"t1\"", "\"t0\", \"t1\"", "*"] {
            assert_eq!(
                asks(&[(header::IF_NONE_MATCH, known), (header::RANGE, "bytes=2-")], 10),
                Asked::Nothing
            );
        }
        assert_eq!(asks(&[(header::IF_NONE_MATCH, "\"t2\"")], 10), Asked::All);
    }

    #[test]
    fn a_range_is_for_get_alone() {
        let headers = [(header::RANGE, "bytes=2-".parse().unwrap())].into_iter().collect();
        assert_eq!(of(&headers, false, TAG, 10), Asked::All);
    }
}
