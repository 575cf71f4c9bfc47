//! How an integration died, as its report and the backend tell it: of what, and what it said last.

#![cfg(unix)]

use serde_json::{Value, json};

use crate::bad_days::{by_hand, limits, scripted};
use crate::support::printed;

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
