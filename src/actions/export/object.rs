//! What is read of an object: its id, and its hash where it has one. The rest stays text.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserializer as _;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Which object it is, and in which state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Identity<'a> {
    /// Its member `id`, where that is a text with something in it.
    pub(crate) id: Option<Cow<'a, str>>,
    /// Its member `hash`, in whichever shape: it is only compared. `null` is none.
    pub(crate) hash: Option<&'a str>,
}

impl<'a> Identity<'a> {
    /// Of an object that is known to be JSON. Reading ends where everything is known; of members that come twice, the
    /// first counts.
    pub(crate) fn of(object: &'a str) -> Self {
        let mut found = Reader { identity: Self::default(), hash_to_come: has_hash(object) };
        // Ends with an error when there is nothing more to look for, which is most of the time.
        drop(serde_json::Deserializer::from_str(object).deserialize_map(&mut found));
        let Self { id, hash } = found.identity;
        Self { id: id.filter(|it| !it.is_empty()), hash: hash.filter(|it| *it != "null") }
    }

    /// Of an object whose hash is of no interest.
    pub(crate) fn id_of(object: &'a str) -> Option<Cow<'a, str>> {
        let mut found = Reader { identity: Self::default(), hash_to_come: false };
        drop(serde_json::Deserializer::from_str(object).deserialize_map(&mut found));
        found.identity.id.filter(|it| !it.is_empty())
    }
}

/// Whether an object may have a member `hash`: its name, should a source ever escape letters of it, is not seen.
fn has_hash(object: &str) -> bool {
    static NAME: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""hash""#));
    NAME.find(object.as_bytes()).is_some()
}

struct Reader<'a> {
    identity: Identity<'a>,
    hash_to_come: bool,
}

impl<'a> Visitor<'a> for &mut Reader<'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = members.next_key()? {
            match &*name {
                "id" if self.identity.id.is_none() => {
                    let Text(id) = members.next_value()?;
                    self.identity.id = Some(id);
                }
                "hash" if self.hash_to_come => {
                    self.identity.hash = Some(members.next_value::<&RawValue>()?.get());
                    self.hash_to_come = false;
                }
                _ => drop(members.next_value::<IgnoredAny>()?),
            }
            if self.identity.id.is_some() && !self.hash_to_come {
                return Err(A::Error::custom("the rest is of no interest"));
            }
        }
        Ok(())
    }
}

/// A text that is borrowed where nothing in it is escaped.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A member's name.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::Identity;

    #[test]
    fn the_id_and_the_hash_are_found_wherever_they_stand() {
        let check = |object, id: Option<&str>, hash: Option<&str>| {
            let found = Identity::of(object);
            assert_eq!((found.id.as_deref(), found.hash), (id, hash), "{object}");
            assert_eq!(Identity::id_of(object).as_deref(), id, "{object}");
        };
        check(r#"{"id":"1","name":"x"}"#, Some("1"), None);
        check(r#"{"id":"1","name":"x","hash":"h"}"#, Some("1"), Some(r#""h""#));
        check(r#"{"hash":{"a":1},"list":["id","hash"],"id":"\u0031"}"#, Some("1"), Some(r#"{"a":1}"#));
        check(r#"{"name":"hash","id":"1","hash":null}"#, Some("1"), None);
        check(r#"{"in":{"id":"2","hash":"x"},"id":"1"}"#, Some("1"), None);
        check(r#"{"i\u0064":"1"}"#, Some("1"), None);
        check(r#"{"hash":7}"#, None, Some("7"));
        check(r#"{"id":"1","id":"2"}"#, Some("1"), None);
        for nobody in [r#"{"id":7}"#, r#"{"id":null}"#, r#"{"id":""}"#, r#"{"name":"x"}"#, "{}", "[1]"] {
            check(nobody, None, None);
        }
    }
}
