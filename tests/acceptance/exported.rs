//! `schemas/exported-data.md` and the JSON Schema of each model are what the integrations' types say, no model is
//! forgotten, and what is exported is as they say. `UPDATE_SCHEMAS=1 cargo test schemas` writes them anew.
//!
//! The types are private to programs, and their documentation is needed here only: this test takes in the files that hold
//! them, and the programs carry neither a schema nor a flag that prints one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use crate::schemas::{is_current, text};
use crate::support::{make_repository, outrider, printed, repository, run, spooled};

#[path = "../../cmd/integration-git/models.rs"]
#[expect(dead_code, reason = "only what the types look like is of interest here")]
mod git;
#[path = "../../cmd/integration-mock/models.rs"]
mod mock;

const HEAD: &str = "\
# Exported data

Made from the types of the integrations: do not edit. `UPDATE_SCHEMAS=1 cargo test schemas` writes it anew.

An export file is a sequence of JSON objects, a line each, of one model; `outrider data` shows what is in them. A field that
is not required is missing where the source has no such thing; one that may hold a secret says so. The same as JSON Schema: `exported-data/INTEGRATION/MODEL.json`.
";

fn schema<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>().to_value()
}

/// Every model, by integration and name.
fn models() -> BTreeMap<(&'static str, &'static str), Value> {
    BTreeMap::from([
        (("git", "sourcecode.Branch"), schema::<git::Branch>()),
        (("git", "sourcecode.Commit"), schema::<git::Commit>()),
        (("git", "sourcecode.Repo"), schema::<git::Repo>()),
        (("git", "sourcecode.Tag"), schema::<git::Tag>()),
        (("git", "sourcecode.User"), schema::<git::User>()),
        (("mock", "sourcecode.PullRequest"), schema::<mock::PullRequest<'_>>()),
        (("mock", "sourcecode.Repo"), schema::<mock::Repo<'_>>()),
        (("mock", "sourcecode.User"), schema::<mock::User<'_>>()),
    ])
}

#[test]
fn the_schemas_of_exported_data_are_current() {
    let folder = repository().join("schemas");
    let mut page = HEAD.to_owned();
    let mut last = "";
    for ((integration, model), schema) in models() {
        if integration != last {
            write!(page, "\n# Integration `{integration}`\n").unwrap();
            last = integration;
        }
        page += &section(model, &schema);
        let file = folder.join("exported-data").join(integration).join(format!("{model}.json"));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        is_current(&file, &text(&schema));
    }
    is_current(&folder.join("exported-data.md"), &page);
}

/// A model, and the types within it.
fn section(model: &str, schema: &Value) -> String {
    let text = said(schema).replace(&format!("`{model}`: "), "");
    let mut page = format!("\n## {model}\n\n{text}\n");
    page += &fields(schema);
    for (name, inner) in schema["$defs"].as_object().into_iter().flatten() {
        write!(page, "\n### {name} in {model}\n\n{}\n", said(inner)).unwrap();
        page += &if inner["properties"].is_object() { fields(inner) } else { choices(inner) };
    }
    page
}

fn fields(schema: &Value) -> String {
    let mut page = "\n| field | type | required | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    let required: BTreeSet<_> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in schema["properties"].as_object().unwrap() {
        assert!(!said(field).is_empty(), "{name} has no comment");
        let required = if required.contains(name.as_str()) { "yes" } else { "" };
        let secret = if field["writeOnly"] == true { "**Secret.** " } else { "" };
        writeln!(page, "| `{name}` | {} | {required} | {secret}{} |", kind(field), said(field)).unwrap();
    }
    page
}

fn choices(schema: &Value) -> String {
    let mut page = "\n| value | meaning |\n| --- | --- |\n".to_owned();
    for choice in schema["oneOf"].as_array().unwrap() {
        writeln!(page, "| `{}` | {} |", choice["const"].as_str().unwrap(), said(choice)).unwrap();
    }
    page
}

/// The comment in one line; links to types become their names.
fn said(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|");
    text.replace("[`", "`").replace("`]", "`")
}

fn kind(field: &Value) -> String {
    if let Some(name) = field["$ref"].as_str() {
        return name.rsplit('/').next().unwrap().to_owned();
    }
    for members in ["anyOf", "allOf"] {
        if let Some(some) = field[members].as_array() {
            return kind(some.iter().find(|it| it["type"] != "null").unwrap());
        }
    }
    match &field["type"] {
        Value::String(name) if name == "array" => format!("list of {}", kind(&field["items"])),
        Value::String(name) => name.clone(),
        Value::Array(names) => names.iter().find(|it| *it != "null").unwrap().as_str().unwrap().to_owned(),
        other => panic!("a type that this page cannot tell: {other} in {field}"),
    }
}

/// Every model that an installed integration names has its place, and every object of an export fits its schema.
#[test]
fn what_is_exported_is_what_the_schemas_say() {
    let root = tempfile::tempdir().unwrap();
    let report = root.path().join("described.json");
    let described = run(outrider(root.path()).arg("describe-integrations").arg("--output-file").arg(&report));
    assert!(described.status.success(), "{}", printed(&described));
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let models = models();
    for integration in report["integrations"].as_array().unwrap() {
        let name = integration["name"].as_str().unwrap();
        let told = integration["about"]["models"].as_array().unwrap();
        let told: BTreeSet<_> = told.iter().map(|it| it.as_str().or(it["model"].as_str()).unwrap()).collect();
        let known: BTreeSet<_> = models.keys().filter(|it| it.0 == name).map(|it| it.1).collect();
        assert!(name == "faulty" || told == known, "{name} says {told:?}, here are {known:?}");
    }

    let made = root.path().join("made");
    make_repository(&made);
    for (name, config) in [
        ("git", json!({ "repositories": [made] })),
        ("mock", json!({ "organizations": 1, "repos": 2, "pull_requests": 5, "users": 3 })),
    ] {
        let root = tempfile::tempdir().unwrap();
        let integrations = json!([{ "name": name, "config": config }]);
        let exported =
            run(outrider(root.path()).arg("export").arg(format!("--integrations-json={integrations}")));
        assert!(exported.status.success(), "{}", printed(&exported));
        for ((_, model), schema) in models.iter().filter(|it| it.0.0 == name) {
            let mut strict = schema.clone();
            close(&mut strict);
            let validator = jsonschema::validator_for(&strict).unwrap();
            let objects = spooled(root.path(), model);
            assert!(!objects.is_empty(), "{name} exported no {model}");
            for object in objects {
                let wrong: Vec<_> = validator.iter_errors(&object).map(|it| it.to_string()).collect();
                assert!(wrong.is_empty(), "{name} {model}: {wrong:?} in {object}");
            }
        }
    }
}

/// Nothing that the schema does not name is allowed.
fn close(schema: &mut Value) {
    if let Value::Object(members) = schema {
        if members.contains_key("properties") {
            members.insert("additionalProperties".into(), json!(false));
        }
        members.values_mut().for_each(close);
    }
}
