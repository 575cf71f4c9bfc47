//! The root: the agent's folder on disk, and where everything in it lies.

use std::fs::DirBuilder;
use std::io;
use std::path::{Path, PathBuf};

use outrider_protocol::ids::{ExportId, IntegrationId};

use crate::atomic::FileError;

/// The agent's folder. Knows the paths; makes nothing until [`Root::create`]. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Root(PathBuf);

impl Root {
    /// The root at `path`; a relative path is taken from the current folder now, so that a later change of that folder
    /// does not move the root.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let given = if path.as_os_str().is_empty() { Path::new(".") } else { &path };
        let absolute = std::path::absolute(given).unwrap_or(path);
        // `--root=.` gives `/folder/.`, which reads badly in every message.
        Self(absolute.components().collect())
    }

    /// Where the root lies when nothing else is said: `outrider` in the platform's folder for programs' data. `None`
    /// when the user has no home folder; then the path must be given.
    #[must_use]
    pub fn default_path() -> Option<PathBuf> {
        Some(directories::ProjectDirs::from("", "", "outrider")?.data_local_dir().to_owned())
    }

    /// The folder itself, as an absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Identity, backend, token: see [`crate::Config`].
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.0.join("config.json")
    }

    /// The key of the secrets that were encrypted for this root: see [`crate::keys`].
    #[must_use]
    pub fn secrets_key(&self) -> PathBuf {
        self.0.join("secrets.key")
    }

    /// The folder of log files.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    /// The log of an action, or of `service-run`.
    #[must_use]
    pub fn log_file(&self, action: &str) -> PathBuf {
        self.logs().join(action)
    }

    /// The log of one configured integration.
    #[must_use]
    pub fn integration_log(&self, integration: &IntegrationId) -> PathBuf {
        self.logs().join("integrations").join(integration.as_str())
    }

    /// Export files that the backend has not acknowledged, and for a while those that it has.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.0.join("spool")
    }

    /// What outlives a version: the two stores, the reports of exports.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    /// What waits on the disk for the outputs of what is measured.
    #[must_use]
    pub fn collect_queues(&self) -> PathBuf {
        self.state().join("collect")
    }

    /// The same where the backend ordered what is measured, so that neither author's data go to the other's outputs.
    #[must_use]
    pub fn ordered_queues(&self) -> PathBuf {
        self.state().join("collect-ordered")
    }

    /// What the backend ordered to be collected: see [`crate::OrderedCollect`].
    #[must_use]
    pub fn ordered_collect(&self) -> PathBuf {
        self.state().join("collect-ordered.json")
    }

    /// Reports of finished exports.
    #[must_use]
    pub fn exports(&self) -> PathBuf {
        self.state().join("exports")
    }

    /// The report of one finished export.
    #[must_use]
    pub fn export_report(&self, export: &ExportId) -> PathBuf {
        self.exports().join(format!("{export}.json"))
    }

    /// Crashes of which the backend has not heard.
    #[must_use]
    pub fn crashes(&self) -> PathBuf {
        self.state().join("crashes")
    }

    /// What one configured integration may keep between runs (clones, downloads); may be deleted at any time between
    /// them.
    #[must_use]
    pub fn cache(&self, integration: &IntegrationId) -> PathBuf {
        self.caches().join(integration.as_str())
    }

    pub(crate) fn caches(&self) -> PathBuf {
        self.0.join("cache")
    }

    /// The journal of commands: see [`crate::Journal`].
    #[must_use]
    pub fn commands_db(&self) -> PathBuf {
        self.state().join("commands.redb")
    }

    /// The store of last-processed values: see [`crate::Checkpoints`].
    #[must_use]
    pub fn checkpoints_db(&self) -> PathBuf {
        self.state().join("checkpoints.redb")
    }

    /// What the backend has of objects that may be left out: see [`crate::Unchanged`].
    #[must_use]
    pub fn unchanged(&self) -> PathBuf {
        self.state().join("unchanged")
    }

    /// Whoever makes this file says that the backend may not have what it acknowledged: the next export leaves nothing
    /// out.
    #[must_use]
    pub fn unchanged_reset(&self) -> PathBuf {
        self.unchanged().join("reset")
    }

    /// The socket on which the service is asked: see [`crate::socket`].
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.state().join("service.sock")
    }

    /// Whose work lies in the root: see [`crate::Identity`].
    pub(crate) fn identity_path(&self) -> PathBuf {
        self.state().join("identity.json")
    }

    /// An enrollment that is not answered yet.
    #[must_use]
    pub fn enrollment_path(&self) -> PathBuf {
        self.state().join("enroll.json")
    }

    /// There when it is this root that the system's startup runs: another root may be enrolled beside it.
    #[must_use]
    pub fn startup_path(&self) -> PathBuf {
        self.state().join("startup")
    }

    /// The file whose lock says that a service uses the root: see [`Root::lock`].
    pub(crate) fn lock_path(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// Makes the folders that are missing, for the owner only (0700 on Unix). Folders that are there stay as they are. A
    /// state that is new says which schema it has: see [`crate::state`].
    ///
    /// # Errors
    /// When a folder cannot be made, or the schema not be written; the error names it.
    pub fn create(&self) -> io::Result<()> {
        let folders = [
            self.0.clone(),
            self.logs().join("integrations"),
            self.spool(),
            self.exports(),
            self.crashes(),
            self.caches(),
        ];
        for folder in folders {
            make_private(&folder).map_err(FileError::at("make the folder", &folder))?;
        }
        Ok(self.stamp_fresh_state()?)
    }
}

/// Makes a folder and those above it.
pub(crate) fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(folder)
}

#[cfg(test)]
mod tests;
