//! config.json: who the agent is, where its backend is, and the numbers a person set.
//!
//! It is written by `enroll` and may be changed by hand, so reading it finds every fault at once.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

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
/// How long a half file is thought to be one that somebody is just writing.
const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(10);

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
    /// Integrations that join every export, set by hand; as [`IntegrationConfig::extra`].
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
    /// Reads the root's configuration. One that is half since somebody writes it right now is waited for, half a second
    /// at most.
    ///
    /// # Errors
    /// [`ConfigErrors::NotEnrolled`] when there is none; otherwise everything that is wrong with it.
    pub fn load(root: &Root) -> Result<Self, ConfigErrors> {
        let path = root.config_path();
        let started = Instant::now();
        let (file, bytes) = settled(&path, || {
            thread::sleep(PAUSE);
            started.elapsed() < PATIENCE
        })?;
        let mut faults: Vec<_> = too_open(&file, &path).into_iter().collect();
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

/// Opens and reads the file, again for as long as it is half because somebody is writing it at this very moment: `again`
/// says after each such look whether there is to be another.
///
/// A person's editor, or `cp`, empties a file before it fills it.
fn settled(path: &Path, mut again: impl FnMut() -> bool) -> Result<(File, Vec<u8>), ConfigErrors> {
    loop {
        let file = File::open(path).map_err(|err| match err.kind() {
            io::ErrorKind::NotFound => ConfigErrors::NotEnrolled { path: path.to_owned() },
            _ => ConfigErrors::File(FileError::at("open", path)(err)),
        })?;
        let mut bytes = Vec::new();
        (&file)
            .take(LONGEST + 1)
            .read_to_end(&mut bytes)
            .map_err(|err| ConfigErrors::File(FileError::at("read", path)(err)))?;
        let sensible = bytes.len() as u64 <= LONGEST;
        if !(sensible && config_read::is_half(&bytes) && just_written(&file) && again()) {
            return Ok((file, bytes));
        }
    }
}

/// One that was cut off earlier will not become whole by itself. A time that is to come says nothing, as the clock was
/// set.
fn just_written(file: &File) -> bool {
    let written = file.metadata().and_then(|it| it.modified());
    written.is_ok_and(|it| it.elapsed().map_or(true, |age| age < PATIENCE))
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
