//! Members of a JSON object by path. The object is walked as text: no tree is built of it, and nothing is copied but what is
//! shown.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A path into nested objects: `author.name`. A dot that belongs to a name is written `\.`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FieldPath {
    written: String,
    names: Vec<String>,
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl FromStr for FieldPath {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        let (mut names, mut name) = (Vec::new(), String::new());
        let mut chars = written.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '.' => names.push(std::mem::take(&mut name)),
                '\\' if chars.next_if_eq(&'.').is_some() => name.push('.'),
                other => name.push(other),
            }
        }
        names.push(name);
        if names.iter().any(String::is_empty) {
            return Err(format!("found {written:?}, expected a field such as author.name"));
        }
        Ok(Self { written: written.to_owned(), names })
    }
}

impl FieldPath {
    /// Calls `take` with the values at the path, in their order, until it answers that it has enough. A list on the way, or
    /// at its end, stands for its elements.
    ///
    /// # Errors
    /// When the text is no JSON.
    pub(super) fn each<'a>(
        &self,
        object: &'a [u8],
        take: &mut dyn FnMut(&'a RawValue) -> bool,
    ) -> Result<(), serde_json::Error> {
        walk(serde_json::from_slice(object)?, &self.names, take).map(drop)
    }

    /// The values at the path as a person reads them.
    ///
    /// # Errors
    /// When the text is no JSON.
    pub(super) fn shown(&self, object: &[u8]) -> Result<String, serde_json::Error> {
        let mut shown = String::new();
        let mut first = true;
        self.each(object, &mut |value| {
            if !std::mem::take(&mut first) {
                shown.push_str(", ");
            }
            shown.push_str(&text(value));
            false
        })?;
        Ok(shown)
    }
}

/// A value as text: a string's characters, the JSON of anything else.
pub(super) fn text(value: &RawValue) -> Cow<'_, str> {
    let json = value.get();
    match json.strip_prefix('"').and_then(|it| it.strip_suffix('"')) {
        Some(inner) if !inner.contains('\\') => Cow::Borrowed(inner),
        Some(_) => serde_json::from_str::<String>(json).map_or(Cow::Borrowed(json), Cow::Owned),
        None => Cow::Borrowed(json),
    }
}

/// Whether `take` has enough.
fn walk<'a>(
    value: &'a RawValue,
    names: &[String],
    take: &mut dyn FnMut(&'a RawValue) -> bool,
) -> Result<bool, serde_json::Error> {
    let json = value.get();
    if json.starts_with('[') {
        let mut reader = serde_json::Deserializer::from_str(json);
        return reader.deserialize_seq(Elements { names, take });
    }
    let Some((name, rest)) = names.split_first() else { return Ok(take(value)) };
    if !json.starts_with('{') {
        return Ok(false);
    }
    let mut reader = serde_json::Deserializer::from_str(json);
    match reader.deserialize_map(Member(name))? {
        Some(value) => walk(value, rest, take),
        None => Ok(false),
    }
}

struct Elements<'n, 't, 'a> {
    names: &'n [String],
    take: &'t mut dyn FnMut(&'a RawValue) -> bool,
}

impl<'a> Visitor<'a> for Elements<'_, '_, 'a> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut elements: A) -> Result<bool, A::Error> {
        let mut enough = false;
        while !enough {
            let Some(element) = elements.next_element::<&RawValue>()? else { return Ok(false) };
            enough = walk(element, self.names, self.take).map_err(serde::de::Error::custom)?;
        }
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(true)
    }
}

/// The value of a member, where there is one; of several with the same name the last.
struct Member<'n>(&'n str);

impl<'a> Visitor<'a> for Member<'_> {
    type Value = Option<&'a RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = members.next_key_seed(NameIs(self.0))? {
            if is_it {
                found = Some(members.next_value()?);
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Reads a name without a copy, and says whether it is the one.
struct NameIs<'n>(&'n str);

impl<'a> DeserializeSeed<'a> for NameIs<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'a>>(self, reader: D) -> Result<bool, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for NameIs<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: &str = r#"{"a": {"b": [1, {"c": "x\ny"}, [{"c": null}]]}, "d.e": true, "": 0, "list": ["p", "q"], "o": {"k": 1}}"#;

    #[test]
    fn values_are_found_by_path() {
        for (path, shown) in [
            ("a.b.c", "x\ny, null"),
            ("a.b", r#"1, {"c": "x\ny"}, {"c": null}"#),
            (r"d\.e", "true"),
            ("d.e", ""),
            ("list", "p, q"),
            ("list.p", ""),
            ("o", r#"{"k": 1}"#),
            ("none", ""),
        ] {
            assert_eq!(path.parse::<FieldPath>().unwrap().shown(OBJECT.as_bytes()).unwrap(), shown, "{path}");
        }
        for wrong in ["", "a..b", ".a"] {
            assert!(wrong.parse::<FieldPath>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_json_is_said() {
        let path: FieldPath = "a".parse().unwrap();
        for wrong in [&b"{"[..], b"", b"{\"a\": \xff}", b"{} {}", b"{\"b\": tru}"] {
            assert!(path.shown(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
    }
}
