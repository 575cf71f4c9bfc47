//! An export that is gone on with after its service was killed: its counts are judged over all its lives, and a person sees it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use outrider_backend::admin::{CommandState, FileFilter};
use outrider_protocol::ids::CommandId;
use serde_json::{Value, json};

use crate::source;
use crate::support::{BACKEND, Stack, alive, descendants, export, printed, run, until};

/// A source that takes long enough for a death in the middle of it.
fn slow_source() -> Value {
    let mut integrations = source::integrations("mock");
    integrations[0]["config"]["delay_ms"] = json!(60);
    integrations
}

/// What that source holds.
const OBJECTS: u64 = 5 + 6 + 6 * 40;

/// Exports; when some of it is at the backend, kills the service as `kill -9` does.
fn killed_in_the_middle() -> (Stack, CommandId) {
    // Nothing that was sent is kept: the files of the life that ends here are gone before the next one begins.
    let limits = json!({ "reconnect_max_s": 1, "spool_file_age_s": 1, "sent_keep_hours": 0 });
    let mut stack = Stack::start(&limits);
    let id = stack.order(export(&slow_source()));
    until("a file of the export", || {
        let summary = stack.command(&id).summary;
        assert!(!summary.state.is_end(), "it is over before it could be killed: {summary:?}");
        (summary.files > 0).then_some(())
    });
    let children = descendants(stack.service.pid());
    stack.kill_service();
    until("the end of the action", || (!children.iter().any(|it| alive(*it))).then_some(()));
    (stack, id)
}

/// Waits until the export is done and delivered.
fn until_done(stack: &Stack, id: &CommandId) {
    stack.until_state(id, CommandState::Done);
    stack.until_uploaded();
}

/// Of the export, in the spool.
fn folder(stack: &Stack, id: &CommandId) -> PathBuf {
    stack.root().join("spool").join(id.as_str())
}

fn backend(stack: &Stack, args: &[&str]) -> Output {
    run(Command::new(BACKEND).args(args).arg("--data").arg(stack.dir.path().join("backend")))
}

#[test]
fn an_export_whose_service_was_killed_is_judged_over_all_its_lives() {
    let (mut stack, id) = killed_in_the_middle();
    stack.start_service();
    until_done(&stack, &id);
    let ended = stack.command(&id);
    let counts = ended.counts.unwrap();
    assert_eq!((counts.judged, counts.fault.as_deref()), (true, None), "{counts:?}");
    assert_eq!(counts.sealed_files, Some(ended.summary.files));
    assert!(counts.earlier_files > 0 && counts.earlier_files < ended.summary.files, "{counts:?}");
    let it = &counts.integrations[0];
    assert_eq!((it.reported, it.received), (OBJECTS, OBJECTS), "{counts:?}");
    assert!(it.earlier > 0 && it.earlier < OBJECTS, "{counts:?}");

    let shown = backend(&stack, &["command", "show", id.as_str()]);
    let text = printed(&shown);
    assert_eq!(shown.status.code(), Some(0), "{text}");
    let line = format!(
        "received {OBJECTS} of {OBJECTS} objects of mock, {} of them from before the export was started again",
        it.earlier
    );
    assert!(text.lines().any(|it| it == line) && !text.contains("DIFFER"), "{line}:\n{text}");
}

#[test]
fn an_object_of_an_earlier_life_that_is_not_at_the_backend_is_a_difference_that_a_person_sees() {
    let (mut stack, id) = killed_in_the_middle();
    let filter = FileFilter { export: Some(id.clone().into()), ..FileFilter::default() };
    let file = stack.ask(stack.client.files(&filter)).unwrap().remove(0);
    one_more(&folder(&stack, &id).join("manifest"), file.model.as_str(), file.number);
    stack.start_service();
    until_done(&stack, &id);
    let fault = stack.command(&id).counts.unwrap().fault.expect("an object is missing");
    assert!(fault.starts_with("mock: the agent counted ") && fault.contains("though all of the"), "{fault}");
    assert!(fault.contains("of them before the export was started again"), "{fault}");

    let text = printed(&backend(&stack, &["command", "show", id.as_str()]));
    let line = format!("received {OBJECTS} of {} objects of mock, ", OBJECTS + 1);
    assert!(text.contains(&line) && text.contains(&format!("THE COUNTS DIFFER: {fault}")), "{text}");
}

#[test]
fn an_export_that_goes_on_waits_for_whoever_has_its_folder_for_a_moment() {
    let (mut stack, id) = killed_in_the_middle();
    // As the service does, when it looks what dead exports left.
    let lock = std::fs::File::options().write(true).open(folder(&stack, &id).join("lock")).unwrap();
    lock.lock().unwrap();
    stack.start_service();
    until("the wait for the export's folder", || {
        let waits = |line: &String| line.contains("in the spool open; waiting for its end");
        stack.log(&id).iter().any(waits).then_some(())
    });
    drop(lock);
    until_done(&stack, &id);
}

/// The spool says of a file that the backend has that it held an object more: as if one had been lost on the way.
fn one_more(manifest: &Path, model: &str, number: u64) {
    let mut changed = 0;
    let lines: Vec<String> = std::fs::read_to_string(manifest)
        .unwrap()
        .lines()
        .map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            for file in line.get_mut("sealed").and_then(Value::as_array_mut).into_iter().flatten() {
                if file["model"] == model && file["number"] == number {
                    file["records"] = json!(file["records"].as_u64().unwrap() + 1);
                    changed += 1;
                }
            }
            line.to_string() + "\n"
        })
        .collect();
    assert_eq!(changed, 1, "{lines:?}");
    std::fs::write(manifest, lines.concat()).unwrap();
}
