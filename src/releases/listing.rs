//! The releases that a signed list of files holds. A pure function of the list.

use std::collections::{BTreeMap, BTreeSet};

use tough::schema::Targets;

use crate::about::{About, PRODUCT};
use crate::error::{Role, TrustError};
use crate::hash;
use crate::names::{ArchiveFormat, ArchiveName};
use crate::target::Target;
use crate::version::{Platform, Version};

/// A release for one system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// What was signed of it.
    pub about: About,
    /// The same build, packed in one way or two, `.tar.gz` first.
    pub archives: Vec<Archive>,
    /// The list of its files.
    pub files: Target,
}

/// An archive of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// The file.
    pub target: Target,
    /// How it is packed.
    pub format: ArchiveFormat,
}

/// What is signed of one file.
type Signed = (Target, Result<About, serde_json::Error>);

/// The listed files, by name. Files that are not of ours are there too: a later form of repository may hold other things,
/// and one bad release is no reason to refuse the others.
#[derive(Debug)]
pub(crate) struct Listing(BTreeMap<String, Signed>);

impl Listing {
    pub(crate) fn of(targets: &Targets) -> Self {
        let signed = targets.targets.iter().map(|(name, it)| {
            let name = name.raw().to_owned();
            let sha256 = hash::hex(&it.hashes.sha256);
            (name.clone(), (Target { name, length: it.length, sha256 }, About::read(&it.custom)))
        });
        Self(signed.collect())
    }

    /// The highest floor that one of our files names.
    pub(crate) fn floor(&self) -> Option<Version> {
        let ours = self.0.values().filter_map(|(_, about)| about.as_ref().ok());
        ours.filter(|about| about.product == PRODUCT).filter_map(|about| about.floor).max()
    }

    /// The versions and systems that the names of archives say, the oldest first.
    pub(crate) fn keys(&self) -> BTreeSet<(Version, Platform)> {
        let archives = self.0.keys().filter_map(|name| name.parse::<ArchiveName>().ok());
        archives.map(|it| (it.version, it.platform)).collect()
    }

    /// A release, every part of which is what its name says.
    pub(crate) fn release(&self, version: Version, platform: &Platform) -> Result<Release, TrustError> {
        let mut archives = Vec::new();
        let mut of = None;
        for format in ArchiveFormat::ALL {
            let name = ArchiveName { version, platform: platform.clone(), format };
            let Some((target, about)) = self.checked(&name.to_string(), &name)? else { continue };
            of = Some(same_build(of, &target.name, about)?);
            archives.push(Archive { target: target.clone(), format });
        }
        let Some(about) = of else { return Err(self.not_there(version, platform)) };
        let name = ArchiveName { version, platform: platform.clone(), format: ArchiveFormat::TarGz }.files();
        let archive = ArchiveName { version, platform: platform.clone(), format: ArchiveFormat::TarGz };
        let Some((files, about_files)) = self.checked(&name, &archive)? else {
            return Err(TrustError::Incomplete { version, platform: platform.clone(), what: name });
        };
        same_build(Some(about), &name, about_files)?;
        Ok(Release { about: about.clone(), archives, files: files.clone() })
    }

    /// A file that is of what `of` says.
    fn checked(&self, name: &str, of: &ArchiveName) -> Result<Option<(&Target, &About)>, TrustError> {
        let Some((target, about)) = self.0.get(name) else { return Ok(None) };
        let about = about.as_ref().map_err(|err| TrustError::Unreadable {
            role: Role::Targets,
            source: format!("what it says of {name}: {err}").into(),
        })?;
        same(name, "product", &about.product, PRODUCT)?;
        same(name, "version", &about.version.to_string(), &of.version.to_string())?;
        same(name, "snapshot", &about.snapshot.to_string(), &of.version.is_snapshot().to_string())?;
        same(name, "os", &about.os, &of.platform.os)?;
        same(name, "arch", &about.arch, &of.platform.arch)?;
        Ok(Some((target, about)))
    }

    fn not_there(&self, version: Version, wanted: &Platform) -> TrustError {
        let keys = self.keys();
        let of_version = keys.iter().filter(|(it, _)| *it == version);
        let platforms: Vec<String> = of_version.map(|(_, platform)| platform.to_string()).collect();
        if !platforms.is_empty() {
            let there = platforms.join(", ");
            return TrustError::WrongPlatform { version, wanted: wanted.clone(), there };
        }
        /// Versions that an error names, the newest first.
        const NAMED: usize = 5;
        let versions: BTreeSet<Version> = keys.into_iter().map(|(version, _)| version).collect();
        let newest: Vec<String> = versions.iter().rev().take(NAMED).map(Version::to_string).collect();
        let there = if newest.is_empty() { "none".into() } else { newest.join(", ") };
        TrustError::NoSuchVersion { version, there }
    }
}

/// All files of a release are of one build and one channel.
fn same_build<'a>(first: Option<&'a About>, name: &str, about: &'a About) -> Result<&'a About, TrustError> {
    let Some(first) = first else { return Ok(about) };
    same(name, "hash", &about.hash, &first.hash)?;
    same(name, "channel", &about.channel, &first.channel)?;
    Ok(first)
}

fn same(name: &str, field: &'static str, found: &str, expected: &str) -> Result<(), TrustError> {
    if found == expected {
        return Ok(());
    }
    Err(TrustError::Mislabelled { name: name.into(), field, found: found.into(), expected: expected.into() })
}
