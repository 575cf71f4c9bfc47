//! Which members of a configuration may decide where its secrets are sent.

use std::collections::BTreeMap;

use serde_json::Value;

/// How deep a configuration is searched; deeper than any that a person writes.
const DEPTH: usize = 64;
/// Parts of a key that make its value an address, whatever it looks like.
const ADDRESS_KEYS: [&str; 17] = [
    "url", "uri", "host", "server", "endpoint", "domain", "proxy", "address", "port", "base", "site",
    "instance", "region", "tenant", "origin", "gateway", "scheme",
];

/// Every member that is an address by its key or by its look, with its JSON Pointer. Also numbers and booleans under such
/// a key: a port, `use_proxy`.
pub(super) fn addresses(config: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    search(config, &mut String::new(), false, DEPTH, &mut found);
    found
}

fn search(
    value: &Value,
    path: &mut String,
    by_key: bool,
    depth: usize,
    found: &mut BTreeMap<String, String>,
) {
    let length = path.len();
    match value {
        _ if depth == 0 => {
            found.insert(path.clone(), value.to_string());
        }
        Value::Object(map) => {
            for (key, it) in map {
                path.push('/');
                path.push_str(&key.replace('~', "~0").replace('/', "~1"));
                search(it, path, by_key || is_address_key(key), depth - 1, found);
                path.truncate(length);
            }
        }
        Value::Array(values) => {
            for (at, it) in values.iter().enumerate() {
                path.push_str(&format!("/{at}"));
                search(it, path, by_key, depth - 1, found);
                path.truncate(length);
            }
        }
        Value::String(text) if by_key || looks_like_address(text) => {
            found.insert(path.clone(), text.clone());
        }
        Value::Number(_) | Value::Bool(_) if by_key => {
            found.insert(path.clone(), value.to_string());
        }
        Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null => {}
    }
}

fn is_address_key(key: &str) -> bool {
    let key = key.to_lowercase();
    ADDRESS_KEYS.iter().any(|it| key.contains(it))
}

/// `https://…`, `git@host:path`, `api.example.com:8080/v3`, `10.0.0.1`, `localhost`.
fn looks_like_address(text: &str) -> bool {
    let text = text.trim();
    if text.contains("://") || text.starts_with("//") || (text.contains('@') && text.contains(':')) {
        return true;
    }
    let host = text.split(['/', ':', '?', '#']).next().unwrap_or_default();
    let dotted = host.contains('.') && !host.starts_with('.') && !host.ends_with('.');
    let named = host.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'));
    host.eq_ignore_ascii_case("localhost") || text.starts_with('[') || (dotted && named)
}
