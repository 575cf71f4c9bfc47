//! Names and ids as types. Those made of text are checked when they are made or read, since most become a part of a
//! path or a URL.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest text an id may have, in bytes.
pub const LONGEST: usize = 128;

/// A text that is not a valid id of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no valid {kind}: expected {expected}")]
pub struct BadId {
    /// The kind of id, in words.
    pub kind: &'static str,
    /// What was found (shortened).
    pub found: String,
    /// What a valid one looks like.
    pub expected: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $expected:literal, $pattern:literal, $valid:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(#[cfg_attr(feature = "schema", schemars(regex(pattern = $pattern), length(max = 128)))] String);

        impl $name {
            /// Takes a text as an id of this kind.
            ///
            /// # Errors
            /// When the text is empty, too long, or holds a character that the kind does not allow.
            pub fn new(text: impl Into<String>) -> Result<Self, BadId> {
                let text = text.into();
                if text.len() <= LONGEST && $valid(&text) {
                    return Ok(Self(text));
                }
                let found = text.chars().take(40).collect();
                Err(BadId { kind: $kind, found, expected: $expected })
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;
            fn try_from(text: String) -> Result<Self, BadId> {
                Self::new(text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

fn is_name(text: &str) -> bool {
    is_word(text) && !text.contains(|c: char| c.is_ascii_uppercase())
}

fn is_model(text: &str) -> bool {
    let part = |p: &str| {
        p.starts_with(|c: char| c.is_ascii_alphabetic())
            && p.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    text.split_once('.').is_some_and(|(area, kind)| part(area) && part(kind))
}

text_id!(
    /// An enrolled agent.
    AgentId, "agent id", "letters, digits, - and _, beginning with a letter or digit", r"^[A-Za-z0-9][A-Za-z0-9_-]*$", is_word
);
text_id!(
    /// A command of the backend.
    CommandId, "command id", "letters, digits, - and _, beginning with a letter or digit", r"^[A-Za-z0-9][A-Za-z0-9_-]*$", is_word
);
text_id!(
    /// One run of an export; the id of the command that ordered it, or one made up for a run by hand.
    ExportId, "export id", "letters, digits, - and _, beginning with a letter or digit", r"^[A-Za-z0-9][A-Za-z0-9_-]*$", is_word
);
text_id!(
    /// The kind of an integration, also the name of its program: `git`, `mock`.
    IntegrationName, "integration name", "lower-case letters, digits, - and _, beginning with a letter or digit", r"^[a-z0-9][a-z0-9_-]*$", is_name
);
text_id!(
    /// One configured integration of an agent; its name when nothing else is said. Checkpoints and log files are kept by it.
    IntegrationId, "integration id", "letters, digits, - and _, beginning with a letter or digit", r"^[A-Za-z0-9][A-Za-z0-9_-]*$", is_word
);
text_id!(
    /// A type of exported object: `area.Type`, as `sourcecode.Commit`.
    Model, "model", "`area.Type`: two parts of letters, digits and _, each beginning with a letter", r"^[A-Za-z][A-Za-z0-9_]*\.[A-Za-z][A-Za-z0-9_]*$", is_model
);

impl From<CommandId> for ExportId {
    fn from(command: CommandId) -> Self {
        Self(command.0)
    }
}

impl From<IntegrationName> for IntegrationId {
    fn from(name: IntegrationName) -> Self {
        Self(name.0)
    }
}

impl IntegrationId {
    /// How the ids of integrations begin that config.json of a host adds to every export. No others begin so.
    pub const EXTRA: &str = "extra-";

    /// The id that an integration of config.json has in exports: whatever the backend orders has another one, in each order,
    /// so that neither is ever given the last-processed values of the other.
    #[must_use]
    pub fn extra(&self) -> Self {
        Self(format!("{}{self}", Self::EXTRA))
    }

    /// Whether it is such an id.
    #[must_use]
    pub fn is_extra(&self) -> bool {
        self.0.starts_with(Self::EXTRA)
    }
}

/// An open session of an export, numbered by the action; unique within the export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_could_leave_its_folder_is_refused() {
        for text in ["", "..", "a/b", "a\\b", ".hidden", "-flag", "a b", "a\0", "ä", "a:b"] {
            assert!(CommandId::new(text).is_err(), "{text:?}");
            assert!(IntegrationName::new(text).is_err(), "{text:?}");
            assert!(Model::new(text).is_err(), "{text:?}");
        }
        assert!(CommandId::new("x".repeat(LONGEST + 1)).is_err());
    }

    #[test]
    fn a_model_is_an_area_and_a_type() {
        assert_eq!(
            Model::new("sourcecode.PullRequest").map(String::from).as_deref(),
            Ok("sourcecode.PullRequest")
        );
        for text in ["Repo", "a.b.c", ".Repo", "a.", "1a.B"] {
            assert!(Model::new(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_bad_id_in_json_is_named() {
        let err = serde_json::from_str::<IntegrationName>("\"../git\"").unwrap_err().to_string();
        assert!(
            err.contains("\"../git\" is no valid integration name: expected lower-case letters"),
            "{err}"
        );
    }
}
