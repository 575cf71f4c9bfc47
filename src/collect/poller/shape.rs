//! Fields of JSON: found by their path, left out, spread over times, turned into numbers, flattened. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use outrider_protocol::collect::apis::{History, TimeFormat};
use serde_json::{Map, Number, Value};

use crate::model::Time;

/// How many names of fields are repeated in a message.
const NAMES_SHOWN: usize = 10;
/// How much of each is, in characters.
const NAME_SHOWN: usize = 40;

/// What a value is.
#[must_use]
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The value of a path, as `a.b`. A field whose own name has dots is found as well.
#[must_use]
pub fn at<'v>(fields: &'v Map<String, Value>, path: &str) -> Option<&'v Value> {
    if let Some(value) = fields.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    at(fields.get(first)?.as_object()?, rest)
}

/// As [`at`], of any value and without a copy of it.
///
/// # Errors
/// What is there in its place.
pub fn take(value: Value, path: &str) -> Result<Value, String> {
    let Value::Object(mut fields) = value else {
        return Err(format!("there is {}", kind(&value)));
    };
    if let Some(found) = fields.remove(path) {
        return Ok(found);
    }
    if let Some((first, rest)) = path.split_once('.')
        && let Some(inner) = fields.remove(first)
    {
        return take(inner, rest);
    }
    let shown = |it: &String| it.chars().take(NAME_SHOWN).collect::<String>();
    let names: Vec<_> = fields.keys().take(NAMES_SHOWN).map(shown).collect();
    let more = if fields.len() > NAMES_SHOWN { " and others" } else { "" };
    Err(format!("there are [{}]{more}", names.join(", ")))
}

/// Whether a name fits a pattern, in which `*` stands for anything.
#[must_use]
pub fn fits(name: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<_> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Removes fields that fit any of the patterns, by their path.
pub fn leave_out(fields: &mut Map<String, Value>, patterns: &[String]) {
    if patterns.is_empty() {
        return;
    }
    walk(fields, "", &mut |path, _| !patterns.iter().any(|it| fits(path, it)));
}

/// Texts that are numbers become these, in fields that fit any of the patterns.
pub fn to_numbers(fields: &mut Map<String, Value>, patterns: &[String]) {
    if patterns.is_empty() {
        return;
    }
    walk(fields, "", &mut |path, value| {
        if let Value::String(text) = value
            && patterns.iter().any(|it| fits(path, it))
            && let Some(number) = number(text)
        {
            *value = Value::Number(number);
        }
        true
    });
}

/// A whole number, or one with a point.
fn number(text: &str) -> Option<Number> {
    let text = text.trim();
    // Rust's own parser also takes "inf" and "nan".
    if !text.ends_with(|it: char| it.is_ascii_digit()) {
        return None;
    }
    let whole = text.parse::<u64>().map(Number::from).or_else(|_| text.parse::<i64>().map(Number::from));
    whole.ok().or_else(|| Number::from_f64(text.parse().ok()?))
}

/// Visits all fields; those of which `keep` says no are removed.
fn walk(fields: &mut Map<String, Value>, above: &str, keep: &mut impl FnMut(&str, &mut Value) -> bool) {
    let path = |name: &str| if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") };
    fields.retain(|name, value| keep(&path(name), value));
    for (name, value) in fields {
        let path = path(name);
        match value {
            Value::Object(inner) => walk(inner, &path, keep),
            Value::Array(all) => {
                all.iter_mut().filter_map(Value::as_object_mut).for_each(|it| walk(it, &path, keep));
            }
            _ => {}
        }
    }
}

/// Nested objects become fields with dots in their names. Arrays stay.
#[must_use]
pub fn flat(fields: Map<String, Value>) -> Map<String, Value> {
    let mut into = Map::new();
    flatten(fields, "", &mut into);
    into
}

fn flatten(fields: Map<String, Value>, above: &str, into: &mut Map<String, Value>) {
    for (name, value) in fields {
        let path = if above.is_empty() { name } else { format!("{above}.{name}") };
        match value {
            Value::Object(inner) if !inner.is_empty() => flatten(inner, &path, into),
            value => drop(into.insert(path, value)),
        }
    }
}

/// One event for each time that the arrays of history have, in their order, with what has no history in each of them. Where
/// there is no time at all it is one event.
#[must_use]
pub fn spread(mut fields: Map<String, Value>, history: &History) -> Vec<(Option<Time>, Map<String, Value>)> {
    let names: Vec<_> =
        fields.keys().filter(|name| history.fields.iter().any(|it| fits(name, it))).cloned().collect();
    let mut times: BTreeMap<Time, Map<String, Value>> = BTreeMap::new();
    for name in names {
        let Some(value) = fields.remove(&name) else { continue };
        match value {
            Value::Array(all) => gather(&name, all, history, &mut times, &mut fields),
            Value::Object(inner) => {
                for (part, value) in inner {
                    let name = format!("{name}_{part}");
                    match value {
                        Value::Array(all) => gather(&name, all, history, &mut times, &mut fields),
                        value => drop(fields.insert(name, value)),
                    }
                }
            }
            value => drop(fields.insert(name, value)),
        }
    }
    if times.is_empty() {
        return vec![(None, fields)];
    }
    let whole =
        |own: Map<String, Value>| fields.iter().map(|(k, v)| (k.clone(), v.clone())).chain(own).collect();
    times.into_iter().map(|(time, own)| (Some(time), whole(own))).collect()
}

/// Elements without a time of their own stay as they are.
fn gather(
    name: &str,
    all: Vec<Value>,
    history: &History,
    times: &mut BTreeMap<Time, Map<String, Value>>,
    rest: &mut Map<String, Value>,
) {
    let mut left = Vec::new();
    for element in all {
        let at = element.get(&history.time).and_then(|it| time(it, &history.format));
        match (at, element) {
            (Some(at), Value::Object(values)) => {
                let fields = times.entry(at).or_default();
                let values = values.into_iter().filter(|it| it.0 != history.time);
                fields.extend(values.map(|(key, value)| (format!("{name}_{key}"), value)));
            }
            (_, element) => left.push(element),
        }
    }
    if !left.is_empty() {
        rest.insert(name.to_owned(), Value::Array(left));
    }
}

/// A time in a field.
#[must_use]
pub fn time(value: &Value, format: &TimeFormat) -> Option<Time> {
    let nanos = match (format, value) {
        (TimeFormat::Rfc3339, Value::String(text)) => text.parse::<Timestamp>().ok()?.as_nanosecond(),
        (TimeFormat::Strftime(format), Value::String(text)) => parsed(format, text)?.as_nanosecond(),
        (TimeFormat::UnixSeconds, value) => scaled(value, 1_000_000_000)?,
        (TimeFormat::UnixMillis, value) => scaled(value, 1_000_000)?,
        _ => return None,
    };
    i64::try_from(nanos).ok().map(Time::from_unix_nanos)
}

/// What says no zone is UTC.
fn parsed(format: &str, text: &str) -> Option<Timestamp> {
    let broken = jiff::fmt::strtime::parse(format, text).ok()?;
    if let Ok(time) = broken.to_timestamp() {
        return Some(time);
    }
    let time = broken.to_datetime().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(time.timestamp())
}

fn scaled(value: &Value, unit: i128) -> Option<i128> {
    let number = match value {
        Value::Number(number) => number.clone(),
        Value::String(text) => number(text)?,
        _ => return None,
    };
    if let Some(whole) = number.as_i64() {
        return Some(i128::from(whole) * unit);
    }
    let is_in_range = number.as_f64()?.abs() < 1e13;
    #[expect(clippy::cast_possible_truncation, reason = "checked against 1e13, and a unit is at most 1e9")]
    let nanos = (number.as_f64()? * if unit == 1_000_000 { 1e6 } else { 1e9 }) as i128;
    is_in_range.then_some(nanos)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(it) => it,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn patterns_fit_whole_names() {
        for (name, pattern) in
            [("a", "a"), ("a.b", "a.*"), ("xCurrent", "*Current"), ("abc", "*"), ("abcab", "a*b")]
        {
            assert!(fits(name, pattern), "{name} {pattern}");
        }
        for (name, pattern) in
            [("ab", "a"), ("a", "ab"), ("xCurrentL1", "*Current"), ("ab", "a*c"), ("a", "a*a")]
        {
            assert!(!fits(name, pattern), "{name} {pattern}");
        }
    }

    #[test]
    fn numbers_are_made_where_the_text_is_one() {
        let mut fields = object(json!({
            "a": "1", "b": "-2", "c": "1.5e3", "d": "nan", "e": "inf", "f": "", "g": "1x", "h": "18446744073709551615",
            "deep": { "a": "7", "list": [{ "n": "8" }] },
        }));
        to_numbers(&mut fields, &["*".into()]);
        let expected = json!({
            "a": 1, "b": -2, "c": 1500.0, "d": "nan", "e": "inf", "f": "", "g": "1x", "h": u64::MAX,
            "deep": { "a": 7, "list": [{ "n": 8 }] },
        });
        assert_eq!(Value::from(fields), expected);
    }

    #[test]
    fn objects_become_flat_and_arrays_stay() {
        let fields = flat(object(json!({ "a": { "b": { "c": 1 }, "d": [{ "x": 1 }] }, "e": {} })));
        assert_eq!(Value::from(fields), json!({ "a.b.c": 1, "a.d": [{ "x": 1 }], "e": {} }));
    }

    #[test]
    fn fields_are_left_out_at_any_depth() {
        let mut fields = object(json!({ "_links": 1, "a": { "_links": 2, "b": 3 } }));
        leave_out(&mut fields, &["_links".into(), "*._links".into()]);
        assert_eq!(Value::from(fields), json!({ "a": { "b": 3 } }));
    }

    #[test]
    fn history_without_times_is_kept_as_it_is() {
        let history =
            History { fields: vec!["*Current".into()], time: "t".into(), format: TimeFormat::UnixSeconds };
        let fields = object(json!({ "aCurrent": [], "bCurrent": [{ "x": 1 }], "cCurrent": 3 }));
        let spread = spread(fields, &history);
        assert_eq!(spread.len(), 1);
        assert_eq!(Value::from(spread[0].1.clone()), json!({ "bCurrent": [{ "x": 1 }], "cCurrent": 3 }));
    }

    #[test]
    fn times_are_read_in_every_format() {
        let is = |value: Value, format: &TimeFormat| time(&value, format).map(Time::unix_millis);
        assert_eq!(is(json!("2025-11-29T06:01:01Z"), &TimeFormat::Rfc3339), Some(1_764_396_061_000));
        assert_eq!(is(json!("1764396061"), &TimeFormat::UnixSeconds), Some(1_764_396_061_000));
        assert_eq!(is(json!(1_764_396_061.5), &TimeFormat::UnixSeconds), Some(1_764_396_061_500));
        assert_eq!(is(json!(1_764_396_061_234_i64), &TimeFormat::UnixMillis), Some(1_764_396_061_234));
        let minutes = TimeFormat::Strftime("%Y-%m-%dT%H:%M".into());
        assert_eq!(is(json!("2025-11-29T06:01"), &minutes), Some(1_764_396_060_000));
        assert_eq!(is(json!(1e300), &TimeFormat::UnixSeconds), None);
        assert_eq!(is(json!("x"), &TimeFormat::UnixMillis), None);
    }
}
