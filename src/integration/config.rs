//! An integration's configuration, read into the author's type with the place of a fault as a JSON Pointer.

use outrider_protocol::integration::ConfigError;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_path_to_error::Segment;

use crate::error::Error;

/// Reads a configuration.
pub(crate) fn parse<C: DeserializeOwned>(raw: &RawValue) -> Result<C, Error> {
    // A list would be taken for a struct's members in order, which nobody means. What was found is not shown: a bare text
    // may be a secret.
    let found = match raw.get().as_bytes().first() {
        Some(b'{') => None,
        Some(b'[') => Some("an array"),
        Some(b'"') => Some("a text"),
        Some(b't' | b'f') => Some("a boolean"),
        Some(b'n') => Some("null"),
        _ => Some("a number"),
    };
    if let Some(found) = found {
        return Err(Error::config("", format!("found {found}; expected a JSON object")));
    }
    let mut json = serde_json::Deserializer::from_str(raw.get());
    serde_path_to_error::deserialize(&mut json).map_err(|err| {
        let path = pointer(err.path());
        Error::Config(vec![ConfigError { path, message: without_position(&err.into_inner().to_string()) }])
    })
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => text.push_str(&format!("/{index}")),
            Segment::Map { key } => {
                text.push('/');
                text.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            // An enum's variant is not a place of its own where the tag is a member, and `?` is no place at all.
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    text
}

/// Line and column count in the text as it was transmitted, which nobody has seen.
fn without_position(message: &str) -> String {
    match message.rsplit_once(" at line ") {
        Some((text, position)) if position.contains(" column ") => text.to_owned(),
        _ => message.to_owned(),
    }
}
