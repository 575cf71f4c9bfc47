//! `outrider collect` as the loop has it: started, stopped, and told of.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Agent, Setup};
use crate::collecting::process::{Job, NAME, failed, run};
use crate::collecting::{Act, Section, Signal};
use crate::crashes::of_action;
use crate::event::{CollectSaid, Event};
use crate::outcome::{Answer, RunEnd};
use crate::redaction::Redaction;
use crate::task::guarded;

impl Agent {
    /// Starts or stops it, as config.json and the backend say by now.
    pub(super) fn collect_if_due(&mut self, now: Instant) {
        if self.collecting.at().is_none_or(|at| at > now) {
            return;
        }
        if self.collecting.looks(now) {
            self.look_at_config();
        }
        let section = self.setup.config.collects(self.ordered.kept.as_ref());
        let section =
            section.map(|(source, section)| Section { source, text: section.raw().get().to_owned() });
        if let Act::Start(signal) = self.collecting.decide(section.as_ref(), now) {
            self.start_collect(signal);
        }
        self.tell_collecting();
    }

    /// Reads config.json when it has changed. One that is broken was said in the log, once for each change.
    fn look_at_config(&mut self) {
        let data = std::fs::metadata(self.setup.root.config_path()).ok();
        let seen = data.and_then(|it| Some((it.modified().ok()?, it.len())));
        if std::mem::replace(&mut self.config_seen, seen) != seen && seen.is_some() {
            drop(self.setup.reload());
        }
    }

    fn start_collect(&mut self, signal: Signal) {
        let Setup { config, program, root, .. } = &self.setup;
        let section = config.collects(self.ordered.kept.as_ref());
        let secrets = section.iter().flat_map(|(_, section)| section.secrets());
        self.collect_redaction = Arc::new(Redaction::of_texts(secrets, &config.token));
        let job = Job {
            program: program.clone(),
            root: root.path().to_owned(),
            limits: config.limits.clone(),
            redaction: Arc::clone(&self.collect_redaction),
        };
        tracing::info!("Collecting starts.");
        let events = self.events.clone();
        self.runs.spawn(async move {
            let end = guarded(NAME, run(&job, &events, signal)).await;
            let broken = || Some(RunEnd { answer: Answer::Broken, stopped: None, ended: None });
            drop(events.send(Event::CollectEnded(end.unwrap_or_else(broken).map(Box::new))).await);
        });
    }

    pub(super) fn collecting_says(&mut self, said: CollectSaid) {
        match said {
            CollectSaid::Started { pid } => self.collecting.started(pid),
            CollectSaid::Report(report) => self.collecting.reported(report),
        }
        self.tell_collecting();
    }

    pub(super) fn collect_ended(&mut self, end: Option<&RunEnd>) {
        if let Some(crash) = end.and_then(|it| of_action(NAME, None, it)) {
            self.crashes.add(crash);
        }
        let failed = end.map(failed);
        let why = failed.as_ref().map(|it| it.why.clone());
        match self.collecting.ended(Instant::now(), failed) {
            Some(pause) => {
                let again_in_s = pause.as_secs();
                tracing::error!(why, again_in_s, "Collecting ended by itself; it is started again.");
            }
            None => tracing::info!(why, "Collecting has ended."),
        }
        self.tell_collecting();
    }
}
