//! What cgroups say, or processes where there are none, turned into points of metrics; what HTTP APIs say, turned into
//! events; and both delivered to outputs.
//!
//! ```text
//!                            ┌─> queue ─> task ─> encode ─> a file, stdout
//!  sampling: a thread ───────┼─> queue ─> task ─> encode ─> UDP
//!  (sampler, collector)      │
//!  poller: tasks ────────────┴─> queue ─> task ─> encode ─> HTTP
//! ```
//!
//! # Invariants
//! - Parsers ([`parse`]) are pure functions of texts; readers are thin; what happens next is decided by pure functions of
//!   (what was, what is, how long between).
//! - A file that is missing or broken costs its own metrics and nothing else, and is told once.
//! - Only [`outputs`], [`poller`] and [`jetstream`] know a network, or files that are written; nothing here knows a command or another process of ours.
//! - Measuring waits for no output, and no output waits for another: each has a bounded queue and a task of its own.

mod descriptors;
mod plain;
mod reach;
mod reading;
mod retry_after;
mod secret;
mod surroundings;

pub mod backlog;
pub mod catalogue;
pub mod collector;
pub mod detect;
pub mod discover;
pub mod encode;
pub mod files;
pub mod identify;
pub mod jetstream;
pub mod labels;
pub mod latest;
pub mod model;
pub mod original;
pub mod outputs;
pub mod parse;
pub mod points;
pub mod poller;
pub mod processes;
pub mod rates;
pub mod sampler;
pub mod sampling;
pub mod settings;
pub mod store;
pub mod wire;

pub use collector::{Collector, Event, Trouble};
pub use descriptors::Budget;
