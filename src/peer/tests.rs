//! A link's every defined outcome, against lines written by hand; ends of ours against each other.

mod calls;
mod endings;
mod lines;
mod load;
mod too_long;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use outrider_protocol::fault::RpcError;
use outrider_protocol::{Call, Notice};
use outrider_testkit::{RawEnd, raw_link};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::{Handlers, Limits, Peer, connect};

/// Answered with its own parameters.
enum Echo {}
/// Answered when the test lets it.
enum Wait {}
/// Its handler panics.
enum Burst {}
/// Noted.
enum Note {}
/// Wants a number, answers a number.
enum Double {}

impl Call for Echo {
    const NAME: &'static str = "echo";
    type Params = Value;
    type Reply = Value;
}

impl Call for Wait {
    const NAME: &'static str = "wait";
    type Params = Value;
    type Reply = Value;
}

impl Call for Burst {
    const NAME: &'static str = "burst";
    type Params = Value;
    type Reply = Value;
}

impl Call for Double {
    const NAME: &'static str = "double";
    type Params = [u32; 1];
    type Reply = u32;
}

impl Notice for Note {
    const NAME: &'static str = "note";
    type Params = Value;
}

/// What the handlers of a tested end did.
struct Seen {
    /// Begun handlers, in order.
    begun: Mutex<Vec<Value>>,
    /// Notifications, in order, when they were done.
    noted: Mutex<Vec<Value>>,
    /// Lets `wait` and notifications of `"slow"` go on.
    gate: Semaphore,
}

impl Seen {
    fn begun(&self) -> Vec<Value> {
        self.begun.lock().unwrap().clone()
    }

    fn noted(&self) -> Vec<Value> {
        self.noted.lock().unwrap().clone()
    }
}

/// The tested end and the test's.
struct Link {
    peer: Peer,
    raw: RawEnd,
    seen: Arc<Seen>,
}

fn handlers() -> (Handlers<Arc<Seen>>, Arc<Seen>) {
    let seen = Arc::new(Seen { begun: Mutex::default(), noted: Mutex::default(), gate: Semaphore::new(0) });
    let mut on = Handlers::new(seen.clone());
    on.on::<Echo, _, _>(|seen, params| async move {
        seen.begun.lock().unwrap().push(params.clone());
        Ok(params)
    });
    on.on::<Wait, _, _>(|seen, params| async move {
        seen.begun.lock().unwrap().push(params.clone());
        seen.gate.acquire().await.unwrap().forget();
        Ok(params)
    });
    on.on::<Burst, _, _>(|_, params| async move { panic!("burst by {params}") });
    on.on::<Double, _, _>(|_, [number]| async move {
        number.checked_mul(2).ok_or_else(|| RpcError::new(-32050, "too large").hint("take a smaller one"))
    });
    on.on_notice::<Note, _, _>(|seen, params| async move {
        if params == "slow" {
            seen.gate.acquire().await.unwrap().forget();
        }
        assert_ne!(params, "burst");
        seen.noted.lock().unwrap().push(params);
    });
    (on, seen)
}

fn link_with(limits: Limits, room: usize) -> Link {
    let (raw, reader, writer) = raw_link(room);
    let (handlers, seen) = handlers();
    Link { peer: connect(reader, writer, handlers, limits), raw, seen }
}

fn link() -> Link {
    link_with(small(), 4096)
}

/// Limits that a test reaches.
fn small() -> Limits {
    Limits {
        line_bytes: 4096,
        outgoing_lines: 4,
        concurrent_requests: 4,
        request_timeout: Duration::from_secs(5),
    }
}

/// Two ends of ours, with so much room between them.
fn pair(limits: Limits, room: usize) -> (Peer, Peer) {
    let (left_writer, right_reader) = tokio::io::duplex(room);
    let (right_writer, left_reader) = tokio::io::duplex(room);
    let left = connect(left_reader, left_writer, handlers().0, limits);
    (left, connect(right_reader, right_writer, handlers().0, limits))
}

/// Waits until nothing moves any more. The test's clock stands still while anything can run.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}
