//! What the program before this one got wrong in exports, and the test that shows each beaten.
//!
//! | it | here | shown by |
//! | --- | --- | --- |
//! | stored checkpoints at the end of a run only, so a crash in hour five did five hours again | a value is durable when its session is done | `three_of_ten_repositories_that_were_done_stay_done` |
//! | moved the checkpoint of a failed integration on | only a session that was done has one | `what_an_integration_did_not_finish_has_no_checkpoint` |
//! | failed all integrations with one | each has its own outcome, data and checkpoints | `one_that_fails_leaves_the_others_and_the_service_alone` |
//! | took objects for delivered before they were uploaded, and left them out for ever when that failed | what the backend acknowledged decides | `random_runs_and_crashes_never_leave_out_what_the_backend_lacks` |
//! | joined ids to keys without escaping | paths are arrays | `a_slash_in_an_id_makes_no_other_sessions_path` |
//! | exported nothing, with success, when an id was missing | such an order is refused and says why | `an_order_that_names_nothing_is_refused` |
//! | wrote one error of a project over another | a project has its own error, with its log | `a_project_that_fails_fails_alone_and_the_report_says_why_and_what_each_delivered` |
//! | listed failed projects as succeeded | the state of each project is what the integration said | `a_project_that_fails_fails_alone_and_the_report_says_why_and_what_each_delivered` |
//! | swallowed errors of sessions and left sessions open | they fail the integration, and what they sent is dropped | `sessions_that_were_left_open_fail_the_integration` |
//! | left processes behind at a cancel | the process group goes | `a_cancelled_command_ends_and_the_next_one_runs` |
//! | waited for a signal that cannot be caught to end git | git ends with its integration | `a_cancel_and_a_lost_agent_end_the_git` |
//! | said that a cancel succeeded when it did not | the answer says what was done | `a_cancel_while_an_integration_waits_to_be_tried_again_is_answered_at_once` |
//! | lost or held the last lines of a log, which could stop the export | they stand in the log and the report | `an_integration_is_started_as_often_as_its_limit_says_and_its_death_is_reported` |
//! | let a flood of lines hold the export | it passes, and is counted where it is too much | `every_fault_during_an_export_has_its_outcome` |
//! | knew a crash by its text | it is known by how the process ended | `an_integration_is_started_as_often_as_its_limit_says_and_its_death_is_reported` |
//! | slept, so that the last line was not lost | the log is closed before the answer | `the_last_line_is_in_the_file_after_close_and_the_run_before_is_gone` |
//! | had refresh tokens in a URL and in its log | they stay at the backend, which sends them in a body and says none | `a_refresh_token_is_in_nothing_that_backend_and_agent_say_even_in_detail`, `many_who_ask_share_one_refresh_and_its_token` |
//! | ran one integration after the other | several run at once | `integrations_run_side_by_side` |
//! | took each record apart and wrote it anew | a record is stored byte for byte | `objects_are_stored_byte_for_byte` |
//! | made a zip of its files, which took their place a second time | files are uploaded as they are | `an_upload_makes_no_second_copy_of_what_is_in_the_spool` |
//! | let everybody read its folders, and had the key beside the token | they are the owner's alone, and so is the key, in a file of its own | `folders_are_for_the_owner_only`, `nobody_else_may_read_the_spool`, `the_key_is_its_owners_alone_and_stays_the_same` |

#![cfg(unix)]

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::bad_days::{by_hand, counted, done, limits, scripted, send, start};
use crate::played::Played;
use crate::support::{Stack, printed, repository, sealed, spooled};

const PULL_REQUEST: &str = "sourcecode.PullRequest";

#[test]
fn each_fault_of_the_predecessor_has_a_test() {
    let mut sources = String::new();
    let mut folders = vec![repository().join("tests"), repository().join("src"), repository().join("cmd")];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(it) if it == "rs" => sources += &std::fs::read_to_string(path).unwrap(),
                _ => {}
            }
        }
    }
    let table = include_str!("predecessor.rs").lines().filter_map(|line| line.strip_prefix("//! | "));
    let named: Vec<Vec<_>> = table
        .filter_map(|row| row.rsplit_once(" | "))
        .map(|(_, shown)| shown.split('`').skip(1).step_by(2).collect())
        .filter(|named: &Vec<_>| !named.is_empty())
        .collect();
    assert_eq!(named.len(), 21, "{named:?}");
    for test in named.concat() {
        let forms = ["", "    "].map(|indent| {
            let synchronous = format!("#[test]\n{indent}fn {test}()");
            [synchronous, format!("#[tokio::test]\n{indent}async fn {test}()")]
        });
        assert!(forms.iter().flatten().any(|it| sources.contains(it)), "no test is named {test}");
    }
}

#[test]
fn three_of_ten_repositories_that_were_done_stay_done() {
    let root = tempfile::tempdir().unwrap();
    let export = |fault: Value| {
        let config = json!({ "repos": 10, "pull_requests": 5, "fault": fault });
        by_hand(root.path(), &limits(&json!({})), &json!([{ "name": "mock", "config": config }]), &[])
    };
    // 3 users, then a repository and its 5 pull requests each: it dies amid the fourth.
    let (output, report) = export(json!({ "kind": "kill", "at": 3 + 3 * 6 + 4 }));
    assert_eq!((output.status.code(), counted(&report, PULL_REQUEST)), (Some(1), 15), "{}", printed(&output));
    let (output, report) = export(Value::Null);
    assert_eq!((output.status.code(), counted(&report, PULL_REQUEST)), (Some(0), 35), "{}", printed(&output));
    let modes: Vec<_> =
        report["integrations"][0]["projects"].as_array().unwrap().iter().map(|it| &it["mode"]).collect();
    assert_eq!(modes.iter().filter(|it| **it == "incremental").count(), 3, "{modes:?}");
    let all = spooled(root.path(), PULL_REQUEST);
    let ids: HashSet<_> = all.iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!((all.len(), ids.len()), (50, 50));
}

/// The bytes of all files below folders, each counted once wherever it is moved meanwhile.
fn bytes_below(folders: &[PathBuf]) -> u64 {
    let (mut found, mut left) = (HashMap::new(), folders.to_vec());
    while let Some(folder) = left.pop() {
        for entry in folder.read_dir().into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(it) if it.is_dir() => left.push(entry.path()),
                Ok(it) => drop(found.insert((it.dev(), it.ino()), it.len())),
                Err(_) => {}
            }
        }
    }
    found.values().sum()
}

#[test]
fn an_upload_makes_no_second_copy_of_what_is_in_the_spool() {
    let mut stack = Stack::start(&json!({}));
    let (root, spool) = (stack.root(), stack.root().join("spool"));
    // The next service looks for what nobody told of.
    stack.kill_service();
    let mock = json!([{ "name": "mock", "config": { "pull_requests": 1000, "object_bytes": 4000 } }]);
    for _ in 0..4 {
        let (output, _) = by_hand(&root, &limits(&json!({})), &mock, &["--reprocess-historical"]);
        assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
    }
    let files = sealed(&spool);
    let in_files: u64 = files.iter().map(|it| it.metadata().unwrap().len()).sum();
    let folders = [spool.clone(), root.join("temp")];
    let before = bytes_below(&folders);
    let beside = before - in_files;
    assert!(in_files > 500_000 && beside < in_files / 10, "{in_files} bytes in files, {beside} beside them");

    let done = Arc::new(AtomicBool::new(false));
    let watcher = std::thread::spawn({
        let (done, count) = (done.clone(), files.len());
        move || {
            let (mut most, mut amid) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                most = most.max(bytes_below(&folders));
                amid += u32::from((1..count).contains(&sealed(&spool).len()));
            }
            (most, amid)
        }
    });
    stack.start_service();
    stack.until_uploaded();
    done.store(true, Ordering::Relaxed);
    let (most, amid) = watcher.join().unwrap();
    assert!(most <= before, "{before} bytes before the upload, {most} during it");
    assert!(amid > 0, "the upload was not watched");
}

#[test]
fn what_an_integration_did_not_finish_has_no_checkpoint() {
    let root = tempfile::tempdir().unwrap();
    let export = |steps: Value| {
        let (integrations, programs) = scripted(root.path(), &json!({ "steps": steps }));
        let mut agent = limits(&json!({}));
        agent["integrations_dir"] = programs;
        let (output, report) = by_hand(root.path(), &agent, &integrations, &[]);
        (printed(&output), report)
    };
    let kept = done(json!({ "last_processed": "kept" }));
    let (text, report) = export(json!([start("1"), send(2, 2), kept, start("2"), send(3, 3), { "exit": 1 }]));
    assert_eq!(counted(&report, "mock.Thing"), 2, "{text}");
    let (text, report) = export(json!([start("1"), start("2")]));
    let given: Vec<_> = text.lines().filter(|it| it.contains("session.start: ")).collect();
    assert!(given[0].contains("kept") && !given[1].contains("last_processed"), "{text}");
    assert_eq!(report["integrations"][0]["state"], "failed", "they were left open");
}

#[test]
fn a_slash_in_an_id_makes_no_other_sessions_path() {
    let root = tempfile::tempdir().unwrap();
    let step = |object: &str, value: Value| json!([start(object), send(1, 1), done(value)]);
    let one = step("a/b", json!({ "last_processed": "of a/b" }));
    let steps: Vec<_> = one
        .as_array()
        .unwrap()
        .iter()
        .cloned()
        .chain([start("a"), start("a%2Fb"), start("[\"a\",\"b\"]")])
        .collect();
    let (integrations, programs) = scripted(root.path(), &json!({ "steps": steps }));
    let mut agent = limits(&json!({}));
    agent["integrations_dir"] = programs;
    for runs in 0..2 {
        let (output, _) = by_hand(root.path(), &agent, &integrations, &[]);
        let text = printed(&output);
        assert_eq!(text.matches("of a/b").count(), runs, "{text}");
    }
}

#[test]
fn an_order_that_names_nothing_is_refused() {
    let root = tempfile::tempdir().unwrap();
    for (integrations, told) in [
        (json!([]), "the order names no integration"),
        (json!([{ "config": {} }]), "missing field `name`"),
        (json!([{ "name": "mock" }, { "name": "mock" }]), "two integrations have the id mock"),
    ] {
        let (output, _) = by_hand(root.path(), &limits(&json!({})), &integrations, &[]);
        let text = printed(&output);
        assert!(output.status.code() == Some(2) && text.contains(told), "{text}");
    }
}

#[test]
fn sessions_that_were_left_open_fail_the_integration() {
    let root = tempfile::tempdir().unwrap();
    let steps = json!([start("1"), send(2, 2), done(json!({})), start("2"), send(3, 3)]);
    let (integrations, programs) = scripted(root.path(), &json!({ "steps": steps }));
    let mut agent = limits(&json!({ "integration_attempts": 3 }));
    agent["integrations_dir"] = programs;
    let (output, report) = by_hand(root.path(), &agent, &integrations, &[]);
    let it = &report["integrations"][0];
    assert_eq!((output.status.code(), &it["state"], &it["attempts"]), (Some(1), &json!("failed"), &json!(1)));
    let message = it["error"]["message"].as_str().unwrap();
    assert!(message.contains("while 1 of its sessions were open; what they sent was dropped"), "{message}");
    assert_eq!(spooled(root.path(), "mock.Thing").len(), 2);
}

#[test]
fn integrations_run_side_by_side() {
    let root = tempfile::tempdir().unwrap();
    let hangs =
        |id: &str| json!({ "name": "mock", "id": id, "config": { "fault": { "kind": "hang", "at": 2 } } });
    let order = json!({ "agent": limits(&json!({})), "integrations": [hangs("one"), hangs("two")] });
    let mut action = Played::export(root.path(), "c1", &order);
    for id in ["one", "two"] {
        if !action.heard.iter().any(|it| hanging(it, id)) {
            action.until("both integrations to hang", |it| hanging(it, id));
        }
    }
    action.cancel();
    let report = action.report();
    let states: Vec<_> = report["integrations"].as_array().unwrap().iter().map(|it| &it["state"]).collect();
    assert_eq!(states, ["cancelled", "cancelled"]);
}

fn hanging(message: &Value, id: &str) -> bool {
    let lines = message["params"]["lines"].as_array();
    lines
        .into_iter()
        .flatten()
        .any(|line| line["source"] == id && line["message"].to_string().contains("hanging at"))
}

#[test]
fn objects_are_stored_byte_for_byte() {
    let root = tempfile::tempdir().unwrap();
    let programs = root.path().join("integrations");
    std::fs::create_dir_all(&programs).unwrap();
    let object = r#"{ "b": 1.10,  "a":12345678901234567890123, "b":"\u0041é" }"#;
    let script = format!(
        r#"#!/bin/sh
say() {{ printf '%s\n' "$1"; }}
read -r line; say '{{"jsonrpc":"2.0","id":0,"result":{{"protocol":1,"name":"raw","version":"1"}}}}'
read -r line
say '{{"jsonrpc":"2.0","id":1,"method":"session.start","params":{{"kind":"model","name":"mock.Thing"}}}}'; read -r line
say '{{"jsonrpc":"2.0","id":2,"method":"session.send","params":{{"session":1,"objects":[{object}]}}}}'; read -r line
say '{{"jsonrpc":"2.0","id":3,"method":"session.done","params":{{"session":1}}}}'; read -r line
say '{{"jsonrpc":"2.0","id":1,"result":{{}}}}'
read -r line; say '{{"jsonrpc":"2.0","id":2,"result":{{}}}}'
"#
    );
    let program = programs.join("integration-raw");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut agent = limits(&json!({}));
    agent["integrations_dir"] = json!(programs);
    let (output, _) = by_hand(root.path(), &agent, &json!([{ "name": "raw" }]), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
    let file = std::fs::read(&sealed(&root.path().join("spool"))[0]).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::MultiGzDecoder::new(&file[..]), &mut text).unwrap();
    assert_eq!(text, format!("{object}\n"));
}
