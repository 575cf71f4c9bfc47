//! Back-pressure instead of growth, and many calls in both directions at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use outrider_testkit::{soon, until};
use serde_json::{Value, json};

use super::{Double, Echo, Link, Note, Wait, link_with, pair, settle, small};
use crate::shared::QUEUE_OF_CLIENT;
use crate::{Limits, Peer};

#[tokio::test(start_paused = true)]
async fn a_slow_reader_holds_up_whoever_sends_and_nothing_is_lost() {
    let Link { mut raw, peer, .. } = link_with(small(), 64);
    let taken = Arc::new(AtomicUsize::new(0));
    let (sender, count) = (peer.clone(), taken.clone());
    let sending = tokio::spawn(async move {
        for n in 0..1000 {
            sender.notify::<Note>(&json!({"n": n, "text": "x".repeat(200)})).await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    settle().await;
    let queued = taken.load(Ordering::Relaxed);
    // The queue, as much before it in jsonrpsee's client, as much gathered by the writer, and one between each.
    assert!(queued <= 3 * (small().outgoing_lines + 1), "{queued} lines wait");
    for n in 0..1000 {
        assert_eq!(raw.told("note").await["n"], n);
    }
    soon("the sender's end", sending).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn large_lines_wait_by_their_bytes() {
    const LINE: usize = 3 * 1024 * 1024;
    let Link { mut raw, peer, .. } = link_with(Limits::default(), 64 * 1024);
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    let sending = tokio::spawn(async move {
        let params = json!("x".repeat(LINE));
        for _ in 0..16 {
            peer.notify::<Note>(&params).await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
        }
        peer
    });
    settle().await;
    let queued = taken.load(Ordering::Relaxed);
    assert!(queued <= 2 + 1 + QUEUE_OF_CLIENT, "{queued} lines of {LINE} bytes wait: 8 MiB hold two");
    for _ in 0..16 {
        assert_eq!(raw.told("note").await.as_str().map(str::len), Some(LINE));
    }
    drop(sending.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn requests_beyond_the_limit_wait_in_the_pipe_until_others_are_answered() {
    let Link { mut raw, seen, peer } = link_with(small(), 64);
    let flood = async {
        let mut said = 0;
        loop {
            let request = json!({"jsonrpc": "2.0", "id": said, "method": "wait", "params": [said]});
            let line = format!("{request}\n");
            let written = raw.try_say(line.as_bytes());
            if tokio::time::timeout(Duration::from_secs(1), written).await.is_err() {
                return said;
            }
            said += 1;
        }
    };
    let said = soon("the flood to be held up", flood).await;
    assert_eq!(seen.begun().len(), small().concurrent_requests);
    assert!(said <= small().concurrent_requests + 3, "{said} requests were read");
    assert!(!peer.is_closed());
    seen.gate.add_permits(said);
    for _ in 0..said {
        raw.hear_json().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_read_while_the_outgoing_queue_is_full() {
    let Link { mut raw, peer, .. } = link_with(small(), 64);
    let caller = peer.clone();
    let call = tokio::spawn(async move { caller.call::<Echo>(&json!(1)).await });
    let asked = raw.asked("echo").await;
    let sender = peer.clone();
    let stuck = tokio::spawn(async move {
        loop {
            sender.notify::<Note>(&json!("x".repeat(200))).await.unwrap();
        }
    });
    settle().await;
    raw.answer(&asked.id, json!("through")).await;
    assert_eq!(soon("the answer", call).await.unwrap().unwrap(), "through");
    stuck.abort();
}

#[tokio::test(start_paused = true)]
async fn garbage_without_end_from_one_that_never_reads_stops_at_the_limit() {
    let Link { mut raw, peer, .. } = link_with(small(), 64);
    let flood = async {
        for said in 0..10_000 {
            let written = raw.try_say(b"garbage garbage garbage\n");
            if tokio::time::timeout(Duration::from_secs(1), written).await.is_err() {
                return said;
            }
        }
        10_000
    };
    let said = soon("the flood to be held up", flood).await;
    assert!(said < 40, "{said} lines were read");
    assert!(!peer.is_closed());
}

/// `callers` tasks on each end call the other `each` times at once.
async fn flood(left: &Peer, right: &Peer, callers: usize, each: usize) {
    let mut tasks = Vec::new();
    for n in 0..callers {
        for (peer, name) in [(left, "left"), (right, "right")] {
            let peer = peer.clone();
            tasks.push(tokio::spawn(async move {
                for m in 0..each {
                    let sent = json!({"from": name, "n": n, "m": m, "fill": "x".repeat(n % 300)});
                    assert_eq!(peer.call_within::<Echo>(None, &sent).await.unwrap(), sent);
                    peer.notify::<Note>(&Value::from(m)).await.unwrap();
                }
            }));
        }
    }
    for task in tasks {
        soon("every call's answer", task).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn far_more_calls_both_ways_than_fit_anywhere_are_all_answered() {
    let (left, right) = pair(small(), 64);
    flood(&left, &right, 300, 3).await;
    assert_eq!((left.open_calls(), right.open_calls()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_on_several_threads_with_default_limits() {
    let (left, right) = pair(Limits::default(), 4096);
    flood(&left, &right, 200, 10).await;
    until("no call is left", || left.open_calls() + right.open_calls() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_given_up_at_random_leave_nothing_behind() {
    let (left, _right) = pair(small(), 64);
    let mut tasks = Vec::new();
    for n in 0..400_u64 {
        let peer = left.clone();
        tasks.push(tokio::spawn(async move {
            // Some are dropped before their first poll, some while queued, some when sent, some never.
            let call = peer.call_within::<Double>(None, &[7]);
            let mut polls = (n * 7919) % 23;
            let mut call = std::pin::pin!(call);
            std::future::poll_fn(|cx| {
                if polls == 0 {
                    return std::task::Poll::Ready(None);
                }
                polls -= 1;
                cx.waker().wake_by_ref();
                call.as_mut().poll(cx).map(|answer| Some(answer.unwrap()))
            })
            .await
        }));
    }
    let mut answered = 0;
    for task in tasks {
        answered += usize::from(task.await.unwrap().is_some_and(|it| it == 14));
    }
    assert!((1..400).contains(&answered), "{answered} were answered");
    assert_eq!(left.call::<Double>(&[1]).await.unwrap(), 2);
    settle().await;
    assert_eq!(left.open_calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_handler_may_call_back() {
    /// Knows its own end of the link.
    type Own = Arc<std::sync::OnceLock<Peer>>;
    let (left_writer, right_reader) = tokio::io::duplex(256);
    let (right_writer, left_reader) = tokio::io::duplex(256);
    let own = Own::default();
    let mut on = crate::Handlers::new(own.clone());
    on.on::<Wait, _, _>(|own, params| async move {
        own.get().unwrap().call::<Echo>(&params).await.map_err(|err| panic!("{err}"))
    });
    let right = crate::connect(right_reader, right_writer, on, small());
    own.set(right.clone()).unwrap();
    let left = crate::connect(left_reader, left_writer, super::handlers().0, small());
    let calls = (0..20).map(|n| {
        let left = left.clone();
        async move { assert_eq!(left.call::<Wait>(&json!(n)).await.unwrap(), n) }
    });
    soon("the round trips", futures_util::future::join_all(calls)).await;
    right.close().await;
}
