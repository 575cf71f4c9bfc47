//! config.json: who the agent is, where its backend is, and the numbers a person set.
//!
//! It is written by `enroll` and may be changed by hand, so reading it finds every fault at once.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use outrider_protocol::Raw;
use outrider_protocol::action::IntegrationConfig;
use outrider_protocol::ids::AgentId;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::atomic::{self, FileError};
use crate::config_read::{self, Source};
use crate::{CollectConfig, ConfigErrors, ConfigFault, Limits, Root, Secret};

/// The version of config.json that this program reads and writes.
pub const CONFIG_VERSION: u32 = 1;
/// The longest config.json that is read, in bytes. Above it, it is some other file.
const LONGEST: u64 = 4 << 20;

/// The agent's configuration.
#[derive(Clone)]
pub struct Config {
    /// The file's version: [`CONFIG_VERSION`].
    pub version: u32,
    /// Which agent of the backend this root is.
    pub agent: AgentId,
    /// Whose data it exports.
    pub customer_id: Option<String>,
    /// The backend's origin, as `https://backend.example:8443`; no path, no `/` at the end.
    pub backend: String,
    /// The secret with which the agent calls the backend.
    pub token: Secret,
    /// Which releases it wants: `stable`, `edge`, `dev`.
    pub channel: String,
    /// Where programs of integrations are looked up; an absolute path (in the file, a relative one is taken from the
    /// root).
    pub integrations_dir: Option<PathBuf>,
    /// Certificates, in PEM, that are trusted beside the usual ones; as [`Config::integrations_dir`].
    pub ca_file: Option<PathBuf>,
    /// Integrations that join every export, set by hand.
    pub extra_integrations: Vec<IntegrationConfig>,
    /// What is measured on this host, set by hand; nothing where it is missing.
    pub collect: Option<CollectConfig>,
    /// Whether the backend may order what is collected, where [`Config::collect`] does not say; set by hand.
    pub backend_collect: bool,
    /// Whether last-processed values leave the host with the report of an export; set by hand, here and nowhere else.
    pub share_last_processed: bool,
    /// Bounds, set by hand.
    pub limits: Limits,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Configurations of integrations hold secrets.
        let extra: Vec<_> = self.extra_integrations.iter().map(|it| it.id().to_string()).collect();
        f.debug_struct("Config")
            .field("agent", &self.agent)
            .field("customer_id", &self.customer_id)
            .field("backend", &self.backend)
            .field("token", &self.token)
            .field("channel", &self.channel)
            .field("integrations_dir", &self.integrations_dir)
            .field("ca_file", &self.ca_file)
            .field("extra_integrations", &extra)
            .field("collect", &self.collect.as_ref().map(|it| (&it.settings, &it.outputs)))
            .field("backend_collect", &self.backend_collect)
            .field("share_last_processed", &self.share_last_processed)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// The file's shape, in the order in which a person reads it.
#[derive(Serialize)]
struct Saved<'a> {
    version: u32,
    agent: &'a AgentId,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_id: Option<&'a str>,
    backend: &'a str,
    token: &'a str,
    channel: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    integrations_dir: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<&'a Path>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    extra_integrations: &'a [IntegrationConfig],
    #[serde(skip_serializing_if = "Option::is_none")]
    collect: Option<&'a Raw>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend_collect: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    share_last_processed: Option<bool>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    limits: Map<String, Value>,
}

impl Config {
    /// Reads the root's configuration.
    ///
    /// # Errors
    /// [`ConfigErrors::NotEnrolled`] when there is none; otherwise everything that is wrong with it.
    pub fn load(root: &Root) -> Result<Self, ConfigErrors> {
        let path = root.config_path();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                return Err(ConfigErrors::NotEnrolled { path });
            }
            Err(err) => return Err(ConfigErrors::File(FileError::at("open", &path)(err))),
        };
        let mut faults: Vec<_> = too_open(&file, &path).into_iter().collect();
        let mut bytes = Vec::new();
        file.take(LONGEST + 1)
            .read_to_end(&mut bytes)
            .map_err(|err| ConfigErrors::File(FileError::at("read", &path)(err)))?;
        if bytes.len() as u64 > LONGEST {
            faults.push(ConfigFault::new("", format!("more than {LONGEST} bytes"), "a configuration"));
            return Err(ConfigErrors::Invalid { path, faults });
        }
        let read = config_read::read(Source { bytes: &bytes, root }, &mut faults);
        match read {
            Some(config) if faults.is_empty() => Ok(config),
            _ => Err(ConfigErrors::Invalid { path, faults }),
        }
    }

    /// Writes the configuration in place of the old one, at once and durably, readable by its owner only.
    ///
    /// # Errors
    /// When [`Config::load`] would refuse what is to be written, or the file cannot be written; the old one is then
    /// untouched.
    pub fn save(&self, root: &Root) -> Result<(), ConfigErrors> {
        let path = root.config_path();
        let saved = Saved {
            version: self.version,
            agent: &self.agent,
            customer_id: self.customer_id.as_deref(),
            backend: &self.backend,
            token: self.token.expose(),
            channel: &self.channel,
            integrations_dir: self.integrations_dir.as_deref(),
            ca_file: self.ca_file.as_deref(),
            extra_integrations: &self.extra_integrations,
            collect: self.collect.as_ref().map(CollectConfig::raw),
            // What is the rule need not be said, and an older version need not know it.
            backend_collect: (!self.backend_collect).then_some(false),
            share_last_processed: self.share_last_processed.then_some(true),
            limits: self.limits.changed(),
        };
        let mut bytes = serde_json::to_vec_pretty(&saved)
            .map_err(|err| ConfigErrors::File(FileError::at("put into JSON", &path)(err.into())))?;
        bytes.push(b'\n');
        let mut faults = Vec::new();
        config_read::read(Source { bytes: &bytes, root }, &mut faults);
        if !faults.is_empty() {
            return Err(ConfigErrors::Invalid { path, faults });
        }
        atomic::write(&path, &bytes, atomic::PRIVATE).map_err(ConfigErrors::File)
    }
}

/// The token is in the file, so nobody else may read it.
#[cfg(unix)]
fn too_open(file: &File, path: &Path) -> Option<ConfigFault> {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata().ok()?.permissions().mode() & 0o777;
    let fault = || {
        ConfigFault::new("", format!("permissions {mode:04o}"), "0600, since it holds the agent's token")
            .advise(format!("run `chmod 600 {}`", path.display()))
    };
    (mode & 0o077 != 0).then(fault)
}

/// Elsewhere the folder's own permissions protect it.
#[cfg(not(unix))]
fn too_open(_: &File, _: &Path) -> Option<ConfigFault> {
    None
}

#[cfg(test)]
mod tests;
