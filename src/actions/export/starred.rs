//! Raw JSON without secrets: stars in the place of each that a text or a number holds, and every other byte as it was.
//!
//! It is not parsed into a tree, so that no digit of a number, no order of members and no member that is there twice is
//! lost on the way.

use outrider_protocol::Raw;
use serde_json::value::{RawValue, to_raw_value};

/// What stands in the place of what cannot be searched, or not in parts.
const STARS: &str = "***";

/// The value without what `redact` takes out of a text.
pub(super) fn starred(value: &Raw, redact: &dyn Fn(&str) -> String) -> Raw {
    let mut out = String::with_capacity(value.get().len());
    let mut rest = value.get();
    while let Some(at) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let (token, after) = from.split_at(length(from));
        push(&mut out, token, redact);
        rest = after;
    }
    out.push_str(rest);
    // A secret that is JSON itself stands in no single text.
    if redact(&out) == out
        && let Ok(raw) = RawValue::from_string(out)
    {
        return raw;
    }
    to_raw_value(STARS).unwrap_or_default()
}

/// Adds a text or a number, without secrets.
fn push(out: &mut String, token: &str, redact: &dyn Fn(&str) -> String) {
    let redacted = if token.starts_with('"') {
        match serde_json::from_str::<String>(token) {
            Ok(text) => Some(redact(&text)).filter(|it| *it != text),
            // Half a pair of surrogates: JSON, but no text in which anything could be found.
            Err(_) => Some(STARS.to_owned()),
        }
    } else {
        Some(redact(token)).filter(|it| it != token)
    };
    match redacted {
        Some(text) => out.push_str(&serde_json::Value::from(text).to_string()),
        None => out.push_str(token),
    }
}

/// How long the text or number is with which valid JSON begins here, in bytes.
fn length(json: &str) -> usize {
    if !json.starts_with('"') {
        return json.find(|c: char| !"+-.eE0123456789".contains(c)).unwrap_or(json.len());
    }
    let mut escaped = false;
    let end = json.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(json.len(), |at| at + 2)
}

#[cfg(test)]
mod tests {
    use outrider_logs::Redactor;

    use super::*;

    fn check(value: &str, expected: &str) {
        let redactor = Redactor::new(
            ["s3cr3t/t0ken \"quoted\"", "4711081500", "{\"key\":\"value\"}"].map(str::to_owned),
        );
        let value = RawValue::from_string(value.to_owned()).unwrap();
        assert_eq!(starred(&value, &|it| redactor.redact(it).into_owned()).get(), expected);
    }

    #[test]
    fn what_is_no_secret_stays_to_the_byte() {
        for value in [
            r#"{ "z": 12345678901234567890123, "a": 1.10, "a": [true,null,-1E+5], "\u00fc\/": "\\" }"#,
            "\"\"",
            "0",
            "[]",
        ] {
            check(value, value);
        }
    }

    #[test]
    fn a_secret_goes_in_each_of_its_forms() {
        check(r#"{"at":"s3cr3t/t0ken \"quoted\"","n":1.0}"#, r#"{"at":"***","n":1.0}"#);
        check(r#"["after \u00733cr3t\/t0ken \u0022quoted\" it"]"#, r#"["after *** it"]"#);
        check(r#"{"s3cr3t/t0ken \"quoted\"":"s3cr3t%2Ft0ken%20%22quoted%22"}"#, r#"{"***":"***"}"#);
        check(r#"[4711081500, 14711081500, -4711081500]"#, r#"["***", "1***", "-***"]"#);
    }

    #[test]
    fn what_cannot_be_searched_in_parts_goes_as_a_whole() {
        check(r#"["a",{"key":"value"}]"#, "\"***\"");
        check(r#"{"half":"s3cr3t\ud800","whole":"x"}"#, r#"{"half":"***","whole":"x"}"#);
    }

    #[test]
    fn what_is_made_of_a_secret_goes_as_well() {
        let redactor = Redactor::new(["s3cr3t/t0ken \"quoted\"".to_owned()]);
        // In base64, behind `user:`.
        let value = RawValue::from_string(r#"["dXNlcjpzM2NyM3QvdDBrZW4gInF1b3RlZCI="]"#.to_owned()).unwrap();
        let found = starred(&value, &|it| redactor.redact(it).into_owned());
        assert!(found.get().contains("***") && !found.get().contains("M2NyM3QvdDBrZW4g"), "{found}");
    }
}
