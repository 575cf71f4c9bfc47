//! Which version an order means: a release among those that were signed, or the version before.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use outrider_protocol::bulk::RELEASES_PATH;
use outrider_protocol::upgrade::UpgradeState;
use outrider_releases::{Archive, Downgrade, Platform, Release, Settings, Trust, TrustError, Version};
use outrider_upgrade::mirror::Mirror;
use outrider_upgrade::{Completed, FileList, Identity, installed, lacking, trusted_root};
use outrider_versions::{Link, VersionName};

use super::attempt::{Attempt, Ended};
use super::because;

/// The most that a version's files may have together, in bytes.
const MOST_BYTES: u64 = 1 << 30;
/// Nothing has begun yet.
const AT: UpgradeState = UpgradeState::Requested;

/// A version that an order means.
pub(super) struct Found {
    pub(super) name: VersionName,
    pub(super) identity: Identity,
    pub(super) origin: Origin,
}

/// Where it comes from.
pub(super) enum Origin {
    /// From a mirror.
    Package(Box<Package>),
    /// It is in place already, and is taken as it is or not at all.
    InPlace,
}

/// A release that was signed.
pub(super) struct Package {
    /// That have it, the first choice first.
    pub(super) mirrors: Vec<Mirror>,
    pub(super) archive: Archive,
    /// As signed.
    pub(super) list: FileList,
    /// What the package lacks of what a version has.
    pub(super) lacks: Option<Completed>,
}

impl Package {
    /// The files of the version when it is in place.
    pub(super) fn placed(&self) -> &FileList {
        self.lacks.as_ref().map_or(&self.list, |it| &it.list)
    }
}

impl Attempt<'_> {
    /// The version that `previous` points to.
    pub(super) fn find_previous(&self) -> Result<Found, Box<Ended>> {
        let seen = self.versions.see().map_err(|err| Box::new(because(AT, &err, true)))?;
        let Some(name) = seen.tree.whole(&seen.links.previous) else {
            let reason = format!(
                "there is no version before: {} points to none that is in place; name the one to go to, and allow the \
                 downgrade",
                self.versions.layout().link(Link::Previous).display()
            );
            return Err(self.refused(AT, reason));
        };
        let folder = self.versions.layout().version(name);
        let Some(identity) = installed(&folder) else {
            let reason = format!("the version before, {}, does not say which build it is", folder.display());
            return Err(self.refused(AT, reason));
        };
        Ok(Found { name: name.clone(), identity, origin: Origin::InPlace })
    }

    /// The release in what was signed, at the first source that has it.
    pub(super) async fn find(&self) -> Result<Found, Box<Ended>> {
        let sources = self.sources()?;
        let mut mirrors = self.mirrors(&sources)?;
        let mut failures = Vec::new();
        for at in 0..mirrors.len() {
            match self.find_at(&mirrors[at]).await {
                Ok((release, list)) => {
                    mirrors.rotate_left(at);
                    return self.found(release, list, mirrors);
                }
                Err(ended) => failures.push(*ended),
            }
        }
        Err(Box::new(joined(&sources, failures)))
    }

    fn found(&self, release: Release, list: FileList, mirrors: Vec<Mirror>) -> Result<Found, Box<Ended>> {
        let identity = list.package().clone();
        let Identity { version, snapshot, hash } = &identity;
        let name = VersionName::of_build(&version.to_string(), *snapshot, hash.as_str())
            .map_err(|err| Box::new(because(AT, &err, false)))?;
        let Some(archive) = release.archives.into_iter().next() else {
            return Err(self.refused(AT, "the release has no package".to_owned()));
        };
        let lacks = lacking(&list).map_err(|err| Box::new(because(AT, &err, false)))?;
        let package = Package { mirrors, archive, list, lacks };
        Ok(Found { name, identity, origin: Origin::Package(Box::new(package)) })
    }

    async fn find_at(&self, mirror: &Mirror) -> Result<(Release, FileList), Box<Ended>> {
        let root = self.context.root();
        let trusted = trusted_root(root).map_err(|err| Box::new(because(AT, &err, false)))?;
        let folder = root.state().join("trust");
        let settings = Settings::new(&trusted, &folder, Timestamp::now());
        let untrusted = |err| Box::new(because(AT, &err, TrustError::is_retryable(&err)));
        let trust = Trust::open(settings, Arc::new(mirror.clone())).await.map_err(untrusted)?;
        let release = self.release(&trust)?;
        let listed = trust.read(&release.files).await.map_err(untrusted)?;
        let list = FileList::parse(&listed, MOST_BYTES).map_err(|err| Box::new(because(AT, &err, false)))?;
        self.check_list(&list, &release)?;
        Ok((release, list))
    }

    fn sources(&self) -> Result<Vec<String>, Box<Ended>> {
        if !self.order.sources.is_empty() {
            return Ok(self.order.sources.clone());
        }
        let Some(config) = self.config else {
            let reason = "this root has no backend to take releases from: name a source of them".to_owned();
            return Err(self.refused(AT, reason));
        };
        Ok(vec![format!("{}{RELEASES_PATH}", config.backend)])
    }

    fn mirrors(&self, sources: &[String]) -> Result<Vec<Mirror>, Box<Ended>> {
        let ca_file: Option<&Path> = self.config.and_then(|it| it.ca_file.as_deref());
        let mirrors = sources.iter().map(|it| Mirror::named(it, ca_file));
        mirrors.collect::<Result<_, _>>().map_err(|err| Box::new(because(AT, &err, false)))
    }

    fn release(&self, trust: &Trust) -> Result<Release, Box<Ended>> {
        let platform = Platform::here();
        let Some(wanted) = &self.order.version else {
            let channel = self.config.map_or("stable", |it| &it.channel);
            return trust.latest(channel, &platform).ok_or_else(|| {
                let reason = format!("the source has no release of the channel {channel:?} for {platform}");
                self.refused(AT, reason)
            });
        };
        let version: Version = wanted.parse().map_err(|err| Box::new(because(AT, &err, false)))?;
        let downgrade = if self.order.below_floor { Downgrade::Allowed } else { Downgrade::Refused };
        trust
            .find(version, &platform, downgrade)
            .map_err(|err| Box::new(because(AT, &err, err.is_retryable())))
    }

    /// The list of files must be of the release that lists it.
    fn check_list(&self, list: &FileList, release: &Release) -> Result<(), Box<Ended>> {
        let about = &release.about;
        let found =
            (list.package().release().to_string(), list.package().hash.as_str(), list.os(), list.arch());
        let expected =
            (about.version.to_string(), about.hash.as_str(), about.os.as_str(), about.arch.as_str());
        if found == expected {
            return Ok(());
        }
        let reason = format!("the list of files is of {found:?}, expected {expected:?}");
        Err(self.refused(AT, reason))
    }
}

/// What kept each of the sources from having it, as one end.
fn joined(sources: &[String], failures: Vec<Ended>) -> Ended {
    let several = failures.len() > 1;
    let retryable = failures.iter().any(|it| it.retryable);
    let whys = sources.iter().zip(failures).map(|(source, failure)| {
        let why = failure.reason.unwrap_or_default();
        if several { format!("{source}: {why}") } else { why }
    });
    let reason = whys.collect::<Vec<_>>().join("; ");
    Ended { reason: Some(reason), failed_at: Some(AT), retryable, ..Ended::default() }
}
