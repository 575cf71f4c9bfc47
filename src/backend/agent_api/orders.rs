//! The backend's orders on their way to an agent: `GET /agent/v1/orders` as server-sent events, and `orders.poll`.

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use jiff::Timestamp;
use outrider_protocol::control::{Envelope, ORDER_EVENT, PollParams, PollReply, STREAM_QUIET_S};
use outrider_protocol::fault::{RpcError, chain};
use outrider_protocol::ids::AgentId;
use tokio::sync::watch;

use super::CallingAgent;
use super::calls::storage;
use crate::app::{App, Shared};
use crate::hub::{OpenStream, Order};

/// A sign of life comes well before the agent gives the stream up.
const ALIVE_EVERY: Duration = Duration::from_secs(STREAM_QUIET_S * 2 / 3);
/// The longest time a poll may wait, whatever it asks for: proxies cut longer ones.
const LONGEST_POLL: Duration = Duration::from_secs(60);
/// A poll is not answered at once with what the last one was told already: an agent that is still busy with a cancel
/// would poll without a pause.
const REPEAT_AFTER: Duration = Duration::from_secs(5);

fn told(order: &Envelope) -> Order {
    match order {
        Envelope::Run(command) => (true, command.id.clone()),
        Envelope::Cancel { command, .. } => (false, command.clone()),
    }
}

pub(super) async fn stream(State(app): State<Shared>, CallingAgent(agent): CallingAgent) -> Response {
    let alive = KeepAlive::new().interval(ALIVE_EVERY).text("alive");
    let headers = [("cache-control", "no-store"), ("x-accel-buffering", "no")];
    (headers, Sse::new(orders(app, agent)).keep_alive(alive)).into_response()
}

struct OrderStream {
    wake: watch::Receiver<u64>,
    told: HashSet<Order>,
    waiting: VecDeque<Envelope>,
    step: Step,
    _open: OpenStream,
    app: Shared,
    agent: AgentId,
}

/// What an order stream does next.
enum Step {
    Greet,
    Read,
    Wait,
}

/// Every order that waits, and then each as it comes, until the backend stops or the agent is revoked.
fn orders(app: Shared, agent: AgentId) -> impl Stream<Item = Result<Event, Infallible>> {
    let state = OrderStream {
        wake: app.hub.watch_orders(&agent),
        told: HashSet::new(),
        waiting: VecDeque::new(),
        step: Step::Greet,
        _open: app.hub.stream_opened(&agent),
        app,
        agent,
    };
    futures_util::stream::unfold(state, async |mut stream| {
        let event = stream.next().await?;
        Some((Ok(event), stream))
    })
}

impl OrderStream {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(order) = self.waiting.pop_front() {
                match Event::default().event(ORDER_EVENT).json_data(&order) {
                    Ok(event) => return Some(event),
                    Err(err) => tracing::error!(agent = %self.agent, %err, "An order cannot be written."),
                }
                continue;
            }
            match self.step {
                // Something is on the way at once, so that a proxy that holds streams back is found out.
                Step::Greet => {
                    self.step = Step::Read;
                    return Some(Event::default().comment("orders"));
                }
                Step::Read => {
                    self.read().await?;
                    self.step = Step::Wait;
                }
                Step::Wait => {
                    let stopping = self.app.stopping.clone();
                    tokio::select! {
                        woken = self.wake.changed() => woken.ok()?,
                        () = stopping.cancelled() => return None,
                    }
                    self.step = Step::Read;
                }
            }
        }
    }

    /// Reads the orders that were not told on this stream. `None` ends the stream; the agent comes back.
    async fn read(&mut self) -> Option<()> {
        let agents = self.app.store.agents(Some(&self.agent)).await;
        let orders = self.app.store.open_orders(&self.agent, Timestamp::now(), usize::MAX).await;
        let (agents, orders) = match (agents, orders) {
            (Ok(agents), Ok(orders)) => (agents, orders),
            (Err(err), _) | (_, Err(err)) => {
                tracing::error!(agent = %self.agent, error = chain(&err), "Orders cannot be read.");
                return None;
            }
        };
        if agents.iter().any(|agent| agent.revoked_at.is_some()) {
            return None;
        }
        // Those that are no longer open need not be remembered.
        let open: HashSet<Order> = orders.iter().map(told).collect();
        self.told.retain(|order| open.contains(order));
        self.waiting.extend(orders.into_iter().filter(|order| self.told.insert(told(order))));
        Some(())
    }
}

/// Answers what waits; at once if there is something new.
pub(super) async fn poll(app: &App, agent: &AgentId, params: PollParams) -> Result<PollReply, RpcError> {
    let mut wake = app.hub.watch_orders(agent);
    let orders = open(app, agent).await?;
    let fresh = app.hub.tell_by_poll(agent, orders.iter().map(told).collect(), REPEAT_AFTER);
    let wait = Duration::from_millis(params.wait_ms).min(LONGEST_POLL);
    if fresh || wait.is_zero() {
        return Ok(PollReply { orders });
    }
    let wait = if orders.is_empty() { wait } else { wait.min(REPEAT_AFTER) };
    tokio::select! {
        _ = tokio::time::timeout(wait, wake.changed()) => {}
        () = app.stopping.cancelled() => {}
    }
    let orders = open(app, agent).await?;
    app.hub.tell_by_poll(agent, orders.iter().map(told).collect(), REPEAT_AFTER);
    Ok(PollReply { orders })
}

/// As many orders as make an answer that an agent can take. The rest is told when it has accepted these.
async fn open(app: &App, agent: &AgentId) -> Result<Vec<Envelope>, RpcError> {
    app.store.open_orders(agent, Timestamp::now(), app.limits.order_bytes).await.map_err(|err| storage(&err))
}
