//! Whether a version on trial is well: a pure function of what was seen of it, look by look.
//!
//! Time comes in as what passed since the last look, and never as more than [`Terms::longest_step`]: a machine that slept,
//! or a watcher that was held up, says nothing about the service. A step of the wall clock is not seen here at all.
//!
//! | seen | says |
//! | --- | --- |
//! | an answer of the new build; self-test answered; the backend has taken its check-in, or was not reachable before either | well: for [`Terms::green_for`] without a break, it stays |
//! | its self-test failed | unhealthy, at once |
//! | the backend, which took the old version, refuses it at [`Terms::refusals`] looks in a row | unhealthy |
//! | no answer for [`Terms::hang`], whether a process has the root or none | hang |
//! | stopped on purpose | nothing: no time passes |
//! | all of that, but that the backend is busy or has an error of its own | well when no time is left: nothing says otherwise |
//! | anything else, until no time is left | not well: deadline |
//!
//! What is well when the time is over may finish proving it: nothing is missing of it. Whoever was found not well stays so.

use std::time::Duration;

use outrider_protocol::local::{BackendLink, HealthReply, SelfTest};
use outrider_protocol::upgrade::Build;
use outrider_versions::{OldReach, Reason};

/// What was seen of the service at one look.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Observation {
    /// It answered in time.
    Answer(Box<HealthReply>),
    /// A process has the root, and gave no answer.
    Silent {
        /// What came in its place.
        why: String,
    },
    /// No process has the root, and nobody asked for that.
    Gone,
    /// The trial has begun, and it was never started.
    NotStarted,
    /// It was stopped on purpose.
    Stopped,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Look again.
    GoOn,
    /// It stays.
    Commit,
    /// It is taken back.
    RollBack {
        /// Why.
        reason: Reason,
        /// The same for a person.
        detail: String,
    },
}

/// What a version is held to.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    /// The build that has to answer.
    pub(super) build: Option<Build>,
    /// Whether the version before could reach the backend.
    pub(super) old_reach: OldReach,
    /// How long all must be well.
    pub(super) green_for: Duration,
    /// How long it may give no answer.
    pub(super) hang: Duration,
    /// At how many looks in a row the backend may refuse it.
    pub(super) refusals: u32,
    /// The most that can pass between two looks.
    pub(super) longest_step: Duration,
}

/// A version on trial.
#[derive(Debug, Clone)]
pub(super) struct Trial {
    pub(super) terms: Terms,
    left: Duration,
    /// Since when all is well.
    green: Option<Duration>,
    silent: Duration,
    refused: u32,
    /// Found before; whatever follows does not change it.
    condemned: Option<(Reason, String)>,
}

impl Trial {
    /// A version that has so much time left.
    pub(super) fn new(terms: Terms, left: Duration) -> Self {
        Self { terms, left, green: None, silent: Duration::ZERO, refused: 0, condemned: None }
    }

    /// How much time is left.
    pub(super) fn left(&self) -> Duration {
        self.left
    }

    /// Whether all is well, and since when.
    pub(super) fn green(&self) -> Option<Duration> {
        self.green
    }

    /// What follows of what was seen, `passed` after the last look.
    pub(super) fn judge(&mut self, passed: Duration, seen: &Observation) -> Verdict {
        let passed = passed.min(self.terms.longest_step);
        if self.condemned.is_none() {
            match self.look(passed, seen) {
                Verdict::RollBack { reason, detail } => self.condemned = Some((reason, detail)),
                other => return other,
            }
        }
        match &self.condemned {
            Some((reason, detail)) => Verdict::RollBack { reason: *reason, detail: detail.clone() },
            None => Verdict::GoOn,
        }
    }

    fn look(&mut self, passed: Duration, seen: &Observation) -> Verdict {
        if *seen == Observation::Stopped {
            (self.green, self.silent, self.refused) = (None, Duration::ZERO, 0);
            return Verdict::GoOn;
        }
        self.left = self.left.saturating_sub(passed);
        match seen {
            Observation::Answer(reply) => self.answered(passed, reply),
            Observation::Silent { why } => self.unanswered(passed, &format!("it gives no answer: {why}")),
            Observation::Gone => self.unanswered(passed, "it ended, and nobody started it again"),
            Observation::NotStarted => self.unanswered(passed, "nobody started it"),
            Observation::Stopped => Verdict::GoOn,
        }
    }

    fn answered(&mut self, passed: Duration, reply: &HealthReply) -> Verdict {
        self.silent = Duration::ZERO;
        let is_new = reply.build == self.terms.build;
        if let (true, SelfTest::Failed { why }) = (is_new, &reply.self_test) {
            return roll_back(Reason::Unhealthy, format!("its self-test failed: {why}"));
        }
        if let (true, OldReach::Reached, BackendLink::Refused { error }) =
            (is_new, self.terms.old_reach, &reply.backend)
        {
            self.refused = self.refused.saturating_add(1);
            if self.refused >= self.terms.refusals {
                let detail = format!("the backend refuses it, and took the version before: {error}");
                return roll_back(Reason::Unhealthy, detail);
            }
        } else {
            self.refused = 0;
        }
        if let Some(missing) = self.missing(reply) {
            self.green = None;
            return self.unless_over(&missing);
        }
        let green = self.green.map_or(Duration::ZERO, |it| it.saturating_add(passed));
        self.green = Some(green);
        // It may take the check-in yet; until then nothing is proved, and nothing said against it either.
        let is_proved = !self.waits_for_backend(reply) || self.left.is_zero();
        if green >= self.terms.green_for && is_proved { Verdict::Commit } else { Verdict::GoOn }
    }

    fn unanswered(&mut self, passed: Duration, what: &str) -> Verdict {
        self.green = None;
        self.silent = self.silent.saturating_add(passed);
        if self.silent >= self.terms.hang {
            return roll_back(Reason::Hang, format!("for {} s, {what}", self.silent.as_secs()));
        }
        self.unless_over(what)
    }

    fn unless_over(&self, missing: &str) -> Verdict {
        if self.left.is_zero() {
            return roll_back(Reason::Deadline, format!("it had not proved itself in time: {missing}"));
        }
        Verdict::GoOn
    }

    /// Whether only a backend that is in trouble of its own keeps it from being proved.
    fn waits_for_backend(&self, reply: &HealthReply) -> bool {
        self.terms.old_reach == OldReach::Reached && matches!(reply.backend, BackendLink::Busy { .. })
    }

    /// Which of the signs is missing.
    fn missing(&self, reply: &HealthReply) -> Option<String> {
        if reply.build != self.terms.build {
            let (found, expected) = (shown(reply.build.as_ref()), shown(self.terms.build.as_ref()));
            return Some(format!("{found} answers, expected {expected}"));
        }
        match &reply.self_test {
            SelfTest::Pending => return Some("its self-test has not ended".to_owned()),
            SelfTest::Failed { why } => return Some(format!("its self-test failed: {why}")),
            SelfTest::Answered => {}
        }
        if self.terms.old_reach != OldReach::Reached {
            // The version before could not reach it either, or nobody knows.
            return None;
        }
        match &reply.backend {
            BackendLink::CheckedIn { .. } | BackendLink::Busy { .. } => None,
            BackendLink::Unknown => Some("the backend has not answered its check-in".to_owned()),
            BackendLink::Away { error } => {
                Some(format!("it does not reach the backend, as the version before did: {error}"))
            }
            BackendLink::Refused { error } => Some(format!("the backend refuses it: {error}")),
        }
    }
}

fn roll_back(reason: Reason, detail: String) -> Verdict {
    Verdict::RollBack { reason, detail }
}

fn shown(build: Option<&Build>) -> String {
    build.map_or_else(|| "a build without a manifest".to_owned(), Build::to_string)
}
