//! Signs, writes, reads and verifies metadata files.

use std::collections::HashMap;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use tough::schema::{Hashes, Metafile, RoleKeys, Root, Signature, Signed};

use super::error::RepositoryError;
use crate::error::Role;
use crate::files::{self, FileError};
use crate::keys::{Keys, SigningKey};
use crate::transport::METADATA;

/// The version of the format.
pub(crate) const SPEC: &str = "1.0.0";

/// The keys of a role that lie in `keys`, at least as many as it needs.
pub(crate) fn signers(role: Role, root: &Root, keys: &Keys) -> Result<Vec<SigningKey>, RepositoryError> {
    let of_role = root.roles.get(&role.into());
    let ids = of_role.map_or(&[][..], |it: &RoleKeys| &it.keyids);
    let needed = of_role.map_or(1, |it| it.threshold.get());
    let mut found = keys.of_role(role)?;
    found.retain(|key| ids.contains(&key.id));
    if (found.len() as u64) < needed {
        return Err(keys.missing(role, found.len(), needed, ids).into());
    }
    Ok(found)
}

/// Signs a role's metadata with its keys.
pub(crate) fn sign<T: tough::schema::Role + Serialize>(
    metadata: T,
    root: &Root,
    keys: &Keys,
) -> Result<Signed<T>, RepositoryError> {
    let signers = signers(T::TYPE.into(), root, keys)?;
    sign_with(metadata, &signers)
}

/// Signs metadata with these keys.
pub(crate) fn sign_with<T: tough::schema::Role + Serialize>(
    metadata: T,
    signers: &[SigningKey],
) -> Result<Signed<T>, RepositoryError> {
    let form = metadata.canonical_form().map_err(RepositoryError::internal)?;
    let signature = |key: &SigningKey| Signature { keyid: key.id.clone(), sig: key.sign(&form).into() };
    Ok(Signed { signatures: signers.iter().map(signature).collect(), signed: metadata })
}

pub(crate) fn encode<T: Serialize>(signed: &Signed<T>) -> Result<Vec<u8>, RepositoryError> {
    let mut bytes = serde_json::to_vec_pretty(signed).map_err(RepositoryError::internal)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Writes a metadata file under the name that its role and version give it; answers how another one names it.
pub(crate) fn write<T: tough::schema::Role + Serialize>(
    folder: &Path,
    signed: &Signed<T>,
) -> Result<Metafile, RepositoryError> {
    let bytes = encode(signed)?;
    let path = folder.join(METADATA).join(signed.signed.filename(true));
    files::write(&path, &bytes, files::PUBLIC)?;
    let sha256 = Sha256::digest(&bytes).to_vec().into();
    Ok(Metafile {
        length: Some(bytes.len() as u64),
        hashes: Some(Hashes { sha256, _extra: HashMap::new() }),
        version: signed.signed.version(),
        _extra: HashMap::new(),
    })
}

/// A metadata file, verified with the keys of `root`.
pub(crate) fn read<T: tough::schema::Role + Serialize + DeserializeOwned>(
    folder: &Path,
    name: &str,
    root: &Root,
) -> Result<Signed<T>, RepositoryError> {
    let (signed, path) = parse(folder, name)?;
    root.verify_role(&signed).map_err(|err| RepositoryError::Unsigned { path, source: err.into() })?;
    Ok(signed)
}

fn parse<T: DeserializeOwned>(
    folder: &Path,
    name: &str,
) -> Result<(Signed<T>, std::path::PathBuf), RepositoryError> {
    let path = folder.join(METADATA).join(name);
    let bytes = std::fs::read(&path).map_err(FileError::at("read", &path))?;
    match serde_json::from_slice(&bytes) {
        Ok(signed) => Ok((signed, path)),
        Err(source) => Err(RepositoryError::Unreadable { path, source }),
    }
}

/// The file that metadata name, as `3.snapshot.json`.
pub(crate) fn name_in(
    meta: &HashMap<String, Metafile>,
    name: &str,
    role: Role,
) -> Result<String, RepositoryError> {
    let file = meta.get(name).ok_or_else(|| RepositoryError::Unnamed { role, missing: name.into() })?;
    Ok(format!("{}.{name}", file.version))
}

/// The last root of the chain, each verified with the one before.
pub(crate) fn latest_root(folder: &Path) -> Result<Signed<Root>, RepositoryError> {
    let mut root: Option<Signed<Root>> = None;
    for version in 1_u64.. {
        let name = format!("{version}.root.json");
        if root.is_some() && !folder.join(METADATA).join(&name).exists() {
            break;
        }
        let (new, path) = parse::<Root>(folder, &name)?;
        if new.signed.version.get() != version {
            return Err(RepositoryError::OtherVersion { path, found: new.signed.version.get() });
        }
        let before = root.as_ref().unwrap_or(&new);
        let verified = before.signed.verify_role(&new).and_then(|()| new.signed.verify_role(&new));
        verified.map_err(|err| RepositoryError::Unsigned { path, source: err.into() })?;
        root = Some(new);
    }
    root.ok_or_else(|| RepositoryError::None { folder: folder.to_owned() })
}
