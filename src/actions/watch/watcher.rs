//! The watcher's loop: looks at the journal, asks the service, and does what the verdict says.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use outrider_home::{LockError, Root};
use outrider_protocol::fault::chain;
use outrider_protocol::upgrade::Build;
use outrider_upgrade::installed;
use outrider_versions::{
    Journal, Phase, Points, Reason, Record, VersionName, Versions, VersionsError, Writer,
};
use tokio::time::{Instant, sleep};

use super::ask::Asker;
use super::deadline::{is_close, time_left};
use super::taking_back::is_at;
use super::tries::Tries;
use super::verdict::{Observation, Terms, Trial, Verdict};
use super::{Settings, Stop, Watched};

/// How long to wait for the right to change the journal; it is tried again at the next look.
pub(super) const WRITER_WAIT: Duration = Duration::from_millis(500);
/// What a look may take beside its pause and its question until it counts as held up.
const LOOK_TIME: Duration = Duration::from_secs(1);

/// One that has the post.
pub(super) struct Watcher {
    pub(super) root: Root,
    pub(super) versions: Versions,
    pub(super) settings: Settings,
    pub(super) asker: Asker,
    stop: Stop,
    is_stopped: bool,
    /// What was seen in the last minute, a line each.
    pub(super) answers: VecDeque<(Instant, String)>,
    /// The trouble and the state that were logged last, so that they are not at each look.
    pub(super) said: [String; 2],
    /// Whether it was this watcher that went back.
    pub(super) went_back: bool,
    /// The attempt whose diagnosis is kept.
    pub(super) diagnosed: Option<String>,
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").field("root", &self.root).finish_non_exhaustive()
    }
}

/// What is known of the attempt that is watched.
#[derive(Debug, Default)]
struct Known {
    attempt: String,
    /// How long it has not been switched.
    ahead: Duration,
    /// How long an act is half done.
    half: Duration,
    /// How long there was nothing to judge: the service is stopped, or the journal cannot be read.
    idle: Duration,
    on_trial: Option<(Trial, Tries)>,
    /// Whether it was seen before it ended.
    alive: bool,
    /// Whether the new version gave no answer when it was asked last, though nobody had stopped it.
    mute: bool,
}

/// Whether an act was begun. One that is armed was switched to where `current` says so: the record of the switch is lost, as
/// with both slots of the journal.
fn is_half_done(phase: Phase, current: &Points, record: &Record) -> bool {
    match phase {
        Phase::Switched | Phase::RollingBack => true,
        Phase::Armed => *current == Points::To(record.to.clone()),
        _ => false,
    }
}

impl Watcher {
    pub(super) fn new(root: Root, versions: Versions, settings: Settings, stop: Stop) -> Self {
        Self {
            asker: Asker::new(root.clone()),
            root,
            versions,
            settings,
            stop,
            is_stopped: false,
            answers: VecDeque::new(),
            said: Default::default(),
            went_back: false,
            diagnosed: None,
        }
    }

    /// Looks again and again.
    pub(super) async fn run(&mut self) -> Watched {
        let mut known = Known::default();
        let mut last = Instant::now();
        loop {
            let now = Instant::now();
            let passed = now.saturating_duration_since(last);
            last = now;
            if let Some(watched) = self.look(&mut known, passed).await {
                return watched;
            }
            if self.pause(self.settings.every).await {
                return Watched::Stopped;
            }
        }
    }

    /// Waits, and answers whether it is to end.
    pub(super) async fn pause(&mut self, time: Duration) -> bool {
        if !self.is_stopped {
            tokio::select! {
                reason = &mut self.stop => {
                    tracing::info!(reason, "The watcher is to end.");
                    self.is_stopped = true;
                }
                () = sleep(time) => {}
            }
        }
        self.is_stopped
    }

    async fn look(&mut self, known: &mut Known, passed: Duration) -> Option<Watched> {
        let (record, current) = match self.versions.see() {
            Ok(seen) => match seen.journal {
                Journal::Attempt(record) => (*record, seen.links.current),
                Journal::Absent => return Some(Watched::Ended),
                Journal::Unreadable => return self.blind(known, passed, "neither slot can be read"),
            },
            Err(err) => return self.blind(known, passed, &chain(&err)),
        };
        if known.attempt != record.attempt {
            tracing::info!(attempt = record.attempt, from = %record.from, to = %record.to, phase = %record.phase,
                "This attempt is watched.");
            *known = Known { attempt: record.attempt.clone(), ..Known::default() };
        }
        match record.phase {
            phase if phase.is_terminal() => return self.over(known, &record).await,
            Phase::Probation => return self.on_trial(known, &record, passed).await,
            phase if is_half_done(phase, &current, &record) => {
                known.half = known.half.saturating_add(passed);
                if known.half >= self.settings.half_for {
                    known.half = Duration::ZERO;
                    self.settle(&record);
                }
            }
            _ => {
                known.ahead = known.ahead.saturating_add(passed);
                if known.ahead >= self.settings.armed_for {
                    tracing::warn!(phase = %record.phase, "The attempt did not get to its switch; it is not watched any more.");
                    return Some(Watched::GivenUp);
                }
            }
        }
        known.alive = true;
        None
    }

    /// The journal cannot be read: that passes, or somebody mends it.
    fn blind(&mut self, known: &mut Known, passed: Duration, why: &str) -> Option<Watched> {
        self.trouble("The journal of versions cannot be read.", why);
        self.idle(known, passed)
    }

    fn idle(&self, known: &mut Known, passed: Duration) -> Option<Watched> {
        known.idle = known.idle.saturating_add(passed);
        (known.idle >= self.settings.stopped_for).then(|| {
            tracing::warn!("There was nothing to watch for a long time; the next start has a watcher again.");
            Watched::GivenUp
        })
    }

    /// Whoever began an act is gone in the middle of it.
    fn settle(&mut self, record: &Record) {
        for fault in self.versions.slot_faults() {
            tracing::error!(%fault, "A slot of the journal of versions cannot be used.");
        }
        tracing::warn!(phase = %record.phase, "An act was begun and not finished; it is finished from here.");
        self.went_back |= record.phase == Phase::RollingBack;
        let settled = self.changed(record, |writer| writer.settle().map(drop));
        self.told("Finish what was begun.", settled);
    }

    async fn on_trial(&mut self, known: &mut Known, record: &Record, passed: Duration) -> Option<Watched> {
        known.alive = true;
        let (mut trial, mut tries) = match known.on_trial.take() {
            Some(known) => known,
            None => (self.begin(record), Tries::of(record)),
        };
        if trial.terms.build.is_none() {
            trial.terms.build = self.build_of(&record.to);
        }
        let seen = self.observe(record, &mut tries).await;
        self.tell(&seen);
        known.mute = !matches!(seen, Observation::Answer(_) | Observation::Stopped);
        let was_green = trial.green().is_some();
        let verdict = trial.judge(passed, &seen);
        match (was_green, trial.green()) {
            (false, Some(_)) => tracing::info!("All is well."),
            (true, None) => tracing::warn!("All was well, and is not any more."),
            _ => {}
        }
        let left = trial.left();
        known.on_trial = Some((trial, tries));
        match verdict {
            Verdict::Commit => {
                let committed = self.commit(record);
                self.told("Let the new version stay.", committed);
            }
            Verdict::RollBack { reason, detail } => self.go_back(record, reason, &detail).await,
            Verdict::GoOn if seen == Observation::Stopped => return self.idle(known, passed),
            Verdict::GoOn => self.keep_deadline(record, left),
        }
        known.idle = Duration::ZERO;
        None
    }

    fn begin(&self, record: &Record) -> Trial {
        let settings = &self.settings;
        let green_for = Duration::from_millis(record.green_for_ms);
        let terms = Terms {
            build: self.build_of(&record.to),
            old_reach: record.old_reach,
            green_for,
            hang: settings.hang,
            refusals: settings.refusals,
            longest_step: settings.every.saturating_add(settings.answer_within).saturating_add(LOOK_TIME),
        };
        let now = self.versions.now().ok();
        let left = time_left(record, now.as_ref(), green_for.saturating_add(settings.hang));
        tracing::info!(?left, old_reach = ?record.old_reach, ?green_for, "The new version is on trial.");
        Trial::new(terms, left)
    }

    pub(super) fn build_of(&self, version: &VersionName) -> Option<Build> {
        installed(&self.versions.layout().version(version)).as_ref().map(Build::from)
    }

    async fn observe(&mut self, record: &Record, tries: &mut Tries) -> Observation {
        let why = match self.asker.ask(self.settings.answer_within).await {
            Ok(reply) => {
                tries.answers(record);
                return Observation::Answer(Box::new(reply));
            }
            Err(why) => why,
        };
        match self.root.in_use() {
            Ok(()) => tries.nobody(record),
            Err(LockError::InUse { pid, .. }) => {
                tries.silent(record);
                let pid = pid.map_or_else(|| "unknown".to_owned(), |it| it.to_string());
                Observation::Silent { why: format!("{why} (process {pid})") }
            }
            Err(err) => Observation::Silent { why: format!("{why}; {}", chain(&err)) },
        }
    }

    /// The right to change the journal for a moment, while it is at this attempt still.
    pub(super) fn changed(
        &self,
        record: &Record,
        change: impl FnOnce(&Writer<'_>) -> Result<(), VersionsError>,
    ) -> Result<(), VersionsError> {
        let writer = self.versions.write(WRITER_WAIT)?;
        if is_at(&self.versions, record) { change(&writer) } else { Ok(()) }
    }

    fn commit(&self, record: &Record) -> Result<(), VersionsError> {
        self.changed(record, |writer| match writer.commit() {
            // Somebody pointed `current` elsewhere.
            Err(VersionsError::NoCurrent { .. }) => writer.settle().map(drop),
            other => other.map(drop),
        })
    }

    /// Whoever watches next goes by the deadline in the journal.
    fn keep_deadline(&mut self, record: &Record, left: Duration) {
        let Ok(now) = self.versions.now() else { return };
        if is_close(record.deadline.as_ref(), &now, left) {
            return;
        }
        let deadline = now.plus(left);
        let kept = self.changed(record, |it| it.update(|it| it.deadline = Some(deadline)).map(drop));
        self.told("Set the deadline anew.", kept);
    }

    async fn over(&mut self, known: &Known, record: &Record) -> Option<Watched> {
        match record.phase {
            Phase::Committed => tracing::info!(version = %record.to, "The new version stays."),
            Phase::RolledBack => {
                let reason = record.reason_word().unwrap_or_default();
                tracing::warn!(version = %record.to, reason, detail = record.detail, "The new version was taken back.");
                if known.alive {
                    self.diagnose(record, None).await;
                }
            }
            phase => {
                let reason = record.reason_word().unwrap_or_default();
                tracing::error!(%phase, reason, detail = record.detail, "The attempt has failed; what `current` points to stays.");
            }
        }
        // A person's own process ends one that hangs, and starts nothing.
        let is_left =
            record.phase == Phase::RolledBack && record.reason == Some(Reason::ByHand) && known.mute;
        if std::mem::take(&mut self.went_back) || is_left {
            self.see_it_run().await;
        }
        let next = self.versions.see().ok()?.journal.record().cloned();
        match next {
            // Another attempt was armed meanwhile, and its own watcher found the post taken.
            Some(next) if next.attempt != record.attempt && !next.phase.is_terminal() => None,
            _ => Some(Watched::Ended),
        }
    }
}
