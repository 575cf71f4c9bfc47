//! What becomes of lines, proper ones and others.

use outrider_protocol::fault::code;
use serde_json::{Value, json};

use super::{Link, link};

/// Says a line, and expects an answer with this code and id; the link must go on.
async fn check(line: &[u8], code: i32, id: Value) {
    let Link { mut raw, peer, .. } = link();
    raw.say_bytes(line).await;
    raw.say_bytes(b"\n").await;
    let answer = raw.hear_json().await;
    let shown = String::from_utf8_lossy(line);
    assert_eq!(answer["error"]["code"], code, "{shown}: {answer}");
    assert_eq!(answer["id"], id, "{shown}: {answer}");
    assert_eq!(answer["jsonrpc"], "2.0");
    goes_on(&mut raw).await;
    assert!(!peer.is_closed());
}

/// Says a line, and expects no answer; the link must go on.
async fn check_silent(line: &str) {
    let Link { mut raw, peer: _peer, .. } = link();
    raw.say(line).await;
    goes_on(&mut raw).await;
}

async fn goes_on(raw: &mut outrider_testkit::RawEnd) {
    raw.call("still there", "echo", json!(["hello"])).await;
    let answer = raw.hear_json().await;
    assert_eq!(answer, json!({"jsonrpc": "2.0", "id": "still there", "result": ["hello"]}));
}

#[tokio::test(start_paused = true)]
async fn a_line_that_is_not_json_is_answered_with_a_parse_error_and_id_null() {
    for line in [
        "Hello, world!",
        "{",
        r#"{"jsonrpc":"2.0","id":1,"method":"echo""#,
        r#"{"jsonrpc":"2.0","id":1,"method":"echo"} trailing"#,
        "[1,2",
        "{'jsonrpc':'2.0'}",
        "NaN",
    ] {
        check(line.as_bytes(), code::PARSE, Value::Null).await;
    }
    check(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}", code::PARSE, Value::Null).await;
    check(&[b'['; 2000], code::PARSE, Value::Null).await;
}

#[tokio::test(start_paused = true)]
async fn json_that_is_no_message_is_answered_with_an_invalid_request() {
    for (line, id) in [
        ("42", Value::Null),
        ("\"hello\"", Value::Null),
        ("null", Value::Null),
        ("{}", Value::Null),
        (r#"{"id":7}"#, json!(7)),
        (r#"{"jsonrpc":"2.0","id":7,"params":[]}"#, json!(7)),
        (r#"{"jsonrpc":"1.0","id":7,"method":"echo","params":[]}"#, json!(7)),
        (r#"{"id":"seven","method":"echo","params":[]}"#, json!("seven")),
        (r#"{"jsonrpc":"2.0","id":7,"method":8}"#, json!(7)),
        (r#"{"jsonrpc":"2.0","id":-7,"method":"echo"}"#, Value::Null),
        (r#"{"jsonrpc":"2.0","id":{},"method":"echo"}"#, Value::Null),
        (r#"{"jsonrpc":"2.0","id":7,"id":8,"method":"echo"}"#, Value::Null),
    ] {
        check(line.as_bytes(), code::INVALID_REQUEST, id).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_array_is_refused_whole() {
    let one = r#"{"jsonrpc":"2.0","id":1,"method":"echo","params":[]}"#;
    for line in [format!("[{one},{one}]"), "[]".into(), format!("  [{one}]")] {
        check(line.as_bytes(), code::INVALID_REQUEST, Value::Null).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_method_and_unfit_parameters_are_told_apart() {
    let unknown = r#"{"jsonrpc":"2.0","id":7,"method":"nonsense","params":[]}"#;
    check(unknown.as_bytes(), code::METHOD_NOT_FOUND, json!(7)).await;
    for params in [r#","params":["x"]"#, r#","params":{}"#, r#","params":7"#, ""] {
        let unfit = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"double"{params}}}"#);
        check(unfit.as_bytes(), code::INVALID_PARAMS, json!(7)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_nobody_is_dropped_and_never_answered() {
    for line in [
        r#"{"jsonrpc":"2.0","id":0,"result":1}"#,
        r#"{"jsonrpc":"2.0","id":99,"result":1}"#,
        r#"{"jsonrpc":"2.0","id":"0","result":1}"#,
        r#"{"jsonrpc":"2.0","id":null,"result":1}"#,
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"parse"}}"#,
        r#"{"jsonrpc":"2.0","id":[],"error":{"code":-32700,"message":"parse"}}"#,
        r#"{"jsonrpc":"2.0","result":1}"#,
        r#"{"jsonrpc":"2.0","id":5,"result":1,"error":{}}"#,
    ] {
        check_silent(line).await;
    }
}

#[tokio::test(start_paused = true)]
async fn notifications_that_nobody_handles_or_understands_are_never_answered() {
    check_silent(r#"{"jsonrpc":"2.0","method":"nonsense"}"#).await;
    check_silent(r#"{"jsonrpc":"2.0","method":"double","params":["x"]}"#).await;
    check_silent(r#"{"jsonrpc":"2.0","method":"note","params":"burst"}"#).await;
    check_silent(r#"{"jsonrpc":"2.0","method":"burst","params":{}}"#).await;
}

#[tokio::test(start_paused = true)]
async fn blank_lines_and_carriage_returns_are_skipped() {
    let Link { mut raw, peer: _peer, .. } = link();
    raw.say_bytes(b"\n\r\n   \n\t\n").await;
    raw.say_bytes(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"double\",\"params\":[4]}\r\n").await;
    assert_eq!(raw.hear_json().await, json!({"jsonrpc": "2.0", "id": 1, "result": 8}));
}

#[tokio::test(start_paused = true)]
async fn a_line_may_come_in_pieces_and_several_at_once() {
    let Link { mut raw, peer: _peer, .. } = link();
    let one = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"double\",\"params\":[4]}\n";
    for byte in one {
        raw.say_bytes(&[*byte]).await;
        super::settle().await;
    }
    raw.say_bytes(&one.repeat(3)).await;
    for _ in 0..4 {
        assert_eq!(raw.hear_json().await["result"], 8);
    }
}

#[tokio::test(start_paused = true)]
async fn ids_come_back_as_they_were_and_parameters_may_be_left_out() {
    let Link { mut raw, peer: _peer, .. } = link();
    for id in [json!(0), json!(u64::MAX), json!("a \"b\" \u{e9}"), json!("7"), Value::Null] {
        raw.say(&json!({"method": "echo", "id": id, "jsonrpc": "2.0", "more": 1}).to_string()).await;
        assert_eq!(raw.hear_json().await, json!({"jsonrpc": "2.0", "id": id, "result": {}}));
    }
}

#[tokio::test(start_paused = true)]
async fn chatter_of_any_length_is_answered_line_by_line_and_logged_within_bounds() {
    let Link { mut raw, peer, .. } = link();
    for _ in 0..500 {
        raw.say("Downloading [=====>      ] 42%").await;
        assert_eq!(raw.hear_json().await["error"]["code"], code::PARSE);
    }
    goes_on(&mut raw).await;
    assert!(!peer.is_closed());
}

#[test]
fn a_line_is_shortened_for_the_log_without_control_characters() {
    let line = format!("\u{1b}[31mred\tand{}", "y".repeat(1000));
    let shown = crate::message::shortened(line.as_bytes());
    assert!(shown.starts_with(" [31mred andyyy") && shown.ends_with("y… (1012 bytes)"), "{shown}");
    assert_eq!(crate::message::shortened(b"short \xff"), "short \u{fffd}");
}
