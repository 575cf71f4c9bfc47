//! How links end, and what everyone is told.

use std::time::Duration;

use outrider_protocol::fault::{Fault, Retry};
use outrider_testkit::{raw_link, soon, until};
use serde_json::json;

use super::{Echo, Link, Note, handlers, link, link_with, settle, small};
use crate::{CallError, Limits, Lost, connect};

#[tokio::test(start_paused = true)]
async fn a_clean_end_reaches_every_waiter_and_every_later_caller() {
    let Link { mut raw, peer, .. } = link();
    let callers: Vec<_> = (0..6) // More than may be under way.
        .map(|n| {
            let peer = peer.clone();
            tokio::spawn(async move { peer.call_within::<Echo>(None, &json!(n)).await.unwrap_err() })
        })
        .collect();
    let waiter = peer.clone();
    let waiter = tokio::spawn(async move { waiter.closed().await });
    raw.asked("echo").await;
    raw.hang_up();
    for caller in callers {
        let err = soon("a caller to hear of the loss", caller).await.unwrap();
        assert!(matches!(err, CallError::Lost(Lost::Ended)), "{err:?}");
        assert_eq!((err.fault(), err.retry()), (Fault::Peer, Retry::Later));
    }
    assert!(matches!(waiter.await.unwrap(), Lost::Ended));
    assert!(matches!(peer.lost(), Some(Lost::Ended)) && peer.is_closed());
    assert!(matches!(peer.call::<Echo>(&json!(1)).await, Err(CallError::Lost(Lost::Ended))));
    assert!(matches!(peer.notify::<Note>(&json!(1)).await, Err(CallError::Lost(Lost::Ended))));
    peer.close().await;
    assert!(matches!(peer.closed().await, Lost::Ended), "the first cause is kept");
    raw.hear().await;
}

#[tokio::test(start_paused = true)]
async fn an_end_inside_of_a_line_is_torn() {
    let Link { mut raw, peer, .. } = link();
    raw.say_bytes(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"met").await;
    raw.hang_up();
    let lost = soon("the loss", peer.closed()).await;
    assert!(matches!(lost, Lost::Torn { have: 28 }), "{lost:?}");
    assert!(lost.to_string().contains("28 bytes"));
    assert!(matches!(peer.call::<Echo>(&json!(1)).await, Err(CallError::Lost(Lost::Torn { .. }))));
}

#[tokio::test(start_paused = true)]
async fn white_space_after_the_last_line_is_a_clean_end() {
    let Link { mut raw, peer, .. } = link();
    raw.say_bytes(b"\n  \t ").await;
    raw.hang_up();
    assert!(matches!(soon("the loss", peer.closed()).await, Lost::Ended));
}

#[tokio::test(start_paused = true)]
async fn a_line_may_be_as_long_as_the_limit_and_no_longer() {
    let Link { mut raw, peer, .. } = link();
    let around = r#"{"jsonrpc":"2.0","id":1,"method":"note","params":""}"#.len();
    let fill = "x".repeat(small().line_bytes - around);
    raw.say(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"note","params":"{fill}"}}"#)).await;
    assert_eq!(raw.hear_json().await["result"], json!(null));
    raw.say(&format!(r#"{{"jsonrpc":"2.0","id":2,"method":"note","params":"{fill}x"}}"#)).await;
    assert_eq!(raw.hear_json().await["error"]["data"]["line_bytes"], 4097);
    raw.say(&"x".repeat(4097)).await;
    let lost = soon("the loss", peer.closed()).await;
    assert!(matches!(lost, Lost::TooLong { limit: 4096 }), "{lost:?}");
    raw.hear_end().await;
}

#[tokio::test(start_paused = true)]
async fn an_endless_line_is_not_gathered_beyond_the_limit() {
    let Link { mut raw, peer, .. } = link();
    let mut said = 0;
    while raw.try_say(&[b'x'; 1024]).await.is_ok() {
        said += 1024;
        assert!(said < 1024 * 1024, "it must stop reading soon after the limit");
    }
    assert!(matches!(peer.lost(), Some(Lost::TooLong { .. })));
}

#[tokio::test(start_paused = true)]
async fn last_words_are_heard_before_the_end_is_told() {
    let Link { mut raw, peer, seen, .. } = link();
    let caller = peer.clone();
    let call = tokio::spawn(async move { caller.call::<Echo>(&json!(1)).await });
    let asked = raw.asked("echo").await;
    for n in 0..50 {
        raw.notice("note", json!(n)).await;
    }
    raw.answer(&asked.id, json!("done")).await;
    raw.call(9, "echo", json!("?")).await;
    raw.hang_up();
    soon("the loss", peer.closed()).await;
    assert_eq!(seen.noted().len(), 50);
    assert_eq!(call.await.unwrap().unwrap(), "done", "an answer that came is an answer");
    assert_eq!(raw.hear_json().await["id"], 9, "and what could be answered at once was");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_does_not_end_does_not_hold_up_the_loss_and_still_runs_to_its_end() {
    let Link { mut raw, peer, seen, .. } = link();
    raw.notice("note", json!("slow")).await;
    settle().await;
    raw.hang_up();
    soon("the loss", peer.closed()).await;
    assert_eq!(seen.noted().len(), 0);
    seen.gate.add_permits(1);
    until("the handler's end", || seen.noted().len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn closing_writes_what_is_queued_and_then_the_end() {
    let Link { mut raw, peer, seen, .. } = link_with(small(), 64);
    let sender = peer.clone();
    let sending = tokio::spawn(async move {
        for n in 0..6 {
            sender.notify::<Note>(&json!({"n": n, "text": "x".repeat(50)})).await.unwrap();
        }
        sender.close().await;
    });
    settle().await;
    assert!(!peer.is_closed(), "nobody has read yet");
    for n in 0..6 {
        assert_eq!(raw.told("note").await["n"], n);
    }
    raw.hear_end().await;
    soon("the closing", sending).await.unwrap();
    assert!(matches!(peer.lost(), Some(Lost::Closed)));
    assert!(matches!(peer.call::<Echo>(&json!(1)).await, Err(CallError::Lost(Lost::Closed))));
    raw.notice("note", json!("on my way out")).await;
    until("its last words", || seen.noted() == [json!("on my way out")]).await;
}

#[tokio::test(start_paused = true)]
async fn closing_gives_up_on_an_end_that_does_not_read() {
    let Link { mut raw, peer, .. } = link_with(small(), 64);
    for n in 0..3 {
        peer.notify::<Note>(&json!({"n": n, "text": "x".repeat(100)})).await.unwrap();
    }
    let (pending, waiter) = (peer.clone(), peer.clone());
    let pending = tokio::spawn(async move { pending.call_within::<Echo>(None, &json!(1)).await });
    settle().await;
    waiter.close().await;
    assert!(matches!(pending.await.unwrap(), Err(CallError::Lost(Lost::Closed))));
    assert!(raw.hear().await.starts_with("{\"jsonrpc\""), "what was in the pipe is there, then the end");
    assert_eq!(raw.try_hear().await, None);
}

#[tokio::test(start_paused = true)]
async fn the_last_peer_that_is_dropped_ends_the_link_at_once() {
    let Link { mut raw, peer, .. } = link();
    let other = peer.clone();
    drop(peer);
    other.notify::<Note>(&json!("still there")).await.unwrap();
    assert_eq!(raw.told("note").await, "still there");
    drop(other);
    raw.hear_end().await;
    soon("the reading side to be closed", async { while raw.try_say(b"\n").await.is_ok() {} }).await;
}

#[tokio::test(start_paused = true)]
async fn an_end_that_stops_listening_but_lives_on_is_lost_for_writing() {
    let Link { mut raw, peer, .. } = link();
    raw.stop_listening();
    let err = peer.call_within::<Echo>(None, &json!(1)).await.unwrap_err();
    let CallError::Lost(lost @ Lost::Io { doing: "write to", .. }) = err else { panic!("{err:?}") };
    assert_eq!(lost.to_string(), "cannot write to the link");
    assert!(std::error::Error::source(&lost).unwrap().to_string().contains("broken pipe"));
}

#[tokio::test(start_paused = true)]
async fn an_end_that_dies_is_told_by_how_it_ended_and_not_by_the_broken_pipe() {
    let Link { mut raw, peer, seen, .. } = link();
    raw.stop_listening();
    raw.notice("note", json!("panicked at main.rs")).await;
    raw.say_bytes(b"{\"half").await;
    let caller = peer.clone();
    let call = tokio::spawn(async move { caller.call::<Echo>(&json!(1)).await });
    settle().await;
    raw.hang_up();
    let err = soon("the call's end", call).await.unwrap().unwrap_err();
    assert!(matches!(err, CallError::Lost(Lost::Torn { have: 6 })), "{err:?}");
    assert_eq!(seen.noted(), [json!("panicked at main.rs")]);
}

#[cfg(unix)]
#[tokio::test]
async fn pipes_of_the_system_carry_a_link_and_a_dead_end_is_noticed() {
    use std::fs::File;
    use std::os::fd::OwnedFd;

    let (left_reader, right_writer) = std::io::pipe().unwrap();
    let (right_reader, left_writer) = std::io::pipe().unwrap();
    let file = |end: OwnedFd| File::from(end);
    let input = |end: OwnedFd| crate::stdio::input(file(end)).unwrap();
    let output = |end: OwnedFd| crate::stdio::output(file(end)).unwrap();
    let left =
        connect(input(left_reader.into()), output(left_writer.into()), handlers().0, Limits::default());
    let right =
        connect(input(right_reader.into()), output(right_writer.into()), handlers().0, Limits::default());
    let large = json!("x".repeat(1_000_000));
    assert_eq!(left.call::<Echo>(&large).await.unwrap(), large);
    assert_eq!(right.call::<Echo>(&json!([1])).await.unwrap(), json!([1]));
    drop(right);
    assert!(matches!(soon("the loss", left.closed()).await, Lost::Ended));
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_may_stand_in_for_a_pipe() {
    use std::io::{Read, Seek, Write};

    let mut orders = std::io::BufReader::new(std::fs::File::open("/dev/null").unwrap());
    assert_eq!(orders.read(&mut [0]).unwrap(), 0, "the empty file is there");
    let folder = tempfile::tempdir().unwrap();
    let mut input = std::fs::File::create_new(folder.path().join("in")).unwrap();
    let output = std::fs::File::create_new(folder.path().join("out")).unwrap();
    input.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"double\",\"params\":[4]}\n").unwrap();
    let input = std::fs::File::open(folder.path().join("in")).unwrap();
    let (input, output) = (crate::stdio::input(input).unwrap(), crate::stdio::output(output).unwrap());
    let peer = connect(input, output, handlers().0, small());
    assert!(matches!(soon("the end of the file", peer.closed()).await, Lost::Ended));
    let mut written = std::fs::File::open(folder.path().join("out")).unwrap();
    written.rewind().unwrap();
    let mut answer = String::new();
    written.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":8}\n");
}

#[tokio::test(start_paused = true)]
async fn a_link_without_any_traffic_stays() {
    let (_raw, reader, writer) = raw_link(64);
    let peer = connect(reader, writer, handlers().0, small());
    tokio::time::sleep(Duration::from_secs(7 * 24 * 3600)).await;
    assert!(!peer.is_closed());
}
