//! One attempt, step by step.

use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use outrider_home::Config;
use outrider_protocol::upgrade::{Build, UpgradeOrder, UpgradeProgress, UpgradeState};
use outrider_upgrade::download::{Download, News, download};
use outrider_upgrade::{FileList, Identity, check_in_place, installed, keep_list, verify_tree};
use outrider_versions::{
    Begun, Lock, Phase, Post, Reason, Record, VersionName, Versions, VersionsError, Writer,
};

use super::found::{Found, Origin, Package};
use super::room::{free, needed};
use super::staging::{clear_but, make_private, unpack_whole};
use super::{bare, because, tell};
use crate::by_hand::is_made_up;
use crate::context::Context;

/// How long to wait for the right to change the journal; others have it for a moment only.
const WRITER_WAIT: Duration = Duration::from_secs(5);

/// How an attempt ended here; [`UpgradeState::Arming`] is the good end.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) state: UpgradeState,
    pub(super) from: Option<Build>,
    pub(super) to: Option<Build>,
    pub(super) reason: Option<String>,
    pub(super) failed_at: Option<UpgradeState>,
    pub(super) retryable: bool,
}

impl Default for Ended {
    fn default() -> Self {
        Self {
            state: UpgradeState::Failed,
            from: None,
            to: None,
            reason: None,
            failed_at: None,
            retryable: false,
        }
    }
}

/// What carries it out.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    pub(super) context: &'a Context,
    pub(super) order: UpgradeOrder,
    pub(super) config: Option<&'a Config>,
    pub(super) versions: Versions,
    /// Held from the first step on.
    worker: Mutex<Option<Lock>>,
    from: OnceLock<Build>,
    to: OnceLock<Build>,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(context: &'a Context, order: UpgradeOrder, config: Option<&'a Config>) -> Self {
        let versions = Versions::of(context.root().path());
        let worker = Mutex::default();
        Self { context, order, config, versions, worker, from: OnceLock::new(), to: OnceLock::new() }
    }

    /// Gives up the right to carry it out, if it has that.
    pub(super) fn let_go(&self) -> Option<Lock> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn from(&self) -> Option<Build> {
        self.from.get().cloned()
    }

    pub(super) fn to(&self) -> Option<Build> {
        self.to.get().cloned()
    }

    pub(super) async fn carry_out(&self) -> Ended {
        match self.steps().await {
            Ok(state) => Ended { state, ..Ended::default() },
            Err(ended) => *ended,
        }
    }

    async fn steps(&self) -> Result<UpgradeState, Box<Ended>> {
        let at = UpgradeState::Requested;
        let failed = |err: &dyn std::error::Error, retryable| Box::new(because(at, err, retryable));
        self.tell(at, bare(self.context)).await;
        let worker = self.versions.take(Post::Worker, Duration::ZERO).map_err(|err| failed(&err, true))?;
        *self.worker.lock().unwrap_or_else(PoisonError::into_inner) = Some(worker);
        let running = self.running()?;
        let found = if self.order.previous { self.find_previous()? } else { self.find().await? };
        let package = &found.identity;
        drop(self.to.set(Build::from(package)));
        if let Some(running) = &running {
            if running == package {
                return Ok(UpgradeState::AlreadyCurrent);
            }
            if package.version < running.version && !self.order.allow_downgrade {
                let reason = format!(
                    "{package} is older than {running}, which runs: allow the downgrade if it is meant"
                );
                return Err(self.refused(at, reason));
            }
        }
        match self.begin(&found)? {
            Phase::Armed => return Ok(UpgradeState::Arming),
            phase if phase.is_terminal() => {
                return Err(self.refused(at, format!("this attempt has ended before: {phase}")));
            }
            phase if !phase.is_before_switch() => {
                return Err(self.refused(at, format!("this attempt is beyond the action: {phase}")));
            }
            _ => {}
        }
        let there = match &found.origin {
            Origin::Package(package) => self.bring_into_place(&found.name, package).await,
            Origin::InPlace => self.look_at_previous(&found.name).await,
        };
        match there {
            Ok(()) => Ok(UpgradeState::Arming),
            Err(ended) => {
                self.note_failure(&ended);
                Err(ended)
            }
        }
    }

    /// Which build runs from `current`; nothing for one that does not say.
    fn running(&self) -> Result<Option<Identity>, Box<Ended>> {
        let at = UpgradeState::Requested;
        let seen = self.versions.see().map_err(|err| Box::new(because(at, &err, true)))?;
        let Some(current) = seen.tree.whole(&seen.links.current) else {
            let reason = format!(
                "{} has no version that `current` points to: this agent was not installed from a package; unpack one, and \
                 run its `outrider install`",
                self.context.root().path().display()
            );
            return Err(self.refused(at, reason));
        };
        let running = installed(&self.versions.layout().version(current));
        if let Some(running) = &running {
            drop(self.from.set(Build::from(running)));
        }
        Ok(running)
    }

    pub(super) fn refused(&self, at: UpgradeState, reason: String) -> Box<Ended> {
        Box::new(Ended { reason: Some(reason), failed_at: Some(at), ..Ended::default() })
    }

    /// Begins the attempt in the journal, or finds it there.
    fn begin(&self, found: &Found) -> Result<Phase, Box<Ended>> {
        let at = UpgradeState::Requested;
        let id = self.context.run_id().to_string();
        // The journal knows which version runs.
        let mut record = Record::new(id.clone(), id, found.name.clone(), found.name.clone());
        record.force = self.order.force;
        let begun = self.versions.write(WRITER_WAIT).and_then(|writer| {
            end_orphan(&self.versions, &writer)?;
            writer.begin(record)
        });
        match begun {
            Ok(Begun::New(record)) => Ok(record.phase),
            Ok(Begun::Before(record)) if record.to == found.name => Ok(record.phase),
            Ok(Begun::Before(record)) => {
                let reason = format!(
                    "the attempt was for {}, and now {} would be taken: order it again",
                    record.to, found.name
                );
                let ended = self.refused(at, reason);
                self.note_failure(&ended);
                Err(ended)
            }
            Err(err @ VersionsError::Busy { .. }) => Err(Box::new(because(at, &err, true))),
            Err(err) => Err(Box::new(because(at, &err, false))),
        }
    }

    /// The version before was in place all the time.
    async fn look_at_previous(&self, name: &VersionName) -> Result<(), Box<Ended>> {
        let at = UpgradeState::Verifying;
        let (root, version) = (self.context.root().path().to_owned(), name.as_str().to_owned());
        let checked = tokio::task::spawn_blocking(move || check_in_place(&root, &version)).await;
        match checked.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic())) {
            Ok(()) => self.enter(Phase::Staged, at),
            Err(err) => Err(Box::new(because(at, &err, false))),
        }
    }

    /// From the mirror to its final name.
    async fn bring_into_place(&self, name: &VersionName, found: &Package) -> Result<(), Box<Ended>> {
        let at = UpgradeState::Extracting;
        let layout = self.versions.layout().clone();
        let there = layout.version(name);
        if there.exists() {
            if self.is_as_listed(&there, found.placed()).await {
                self.enter(Phase::Staged, at)?;
                return self.keep_list(name, found);
            }
            let discarded = self.versions.write(WRITER_WAIT).and_then(|it| it.discard(name));
            discarded.map_err(|err| Box::new(because(at, &err, false)))?;
        }
        let staging = layout.staging();
        make_private(&staging).map_err(|err| Box::new(because(at, &err, true)))?;
        let part = format!("{}.part", found.archive.target.sha256);
        clear_but(&staging, &part).map_err(|err| Box::new(because(at, &err, true)))?;
        let archive = staging.join(part);
        self.check_room(found, &archive, &staging)?;
        self.fetch(found, &archive).await?;
        let tree = staging.join(self.context.run_id().as_str());
        self.enter(Phase::Verified, UpgradeState::Verifying)?;
        self.tell(UpgradeState::Extracting, bare(self.context)).await;
        self.unpacked(found, &archive, &tree).await?;
        self.enter(Phase::Staged, at)?;
        self.keep_list(name, found)?;
        let placed = self.versions.write(WRITER_WAIT).and_then(|it| it.place(&tree, name));
        placed.map(drop).map_err(|err| Box::new(because(at, &err, true)))
    }

    fn check_room(&self, found: &Package, archive: &Path, staging: &Path) -> Result<(), Box<Ended>> {
        let have = std::fs::metadata(archive).map_or(0, |it| it.len());
        let need = needed(found.archive.target.length, have, found.list.total_bytes());
        match free(staging) {
            Ok(free) if free < need => {
                let reason = format!(
                    "the disk of {} is too full: the upgrade needs {need} bytes, {free} are free",
                    staging.display()
                );
                let mut ended = self.refused(UpgradeState::Downloading, reason);
                ended.retryable = true;
                Err(ended)
            }
            Ok(_) => Ok(()),
            Err(err) => Err(Box::new(because(UpgradeState::Downloading, &err, true))),
        }
    }

    async fn fetch(&self, found: &Package, archive: &Path) -> Result<(), Box<Ended>> {
        let at = UpgradeState::Downloading;
        self.enter(Phase::Fetching, at)?;
        let limits = self.context.limits();
        let within = limits.upgrade_fetch();
        let until = Timestamp::now() + SignedDuration::try_from(within).unwrap_or_default();
        let what = Download {
            mirrors: &found.mirrors,
            target: &found.archive.target,
            into: archive,
            rate: limits.upgrade_rate_bytes,
            within,
        };
        let (news, mut heard) = tokio::sync::mpsc::channel(8);
        let telling = async {
            while let Some(it) = heard.recv().await {
                self.tell(at, progress(self.context, &it, what.target.length, until)).await;
            }
        };
        let fetching = async {
            // Where nobody keeps up, the next says more.
            let fetched = download(&what, |it| drop(news.try_send(it))).await;
            drop(news);
            fetched
        };
        let (fetched, ()) = tokio::join!(fetching, telling);
        fetched.map_err(|err| Box::new(because(at, &err, err.is_retryable())))
    }

    /// Unpacks into a folder of its own. Each file is held against the list while it is written, and nothing that is not
    /// listed is; what lies there is read again right before the switch.
    async fn unpacked(&self, found: &Package, archive: &Path, tree: &Path) -> Result<(), Box<Ended>> {
        let at = UpgradeState::Extracting;
        let (archive, tree) = (archive.to_owned(), tree.to_owned());
        let (list, lacks) = (found.list.clone(), found.lacks.clone());
        let work = move || unpack_whole(&archive, &list, lacks, &tree);
        match tokio::task::spawn_blocking(work).await {
            Ok(unpacked) => unpacked.map_err(|err| Box::new(because(at, &*err, false))),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }

    async fn is_as_listed(&self, folder: &Path, list: &FileList) -> bool {
        let (folder, list) = (folder.to_owned(), list.clone());
        tokio::task::spawn_blocking(move || verify_tree(&folder, &list)).await.is_ok_and(|it| it.is_ok())
    }

    /// The list is needed once more right before the switch, and before this version is gone back to.
    fn keep_list(&self, name: &VersionName, found: &Package) -> Result<(), Box<Ended>> {
        let at = UpgradeState::Extracting;
        keep_list(self.context.root().path(), name.as_str(), found.placed())
            .map_err(|err| Box::new(because(at, &err, true)))
    }

    /// Notes the next phase, where the attempt is not there already.
    fn enter(&self, phase: Phase, at: UpgradeState) -> Result<(), Box<Ended>> {
        let entered = self.versions.write(WRITER_WAIT).and_then(|writer| {
            let now = self.versions.see()?.journal.record().map(|it| it.phase);
            if now == Some(phase) { Ok(()) } else { writer.enter(phase, None).map(drop) }
        });
        entered.map_err(|err| Box::new(because(at, &err, true)))
    }

    fn note_failure(&self, ended: &Ended) {
        let why = ended.reason.as_deref().unwrap_or_default();
        let noted = self.versions.write(WRITER_WAIT).and_then(|writer| {
            writer.update(|record| record.retryable = ended.retryable)?;
            writer.enter(Phase::Failed, Some((Reason::Package, why)))
        });
        if let Err(err) = noted {
            tracing::error!(
                error = outrider_protocol::fault::chain(&err),
                "The end of the attempt was not noted."
            );
        }
    }

    async fn tell(&self, state: UpgradeState, more: UpgradeProgress) {
        tell(self.context, self.to.get(), state, more).await;
    }
}

/// Ends an attempt that a person began without a service and that was killed before its switch: nobody comes back to it, and
/// it would stand in the way of all others. Only for whoever has the right to carry attempts out, so that nobody is at it.
fn end_orphan(versions: &Versions, writer: &Writer<'_>) -> Result<(), VersionsError> {
    let seen = versions.see()?;
    let Some(record) = seen.journal.record() else { return Ok(()) };
    if is_made_up(&record.command) && record.phase.is_before_switch() && !seen.is_switched(record) {
        let why = "whoever carried it out is gone, and another attempt took its place";
        writer.enter(Phase::Failed, Some((Reason::Other, why)))?;
    }
    Ok(())
}

fn progress(context: &Context, news: &News, length: u64, until: Timestamp) -> UpgradeProgress {
    let bare = bare(context);
    match news {
        News::Have { bytes, per_second } => {
            let percent = u8::try_from(u128::from(*bytes) * 100 / u128::from(length.max(1))).unwrap_or(100);
            UpgradeProgress { percent: Some(percent.min(100)), bytes_per_s: Some(*per_second), ..bare }
        }
        News::Again { error, .. } => {
            UpgradeProgress { retry_error: Some(context.redact(error)), retry_until: Some(until), ..bare }
        }
    }
}
