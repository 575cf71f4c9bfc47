//! The private keys of the release side: ed25519 keys in PEM files (PKCS#8), one key a file, named after their role.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use tough::schema::decoded::{Decoded, Hex};
use tough::schema::key::{Ed25519Key, Ed25519Scheme, Key};
use zeroize::Zeroizing;

use crate::error::Role;
use crate::files::{self, FileError};
use crate::hash;

/// What a PEM file of a private key says that it is.
const TAG: &str = "PRIVATE KEY";
/// The most bytes of a key's file.
const KEY_BYTES: u64 = 16 << 10;

/// Folders with private keys: `root-1.pem`, `targets-1.pem`, `snapshot-1.pem`, `timestamp-1.pem`. Those of root and targets
/// belong on a medium that is not connected when it is not needed; those of snapshot and timestamp, which only renew,
/// may lie on a server. A key is read when its role signs, and only then.
#[derive(Debug, Clone)]
pub struct Keys {
    folders: Vec<PathBuf>,
}

/// A key cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is a key already.
    #[error("{} is there already: a key is never overwritten; take another folder", path.display())]
    Exists {
        /// Its file.
        path: PathBuf,
    },
    /// A file holds no key of ours.
    #[error("{} {found}: expected an ed25519 private key (PKCS#8) in PEM", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        found: &'static str,
    },
    /// Others than its owner can read a key.
    #[error("{} can be read by others (mode {mode:o}): make it 0600, or better a new key", path.display())]
    TooOpen {
        /// Its file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A role cannot sign.
    #[error(
        "the {role} metadata need {needed} signature(s), and there are {found} of its keys in {}: files {role}-….pem with \
         {wanted}",
        folders(places)
    )]
    Missing {
        /// The role.
        role: Role,
        /// How many signatures are needed.
        needed: u64,
        /// How many keys were found.
        found: u64,
        /// Where.
        places: Vec<PathBuf>,
        /// Which would do: the beginnings of their ids.
        wanted: String,
    },
    /// A file or folder failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The system gives no random numbers, or a key cannot be encoded.
    #[error("make a {role} key: {what}")]
    Internal {
        /// The role.
        role: Role,
        /// What failed.
        what: &'static str,
    },
}

fn folders(places: &[PathBuf]) -> String {
    let places: Vec<String> = places.iter().map(|it| it.display().to_string()).collect();
    places.join(", ")
}

impl Keys {
    /// The keys in these folders.
    pub fn in_folders<P: Into<PathBuf>>(folders: impl IntoIterator<Item = P>) -> Self {
        Self { folders: folders.into_iter().map(Into::into).collect() }
    }

    /// Makes `count` keys of a role in a folder, which is made where it is missing; each file is readable by its owner only.
    ///
    /// # Errors
    /// When there is such a file already, or one cannot be written.
    pub fn generate(folder: &Path, role: Role, count: u32) -> Result<Vec<PathBuf>, KeyError> {
        files::make_folder(folder, true)?;
        let paths: Vec<PathBuf> = (1..=count).map(|n| folder.join(format!("{role}-{n}.pem"))).collect();
        if let Some(path) = paths.iter().find(|path| path.exists()) {
            return Err(KeyError::Exists { path: path.clone() });
        }
        for path in &paths {
            let internal = |what| KeyError::Internal { role, what };
            let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
                .map_err(|_| internal("the system gives no random numbers"))?;
            let text = Zeroizing::new(pem::encode(&pem::Pem::new(TAG, document.as_ref())));
            files::write(path, text.as_bytes(), files::PRIVATE)?;
        }
        Ok(paths)
    }

    /// These keys and others.
    pub(crate) fn and(&self, others: &Self) -> Self {
        Self { folders: [&self.folders[..], &others.folders].concat() }
    }

    /// The keys of a role that lie here, each once.
    pub(crate) fn of_role(&self, role: Role) -> Result<Vec<SigningKey>, KeyError> {
        let mut found: Vec<SigningKey> = Vec::new();
        for folder in &self.folders {
            let mut paths = Vec::new();
            for entry in std::fs::read_dir(folder).map_err(FileError::at("list", folder))? {
                let entry = entry.map_err(FileError::at("list", folder))?;
                if is_of_role(entry.file_name().to_str().unwrap_or_default(), role) {
                    paths.push(entry.path());
                }
            }
            paths.sort();
            for path in paths {
                let key = SigningKey::read(&path)?;
                if found.iter().all(|it| it.id != key.id) {
                    found.push(key);
                }
            }
        }
        Ok(found)
    }

    pub(crate) fn missing(&self, role: Role, found: usize, needed: u64, ids: &[Decoded<Hex>]) -> KeyError {
        let ids: Vec<String> = ids.iter().map(|id| hash::hex(id)[..8].to_owned()).collect();
        let wanted = if ids.is_empty() { "any ids".into() } else { format!("the ids {}", ids.join(", ")) };
        KeyError::Missing { role, needed, found: found as u64, places: self.folders.clone(), wanted }
    }
}

/// `targets.pem` and `targets-….pem` are of targets.
fn is_of_role(name: &str, role: Role) -> bool {
    let rest = name.strip_prefix(role.as_str()).and_then(|rest| rest.strip_suffix(".pem"));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// A private key, ready to sign.
pub(crate) struct SigningKey {
    pair: Ed25519KeyPair,
    pub(crate) public: Key,
    pub(crate) id: Decoded<Hex>,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", hash::hex(&self.id))
    }
}

impl SigningKey {
    fn read(path: &Path) -> Result<Self, KeyError> {
        let not = |found| KeyError::NotAKey { path: path.to_owned(), found };
        let meta = std::fs::metadata(path).map_err(FileError::at("read", path))?;
        check_owner_only(path, &meta)?;
        if meta.len() > KEY_BYTES {
            return Err(not("is too large"));
        }
        let text = Zeroizing::new(std::fs::read(path).map_err(FileError::at("read", path))?);
        let parsed = pem::parse(&*text).map_err(|_| not("is no PEM file"))?;
        if parsed.tag() != TAG {
            return Err(not("holds something else"));
        }
        let document = Zeroizing::new(parsed.into_contents());
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&document)
            .map_err(|_| not("holds a key of another kind"))?;
        let public = Key::Ed25519 {
            keyval: Ed25519Key { public: pair.public_key().as_ref().to_vec().into(), _extra: HashMap::new() },
            scheme: Ed25519Scheme::Ed25519,
            _extra: HashMap::new(),
        };
        let id = public.key_id().map_err(|_| not("holds a key that has no id"))?;
        Ok(Self { pair, public, id })
    }

    pub(crate) fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.pair.sign(bytes).as_ref().to_vec()
    }
}

#[cfg(unix)]
fn check_owner_only(path: &Path, meta: &std::fs::Metadata) -> Result<(), KeyError> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(KeyError::TooOpen { path: path.to_owned(), mode }) }
}

/// Elsewhere a file has the permissions of its folder.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
fn check_owner_only(_: &Path, _: &std::fs::Metadata) -> Result<(), KeyError> {
    Ok(())
}
