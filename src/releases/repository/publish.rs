//! Adds releases: archives, with what lies beside them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sha2::{Sha256, Sha512};
use tough::TargetName;
use tough::schema::{self, Hashes, Targets};

use super::error::RepositoryError;
use super::{Repository, TARGETS};
use crate::about::{About, PRODUCT};
use crate::files::{self, FileError};
use crate::hash;
use crate::keys::Keys;
use crate::names::{ArchiveName, FILES};
use crate::target::{FILES_BYTES, Target, verify_file};
use crate::version::Version;

/// An archive to be added. `<archive>.sha512` lies beside it, and the list of its files: `<name without ending>.files.json`,
/// or `<archive>.files.json`.
#[derive(Debug, Clone)]
pub struct NewRelease {
    /// The archive.
    pub archive: PathBuf,
    /// Who gets it.
    pub channel: String,
    /// The commit that it was built from, where the list of files does not say so as `hash` or `package.hash`.
    pub hash: Option<String>,
    /// No version below this one is to be installed any more.
    pub floor: Option<Version>,
}

/// A file that is in the repository now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The file.
    pub target: Target,
    /// What was signed of it.
    pub about: About,
}

impl Repository {
    /// Adds archives with their lists of files, and signs once. Archives of a version that is there already are refused if
    /// they differ; those of a snapshot take the place of the former build, on all its formats.
    ///
    /// # Errors
    /// When a file is not what lies beside it says, a version is released already, a key is missing. Nothing is changed then
    /// but for files that nobody names.
    pub fn add(
        &mut self,
        new: &[NewRelease],
        keys: &Keys,
        now: Timestamp,
    ) -> Result<Vec<Published>, RepositoryError> {
        let mut targets = self.targets.signed.clone();
        let mut published: Vec<Published> = Vec::new();
        for it in new {
            let both = examine(it)?;
            remove_former(&mut targets, &both[0].file.about)?;
            for Found { file, path: source } in both {
                insert(&mut targets, &file)?;
                let path =
                    self.folder.join(TARGETS).join(format!("{}.{}", file.target.sha256, file.target.name));
                if verify_file(&path, &file.target).is_err() {
                    files::copy(&source, &path)?;
                    verify_file(&path, &file.target)?;
                }
                if !published.contains(&file) {
                    published.push(file);
                }
            }
        }
        self.sign_targets(targets, keys, now)?;
        Ok(published)
    }
}

/// A file to be added, and where it lies now.
struct Found {
    file: Published,
    path: PathBuf,
}

/// An archive and its list of files, checked against what lies beside it.
fn examine(new: &NewRelease) -> Result<[Found; 2], RepositoryError> {
    let archive = &new.archive;
    let file_name = archive.file_name().and_then(|it| it.to_str()).unwrap_or_default();
    let name: ArchiveName =
        file_name.parse().map_err(|source| RepositoryError::Name { path: archive.clone(), source })?;
    if let Some(floor) = new.floor.filter(|floor| *floor > name.version) {
        return Err(RepositoryError::Floor { floor, version: name.version });
    }
    check_sha512(archive, file_name)?;
    let list = beside(archive, &name, file_name)?;
    let hash = build(&list, new.hash.as_deref())?;
    let about = About {
        product: PRODUCT.into(),
        version: name.version,
        snapshot: name.version.is_snapshot(),
        hash,
        os: name.platform.os.clone(),
        arch: name.platform.arch.clone(),
        channel: new.channel.clone(),
        floor: new.floor,
    };
    let found = |path: &Path, name: String| -> Result<Found, RepositoryError> {
        let file = Published { target: measure(path, name)?, about: about.clone() };
        Ok(Found { file, path: path.to_owned() })
    };
    Ok([found(archive, name.to_string())?, found(&list, name.files())?])
}

fn measure(path: &Path, name: String) -> Result<Target, RepositoryError> {
    let (length, sha256) = hash::file::<Sha256>(path, u64::MAX).map_err(FileError::at("read", path))?;
    Ok(Target { name, length, sha256: hash::hex(&sha256) })
}

/// Takes a former build of a snapshot out of the list.
fn remove_former(targets: &mut Targets, about: &About) -> Result<(), RepositoryError> {
    let former = |(name, it): (&TargetName, &schema::Target)| {
        let of = About::read(&it.custom).ok()?;
        let is_same = of.version == about.version && of.platform() == about.platform();
        (is_same && of.hash != about.hash).then(|| name.clone())
    };
    let names: Vec<TargetName> = targets.targets.iter().filter_map(former).collect();
    if let Some(name) = names.first().filter(|_| !about.snapshot) {
        return Err(RepositoryError::Released { name: name.raw().into() });
    }
    for name in names {
        targets.targets.remove(&name);
    }
    Ok(())
}

fn insert(targets: &mut Targets, file: &Published) -> Result<(), RepositoryError> {
    let name = TargetName::new(&file.target.name).map_err(RepositoryError::internal)?;
    let sha256 = file.target.sha256.parse().map_err(RepositoryError::internal)?;
    let target = schema::Target {
        length: file.target.length,
        hashes: Hashes { sha256, _extra: HashMap::new() },
        custom: file.about.write(),
        _extra: HashMap::new(),
    };
    if let Some(former) = targets.targets.get(&name)
        && former.hashes != target.hashes
        && !file.about.snapshot
    {
        return Err(RepositoryError::Released { name: file.target.name.clone() });
    }
    targets.targets.insert(name, target);
    Ok(())
}

/// Checks an archive against `<archive>.sha512`, lines of `<hash> <name>` as `sha512sum` writes them.
fn check_sha512(archive: &Path, file_name: &str) -> Result<(), RepositoryError> {
    let path = archive.with_file_name(format!("{file_name}.sha512"));
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            let needed = format!("{file_name}.sha512");
            return Err(RepositoryError::NothingBeside { archive: archive.to_owned(), needed });
        }
        Err(err) => return Err(FileError::at("read", &path)(err).into()),
    };
    let line = text.lines().filter_map(|line| line.split_once(' ')).rfind(|(_, name)| {
        let name = name.trim_start_matches([' ', '*']);
        name.rsplit(['/', '\\']).next() == Some(file_name)
    });
    let (_, sha512) = hash::file::<Sha512>(archive, u64::MAX).map_err(FileError::at("read", archive))?;
    let expected = hash::hex(&sha512);
    match line {
        Some((found, _)) if found.eq_ignore_ascii_case(&expected) => Ok(()),
        Some((found, _)) => Err(RepositoryError::Differs {
            path,
            found: format!("SHA-512 {}", found.chars().take(128).collect::<String>()),
            expected: format!("{expected}, the archive's"),
        }),
        None => Err(RepositoryError::Differs {
            path,
            found: "no line of the archive".into(),
            expected: format!("a line with {file_name}"),
        }),
    }
}

/// The list of files beside an archive.
fn beside(archive: &Path, name: &ArchiveName, file_name: &str) -> Result<PathBuf, RepositoryError> {
    let names = [format!("{file_name}{FILES}"), name.files()];
    let found = names.iter().map(|name| archive.with_file_name(name)).find(|path| path.is_file());
    found.ok_or_else(|| RepositoryError::NothingBeside { archive: archive.to_owned(), needed: name.files() })
}

/// The commit that the build is of, as its list of files or the caller says.
fn build(list: &Path, given: Option<&str>) -> Result<String, RepositoryError> {
    let differs =
        |found: String, expected: String| RepositoryError::Differs { path: list.to_owned(), found, expected };
    let length = std::fs::metadata(list).map_err(FileError::at("read", list))?.len();
    if length > FILES_BYTES {
        return Err(differs(format!("{length} bytes"), format!("at most {FILES_BYTES}")));
    }
    let bytes = std::fs::read(list).map_err(FileError::at("read", list))?;
    let value: serde_json::Value = serde_json::from_slice(&bytes)
        .map_err(|source| RepositoryError::Unreadable { path: list.to_owned(), source })?;
    let said = value.get("hash").or_else(|| value.pointer("/package/hash")).and_then(|it| it.as_str());
    match (said, given) {
        (Some(said), Some(given)) if said != given => {
            Err(differs(format!("build {said}"), format!("build {given}, as given")))
        }
        (Some(hash), _) | (None, Some(hash)) => Ok(hash.to_owned()),
        (None, None) => Err(differs(
            "no hash of the build".into(),
            "\"hash\" in it, or the hash given with --build".into(),
        )),
    }
}
