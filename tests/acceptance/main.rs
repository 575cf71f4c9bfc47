//! The acceptance tests: what the built programs do together, and what holds for the tree as a whole.

#![allow(clippy::disallowed_methods, reason = "tests start the built programs, as a person would")]
#![allow(clippy::unwrap_used, reason = "a test that panics says where")]

mod architecture;
mod asking;
mod bad_days;
mod bad_input;
mod browser;
#[cfg(target_os = "linux")]
mod collect;
mod data;
mod death;
mod demo;
mod disk;
mod export_route;
mod exported;
#[cfg(target_os = "linux")]
mod failing_calls;
mod faults;
mod last_words;
mod lifelines;
mod lives;
mod misuse;
mod played;
mod predecessor;
mod random;
mod redaction;
mod remote;
mod schemas;
mod sealing;
mod source;
mod support;
mod traffic;
mod troubles;
mod unchanged;
#[cfg(target_os = "linux")]
mod upgrade;
mod uplink;
