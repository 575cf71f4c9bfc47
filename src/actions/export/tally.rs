//! What one integration delivered in an export, over all its attempts: by model, and by the objects that its sessions
//! belong to.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use outrider_home::SessionPath;
use outrider_protocol::fault::{Fault, Retry};
use outrider_protocol::ids::Model;
use outrider_protocol::integration::{ProjectResult, ProjectState};
use outrider_protocol::report::{ExportMode, Failure, ModelCount, ProjectReport};

use super::projects::{Projects, Tally as Project};
use super::sessions::Carried;
use crate::integration_log::IntegrationLog;

/// Lines of the log that go into the report of a project's failure.
const LINES: usize = 10;
/// Projects of an integration without an answer that are reported with lines of the log and the whole error. More only repeat
/// them.
const TOLD: usize = 100;
/// So many characters of the error stand with the others.
const SHORT: usize = 200;
/// Why a project failed of which the integration says nothing itself.
const GIVEN_UP: &str = "the integration rolled a session of it back, and did not come to say why";

/// What an integration has delivered: only what is durable counts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    models: BTreeMap<Model, ModelTally>,
    projects: Projects,
    incremental: bool,
    /// Whether this run stored a value itself.
    stored: bool,
    /// Whether an attempt failed before this one.
    again: bool,
}

#[derive(Debug)]
struct ModelTally {
    since: Instant,
    took: Duration,
    carried: Carried,
}

impl Tally {
    /// A session was opened; `given` when it got a value back that is not known to be of this run, `object` is the name of
    /// what it is about.
    pub(crate) fn opened(&mut self, path: &SessionPath, model: Option<Model>, given: bool, object: &str) {
        // In a second attempt it may be what the first one stored; then the first one has seen those of earlier runs.
        let incremental = given && !(self.again && self.stored);
        self.incremental |= incremental;
        self.projects.opened(path, incremental, object);
        if let Some(model) = model {
            let fresh =
                || ModelTally { since: Instant::now(), took: Duration::ZERO, carried: Carried::default() };
            self.models.entry(model).or_insert_with(fresh);
        }
    }

    /// A session is durable.
    pub(crate) fn done(&mut self, path: &SessionPath, model: Option<Model>, carried: Carried) {
        self.stored = true;
        self.projects.done(path, carried);
        if let Some(it) = model.and_then(|model| self.models.get_mut(&model)) {
            it.carried += carried;
            it.took = it.since.elapsed();
        }
    }

    /// A session was rolled back by the integration.
    pub(crate) fn rolled_back(&mut self, path: &SessionPath, log: &IntegrationLog) {
        self.projects.rolled_back(path, |since| log.lines_between(Some((since, Instant::now())), LINES));
    }

    /// An attempt failed, and another one follows.
    pub(crate) fn another_attempt(&mut self) {
        self.again = true;
        self.projects.another_attempt();
    }

    /// A session was open when its integration ended.
    pub(crate) fn left_open(&mut self, path: &SessionPath) {
        self.projects.left_open(path);
    }

    /// What is durable, by model.
    pub(crate) fn delivered(&self) -> Vec<ModelCount> {
        let count = |(model, it): (&Model, &ModelTally)| ModelCount {
            model: model.clone(),
            objects: it.carried.objects,
            bytes: it.carried.bytes,
            unchanged: it.carried.unchanged,
            rejected: it.carried.rejected,
            duration_ms: u64::try_from(it.took.as_millis()).unwrap_or(u64::MAX),
        };
        self.models.iter().map(count).collect()
    }

    /// Whether a value of an earlier run was given back.
    pub(crate) fn mode(&self) -> ExportMode {
        if self.incremental { ExportMode::Incremental } else { ExportMode::Historical }
    }

    /// Whether there were more objects than are counted one by one.
    pub(crate) fn overflowed(&self) -> bool {
        self.projects.overflowed
    }

    /// A project's result as it is reported, without the secrets of the integration's configuration.
    pub(crate) fn project(&self, project: ProjectResult, log: &IntegrationLog) -> ProjectReport {
        let ProjectResult { id, name, state, error } = project;
        let tally = self.projects.get(&id);
        let carried = tally.map(|it| it.carried).unwrap_or_default();
        let error = error.map(|error| Failure {
            message: log.redact(&error),
            fault: Fault::Source,
            retry: if state == ProjectState::Failed { Retry::Later } else { Retry::No },
            hint: None,
            last_lines: match tally {
                Some(tally) if state == ProjectState::Failed => self.lines(tally, log),
                _ => Vec::new(),
            },
        });
        ProjectReport {
            id: log.redact(&id),
            name: log.redact(&name),
            state,
            mode: tally.map_or(ExportMode::Historical, Project::mode),
            objects: carried.objects,
            bytes: carried.bytes,
            unchanged: carried.unchanged,
            duration_ms: tally.map_or(0, Project::duration_ms),
            error,
        }
    }

    /// What is known of the projects of an integration that did not answer because of `failed`, and how many more there are.
    pub(crate) fn unanswered(&self, failed: &Failure, log: &IntegrationLog) -> (Vec<ProjectReport>, u64) {
        let (found, more) = self.projects.candidates();
        let mut told = 0;
        let row = |(id, name, tally): (&str, &str, &Project)| {
            let state = if tally.broken().is_some() { ProjectState::Failed } else { ProjectState::Done };
            let result = ProjectResult { id: id.to_owned(), name: name.to_owned(), state, error: None };
            let error = tally.broken().map(|broken| {
                told += 1;
                let (last_lines, most) =
                    if told <= TOLD { (self.lines(tally, log), usize::MAX) } else { (Vec::new(), SHORT) };
                let (message, fault, retry) = if broken.given_up {
                    (GIVEN_UP, Fault::Source, Retry::Later)
                } else {
                    (failed.message.as_str(), failed.fault, failed.retry)
                };
                let message = message.chars().take(most).collect();
                Failure { message, fault, retry, hint: None, last_lines }
            });
            ProjectReport { error, ..self.project(result, log) }
        };
        (found.into_iter().map(row).collect(), more)
    }

    /// What the log said while the project's sessions were open.
    fn lines(&self, tally: &Project, log: &IntegrationLog) -> Vec<String> {
        let lines = tally
            .lines()
            .map_or_else(|| log.lines_between(Some(self.projects.span(tally)), LINES), <[_]>::to_vec);
        // What became a secret since then is starred, too.
        lines.iter().map(|line| log.redact(line)).collect()
    }
}
