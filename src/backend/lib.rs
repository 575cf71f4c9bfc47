//! The backend: takes agents in, gives them commands, and keeps what they report and export.
//!
//! **Duty.** Two HTTP APIs, a mirror of releases and a few pages on one port, over an embedded database and a folder of files:
//!
//! | path | who | credential | module |
//! | --- | --- | --- | --- |
//! | `/agent/v1/…` | agents | the token that enrollment gave them | `agent_api`; the contract is `outrider_protocol::{control, bulk}` |
//! | `/admin/v1/…` | operators, the command line, programs | the admin token of the data folder | `admin_api`, [`openapi`], [`client`] |
//! | `/releases/…` | anybody: what lies there is signed | none | `mirror` |
//! | `/…` | people with a browser | a login link, used once, then a cookie | `pages` |
//!
//! **Invariant:** what was answered to an agent is on disk, synced: an accepted command, an outcome, a complete file.
//!
//! **Invariant:** an agent's token reaches that agent's commands and files, and nothing of another agent or of the
//! admin API. Tokens, codes and login links are stored as hashes only.
//!
//! **Invariant:** nobody but the user who runs the backend can read its folder. Configurations of integrations, which may
//! hold secrets, are in the stored order until the command has ended and a second longer, and are never shown; so are sections
//! `collect`. Of an
//! integration that is configured here, only what its agent's host encrypted is kept, and sent from then on.
//!
//! **Invariant:** refresh tokens and clients' secrets are sent to their token URL and nowhere else (`oauth`).
//!
//! **Invariant:** a command's end is final, and an agent's word is taken once however often it comes.
//!
//! **Invariant:** the backend never looks into an exported object: it compares a file's hash, and counts lines and bytes.
//!
//! **Invariant:** no terminal, no arguments, no exit: that is the program's part. No connection to an agent either:
//! agents come to the backend, never the other way round.
//!
//! # How a command travels
//! `POST /admin/v1/commands` stores it as *queued* and wakes the agent's stream of orders (`hub`). The stream, or a
//! poll, tells the order until the agent has it in its journal (`command.accepted`: *delivered*), which may be days
//! later. Then come *running*, progress (a row a node, the latest wins), batches of log lines (each once, the newest
//! kept), uploaded files, and one outcome. Cancelling a queued command ends it at once; should the agent have taken it
//! in that very moment, it is told to cancel as soon as it says so. Later, the cancel is told until the outcome comes.
//! A command that an agent accepted and no longer lists, when it connects or says that it is alive, counts as interrupted.
//!
//! Everything that is looked at while it changes waits on the `hub`, which holds no state of its own: whoever wakes
//! reads the store again. That is also the seam where a message bus would stand between several backends.

pub mod admin;
mod admin_api;
mod agent_api;
mod app;
pub mod client;
mod config_schema;
mod counts;
mod data;
mod file_check;
mod http_error;
mod hub;
mod janitor;
mod mirror;
pub mod moment;
mod oauth;
pub mod openapi;
mod orders;
mod pages;
mod plots;
mod private;
mod secret;
mod server;
mod settings;
mod shown;
mod store;
mod uploads;

pub use data::{Address, DataError, DataFolder, read_token};
pub use secret::NoRandomness;
pub use server::{Backend, ServeError, StartError, start};
pub use settings::{Limits, Settings, Tls};
pub use store::StoreError;

#[cfg(test)]
mod tests;
