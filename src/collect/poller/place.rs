//! Placeholders of paths and bodies.
//!
//! # Invariants
//! - What is put in cannot break out: it is percent-encoded in a path, and escaped as JSON in a body.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

/// All but what never needs it.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Names with what stands for them.
#[derive(Debug, Clone, Default)]
pub struct Names(pub Vec<(&'static str, String)>);

impl Names {
    /// A path and query.
    #[must_use]
    pub fn path(&self, template: &str) -> String {
        self.fill(template, |value| utf8_percent_encode(value, ENCODED).to_string())
    }

    /// A body of JSON; `"{ids}"` is an array of these.
    #[must_use]
    pub fn body(&self, template: &str, ids: &[Value]) -> String {
        let array = Value::Array(ids.to_vec()).to_string();
        let escaped = |value: &str| {
            let text = Value::from(value).to_string();
            text[1..text.len() - 1].to_owned()
        };
        // Ids last: what stands in them is never taken for a placeholder.
        self.fill(template, escaped).replace("\"{ids}\"", &array)
    }

    fn fill(&self, template: &str, encode: impl Fn(&str) -> String) -> String {
        let mut filled = String::with_capacity(template.len());
        let mut rest = template;
        while let Some(at) = rest.find('{') {
            filled.push_str(&rest[..at]);
            rest = &rest[at..];
            let end = rest.find('}').map_or(0, |it| it + 1);
            let name = rest.get(1..end.saturating_sub(1)).unwrap_or_default();
            match self.0.iter().find(|it| it.0 == name) {
                Some((_, value)) => {
                    filled.push_str(&encode(value));
                    rest = &rest[end..];
                }
                None => {
                    filled.push('{');
                    rest = &rest[1..];
                }
            }
        }
        filled.push_str(rest);
        filled
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_stay_in_their_place() {
        let names = Names(vec![("node.id", "a/b?c&{vdc.name}".into()), ("vdc.name", "v\"\\".into())]);
        assert_eq!(names.path("/n/{node.id}?x={other}"), "/n/a%2Fb%3Fc%26%7Bvdc.name%7D?x={other}");
        let body = names.body(r#"{"id":"{ids}","v":"{vdc.name}"}"#, &[json!("x"), json!("{vdc.name}")]);
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body, json!({ "id": ["x", "{vdc.name}"], "v": "v\"\\" }));
    }
}
