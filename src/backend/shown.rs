//! How a configuration is shown to people. Its secrets are sealed and not in it; but a URL may carry a password that no
//! schema calls a secret.

use outrider_protocol::Raw;
use serde_json::Value;

/// Stands for what is not shown.
const STARS: &str = "***";

/// The configuration with the passwords of URLs replaced.
pub(crate) fn config(config: &Raw) -> Raw {
    let Ok(mut value) = serde_json::from_str::<Value>(config.get()) else { return empty() };
    hide(&mut value);
    serde_json::value::to_raw_value(&value).unwrap_or_else(|_| empty())
}

fn empty() -> Raw {
    serde_json::value::to_raw_value(&serde_json::json!({})).unwrap_or_default()
}

fn hide(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(shown) = without_password(text) {
                *text = shown;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide),
        Value::Object(members) => members.values_mut().for_each(hide),
        _ => {}
    }
}

/// A URL with its user part hidden; `None` for a text that has none. A token may stand in the place of the user, too.
fn without_password(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (user, _) = authority.rsplit_once('@')?;
    Some(format!("{scheme}://{STARS}{}", &rest[user.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn urls_are_shown_without_whom_they_log_in() {
        let raw = |value: Value| serde_json::value::to_raw_value(&value).unwrap();
        let shown = config(&raw(json!({
            "repos": ["https://me:hunter2@git.example/a?b=c@d", "https://ghp_hunter2@git.example", "/srv/a@b"],
            "deep": { "url": "https://git.example/x", "count": 3 },
        })));
        let value: Value = serde_json::from_str(shown.get()).unwrap();
        assert_eq!(
            value["repos"],
            json!(["https://***@git.example/a?b=c@d", "https://***@git.example", "/srv/a@b"])
        );
        assert_eq!(value["deep"], json!({ "url": "https://git.example/x", "count": 3 }));
        assert!(!shown.get().contains("hunter2"));
    }
}
