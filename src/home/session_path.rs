//! The name under which a checkpoint is kept.

use std::fmt;

use outrider_protocol::ids::IntegrationId;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeSeq, Serializer};

/// A session's place: the integration, then each session from the root down as (name, object id). An integration alone,
/// with no parts, stands for all of its sessions.
///
/// As JSON, and in the store: `["git",["organization","42"],["sourcecode.Repo",null]]`, so that no name or id, whatever
/// it holds, can be taken for a part of another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionPath {
    /// Whose session it is.
    pub integration: IntegrationId,
    /// The sessions from the root down: the name, and the id of the object that the session is about.
    pub parts: Vec<(String, Option<String>)>,
}

impl SessionPath {
    /// All sessions of an integration.
    #[must_use]
    pub fn of(integration: IntegrationId) -> Self {
        Self { integration, parts: Vec::new() }
    }

    /// The path of a session below this one.
    #[must_use]
    pub fn join(mut self, name: impl Into<String>, object: Option<String>) -> Self {
        self.parts.push((name.into(), object));
        self
    }
}

/// For people: `git / organization 42 / sourcecode.Repo`. Two paths may read alike; the JSON form never does.
impl fmt::Display for SessionPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.integration)?;
        for (name, object) in &self.parts {
            write!(f, " / {name}")?;
            if let Some(object) = object {
                write!(f, " {object}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for SessionPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut elements = serializer.serialize_seq(Some(1 + self.parts.len()))?;
        elements.serialize_element(&self.integration)?;
        for part in &self.parts {
            elements.serialize_element(part)?;
        }
        elements.end()
    }
}

impl<'de> Deserialize<'de> for SessionPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;
        impl<'de> Visitor<'de> for Elements {
            type Value = SessionPath;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of an integration's id and pairs of name and object id")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<SessionPath, A::Error> {
                let integration =
                    elements.next_element()?.ok_or_else(|| de::Error::invalid_length(0, &self))?;
                let mut parts = Vec::new();
                while let Some(part) = elements.next_element()? {
                    parts.push(part);
                }
                Ok(SessionPath { integration, parts })
            }
        }
        deserializer.deserialize_seq(Elements)
    }
}
