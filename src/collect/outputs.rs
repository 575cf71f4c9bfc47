//! Delivering samples: each output has a bounded queue and a task, so that one that is slow or dead holds nothing else up.
//! The queue is in memory, a cursor of a [`Backlog`] on the disk, or a consumer of a [`Jetstream`].
//!
//! # Invariants
//! - Feeding never waits: what a full queue cannot hold is dropped, the oldest first, counted and told.
//! - A body that may arrive later is tried again with growing, jittered pauses; one that an output refuses for what is in
//!   it is counted, told and not sent again. A refused key, database or address is told once and keeps what waits.
//! - The end is bounded: [`Outputs::finish`] sends what it can within its time, and counts the rest as dropped.
//! - What waits on the disk or in a stream outlives the process: it is neither dropped nor counted at the end.
//! - No message holds a secret, and none is repeated as long as it says the same.

mod file;
mod http;
mod link;
mod login;
mod otlp_grpc;
mod pull;
mod queue;
mod set_up;
mod shared;
mod supply;
mod task;
#[cfg(test)]
mod tests;
mod verdict;
mod way;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use outrider_protocol::aggregator;
use outrider_protocol::collect::{Output, OutputReport, To};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::backlog::{Backlog, BacklogError};
use crate::jetstream::Jetstream;
use crate::model::{Event, Sample};
use crate::plain::word;
use crate::reach::Gate;
use crate::store::Store;
use pull::Pull;
use queue::Batch;
use set_up::{Clients, telling, telling_batches};
use shared::Shared;
pub use supply::Batching;
use supply::{Cursor, Supply};
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
    /// Batches were dropped in a stream, where nobody knows their points.
    DroppedBatches {
        /// How many since this was told last.
        batches: usize,
    },
    /// The file of what waited was damaged; it is set aside, and an empty one begun.
    SetAside {
        /// Where it is now.
        to: PathBuf,
        /// What was wrong with it.
        why: String,
    },
    /// Batches on the disk were not what was written; they are left out.
    Damaged {
        /// How many.
        batches: u64,
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
    /// The authorities of an output.
    #[error("set up the output {name:?}: read the certificates of `ca_file` in {}: {why}", path.display())]
    Authority {
        /// Which output.
        name: String,
        /// Their file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The client itself: the system's certificates, or a proxy's address.
    #[error("set up the HTTP client (certificates, the proxies that the environment names)")]
    Client(#[source] reqwest::Error),
    /// What waits on the disk.
    #[error("set up the output {name:?}")]
    Backlog {
        /// Which output.
        name: String,
        /// Why not.
        #[source]
        err: BacklogError,
    },
}

/// All outputs, with their tasks.
#[derive(Debug)]
pub struct Outputs {
    inlet: Inlet,
    tasks: JoinSet<()>,
}

/// Where samples go in. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Inlet(Arc<[Sink]>);

/// One output, from outside.
#[derive(Debug)]
struct Sink {
    shared: Arc<Shared>,
    waits: Waits,
}

/// Where what waits for an output is.
#[derive(Debug)]
enum Waits {
    InMemory,
    /// In a backlog, behind the cursor of the output's name.
    OnDisk(Backlog),
    /// In a stream, behind the consumer of the output's name.
    InStream,
}

impl Sink {
    fn push(&self, batch: &Batch) {
        let backlog = match &self.waits {
            Waits::InMemory => return self.shared.push(batch.clone()),
            Waits::OnDisk(backlog) => backlog,
            // Putting something in takes an answer, for which whoever measures does not wait.
            Waits::InStream => return self.shared.count_dropped(batch.points),
        };
        for entry in supply::entries(&batch.items) {
            let points = entry.points as usize;
            if let Err(err) = backlog.offer(entry) {
                self.shared.fails(err.to_string(), false);
                self.shared.count_dropped(points);
            }
        }
    }

    fn report(&self) -> OutputReport {
        let report = self.shared.report();
        let Waits::OnDisk(backlog) = &self.waits else { return report };
        let fill = backlog.fill();
        let waiting = fill.borrow().cursors.get(&report.name).map_or(0, |it| it.waiting);
        OutputReport { waiting, ..report }
    }
}

impl Inlet {
    /// Gives what was measured in one round to every output. Never waits.
    pub fn push(&self, samples: Vec<Sample>) {
        let batch = Batch::new(samples);
        if batch.points > 0 {
            self.0.iter().for_each(|it| it.push(&batch));
        }
    }

    /// Gives what one poll found to every output, and waits until it is on the disk where an output's queue is there. A disk
    /// that refuses it costs that output alone.
    ///
    /// # Errors
    /// Which output's queue did not keep it, and why: told by that output, and counted as dropped there. All others have it.
    pub async fn keep_events(&self, events: Vec<Event>) -> Result<(), String> {
        let batch = Batch::of_events(events);
        if batch.points == 0 {
            return Ok(());
        }
        let keep = self.0.iter().map(|sink| async {
            let Waits::OnDisk(backlog) = &sink.waits else {
                sink.shared.push(batch.clone());
                return Ok(());
            };
            let mut kept = Ok(());
            for entry in supply::entries(&batch.items) {
                let points = entry.points as usize;
                if let Err(err) = backlog.append(entry).await {
                    sink.shared.fails(err.to_string(), false);
                    sink.shared.count_dropped(points);
                    kept = Err(format!("keep events for the output {:?}: {err}", sink.shared.name()));
                }
            }
            kept
        });
        futures_util::future::join_all(keep).await.into_iter().collect()
    }

    /// How each output is.
    #[must_use]
    pub fn report(&self) -> Vec<OutputReport> {
        self.0.iter().map(Sink::report).collect()
    }
}

/// The store that all outputs draw from, each by a place of its own.
#[derive(Debug)]
pub struct Behind<'a> {
    /// Which.
    pub queue: &'a aggregator::Queue,
    /// How large it may be.
    pub most_bytes: u64,
    /// How much goes to an output at once.
    pub batching: Batching,
    /// What is put before the names of mini-collector's fields.
    pub prefix: &'a str,
}

/// A batch of the collector's own backlog goes as it is: its place there is its sequence.
const ONE: Batching = Batching { points: 1, bytes: 1, wait: Duration::ZERO };
/// What any other output finds there goes at once, together where more than one batch waits.
const JOINED: Batching = Batching { points: 10_000, bytes: 1 << 20, wait: Duration::ZERO };

/// Removes what waits in a folder for outputs that are none of these.
///
/// # Errors
/// When something cannot be looked at or removed.
pub fn sweep(outputs: &[Output], state: &Path) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(state) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let is_named = outputs.iter().any(|it| *entry.file_name() == *word(&it.name));
        if entry.file_type()?.is_dir() && !is_named {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

impl Outputs {
    /// Starts a task for each. What waits for one on the disk is in a folder of its own below `state`.
    ///
    /// # Errors
    /// When an address is none, or the HTTP client or a backlog cannot be set up.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(outputs: &[Output], state: &Path, timing: Timing, tell: &Tell) -> Result<Self, SetupError> {
        let (mut tasks, mut all, mut clients) = (JoinSet::new(), Vec::new(), Clients::new(timing));
        for output in outputs {
            let way = Way::new(output, &mut clients)?;
            let shared = Arc::new(Shared::new(&output.name, output.queue_points, Arc::clone(tell)));
            let (supply, waits) = if let Some(queue_bytes) = output.queue_bytes {
                let told = telling(vec![Arc::clone(&shared)], tell);
                let names = [output.name.clone()];
                let opened = Backlog::open(&state.join(word(&output.name)), queue_bytes, &names, told);
                let name = output.name.clone();
                let backlog = opened.map_err(|err| SetupError::Backlog { name: name.clone(), err })?;
                let batching = if matches!(output.to, To::Aggregator { .. }) { ONE } else { JOINED };
                (Supply::Disk(Cursor::new(backlog.clone(), name, batching)), Waits::OnDisk(backlog))
            } else {
                (Supply::Memory, Waits::InMemory)
            };
            tasks.spawn(task::deliver((way, Gate::of(output)), supply, Arc::clone(&shared), timing));
            all.push(Sink { shared, waits });
        }
        Ok(Self { inlet: Inlet(all.into()), tasks })
    }

    /// Starts a task for each, which all take from one store.
    ///
    /// # Errors
    /// When an address is none, or the HTTP client or the backlog cannot be set up.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn behind(
        outputs: &[Output],
        behind: &Behind<'_>,
        timing: Timing,
        tell: &Tell,
    ) -> Result<(Self, Store), SetupError> {
        let (mut tasks, mut all, mut clients) = (JoinSet::new(), Vec::new(), Clients::new(timing));
        let names: Vec<_> = outputs.iter().map(|it| it.name.clone()).collect();
        let shared = |it: &Output| Arc::new(Shared::new(&it.name, it.queue_points, Arc::clone(tell)));
        let shared: Vec<_> = outputs.iter().map(shared).collect();
        let store = match behind.queue {
            aggregator::Queue::Embedded(folder) => {
                let opened = Backlog::open(folder, behind.most_bytes, &names, telling(shared.clone(), tell));
                Store::Disk(opened.map_err(|err| SetupError::Backlog { name: names.join(", "), err })?)
            }
            aggregator::Queue::Jetstream(settings) => {
                let times = (timing.connect, timing.answer);
                let told = telling_batches(shared.clone());
                Store::Stream(Jetstream::open(settings, &names, behind.most_bytes, times, told))
            }
        };
        for (output, shared) in outputs.iter().zip(shared) {
            let way = Way::new(output, &mut clients)?;
            let (supply, waits) = match &store {
                Store::Disk(backlog) => {
                    let cursor = Cursor::new(backlog.clone(), output.name.clone(), behind.batching);
                    (Supply::Disk(cursor.with_prefix(behind.prefix)), Waits::OnDisk(backlog.clone()))
                }
                Store::Stream(jetstream) => {
                    let pull = Pull::new(jetstream, &output.name, behind.batching, behind.prefix);
                    (Supply::Stream(Box::new(pull)), Waits::InStream)
                }
            };
            tasks.spawn(task::deliver((way, Gate::of(output)), supply, Arc::clone(&shared), timing));
            all.push(Sink { shared, waits });
        }
        Ok((Self { inlet: Inlet(all.into()), tasks }, store))
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
        let written = timeout(within, async {
            for sink in &*self.inlet.0 {
                if let Waits::OnDisk(backlog) = &sink.waits {
                    // It is served after all that was offered before. An error was told when it began.
                    drop(backlog.advance(sink.shared.name(), 0).await);
                }
            }
        });
        drop(written.await);
        self.inlet.0.iter().for_each(|it| it.shared.close());
        let ended = timeout(within, async { while self.tasks.join_next().await.is_some() {} });
        // What is not over by then is ended; what was in memory is counted as dropped.
        drop(ended.await);
        self.tasks.shutdown().await;
        self.inlet.0.iter().for_each(|it| it.shared.give_up());
        self.inlet.report()
    }
}
