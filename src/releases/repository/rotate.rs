//! Roots: the first one, and the next, signed by the keys of both.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::path::Path;

use jiff::Timestamp;
use tough::schema::decoded::{Decoded, Hex};
use tough::schema::key::Key;
use tough::schema::{RoleKeys, Root, Signed};

use super::error::RepositoryError;
use super::{Repository, Thresholds, expires, next, sign};
use crate::error::Role;
use crate::files::{self, FileError};
use crate::keys::Keys;
use crate::transport::METADATA;

/// What a rotation changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// The version of the new root.
    pub version: u64,
    /// The roles whose keys are others now.
    pub changed: Vec<Role>,
}

/// A role's keys, by id.
type PublicKeys = HashMap<Decoded<Hex>, Key>;

/// The keys of a role in a folder, as a root names them; none where there are none.
fn role_keys(
    role: Role,
    keys: &Keys,
    threshold: NonZeroU64,
) -> Result<Option<(RoleKeys, PublicKeys)>, RepositoryError> {
    let found = keys.of_role(role)?;
    if found.is_empty() {
        return Ok(None);
    }
    if (found.len() as u64) < threshold.get() {
        return Err(RepositoryError::Threshold { role, keys: found.len(), threshold: threshold.get() });
    }
    let keyids = found.iter().map(|key| key.id.clone()).collect();
    let public = found.into_iter().map(|key| (key.id, key.public)).collect();
    Ok(Some((RoleKeys { keyids, threshold, _extra: HashMap::new() }, public)))
}

fn threshold(role: Role, thresholds: Thresholds) -> NonZeroU64 {
    match role {
        Role::Root => thresholds.root,
        Role::Targets => thresholds.targets,
        // One server each.
        Role::Snapshot | Role::Timestamp => NonZeroU64::MIN,
    }
}

/// The first root of a repository.
pub(super) fn first_root(
    keys: &Keys,
    thresholds: Thresholds,
    expires: Timestamp,
) -> Result<Signed<Root>, RepositoryError> {
    let mut root = Root {
        spec_version: sign::SPEC.into(),
        consistent_snapshot: true,
        version: NonZeroU64::MIN,
        expires,
        keys: HashMap::new(),
        roles: HashMap::new(),
        _extra: HashMap::new(),
    };
    for role in Role::ALL {
        let needed = threshold(role, thresholds);
        let (of_role, public) =
            role_keys(role, keys, needed)?.ok_or_else(|| keys.missing(role, 0, needed.get(), &[]))?;
        root.keys.extend(public);
        root.roles.insert(role.into(), of_role);
    }
    let signers = sign::signers(Role::Root, &root, keys)?;
    sign::sign_with(root, &signers)
}

impl Repository {
    /// Makes the next root: with the keys in `new` for the roles that have some there, and the present keys for the others.
    /// It is signed by as many of the present root keys (`old`) and of the new ones as each threshold says, so that agents
    /// with the old root follow. Whatever a changed role had signed is signed anew.
    ///
    /// `root_threshold` is how many root keys must sign from now on; without it, and for the other roles, it stays.
    ///
    /// With nothing in `new` it is the same root with a later expiry.
    ///
    /// # Errors
    /// When a role's keys are too few, in the old or the new folder, or a file cannot be written.
    pub fn rotate_root(
        &mut self,
        old: &Keys,
        new: Option<&Keys>,
        root_threshold: Option<NonZeroU64>,
        now: Timestamp,
    ) -> Result<Rotation, RepositoryError> {
        let before = &self.root.signed;
        let mut root = before.clone();
        let mut changed = Vec::new();
        for role in Role::ALL {
            let present = before.roles.get(&role.into()).map_or(NonZeroU64::MIN, |it| it.threshold);
            let needed = root_threshold.filter(|_| role == Role::Root).unwrap_or(present);
            if let Some((of_role, public)) =
                new.map(|keys| role_keys(role, keys, needed)).transpose()?.flatten()
            {
                root.keys.extend(public);
                root.roles.insert(role.into(), of_role);
                changed.push(role);
            } else if let Some(of_role) = root.roles.get_mut(&role.into()) {
                if (of_role.keyids.len() as u64) < needed.get() {
                    let keys = of_role.keyids.len();
                    return Err(RepositoryError::Threshold { role, keys, threshold: needed.get() });
                }
                of_role.threshold = needed;
            }
        }
        root.version = next(before.version);
        root.expires = expires(&self.expiry, Role::Root, now);
        let named = |id: &Decoded<Hex>| root.roles.values().any(|it| it.keyids.contains(id));
        let unnamed: Vec<_> = root.keys.keys().filter(|id| !named(id)).cloned().collect();
        unnamed.iter().for_each(|id| drop(root.keys.remove(id)));

        let all = new.map_or_else(|| old.clone(), |new| new.and(old));
        let mut signers = sign::signers(Role::Root, before, old)?;
        for key in sign::signers(Role::Root, &root, &all)? {
            if signers.iter().all(|it| it.id != key.id) {
                signers.push(key);
            }
        }
        // What is needed after the root is looked for before it is written.
        for role in changed.iter().filter(|role| **role != Role::Root) {
            sign::signers(*role, &root, &all)?;
        }
        if changed.iter().any(|role| *role != Role::Root) {
            sign::signers(Role::Snapshot, &root, &all)?;
            sign::signers(Role::Timestamp, &root, &all)?;
        }
        let root = sign::sign_with(root, &signers)?;
        self.aside(|repository| {
            sign::write(&repository.out, &root)?;
            repository.root = root;
            if changed.contains(&Role::Targets) {
                repository.sign_targets(repository.targets.signed.clone(), &all, now)?;
            } else if changed.iter().any(|role| matches!(role, Role::Snapshot | Role::Timestamp)) {
                repository.sign_online(true, &all, now)?;
            }
            Ok(())
        })?;
        let version = self.root.signed.version.get();
        Ok(Rotation { version, changed })
    }

    /// Lets `make` write metadata aside, and moves them into place together.
    fn aside(
        &mut self,
        make: impl FnOnce(&mut Self) -> Result<(), RepositoryError>,
    ) -> Result<(), RepositoryError> {
        let before = (self.root.clone(), self.targets.clone(), self.snapshot.clone(), self.timestamp.clone());
        let at = FileError::at("make a folder in", &self.folder);
        let aside = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(&self.folder).map_err(at)?;
        files::make_folder(&aside.path().join(METADATA), false)?;
        self.out = aside.path().to_owned();
        let made = make(self);
        self.out.clone_from(&self.folder);
        let moved = made.and_then(|()| {
            let ready = self.folder.join(READY);
            std::fs::rename(aside.path(), &ready).map_err(FileError::at("rename to", &ready))?;
            files::sync_folder(&self.folder)?;
            finish(&self.folder)
        });
        if moved.is_err() {
            (self.root, self.targets, self.snapshot, self.timestamp) = before;
        }
        moved
    }
}

/// A folder with new metadata that all belong together. Once it has this name they count.
const READY: &str = ".rotation";
/// How the name of one begins that is not complete.
const UNFINISHED: &str = ".unfinished-";

/// Moves new metadata into place, the timestamp last, and removes what was given up. Doing it twice does no harm.
pub(super) fn finish(folder: &Path) -> Result<(), RepositoryError> {
    for entry in std::fs::read_dir(folder).map_err(FileError::at("list", folder))?.flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            std::fs::remove_dir_all(entry.path()).map_err(FileError::at("remove", &entry.path()))?;
        }
    }
    let ready = folder.join(READY);
    if !ready.is_dir() {
        return Ok(());
    }
    let from = ready.join(METADATA);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&from).map_err(FileError::at("list", &from))? {
        names.push(entry.map_err(FileError::at("list", &from))?.file_name());
    }
    names.sort_by_key(|name| name == "timestamp.json");
    for name in names {
        files::copy(&from.join(&name), &folder.join(METADATA).join(&name))?;
    }
    Ok(std::fs::remove_dir_all(&ready).map_err(FileError::at("remove", &ready))?)
}
