//! The journal: each command once, in order, through every restart.

use std::time::Duration;

use jiff::Timestamp;
use outrider_protocol::control::{Command, EndState, EndedParams, Outcome};
use outrider_protocol::ids::CommandId;

use super::Bounds;
use crate::testing::{as_after_a_kill, fresh};
use crate::{Entry, Journal, JournalError, Recorded, Root, State};

fn open(root: &Root) -> Journal {
    Journal::open(root, Duration::ZERO).unwrap()
}

const AT: Timestamp = Timestamp::UNIX_EPOCH;

fn validation(id: &str) -> Command {
    let text = format!(
        r#"{{"id": "{id}", "created_at": "2026-01-02T03:04:05Z", "order": {{"action": "validate-config",
            "integration": {{"name": "mock"}}}}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

fn command(id: &str) -> Command {
    let text = format!(
        r#"{{"id": "{id}", "created_at": "2026-01-02T03:04:05Z", "time_limit_ms": 1000, "order": {{"action": "export",
            "integrations": [{{"name": "mock", "config": {{ "secret": "hush", "n": 1.10 }} }}]}}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

fn ended(id: &str, state: EndState) -> EndedParams {
    let command = CommandId::new(id).unwrap();
    EndedParams {
        command,
        outcome: Outcome { state, report: None, error: None },
        ended_at: Timestamp::UNIX_EPOCH,
    }
}

fn id(id: &str) -> CommandId {
    CommandId::new(id).unwrap()
}

/// `c1:queued c2:ended:failed` …
fn told(entries: &[Entry]) -> String {
    let one = |entry: &Entry| {
        let end = match &entry.state {
            State::Ended(ended) => Some(ended.outcome.state),
            State::Acknowledged(state) => Some(*state),
            _ => None,
        };
        let end = end.map(|end| format!(":{end:?}")).unwrap_or_default();
        format!("{}:{}{end}", entry.id, entry.state.word())
    };
    entries.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_command_delivered_twice_is_recorded_once() {
    let (_folder, root) = fresh();
    let journal = open(&root);
    assert!(matches!(journal.record(&command("c1")).unwrap(), Recorded::New(entry) if entry.seq == 0));
    let known = |journal: &Journal| match journal.record(&command("c1")).unwrap() {
        Recorded::Known(entry) => told(&[entry]),
        Recorded::New(entry) => panic!("{entry:?}"),
    };
    assert_eq!(known(&journal), "c1:queued");
    journal.started(&id("c1"), AT).unwrap();
    assert_eq!(known(&journal), "c1:running");
    journal.ended(&ended("c1", EndState::Done)).unwrap();
    assert_eq!(known(&journal), "c1:ended:Done");
    journal.acknowledged(&id("c1")).unwrap();
    assert_eq!(known(&journal), "c1:acknowledged:Done");
    drop(journal);
    assert_eq!(known(&open(&root)), "c1:acknowledged:Done");
}

#[test]
fn a_queued_command_survives_a_kill_to_the_last_digit() {
    let (_folder, root) = fresh();
    let journal = open(&root);
    journal.record(&command("c1")).unwrap();
    let (_other, copy) = as_after_a_kill(&root);
    let entries = open(&copy).open_entries().unwrap();
    let [Entry { state: State::Queued(found), attempts: 0, .. }] = &entries[..] else {
        panic!("{entries:?}")
    };
    assert_eq!(serde_json::to_string(found).unwrap(), serde_json::to_string(&command("c1")).unwrap());
    assert!(serde_json::to_string(found).unwrap().contains("1.10"));
}

#[test]
fn the_order_of_arrival_survives_restarts() {
    let (_folder, root) = fresh();
    for id in ["z", "a", "m"] {
        open(&root).record(&command(id)).unwrap();
    }
    let journal = open(&root);
    journal.ended(&ended("z", EndState::Expired)).unwrap();
    journal.acknowledged(&id("z")).unwrap();
    journal.record(&command("b")).unwrap();
    assert_eq!(told(&journal.open_entries().unwrap()), "a:queued m:queued b:queued");
    let numbers: Vec<_> = journal.open_entries().unwrap().iter().map(|entry| entry.seq).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[test]
fn a_validation_that_ran_when_the_service_went_down_is_interrupted_and_nothing_else_is_changed() {
    let (_folder, root) = fresh();
    let journal = open(&root);
    journal.record(&command("queued")).unwrap();
    journal.record(&validation("running")).unwrap();
    for id in ["ended", "told"] {
        journal.record(&command(id)).unwrap();
    }
    journal.started(&id("running"), AT).unwrap();
    for done in ["ended", "told"] {
        journal.started(&id(done), AT).unwrap();
        journal.ended(&ended(done, EndState::Done)).unwrap();
    }
    journal.acknowledged(&id("told")).unwrap();

    let (_other, copy) = as_after_a_kill(&root);
    let journal = open(&copy);
    let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
    let recovered = journal.recover(now, 3).unwrap();
    assert_eq!(told(&recovered), "running:ended:Interrupted");
    let State::Ended(end) = &recovered[0].state else { panic!() };
    assert_eq!((end.ended_at, recovered[0].attempts), (now, 1));
    assert!(end.outcome.error.as_ref().unwrap().message.contains("went down"));
    let all = "queued:queued running:ended:Interrupted ended:ended:Done";
    assert_eq!(told(&journal.open_entries().unwrap()), all);
    // Of an interrupted command, too, only the first outcome counts.
    journal.ended(&ended("running", EndState::Done)).unwrap();
    assert!(journal.recover(now, 3).unwrap().is_empty());
    assert_eq!(told(&journal.open_entries().unwrap()), all);
}

#[test]
fn steps_out_of_order_are_refused_and_change_nothing() {
    let (_folder, root) = fresh();
    let journal = open(&root);
    let unknown = journal.started(&id("c1"), AT).unwrap_err();
    assert!(matches!(unknown, JournalError::Unknown { .. }), "{unknown}");
    journal.record(&command("c1")).unwrap();
    let early = journal.acknowledged(&id("c1")).unwrap_err();
    assert_eq!(early.to_string(), "note that command c1 is acknowledged: it is queued");
    journal.started(&id("c1"), AT).unwrap();
    let again = journal.started(&id("c1"), AT).unwrap_err();
    assert_eq!(again.to_string(), "note that command c1 is running: it is running");
    assert_eq!(told(&journal.open_entries().unwrap()), "c1:running");
}

#[test]
fn an_outcome_may_be_acknowledged_twice() {
    let (_folder, root) = fresh();
    let journal = open(&root);
    journal.record(&command("c1")).unwrap();
    journal.ended(&ended("c1", EndState::Cancelled)).unwrap();
    journal.acknowledged(&id("c1")).unwrap();
    journal.acknowledged(&id("c1")).unwrap();
    journal.ended(&ended("c1", EndState::Done)).unwrap();
    let entry = journal.find(&id("c1")).unwrap().unwrap();
    assert_eq!(told(&[entry]), "c1:acknowledged:Cancelled");
    assert!(journal.find(&id("c2")).unwrap().is_none());
}

#[test]
fn the_parameters_of_a_command_are_dropped_with_its_end() {
    let (_folder, root) = fresh();
    let journal = open(&root);
    journal.record(&command("c1")).unwrap();
    assert!(format!("{:?}", journal.find(&id("c1")).unwrap()).contains("hush"));
    journal.ended(&ended("c1", EndState::Done)).unwrap();
    assert!(!format!("{:?}", journal.find(&id("c1")).unwrap()).contains("hush"));
}

#[test]
fn a_command_of_another_version_is_reported_as_failed_and_the_others_go_on() {
    let (_folder, root) = fresh();
    let journal = open(&root);
    journal.record(&command("c1")).unwrap();
    let row =
        br#"{"id": "c2", "attempts": 0, "state": {"queued": {"id": "c2", "order": {"action": "dance"}}}}"#;
    journal.put_row(1, "c2", row);
    journal.record(&command("c3")).unwrap();
    assert_eq!(told(&journal.open_entries().unwrap()), "c1:queued c2:ended:Failed c3:queued");
    assert!(matches!(journal.record(&command("c2")).unwrap(), Recorded::Known(_)));
    let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
    let recovered = journal.recover(now, 3).unwrap();
    assert_eq!(told(&recovered), "c2:ended:Failed");
    assert!(matches!(&recovered[0].state, State::Ended(end) if end.ended_at == now));
    assert!(journal.recover(now, 3).unwrap().is_empty());
    journal.acknowledged(&id("c2")).unwrap();
    assert_eq!(told(&journal.open_entries().unwrap()), "c1:queued c3:queued");
}

#[test]
fn only_the_newest_acknowledged_commands_are_remembered() {
    let (_folder, root) = fresh();
    let journal = Journal::open_bounded(&root, Bounds { open: 10, settled: 3 });
    for i in 0..6 {
        let name = format!("c{i}");
        journal.record(&command(&name)).unwrap();
        if i != 1 {
            journal.ended(&ended(&name, EndState::Done)).unwrap();
            journal.acknowledged(&id(&name)).unwrap();
        }
    }
    let known: Vec<_> = (0..6).filter(|i| journal.find(&id(&format!("c{i}"))).unwrap().is_some()).collect();
    // Of 0, 2, 3, 4 and 5 the last three; the open one is never forgotten.
    assert_eq!(known, [1, 3, 4, 5]);
    assert!(matches!(journal.record(&command("c6")).unwrap(), Recorded::New(entry) if entry.seq == 6));
}

#[test]
fn a_flood_of_commands_is_refused_until_some_are_acknowledged() {
    let (_folder, root) = fresh();
    let journal = Journal::open_bounded(&root, Bounds { open: 2, settled: 3 });
    journal.record(&command("c1")).unwrap();
    journal.record(&command("c2")).unwrap();
    let err = journal.record(&command("c3")).unwrap_err();
    assert!(matches!(err, JournalError::Full { open: 2, .. }), "{err}");
    assert!(matches!(journal.record(&command("c2")).unwrap(), Recorded::Known(_)));
    journal.ended(&ended("c1", EndState::Done)).unwrap();
    journal.acknowledged(&id("c1")).unwrap();
    journal.record(&command("c3")).unwrap();
    assert_eq!(told(&journal.open_entries().unwrap()), "c2:queued c3:queued");
}

#[test]
fn a_journal_in_use_is_an_error() {
    let (_folder, root) = fresh();
    let _journal = open(&root);
    let JournalError::Store(err) = Journal::open(&root, Duration::ZERO).unwrap_err() else { panic!() };
    assert!(matches!(err, crate::StoreError::InUse { .. }), "{err}");
}

#[test]
fn an_export_that_ran_when_the_service_went_down_is_queued_again_in_its_old_place() {
    let (_folder, root) = fresh();
    let journal = open(&root);
    for id in ["e1", "e2", "e3"] {
        journal.record(&command(id)).unwrap();
    }
    journal.started(&id("e1"), AT).unwrap();
    let (_other, copy) = as_after_a_kill(&root);
    let journal = open(&copy);
    let recovered = journal.recover(AT, 3).unwrap();
    assert_eq!(told(&recovered), "e1:queued");
    assert!(recovered[0].has_begun());
    assert_eq!(told(&journal.open_entries().unwrap()), "e1:queued e2:queued e3:queued");
    assert!(journal.recover(AT, 3).unwrap().is_empty());
}

#[test]
fn an_export_that_takes_the_service_down_each_time_is_set_aside_and_says_when_that_was() {
    let (_folder, root) = fresh();
    let journal = open(&root);
    journal.record(&command("e1")).unwrap();
    let at = |second: i64| Timestamp::from_second(1_767_323_045 + second).unwrap();
    for start in 0..3 {
        journal.started(&id("e1"), at(start)).unwrap();
        let state = if start < 2 { "e1:queued" } else { "e1:ended:SetAside" };
        assert_eq!(told(&journal.recover(at(start + 100), 3).unwrap()), state);
    }
    let State::Ended(end) = journal.find(&id("e1")).unwrap().unwrap().state else { panic!() };
    let error = end.outcome.error.unwrap();
    assert_eq!(
        error.message,
        "the agent went down each time that this export ran: it was started 3 times (at 2026-01-02T03:04:05Z, \
         2026-01-02T03:04:06Z, 2026-01-02T03:04:07Z), and the last death was noticed at 2026-01-02T03:05:47Z; it is not \
         started again"
    );
    assert!(error.hint.unwrap().contains("order the export again"));
}

#[test]
fn a_start_that_a_service_in_good_order_took_back_does_not_count() {
    let (_folder, root) = fresh();
    let journal = open(&root);
    journal.record(&command("e1")).unwrap();
    for _ in 0..5 {
        journal.started(&id("e1"), AT).unwrap();
        journal.requeued(&id("e1")).unwrap();
    }
    let entry = journal.find(&id("e1")).unwrap().unwrap();
    assert_eq!((entry.attempts, entry.starts.len(), entry.has_begun()), (5, 0, true));
    let early = journal.requeued(&id("e1")).unwrap_err();
    assert_eq!(early.to_string(), "note that command e1 is queued again: it is queued");
    journal.started(&id("e1"), AT).unwrap();
    assert_eq!(told(&journal.recover(AT, 1).unwrap()), "e1:ended:SetAside");
}
