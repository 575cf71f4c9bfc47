//! Who is told what when something changes: streams of agents that wait for orders, and pages that are looked at.
//!
//! **Invariant:** the hub holds nothing that is not in the store (or the plots) too. Whoever is told reads the store again, so a lost
//! or merged notice costs nothing but time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use outrider_protocol::ids::{AgentId, CommandId};
use tokio::sync::{broadcast, watch};

/// Notices that wait for a slow viewer. Beyond it the viewer is told that it missed some, and reads everything again.
const WAITING_NOTICES: usize = 1024;
/// How long an agent counts as online after its last call. Three pings fit in.
const ONLINE_FOR: Duration = Duration::from_secs(90);
/// The least time between two writes of an agent's last call to the store.
const WRITE_SEEN_EVERY: Duration = Duration::from_secs(15);

/// What changed, for those who look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// The list of agents, or one agent's state.
    Agents,
    /// What one agent measured last.
    Measured(AgentId),
    /// A command, its progress, its log or its files.
    Command(CommandId),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Hub {
    orders: Mutex<HashMap<AgentId, watch::Sender<u64>>>,
    presence: Mutex<HashMap<AgentId, Presence>>,
    changes: broadcast::Sender<Change>,
}

#[derive(Debug, Default)]
struct Presence {
    streams: usize,
    seen: Option<Instant>,
    written: Option<Instant>,
    told_by_poll: HashMap<Order, Instant>,
}

/// An order as an agent knows it: whether it is a run (or a cancel), and of which command.
pub(crate) type Order = (bool, CommandId);

impl Hub {
    pub(crate) fn new() -> Self {
        let (changes, _) = broadcast::channel(WAITING_NOTICES);
        Self { orders: Mutex::default(), presence: Mutex::default(), changes }
    }

    /// Waits for orders of one agent.
    pub(crate) fn watch_orders(&self, agent: &AgentId) -> watch::Receiver<u64> {
        let mut orders = lock(&self.orders);
        orders.retain(|_, sender| sender.receiver_count() > 0);
        orders.entry(agent.clone()).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    /// Wakes the streams of one agent.
    pub(crate) fn orders_changed(&self, agent: &AgentId) {
        if let Some(sender) = lock(&self.orders).get(agent) {
            sender.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// Waits for anything that a viewer may want to see.
    pub(crate) fn watch_changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Tells the viewers.
    pub(crate) fn changed(&self, change: Change) {
        // An error only says that nobody looks.
        drop(self.changes.send(change));
    }

    /// An agent called. Answers whether that should be written to the store now.
    pub(crate) fn seen(&self, agent: &AgentId) -> bool {
        let now = Instant::now();
        let (came, write) = {
            let mut all = lock(&self.presence);
            let presence = all.entry(agent.clone()).or_default();
            let came = !presence.is_online(now);
            presence.seen = Some(now);
            let write = presence.written.is_none_or(|at| now.duration_since(at) >= WRITE_SEEN_EVERY);
            if write {
                presence.written = Some(now);
            }
            (came, write)
        };
        if came {
            self.changed(Change::Agents);
        }
        write
    }

    /// Notes that a poll is about to be answered with these orders. Answers whether there is one among them that was
    /// not told within the last `repeat_after`.
    pub(crate) fn tell_by_poll(&self, agent: &AgentId, orders: Vec<Order>, repeat_after: Duration) -> bool {
        let now = Instant::now();
        let mut all = lock(&self.presence);
        let before = std::mem::take(&mut all.entry(agent.clone()).or_default().told_by_poll);
        let is_old =
            |order: &Order| before.get(order).is_some_and(|at| now.duration_since(*at) < repeat_after);
        let fresh = orders.iter().any(|order| !is_old(order));
        let told = orders.into_iter().map(|order| {
            let at = if fresh { now } else { before.get(&order).copied().unwrap_or(now) };
            (order, at)
        });
        all.entry(agent.clone()).or_default().told_by_poll = told.collect();
        fresh
    }

    /// Counts an open stream of an agent until the answer is dropped.
    pub(crate) fn stream_opened(self: &std::sync::Arc<Self>, agent: &AgentId) -> OpenStream {
        lock(&self.presence).entry(agent.clone()).or_default().streams += 1;
        self.changed(Change::Agents);
        OpenStream { hub: std::sync::Arc::clone(self), agent: agent.clone() }
    }

    /// Whether an agent can be reached now, as far as one can know.
    pub(crate) fn is_online(&self, agent: &AgentId) -> bool {
        lock(&self.presence).get(agent).is_some_and(|presence| presence.is_online(Instant::now()))
    }
}

impl Presence {
    fn is_online(&self, now: Instant) -> bool {
        self.streams > 0 || self.seen.is_some_and(|at| now.duration_since(at) < ONLINE_FOR)
    }
}

/// An agent's open stream of orders.
#[derive(Debug)]
pub(crate) struct OpenStream {
    hub: std::sync::Arc<Hub>,
    agent: AgentId,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        if let Some(presence) = lock(&self.hub.presence).get_mut(&self.agent) {
            presence.streams = presence.streams.saturating_sub(1);
            if presence.streams == 0 {
                // A closed stream is a better sign than a call some seconds ago: an agent that only lost the stream
                // calls again at once.
                presence.seen = None;
            }
        }
        self.hub.changed(Change::Agents);
    }
}

/// The maps stay whole even if a thread panicked while it held the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn an_agent_is_online_while_its_stream_is_open() {
        let hub = Arc::new(Hub::new());
        let agent = AgentId::new("a1").unwrap();
        let mut changes = hub.watch_changes();
        let stream = hub.stream_opened(&agent);
        assert!(hub.is_online(&agent));
        drop(stream);
        assert!(!hub.is_online(&agent));
        assert_eq!(changes.try_recv(), Ok(Change::Agents));
    }

    #[test]
    fn only_the_agent_that_has_orders_is_woken() {
        let hub = Hub::new();
        let (one, two) = (AgentId::new("one").unwrap(), AgentId::new("two").unwrap());
        let (first, second) = (hub.watch_orders(&one), hub.watch_orders(&two));
        hub.orders_changed(&one);
        assert!(first.has_changed().unwrap());
        assert!(!second.has_changed().unwrap());
    }
}
