//! What signed metadata say of a file beyond its length and hash: of which release it is.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::version::{Platform, Version};

/// The product whose releases these are.
pub const PRODUCT: &str = "outrider";

/// The `custom` part of a file in targets.json.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Always [`PRODUCT`] in a repository of ours.
    pub product: String,
    /// The version, with `-SNAPSHOT` where it is one.
    pub version: Version,
    /// Whether the version is a snapshot; says the same as the version.
    pub snapshot: bool,
    /// The commit that it was built from.
    pub hash: String,
    /// The system that it runs on.
    pub os: String,
    /// The processor that it runs on.
    pub arch: String,
    /// Who gets it: `stable`.
    pub channel: String,
    /// No version below this one is to be installed any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Version>,
}

impl About {
    /// What it is built for.
    #[must_use]
    pub fn platform(&self) -> Platform {
        Platform { os: self.os.clone(), arch: self.arch.clone() }
    }

    pub(crate) fn read(custom: &HashMap<String, Value>) -> Result<Self, serde_json::Error> {
        Self::deserialize(Value::Object(custom.clone().into_iter().collect()))
    }

    pub(crate) fn write(&self) -> HashMap<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => fields.into_iter().collect(),
            // A struct of texts always becomes an object.
            _ => HashMap::new(),
        }
    }
}
