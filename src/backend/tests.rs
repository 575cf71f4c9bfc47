//! Tests of the whole backend: a real one on a free port, real HTTP, a hand-made agent.

mod admin;
mod agents;
mod collecting;
mod commands;
mod counts;
mod crashes;
pub(crate) mod harness;
mod integrations;
mod measured;
mod mirror;
mod oauth;
mod streams;
mod upgrades;
mod uploads;
