//! What cgroups say, or processes where there are none, turned into points of metrics, and these into what outputs take.
//! It is a library so far: no program starts it yet.
//!
//! # Invariants
//! - Parsers ([`parse`]) are pure functions of texts; readers are thin; what happens next is decided by pure functions of
//!   (what was, what is, how long between).
//! - A file that is missing or broken costs its own metrics and nothing else, and is told once.
//! - Nothing here knows a network, a command or another process of ours.

mod descriptors;
mod reading;
mod surroundings;

pub mod catalogue;
pub mod collector;
pub mod detect;
pub mod discover;
pub mod encode;
pub mod files;
pub mod identify;
pub mod labels;
pub mod model;
pub mod original;
pub mod parse;
pub mod points;
pub mod processes;
pub mod rates;
pub mod sampler;
pub mod settings;

pub use collector::{Collector, Event, Trouble};
pub use descriptors::Budget;
