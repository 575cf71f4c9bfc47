//! Which build a package is.

use std::fmt;

use semver::{Prerelease, Version};

/// What stands behind the version of a build that was not released.
const SNAPSHOT: &str = "SNAPSHOT";
/// The fewest digits of a hash: the older packages name their folder by that many.
pub const SHORTEST_HASH: usize = 6;
/// The most digits of a hash.
const LONGEST_HASH: usize = 64;
/// The longest text of a version, in bytes.
const LONGEST_VERSION: usize = 64;

/// A text that names no build.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No semantic version.
    #[error("{found:?} is no version: expected one like 8.13.0, at most {LONGEST_VERSION} bytes")]
    Version {
        /// The text, shortened.
        found: String,
    },
    /// `SNAPSHOT` where a field of its own says so.
    #[error(
        "the version {found:?} ends in {SNAPSHOT}: expected `snapshot: true` beside a version without it"
    )]
    SnapshotInVersion {
        /// The version.
        found: String,
    },
    /// No hash of a commit.
    #[error(
        "{found:?} is no hash of a commit: expected {SHORTEST_HASH} to {LONGEST_HASH} digits of 0-9 and a-f"
    )]
    Hash {
        /// The text, shortened.
        found: String,
    },
}

/// A version as an order has it: `8.13.0`, `8.13.0-rc1`, `8.13.0-SNAPSHOT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The version, without `SNAPSHOT`.
    pub version: Version,
    /// Whether it is a snapshot.
    pub snapshot: bool,
}

impl Release {
    /// Takes the version of an order.
    ///
    /// # Errors
    /// When it is no semantic version.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let mut version = version(text)?;
        let rest = match version.pre.as_str() {
            SNAPSHOT => Some(""),
            pre => pre.strip_suffix(SNAPSHOT).and_then(|it| it.strip_suffix(['-', '.'])),
        };
        let Some(rest) = rest else { return Ok(Self { version, snapshot: false }) };
        version.pre = Prerelease::new(rest).map_err(|_| IdentityError::Version { found: text.to_owned() })?;
        Ok(Self { version, snapshot: true })
    }

    /// From fields of their own.
    ///
    /// # Errors
    /// When the version is none, or says itself that it is a snapshot.
    pub fn from_fields(text: &str, snapshot: bool) -> Result<Self, IdentityError> {
        let release = Self::parse(text)?;
        if release.snapshot {
            return Err(IdentityError::SnapshotInVersion { found: text.to_owned() });
        }
        Ok(Self { version: release.version, snapshot })
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Version { major, minor, patch, pre, build } = &self.version;
        write!(f, "{major}.{minor}.{patch}")?;
        if !pre.is_empty() {
            write!(f, "-{pre}")?;
        }
        if self.snapshot {
            write!(f, "-{SNAPSHOT}")?;
        }
        if !build.is_empty() {
            write!(f, "+{build}")?;
        }
        Ok(())
    }
}

fn version(text: &str) -> Result<Version, IdentityError> {
    let parsed = if text.len() > LONGEST_VERSION { None } else { Version::parse(text).ok() };
    parsed.ok_or_else(|| IdentityError::Version { found: crate::path::shortened(text) })
}

/// The hash of the commit that a build was made of: lower-case hex digits, at least [`SHORTEST_HASH`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CommitHash(String);

impl CommitHash {
    /// Takes a hash; upper-case digits are made lower-case.
    ///
    /// # Errors
    /// When it is too short or too long, or has another character.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let fits = (SHORTEST_HASH..=LONGEST_HASH).contains(&text.len());
        if fits && text.bytes().all(|it| it.is_ascii_hexdigit()) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err(IdentityError::Hash { found: crate::path::shortened(text) })
    }

    /// All of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first digits, or all of them when there are fewer.
    #[must_use]
    pub fn first(&self, digits: usize) -> &str {
        self.0.get(..digits).unwrap_or(&self.0)
    }
}

impl fmt::Display for CommitHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which build a package is. Two are the same build, so that an upgrade from one to the other is none, when all three
/// fields are equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The version, without `SNAPSHOT`.
    pub version: Version,
    /// Whether it was built for a test and not as a release.
    pub snapshot: bool,
    /// The commit.
    pub hash: CommitHash,
}

impl Identity {
    /// A release of a commit.
    #[must_use]
    pub fn new(release: Release, hash: CommitHash) -> Self {
        Self { version: release.version, snapshot: release.snapshot, hash }
    }

    /// The version with whether it is a snapshot.
    #[must_use]
    pub fn release(&self) -> Release {
        Release { version: self.version.clone(), snapshot: self.snapshot }
    }

    /// The folder below `versions/`: `<version>[-SNAPSHOT]-<first 8 digits of the hash>`.
    #[must_use]
    pub fn directory_name(&self) -> String {
        format!("{}-{}", self.release(), self.hash.first(8))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.release(), self.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_says_whether_it_is_a_snapshot() {
        for (text, version, snapshot) in [
            ("8.13.0", "8.13.0", false),
            ("8.13.0-SNAPSHOT", "8.13.0", true),
            ("8.13.0-rc1", "8.13.0-rc1", false),
            ("8.13.0-rc1-SNAPSHOT", "8.13.0-rc1", true),
            ("8.13.0-SNAPSHOT+build5", "8.13.0+build5", true),
        ] {
            let release = Release::parse(text).unwrap();
            assert_eq!((release.version.to_string().as_str(), release.snapshot), (version, snapshot));
            assert_eq!(release.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in ["", "8", "8.13", "v8.13.0", "../8.13.0", "8.13.0/x", "8.13.0 ", &"9".repeat(100)] {
            assert!(matches!(Release::parse(text), Err(IdentityError::Version { .. })), "{text}");
        }
        assert!(matches!(
            Release::from_fields("8.13.0-SNAPSHOT", false),
            Err(IdentityError::SnapshotInVersion { .. })
        ));
    }

    #[test]
    fn a_hash_is_of_hex_digits() {
        assert_eq!(CommitHash::parse("15658B").unwrap().as_str(), "15658b");
        for text in ["", "15658", "15658g", "../../", "15658b\n", &"a".repeat(65)] {
            assert!(matches!(CommitHash::parse(text), Err(IdentityError::Hash { .. })), "{text}");
        }
    }

    #[test]
    fn the_same_build_is_the_same_in_all_three() {
        let identity =
            |version, hash| Identity::new(Release::parse(version).unwrap(), CommitHash::parse(hash).unwrap());
        let one = identity("8.13.0", "15658b38b48b");
        assert_eq!(one, identity("8.13.0", "15658B38b48b"));
        for other in [
            identity("8.13.1", "15658b38b48b"),
            identity("8.13.0-SNAPSHOT", "15658b38b48b"),
            identity("8.13.0", "15658b38b48c"),
        ] {
            assert_ne!(one, other);
        }
        assert_eq!(one.directory_name(), "8.13.0-15658b38");
        assert_eq!(identity("8.13.0-SNAPSHOT", "15658b").directory_name(), "8.13.0-SNAPSHOT-15658b");
    }
}
