//! Delivering samples: each output has a bounded queue and a task, so that one that is slow or dead holds nothing else up.
//!
//! # Invariants
//! - Feeding never waits: what a full queue cannot hold is dropped, the oldest first, counted and told.
//! - A body that may arrive later is tried again with growing, jittered pauses; one that an output refuses for what is in
//!   it is counted, told and not sent again. A refused key, database or address is told once and keeps what waits.
//! - The end is bounded: [`Outputs::finish`] sends what it can within its time, and counts the rest as dropped.
//! - No message holds a secret, and none is repeated as long as it says the same.

mod file;
mod http;
mod queue;
mod shared;
mod task;
#[cfg(test)]
mod tests;
mod verdict;
mod way;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use outrider_protocol::collect::{Output, OutputReport};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::model::{Event, Sample};
use queue::Batch;
use shared::Shared;
use way::Way;

/// Bounds of delivering.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How long a connection may take.
    pub connect: Duration,
    /// How long an answer may take.
    pub answer: Duration,
    /// The first pause between two tries; it doubles each time.
    pub retry_first: Duration,
    /// The longest pause, which is also that of an output that refuses the key.
    pub retry_most: Duration,
}

/// What an output has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It takes nothing, and is tried again.
    Fails {
        /// Why.
        why: String,
        /// Whether a person has to do something: it refuses the key or the address.
        denied: bool,
    },
    /// It takes what it is sent, again.
    Works {
        /// Since when it had failed.
        since: Timestamp,
    },
    /// It refuses points for what they are; they are not sent again.
    Refused {
        /// How many, as far as it said.
        points: usize,
        /// Why.
        why: String,
    },
    /// Points were dropped: too many waited, or the end came.
    Dropped {
        /// How many since this was told last.
        points: usize,
    },
}

/// Where the news of outputs go: the output's name, and what it has to tell. Called from any thread; must not wait.
pub type Tell = Arc<dyn Fn(&str, News) + Send + Sync>;

/// Outputs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// An address is none.
    #[error(
        "set up an output: the address {found:?} is no URL ({why}); expected one as http://127.0.0.1:8086"
    )]
    Address {
        /// What was found.
        found: String,
        /// What is wrong with it.
        why: String,
    },
    /// The client itself: the system's certificates, or a proxy's address.
    #[error("set up the HTTP client (certificates, the proxies that the environment names)")]
    Client(#[source] reqwest::Error),
}

/// All outputs, with their tasks.
#[derive(Debug)]
pub struct Outputs {
    inlet: Inlet,
    tasks: JoinSet<()>,
}

/// Where samples go in. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Inlet(Arc<[Arc<Shared>]>);

impl Inlet {
    /// Gives what was measured in one round to every output. Never waits.
    pub fn push(&self, samples: Vec<Sample>) {
        let batch = Batch::new(samples);
        if batch.points > 0 {
            self.0.iter().for_each(|it| it.push(batch.clone()));
        }
    }

    /// Gives what one poll found to every output. Never waits.
    pub fn push_events(&self, events: Vec<Event>) {
        let batch = Batch::of_events(events);
        if batch.points > 0 {
            self.0.iter().for_each(|it| it.push(batch.clone()));
        }
    }

    /// How each output is.
    #[must_use]
    pub fn report(&self) -> Vec<OutputReport> {
        self.0.iter().map(|it| it.report()).collect()
    }
}

impl Outputs {
    /// Starts a task for each.
    ///
    /// # Errors
    /// When an address is none, or the HTTP client cannot be set up.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(outputs: &[Output], timing: Timing, tell: &Tell) -> Result<Self, SetupError> {
        // Whoever set one before us chose it for the whole process; there is nothing to do about it here.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = reqwest::Client::builder()
            .user_agent(concat!("outrider/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(timing.connect)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(SetupError::Client)?;
        let mut tasks = JoinSet::new();
        let mut all = Vec::new();
        for output in outputs {
            let way = Way::new(&output.to, &client)?;
            let shared = Arc::new(Shared::new(&output.name, output.queue_points, Arc::clone(tell)));
            tasks.spawn(task::deliver(way, Arc::clone(&shared), timing));
            all.push(shared);
        }
        Ok(Self { inlet: Inlet(all.into()), tasks })
    }

    /// Where samples go in.
    #[must_use]
    pub fn inlet(&self) -> Inlet {
        self.inlet.clone()
    }

    /// Waits until a task is gone, which is a bug: none ends before [`Outputs::finish`]. May be dropped.
    pub async fn broken(&mut self) {
        if self.tasks.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Sends what waits, as far as the outputs take it at once and within the time, and ends. Answers how they were.
    pub async fn finish(mut self, within: Duration) -> Vec<OutputReport> {
        self.inlet.0.iter().for_each(|it| it.close());
        let ended = timeout(within, async { while self.tasks.join_next().await.is_some() {} });
        // What is not over by then is ended, and counted as dropped.
        drop(ended.await);
        self.tasks.shutdown().await;
        self.inlet.0.iter().for_each(|it| it.give_up());
        self.inlet.report()
    }
}
