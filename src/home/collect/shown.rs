//! A section `collect` as others than its host may see it: with stars in the place of secrets.

use serde_json::Value;

use super::CollectConfig;

/// What stands in the place of a secret.
const STARS: &str = "***";
/// Members that hold secrets, wherever they stand.
const SECRETS: &[&str] = &["password", "token", "api_key"];

impl CollectConfig {
    /// The section without its secrets: neither where they are expected, nor where else they stand. Bodies of requests and
    /// what follows a `?` in a path or an address may hold others, and are not shown.
    #[must_use]
    pub fn shown(&self) -> Value {
        let secrets: Vec<_> = self.secrets().filter(|it| !it.is_empty()).collect();
        let Ok(mut value) = serde_json::from_str(self.raw().get()) else { return Value::Null };
        hide(&mut value, &secrets);
        value
    }
}

fn hide(value: &mut Value, secrets: &[&str]) {
    match value {
        Value::String(text) if secrets.iter().any(|it| text.contains(it)) => *text = STARS.to_owned(),
        Value::String(text) if text.contains('?') && !text.contains(' ') => {
            text.truncate(text.find('?').unwrap_or_default() + 1);
            text.push_str(STARS);
        }
        Value::Array(items) => items.iter_mut().for_each(|it| hide(it, secrets)),
        Value::Object(members) => {
            let is_header = members.get("kind").is_some_and(|it| it == "header");
            for (name, value) in members {
                let is_secret = SECRETS.contains(&name.as_str()) || (is_header && name == "value");
                match value {
                    _ if name == "body" => *value = STARS.into(),
                    Value::String(text) if is_secret => *text = STARS.to_owned(),
                    value => hide(value, secrets),
                }
            }
        }
        _ => {}
    }
}
