//! The diagnosis of a version that is taken back, with what the watcher knows.

use std::time::Duration;

use outrider_upgrade::Diagnosis;
use outrider_versions::Record;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::watcher::Watcher;

/// How long it may take: a disk that hangs must not keep a bad version running.
const TIME: Duration = Duration::from_secs(5);

impl Watcher {
    /// Keeps the diagnosis of an attempt, once, with what the service answered in the last minute. What cannot be kept is
    /// logged, and nothing more.
    pub(super) async fn diagnose(&mut self, record: &Record, pid: Option<u32>) {
        if self.diagnosed.as_ref() == Some(&record.attempt) {
            return;
        }
        self.diagnosed = Some(record.attempt.clone());
        let mut health: String = self.answers.iter().map(|(_, line)| format!("{line}\n")).collect();
        if health.is_empty() {
            health = "It was not asked.\n".to_owned();
        }
        let folder = self.versions.layout().diagnosis(&record.to);
        let diagnosis = Diagnosis { pid, ..Diagnosis::of(&self.root, folder, health) };
        match timeout(TIME, spawn_blocking(move || diagnosis.keep())).await {
            Ok(Ok(faults)) if faults.is_empty() => tracing::info!("The diagnosis is kept."),
            Ok(Ok(faults)) => tracing::warn!(faults = faults.join("; "), "The diagnosis is not whole."),
            Ok(Err(err)) => tracing::error!(%err, "The diagnosis is not kept."),
            Err(_) => tracing::error!(?TIME, "The diagnosis is not kept: the disk does not answer in time."),
        }
    }
}
