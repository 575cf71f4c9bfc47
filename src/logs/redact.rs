//! Stars in the place of secrets.

use std::borrow::Cow;
use std::collections::BTreeSet;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value;
use serde_json::value::RawValue;

/// What stands in the place of a secret.
const STARS: &str = "***";
/// Shorter secrets are left alone: they would star out parts of common words.
const SHORTEST: usize = 6;
/// Lines of a secret of many lines that are starred by themselves, in bytes at least.
const SHORTEST_LINE: usize = 16;
/// A user name in a URL that has no password is taken for a token from this length on.
const TOKEN_AS_USER: usize = 20;
/// How deep a configuration or its schema is searched; deeper than any that a person writes.
const DEPTH: usize = 32;

/// Parts of a key, without `_` and `-` and in lower case, that make its value a secret.
const SECRET_KEYS: [&str; 10] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "credential",
    "authorization",
];
/// Ends of a key that make its value something about a secret, not the secret.
const ABOUT_KEYS: [&str; 9] = ["url", "uri", "type", "kind", "name", "path", "file", "method", "expiresat"];

/// What most libraries encode in a path segment or a query.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Finds secrets in text, also in their URL-encoded, base64 and JSON-escaped forms, and puts stars in their place.
#[derive(Debug, Clone)]
pub struct Redactor(Finder);

#[derive(Clone)]
enum Finder {
    Nothing,
    These(AhoCorasick),
    /// The secrets could not be made into a search: better no text than one with secrets.
    Everything,
}

impl std::fmt::Debug for Finder {
    /// Without the patterns, which are the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::These(_) => "These(***)",
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
        let built = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(patterns);
        Self(built.map_or(Finder::Everything, Finder::These))
    }

    /// Looks for the secrets in an integration's configuration: texts under keys that look like secrets, passwords in
    /// URLs, and whatever its JSON Schema calls `writeOnly`.
    #[must_use]
    pub fn from_config(config: &RawValue, schema: Option<&RawValue>) -> Self {
        let mut secrets = Vec::new();
        if let Ok(config) = serde_json::from_str::<Value>(config.get()) {
            search(&config, false, DEPTH, &mut secrets);
            if let Some(schema) = schema.and_then(|it| serde_json::from_str::<Value>(it.get()).ok()) {
                search_by_schema(&config, &schema, &schema, DEPTH, &mut secrets);
            }
        }
        Self::new(secrets)
    }

    /// The text without secrets.
    #[must_use]
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match &self.0 {
            Finder::Nothing => Cow::Borrowed(text),
            Finder::Everything => Cow::Borrowed(STARS),
            Finder::These(finder) if !finder.is_match(text) => Cow::Borrowed(text),
            Finder::These(finder) => {
                let mut out = String::with_capacity(text.len());
                finder.replace_all_with(text, &mut out, |_, _, out| {
                    out.push_str(STARS);
                    true
                });
                Cow::Owned(out)
            }
        }
    }
}

/// Adds every form in which a secret may turn up.
fn forms(secret: &str, patterns: &mut BTreeSet<String>) {
    if secret.len() < SHORTEST {
        return;
    }
    patterns.insert(secret.to_owned());
    let encoded = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
    patterns.insert(encoded.to_lowercase());
    patterns.insert(encoded);
    patterns.insert(utf8_percent_encode(secret, RESERVED).to_string());
    if let Ok(json) = serde_json::to_string(secret) {
        patterns.insert(json.trim_matches('"').to_owned());
    }
    for offset in 0..3 {
        patterns.extend(base64_inside(secret, offset));
    }
    let lines =
        secret.lines().map(str::trim).filter(|it| it.len() >= SHORTEST_LINE && !it.starts_with("-----"));
    patterns.extend(lines.map(str::to_owned));
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

fn search(value: &Value, secret: bool, depth: usize, found: &mut Vec<String>) {
    if depth == 0 {
        return;
    }
    match value {
        Value::String(text) => {
            if secret {
                take(text, found);
            }
            from_url(text, found);
        }
        Value::Array(values) => values.iter().for_each(|it| search(it, secret, depth - 1, found)),
        Value::Object(map) => {
            for (key, it) in map {
                search(it, secret || is_secret_key(key), depth - 1, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A secret, and what follows the scheme in `Bearer abc`.
fn take(text: &str, found: &mut Vec<String>) {
    found.push(text.to_owned());
    if let Some((scheme, rest)) = text.split_once(' ')
        && ["bearer", "basic", "token"].contains(&scheme.to_lowercase().as_str())
    {
        found.push(rest.to_owned());
    }
}

fn is_secret_key(key: &str) -> bool {
    let key: String = key.to_lowercase().chars().filter(|c| !matches!(c, '_' | '-' | '.')).collect();
    SECRET_KEYS.iter().any(|it| key.contains(it)) && !ABOUT_KEYS.iter().any(|it| key.ends_with(it))
}

/// The password of `scheme://user:password@host`, or a token in the user's place.
fn from_url(text: &str, found: &mut Vec<String>) {
    let Some((_, rest)) = text.split_once("://") else { return };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some((user, _)) = authority.rsplit_once('@') else { return };
    let secret = match user.split_once(':') {
        Some((_, password)) => password,
        None if user.len() >= TOKEN_AS_USER => user,
        None => return,
    };
    found.push(secret.to_owned());
    found.push(percent_decode_str(secret).decode_utf8_lossy().into_owned());
}

/// Follows a JSON Schema through the configuration and takes every text below a `writeOnly` part.
fn search_by_schema(value: &Value, schema: &Value, whole: &Value, depth: usize, found: &mut Vec<String>) {
    if depth == 0 {
        return;
    }
    if schema.get("writeOnly") == Some(&Value::Bool(true)) {
        search(value, true, depth, found);
        return;
    }
    let mut go = |value: &Value, schema: &Value| search_by_schema(value, schema, whole, depth - 1, found);
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        let target = target.strip_prefix('#').and_then(|it| whole.pointer(it));
        target.into_iter().for_each(|it| go(value, it));
    }
    for several in ["allOf", "anyOf", "oneOf"] {
        let schemas = schema.get(several).and_then(Value::as_array);
        schemas.into_iter().flatten().for_each(|it| go(value, it));
    }
    if let Some(map) = value.as_object() {
        for (key, it) in map {
            let named = schema.get("properties").and_then(|properties| properties.get(key));
            named
                .or_else(|| schema.get("additionalProperties"))
                .into_iter()
                .for_each(|schema| go(it, schema));
        }
    }
    if let (Some(values), Some(items)) = (value.as_array(), schema.get("items")) {
        values.iter().for_each(|it| go(it, items));
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn secrets_are_found_by_their_keys_and_the_rest_is_left() {
        let config = raw(
            r#"{"url":"https://api.example.com","api_key":"K-123456","nested":[{"clientSecret":"s3cr3t!"}],
                "token_url":"https://example.com/token","headers":{"Authorization":"Bearer abcdefgh"},"page":100}"#,
        );
        let redactor = Redactor::from_config(&config, None);
        assert_eq!(
            redactor.redact("GET https://example.com/token with K-123456, s3cr3t! and abcdefgh"),
            "GET https://example.com/token with ***, *** and ***"
        );
        assert!(matches!(redactor.redact("nothing to hide"), Cow::Borrowed(_)));
    }

    #[test]
    fn passwords_in_urls_are_starred_plain_and_decoded() {
        let config =
            raw(r#"{"repo":"https://ann:p%40ssword@git.example.com/a.git","clone":"https://git@host/b"}"#);
        let redactor = Redactor::from_config(&config, None);
        assert_eq!(
            redactor.redact("clone https://ann:p%40ssword@git.example.com"),
            "clone https://ann:***@git.example.com"
        );
        assert_eq!(redactor.redact("p@ssword and git@host"), "*** and git@host");
    }

    #[test]
    fn what_the_schema_calls_write_only_is_a_secret() {
        let config = raw(r#"{"pin":"12345678","servers":[{"pass":"hunter22","host":"hostname"}]}"#);
        let schema =
            raw(r##"{"properties":{"pin":{"writeOnly":true},"servers":{"items":{"$ref":"#/$defs/server"}}},
                "$defs":{"server":{"properties":{"pass":{"allOf":[{"writeOnly":true}]}}}}}"##);
        let redactor = Redactor::from_config(&config, Some(&schema));
        assert_eq!(redactor.redact("12345678 hunter22 hostname"), "*** *** hostname");
    }

    #[test]
    fn encoded_forms_are_starred_too() {
        let secret = "pa\"ss/wörd+1";
        let redactor = Redactor::new([secret.to_owned()]);
        let json = serde_json::to_string(secret).unwrap();
        assert_eq!(redactor.redact(&json), "\"***\"");
        assert_eq!(redactor.redact("?q=pa%22ss%2Fw%C3%B6rd%2B1&x"), "?q=***&x");
        for prefix in ["", "u:", "us:", "ann:"] {
            let encoded = STANDARD.encode(format!("{prefix}{secret}!"));
            let starred = redactor.redact(&encoded).into_owned();
            assert!(starred.contains("***") && starred.len() <= 14, "{prefix}: {encoded} → {starred}");
        }
    }

    #[test]
    fn short_secrets_are_left_alone() {
        assert_eq!(Redactor::new(["abc".to_owned()]).redact("abc abcdef"), "abc abcdef");
    }

    #[test]
    fn its_debug_text_shows_no_secret() {
        let text = format!("{:?}", Redactor::new(["topsecret".to_owned()]));
        assert!(!text.contains("topsecret"), "{text}");
    }
}
