//! Lines that are longer than they may be: whoever waits for an answer is told, and what follows is served.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use outrider_protocol::fault::{Fault, Retry, code};
use outrider_protocol::integration::{SessionSend, SessionSendReply};
use outrider_testkit::{RawEnd, soon};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, ReadBuf};

use super::{Echo, Link, link, raw_link, settle, small};
use crate::lines::{Line, Lines};
use crate::outline::Outline;
use crate::shared::Shared;
use crate::{CallError, Handlers, Limits, Lost, connect};

/// What makes a line too long: objects with everything in their texts that JSON may have in one.
fn bulk() -> String {
    let object =
        r#"{"id":"an id","method":"nested","text":"\"id\":9} ]}{[\\","list":[[1],{"error":null}],"n":-1e5}"#;
    format!("[{}]", vec![object; 100].join(","))
}

/// Says a line in pieces, so that its end comes in another read than its beginning.
async fn say_in_pieces(raw: &mut RawEnd, line: &str) {
    for piece in line.as_bytes().chunks(1000) {
        raw.say_bytes(piece).await;
        settle().await;
    }
    raw.say_bytes(b"\n").await;
}

async fn goes_on(raw: &mut RawEnd) {
    raw.call("still there", "double", json!([4])).await;
    assert_eq!(raw.hear_json().await, json!({"jsonrpc": "2.0", "id": "still there", "result": 8}));
}

/// Says a line, which must be refused to whoever waits for `id`; the link must go on.
async fn check_refused(line: &str, id: &Value, told: &str) {
    let Link { mut raw, peer, seen } = link();
    say_in_pieces(&mut raw, line).await;
    let answer = raw.hear_json().await;
    let shown = &line[..100];
    assert_eq!((&answer["id"], &answer["error"]["code"]), (id, &json!(code::INVALID_REQUEST)), "{shown}");
    let (bytes, hint) =
        (line.len(), "send fewer objects in one batch (`max_line_bytes` in `initialize` says");
    let message = answer["error"]["message"].as_str().unwrap();
    let expected = format!("{told}: the line has {bytes} bytes, a line may have 4096; {hint}");
    assert!(message.starts_with(&expected), "{shown}: {message}");
    let data = &answer["error"]["data"];
    assert_eq!((&data["line_bytes"], &data["max_line_bytes"]), (&json!(bytes), &json!(4096)), "{data}");
    assert_eq!((&data["fault"], &data["retry"]), (&json!("peer"), &json!("no")), "{data}");
    goes_on(&mut raw).await;
    assert!(!peer.is_closed() && seen.begun().is_empty(), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_too_long_is_refused_by_its_id_wherever_that_stands() {
    let (bulk, seven) = (bulk(), json!(7));
    for line in [
        format!(r#"{{"jsonrpc":"2.0","id":7,"method":"echo","params":{bulk}}}"#),
        format!(r#"{{"jsonrpc": "2.0", "id": 7, "method": "echo", "params": {{"objects": {bulk}}}}}"#),
        format!(r#"{{"jsonrpc":"2.0","method":"echo","params":{bulk},"id":7}}"#),
        format!(r#"{{"id":7,"jsonrpc":"2.0","method":"echo","params":{bulk}}}"#),
        format!("  {{\t\"params\" : {bulk} ,\r \"method\":\"echo\" , \"id\":7,\"jsonrpc\" : \"2.0\" }}\r"),
        format!(
            r#"{{"method":"echo","more":{bulk},"params":"{}","jsonrpc":"2.0","id":7}}"#,
            "x\\\"".repeat(9000)
        ),
    ] {
        check_refused(&line, &seven, "echo").await;
    }
    for id in [json!("a \"quoted\" \u{e9} id"), json!("x".repeat(1000)), json!(u64::MAX), Value::Null] {
        let line = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"never.known","params":{bulk}}}"#);
        check_refused(&line, &id, "never.known").await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_proper_request_is_refused_as_well_where_it_has_an_id() {
    let (bulk, seven) = (bulk(), json!(7));
    for (line, told) in [
        (format!(r#"{{"id":7,"method":"echo","params":{bulk}}}"#), "`jsonrpc` must be \"2.0\""),
        (format!(r#"{{"jsonrpc":"2.0","id":7,"method":8,"params":{bulk}}}"#), "`method` must be text"),
        (
            format!(r#"{{"jsonrpc":"2.0","id":7,"params":{bulk}}}"#),
            "neither `method` nor `result` nor `error`",
        ),
    ] {
        check_refused(&line, &seven, told).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_caller_of_an_answer_that_is_too_long_is_told() {
    let Link { mut raw, peer, .. } = link();
    let (bulk, long_text) = (bulk(), "x".repeat(10_000));
    for answer in [
        format!(r#""result":{bulk}"#),
        format!(r#""result":"{long_text}""#),
        format!(r#""error":{{"code":1,"message":"","data":{bulk}}}"#),
        format!(r#""result":null,"error":{bulk}"#),
        format!(r#""result":{bulk},"error":{bulk}"#),
    ] {
        for direct in [false, true] {
            let caller = peer.clone();
            let call = tokio::spawn(async move {
                if direct {
                    return caller.call_text::<Echo>(None, "1".to_owned()).await;
                }
                caller.call_within::<Echo>(None, &json!(1)).await
            });
            let id = raw.asked("echo").await.id;
            let line = match direct {
                true => format!(r#"{{"jsonrpc":"2.0","id":{id},{answer}}}"#),
                false => format!(r#"{{"jsonrpc":"2.0",{answer},"id":{id}}}"#),
            };
            say_in_pieces(&mut raw, &line).await;
            let err = soon("the caller to be told", call).await.unwrap().unwrap_err();
            let CallError::BadReply { method: "echo", found } = &err else { panic!("{err:?}") };
            let expected = format!("the line has {} bytes, a line may have 4096", line.len());
            assert_eq!((found, err.fault(), err.retry()), (&expected, Fault::Peer, Retry::No));
        }
    }
    // Nobody waits for these, and an answer is never answered.
    say_in_pieces(&mut raw, &format!(r#"{{"jsonrpc":"2.0","id":99,"result":{bulk}}}"#)).await;
    say_in_pieces(&mut raw, &format!(r#"{{"jsonrpc":"2.0","id":null,"error":{bulk}}}"#)).await;
    say_in_pieces(&mut raw, &format!(r#"{{"jsonrpc":"2.0","result":{bulk}}}"#)).await;
    goes_on(&mut raw).await;
    assert_eq!(peer.open_calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_notification_that_is_too_long_is_skipped_and_order_is_kept() {
    let Link { mut raw, peer: _peer, seen } = link();
    raw.notice("note", json!(1)).await;
    say_in_pieces(&mut raw, &format!(r#"{{"jsonrpc":"2.0","method":"note","params":{}}}"#, bulk())).await;
    raw.notice("note", json!(2)).await;
    // The end of the long line and what follows it come in one read.
    let long = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"echo","params":{}}}"#, bulk());
    raw.say(&format!("{long}\n{}", r#"{"jsonrpc":"2.0","id":2,"method":"double","params":[2]}"#)).await;
    let mut answered = [raw.hear_json().await["id"].as_u64(), raw.hear_json().await["id"].as_u64()];
    answered.sort_unstable();
    assert_eq!(answered, [Some(1), Some(2)]);
    assert_eq!(seen.noted(), [json!(1), json!(2)]);
}

/// Objects in a batch that nobody answers: an integration that went on would store how far it came, past what is missing.
#[tokio::test(start_paused = true)]
async fn bulk_that_comes_as_a_notification_and_is_too_long_loses_the_link() {
    let (mut raw, reader, writer) = raw_link(64 * 1024);
    let mut on = Handlers::new(());
    on.on_raw::<SessionSend, _, _>(|_, _| async move {
        Ok(SessionSendReply { accepted: 0, unchanged: 0, rejected: vec![] })
    });
    let peer = connect(reader, writer, on, small());
    let line = format!(r#"{{"jsonrpc":"2.0","method":"session.send","params":{{"objects":{}}}}}"#, bulk());
    say_in_pieces(&mut raw, &line).await;
    let lost = soon("the loss", peer.closed()).await;
    assert!(matches!(lost, Lost::TooLong { limit: 4096 }), "{lost:?}");
}

#[tokio::test(start_paused = true)]
async fn a_line_that_tells_nobody_who_waits_loses_the_link() {
    let (bulk, long_text) = (bulk(), "x".repeat(10_000));
    for line in [
        format!(r#"[{{"jsonrpc":"2.0","id":7,"method":"echo","params":{bulk}}}]"#),
        format!(r#"{{"type":"request","jsonrpc":"2.0","id":7,"method":"echo","params":{bulk}}}"#),
        format!(r#"{{"jsonrpc":"2.0","id":7,"id":8,"method":"echo","params":{bulk}}}"#),
        format!(r#"{{"jsonrpc":"2.0","id":"{long_text}","method":"echo","params":[]}}"#),
        format!(r#"{{"jsonrpc":"2.0","id":{bulk},"method":"echo","params":[]}}"#),
        format!(r#"{{"jsonrpc":"2.0","id":{},"method":"echo"}}"#, "7".repeat(10_000)),
        format!(r#"{{"params":{bulk}}}"#),
        format!(r#"{{"jsonrpc":"2.0","id":7,"method":"echo","params":{bulk}}} and more"#),
        format!(r#"{{"jsonrpc":"2.0","id":7,"method":"echo","params":{bulk}"#),
        format!("{{{long_text}}}"),
        format!("{{\"{long_text}\":1}}"),
        " ".repeat(10_000),
        "]".repeat(10_000),
    ] {
        let Link { mut raw, peer, .. } = link();
        // Some lose the link at their beginning: then nobody reads their end.
        drop(raw.try_say(format!("{line}\n").as_bytes()).await);
        let lost = soon("the loss", peer.closed()).await;
        assert!(matches!(lost, Lost::TooLong { limit: 4096 }), "{}: {lost:?}", &line[..50]);
        raw.hear_end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_inside_of_a_line_that_is_too_long_is_torn() {
    let Link { mut raw, peer, .. } = link();
    let line = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"echo","params":{}"#, bulk());
    raw.say_bytes(line.as_bytes()).await;
    raw.hang_up();
    let lost = soon("the loss", peer.closed()).await;
    assert!(matches!(lost, Lost::Torn { have } if have == line.len()), "{lost:?}");
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_changes_counts_for_the_next_line_and_for_one_that_still_fits() {
    let Link { mut raw, peer, .. } = link();
    let line = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"echo","params":{}}}"#, bulk());
    let (begin, end) = line.split_at(5000);
    raw.say_bytes(begin.as_bytes()).await;
    settle().await;
    peer.set_line_bytes(1 << 20);
    raw.say(end).await;
    let refused = raw.hear_json().await;
    assert_eq!(refused["error"]["data"]["max_line_bytes"], 4096, "its beginning is gone already");
    raw.say(&line).await;
    assert_eq!(raw.hear_json().await["result"].as_array().map(Vec::len), Some(100));

    raw.say_bytes(begin.as_bytes()).await;
    settle().await;
    peer.set_line_bytes(1000);
    raw.say(end).await;
    let refused = raw.hear_json().await;
    assert_eq!((&refused["id"], &refused["error"]["data"]["max_line_bytes"]), (&json!(7), &json!(1000)));
    goes_on(&mut raw).await;
}

/// A stream of a beginning, so many bytes of bulk, and an end, each in reads of its own. Keeps the largest room that was
/// offered to it.
struct Long {
    begin: &'static [u8],
    bulk: usize,
    end: &'static [u8],
    offered: Arc<AtomicUsize>,
}

impl AsyncRead for Long {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.offered.fetch_max(buf.remaining(), Ordering::Relaxed);
        let part = [self.begin.len(), self.bulk, self.end.len()].into_iter().find(|it| *it > 0).unwrap_or(0);
        let part = part.min(buf.remaining());
        if !self.begin.is_empty() {
            buf.put_slice(&self.begin[..part]);
            self.begin = &self.begin[part..];
        } else if self.bulk > 0 {
            buf.initialize_unfilled_to(part).fill(b'x');
            buf.advance(part);
            self.bulk -= part;
        } else {
            buf.put_slice(&self.end[..part]);
            self.end = &self.end[part..];
        }
        Poll::Ready(Ok(()))
    }
}

const BEGIN: &[u8] = br#"{"jsonrpc":"2.0","id":7,"method":"echo","params":[""#;

/// The lines of a stream with so much bulk, and the largest room that they offered for a read.
fn lines(bulk: usize, end: &'static [u8]) -> (Lines<Long>, Arc<AtomicUsize>) {
    let offered = Arc::<AtomicUsize>::default();
    let reader = Long { begin: BEGIN, bulk, end, offered: offered.clone() };
    let limits = Limits { line_bytes: 1 << 20, ..small() };
    (Lines::new(reader, Arc::new(Shared::new(limits))), offered)
}

#[tokio::test]
async fn a_line_of_100_mb_passes_without_being_kept() {
    const BULK: usize = 100_000_000;
    let (mut lines, offered) = lines(BULK, b"\"]}\nnext\n");
    let line = lines.next().await.unwrap();
    let Some(Line::Skipped(skipped)) = line else { panic!("expected that it is too long, found {line:?}") };
    assert_eq!((skipped.bytes, skipped.limit), (BEGIN.len() + BULK + 3, 1 << 20));
    assert_eq!(skipped.outline, r#"{"jsonrpc":"2.0","id":7,"method":"echo","params":[]}"#);
    let Ok(Some(Line::Whole(next))) = lines.next().await else { panic!("expected what follows") };
    assert_eq!(next, b"next");
    assert!(lines.next().await.unwrap().is_none());
    // The limit's own megabyte was read before it was known that the line is too long.
    let offered = offered.load(Ordering::Relaxed);
    assert!(offered <= 2 << 20, "room for {offered} bytes was offered to one read");
    assert!(lines.capacity() <= 128 << 10, "{} bytes are held afterwards", lines.capacity());
}

#[tokio::test]
async fn a_line_without_end_is_skipped_up_to_a_bound() {
    let (lines, _) = lines(usize::MAX, b"");
    let lost = lines.skipping(8 << 20).next().await.unwrap_err();
    assert!(matches!(lost, Lost::TooLong { limit: 1_048_576 }), "{lost:?}");
}

/// The outline of a line that comes in pieces.
fn outline(pieces: &[&[u8]]) -> Option<String> {
    let mut outline = Outline::default();
    pieces.iter().all(|it| it.is_empty() || outline.take(it)).then(|| outline.into_text().unwrap())
}

#[test]
fn an_outline_is_the_same_wherever_the_line_is_cut() {
    let long = "y\\\\".repeat(1000);
    for (line, expected) in [
        (r#"{"id":1,"params":{"a":{"b":["}"]}},"x":[[]]}"#, r#"{"id":1,"params":{},"x":[]}"#),
        (r#" {"jsonrpc" : "\\\"}{" , "params":[1,"\"]"] } "#, r#"{"jsonrpc" : "\\\"}{" , "params":[] }"#),
        (r#"{"result":"é{","id":[]}x"#, r#"{"result":"é{","id":[]}x"#),
        (&format!(r#"{{"result":"{long}","id":"{long}"}}"#), r#"{"result":{},"id":{}}"#),
        (r#"{"error":[}],"id":1}"#, r#"{"error":[]],"id":1}"#),
    ] {
        for at in 0..line.len() {
            let (first, second) = line.as_bytes().split_at(at);
            if first.trim_ascii().is_empty() {
                continue;
            }
            assert_eq!(outline(&[first, second]).as_deref(), Some(expected), "{line} cut at {at}");
        }
        let bytes: Vec<_> = line.trim_start().as_bytes().chunks(1).collect();
        assert_eq!(outline(&bytes).as_deref(), Some(expected), "{line} byte by byte");
    }
}

/// A value of random shape, with all that is hard to tell apart in its texts.
fn any_value(dice: &mut impl FnMut(usize) -> usize, depth: usize) -> Value {
    match dice(if depth < 4 { 6 } else { 4 }) {
        0 => json!(dice(100_000)),
        1 => [json!(null), json!(true), json!(-1.5e-7)][dice(3)].clone(),
        2 | 3 => {
            let pieces = ["\"", "\\", "{", "}", "[", "]", ",", ":", "\n", "\u{1}", "é", "\"id\":7", "", " "];
            (0..dice(12)).map(|_| pieces[dice(pieces.len())]).collect::<String>().into()
        }
        4 => (0..dice(5)).map(|_| any_value(dice, depth + 1)).collect(),
        _ => {
            (0..dice(5)).map(|_| (format!("}}\"{}", dice(9)), any_value(dice, depth + 1))).collect::<Value>()
        }
    }
}

#[test]
fn an_outline_has_the_members_of_its_message_for_any_message_in_any_pieces() {
    let mut state = 88_172_645_463_325_252_u64;
    let mut dice = move |sides: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % sides as u64).unwrap()
    };
    for round in 0..2000 {
        let mut message: Value = json!({ "id": any_value(&mut dice, 1) });
        for _ in 0..dice(6) {
            let name = ["jsonrpc", "method", "params", "result", "error", "}more"][dice(6)];
            message[name] = any_value(&mut dice, 1);
        }
        let line = match dice(2) {
            0 => message.to_string(),
            _ => serde_json::to_string_pretty(&message).unwrap().replace('\n', " "),
        };
        let (mut pieces, mut rest) = (Vec::new(), line.as_bytes());
        while !rest.is_empty() {
            let piece;
            (piece, rest) = rest.split_at(1 + dice(rest.len()));
            pieces.push(piece);
        }
        let Some(outline) = outline(&pieces) else { panic!("round {round}: {line}") };
        let found: Value = serde_json::from_str(&outline).unwrap();
        for member in message.as_object_mut().unwrap().values_mut() {
            match member {
                Value::Array(items) => items.clear(),
                Value::Object(members) => members.clear(),
                _ => {}
            }
        }
        assert_eq!(found, message, "round {round}: {line}");
    }
}

#[test]
fn an_outline_never_grows_beyond_its_bound() {
    for piece in [&b"1"[..], b"\"", b"\"a\":\"b\",", b"\"a\":{},", b"\\", b"{", b"}", b" ", b"\"\\"] {
        let mut outline = Outline::default();
        outline.take(br#"{"id":1,"#);
        for _ in 0..100 {
            outline.take(&piece.repeat(1000));
        }
        let kept = outline.into_text().unwrap().len();
        assert!(kept <= 6 * 1024, "{kept} bytes of {:?}", String::from_utf8_lossy(piece));
    }
}
