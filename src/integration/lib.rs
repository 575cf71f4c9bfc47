//! The SDK for authors of integrations in Rust: link C from the integration's side.
//!
//! An integration implements [`Integration`] and its program is one line: `outrider_integration::run(MyIntegration)`.
//! The agent starts that program, speaks to it on stdin and stdout, and ends it.
//!
//! ```no_run
//! use outrider_integration::{About, Error, ExportReply, Integration, ProjectResult, Run, object};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Config { url: String }
//!
//! #[derive(Serialize)]
//! struct Issue<'a> { id: &'a str, title: &'a str }
//!
//! struct Tracker;
//!
//! impl Integration for Tracker {
//!     type Config = Config;
//!
//!     fn about(&self) -> About {
//!         About::new("tracker", env!("CARGO_PKG_VERSION")).models(["work.Issue"])
//!     }
//!
//!     async fn export(&self, run: Run, config: Config) -> Result<ExportReply, Error> {
//!         let projects = run.tracking("project", None).await?;
//!         let mut issues = projects.model("work.Issue", object("p1", "First project")).await?;
//!         // What `done_with` stored when this same session ended the last time.
//!         let since: Option<u64> = issues.last_processed()?;
//!         run.info(&format!("reading {} from {since:?}", config.url)).await;
//!         issues.send(&Issue { id: "i1", title: "It rains" }).await?;
//!         issues.done_with(&1u64).await?; // durable now
//!         projects.done().await?;
//!         Ok(ExportReply { projects: vec![ProjectResult::done("p1", "First project")], new_config: None })
//!     }
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     outrider_integration::run(Tracker)
//! }
//! ```
//!
//! **Invariant:** only a model session can send: [`TrackingSession`] has no `send`.
//!
//! **Invariant:** a session that is dropped without `done` is rolled back before any other session is opened or
//! finished, so a project that fails half-way leaves nothing behind and does not block its parent.
//!
//! **Invariant:** `done` returns only when the agent answered that everything is durable, and when its count is ours.
//!
//! **Invariant:** the process does not outlive its parent by more than a second, even when it computes without pause
//! and never looks at its input ([`lifeline`]).
//!
//! **Invariant:** this crate never starts processes, knows no backend, and never reads an object once it was serialized.
//!
//! # How it works
//! - [`run`] takes stdin and stdout for the link (a stray `println!` then lands on stderr, which the agent logs), builds a
//!   runtime of one thread, and serves calls one at a time until `shutdown` or the end of stdin. Blocking work belongs
//!   into `tokio::task::spawn_blocking` or a thread of your own with a bounded channel: while it runs on the runtime's
//!   thread nothing is sent, and no cancel is heard.
//! - A configuration that does not fit [`Integration::Config`] is answered by the SDK with a JSON Pointer to the place,
//!   in every call. What only the author can check is returned as [`Error::Config`], with as many faults as there are.
//! - [`ModelSession::send`] serializes at once and sends in batches of [`Batching::objects`] or [`Batching::bytes`],
//!   whichever comes first, with [`Batching::window`] batches unanswered; above that it waits. So memory is bounded, and a
//!   slow agent slows the integration down.
//! - On `cancel`, opening sessions, sending and pausing fail with [`Error::Cancelled`], so that `?` unwinds the call;
//!   finishing and rolling back still work. An author who wants to know earlier awaits [`Context::cancelled`]. What has
//!   not ended [`CANCEL_GRACE`] later is dropped.
//! - A panic in a call is answered as an internal error; its text is on stderr, and the process exits with 101.
//! - [`testing::Agent`] is an agent in the same process, for tests of an integration.

mod about;
mod batch;
mod config;
mod context;
mod ending;
mod error;
mod handler;
pub mod lifeline;
mod run;
mod serve;
mod session;
pub mod testing;

pub use about::About;
pub use batch::Batching;
pub use context::Context;
pub use error::Error;
pub use handler::{Integration, record};
pub use outrider_protocol::Raw;
pub use outrider_protocol::fault::{Fault, Retry};
pub use outrider_protocol::ids::Model;
pub use outrider_protocol::integration::{
    ConfigError, ExportReply, ModelInfo, OAuthAccessTokenReply as AccessToken, ProjectResult, ProjectState,
    SessionObject, SourceInfo, ValidateConfigReply,
};
pub use outrider_protocol::log::{Fields, Level};
pub use run::Run;
pub use serve::{CANCEL_GRACE, Served, run, serve_on};
pub use session::{ModelSession, Sent, Session, TrackingSession, object};

#[cfg(test)]
mod hello_tests;
#[cfg(test)]
mod tests;
