//! The names of files in a repository: `outrider-<version>[-SNAPSHOT]-<os>-<arch>.tar.gz`, and its list of files.

use std::fmt;
use std::str::FromStr;

use crate::about::PRODUCT;
use crate::version::{Platform, Version};

/// How the name of a list of files ends, after the archive's name without its ending.
pub(crate) const FILES: &str = ".files.json";
/// The longest name of an archive, so that it fits any file system with its hash before it.
const LONGEST: usize = 150;
/// The longest name of a file in a repository.
const LONGEST_FILE: usize = 240;

/// How an archive is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ArchiveFormat {
    /// `.tar.gz`
    TarGz,
    /// `.zip`
    Zip,
}

impl ArchiveFormat {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::TarGz, Self::Zip];

    /// How its file's name ends, with the dot.
    #[must_use]
    pub fn ending(self) -> &'static str {
        match self {
            Self::TarGz => ".tar.gz",
            Self::Zip => ".zip",
        }
    }
}

/// What the name of an archive says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveName {
    /// Which version it holds.
    pub version: Version,
    /// What that is built for.
    pub platform: Platform,
    /// How it is packed.
    pub format: ArchiveFormat,
}

/// A file name that no archive of ours has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of an archive: expected one such as outrider-1.4.0-linux-x86_64.tar.gz or .zip")]
pub struct NameError(String);

impl ArchiveName {
    /// The name without its ending.
    #[must_use]
    pub fn stem(&self) -> String {
        format!("{PRODUCT}-{}-{}", self.version, self.platform)
    }

    /// The name of the list of files that goes with it; a `.tar.gz` and a `.zip` of one build share it.
    #[must_use]
    pub fn files(&self) -> String {
        self.stem() + FILES
    }
}

impl fmt::Display for ArchiveName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&(self.stem() + self.format.ending()))
    }
}

impl FromStr for ArchiveName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        let parsed = ArchiveFormat::ALL.into_iter().find_map(|format| {
            let (version, platform) = stem(name.strip_suffix(format.ending())?)?;
            Some(Self { version, platform, format })
        });
        parsed
            .filter(|_| is_plain(name) && name.len() <= LONGEST)
            .ok_or_else(|| NameError(name.chars().take(100).collect()))
    }
}

fn stem(stem: &str) -> Option<(Version, Platform)> {
    let rest = stem.strip_prefix(PRODUCT)?.strip_prefix('-')?;
    let (rest, arch) = rest.rsplit_once('-')?;
    let (version, os) = rest.rsplit_once('-')?;
    let is_word = |it: &str| {
        !it.is_empty() && it.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'_')
    };
    let platform = Platform { os: os.into(), arch: arch.into() };
    (is_word(os) && is_word(arch)).then_some(())?;
    Some((version.parse().ok()?, platform))
}

/// Whether a name is that of a file and nothing else on every system: no path, no device, no hidden file.
pub(crate) fn is_plain(name: &str) -> bool {
    name.len() <= LONGEST_FILE
        && name.starts_with(|it: char| it.is_ascii_alphanumeric())
        && !name.ends_with('.')
        && name.bytes().all(|it| it.is_ascii_alphanumeric() || b"._-".contains(&it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_known_by_its_name() {
        for (name, version, platform, files) in [
            (
                "outrider-1.4.0-linux-x86_64.tar.gz",
                "1.4.0",
                "linux-x86_64",
                "outrider-1.4.0-linux-x86_64.files.json",
            ),
            (
                "outrider-1.4.0-SNAPSHOT-windows-aarch64.zip",
                "1.4.0-SNAPSHOT",
                "windows-aarch64",
                "outrider-1.4.0-SNAPSHOT-windows-aarch64.files.json",
            ),
        ] {
            let parsed: ArchiveName = name.parse().unwrap();
            assert_eq!(
                (parsed.version.to_string(), parsed.platform.to_string()),
                (version.into(), platform.into())
            );
            assert_eq!((parsed.to_string(), parsed.files()), (name.into(), files.into()));
        }
    }

    #[test]
    fn other_names_are_refused() {
        for name in [
            "outrider-1.4.0-linux-x86_64",
            "outrider-1.4.0-linux-x86_64.tar",
            "outrider-1.4-linux-x86_64.zip",
            "outrider-1.4.0-linux.zip",
            "outrider-1.4.0--x86_64.zip",
            "outrider-1.4.0-Linux-x86_64.zip",
            "other-1.4.0-linux-x86_64.zip",
            "../outrider-1.4.0-linux-x86_64.zip",
            "outrider-1.4.0-lin/ux-x86_64.zip",
        ] {
            assert!(name.parse::<ArchiveName>().is_err(), "{name}");
        }
        for name in ["", ".x", "a/b", "a\\b", "a:b", "a\0b", "a ", "a.", "é"] {
            assert!(!is_plain(name), "{name}");
        }
    }
}
