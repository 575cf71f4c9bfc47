//! The launcher and a whole upgrade as real processes on a real disk.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by a panic and prints how much it did"
)]
#![allow(clippy::disallowed_methods, reason = "tests start the built program, as the system would")]

#[path = "../probe/agent.rs"]
mod agent;
mod launcher;
mod sweep;
