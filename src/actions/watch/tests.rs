//! The verdicts as a table, and the whole watcher against a played service.

mod host;
mod verdicts;
mod whole;
