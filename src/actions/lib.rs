//! The child's side: what carries a command out, one module a hidden subcommand.
//!
//! | action | module | does |
//! | --- | --- | --- |
//! | `export` | [`export`] | runs integrations, takes their objects, makes them durable in the spool |
//! | `validate-config` | [`validate`] | lets an integration try its configuration |
//! | `export-onboard-data` | [`onboard`] | asks an integration for the lists a person chooses from |
//! | `describe-integrations` | [`describe`] | asks every installed integration what it is |
//! | `collect` | `collect` | measures this host, and delivers it, until it is stopped; no order, no report of a command |
//! | `upgrade` | [`upgrade`] | puts another version of the agent into place |
//! | `watch` | [`watch`] | lets a new version of the agent stay, or takes it back; no order, no link, no report |
//!
//! An action is run in one of two ways. *Linked*: the service is at the other end of stdin and stdout, gives the
//! [`Order`] and gets progress, log lines, sealed files and the report. *By hand*: the
//! order was made of flags, the log goes to stdout and the report becomes a line for a person. [`Outlet`] is the one
//! place where the two differ.
//!
//! **Invariant:** this crate holds no credentials of the backend, and opens no connection but to where signed releases lie,
//! and to the outputs of `collect`.
//!
//! **Invariant:** objects are never parsed into a tree: they are cut out of the message as raw JSON and appended to the
//! spool.
//!
//! **Invariant:** a last-processed value leaves the host with the report of an export alone, and only where config.json of
//! the root says so, which no order can.
//!
//! **Invariant:** no secret that an action knows is in what it says, not even in the text of a panic of its own.
//!
//! **Invariant:** every wait has a bound from [`Limits`](outrider_home::Limits), and passing it is an error that names
//! what was waited for.
//!
//! **Invariant:** when the action ends, in whichever way, the process groups of its integrations are gone.

mod by_hand;
mod cancel;
#[cfg(target_os = "linux")]
pub mod collect;
mod context;
mod crash;
pub mod describe;
pub mod export;
mod host;
mod integration_log;
mod linked;
mod locate;
mod oauth;
pub mod onboard;
mod outlet;
mod panics;
mod sealing;
pub mod upgrade;
pub mod validate;
#[cfg(unix)]
pub mod watch;

pub use by_hand::{Finished, run_by_hand};
pub use cancel::Cancel;
pub use context::{Context, PrepareError, Run};
pub use linked::{LinkError, run_linked};
pub use outlet::Outlet;

use outrider_protocol::action::Order;
use outrider_protocol::fault::{Fault, Retry};
use outrider_protocol::report::{ActionReport, Failure};

/// Carries an order out.
///
/// # Errors
/// When the action could not do its work at all; bad news that it found out in doing it stand in the report.
pub async fn carry_out(context: &Context, order: Order) -> Result<ActionReport, Box<Failure>> {
    match order {
        Order::Export(order) => export::run(context, order).await.map(ActionReport::Export),
        Order::ValidateConfig(order) => validate::run(context, order).await.map(ActionReport::ValidateConfig),
        Order::ExportOnboardData(order) => {
            onboard::run(context, order).await.map(ActionReport::ExportOnboardData)
        }
        Order::DescribeIntegrations(order) => {
            describe::run(context, order).await.map(ActionReport::DescribeIntegrations)
        }
        Order::Upgrade(order) => upgrade::run(context, order).await.map(ActionReport::Upgrade),
        Order::ConfigureCollect(_) => Err(Box::new(Failure {
            message: "configure-collect is carried out by the service itself, not by an action".to_owned(),
            fault: Fault::Bug,
            retry: Retry::No,
            hint: None,
            last_lines: Vec::new(),
        })),
    }
}
