//! Reads enums whose variant stands in a member of the object, where some of the other members are raw JSON.
//!
//! What serde derives for such an enum gathers the members in a buffer of its own, and raw JSON cannot be read back from
//! that. Here the object is taken as raw JSON, looked at for its variant, and read again as that variant's type.

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error};

use crate::Raw;

/// The object as it came, with what its variant member says.
pub(crate) struct Tagged {
    pub(crate) variant: String,
    raw: Raw,
}

impl Tagged {
    /// Reads the object and its member `tag`.
    pub(crate) fn read<'de, D: Deserializer<'de>>(tag: &'static str, from: D) -> Result<Self, D::Error> {
        let raw = Raw::deserialize(from)?;
        let members: std::collections::BTreeMap<String, &serde_json::value::RawValue> =
            serde_json::from_str(raw.get()).map_err(D::Error::custom)?;
        let variant = members.get(tag).ok_or_else(|| D::Error::missing_field(tag))?;
        let variant =
            serde_json::from_str(variant.get()).map_err(|err| D::Error::custom(format!("`{tag}`: {err}")))?;
        Ok(Self { variant, raw })
    }

    /// The object as the type of its variant.
    pub(crate) fn parse<T: DeserializeOwned, E: Error>(&self) -> Result<T, E> {
        serde_json::from_str(self.raw.get()).map_err(|err| E::custom(format!("in `{}`: {err}", self.variant)))
    }
}

/// `tagged! { Enum by "member": "wire-name" => Variant, … }` for enums whose variants all hold one type.
macro_rules! tagged {
    ($name:ident by $tag:literal: $($wire:literal => $variant:ident),* $(,)?) => {
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let object = $crate::tagged::Tagged::read($tag, from)?;
                match object.variant.as_str() {
                    $($wire => object.parse().map(Self::$variant),)*
                    other => Err(serde::de::Error::unknown_variant(other, &[$($wire),*])),
                }
            }
        }
    };
}

pub(crate) use tagged;

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use crate::action::Order;
    use crate::control::Envelope;
    use crate::report::{ActionReport, OnboardOutcome};

    /// Reads a message and writes it again.
    fn again<T: serde::de::DeserializeOwned + Serialize>(text: &str) {
        let value: T = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&value).unwrap(), text);
    }

    #[test]
    fn raw_json_passes_through_every_enum_that_holds_some() {
        let order = r#"{"action":"export","agent":{"skip_git":false},"integrations":[{"name":"git","config":{"a": 1.50}}],"reprocess_historical":false}"#;
        again::<Order>(order);
        let run =
            format!(r#"{{"kind":"run","id":"c1","order":{order},"created_at":"2026-11-21T08:00:00Z"}}"#);
        again::<Envelope>(&run);
        again::<Envelope>(r#"{"kind":"cancel","command":"c1","reason":"r"}"#);
        again::<OnboardOutcome>(r#"{"outcome":"records","records":[{"id": 1}]}"#);
        again::<OnboardOutcome>(r#"{"outcome":"not_supported"}"#);
        again::<ActionReport>(
            r#"{"action":"export-onboard-data","integration":"git","kind":"repos","outcome":{"outcome":"records","records":[{"id": 1}]}}"#,
        );
    }

    #[test]
    fn an_unknown_or_missing_variant_is_named() {
        let err = serde_json::from_str::<Order>(r#"{"action":"dance"}"#).unwrap_err().to_string();
        assert!(err.contains("unknown variant `dance`, expected one of `export`"), "{err}");
        let err = serde_json::from_str::<Order>("{}").unwrap_err().to_string();
        assert!(err.contains("missing field `action`"), "{err}");
        let err = serde_json::from_str::<Order>(r#"{"action":"export"}"#).unwrap_err().to_string();
        assert!(err.contains("in `export`: missing field `integrations`"), "{err}");
    }
}
