//! `schemas/` is what the types say. `UPDATE_SCHEMAS=1 cargo test schemas` writes it anew.

use std::path::Path;

use crate::support::repository;

/// The text of a schema file.
pub(crate) fn text(schema: &serde_json::Value) -> String {
    serde_json::to_string_pretty(schema).unwrap() + "\n"
}

pub(crate) fn is_current(path: &Path, expected: &str) {
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        std::fs::write(path, expected).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    let name = path.display();
    assert!(found == expected, "{name} is not what the types say: run `UPDATE_SCHEMAS=1 cargo test schemas`");
}

#[test]
fn the_schemas_are_current() {
    for file in outrider_protocol::schema::files() {
        is_current(&repository().join("schemas").join(file.name), &text(&file.schema));
    }
}
