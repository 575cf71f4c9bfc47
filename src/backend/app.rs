//! What all requests share, and the operations that more than one of the APIs offers.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;
use outrider_protocol::ids::{AgentId, CommandId};
use tokio_util::sync::CancellationToken;

use crate::admin::{Agent, Command, File, FileFilter, Watched};
use crate::data::DataFolder;
use crate::hub::{Change, Hub};
use crate::oauth::Tokens;
use crate::plots::Plots;
use crate::secret::Hash;
use crate::settings::Limits;
use crate::store::{CancelOutcome, FileKey, LogBounds, Store, StoreError, TreeBounds};
use crate::uploads::Uploads;

/// What all requests share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) hub: Arc<Hub>,
    pub(crate) data: DataFolder,
    /// The folder of signed releases that anybody may read.
    pub(crate) releases: PathBuf,
    pub(crate) limits: Limits,
    pub(crate) uploads: Uploads,
    /// What agents measured last.
    pub(crate) plots: Plots,
    /// The access tokens of integrations.
    pub(crate) tokens: Tokens,
    /// Whether something was taken out of the database that may still stand in its write-ahead log.
    pub(crate) unfolded: AtomicBool,
    pub(crate) admin: Hash,
    /// Whether browsers reach this backend by TLS, so that cookies may insist on it.
    pub(crate) secure: bool,
    /// Ends the streams when the backend stops.
    pub(crate) stopping: CancellationToken,
}

pub(crate) type Shared = Arc<App>;

/// Lines of a log in one answer.
pub(crate) const LINES_AT_ONCE: u32 = 1000;

impl App {
    pub(crate) fn tree_bounds(&self) -> TreeBounds {
        TreeBounds { finished_per_parent: self.limits.finished_sessions, sessions: self.limits.sessions }
    }

    pub(crate) fn log_bounds(&self) -> LogBounds {
        LogBounds { lines: self.limits.log_lines, message_bytes: self.limits.log_message_bytes }
    }

    /// All agents, or one.
    pub(crate) async fn agents(&self, only: Option<&AgentId>) -> Result<Vec<Agent>, StoreError> {
        let mut agents = self.store.agents(only).await?;
        for agent in &mut agents {
            agent.online = agent.revoked_at.is_none() && self.hub.is_online(&agent.id);
        }
        Ok(agents)
    }

    /// Uploaded files, each with its place on disk.
    pub(crate) async fn files(&self, filter: &FileFilter) -> Result<Vec<File>, StoreError> {
        let mut files = self.store.files(filter).await?;
        for file in &mut files {
            let key = FileKey {
                agent: file.agent.clone(),
                export: file.export.clone(),
                model: file.model.clone(),
                number: file.number,
            };
            file.path = self.data.file(&key, file.compression).display().to_string();
        }
        Ok(files)
    }

    /// Cancels a command, and tells its agent and whoever looks.
    pub(crate) async fn cancel(
        &self,
        command: &CommandId,
        reason: &str,
    ) -> Result<CancelOutcome, StoreError> {
        let outcome = self.store.cancel_command(command, reason, Timestamp::now()).await?;
        if let CancelOutcome::Asked(agent) = &outcome {
            self.hub.orders_changed(agent);
        }
        self.hub.changed(Change::Command(command.clone()));
        Ok(outcome)
    }

    /// A command as it is now, with the lines of its log after `after_line`.
    pub(crate) async fn watched(
        &self,
        id: &CommandId,
        after_line: u64,
    ) -> Result<Option<Watched>, StoreError> {
        let Some(command) = self.store.command(id).await? else { return Ok(None) };
        let progress = self.store.progress(id).await?;
        let lines = self.store.log_lines(id, Some(after_line), LINES_AT_ONCE).await?;
        let mark = mark(&command, &progress);
        Ok(Some(Watched { command, progress, lines, mark }))
    }
}

/// Stands for a state of a command and its progress. No secret, so a short, plain hash will do.
fn mark(command: &Command, progress: &outrider_protocol::progress::Progress) -> String {
    let text = serde_json::to_string(&(command, progress)).unwrap_or_default();
    Hash::of(&text).as_bytes()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
