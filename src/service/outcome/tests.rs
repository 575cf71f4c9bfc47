//! What each end of a run comes to.

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
        RunEnd { answer: Answer::Nothing { what: String::new() }, stopped: cancelled(), ended: ended(how) },
    );
    assert_eq!(outcome.state, EndState::Cancelled);
    assert!(
        outcome.error.unwrap().message.starts_with("not needed; the process did not answer: it was killed")
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
