//! Holds an integration's configuration against the JSON Schema that the installed integration gave of it.
//!
//! **Invariant:** nothing that is said here repeats a value of the configuration: a place as a JSON Pointer, and what the
//! schema expects there. **Invariant:** nothing is fetched: a schema that points outside of itself is not usable.
//!
//! A configuration whose secrets are sealed lacks them, or has something else in their places. Its host has checked it
//! with them; here the schema is relaxed to hold without: what is `writeOnly` may be anything, or missing.

use std::collections::BTreeSet;

use outrider_protocol::Raw;
use outrider_protocol::action::IntegrationConfig;
use outrider_protocol::integration::ConfigError;
use serde_json::{Map, Value};

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
        let mut names = BTreeSet::new();
        secret_names(&schema, &schema, &mut names, 0);
        relax(&mut schema, &names, 0);
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

fn is_secret(root: &Value, schema: &Value, depth: usize) -> bool {
    depth <= DEEPEST
        && (schema.get("writeOnly") == Some(&Value::Bool(true))
            || same_place(root, schema).into_iter().any(|part| is_secret(root, part, depth + 1)))
}

/// The names of all members that are secrets anywhere in the schema.
fn secret_names(root: &Value, part: &Value, names: &mut BTreeSet<String>, depth: usize) {
    if depth > DEEPEST {
        return;
    }
    if let Some(properties) = part.get("properties").and_then(Value::as_object) {
        let secrets = properties.iter().filter(|(_, schema)| is_secret(root, schema, 0));
        names.extend(secrets.map(|(name, _)| name.clone()));
    }
    match part {
        Value::Object(members) => {
            members.values().for_each(|member| secret_names(root, member, names, depth + 1));
        }
        Value::Array(items) => items.iter().for_each(|item| secret_names(root, item, names, depth + 1)),
        _ => {}
    }
}

/// Changes a schema so that it holds with and without the members of these names.
fn relax(part: &mut Value, names: &BTreeSet<String>, depth: usize) {
    if depth > DEEPEST {
        return;
    }
    match part {
        Value::Object(members) if members.get("writeOnly") == Some(&Value::Bool(true)) => {
            *part = Value::Bool(true)
        }
        Value::Object(members) => {
            relax_object(members, names);
            // In a condition, less would ask for more.
            let parts = members.iter_mut().filter(|(name, _)| !matches!(name.as_str(), "not" | "if"));
            parts.for_each(|(_, member)| relax(member, names, depth + 1));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| relax(item, names, depth + 1)),
        _ => {}
    }
}

fn relax_object(members: &mut Map<String, Value>, names: &BTreeSet<String>) {
    if let Some(Value::Array(required)) = members.get_mut("required") {
        required.retain(|name| name.as_str().is_none_or(|name| !names.contains(name)));
    }
    // These count or name members that may be missing now.
    if members.get("minProperties").is_some_and(Value::is_number) {
        members.remove("minProperties");
    }
    if let Some(Value::Object(dependents)) = members.get_mut("dependentRequired") {
        for required in dependents.values_mut().filter_map(Value::as_array_mut) {
            required.retain(|name| name.as_str().is_none_or(|name| !names.contains(name)));
        }
    }
    // Alternatives that differ by their secrets are all right now: one or more is as much as can be asked for.
    if members.get("oneOf").is_some_and(Value::is_array)
        && let Some(alternatives) = members.remove("oneOf")
    {
        let any = serde_json::json!({ "anyOf": alternatives });
        match members.get_mut("allOf") {
            Some(Value::Array(all)) => all.push(any),
            _ => drop(members.insert("allOf".into(), Value::Array(vec![any]))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
        ];
        for config in without {
            assert_eq!(checked(&config, Some("sealed")), Checked::Valid, "{config}");
        }
        // What is no secret is asked for all the same.
        assert_eq!(errors(&json!({ "user": 1 }), Some("sealed")).len(), 2);
        assert_eq!(errors(&json!({ "url": "u", "repos": [{}] }), Some("sealed"))[0].0, "/repos/0");
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
