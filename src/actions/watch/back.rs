//! Going back: the service is stopped, the journal and the links are changed, and the version before is seen to run.

use std::time::Duration;

use outrider_home::{LockError, Root};
use outrider_protocol::fault::chain;
use outrider_supervisor::{ForeignEnd, Spawn, end_foreign};
use outrider_upgrade::{CheckError, check_in_place};
use outrider_versions::{
    Condition, Link, Phase, Points, Reason, Record, VersionName, VersionsError, Writer, back,
};
use tokio::time::Instant;

use super::watcher::{WRITER_WAIT, Watcher};

/// The most of a detail that is kept, in characters.
const DETAIL_MOST: usize = 1000;
/// How long a process must have the root until it counts as running where it gives no answer: an older version has no
/// socket.
const HELD_FOR: Duration = Duration::from_secs(5);
/// How often the service is started from here; the pause doubles each time.
const STARTS_MOST: u32 = 5;

impl Watcher {
    /// Takes the version back. What fails is logged, and tried again at the next look.
    pub(super) async fn go_back(&mut self, record: &Record, reason: Reason, detail: &str) {
        if self.diagnosed.as_ref() != Some(&record.attempt) {
            tracing::error!(version = %record.to, %reason, detail, "The new version is taken back.");
        }
        self.diagnose(record, holder(&self.root)).await;
        let went = self.try_to_go_back(record, reason, &shortened(detail)).await;
        self.told("Go back to the version before.", went);
    }

    async fn try_to_go_back(
        &mut self,
        record: &Record,
        reason: Reason,
        detail: &str,
    ) -> Result<(), VersionsError> {
        // Not through `self`, which is needed beside it.
        let versions = self.versions.clone();
        // With it nobody starts the version again meanwhile. One that hangs may have it itself.
        let early = versions.write(WRITER_WAIT).ok();
        let seen = versions.see()?;
        if !self.is_at(record) {
            return Ok(());
        }
        let way = back(&seen, record);
        if way.is_none() {
            tracing::error!(version = %record.to, from = %record.from,
                "There is nothing to go back to: the version before is not there, or not whole. The new one stays.");
        }
        if let Some(why) = way.and_then(|it| self.damage_of(early.as_ref(), record, it)) {
            tracing::error!(version = %record.to, from = %record.from, why,
                "There is nothing to go back to: the version before is damaged. The new one stays.");
            let detail = format!("the version before is damaged, so the new one stays ({detail}): {why}");
            let why = Some((Reason::RollbackImpossible, &*shortened(&detail)));
            match early {
                Some(writer) => writer.enter(Phase::Failed, why)?,
                None => versions.write(WRITER_WAIT)?.enter(Phase::Failed, why)?,
            };
            if reason == Reason::Hang {
                // Started anew, it may do better.
                self.went_back = true;
                self.stop_service().await;
            }
            return Ok(());
        }
        if way.is_some() || reason == Reason::Hang {
            self.stop_service().await;
        }
        let writer = match early {
            Some(writer) => writer,
            None => versions.write(WRITER_WAIT)?,
        };
        if self.is_at(record) {
            self.went_back = true;
            writer.roll_back(reason, detail)?;
        }
        Ok(())
    }

    /// What is wrong with a version that is to be gone back to, by its seal, else by its list; before anything is stopped for
    /// it.
    fn damage_of(
        &self,
        writer: Option<&Writer<'_>>,
        record: &Record,
        version: &VersionName,
    ) -> Option<String> {
        let looked = match writer {
            Some(writer) => writer.look(record, version),
            None => self.versions.look(record, version).map(|it| match it {
                Ok(()) => Condition::AsSealed,
                Err(_) => Condition::Changed,
            }),
        };
        match looked {
            Some(Condition::AsSealed) => None,
            // The list says which file it is.
            Some(Condition::Changed) => Some(
                self.verify_listed(version)
                    .err()
                    .unwrap_or_else(|| "its files are not what they were when it ran".into()),
            ),
            None => self.verify_listed(version).err(),
        }
    }

    /// Holds a version against its list. One whose list was never kept, or was lost, counts as sound: it ran.
    fn verify_listed(&self, version: &VersionName) -> Result<(), String> {
        match check_in_place(self.root.path(), version.as_str()) {
            Err(err @ CheckError::Tree(_)) => Err(chain(&err)),
            Err(err) => {
                tracing::warn!(%version, error = chain(&err), "The version before cannot be verified.");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    async fn stop_service(&mut self) {
        let root = self.root.clone();
        let versions = self.versions.clone();
        // One that hung before it took the root is known by its start alone.
        let Some(pid) = holder(&root).or_else(|| versions.started()) else { return };
        let (term, kill) = (self.settings.term, self.settings.kill);
        tracing::warn!(pid, "The service is stopped.");
        // Gone when it, whoever comes after it, has not the root.
        let is_gone = || holder(&root) != Some(pid) && versions.started() != Some(pid);
        let end = end_foreign(pid, term, kill, is_gone).await;
        match end {
            ForeignEnd::Asked | ForeignEnd::Killed => tracing::info!(pid, ?end, "The service has ended."),
            ForeignEnd::Still | ForeignEnd::Refused => {
                tracing::error!(pid, ?end, "The service was not ended.");
            }
        }
    }

    /// Sees that a service runs, and starts one where no system does.
    pub(super) async fn see_it_run(&mut self) {
        let (mut free_since, mut held_since) = (None, None);
        let mut starts = 0;
        loop {
            let now = Instant::now();
            if holder(&self.root).is_some() || self.root.in_use().is_err() {
                free_since = None;
                let held = *held_since.get_or_insert(now);
                if let Ok(reply) = self.asker.ask(self.settings.answer_within).await {
                    tracing::info!(version = reply.version, pid = reply.pid, "A service runs.");
                    return;
                }
                if held.elapsed() >= HELD_FOR {
                    tracing::info!(pid = holder(&self.root), "A service runs; it does not say how it is.");
                    return;
                }
            } else {
                held_since = None;
                let free = *free_since.get_or_insert(now);
                let patience = self.settings.restart_within.saturating_mul(1 << starts);
                if free.elapsed() >= patience {
                    if starts == STARTS_MOST {
                        tracing::error!(
                            starts,
                            "No service runs, however often it was started: somebody has to look."
                        );
                        return;
                    }
                    starts += 1;
                    free_since = None;
                    self.start_service();
                }
            }
            if self.pause(self.settings.every).await {
                return;
            }
        }
    }

    /// Starts what `current` points to. It goes on without this process.
    fn start_service(&self) {
        let current = match self.versions.see().map(|it| it.links.current) {
            Ok(Points::To(version)) => version,
            Ok(other) => {
                let path = self.versions.layout().link(Link::Current);
                tracing::error!(path = %path.display(), found = ?other, "No service is started: expected a link to a version.");
                return;
            }
            Err(err) => {
                tracing::error!(error = chain(&err), "No service is started.");
                return;
            }
        };
        let root = self.root.path();
        let program = self.versions.layout().program(&current);
        tracing::warn!(program = %program.display(), "Nobody starts the service; it is started from here.");
        let spawn = Spawn::new(program).arg("service-run").arg("--root").arg(root).cwd(root);
        match spawn.start_for_good() {
            Ok(pid) => tracing::info!(pid, "The service is started."),
            Err(err) => tracing::error!(error = chain(&err), "The service was not started."),
        }
    }
}

/// The process that has a root.
fn holder(root: &Root) -> Option<u32> {
    match root.in_use() {
        Err(LockError::InUse { pid, .. }) => pid,
        _ => None,
    }
}

/// One line of bounded length.
fn shortened(detail: &str) -> String {
    detail.chars().map(|it| if it.is_control() { ' ' } else { it }).take(DETAIL_MOST).collect()
}
