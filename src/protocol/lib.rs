//! Every type that crosses a process or network boundary of Outrider, and the names of the calls that carry them.
//!
//! | module | link | between |
//! | --- | --- | --- |
//! | [`control`] | A control | backend and service: JSON-RPC by POST, orders by server-sent events or long poll |
//! | [`bulk`] | A bulk | the same: enrollment and uploads by plain HTTP |
//! | [`action`] | B | service and action, on the action's stdin and stdout |
//! | [`collect`] | B | service and the action that measures; and what config.json or the backend says of that |
//! | [`integration`] | C | action and integration, on the integration's stdin and stdout |
//! | [`local`] | – | people's commands and the watcher, and the service: a socket in the root |
//!
//! [`crash`] says how a process died. [`exit`] holds the exit statuses that all programs share, [`fault`] the errors they tell each other, [`ids`] the
//! names that may become parts of paths, [`upgrade`] what an upgrade says, [`version`] how two ends agree on a protocol.
//!
//! **Invariant:** this crate does no I/O, reads no clock and is not async: it only says what is valid.
//!
//! **Invariant:** a value of [`ids`] is safe as one component of a path on every platform.
//!
//! **Invariant:** what an integration exports, and the checkpoints it stores, stay raw JSON: no type here gives
//! them a shape.

pub mod action;
pub mod aggregator;
pub mod bulk;
pub mod call;
pub mod collect;
pub mod control;
pub mod crash;
pub mod exit;
pub mod fault;
pub mod ids;
pub mod integration;
pub mod local;
pub mod log;
pub mod progress;
pub mod report;
#[cfg(feature = "schema")]
pub mod schema;
mod tagged;
pub mod upgrade;
pub mod version;

pub use call::{Call, Notice};

/// JSON that is passed on as it came, never parsed into a tree.
pub type Raw = Box<serde_json::value::RawValue>;
