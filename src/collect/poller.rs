//! Polling HTTP APIs: what their answers say, as events.
//!
//! ```text
//!  plan: a unit for each API of each system, VDC or node
//!    │        ┌──────────── a task for each ────────────┐
//!    └─> poll: windows ─> ids ─> pages ─> ask ─> mapping ─> events ─> the outputs
//!              (cursors)                   │ (split, jq, history, numbers, flatten)
//!                          node, session, http: who is asked, how it is logged into, one request
//! ```
//!
//! # Invariants
//! - Polls of a unit never overlap: what is due while one is under way is left out and counted. Units begin at moments
//!   that chance spreads over their interval.
//! - One unit, node or API that fails ends nothing else. Its trouble is told when it begins, changes and ends.
//! - Everything that comes from outside is bounded: answers, pages, events, the time of each request.
//! - Events are given away, and are on the disk where an output's queue is there, before a window's end is kept: a death
//!   between the two brings them twice, never not at all.

mod ask;
pub mod cursors;
pub mod dtinfo;
mod facts;
mod http;
pub mod jq;
pub mod mapping;
mod node;
pub mod pages;
pub mod place;
mod plan;
mod poll;
mod session;
pub mod shape;
mod telling;
pub mod window;
mod worker;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use outrider_protocol::collect::ApisReport;
use outrider_protocol::collect::apis::ApiGroup;
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use ask::{About, PollError};
use cursors::Cursors;
use plan::Plan;
pub use poll::Polled;
use worker::Worker;

use crate::model::Event;
use crate::outputs::Inlet;

/// How long a check waits for a node that asks to be left alone.
const CHECK_PATIENCE: Duration = Duration::from_secs(5);

/// Polling cannot begin.
#[derive(Debug, thiserror::Error)]
#[error("poll the APIs of {group:?}: {what}")]
pub struct StartError {
    /// Which group.
    pub group: String,
    /// What is wrong.
    pub what: String,
}

/// What polling has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PollNews {
    /// A poll failed, and the one before it did not, or otherwise.
    Fails {
        /// What is polled.
        what: String,
        /// Why it failed.
        error: PollError,
        /// When it is polled again.
        again: Again,
    },
    /// It brings events again.
    Works {
        /// What is polled.
        what: String,
    },
    /// A node refuses the login. None of its APIs is polled until it takes it.
    LoginRefused {
        /// Which node.
        what: String,
        /// What it said.
        error: PollError,
    },
    /// It takes the login again.
    LoginTaken {
        /// Which node.
        what: String,
    },
    /// A poll had more events than its bound, and the one before it did not.
    Beyond {
        /// What is polled.
        what: String,
        /// How many were left out.
        events: u64,
    },
    /// Where windows ended is not known.
    Cursors(String),
    /// The end of the last window was ahead of the clock, which was wrong then or is now; windows began anew.
    Ahead {
        /// What is polled.
        what: String,
        /// By how many seconds.
        seconds: i64,
    },
}

/// When something that failed is polled again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// At its interval.
    AtInterval,
    /// Some time after its program has ended, if that ever ends.
    AfterProgram,
}

/// Where events go.
#[derive(Clone)]
pub enum Sink {
    /// To these outputs.
    Outputs(Inlet),
    /// To whoever looks at them, and nowhere else. Called from any thread; must not wait.
    Look(Arc<dyn Fn(Vec<Event>) + Send + Sync>),
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outputs(_) => "Outputs",
            Self::Look(_) => "Look",
        })
    }
}

impl Sink {
    /// Gives events away; when this answers well, they are where a death does not reach them, as far as there is such a
    /// place.
    async fn give(&self, events: Vec<Event>) -> Result<(), String> {
        match self {
            Self::Outputs(inlet) => inlet.keep_events(events).await,
            Self::Look(look) => {
                look(events);
                Ok(())
            }
        }
    }
}
/// Where news go. Called from any thread; must not wait.
pub type TellPolls = Arc<dyn Fn(PollNews) + Send + Sync>;

/// All units, with their tasks.
#[derive(Debug)]
pub struct Poller {
    tasks: JoinSet<()>,
    plan: Vec<(http::Http, Arc<node::NodeState>)>,
    report: Arc<Mutex<ApisReport>>,
}

impl Poller {
    /// Starts a task for each unit. Where windows of time ended is kept in `cursors`, if anywhere.
    ///
    /// # Errors
    /// When a program, a file of TLS or an address cannot be used.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(
        groups: &[ApiGroup],
        tags: &[(String, String)],
        cursors: Option<PathBuf>,
        sink: &Sink,
        tell: &TellPolls,
    ) -> Result<Self, StartError> {
        Ok(Self::of(plan(groups, tags, None)?, cursors, sink, tell))
    }

    fn of(plan: Plan, cursors: Option<PathBuf>, sink: &Sink, tell: &TellPolls) -> Self {
        let (cursors, trouble) = cursors.map_or_else(|| (Cursors::nowhere(), None), Cursors::open);
        if let Some(trouble) = trouble {
            tell(PollNews::Cursors(trouble));
        }
        let cursors = Arc::new(cursors);
        let report = ApisReport { polled: plan.units.len() as u64, ..ApisReport::default() };
        let report = Arc::new(Mutex::new(report));
        let mut tasks = JoinSet::new();
        for unit in plan.units {
            let worker = Worker::new(unit, &cursors, sink, tell, &report);
            tasks.spawn(worker.run());
        }
        Self { tasks, plan: plan.nodes, report }
    }

    /// How it goes.
    #[must_use]
    pub fn report(&self) -> ApisReport {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until a task is gone, which is a bug: none ends before [`Poller::finish`]. May be dropped.
    pub async fn broken(&mut self) {
        if self.tasks.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Ends: polls that are under way are given up, and tokens are given back within the time.
    pub async fn finish(&mut self, within: Duration) {
        self.tasks.shutdown().await;
        let mut closing = JoinSet::new();
        for (http, node) in self.plan.drain(..) {
            closing.spawn(async move { node.session.close(&http, &node.url).await });
        }
        // A token that is not given back ends by itself.
        drop(timeout(within, async { while closing.join_next().await.is_some() {} }).await);
    }
}

/// Polls every unit once, one after another, and keeps nothing. `each` is told what was polled and how that went. Somebody
/// waits for it: a node that asks to be left alone for long is told, not waited for.
///
/// # Errors
/// When a program, a file of TLS or an address cannot be used.
pub async fn check(
    groups: &[ApiGroup],
    tags: &[(String, String)],
    sink: &Sink,
    mut each: impl FnMut(&str, Result<Polled, PollError>),
) -> Result<(), StartError> {
    let plan = plan(groups, tags, Some(CHECK_PATIENCE))?;
    let cursors = Arc::new(Cursors::nowhere());
    for unit in &plan.units {
        let polled = unit.poll(&cursors, sink).await;
        each(&unit.key, polled.map_err(|it| it.0));
    }
    for facts in &plan.facts {
        facts.asked().await;
        if let Some(error) = facts.failing() {
            each(&facts.key, Err(error));
        }
    }
    for (http, node) in &plan.nodes {
        node.session.close(http, &node.url).await;
    }
    Ok(())
}

/// What is polled of whom, in all groups.
///
/// # Errors
/// When a program, a file of TLS or an address cannot be used.
fn plan(
    groups: &[ApiGroup],
    tags: &[(String, String)],
    patience: Option<Duration>,
) -> Result<Plan, StartError> {
    // Whoever set one before us chose it for the whole process; there is nothing to do about it here.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut plan = Plan { patience, ..Plan::default() };
    for group in groups {
        plan.add(group, tags)?;
    }
    Ok(plan)
}
