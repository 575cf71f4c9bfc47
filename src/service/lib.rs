//! The parent's side of links A and B: takes the backend's orders and carries each out in a process of its own.
//!
//! [`run`] is the service itself; [`enroll()`] makes a root an agent of a backend; [`status()`] tells a person how it is.
//!
//! **Invariant:** a command is in the journal, on disk, before the backend is told that it was accepted, and is marked
//! there as started before its process is started. One that was started and has no outcome when the service starts again
//! is, if it is an export, started again in its old place, under the same id, so that it goes on from its checkpoints; an
//! export that took the service down `limits.command_attempts` times is set aside. Any other action is reported as
//! interrupted, and never started again.
//!
//! **Invariant:** every accepted command gets exactly one outcome. It is in the journal before it is sent, and is sent,
//! across restarts, until the backend has taken it, whole or reduced, or says that it has no such command.
//!
//! **Invariant:** what the spool knows of an export stays there until the backend has answered its command's outcome: whoever
//! goes on with the export has to count what was there before, and to know the numbers of files that are taken.
//!
//! **Invariant:** all state belongs to one loop (`agent`). Everything that can happen is an `event::Event`;
//! whatever waits for the network, a process or a disk for long is a task that only sends events.
//!
//! **Invariant:** whatever happens to an action, it is an outcome of its command: the service goes on.
//!
//! **Invariant:** the death of a process, of an action's or of the service's own, is on disk before what follows from it,
//! and is told until the backend answers, over restarts.
//!
//! **Invariant:** no secret of an order's configuration leaves the service in what it says of an action's stderr: it is
//! redacted where it comes in.
//!
//! **Invariant:** no process of a command outlives it: neither the action, nor the children that it told of.
//!
//! **Invariant:** nothing waits without a bound, and what waits for the backend has a bound in memory; log lines beyond
//! it are dropped and counted, progress is merged.
//!
//! **Invariant:** nothing of the state is opened before it has this version's schema; while the state before is kept for the
//! version before, no order is taken and no command started but the upgrade's own (`state`).
//!
//! **Invariant:** the service never parses an object, and nothing outside `uplink` speaks HTTP.
//!
//! # The parts
//!
//! ```text
//!                     ┌────────── agent: the loop ──────────┐
//!   uplink::orders ──>│ commands: what to start, stop, end  │──> action: one task a running command ──> its process
//!   uplink::courier <─│ mail: what the backend is to be told│<── what the action says, how it ended
//!   uplink::uploads <─│ journal: what must outlive a crash  │
//!                     └─────────────────────────────────────┘
//! ```
//!
//! | module | what it decides or does | pure |
//! | --- | --- | --- |
//! | `commands` | which command starts next, what a cancel means | yes |
//! | `order` | the order that an action gets: the backend's with `extra_integrations` | yes |
//! | `outcome` | how a run's end becomes a command's outcome | yes |
//! | `crashes` | deaths that the backend is to hear of: what counts as one, and the files that keep them | |
//! | `state` | the state's schema at the start: migrated, put back, or this version on trial taken back | |
//! | `last_life` | how the last service died: the marker, what a panic leaves | |
//! | `tokens` | access tokens for integrations: one request at a time for each, however many ask | |
//! | `ask` | the other end of that: what asks | |
//! | `collecting` | when `outrider collect` runs, what an order about it comes to, and its process | but for the process |
//! | `local` | the socket on which this host asks | |
//! | `agent::upgrading` | the service's part of an upgrade: arming, going over, what became of a trial | |
//! | `notes` | the order in which the journal is written, and what waits for a full disk | |
//! | `mail` | what the backend is still to be told of one command; merges progress | yes |
//! | `action` | one run: spawn, greet, run, cancel, time limit, the ladder of signals | |
//! | `uplink::http` | the client, JSON-RPC calls by POST | |
//! | `uplink::orders` | hello, the stream of orders, long poll where a proxy holds streams back, reconnecting | |
//! | `uplink::insist` | calls that are made until the backend answers | |
//! | `uplink::courier` | sends one command's mail, again and again until it is answered | |
//! | `uplink::crashes`, `uplink::integrations`, `uplink::collecting` | tell of deaths, of what is installed, and whether it collects | |
//! | `uplink::uploads` | spool files to the backend, resumed where they stopped; again, when it has lost them | |
//! | `uplink::ledger` | how many files the backend has acknowledged | |
//!
//! # The life of a command
//!
//! queued → starting → running → stopping → ended. One export runs at a time, other actions beside it, up to
//! `limits.commands_at_once`; those that wait start in their order of arrival, also over restarts. A queued command that
//! is cancelled ends at once; so does one that is too old when it is taken or when its turn comes, unless it has begun.
//!
//! config.json is read anew when a command starts: its integrations, the customer and the limits of the command are
//! those that it says then. One that is broken changes nothing, and is named in the log and in the command's failure.
//! Another agent, backend, token, or limit of the service itself takes a restart.
//!
//! A change of the section `collect` is noticed within seconds: `outrider collect` is stopped and started anew. The section is
//! that of config.json; where that has none, the one that the backend ordered, which is kept in the state until it is taken
//! back. Collecting is no command: it runs beside them, outlives none of the service's lives, and is stopped before another version takes over.
//!
//! # Stopping
//!
//! When `stop` of [`run`] is ready, no order is taken any more, running actions are cancelled and, after
//! `limits.cancel_grace_s`, killed. Unless they were done, exports wait for the next start, which does not count as a
//! death, and other commands end as interrupted. What the backend does not
//! hear within `limits.stop_timeout_s` it hears after the next start, from the journal.

mod action;
mod agent;
mod ask;
mod collecting;
mod commands;
mod crashes;
mod enroll;
mod event;
mod last_life;
mod local;
mod mail;
mod notes;
mod order;
mod outcome;
mod redaction;
mod run;
mod snapshot;
mod state;
mod status;
mod task;
mod tokens;
mod uplink;

#[cfg(test)]
#[cfg(unix)]
mod tests;

pub use ask::{AskError, ask};
pub use collecting::CollectStatus;
pub use enroll::{EnrollError, EnrollOptions, Enrolled, enroll};
pub use outcome::upgrade::last_upgrade;
pub use run::{Options, ServiceError, Stopped, run};
pub use snapshot::{CommandStatus, LinkStatus};
pub use status::{OrderedStatus, ServiceStatus, Status, UpgradeStatus, status};
pub use uplink::http::{CallError, SetupError};
pub use uplink::ledger::forget_unchanged;
