//! What dies with what, and what goes on after a death.

use outrider_backend::admin::CommandState;
use serde_json::{Value, json};

use crate::support::{Stack, alive, descendants, export, outrider, printed, run, until};

/// An export that goes on until it is stopped.
fn endless() -> Value {
    json!([{ "name": "mock", "config": { "repos": 100, "pull_requests": 1000, "delay_ms": 200 } }])
}

/// Waits until an export and its integration run; returns their process ids. The service has other children, too.
fn action_and_integration(stack: &Stack) -> Vec<u32> {
    let is_export = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|it| it == b"export")
    };
    until("an action and its integration", || {
        let action = descendants(stack.service.pid()).into_iter().find(is_export)?;
        let mut found = vec![action];
        found.extend(descendants(action));
        (found.len() >= 2).then_some(found)
    })
}

#[test]
fn a_killed_service_leaves_no_child_and_the_export_is_started_again_before_the_next() {
    let mut stack = Stack::start(&json!({}));
    let id = stack.order(export(&endless()));
    stack.until_state(&id, CommandState::Running);
    let children = action_and_integration(&stack);
    let killed = std::time::Instant::now();
    stack.kill_service();
    until("the end of every child", || (!children.iter().any(|pid| alive(*pid))).then_some(()));
    println!("the last child ended {:?} after the service", killed.elapsed());

    let next = stack.order(export(&json!([{ "name": "mock", "config": { "repos": 1 } }])));
    stack.start_service();
    action_and_integration(&stack);
    stack.cancel(&id);
    stack.until_state(&id, CommandState::Cancelled);
    stack.until_state(&next, CommandState::Done);
}

#[test]
fn a_hostile_integration_does_not_outlive_a_killed_service() {
    let mut stack = Stack::start(&json!({}));
    stack.order(export(&json!([{ "name": "faulty", "config": { "fault": "ignore-term" } }])));
    let children = action_and_integration(&stack);
    stack.kill_service();
    until("the end of every child", || (!children.iter().any(|pid| alive(*pid))).then_some(()));
}

#[test]
fn an_action_that_waits_for_a_store_does_not_outlive_a_killed_service() {
    let mut stack = Stack::start(&json!({ "start_timeout_s": 3000 }));
    let integrations = format!("--integrations-json={}", endless());
    let mut by_hand = crate::support::Running::start(
        outrider(&stack.root()).args(["export", &integrations]),
        &stack.dir.path().join("by-hand.out"),
    );
    until("the export by hand to run", || {
        let printed = by_hand.printed();
        assert!(by_hand.child_runs(), "the export by hand ended: {printed}");
        printed.contains("mock 0.").then_some(())
    });
    stack.order(export(&endless()));
    let waits = "another process has the store of checkpoints open";
    until("the action to wait", || stack.service.printed().contains(waits).then_some(()));
    let children = descendants(stack.service.pid());
    assert!(!children.is_empty() && by_hand.child_runs(), "the action waits for the export by hand");
    stack.kill_service();
    until("the end of every child", || (!children.iter().any(|pid| alive(*pid))).then_some(()));
}

#[test]
fn the_integration_of_a_killed_action_is_ended_and_the_command_fails() {
    let stack = Stack::start(&json!({}));
    let id = stack.order(export(&json!([{ "name": "faulty", "config": { "fault": "ignore-term" } }])));
    let children = action_and_integration(&stack);
    run(std::process::Command::new("kill").args(["-9", &children[0].to_string()]));
    let failed = stack.until_state(&id, CommandState::Failed);
    let error = failed.error.unwrap();
    assert!(error.message.contains("SIGKILL"), "{error:?}");
    until("the end of every child", || (!children.iter().any(|pid| alive(*pid))).then_some(()));
}

#[test]
fn a_cancelled_command_ends_and_the_next_one_runs() {
    let stack = Stack::start(&json!({ "cancel_grace_s": 5 }));
    let id = stack.order(export(&endless()));
    let waiting = stack.order(export(&json!([{ "name": "mock", "config": { "repos": 1 } }])));
    stack.until_state(&id, CommandState::Running);
    let children = action_and_integration(&stack);
    assert!(!stack.command(&waiting).summary.state.is_end());
    stack.cancel(&id);
    let cancelled = stack.until_state(&id, CommandState::Cancelled);
    assert!(cancelled.report.is_some(), "what was done is reported: {cancelled:?}");
    until("the end of every child", || (!children.iter().any(|pid| alive(*pid))).then_some(()));
    stack.until_state(&waiting, CommandState::Done);
}

#[test]
fn the_service_stops_gracefully_and_its_export_goes_on_after_the_next_start() {
    let mut stack = Stack::start(&json!({ "cancel_grace_s": 2, "stop_timeout_s": 10 }));
    let id = stack.order(export(&endless()));
    stack.until_state(&id, CommandState::Running);
    let children = action_and_integration(&stack);
    stack.service.signal("TERM");
    assert_eq!(stack.service.ended(), Some(0), "{}", stack.service.printed());
    assert!(!children.iter().any(|pid| alive(*pid)));
    stack.start_service();
    action_and_integration(&stack);
    stack.cancel(&id);
    stack.until_state(&id, CommandState::Cancelled);
}

#[test]
fn orders_wait_for_an_agent_that_is_away_and_results_for_a_backend_that_is() {
    let mut stack = Stack::start(&json!({ "reconnect_max_s": 1 }));
    stack.until_connected();
    stack.service.signal("TERM");
    stack.service.ended();
    let id = stack.order(export(&json!([{ "name": "mock", "config": { "repos": 2 } }])));
    assert_eq!(stack.command(&id).summary.state, CommandState::Queued);
    stack.start_service();
    stack.until_state(&id, CommandState::Done);

    let long = stack.order(export(&json!([
        { "name": "mock", "id": "other", "config": { "repos": 8, "pull_requests": 5, "delay_ms": 50 } },
    ])));
    stack.until_state(&long, CommandState::Running);
    stack.stop_backend();
    let report = stack.root().join(format!("state/exports/{long}.json"));
    until("the export to end without a backend", || report.exists().then_some(()));
    stack.start_backend_again();
    let done = stack.until_state(&long, CommandState::Done);
    stack.until_uploaded();
    let arrived = stack.objects(&long, "sourcecode.PullRequest").len();
    assert_eq!(arrived, 40, "{done:#?}\n{}", stack.service.printed());
}

#[test]
fn a_root_is_used_by_one_service_at_a_time() {
    let mut stack = Stack::start(&json!({}));
    until("the service to be up", || stack.agent().online.then_some(()));
    let second = run(outrider(&stack.root()).arg("service-run"));
    assert_eq!(second.status.code(), Some(4), "{}", printed(&second));
    assert!(printed(&second).contains("in use"), "{}", printed(&second));
    stack.kill_service();
    // The lock of a killed service does not go stale.
    stack.start_service();
    let id = stack.order(export(&json!([{ "name": "mock", "config": { "repos": 1 } }])));
    stack.until_state(&id, CommandState::Done);
}
