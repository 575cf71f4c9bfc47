//! The name of a version: that of its folder.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

/// The longest name in bytes; what is put before it (`.trash-`) must still fit into a file name.
const LONGEST: usize = 200;

/// The name of a version, as `0.2.0-1a2b3c4d` or `0.2.0-SNAPSHOT-1a2b3c4d`. Any single, harmless part of a path is one,
/// so that packages of another make keep their names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VersionName(String);

impl VersionName {
    /// The name of a build: its version, whether it is a snapshot, and the hash of its source, of which eight digits
    /// are taken.
    ///
    /// # Errors
    /// When one of them holds what no name may hold.
    pub fn of_build(version: &str, snapshot: bool, hash: &str) -> Result<Self, BadName> {
        let snapshot = if snapshot { "-SNAPSHOT" } else { "" };
        let hash: String = hash.chars().take(8).collect();
        format!("{version}{snapshot}-{hash}").parse()
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// For the choice of the newest: numbers of the name by value, the rest as text.
    pub(crate) fn age(&self) -> Vec<(u64, String)> {
        let (version, rest) = self.0.split_once('-').unwrap_or((&self.0, ""));
        let mut parts: Vec<_> =
            version.split('.').map(|part| (part.parse().unwrap_or(0), String::new())).collect();
        // A snapshot comes before its release.
        parts.push((u64::from(!rest.starts_with("SNAPSHOT")), rest.to_owned()));
        parts
    }
}

impl FromStr for VersionName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let allowed = |it: char| it.is_ascii_alphanumeric() || matches!(it, '.' | '-' | '_' | '+' | '~');
        let begins_well = text.starts_with(|it: char| it.is_ascii_alphanumeric());
        if begins_well && text.len() <= LONGEST && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadName(text.chars().take(60).collect()))
        }
    }
}

impl fmt::Display for VersionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that cannot be the name of a version; holds its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadName(String);

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no name of a version: expected letters, digits, `.`, `-`, `_`, `+` and `~`, beginning with a letter \
             or digit, at most {LONGEST} bytes",
            self.0
        )
    }
}

impl Error for BadName {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_one_confined_part_of_a_path() {
        for good in ["0.2.0-1a2b3c4d", "9.1.0-SNAPSHOT-abcdef", "elastic-agent", "1.0.0+build.5-ab"] {
            assert_eq!(good.parse::<VersionName>().unwrap().as_str(), good);
        }
        let long = "a".repeat(LONGEST + 1);
        for bad in ["", ".", "..", ".trash-1", "a/b", "a\\b", "a b", "a\0", "a\n", "ä", "-x", &long] {
            assert!(bad.parse::<VersionName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn is_made_of_version_snapshot_and_eight_digits() {
        let name = |snapshot| VersionName::of_build("0.2.0", snapshot, "1a2b3c4d5e6f").unwrap();
        assert_eq!(name(false).as_str(), "0.2.0-1a2b3c4d");
        assert_eq!(name(true).as_str(), "0.2.0-SNAPSHOT-1a2b3c4d");
        assert!(VersionName::of_build("../1", false, "1a2b3c4d").is_err());
    }

    #[test]
    fn newer_is_by_number() {
        let age = |text: &str| text.parse::<VersionName>().unwrap().age();
        assert!(age("0.10.0-aaaaaaaa") > age("0.9.0-bbbbbbbb"));
        assert!(age("0.10.0-aaaaaaaa") > age("0.10.0-SNAPSHOT-bbbbbbbb"));
        assert!(age("1.0.0-aaaaaaaa") < age("1.0.1-SNAPSHOT-bbbbbbbb"));
    }
}
