//! Tests of the whole backend: a real one on a free port, real HTTP, a hand-made agent.

mod admin;
mod agents;
mod commands;
pub(crate) mod harness;
mod streams;
mod uploads;
