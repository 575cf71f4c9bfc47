//! How a run's end becomes a command's outcome: decisions only.

use std::time::Duration;

use outrider_protocol::control::{EndState, Outcome};
use outrider_protocol::fault::{Fault, Retry, RpcError};
use outrider_protocol::report::{ActionReport, ExportReport, Failure, IntegrationOutcome};
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
}

impl Stop {
    /// In words, for the action's log.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Cancelled { reason } if reason.is_empty() => "cancelled by the backend".to_owned(),
            Self::Cancelled { reason } => reason.clone(),
            Self::TimeLimit(limit) => format!("it ran for its time limit of {} s", limit.as_secs_f64()),
            Self::ServiceStops => "the service stops".to_owned(),
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
        Some(Stop::Cancelled { .. }) => EndState::Cancelled,
        Some(Stop::ServiceStops) => EndState::Interrupted,
    }
}

/// An action that did everything is done, also when a cancel crossed its answer.
fn of_report(report: ActionReport, stopped: Option<&Stop>) -> Outcome {
    let missing = match &report {
        ActionReport::Export(report) if !report.succeeded() => Some(of_export(report)),
        // What was found may be bad news, but it was found.
        ActionReport::Export(_)
        | ActionReport::ValidateConfig(_)
        | ActionReport::ExportOnboardData(_)
        | ActionReport::DescribeIntegrations(_) => None,
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
mod tests {
    use super::*;

    fn ended(how: How) -> Option<Ended> {
        Some(Ended { how, after: Duration::from_secs(2), last_stderr: vec!["last words".into()] })
    }

    fn report(state: &str) -> Answer {
        let json = format!(
            r#"{{"action":"export","export":"c1","started_at":"2026-11-21T08:00:00Z","duration_ms":5,"integrations":[
                {{"integration":"git","name":"git","state":"{state}","mode":"historical","duration_ms":5,"models":[],
                  "projects":[]}}]}}"#
        );
        Answer::Report(Box::new(serde_json::from_str(&json).unwrap()))
    }

    fn cancelled() -> Option<Stop> {
        Some(Stop::Cancelled { reason: "not needed".into() })
    }

    #[track_caller]
    fn check(answer: Answer, stopped: Option<Stop>, ended: Option<Ended>, state: EndState, message: &str) {
        let outcome = outcome("export", RunEnd { answer, stopped, ended });
        assert_eq!(outcome.state, state);
        assert_eq!(outcome.error.map(|it| it.message).unwrap_or_default(), message);
    }

    #[test]
    fn a_report_that_is_whole_is_done_even_when_a_cancel_crossed_it() {
        check(report("done"), None, ended(How::Ok), EndState::Done, "");
        check(report("done"), cancelled(), ended(How::Ok), EndState::Done, "");
        check(report("done"), Some(Stop::ServiceStops), ended(How::Ok), EndState::Done, "");
    }

    #[test]
    fn a_report_that_is_not_whole_ends_as_what_stopped_it() {
        let rest = "1 of 1 integrations did not finish; git: it was cancelled";
        let why = |why: &str| format!("{why}: {rest}");
        check(report("cancelled"), cancelled(), ended(How::Ok), EndState::Cancelled, &why("not needed"));
        let stops = Some(Stop::ServiceStops);
        check(report("cancelled"), stops, ended(How::Ok), EndState::Interrupted, &why("the service stops"));
        let time = Some(Stop::TimeLimit(Duration::from_secs(3)));
        check(
            report("cancelled"),
            time,
            ended(How::Ok),
            EndState::Failed,
            &why("it ran for its time limit of 3 s"),
        );
        check(
            report("failed"),
            None,
            ended(How::Ok),
            EndState::Failed,
            "1 of 1 integrations did not finish; git: it was failed",
        );
    }

    #[test]
    fn a_process_that_ends_without_an_answer_fails_its_command_with_its_last_words() {
        let answer = || Answer::Nothing { what: "the link ended".into() };
        check(
            answer(),
            None,
            ended(How::Panicked),
            EndState::Failed,
            "the process of export did not answer: the link ended; it panicked (exit status 101) after 2.0 s",
        );
        let how = How::Signalled { signal: 9, core: false };
        let outcome = outcome("export", RunEnd { answer: answer(), stopped: None, ended: ended(how) });
        let error = outcome.error.unwrap();
        assert_eq!((error.fault, error.last_lines), (Fault::Host, vec!["last words".to_owned()]));
    }

    #[test]
    fn a_process_that_had_to_be_killed_after_a_cancel_is_cancelled() {
        let how = How::Killed { for_: outrider_supervisor::KilledFor::Cancel, signal: 9 };
        let outcome = outcome(
            "export",
            RunEnd {
                answer: Answer::Nothing { what: String::new() },
                stopped: cancelled(),
                ended: ended(how),
            },
        );
        assert_eq!(outcome.state, EndState::Cancelled);
        assert!(
            outcome
                .error
                .unwrap()
                .message
                .starts_with("not needed; the process did not answer: it was killed")
        );
    }

    #[test]
    fn an_error_keeps_whose_fault_it_is_and_the_hint() {
        let error = RpcError::failed(Fault::Source, Retry::Later, "the source is down").hint("wait");
        let outcome = outcome(
            "export",
            RunEnd { answer: Answer::Error(error), stopped: None, ended: ended(How::Failed { code: 1 }) },
        );
        let error = outcome.error.unwrap();
        assert_eq!(
            (error.fault, error.retry, error.hint.as_deref()),
            (Fault::Source, Retry::Later, Some("wait"))
        );
        assert_eq!(error.last_lines, ["last words"]);
    }

    #[test]
    fn the_last_words_that_an_error_carries_win_over_those_of_the_action() {
        let mut error = RpcError::failed(Fault::Peer, Retry::Later, "the integration died");
        error.data.get_or_insert_default().last_lines = vec!["out of tokens".into()];
        let outcome = outcome(
            "validate-config",
            RunEnd { answer: Answer::Error(error), stopped: None, ended: ended(How::Ok) },
        );
        assert_eq!(outcome.error.unwrap().last_lines, ["out of tokens"]);
    }

    #[test]
    fn a_reduced_outcome_keeps_the_state_and_the_start_of_what_went_wrong() {
        let outcome = outcome(
            "export",
            RunEnd {
                answer: Answer::Error(RpcError::failed(Fault::Source, Retry::Later, "é".repeat(100_000))),
                stopped: None,
                ended: ended(How::Ok),
            },
        );
        let reduced = reduced(&outcome, "413 Payload Too Large");
        let error = reduced.error.unwrap();
        assert_eq!((reduced.state, error.fault), (EndState::Failed, Fault::Source));
        assert!(error.message.starts_with("éé") && error.message.len() < 2_000, "{}", error.message.len());
        assert!(error.last_lines.is_empty() && error.hint.unwrap().contains("413 Payload Too Large"));
    }

    #[test]
    fn a_reduced_outcome_of_what_is_done_says_that_its_report_is_missing() {
        let end = RunEnd { answer: report("done"), stopped: None, ended: ended(How::Ok) };
        let reduced = reduced(&outcome("export", end), "too long");
        assert!(reduced.report.is_none());
        assert_eq!(reduced.state, EndState::Done);
        assert_eq!(reduced.error.unwrap().fault, Fault::Backend);
    }
}
