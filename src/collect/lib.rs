//! What the host, its containers and its management APIs say, turned into points of metrics.
//!
//! # Invariants
//! - Parsers ([`parse`]) are pure functions of texts; readers are thin; what happens next is decided by pure functions of
//!   (what was, what is, how long between).
//! - A file that is missing or broken costs its own metrics and nothing else, and is told once.
//! - Nothing here knows a network, a command or another process of ours.

pub mod catalogue;
pub mod model;
pub mod parse;
