//! How a run's end becomes a command's outcome: decisions only.

pub(crate) mod upgrade;

use std::time::Duration;

use outrider_protocol::control::{EndState, Outcome};
use outrider_protocol::fault::{Fault, Retry, RpcError};
use outrider_protocol::report::{ActionReport, ExportReport, Failure, IntegrationOutcome};
use outrider_protocol::upgrade::UpgradeState;
use outrider_supervisor::{Ended, How};

/// The end of a run.
#[derive(Debug)]
pub(crate) struct RunEnd {
    /// What the action answered.
    pub(crate) answer: Answer,
    /// Why it was asked to end, if it was.
    pub(crate) stopped: Option<Stop>,
    /// How its process ended; `None` when it was never started.
    pub(crate) ended: Option<Ended>,
}

/// What an action answered to `run`.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A report.
    Report(Box<ActionReport>),
    /// An error.
    Error(RpcError),
    /// Nothing: the link broke, or the process ended first.
    Nothing {
        /// What was waited for, and what came.
        what: String,
    },
    /// Its process could not be started.
    NotStarted {
        /// What failed.
        message: String,
        /// What a person can do.
        hint: Option<String>,
    },
    /// The service's own task for it broke.
    Broken,
}

/// Why a run was asked to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The backend cancelled it.
    Cancelled {
        /// Why, as the backend says.
        reason: String,
    },
    /// It ran for as long as it may.
    TimeLimit(Duration),
    /// The service goes down.
    ServiceStops,
    /// A later command takes its place.
    Superseded {
        /// Which.
        reason: String,
    },
}

impl Stop {
    /// In words, for the action's log.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Cancelled { reason } if reason.is_empty() => "cancelled by the backend".to_owned(),
            Self::Cancelled { reason } => reason.clone(),
            Self::TimeLimit(limit) => format!("it ran for its time limit of {} s", limit.as_secs_f64()),
            Self::ServiceStops => "the service stops".to_owned(),
            Self::Superseded { reason } => reason.clone(),
        }
    }
}

/// The outcome of `action` (its name), from how its run ended.
pub(crate) fn outcome(action: &str, end: RunEnd) -> Outcome {
    let RunEnd { answer, stopped, ended } = end;
    match answer {
        Answer::Report(report) => of_report(*report, stopped.as_ref()),
        Answer::Error(error) => Outcome {
            state: state(stopped.as_ref()),
            report: None,
            error: Some(explained(of_error(error, ended), stopped.as_ref())),
        },
        Answer::Nothing { what } => {
            let error = of_nothing(action, &what, ended, stopped.as_ref());
            Outcome { state: state(stopped.as_ref()), report: None, error: Some(error) }
        }
        Answer::NotStarted { message, hint } => {
            let message = format!("start the process of {action}: {message}");
            let error =
                Failure { message, fault: Fault::Host, retry: Retry::Later, hint, last_lines: Vec::new() };
            Outcome { state: state(stopped.as_ref()), ..failed(error) }
        }
        Answer::Broken => {
            failed(bug(format!("the service's task for this {action} panicked; its log says where")))
        }
    }
}

/// The outcome of a command that never ran.
pub(crate) fn without_run(state: EndState, message: &str) -> Outcome {
    let error = Failure {
        message: message.to_owned(),
        fault: Fault::Caller,
        retry: Retry::Later,
        hint: None,
        last_lines: Vec::new(),
    };
    Outcome { state, report: None, error: Some(error) }
}

/// An export of which the backend refuses a file is not done, whatever its action says.
pub(crate) fn not_delivered(outcome: &mut Outcome, why: String) {
    if outcome.state != EndState::Done {
        return;
    }
    outcome.state = EndState::Failed;
    outcome.error = Some(Failure {
        message: why,
        fault: Fault::Host,
        retry: Retry::Later,
        hint: Some(
            "the file is kept in the spool; if its disk or the way to the backend damaged it, export again with \
             reprocess_historical"
                .to_owned(),
        ),
        last_lines: Vec::new(),
    });
}

/// What is left of an outcome that the backend does not take as it is, because of `why`: in so few bytes that nothing on
/// the way can mind.
pub(crate) fn reduced(outcome: &Outcome, why: &str) -> Outcome {
    let why = start(why);
    let hint = format!("the whole outcome was not taken by the backend: {why}; the agent's host has it");
    let error = match &outcome.error {
        Some(error) => Failure {
            message: start(&error.message),
            hint: Some(match &error.hint {
                Some(theirs) => format!("{}; {hint}", start(theirs)),
                None => hint,
            }),
            last_lines: Vec::new(),
            ..*error
        },
        None => Failure {
            message: "the command's report could not be delivered".to_owned(),
            fault: Fault::Backend,
            retry: Retry::No,
            hint: Some(hint),
            last_lines: Vec::new(),
        },
    };
    Outcome { state: outcome.state, report: None, error: Some(error) }
}

/// The start of a text that may be long.
fn start(text: &str) -> String {
    /// Enough for a sentence and its cause, in characters.
    const LONGEST: usize = 400;
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// The state as the protocol spells it.
pub(crate) fn word(state: EndState) -> &'static str {
    match state {
        EndState::Done => "done",
        EndState::Failed => "failed",
        EndState::Cancelled => "cancelled",
        EndState::Interrupted => "interrupted",
        EndState::Expired => "expired",
        EndState::SetAside => "set aside",
    }
}

fn failed(error: Failure) -> Outcome {
    Outcome { state: EndState::Failed, report: None, error: Some(error) }
}

fn bug(message: String) -> Failure {
    Failure { message, fault: Fault::Bug, retry: Retry::No, hint: None, last_lines: Vec::new() }
}

/// The state of a run that did not do all it was asked for.
fn state(stopped: Option<&Stop>) -> EndState {
    match stopped {
        None | Some(Stop::TimeLimit(_)) => EndState::Failed,
        Some(Stop::Cancelled { .. } | Stop::Superseded { .. }) => EndState::Cancelled,
        Some(Stop::ServiceStops) => EndState::Interrupted,
    }
}

/// An action that did everything is done, also when a cancel crossed its answer.
fn of_report(report: ActionReport, stopped: Option<&Stop>) -> Outcome {
    let report = match report {
        ActionReport::Upgrade(mut report) => {
            if let (Some(Stop::Superseded { .. }), UpgradeState::Cancelled) = (stopped, report.state) {
                report.state = UpgradeState::Superseded;
            }
            return upgrade::ended(report);
        }
        other => other,
    };
    let missing = match &report {
        ActionReport::Export(report) if !report.succeeded() => Some(of_export(report)),
        // What was found may be bad news, but it was found.
        ActionReport::Export(_)
        | ActionReport::ValidateConfig(_)
        | ActionReport::ExportOnboardData(_)
        | ActionReport::DescribeIntegrations(_)
        | ActionReport::Upgrade(_)
        | ActionReport::ConfigureCollect(_) => None,
    };
    match missing {
        None => Outcome { state: EndState::Done, report: Some(report), error: None },
        Some(error) => {
            Outcome { state: state(stopped), report: Some(report), error: Some(explained(error, stopped)) }
        }
    }
}

/// What failed in an export, in one sentence; the report has the details.
fn of_export(report: &ExportReport) -> Failure {
    let unfinished: Vec<_> =
        report.integrations.iter().filter(|it| it.state != IntegrationOutcome::Done).collect();
    let Some(first) = unfinished.first() else {
        let failed: usize = report.integrations.iter().map(|it| it.failed_projects()).sum();
        let message = format!("{failed} projects failed; the report names them");
        return Failure {
            message,
            fault: Fault::Source,
            retry: Retry::Later,
            hint: None,
            last_lines: Vec::new(),
        };
    };
    let (count, all) = (unfinished.len(), report.integrations.len());
    let mut failure = first.error.clone().unwrap_or_else(|| Failure {
        message: format!(
            "it was {}",
            if first.state == IntegrationOutcome::Failed { "failed" } else { "cancelled" }
        ),
        fault: Fault::Caller,
        retry: Retry::Later,
        hint: None,
        last_lines: Vec::new(),
    });
    failure.message =
        format!("{count} of {all} integrations did not finish; {}: {}", first.integration, failure.message);
    failure
}

fn of_error(error: RpcError, ended: Option<Ended>) -> Failure {
    let data = error.data.unwrap_or_default();
    Failure {
        message: error.message,
        fault: data.fault.unwrap_or(Fault::Bug),
        retry: data.retry.unwrap_or(Retry::No),
        hint: data.hint,
        // Those of the process that failed, often an integration, say more than those of the action above it.
        last_lines: match data.last_lines {
            lines if lines.is_empty() => ended.map(|it| it.last_stderr).unwrap_or_default(),
            lines => lines,
        },
    }
}

fn of_nothing(action: &str, what: &str, ended: Option<Ended>, stopped: Option<&Stop>) -> Failure {
    let Some(ended) = ended else { return bug(format!("the {action} did not answer: {what}")) };
    let message = match stopped {
        Some(stop) => format!("{}; the process did not answer: {ended}", stop.reason()),
        None => format!("the process of {action} did not answer: {what}; {ended}"),
    };
    let fault = match (&ended.how, stopped) {
        (_, Some(Stop::Cancelled { .. } | Stop::TimeLimit(_))) => Fault::Caller,
        (_, Some(Stop::ServiceStops))
        | (How::Signalled { .. } | How::OutOfMemory | How::Unkillable { .. }, None) => Fault::Host,
        _ => Fault::Bug,
    };
    Failure { message, fault, retry: Retry::Later, hint: None, last_lines: ended.last_stderr }
}

/// Puts why a run was ended before what that led to.
fn explained(mut failure: Failure, stopped: Option<&Stop>) -> Failure {
    if let Some(stop) = stopped {
        failure.message = format!("{}: {}", stop.reason(), failure.message);
    }
    failure
}

#[cfg(test)]
mod tests;
