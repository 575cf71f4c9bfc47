//! Which members of an integration's configuration are secrets.
//!
//! Texts under keys that look like secrets, texts that are URLs with a password or a token in them, and whatever the
//! configuration's JSON Schema calls `writeOnly`.

use percent_encoding::percent_decode_str;
use serde_json::Value;
use serde_json::value::RawValue;

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

/// A member that is, or holds, a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Its key says so.
    Key,
    /// The schema says so, also of numbers.
    Schema,
    /// It is a URL with a secret in it.
    Url,
}

/// The members that are secrets, as JSON Pointers, none of them within another. Of a URL with a password this is the
/// whole text.
#[must_use]
pub fn secret_members(config: &RawValue, schema: Option<&RawValue>) -> Vec<String> {
    let Ok(config) = serde_json::from_str::<Value>(config.get()) else { return Vec::new() };
    let mut all: Vec<_> = places(&config, schema).into_iter().map(|(pointer, ..)| pointer).collect();
    all.sort_unstable();
    all.dedup();
    // Sorted by text a member may come long after the one that holds it.
    let within = |it: &String| {
        all.iter().any(|outer| it.strip_prefix(outer.as_str()).is_some_and(|it| it.starts_with('/')))
    };
    all.iter().filter(|it| !within(it)).cloned().collect()
}

/// The secrets themselves.
pub(crate) fn texts(config: &RawValue, schema: Option<&RawValue>) -> Vec<String> {
    let Ok(config) = serde_json::from_str::<Value>(config.get()) else { return Vec::new() };
    let mut found = Vec::new();
    for (_, value, why) in places(&config, schema) {
        match why {
            Why::Url => value.as_str().into_iter().for_each(|it| found.extend(in_url(it))),
            Why::Key | Why::Schema => take(value, why, &mut found),
        }
    }
    found
}

type Place<'a> = (String, &'a Value, Why);

fn places<'a>(config: &'a Value, schema: Option<&RawValue>) -> Vec<Place<'a>> {
    let mut found = Vec::new();
    search(config, &mut String::new(), DEPTH, &mut found);
    if let Some(schema) = schema.and_then(|it| serde_json::from_str::<Value>(it.get()).ok()) {
        let mut by_schema = BySchema { whole: &schema, found: &mut found };
        by_schema.search(config, &schema, "", DEPTH);
    }
    found
}

fn search<'a>(value: &'a Value, path: &mut String, depth: usize, found: &mut Vec<Place<'a>>) {
    if depth == 0 {
        return;
    }
    let length = path.len();
    match value {
        Value::String(text) if in_url(text).next().is_some() => found.push((path.clone(), value, Why::Url)),
        Value::Array(values) => {
            for (at, it) in values.iter().enumerate() {
                path.push_str(&format!("/{at}"));
                search(it, path, depth - 1, found);
                path.truncate(length);
            }
        }
        Value::Object(map) => {
            for (key, it) in map {
                path.push_str(&step(key));
                if is_secret_key(key) && has_text(it) {
                    found.push((path.clone(), it, Why::Key));
                }
                search(it, path, depth - 1, found);
                path.truncate(length);
            }
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A key as a part of a JSON Pointer.
fn step(key: &str) -> String {
    format!("/{}", key.replace('~', "~0").replace('/', "~1"))
}

fn has_text(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => values.iter().any(has_text),
        Value::Object(map) => map.values().any(has_text),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Every text of a secret member, and what follows the scheme in `Bearer abc`.
fn take(value: &Value, why: Why, found: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            found.push(text.clone());
            if let Some((scheme, rest)) = text.split_once(' ')
                && ["bearer", "basic", "token"].contains(&scheme.to_lowercase().as_str())
            {
                found.push(rest.to_owned());
            }
        }
        Value::Array(values) => values.iter().for_each(|it| take(it, why, found)),
        Value::Object(map) => map.values().for_each(|it| take(it, why, found)),
        Value::Number(number) if why == Why::Schema => found.push(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn is_secret_key(key: &str) -> bool {
    let key: String = key.to_lowercase().chars().filter(|c| !matches!(c, '_' | '-' | '.')).collect();
    SECRET_KEYS.iter().any(|it| key.contains(it)) && !ABOUT_KEYS.iter().any(|it| key.ends_with(it))
}

/// The password of `scheme://user:password@host`, or a token in the user's place; as it stands there and decoded.
fn in_url(text: &str) -> impl Iterator<Item = String> {
    let user = text.split_once("://").and_then(|(_, rest)| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        Some(authority.rsplit_once('@')?.0)
    });
    let secret = user.and_then(|user| match user.split_once(':') {
        Some((_, password)) => Some(password),
        None => Some(user).filter(|it| it.len() >= TOKEN_AS_USER),
    });
    let forms = |it: &str| [it.to_owned(), percent_decode_str(it).decode_utf8_lossy().into_owned()];
    secret.filter(|it| !it.is_empty()).map(forms).into_iter().flatten()
}

/// Follows a JSON Schema through the configuration and takes every member that it calls `writeOnly`.
struct BySchema<'s, 'a, 'f> {
    whole: &'s Value,
    found: &'f mut Vec<Place<'a>>,
}

impl<'a> BySchema<'_, 'a, '_> {
    fn search(&mut self, value: &'a Value, schema: &Value, path: &str, depth: usize) {
        if depth == 0 {
            return;
        }
        if schema.get("writeOnly") == Some(&Value::Bool(true)) {
            if !value.is_null() {
                self.found.push((path.to_owned(), value, Why::Schema));
            }
            return;
        }
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let target = target.strip_prefix('#').and_then(|it| self.whole.pointer(it));
            target.into_iter().for_each(|it| self.search(value, it, path, depth - 1));
        }
        for several in ["allOf", "anyOf", "oneOf"] {
            let schemas = schema.get(several).and_then(Value::as_array);
            schemas.into_iter().flatten().for_each(|it| self.search(value, it, path, depth - 1));
        }
        for (key, it) in value.as_object().into_iter().flatten() {
            let named = schema.get("properties").and_then(|properties| properties.get(key));
            if let Some(schema) = named.or_else(|| schema.get("additionalProperties")) {
                self.search(it, schema, &format!("{path}{}", step(key)), depth - 1);
            }
        }
        if let (Some(values), Some(items)) = (value.as_array(), schema.get("items")) {
            for (at, it) in values.iter().enumerate() {
                self.search(it, items, &format!("{path}/{at}"), depth - 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(config: &str, schema: Option<&str>) -> Vec<String> {
        let raw = |text: &str| serde_json::from_str::<Box<RawValue>>(text).unwrap();
        secret_members(&raw(config), schema.map(raw).as_deref())
    }

    #[test]
    fn members_are_told_by_key_url_and_schema_and_none_twice() {
        let config = r#"{"url":"https://git.example.com","token":"t","auth":{"secret":{"token":"x","kind":"y"}},
            "repos":["https://ann:pw@host/a","https://host/b"],"pin":1234,"a/b":{"api_key":"k"},"use_token":true,
            "password":""}"#;
        let schema = r#"{"properties":{"pin":{"writeOnly":true},"token":{"writeOnly":true}}}"#;
        let by_key = ["/auth/secret", "/a~1b/api_key", "/repos/0", "/token"];
        assert_eq!(members(config, None), by_key);
        assert_eq!(
            members(config, Some(schema)),
            ["/auth/secret", "/a~1b/api_key", "/pin", "/repos/0", "/token"]
        );
    }

    #[test]
    fn a_configuration_that_is_no_object_has_none() {
        assert_eq!(members("[1]", None), [""; 0]);
        assert_eq!(members("null", Some(r#"{"writeOnly":true}"#)), [""; 0]);
    }
}
