//! Calls and notifications, their order, their bounds in time and size.

use std::time::Duration;

use outrider_protocol::Call;
use outrider_protocol::fault::{Fault, Retry, code};
use outrider_protocol::integration::{SessionBatch, SessionSend, SessionSendReply};
use outrider_testkit::{raw_link, soon};
use serde_json::json;
use serde_json::value::RawValue;

use super::{Burst, Double, Echo, Link, Note, Wait, link, link_with, pair, settle, small};
use crate::{CallError, Handlers, Limits, connect};

#[tokio::test(start_paused = true)]
async fn both_ends_call_each_other_and_get_answers_and_errors() {
    let (left, right) = pair(small(), 256);
    assert_eq!(left.call::<Double>(&[21]).await.unwrap(), 42);
    assert_eq!(right.call::<Echo>(&json!(null)).await.unwrap(), json!({}), "null is no parameters");
    let err = right.call::<Double>(&[u32::MAX]).await.unwrap_err();
    let CallError::Rpc(refused) = err else { panic!("{err:?}") };
    assert_eq!((refused.code, refused.message.as_str()), (-32050, "too large"));
    assert_eq!(refused.data.unwrap().hint.as_deref(), Some("take a smaller one"));
}

#[tokio::test(start_paused = true)]
async fn handlers_begin_in_the_order_of_arrival_and_may_end_in_another() {
    let Link { mut raw, peer: _peer, seen } = link();
    raw.call(1, "wait", json!("a")).await;
    raw.call(2, "echo", json!("b")).await;
    raw.call(3, "wait", json!("c")).await;
    raw.call(4, "echo", json!("d")).await;
    assert_eq!(raw.hear_json().await["id"], 2);
    assert_eq!(raw.hear_json().await["id"], 4);
    assert_eq!(seen.begun(), [json!("a"), json!("b"), json!("c"), json!("d")]);
    seen.gate.add_permits(2);
    let mut late = [raw.hear_json().await["id"].clone(), raw.hear_json().await["id"].clone()];
    late.sort_by_key(|id| id.as_u64());
    assert_eq!(late, [json!(1), json!(3)]);
}

#[tokio::test(start_paused = true)]
async fn a_notification_is_done_before_what_follows_it_begins() {
    let Link { mut raw, peer: _peer, seen } = link();
    raw.call(1, "wait", json!("before")).await;
    raw.notice("note", json!("slow")).await;
    raw.notice("note", json!("quick")).await;
    raw.call(2, "echo", json!("after")).await;
    settle().await;
    assert_eq!((seen.begun(), seen.noted()), (vec![json!("before")], vec![]));
    seen.gate.add_permits(2); // For the request, which still runs, and for the notification.
    raw.hear_json().await;
    raw.hear_json().await;
    assert_eq!(seen.noted(), [json!("slow"), json!("quick")]);
    assert_eq!(seen.begun(), [json!("before"), json!("after")]);
}

#[tokio::test(start_paused = true)]
async fn a_call_and_the_notification_after_it_arrive_in_order() {
    let Link { mut raw, peer, .. } = link();
    let caller = peer.clone();
    let call = tokio::spawn(async move { caller.call::<Echo>(&json!(1)).await });
    settle().await;
    peer.notify::<Note>(&json!("cancel")).await.unwrap();
    let asked = raw.asked("echo").await;
    assert_eq!(raw.told("note").await, "cancel");
    raw.answer(&asked.id, json!("kept")).await;
    assert_eq!(call.await.unwrap().unwrap(), "kept");
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_in_time_and_its_late_answer_is_dropped() {
    let Link { mut raw, peer, .. } = link();
    let err = peer.call_within::<Echo>(Some(Duration::from_secs(1)), &json!(1)).await.unwrap_err();
    assert_eq!(err.to_string(), "call echo: no answer within 1s");
    assert_eq!((err.fault(), err.retry()), (Fault::Peer, Retry::Later));
    let late = raw.asked("echo").await;
    raw.answer(&late.id, json!("late")).await;
    settle().await;
    assert_eq!(peer.open_calls(), 0, "nothing is kept for it");

    let caller = peer.clone();
    let next = tokio::spawn(async move { caller.call::<Echo>(&json!(2)).await });
    let asked = raw.asked("echo").await;
    assert_ne!(asked.id, late.id);
    raw.answer(&late.id, json!("later still")).await;
    raw.answer(&asked.id, json!("in time")).await;
    assert_eq!(next.await.unwrap().unwrap(), "in time");
}

#[tokio::test(start_paused = true)]
async fn calls_take_the_default_time_or_all_the_time() {
    let Link { mut raw, peer, .. } = link();
    let err = peer.call::<Echo>(&json!(1)).await.unwrap_err();
    assert!(matches!(err, CallError::TimedOut { method: "echo", after } if after == small().request_timeout));
    raw.asked("echo").await;
    let caller = peer.clone();
    let patient = tokio::spawn(async move { caller.call_within::<Echo>(None, &json!(2)).await });
    let asked = raw.asked("echo").await;
    tokio::time::sleep(Duration::from_secs(100 * 24 * 3600)).await;
    raw.answer(&asked.id, json!("at last")).await;
    assert_eq!(patient.await.unwrap().unwrap(), "at last");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_while_it_is_queued_is_never_sent() {
    let Link { mut raw, peer, .. } = link_with(small(), 64);
    let filler = peer.clone();
    let filler = tokio::spawn(async move {
        for n in 0..20 {
            filler.notify::<Note>(&json!({"n": n, "text": "x".repeat(100)})).await.unwrap();
        }
    });
    settle().await;
    assert!(!filler.is_finished(), "nobody reads, so the queue is full");
    for n in 0..40 {
        let err = peer.call_within::<Echo>(Some(Duration::from_millis(1)), &json!(n)).await.unwrap_err();
        assert!(matches!(err, CallError::TimedOut { .. }), "{err}");
    }
    for n in 0..20 {
        assert_eq!(raw.told("note").await["n"], n);
    }
    filler.await.unwrap();
    peer.notify::<Note>(&json!("next")).await.unwrap();
    assert_eq!(raw.told("note").await, "next");
    assert_eq!(peer.open_calls(), 0, "nothing is kept for them");
}

#[tokio::test(start_paused = true)]
async fn no_more_calls_are_under_way_than_the_limit() {
    let Link { mut raw, peer, .. } = link();
    let calls: Vec<_> = (0..10)
        .map(|n| {
            let peer = peer.clone();
            tokio::spawn(async move { peer.call::<Echo>(&json!(n)).await.unwrap() })
        })
        .collect();
    for n in 0..4 {
        assert_eq!(raw.asked("echo").await.params, n);
    }
    let more = tokio::time::timeout(Duration::from_secs(1), raw.hear()).await;
    assert!(more.is_err(), "{more:?}");
    drop(calls);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_answers_and_the_link_goes_on() {
    let (left, _right) = pair(small(), 256);
    let err = left.call::<Burst>(&json!("tests")).await.unwrap_err();
    let CallError::Rpc(burst) = err else { panic!("{err:?}") };
    assert_eq!(burst.code, code::INTERNAL);
    assert_eq!(burst.message, "burst: its handler panicked: burst by \"tests\"");
    assert_eq!(left.call::<Double>(&[1]).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn answers_that_do_not_fit_are_told_to_their_caller_only() {
    let Link { mut raw, peer, .. } = link();
    let both = r#""result":1,"error":{"code":1,"message":"m"}"#;
    for (answer, expected) in [
        (r#""result":"text""#, "call double: the answer does not fit: invalid type: string"),
        (both, "call double: the answer does not fit: it has both `result` and `error`"),
        (r#""error":null"#, "call double: the answer does not fit: it has neither `result` nor `error`"),
        (r#""error":"broken""#, "call double: the answer does not fit: `error` must have a code"),
        (r#""error":{"code":-1}"#, ""),
        (r#""error":{"code":-1,"message":"plain","data":[1],"more":2}"#, "plain"),
        (r#""error":{"code":-1,"message":"old"},"result":null"#, "old"),
    ] {
        let caller = peer.clone();
        let call = tokio::spawn(async move { caller.call::<Double>(&[1]).await });
        let id = raw.asked("double").await.id;
        raw.say(&format!(r#"{{"jsonrpc":"2.0","id":{id},{answer}}}"#)).await;
        let err = soon("the call's end", call).await.unwrap().unwrap_err();
        assert!(err.to_string().starts_with(expected), "{answer}: {err}");
    }
    assert!(!peer.is_closed());
}

#[tokio::test(start_paused = true)]
async fn answers_of_loose_writers_are_taken() {
    let Link { mut raw, peer, .. } = link();
    for answer in [
        r#""jsonrpc":"2.0","result":7"#,
        r#""result":7"#,
        r#""jsonrpc":"2.0","result":7,"error":null"#,
        r#""jsonrpc":"1.0","result":7"#,
        r#""jsonrpc":"2.0","took":0.5,"result":7"#,
    ] {
        let caller = peer.clone();
        let call = tokio::spawn(async move { caller.call::<Double>(&[1]).await });
        let id = raw.asked("double").await.id;
        raw.say(&format!(r#"{{{answer},"id":{id}}}"#)).await;
        assert_eq!(soon("the answer", call).await.unwrap().unwrap(), 7, "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_longer_than_a_line_is_refused_before_it_is_sent() {
    let (left, right) = pair(small(), 256);
    let long = json!("x".repeat(small().line_bytes));
    let err = left.call::<Echo>(&long).await.unwrap_err();
    assert_eq!(
        err.to_string(),
        "call echo: the parameters have 4098 bytes, a line may have 4096; send less at once"
    );
    assert!(matches!(left.notify::<Note>(&long).await, Err(CallError::TooLong { .. })));

    // An answer, too: the other end's limit may be the smaller one.
    let (raw, reader, writer) = raw_link(64);
    drop(raw);
    drop((reader, writer));
    let (left_writer, right_reader) = tokio::io::duplex(256);
    let (right_writer, left_reader) = tokio::io::duplex(256);
    let caller = connect(left_reader, left_writer, super::handlers().0, Limits::default());
    let narrow = Limits { line_bytes: 1000, ..small() };
    let mut on = Handlers::new(());
    on.on::<Double, _, _>(|_, _| async { Ok(1) });
    on.on::<Echo, _, _>(|_, _| async { Ok(json!("y".repeat(2000))) });
    let _answerer = connect(right_reader, right_writer, on, narrow);
    let err = caller.call::<Echo>(&json!(1)).await.unwrap_err();
    assert!(err.to_string().starts_with("echo: the answer has 20"), "{err}");
    assert_eq!(caller.call::<Double>(&[1]).await.unwrap(), 1);
    assert!(!right.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_raised_counts_from_the_next_line_on() {
    let (left, right) = pair(small(), 256);
    let long = json!("x".repeat(2 * small().line_bytes));
    assert!(matches!(left.call::<Echo>(&long).await, Err(CallError::TooLong { .. })));
    left.set_line_bytes(4 * small().line_bytes);
    // The other end waits for its next line already.
    right.set_line_bytes(4 * small().line_bytes);
    assert_eq!(left.call::<Echo>(&long).await.unwrap(), long);
    right.set_line_bytes(3 * small().line_bytes / 2);
    let refused = left.call::<Echo>(&long).await.unwrap_err();
    assert!(matches!(&refused, CallError::Rpc(err) if err.code == code::INVALID_REQUEST), "{refused:?}");
    assert_eq!((refused.fault(), refused.retry()), (Fault::Peer, Retry::No));
    assert_eq!(left.call::<Double>(&[1]).await.unwrap(), 2, "both ends live on");
}

#[tokio::test(start_paused = true)]
async fn a_raw_line_feed_never_gets_into_a_message() {
    /// Sends raw JSON.
    enum Pass {}
    impl Call for Pass {
        const NAME: &'static str = "echo";
        type Params = outrider_protocol::Raw;
        type Reply = outrider_protocol::Raw;
    }
    let pretty = "{\n  \"a\": [1,\r\n 2],\n  \"text\": \"one\\ntwo\"\n}";
    let params = RawValue::from_string(pretty.to_owned()).unwrap();
    let (left, _right) = pair(small(), 256);
    let reply = left.call::<Pass>(&params).await.unwrap();
    let (sent, came): (serde_json::Value, serde_json::Value) =
        (serde_json::from_str(pretty).unwrap(), serde_json::from_str(reply.get()).unwrap());
    assert_eq!(came, sent);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_read_where_it_lies_in_the_line() {
    let (mut raw, reader, writer) = raw_link(64 * 1024);
    let mut on = Handlers::new(());
    on.on_raw::<SessionSend, _, _>(|_, raw| async move {
        let line = raw.line().as_bytes().as_ptr_range();
        let batch: SessionBatch<'_> = raw.parse_borrowed()?;
        assert!(batch.objects.iter().all(|object| line.contains(&object.get().as_ptr())));
        assert_eq!(batch.objects[1].get(), r#"{"id": "b", "n": 1.50}"#, "its own text");
        Ok(SessionSendReply { accepted: batch.objects.len() as u64, unchanged: 0, rejected: vec![] })
    });
    let _peer = connect(reader, writer, on, small());
    let objects = r#"[{"id":"a"}, {"id": "b", "n": 1.50}]"#;
    raw.say(&format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"session.send","params":{{"session":3,"objects":{objects}}}}}"#
    ))
    .await;
    assert_eq!(raw.hear_json().await, json!({"jsonrpc": "2.0", "id": 1, "result": {"accepted": 2}}));
    raw.call(2, "session.send", json!({"session": 3})).await;
    let refused = raw.hear_json().await;
    assert_eq!(refused["error"]["code"], code::INVALID_PARAMS);
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("missing field `objects`"), "{message}");
}

/// Lines that are so large that only their beginning is looked at before the handler reads the rest.
#[tokio::test(start_paused = true)]
async fn a_large_batch_that_is_none_is_refused_as_a_small_one_would_be() {
    let (mut raw, reader, writer) = raw_link(64 * 1024);
    let mut on = Handlers::new(());
    on.on_raw::<SessionSend, _, _>(|_, raw| async move {
        let batch: SessionBatch<'_> = raw.parse_borrowed()?;
        Ok(SessionSendReply { accepted: batch.objects.len() as u64, unchanged: 0, rejected: vec![] })
    });
    let _peer = connect(reader, writer, on, Limits { line_bytes: 32 * 1024, ..small() });
    let text = "x".repeat(8 * 1024);
    let head = r#"{"jsonrpc":"2.0","id":7,"method":"session.send","params":"#;
    let good = format!(r#"{{"session":3,"objects":[{{"id":"{text}"}}]}}"#);
    let check = [
        (format!("{head}{good}}}"), None),
        (format!(r#"{head}{good},"later":[1]}}"#), None),
        (format!("{head} {good} }} "), None),
        (format!(r#"{head}{{"session":3,"objects":"{text}"}}}}"#), Some(code::INVALID_PARAMS)),
        (format!(r#"{head}{{"objects":[{{"id":"{text}"}}]}}}}"#), Some(code::INVALID_PARAMS)),
        (format!("{head}{good}"), Some(code::PARSE)),
        (format!("{head}{good}}}}}"), Some(code::PARSE)),
        (format!(r#"{head}{{"session":3,"objects":[{{"id":"{text}"]}}}}"#), Some(code::PARSE)),
        (format!(r#"{head}{good},"params":{good}}}"#), Some(code::INVALID_REQUEST)),
        (format!(r#"{head}{good},"method":"echo"}}"#), Some(code::INVALID_REQUEST)),
    ];
    for (line, expected) in check {
        raw.say(&line).await;
        let answer = raw.hear_json().await;
        let (begin, end) = (&line[..80], &line[line.len() - 30..]);
        match expected {
            None => assert_eq!(answer["result"]["accepted"], 1, "{begin} … {end}: {answer}"),
            Some(code) => assert_eq!(answer["error"]["code"], code, "{begin} … {end}: {answer}"),
        }
    }
}

/// As long as [`small`] lets any call wait.
const AT_MOST: Option<Duration> = Some(Duration::from_secs(5));

#[tokio::test(start_paused = true)]
async fn a_call_of_text_is_answered_refused_timed_out_and_given_up_as_any_other() {
    let (left, right) = pair(small(), 256);
    assert_eq!(left.call_text::<Double>(AT_MOST, "[21]".into()).await.unwrap(), 42);
    assert_eq!(right.call_text::<Echo>(AT_MOST, "{\n\"a\": [1]}".into()).await.unwrap(), json!({"a": [1]}));
    let err = right.call_text::<Double>(AT_MOST, format!("[{}]", u32::MAX)).await.unwrap_err();
    let CallError::Rpc(refused) = err else { panic!("{err:?}") };
    assert_eq!((refused.code, refused.message.as_str()), (-32050, "too large"));
    assert_eq!(refused.data.unwrap().hint.as_deref(), Some("take a smaller one"));
    let err = left.call_text::<Wait>(AT_MOST, "\"forever\"".into()).await.unwrap_err();
    assert!(matches!(err, CallError::TimedOut { .. }), "{err:?}");
    settle().await;
    assert_eq!(left.open_calls(), 0);
    let waiting = tokio::spawn({
        let left = left.clone();
        async move { left.call_text::<Wait>(AT_MOST, "\"lost\"".into()).await }
    });
    settle().await;
    right.close().await;
    assert!(matches!(waiting.await.unwrap(), Err(CallError::Lost(_))));
}

#[tokio::test(start_paused = true)]
async fn a_later_handler_replaces_an_earlier_one() {
    let (mut raw, reader, writer) = raw_link(1024);
    let mut on = Handlers::new(());
    on.on::<Double, _, _>(|_, _| async { Ok(1) }).on::<Double, _, _>(|_, _| async { Ok(2) });
    on.on::<Wait, _, _>(|_, _| std::future::pending());
    let _peer = connect(reader, writer, on, small());
    raw.call(1, "double", json!([0])).await;
    assert_eq!(raw.hear_json().await["result"], 2);
}
