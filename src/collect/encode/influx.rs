//! InfluxDB's line protocol, for versions 1 and 2: one line for all points of a sample that have the same tags.
//!
//! # Invariants
//! - Times are in nanoseconds; send them with `precision=ns`.
//! - Whole numbers are fields of type integer, up to 2^63 - 1; flags are booleans. A metric has one type for ever, so that no
//!   line is refused for another's type.
//! - A line is never split. Tags with no value are left out, as the protocol has none.

use std::fmt::{self, Write};

use super::Body;
use crate::model::{Number, Point, Sample};

/// Lines of one measurement, in bodies of up to so many bytes; a single longer line is a body of its own.
#[must_use]
pub fn encode(batch: &[Sample], measurement: &str, most: usize) -> Vec<Body> {
    let mut bodies = Vec::new();
    let mut body = Body::whole(Vec::new(), 0);
    let mut line = String::new();
    let (mut done, mut same) = (Vec::new(), Vec::<usize>::new());
    for sample in batch {
        done.clear();
        done.resize(sample.points.len(), false);
        for first in 0..sample.points.len() {
            if done[first] {
                continue;
            }
            let tags = &sample.points[first].tags;
            same.clear();
            same.extend((first..sample.points.len()).filter(|at| sample.points[*at].tags == *tags));
            same.iter().for_each(|at| done[*at] = true);
            line.clear();
            write_line(&mut line, measurement, sample, same.iter().map(|at| &sample.points[*at]));
            if !body.bytes.is_empty() && body.bytes.len() + line.len() > most {
                bodies.push(std::mem::replace(&mut body, Body::whole(Vec::new(), 0)));
            }
            body.bytes.extend_from_slice(line.as_bytes());
            body.points += same.len();
        }
    }
    bodies.extend(Some(body).filter(|it| it.points > 0));
    bodies
}

fn write_line<'p>(
    line: &mut String,
    measurement: &str,
    sample: &'p Sample,
    points: impl Iterator<Item = &'p Point> + Clone,
) {
    escaped(line, measurement, &[',', ' ']);
    let own = points.clone().next().map(|it| &it.tags);
    // The server looks series up faster when tags are sorted.
    let mut tags: Vec<_> = own.into_iter().flat_map(|own| super::tags(sample, own)).collect();
    tags.sort_by(|one, other| one.name.cmp(&other.name));
    for tag in tags.into_iter().filter(|it| !it.value.is_empty() && !it.name.is_empty()) {
        line.push(',');
        escaped(line, &tag.name, KEY);
        line.push('=');
        escaped(line, &tag.value, KEY);
    }
    for (at, point) in points.enumerate() {
        line.push(if at == 0 { ' ' } else { ',' });
        escaped(line, &point.metric.name, KEY);
        // Writing into text cannot fail.
        let _: fmt::Result = match point.number {
            Number::Unsigned(value) => write!(line, "={}i", i64::try_from(value).unwrap_or(i64::MAX)),
            Number::Signed(value) => write!(line, "={value}i"),
            Number::Float(value) => write!(line, "={value}"),
            Number::Flag(value) => write!(line, "={value}"),
        };
    }
    let _: fmt::Result = writeln!(line, " {}", sample.time.unix_nanos());
}

/// What has to be escaped in keys and values of tags, and in keys of fields.
const KEY: &[char] = &[',', '=', ' '];

/// A line end would begin another line, and a backslash at the end would take the next character with it: neither can be
/// escaped, so they become spaces and slashes.
fn escaped(line: &mut String, text: &str, special: &[char]) {
    // Most texts are names of ours, which have none of them.
    if text.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'_' | b'-' | b'/' | b':')) {
        return line.push_str(text);
    }
    for c in text.chars() {
        match c {
            '\n' | '\r' if special.contains(&' ') => line.push_str("\\ "),
            '\\' => line.push('/'),
            c => {
                if special.contains(&c) {
                    line.push('\\');
                }
                line.push(c);
            }
        }
    }
}
