//! How two ends agree on a protocol. Each link counts its own versions, apart from the version of the product.

use serde::{Deserialize, Serialize};

/// The versions that one end speaks, both bounds included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Versions {
    /// The oldest version it still speaks.
    pub min: u32,
    /// The newest version it speaks.
    pub max: u32,
}

/// Link A, backend and service.
pub const CONTROL: Versions = Versions { min: 1, max: 1 };
/// Link B, service and action.
pub const ACTION: Versions = Versions { min: 1, max: 1 };
/// Link C, action and integration.
pub const INTEGRATION: Versions = Versions { min: 1, max: 1 };

/// Two ends that have no version in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no common protocol version: this end speaks {}–{}, the other {}–{}; update the older of the two",
    ours.min, ours.max, theirs.min, theirs.max
)]
pub struct NoCommonVersion {
    /// What the end that found out speaks.
    pub ours: Versions,
    /// What the other end speaks.
    pub theirs: Versions,
}

impl Versions {
    /// The newest version that both ends speak.
    ///
    /// # Errors
    /// When there is none.
    pub fn meet(self, theirs: Self) -> Result<u32, NoCommonVersion> {
        let newest = self.max.min(theirs.max);
        if newest >= self.min.max(theirs.min) {
            Ok(newest)
        } else {
            Err(NoCommonVersion { ours: self, theirs })
        }
    }

    /// Whether this end speaks `version`.
    #[must_use]
    pub fn holds(self, version: u32) -> bool {
        (self.min..=self.max).contains(&version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_meet_at_the_newest_common_version() {
        let ours = Versions { min: 2, max: 4 };
        assert_eq!(ours.meet(Versions { min: 1, max: 3 }), Ok(3));
        assert_eq!(ours.meet(Versions { min: 4, max: 9 }), Ok(4));
        let err = ours.meet(Versions { min: 5, max: 6 }).unwrap_err();
        assert!(err.to_string().contains("speaks 2–4, the other 5–6"));
    }
}
