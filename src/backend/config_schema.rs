//! Holds an integration's configuration against the JSON Schema that the installed integration gave of it.
//!
//! **Invariant:** nothing that is said here repeats a value of the configuration: a place as a JSON Pointer, and what the
//! schema expects there. **Invariant:** nothing is fetched: a schema that points outside of itself is not usable.
//!
//! A configuration whose secrets are sealed lacks them: its host took members out, and put `null` in the places of
//! elements. Which these were nobody else knows, since a secret may stand where no schema says so, such as in a URL. Its
//! host has checked it with them; here the schema is relaxed to hold without: nothing is missing, and what is there must
//! be right.

use outrider_protocol::Raw;
use outrider_protocol::action::IntegrationConfig;
use outrider_protocol::integration::ConfigError;
use serde_json::{Map, Value, json};

/// The most errors that are told of one configuration.
const MOST_ERRORS: usize = 20;
/// How deep a schema is followed; deeper ones refer to themselves.
const DEEPEST: usize = 32;

/// What a configuration is worth.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// It is as the schema says.
    Valid,
    /// Each thing that is wrong with it.
    Invalid(Vec<ConfigError>),
    /// The schema is none, for this reason: the integration itself has to check.
    NoSchema(String),
}

/// Checks a configuration.
pub(crate) fn check(schema: &Raw, integration: &IntegrationConfig) -> Checked {
    let mut schema: Value = match serde_json::from_str(schema.get()) {
        Ok(schema) => schema,
        Err(err) => return Checked::NoSchema(err.to_string()),
    };
    let Ok(config) = serde_json::from_str::<Value>(integration.config.get()) else {
        let message = "value is not JSON that can be read".into();
        return Checked::Invalid(vec![ConfigError { path: String::new(), message }]);
    };
    if integration.secrets.is_some() {
        relax(&mut schema, 0);
    }
    let validator = match jsonschema::validator_for(&schema) {
        Ok(validator) => validator,
        Err(err) => return Checked::NoSchema(err.masked().to_string()),
    };
    let errors: Vec<ConfigError> = validator
        .iter_errors(&config)
        .take(MOST_ERRORS)
        .map(|err| ConfigError { path: err.instance_path().to_string(), message: err.masked().to_string() })
        .collect();
    if errors.is_empty() { Checked::Valid } else { Checked::Invalid(errors) }
}

/// Where a configuration holds something that the schema calls `writeOnly`, as JSON Pointers.
pub(crate) fn plain_secrets(schema: &Raw, config: &Raw) -> Vec<String> {
    let (Ok(schema), Ok(config)) =
        (serde_json::from_str::<Value>(schema.get()), serde_json::from_str::<Value>(config.get()))
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    look(&schema, &schema, &config, "", &mut found, 0);
    found.sort();
    found.dedup();
    found
}

fn look(root: &Value, schema: &Value, value: &Value, path: &str, found: &mut Vec<String>, depth: usize) {
    if depth > DEEPEST {
        return;
    }
    if schema.get("writeOnly") == Some(&Value::Bool(true)) && !value.is_null() {
        found.push(path.to_owned());
        return;
    }
    for part in same_place(root, schema) {
        look(root, part, value, path, found, depth + 1);
    }
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let path = format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"));
                let own = schema.get("properties").and_then(|all| all.get(name));
                if let Some(part) = own.or_else(|| schema.get("additionalProperties")) {
                    look(root, part, member, &path, found, depth + 1);
                }
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                let own = schema.get("prefixItems").and_then(|all| all.get(at));
                if let Some(part) = own.or_else(|| schema.get("items")) {
                    look(root, part, item, &format!("{path}/{at}"), found, depth + 1);
                }
            }
        }
        _ => {}
    }
}

/// The schemas that speak of the same value as this one.
fn same_place<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    let target =
        schema.get("$ref").and_then(Value::as_str).and_then(|path| root.pointer(path.strip_prefix('#')?));
    let lists = ["allOf", "anyOf", "oneOf"];
    let listed = lists.iter().filter_map(|name| schema.get(*name)?.as_array()).flatten();
    let named = ["then", "else"].iter().filter_map(|name| schema.get(*name));
    target.into_iter().chain(listed).chain(named).collect()
}

/// Changes a schema so that it holds for a configuration from which something was taken.
fn relax(part: &mut Value, depth: usize) {
    if depth > DEEPEST {
        return;
    }
    match part {
        Value::Object(members) if members.get("writeOnly") == Some(&Value::Bool(true)) => {
            *part = Value::Bool(true);
        }
        Value::Object(members) => {
            // In a condition, less would ask for more.
            let parts = members.iter_mut().filter(|(name, _)| !matches!(name.as_str(), "not" | "if"));
            parts.for_each(|(_, member)| relax(member, depth + 1));
            relax_object(members);
        }
        Value::Array(items) => items.iter_mut().for_each(|item| relax(item, depth + 1)),
        _ => {}
    }
}

/// A member of `properties` may have the name of a keyword: then its value is a schema, which no such keyword has.
fn relax_object(members: &mut Map<String, Value>) {
    type Shape = fn(&Value) -> bool;
    let gone: [(&str, Shape); 3] = [
        ("required", Value::is_array),
        ("minProperties", Value::is_number),
        ("dependentRequired", |value| value.as_object().is_some_and(|all| all.values().all(Value::is_array))),
    ];
    for (keyword, is_one) in gone {
        if members.get(keyword).is_some_and(is_one) {
            members.remove(keyword);
        }
    }
    for keyword in ["items", "prefixItems"] {
        match members.get_mut(keyword) {
            Some(Value::Array(items)) => items.iter_mut().for_each(or_null),
            Some(item) if keyword == "items" && item.is_object() => or_null(item),
            _ => {}
        }
    }
    // Alternatives that differ by their secrets are all right now: one or more is as much as can be asked for.
    if members.get("oneOf").is_some_and(Value::is_array)
        && let Some(alternatives) = members.remove("oneOf")
    {
        let any = json!({ "anyOf": alternatives });
        match members.get_mut("allOf") {
            Some(Value::Array(all)) => all.push(any),
            _ => drop(members.insert("allOf".into(), Value::Array(vec![any]))),
        }
    }
}

fn or_null(schema: &mut Value) {
    *schema = json!({ "anyOf": [schema.take(), { "type": "null" }] });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(value: &Value) -> Raw {
        serde_json::value::to_raw_value(value).unwrap()
    }

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "url": { "type": "string", "format": "uri" },
                "token": { "$ref": "#/$defs/secret" },
                "user": { "type": "string" },
                "password": { "type": "string", "writeOnly": true },
                "mirrors": { "type": "array", "items": { "type": "string" } },
                "repos": { "type": "array", "items": {
                    "type": "object",
                    "properties": { "name": { "type": "string" }, "key": { "type": "string", "writeOnly": true } },
                    "required": ["name", "key"],
                } },
            },
            "required": ["url"],
            "oneOf": [{ "required": ["token"] }, { "required": ["user", "password"] }],
            "additionalProperties": false,
            "$defs": { "secret": { "type": "string", "minLength": 8, "writeOnly": true } },
        })
    }

    fn checked(config: &Value, secrets: Option<&str>) -> Checked {
        let secrets = secrets.map(str::to_owned);
        let integration =
            IntegrationConfig { name: "mock".parse().unwrap(), id: None, config: raw(config), secrets };
        check(&raw(&schema()), &integration)
    }

    fn errors(config: &Value, secrets: Option<&str>) -> Vec<(String, String)> {
        match checked(config, secrets) {
            Checked::Invalid(errors) => errors.into_iter().map(|it| (it.path, it.message)).collect(),
            other => panic!("{config}: {other:?}"),
        }
    }

    #[test]
    fn each_place_is_named_with_what_was_expected_and_without_what_was_found() {
        let found =
            errors(&json!({ "url": 5, "token": "hunter2", "repos": [{ "name": 1, "key": "k" }] }), None);
        let places: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
        assert!(["/url", "/token", "/repos/0/name"].iter().all(|path| places.contains(path)), "{found:?}");
        let text = format!("{found:?}");
        assert!(text.contains("is not of type \\\"string\\\"") && !text.contains("hunter2"), "{text}");
        for config in [json!("hunter2"), json!(["hunter2"]), json!({ "url": "u", "token": ["hunter2"] })] {
            assert!(!format!("{:?}", errors(&config, None)).contains("hunter2"), "{config}");
        }
        assert!(errors(&json!({ "url": "u" }), None)[0].1.contains("oneOf"));
    }

    #[test]
    fn sealed_secrets_are_not_missing() {
        let valid = [
            json!({ "url": "u", "token": "long enough" }),
            json!({ "url": "u", "user": "me", "password": "p", "repos": [{ "name": "a", "key": "k" }] }),
        ];
        for config in valid {
            assert_eq!(checked(&config, None), Checked::Valid, "{config}");
        }
        let without = [
            json!({ "url": "u" }),
            json!({ "url": "u", "user": "me" }),
            json!({ "url": "u", "token": null, "repos": [{ "name": "a" }, { "name": "b", "key": null }] }),
            // Secrets stood where no schema says so.
            json!({ "repos": [null, { "name": "a" }], "mirrors": [null, "https://git.example"] }),
        ];
        for config in without {
            assert_eq!(checked(&config, Some("sealed")), Checked::Valid, "{config}");
        }
        // What is there has to be right all the same.
        assert_eq!(errors(&json!({ "user": 1, "urll": "u" }), Some("sealed")).len(), 2);
        assert_eq!(errors(&json!({ "mirrors": [5] }), Some("sealed"))[0].0, "/mirrors/0");
        assert_eq!(
            errors(&json!({ "mirrors": [null], "url": "u", "token": "long enough" }), None)[0].0,
            "/mirrors/0"
        );
    }

    #[test]
    fn members_with_the_names_of_keywords_are_members() {
        let schema = json!({
            "properties": { "required": { "type": "boolean" }, "items": { "type": "string" }, "oneOf": { "type": "string" } },
            "additionalProperties": false,
        });
        let sealed = |config: Value| {
            let integration = IntegrationConfig {
                name: "mock".parse().unwrap(),
                id: None,
                config: raw(&config),
                secrets: Some("s".into()),
            };
            check(&raw(&schema), &integration)
        };
        assert_eq!(sealed(json!({ "required": true, "items": "a", "oneOf": "b" })), Checked::Valid);
        assert!(matches!(sealed(json!({ "required": 1 })), Checked::Invalid(_)));
        assert!(matches!(sealed(json!({ "oneOf": 1 })), Checked::Invalid(_)));
    }

    #[test]
    fn secrets_that_stand_in_a_configuration_are_found() {
        let config =
            json!({ "url": "u", "token": "t", "repos": [{ "name": "n" }, { "name": "n", "key": "k" }] });
        assert_eq!(plain_secrets(&raw(&schema()), &raw(&config)), ["/repos/1/key", "/token"]);
        let sealed = json!({ "url": "u", "token": null, "repos": [{ "name": "n" }] });
        assert!(plain_secrets(&raw(&schema()), &raw(&sealed)).is_empty());
    }

    #[test]
    fn a_schema_that_is_none_checks_nothing() {
        let integration = IntegrationConfig {
            name: "mock".parse().unwrap(),
            id: None,
            config: raw(&json!({})),
            secrets: Some("s".into()),
        };
        for schema in [json!({ "type": "nonsense" }), json!({ "$ref": "https://example.org/schema.json" })] {
            assert!(matches!(check(&raw(&schema), &integration), Checked::NoSchema(_)), "{schema}");
        }
        // One that refers to itself has an end.
        let endless = json!({ "properties": { "a": { "$ref": "#" } }, "allOf": [{ "$ref": "#" }] });
        assert!(plain_secrets(&raw(&endless), &raw(&json!({ "a": { "a": {} } }))).is_empty());
    }
}
