//! How an integration died, as its report and the backend tell it: of what, and what it said last.

#![cfg(unix)]

use outrider_backend::admin::{CommandState, CrashFilter};
use outrider_protocol::action::{AgentConfig, ExportOrder, OnboardOrder, Order, ValidateOrder};
use outrider_protocol::crash::{Crash, CrashCause};
use outrider_protocol::ids::CommandId;
use outrider_protocol::report::{ActionReport, IntegrationReport};
use serde_json::{Value, json};

use crate::bad_days::{by_hand, limits, mock, scripted};
use crate::played::Played;
use crate::support::{Stack, export, integration, printed, until};

/// A trace as Go writes one: what is wrong first, then two lines for each call.
fn go_panic(frames: usize) -> String {
    let frames: String = (0..frames).map(|n| format!("main.f{n}()\n\t/src/a.go:{n} +0x1d\n")).collect();
    format!("panic: the source is on fire\n\ngoroutine 1 [running]:\n{frames}exit status 2\n")
}

/// The report of the only integration, which does these steps by hand.
fn reported(steps: &Value, more: &Value) -> Value {
    let root = tempfile::tempdir().unwrap();
    let (integrations, programs) = scripted(root.path(), &json!({ "steps": steps }));
    let mut agent = limits(more);
    agent["integrations_dir"] = programs;
    let (output, report) = by_hand(root.path(), &agent, &integrations, &[]);
    assert!(report["integrations"][0].is_object(), "{}", printed(&output));
    report["integrations"][0].clone()
}

#[test]
fn a_panic_is_told_with_its_message_before_a_trace_of_any_length() {
    for frames in [3, 40] {
        let it = reported(&json!([{ "stderr": go_panic(frames) }, { "exit": 2 }]), &json!({}));
        let (crash, error) = (&it["crash"], &it["error"]);
        assert_eq!(crash["cause"], "panic", "{it:#}");
        for text in [&crash["detail"], &error["message"]] {
            assert!(text.as_str().unwrap().contains("panic: the source is on fire"), "{it:#}");
        }
        for lines in [&crash["last_lines"], &error["last_lines"]] {
            let lines: Vec<_> = lines.as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
            let says_why = lines.iter().position(|it| it.contains("panic: the source is on fire"));
            // Behind the line of its start, where the trace leaves room for both.
            assert_eq!(says_why, Some(if frames == 3 { 1 } else { 0 }), "{it:#}");
            assert!(lines.last().unwrap().contains("exit status 2"), "{it:#}");
            assert_eq!(lines.iter().any(|it| it.contains("left out")), frames == 40, "{it:#}");
        }
    }
}

/// The crashes of a command's integrations that the backend has heard of, when there are so many.
fn crashes(stack: &Stack, id: &CommandId, many: usize) -> Vec<Crash> {
    until("the crashes", || {
        let all = stack.ask(stack.client.crashes(&CrashFilter::default())).unwrap();
        let of_it = all.into_iter().map(|it| it.crash).filter(|it| it.command.as_ref() == Some(id));
        let of_it: Vec<_> = of_it.filter(|it| it.component.starts_with("integration/")).collect();
        (of_it.len() >= many).then_some(of_it)
    })
}

fn report(stack: &Stack, id: &CommandId, state: CommandState) -> IntegrationReport {
    match stack.until_state(id, state).report {
        Some(ActionReport::Export(report)) => report.integrations.into_iter().next().unwrap(),
        other => panic!("expected the report of an export, found {other:?}"),
    }
}

fn quick() -> Value {
    limits(&json!({ "integration_attempts": 3 }))["limits"].clone()
}

#[test]
fn a_panic_that_was_answered_is_a_death() {
    let stack = Stack::start(&quick());
    let id = stack
        .order(export(&json!([{ "name": "mock", "config": { "fault": { "kind": "panic", "at": 5 } } }])));
    let report = report(&stack, &id, CommandState::Failed);
    let told = crashes(&stack, &id, 1);
    assert_eq!(told.len(), 1, "{told:?}");
    for crash in [&told[0], &report.crash.unwrap()] {
        assert_eq!((crash.cause, crash.component.as_str()), (CrashCause::Panic, "integration/mock"));
        assert!(crash.detail.contains("the mock integration panics at object 5"), "{crash:?}");
        assert!(crash.last_lines.iter().any(|it| it.contains("panicked at")), "{crash:?}");
    }
    // What fails without dying is none.
    let id =
        stack.order(export(&json!([{ "name": "mock", "config": { "fault": { "kind": "fail", "at": 5 } } }])));
    assert!(self::report(&stack, &id, CommandState::Failed).crash.is_none());
    assert!(crashes(&stack, &id, 0).is_empty());
}

#[test]
fn each_death_of_each_attempt_is_told_also_where_the_last_one_succeeds() {
    let stack = Stack::start(&quick());
    let id = stack.order(export(&json!([{ "name": "faulty", "config": { "fault": "killed" } }])));
    let last = report(&stack, &id, CommandState::Failed);
    assert_eq!((last.attempts, last.crash.unwrap().cause), (3, CrashCause::Signal));
    let told = crashes(&stack, &id, 3);
    assert!(told.len() == 3 && told.iter().all(|it| it.cause == CrashCause::Signal), "{told:?}");

    let steps = json!([{ "stderr": go_panic(40) }, { "exit": 2, "unless": "tried" }]);
    let (integrations, programs) = scripted(stack.dir.path(), &json!({ "steps": steps }));
    let agent =
        AgentConfig { integrations_dir: programs.as_str().map(str::to_owned), ..AgentConfig::default() };
    let integrations = vec![integration(&integrations[0])];
    let id = stack.order(Order::Export(ExportOrder { agent, integrations, reprocess_historical: false }));
    let done = report(&stack, &id, CommandState::Done);
    assert_eq!((done.attempts, done.crash), (2, None));
    let told = crashes(&stack, &id, 1);
    assert!(told.len() == 1 && told[0].cause == CrashCause::Panic, "{told:?}");
    assert!(told[0].detail.contains("panic: the source is on fire"), "{told:?}");
    assert!(told[0].last_lines[0].contains("panic: the source is on fire"), "{told:?}");
}

#[test]
fn a_death_while_an_action_only_asks_is_told() {
    let stack = Stack::start(&quick());
    let faulty = |fault: &str, within: &str| {
        integration(&json!({ "name": "faulty", "config": { "fault": fault, "in": within } }))
    };
    let agent = AgentConfig::default;
    let validate = |fault| {
        let integration = faulty(fault, "validate_config");
        Order::ValidateConfig(ValidateOrder { agent: agent(), integration, seal: false })
    };
    let onboard = |fault| {
        let (integration, object_type) = (faulty(fault, "onboard_export"), "projects".to_owned());
        Order::ExportOnboardData(OnboardOrder { agent: agent(), integration, object_type })
    };
    for (order, cause) in [
        (validate("killed"), CrashCause::Signal),
        (validate("panic-like"), CrashCause::Panic),
        (onboard("killed"), CrashCause::Signal),
        (onboard("panic-like"), CrashCause::Panic),
    ] {
        let id = stack.order(order);
        stack.until_state(&id, CommandState::Failed);
        let told = crashes(&stack, &id, 1);
        assert_eq!((told.len(), told[0].cause), (1, cause), "{told:?}");
        let says_why = told[0].last_lines.iter().any(|it| it.contains("index out of bounds"));
        assert_eq!(says_why, cause == CrashCause::Panic, "{told:?}");
        assert!(!told[0].version.is_empty(), "{told:?}");
    }
}

/// The rows of repositories: state, objects, and the beginning of the error.
fn repositories(report: &Value) -> Vec<(String, u64, String)> {
    let rows = report["integrations"][0]["projects"].as_array().unwrap().iter();
    let repositories = rows.filter(|it| it["name"].as_str().unwrap().contains("repo"));
    let row = |it: &Value| {
        let error = it["error"]["message"].as_str().unwrap_or_default().to_owned();
        (it["state"].as_str().unwrap().to_owned(), it["objects"].as_u64().unwrap(), error)
    };
    repositories.map(row).collect()
}

/// Each repository is an object of its own and five pull requests; this is amid the fourth.
fn amid_the_fourth(fault: &str) -> Value {
    let fault = json!({ "kind": fault, "at": 3 * 6 + 1 + 3 });
    mock(&json!({ "users": 0, "repos": 10, "pull_requests": 5, "fault": fault }))
}

#[test]
fn without_an_answer_the_report_says_what_was_done_and_what_was_not() {
    for (fault, error) in [
        ("kill", "mock ended before it answered export: it was killed with SIGKILL"),
        ("panic", "mock: export: the integration panicked"),
        ("fail", "mock: the made-up source failed"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let (output, report) = by_hand(root.path(), &limits(&json!({})), &amid_the_fourth(fault), &[]);
        let rows = repositories(&report);
        assert_eq!(rows.len(), 4, "{report:#}\n{}", printed(&output));
        assert!(rows[..3].iter().all(|it| *it == ("done".to_owned(), 5, String::new())), "{rows:?}");
        assert_eq!((rows[3].0.as_str(), rows[3].1), ("failed", 0), "{rows:?}");
        assert!(rows[3].2.contains(error), "{rows:?}");
    }
}

#[test]
fn a_cancel_leaves_what_was_done_in_the_report_and_says_that_the_rest_was_cancelled() {
    let root = tempfile::tempdir().unwrap();
    let order = json!({ "agent": limits(&json!({})), "integrations": amid_the_fourth("hang") });
    let mut action = Played::export(root.path(), "c1", &order);
    action.until("it to hang", |it| it.to_string().contains("hanging at object"));
    action.cancel();
    let report = action.report();
    assert_eq!(report["integrations"][0]["state"], "cancelled");
    let rows = repositories(&report);
    assert_eq!(rows.iter().map(|it| it.0.as_str()).collect::<Vec<_>>(), ["done", "done", "done", "failed"]);
    assert!(rows[3].2.contains("mock was cancelled"), "{rows:?}");
}
