//! Stars in the place of secrets.

use std::borrow::Cow;
use std::collections::BTreeSet;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::value::RawValue;

use crate::secrets;

/// What stands in the place of a secret.
const STARS: &str = "***";
/// Shorter secrets are left alone: they would star out parts of common words.
const SHORTEST: usize = 6;
/// The beginning of a secret where a text was cut off, in bytes at least.
const SHORTEST_BEGINNING: usize = 8;
/// What programs put where they cut a text off.
const CUTS: [&str; 2] = ["…", "..."];
/// Lines of a secret of many lines that are starred by themselves, in bytes at least.
const SHORTEST_LINE: usize = 16;
/// What libraries leave as it is in a path segment or a query: all but letters and digits is encoded; RFC 3986's
/// unreserved characters are left; JavaScript's `encodeURIComponent`; Python's `quote`.
const URL_SETS: [&AsciiSet; 4] = [NON_ALPHANUMERIC, RESERVED, COMPONENT, QUOTE];
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const COMPONENT: &AsciiSet = &RESERVED.remove(b'!').remove(b'*').remove(b'\'').remove(b'(').remove(b')');
const QUOTE: &AsciiSet = &RESERVED.remove(b'/');

/// Finds secrets in text, also in their URL-encoded, base64, hex and JSON-escaped forms, and puts stars in their place.
/// Also finds the first part of one (8 bytes and more) where a text was cut off: at its end, or before `…` or `...`.
#[derive(Debug, Clone)]
pub struct Redactor(Finder);

#[derive(Clone)]
enum Finder {
    Nothing,
    These(Box<Search>),
    /// The secrets could not be made into a search: better no text than one with secrets.
    Everything,
}

#[derive(Clone)]
struct Search {
    finder: AhoCorasick,
    /// The first bytes of each pattern. In most texts there are none, and then there is nothing that was cut off.
    beginnings: AhoCorasick,
    patterns: BTreeSet<String>,
}

impl Search {
    fn new(patterns: BTreeSet<String>) -> Option<Self> {
        let long = patterns.iter().filter(|it| it.len() > SHORTEST_BEGINNING);
        let beginnings = AhoCorasick::new(long.map(|it| &it.as_bytes()[..SHORTEST_BEGINNING])).ok()?;
        let finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&patterns).ok()?;
        Some(Self { finder, beginnings, patterns })
    }
}

impl std::fmt::Debug for Finder {
    /// Without the patterns, which are the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::These(..) => "These(***)",
            Self::Everything => "Everything",
        })
    }
}

impl Redactor {
    /// Looks for these secrets. Those shorter than 6 bytes are left alone.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut patterns = BTreeSet::new();
        for secret in secrets {
            forms(secret.trim(), &mut patterns);
        }
        if patterns.is_empty() {
            return Self(Finder::Nothing);
        }
        Self(Search::new(patterns).map_or(Finder::Everything, |search| Finder::These(Box::new(search))))
    }

    /// Looks for the secrets in an integration's configuration: texts under keys that look like secrets, passwords in
    /// URLs, and whatever its JSON Schema calls `writeOnly`.
    #[must_use]
    pub fn from_config(config: &RawValue, schema: Option<&RawValue>) -> Self {
        Self::new(secrets::texts(config, schema))
    }

    /// The text without secrets.
    #[must_use]
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match &self.0 {
            Finder::Nothing => Cow::Borrowed(text),
            Finder::Everything => Cow::Borrowed(STARS),
            Finder::These(search) => {
                let Search { finder, beginnings, patterns } = &**search;
                let whole = if finder.is_match(text) {
                    let mut out = String::with_capacity(text.len());
                    finder.replace_all_with(text, &mut out, |_, _, out| {
                        out.push_str(STARS);
                        true
                    });
                    Cow::Owned(out)
                } else {
                    Cow::Borrowed(text)
                };
                if beginnings.is_match(&*whole) { without_beginnings(whole, patterns) } else { whole }
            }
        }
    }
}

/// Stars in the place of the first part of a secret before which a text was cut off.
fn without_beginnings<'a>(text: Cow<'a, str>, patterns: &BTreeSet<String>) -> Cow<'a, str> {
    let cuts =
        [text.len()].into_iter().chain(CUTS.iter().flat_map(|cut| text.match_indices(cut).map(|(at, _)| at)));
    let found = cuts.filter_map(|cut| {
        let before = text[..cut].trim_end();
        Some((before.len() - beginning_before(before, patterns)?, before.len()))
    });
    let mut found: Vec<_> = found.collect();
    if found.is_empty() {
        return text;
    }
    found.sort_unstable();
    found.dedup_by_key(|(start, _)| *start);
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    for (start, end) in found.into_iter().filter(|(start, end)| start < end) {
        if start >= at {
            out.push_str(&text[at..start]);
            out.push_str(STARS);
            at = end;
        }
    }
    out.push_str(&text[at..]);
    Cow::Owned(out)
}

/// How many of the text's last bytes are the beginning of a secret.
fn beginning_before(text: &str, patterns: &BTreeSet<String>) -> Option<usize> {
    let of = |pattern: &String| {
        let longest = pattern.len().saturating_sub(1).min(text.len());
        (SHORTEST_BEGINNING..=longest)
            .rev()
            .find(|length| text.as_bytes().ends_with(&pattern.as_bytes()[..*length]))
    };
    patterns.iter().filter_map(of).max().filter(|length| text.is_char_boundary(text.len() - length))
}

/// Adds every form in which a secret may turn up.
fn forms(secret: &str, patterns: &mut BTreeSet<String>) {
    if secret.len() < SHORTEST {
        return;
    }
    patterns.insert(secret.to_owned());
    for set in URL_SETS {
        let encoded = utf8_percent_encode(secret, set).to_string();
        patterns.insert(encoded.replace("%20", "+"));
        patterns.insert(with_lower_hex(&encoded));
        patterns.insert(encoded);
    }
    patterns.extend(json_forms(secret));
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    patterns.insert(hex.to_uppercase());
    patterns.insert(hex);
    for offset in 0..3 {
        patterns.extend(base64_inside(secret, offset));
    }
    let lines =
        secret.lines().map(str::trim).filter(|it| it.len() >= SHORTEST_LINE && !it.starts_with("-----"));
    patterns.extend(lines.map(str::to_owned));
}

/// `%2F` as `%2f`, and the rest as it is.
fn with_lower_hex(encoded: &str) -> String {
    let mut out = String::with_capacity(encoded.len());
    for (n, part) in encoded.split('%').enumerate() {
        let hex = if n == 0 { 0 } else { 2.min(part.len()) };
        out.push_str(if n == 0 { "" } else { "%" });
        out.push_str(&part[..hex].to_lowercase());
        out.push_str(&part[hex..]);
    }
    out
}

/// As JSON, and as JSON in a text of JSON: with what must be escaped, with all that is not ASCII, and with `\/`.
fn json_forms(secret: &str) -> Vec<String> {
    let Ok(plain) = serde_json::to_string(secret) else { return Vec::new() };
    let plain = plain[1..plain.len() - 1].to_owned();
    let ascii = |digits: fn(u16) -> String| -> String {
        let mut units = [0; 2];
        let escape = |c: char| {
            if c.is_ascii() {
                c.to_string()
            } else {
                c.encode_utf16(&mut units).iter().map(|it| digits(*it)).collect()
            }
        };
        plain.chars().map(escape).collect()
    };
    let (lower, upper) = (ascii(|unit| format!("\\u{unit:04x}")), ascii(|unit| format!("\\u{unit:04X}")));
    let mut forms = vec![plain, lower, upper];
    forms.extend(forms.clone().iter().map(|it| it.replace('/', "\\/")));
    forms.extend(forms.clone().iter().map(|it| it.replace('\\', "\\\\").replace('"', "\\\"")));
    forms
}

/// The characters of a base64 text that depend on the secret alone, when `offset` bytes (modulo 3) stand before it, as
/// in `base64("user:" + secret)`.
fn base64_inside(secret: &str, offset: usize) -> impl Iterator<Item = String> {
    let mut bytes = vec![0; offset];
    bytes.extend_from_slice(secret.as_bytes());
    // 6 bits a character: the first that hold a bit of what is before, and the last if more may follow, do not count.
    let from = (offset * 8).div_ceil(6);
    let to = bytes.len() * 8 / 6;
    [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)]
        .into_iter()
        .filter_map(move |text| text.get(from..to).filter(|it| it.len() >= SHORTEST).map(str::to_owned))
}

#[cfg(test)]
mod tests;
