//! Secrets of sources that only this root can read. The backend keeps and sends their ciphertext.
//!
//! [`seal`] takes the secret members out of an integration's configuration and encrypts them with a key that is made on
//! first use and never leaves `ROOT/secrets.key`; [`open`] puts them back. The ciphertext is the text
//! `outrider-sealed:1:KEY:BASE64`: the key's fingerprint, then nonce, ciphertext and tag of ChaCha20-Poly1305 over
//! (`Sealed` as JSON), with all that stands before the last colon as associated data.
//!
//! **Invariant:** what was sealed for one integration is opened for no other, and only while every member of its
//! configuration that looks like an address is as it was: whoever may change a configuration at the backend cannot have
//! a token sent somewhere else. What looks like an address is decided generously (`binding`).
//!
//! **Invariant:** no error holds a secret or a part of the key.
//!
//! The cipher is that of `ring`, which TLS brings along. The crate `age` would do as well, but it adds 75 packages, some of
//! them pre-releases, and its asymmetric keys would let anybody make ciphertexts for a host.

mod binding;
mod key;

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use outrider_protocol::Raw;
use outrider_protocol::action::IntegrationConfig;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use self::binding::addresses;
use self::key::Key;
use crate::Root;
use crate::atomic::FileError;

/// What a sealed text begins with.
const PREFIX: &str = "outrider-sealed:1";

/// Secrets could not be encrypted or decrypted.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The key's file could not be read or made.
    #[error(transparent)]
    File(FileError),
    /// The key's file holds something else.
    #[error("read the key {}: found no key of 32 bytes in base64; put the file back as it was, or remove it and enter the secrets again", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The system gave no random bytes, or the cipher failed.
    #[error("encrypt the secrets of integration {integration}: the system's cipher or random numbers failed")]
    Cipher {
        /// Whose secrets.
        integration: String,
    },
    /// A configuration from which members are to be taken is no object.
    #[error("the configuration of integration {integration}: {message}")]
    Config {
        /// Whose.
        integration: String,
        /// What was found and expected.
        message: String,
    },
    /// The text is none that this program makes.
    #[error(
        "decrypt the secrets of integration {integration}: expected a text that begins with {PREFIX}, as validate-config answers it"
    )]
    NotSealed {
        /// Whose.
        integration: String,
    },
    /// They were encrypted with another key.
    #[error(
        "decrypt the secrets of integration {integration}: they were encrypted with the key {theirs}, and this root has {ours}: \
         they belong to another host, or to a root that was lost"
    )]
    OtherKey {
        /// Whose.
        integration: String,
        /// The fingerprint of the key that is needed.
        theirs: String,
        /// That of the key that is there, or `none`.
        ours: String,
    },
    /// The ciphertext is not what was answered.
    #[error("decrypt the secrets of integration {integration}: the text was changed since it was encrypted")]
    Changed {
        /// Whose.
        integration: String,
    },
    /// They are those of another integration.
    #[error("decrypt the secrets of integration {integration}: they were encrypted for {other}")]
    OtherIntegration {
        /// For which.
        integration: String,
        /// Whose they are.
        other: String,
    },
    /// The configuration names another address than the one for which the secrets were entered.
    #[error(
        "decrypt the secrets of integration {integration}: {path} was {was} when they were entered, and is {is} now; \
         secrets are not sent to an address that they were not entered for"
    )]
    OtherAddress {
        /// Whose.
        integration: String,
        /// The member, as a JSON Pointer.
        path: String,
        /// Its value then, or `missing`.
        was: String,
        /// Its value now, or `missing`.
        is: String,
    },
}

impl KeyError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::File(_) | Self::Config { .. } => None,
            _ => Some("enter the secrets of this integration again: `outrider-backend integration set`"),
        }
    }
}

/// What is encrypted.
#[derive(Serialize, Deserialize)]
struct Sealed {
    /// The integration's kind and id.
    integration: (String, String),
    /// What the rest of the configuration said of addresses, by JSON Pointer.
    addresses: BTreeMap<String, String>,
    /// The secret members by JSON Pointer.
    secrets: BTreeMap<String, Value>,
}

/// Takes the members at `secrets` (JSON Pointers, none within another) out of an integration's configuration and
/// encrypts them. A member of an object is removed, an element of an array becomes `null`. Makes the root's key when it
/// is the first time. Without secrets the configuration stays as it is.
///
/// # Errors
/// When the key cannot be read or made, or the configuration is no object.
pub fn seal(
    root: &Root,
    integration: &IntegrationConfig,
    secrets: &[String],
) -> Result<IntegrationConfig, KeyError> {
    let id = integration.id();
    let config_error = |message: String| KeyError::Config { integration: id.to_string(), message };
    let mut config: Value = serde_json::from_str(integration.config.get())
        .map_err(|err| config_error(format!("it cannot be read: {err}")))?;
    let mut taken = BTreeMap::new();
    for pointer in secrets {
        let value = take(&mut config, pointer)
            .ok_or_else(|| config_error(format!("there is no member {pointer} to be encrypted")))?;
        taken.insert(pointer.clone(), value);
    }
    if taken.is_empty() {
        return Ok(IntegrationConfig { secrets: None, ..integration.clone() });
    }
    let sealed = Sealed {
        integration: (integration.name.to_string(), id.to_string()),
        addresses: addresses(&config),
        secrets: taken,
    };
    let cipher = || KeyError::Cipher { integration: id.to_string() };
    let plain = Zeroizing::new(serde_json::to_vec(&sealed).map_err(|_| cipher())?);
    let key = Key::load_or_make(root)?;
    let head = format!("{PREFIX}:{}", key.fingerprint());
    let bytes = key.encrypt(head.as_bytes(), &plain).ok_or_else(cipher)?;
    let secrets = Some(format!("{head}:{}", STANDARD.encode(bytes)));
    Ok(IntegrationConfig { config: raw(&config).ok_or_else(cipher)?, secrets, ..integration.clone() })
}

/// Decrypts the secrets of an integration and puts them back into its configuration. One without secrets stays as it is.
///
/// # Errors
/// When the root has another key or none, when the text was changed, and when it was encrypted for another integration or
/// other addresses.
pub fn open(root: &Root, integration: &IntegrationConfig) -> Result<IntegrationConfig, KeyError> {
    let Some(text) = &integration.secrets else { return Ok(integration.clone()) };
    let id = integration.id().to_string();
    let sealed = decrypt(root, &id, text)?;
    let changed = || KeyError::Changed { integration: id.clone() };
    let sealed: Sealed = serde_json::from_slice(&sealed).map_err(|_| changed())?;
    if sealed.integration != (integration.name.to_string(), id.clone()) {
        let (name, other) = sealed.integration;
        return Err(KeyError::OtherIntegration { integration: id, other: format!("{other} ({name})") });
    }
    let config_error = |message: String| KeyError::Config { integration: id.clone(), message };
    let mut config: Value = serde_json::from_str(integration.config.get())
        .map_err(|err| config_error(format!("it cannot be read: {err}")))?;
    same_addresses(&id, &sealed.addresses, &addresses(&config))?;
    for (pointer, value) in sealed.secrets {
        put_back(&mut config, &pointer, value).map_err(|found| {
            config_error(format!(
                "{pointer}: found {found}, expected room for the encrypted value; remove one of the two"
            ))
        })?;
    }
    let config = raw(&config).ok_or_else(changed)?;
    Ok(IntegrationConfig { config, secrets: None, ..integration.clone() })
}

fn decrypt(root: &Root, integration: &str, text: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let not_sealed = || KeyError::NotSealed { integration: integration.to_owned() };
    let (head, body) = text.rsplit_once(':').ok_or_else(not_sealed)?;
    let theirs = head.strip_prefix(PREFIX).and_then(|it| it.strip_prefix(':')).ok_or_else(not_sealed)?;
    let changed = || KeyError::Changed { integration: integration.to_owned() };
    let key = Key::load(root)?;
    let ours = key.as_ref().map(Key::fingerprint);
    let key = key.filter(|_| ours.as_deref() == Some(theirs)).ok_or_else(|| KeyError::OtherKey {
        integration: integration.to_owned(),
        theirs: theirs.chars().filter(char::is_ascii_alphanumeric).take(16).collect(),
        ours: ours.unwrap_or_else(|| "none".into()),
    })?;
    let bytes = STANDARD.decode(body).map_err(|_| changed())?;
    key.decrypt(head.as_bytes(), &bytes).ok_or_else(changed)
}

fn same_addresses(
    integration: &str,
    was: &BTreeMap<String, String>,
    is: &BTreeMap<String, String>,
) -> Result<(), KeyError> {
    let differs = was.keys().chain(is.keys()).find(|path| was.get(*path) != is.get(*path));
    let shown = |of: &BTreeMap<String, String>, path: &str| {
        of.get(path).map_or_else(|| "missing".to_owned(), |it| it.chars().take(200).collect())
    };
    match differs {
        None => Ok(()),
        Some(path) => Err(KeyError::OtherAddress {
            integration: integration.to_owned(),
            path: path.clone(),
            was: shown(was, path),
            is: shown(is, path),
        }),
    }
}

fn raw(value: &Value) -> Option<Raw> {
    serde_json::value::to_raw_value(value).ok()
}

/// The place that holds a member, and the member's name in it.
fn parent<'a>(config: &'a mut Value, pointer: &str) -> Option<(&'a mut Value, String)> {
    let (parent, name) = pointer.rsplit_once('/')?;
    Some((config.pointer_mut(parent)?, name.replace("~1", "/").replace("~0", "~")))
}

fn take(config: &mut Value, pointer: &str) -> Option<Value> {
    let (parent, name) = parent(config, pointer)?;
    match parent {
        Value::Object(map) => map.remove(&name),
        Value::Array(values) => values.get_mut(name.parse::<usize>().ok()?).map(Value::take),
        _ => None,
    }
}

/// Puts a member where [`take`] took it; an error tells what kind of thing stands there.
fn put_back(config: &mut Value, pointer: &str, value: Value) -> Result<(), &'static str> {
    let (parent, name) = parent(config, pointer).ok_or("nothing that could hold it")?;
    match parent {
        Value::Object(map) if !map.contains_key(&name) => {
            map.insert(name, value);
            Ok(())
        }
        Value::Object(_) => Err("another value"),
        Value::Array(values) => match name.parse::<usize>().ok().and_then(|at| values.get_mut(at)) {
            Some(place @ Value::Null) => {
                *place = value;
                Ok(())
            }
            Some(_) => Err("another value"),
            None => Err("a shorter array"),
        },
        _ => Err("nothing that could hold it"),
    }
}

#[cfg(test)]
mod tests;
