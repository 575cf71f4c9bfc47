//! Asking the installed integrations what they are: an action of the service's own, no command of the backend.
//!
//! It is done at the start and whenever a program in the folders of integrations has changed. It gives way to exports: it
//! does not begin while one runs, which has the same programs at work and writes their logs. Beside other commands it
//! runs at once, outside of their count; there is never more than one.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use outrider_protocol::action::{DescribeOrder, Order};
use outrider_protocol::ids::CommandId;
use outrider_protocol::report::ActionReport;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Agent;
use super::running::relay;
use crate::action::{Job, carry_out};
use crate::crashes::of_action;
use crate::event::{Event, Said};
use crate::outcome::{Answer, RunEnd, Stop, outcome};
use crate::redaction::Redaction;
use crate::task::guarded;
use crate::uplink::integrations::Known;

/// The name of the action, and of its run where a command's id would stand.
const NAME: &str = "describe-integrations";
/// How often the folders are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How often it looks whether the export has ended that it gives way to.
const GLANCE: Duration = Duration::from_secs(5);
/// When it failed, it is tried again after so long.
const AGAIN: Duration = Duration::from_secs(600);
/// How long all integrations together may take.
const TIME_LIMIT: Duration = Duration::from_secs(600);

/// The programs that are installed, each with what changes when it is replaced.
type Programs = Vec<(PathBuf, Option<SystemTime>, u64)>;

/// What is known of the installed integrations.
#[derive(Debug)]
pub(super) struct Describing {
    known: watch::Sender<Known>,
    /// The programs that `known` is about.
    seen: Option<Programs>,
    /// Those that are asked now, and what ends that.
    asked: Option<(Programs, watch::Sender<Option<Stop>>)>,
    at: Instant,
    stopped: bool,
}

impl Describing {
    pub(super) fn new() -> Self {
        let (known, at) = (watch::Sender::new(None), Instant::now());
        Self { known, seen: None, asked: None, at, stopped: false }
    }

    /// What is known, as it changes.
    pub(super) fn known(&self) -> watch::Receiver<Known> {
        self.known.subscribe()
    }

    /// When there is something to do.
    pub(super) fn at(&self) -> Option<Instant> {
        (!self.stopped && self.asked.is_none()).then_some(self.at)
    }

    pub(super) fn is_running(&self) -> bool {
        self.asked.is_some()
    }

    /// The service stops.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
        if let Some((_, stop)) = &self.asked {
            stop.send_replace(Some(Stop::ServiceStops));
        }
    }

    /// Its run says something: its log is for the service's own.
    pub(super) fn said(&self, id: &CommandId, said: Said) {
        if let Said::Log(batch) = said {
            relay(id, &batch);
        }
    }

    /// Whether to ask now, and when to look again.
    fn decide(&mut self, now: Instant, programs: &Programs, exporting: bool) -> bool {
        let changed = self.seen.as_ref() != Some(programs);
        self.at = now + if changed && exporting { GLANCE } else { LOOK_EVERY };
        changed && !exporting
    }
}

impl Agent {
    pub(super) fn describe_if_due(&mut self, now: Instant) {
        if self.describing.at().is_none_or(|at| at > now) {
            return;
        }
        let programs = installed(&self.folders());
        if self.describing.decide(now, &programs, !self.commands.active_exports().is_empty()) {
            self.describe(programs);
        }
    }

    /// Where programs of integrations are looked up, as the actions do it.
    fn folders(&self) -> Vec<PathBuf> {
        let beside = self.setup.program.parent().map(Path::to_owned).unwrap_or_default();
        let set = self.setup.config.integrations_dir.clone();
        set.into_iter().chain([beside.join("integrations"), beside]).collect()
    }

    fn describe(&mut self, programs: Programs) {
        let Ok(command) = CommandId::new(NAME) else { return };
        let config = &self.setup.config;
        let mut order = Order::DescribeIntegrations(DescribeOrder::default());
        order.agent_mut().customer_id.clone_from(&config.customer_id);
        let job = Job {
            command,
            redaction: Arc::new(Redaction::of(&order, &config.token)),
            tokens: self.tokens.clone(),
            order,
            time_limit: Some(TIME_LIMIT),
            program: self.setup.program.clone(),
            root: self.setup.root.path().to_owned(),
            limits: config.limits.clone(),
        };
        tracing::debug!(programs = programs.len(), "Asking the installed integrations what they are.");
        let (stop, stopped) = watch::channel(None);
        self.describing.asked = Some((programs, stop));
        let events = self.events.clone();
        self.runs.spawn(async move {
            let end = guarded(NAME, carry_out(&job, &events, stopped)).await;
            let end = end.unwrap_or(RunEnd { answer: Answer::Broken, stopped: None, ended: None });
            drop(events.send(Event::Described(Box::new(end))).await);
        });
    }

    /// They have answered, or not.
    pub(super) fn described(&mut self, end: RunEnd) {
        let Some((programs, _)) = self.describing.asked.take() else { return };
        if let Some(crash) = of_action(NAME, None, &end) {
            self.crashes.add(crash);
        }
        let ended = outcome(NAME, end);
        if let Some(ActionReport::DescribeIntegrations(report)) = ended.report {
            for it in &report.failed {
                tracing::warn!(integration = %it.name, error = it.error.message, "An integration does not say what it is.");
            }
            self.describing.seen = Some(programs);
            self.describing.known.send_replace(Some(Arc::new(report)));
            return;
        }
        self.describing.at = Instant::now() + AGAIN;
        if !self.describing.stopped {
            let error = ended.error.map(|it| it.message);
            tracing::warn!(
                error,
                "The installed integrations were not asked what they are; it is tried again."
            );
        }
    }
}

/// The programs of integrations in some folders.
fn installed(folders: &[PathBuf]) -> Programs {
    let mut found = Programs::new();
    for folder in folders {
        // A folder that is missing has none.
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let is_one = |name: &OsStr| name.as_encoded_bytes().starts_with(b"integration-");
            // What a link leads to is what is run.
            if let (true, Ok(data)) = (is_one(&entry.file_name()), std::fs::metadata(entry.path()))
                && data.is_file()
            {
                found.push((entry.path(), data.modified().ok(), data.len()));
            }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_gives_way_to_exports_and_is_done_again_when_a_program_changed() {
        let mut it = Describing::new();
        let none = Programs::new();
        let now = Instant::now();
        assert!(!it.decide(now, &none, true));
        assert_eq!(it.at, now + GLANCE);
        assert!(it.decide(now + GLANCE, &none, false), "nothing runs any more");
        it.seen = Some(none.clone());
        assert!(!it.decide(now, &none, true), "nothing has changed");
        assert_eq!(it.at, now + LOOK_EVERY);
        let one = vec![(PathBuf::from("integration-git"), None, 1)];
        assert!(!it.decide(now, &one, true));
        assert!(it.decide(now + GLANCE, &one, false));
    }

    #[test]
    fn a_program_that_is_replaced_or_removed_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let folders = [dir.path().to_owned(), dir.path().join("missing")];
        assert!(installed(&folders).is_empty());
        std::fs::write(dir.path().join("integration-git"), "1").unwrap();
        std::fs::write(dir.path().join("README"), "1").unwrap();
        let before = installed(&folders);
        assert_eq!(before.len(), 1);
        std::fs::write(dir.path().join("integration-git"), "22").unwrap();
        assert_ne!(installed(&folders), before);
    }
}
