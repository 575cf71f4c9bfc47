//! The journal's text: a line a value, a header in front, a checksum at the end.
//!
//! ```text
//! outrider-upgrade-journal 1
//! sequence 12
//! attempt 7f3c…
//! …
//! crc32 0a1b2c3d
//! ```
//!
//! A value runs from the first space to the end of its line; a backslash and control characters in it are escaped. Each
//! record has one text only: what would be written differently is refused, so nothing is ever read by halves.
//!
//! The launcher, and a version that is gone back to, are older than who wrote before them. So lines that are not known come
//! last and are kept, and a word that is not known is kept where nothing is decided by it, or where there is a value for
//! "nobody knows": in `reason`, `ended_at`, `old_reach` and `told` ([`Record::foreign`]). A phase that is not known makes its
//! slot one that cannot be used: nobody could say what is next. Then the other slot has the step before, which is done again.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::FromStr;

use super::crc::crc32;
use crate::clock::{BootId, Moment};
use crate::name::VersionName;
use crate::phase::{Phase, Reason};
use crate::record::{OldReach, REASON, Record, Told};

/// The largest record in bytes. One has about 900.
pub(crate) const LIMIT: usize = 64 * 1024;
/// What a slot begins with; the number is the schema's.
const HEADER: &str = "outrider-upgrade-journal 1";
const ENDED_AT: &str = "ended_at";
const OLD_REACH: &str = "old_reach";
const TOLD_KEY: &str = "told";
/// The longest word that is kept without being known, in bytes.
const WORD_MOST: usize = 40;
const FROM_SEAL: &str = "from_seal";
const TO_SEAL: &str = "to_seal";
const ANY_HEADER: &str = "outrider-upgrade-journal ";

/// A record as it stands in a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) sequence: u64,
    pub(crate) record: Record,
}

/// Why a text is no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BadText {
    Empty,
    TooLong,
    NotText,
    /// The header is of another schema.
    Schema(String),
    Checksum,
    /// This line is missing or wrong.
    Line(&'static str),
}

/// The text of a record.
pub(crate) fn encode(stored: &Stored) -> String {
    let mut text = format!("{HEADER}\n");
    let it = &stored.record;
    let version = |it: &Option<VersionName>| it.as_ref().map_or(String::new(), VersionName::to_string);
    let moment = |it: &Option<Moment>| match it {
        Some(it) => format!("{} {}", it.ms, it.boot),
        None => String::new(),
    };
    let mut line = |key: &str, value: &str| {
        text.push_str(key);
        text.push(' ');
        escape(value, &mut text);
        text.push('\n');
    };
    line("sequence", &stored.sequence.to_string());
    line("attempt", &it.attempt);
    line("command", &it.command);
    line("from", it.from.as_str());
    line("to", it.to.as_str());
    line("earlier", &version(&it.earlier));
    line("phase", it.phase.as_str());
    line(ENDED_AT, it.word(ENDED_AT, it.ended_at.is_none(), it.ended_at.map_or("", Phase::as_str)));
    line(REASON, it.reason_word().unwrap_or_default());
    line("detail", &it.detail);
    line("retryable", &it.retryable.to_string());
    line("deadline", &moment(&it.deadline));
    line("tries_left", &it.tries_left.to_string());
    line("reboots_left", &it.reboots_left.to_string());
    line("tried_in", &it.tried_in.as_ref().map_or(String::new(), |it| format!("boot {it}")));
    line("green_for_ms", &it.green_for_ms.to_string());
    line("bound_ms", &it.bound_ms.to_string());
    line(OLD_REACH, it.word(OLD_REACH, it.old_reach == OldReach::Unknown, word(&REACHES, it.old_reach)));
    line("force", &it.force.to_string());
    line(TOLD_KEY, it.word(TOLD_KEY, it.told == Told::No, word(&TOLD, it.told)));
    // Later than the rest, so that an older program keeps them as lines that it does not know.
    for (key, seal) in [(FROM_SEAL, it.from_seal), (TO_SEAL, it.to_seal)] {
        if let Some(seal) = seal {
            line(key, &seal.to_string());
        }
    }
    for (key, value) in &it.unknown {
        line(key, value);
    }
    let sum = crc32(text.as_bytes());
    text.push_str(&format!("crc32 {sum:08x}\n"));
    text
}

/// The record of a text.
pub(crate) fn decode(bytes: &[u8]) -> Result<Stored, BadText> {
    if bytes.iter().all(|it| *it == 0) {
        return Err(BadText::Empty);
    }
    if bytes.len() > LIMIT {
        return Err(BadText::TooLong);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| BadText::NotText)?;
    let (header, _) = text.split_once('\n').ok_or(BadText::Line("header"))?;
    if header != HEADER {
        let found: Option<String> = header.strip_prefix(ANY_HEADER).map(|it| it.chars().take(20).collect());
        return Err(found.map_or(BadText::Line("header"), BadText::Schema));
    }
    let stored = Lines::of(checked(text)?).record()?;
    if encode(&stored) == text { Ok(stored) } else { Err(BadText::Line("order")) }
}

/// The text before the line of the checksum.
fn checked(text: &str) -> Result<&str, BadText> {
    let (before, sum) =
        text.strip_suffix('\n').and_then(|it| it.rsplit_once('\n')).ok_or(BadText::Checksum)?;
    let covered = &text[..=before.len()];
    if sum == format!("crc32 {:08x}", crc32(covered.as_bytes())) {
        Ok(covered)
    } else {
        Err(BadText::Checksum)
    }
}

/// The lines after the header.
struct Lines<'a> {
    rest: Peekable<std::str::Lines<'a>>,
    /// Words that are not known, by key.
    foreign: BTreeMap<&'static str, String>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let mut lines = text.lines();
        lines.next();
        Self { rest: lines.peekable(), foreign: BTreeMap::new() }
    }

    fn text(&mut self, key: &'static str) -> Result<String, BadText> {
        let line = self.rest.next().ok_or(BadText::Line(key))?;
        let value = line.strip_prefix(key).and_then(|it| it.strip_prefix(' '));
        value.and_then(unescape).ok_or(BadText::Line(key))
    }

    fn parsed<T: FromStr>(&mut self, key: &'static str) -> Result<T, BadText> {
        self.text(key)?.parse().map_err(|_| BadText::Line(key))
    }

    /// Nothing for an empty value.
    fn optional<T: FromStr>(&mut self, key: &'static str) -> Result<Option<T>, BadText> {
        match self.text(key)? {
            text if text.is_empty() => Ok(None),
            text => text.parse().map(Some).map_err(|_| BadText::Line(key)),
        }
    }

    /// The value of the next line, if that has this key.
    fn if_next<T: FromStr>(&mut self, key: &'static str) -> Result<Option<T>, BadText> {
        let is_next = self.rest.peek().is_some_and(|it| it.split(' ').next() == Some(key));
        if is_next { self.parsed(key).map(Some) } else { Ok(None) }
    }

    /// The value of a word, or `instead` for one that a newer program may have written, which is kept.
    fn word<T>(
        &mut self,
        key: &'static str,
        known: impl Fn(&str) -> Option<T>,
        instead: T,
    ) -> Result<T, BadText> {
        let text = self.text(key)?;
        if let Some(value) = known(&text) {
            return Ok(value);
        }
        let is_word = |it: &u8| matches!(it, b'a'..=b'z' | b'0'..=b'9' | b'_');
        if text.is_empty() || text.len() > WORD_MOST || !text.as_bytes().iter().all(is_word) {
            return Err(BadText::Line(key));
        }
        self.foreign.insert(key, text);
        Ok(instead)
    }

    fn record(mut self) -> Result<Stored, BadText> {
        let sequence = self.parsed("sequence")?;
        let record = Record {
            attempt: self.text("attempt")?,
            command: self.text("command")?,
            from: self.parsed("from")?,
            to: self.parsed("to")?,
            earlier: self.optional("earlier")?,
            phase: self.parsed("phase")?,
            ended_at: self.word(ENDED_AT, or_nothing, None)?,
            reason: self.word(REASON, or_nothing, Some(Reason::Other))?,
            detail: self.text("detail")?,
            retryable: self.parsed("retryable")?,
            deadline: self.moment("deadline")?,
            tries_left: self.parsed("tries_left")?,
            reboots_left: self.parsed("reboots_left")?,
            tried_in: self.boot("tried_in")?,
            green_for_ms: self.parsed("green_for_ms")?,
            bound_ms: self.parsed("bound_ms")?,
            old_reach: self.word(OLD_REACH, |it| value(&REACHES, it), OldReach::Unknown)?,
            force: self.parsed("force")?,
            told: self.word(TOLD_KEY, |it| value(&TOLD, it), Told::No)?,
            from_seal: self.if_next(FROM_SEAL)?,
            to_seal: self.if_next(TO_SEAL)?,
            unknown: self.rest()?,
            foreign: self.foreign,
        };
        Ok(Stored { sequence, record })
    }

    fn moment(&mut self, key: &'static str) -> Result<Option<Moment>, BadText> {
        let text = self.text(key)?;
        if text.is_empty() {
            return Ok(None);
        }
        let (ms, boot) = text.split_once(' ').ok_or(BadText::Line(key))?;
        let ms = ms.parse().map_err(|_| BadText::Line(key))?;
        Ok(Some(Moment { boot: BootId(boot.into()), ms }))
    }

    fn boot(&mut self, key: &'static str) -> Result<Option<BootId>, BadText> {
        let text = self.text(key)?;
        if text.is_empty() {
            return Ok(None);
        }
        text.strip_prefix("boot ").map(|it| Some(BootId(it.into()))).ok_or(BadText::Line(key))
    }

    fn rest(&mut self) -> Result<Vec<(String, String)>, BadText> {
        let pair = |line: &str| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), unescape(value)?))
        };
        self.rest.by_ref().map(|line| pair(line).ok_or(BadText::Line("unknown"))).collect()
    }
}

const REACHES: [(OldReach, &str); 3] =
    [(OldReach::Reached, "reached"), (OldReach::Unreached, "unreached"), (OldReach::Unknown, "unknown")];

const TOLD: [(Told, &str); 3] =
    [(Told::No, "no"), (Told::Sent, "sent"), (Told::Acknowledged, "acknowledged")];

fn word<T: PartialEq + Copy>(words: &[(T, &'static str)], value: T) -> &'static str {
    words.iter().find(|(it, _)| *it == value).map_or("", |(_, word)| word)
}

fn value<T: Copy>(words: &[(T, &str)], text: &str) -> Option<T> {
    words.iter().find(|(_, word)| *word == text).map(|(value, _)| *value)
}

/// An empty word is no value.
fn or_nothing<T: FromStr>(text: &str) -> Option<Option<T>> {
    if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) }
}

/// A backslash as two, a control character as its number.
fn escape(value: &str, text: &mut String) {
    for it in value.chars() {
        match it {
            '\\' => text.push_str("\\\\"),
            it if it.is_control() => text.push_str(&format!("\\{:02x}", u32::from(it))),
            it => text.push(it),
        }
    }
}

fn unescape(value: &str) -> Option<String> {
    let mut text = String::with_capacity(value.len());
    let mut rest = value.chars();
    while let Some(it) = rest.next() {
        match it {
            '\\' => match rest.next()? {
                '\\' => text.push('\\'),
                first => {
                    let number = first.to_digit(16)? * 16 + rest.next()?.to_digit(16)?;
                    text.push(char::from(u8::try_from(number).ok()?));
                }
            },
            it if it.is_control() => return None,
            it => text.push(it),
        }
    }
    Some(text)
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
