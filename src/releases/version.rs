//! Versions of the agent, and the systems that a release is built for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a version of a build that is not released yet ends.
const SNAPSHOT: &str = "-SNAPSHOT";

/// A version: three numbers, and whether it is a snapshot, which comes before the release of the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    numbers: [u32; 3],
    is_release: bool,
}

impl Version {
    /// Whether it is a build on the way to a release.
    #[must_use]
    pub fn is_snapshot(self) -> bool {
        !self.is_release
    }
}

/// A text is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no version: expected three numbers such as 1.4.0, or 1.4.0-SNAPSHOT")]
pub struct VersionError(String);

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let wrong = || VersionError(text.chars().take(64).collect());
        let core = text.strip_suffix(SNAPSHOT);
        let mut parts = core.unwrap_or(text).split('.');
        let mut numbers = [0; 3];
        for number in &mut numbers {
            let part = parts.next().ok_or_else(wrong)?;
            let is_plain =
                part.bytes().all(|it| it.is_ascii_digit()) && (part == "0" || !part.starts_with('0'));
            *number = part.parse().ok().filter(|_| is_plain).ok_or_else(wrong)?;
        }
        match parts.next() {
            None => Ok(Self { numbers, is_release: core.is_none() }),
            Some(_) => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Version {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, VersionError> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}{}", if self.is_release { "" } else { SNAPSHOT })
    }
}

/// What a release is built for, in Rust's words: `linux` and `x86_64`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    /// The operating system.
    pub os: String,
    /// The processor.
    pub arch: String,
}

impl Platform {
    /// That of this program.
    #[must_use]
    pub fn here() -> Self {
        Self { os: std::env::consts::OS.into(), arch: std::env::consts::ARCH.into() }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.os, self.arch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_their_numbers_and_a_snapshot_comes_before_its_release() {
        let texts = ["0.1.0-SNAPSHOT", "0.1.0", "0.9.0", "0.10.0", "1.0.0-SNAPSHOT", "1.0.0"];
        let versions: Vec<Version> = texts.iter().map(|it| it.parse().unwrap()).collect();
        assert!(versions.is_sorted());
        assert!(versions.iter().zip(texts).all(|(version, text)| version.to_string() == text));
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in
            ["", "1", "1.2", "1.2.3.4", "1.2.x", "01.2.3", "+1.2.3", "1.2.3-rc1", "1.2.3-snapshot", "1..2"]
        {
            assert!(
                text.parse::<Version>().unwrap_err().to_string().contains("expected three numbers"),
                "{text}"
            );
        }
    }
}
