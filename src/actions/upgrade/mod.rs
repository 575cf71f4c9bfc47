//! `upgrade`: another version of the agent is found, fetched, verified and put into place. It runs nothing of it: the service
//! switches to it, when this action has answered that the attempt is ready for that ([`UpgradeState::Arming`]).
//!
//! How far the attempt is stands in the journal of versions, a step before it is done, so that another run of the same
//! command goes on. A cancel leaves the attempt where it is: whoever cancelled says whether it ends or goes on later.
//!
//! **Invariant:** nothing is written of a package before it was held against what was signed, and nothing of it is run here.

mod attempt;
mod found;
mod room;
mod staging;

use jiff::Timestamp;
use outrider_home::Config;
use outrider_protocol::fault::{Fault, Retry, chain};
use outrider_protocol::ids::CommandId;
use outrider_protocol::log::{Fields, Level};
use outrider_protocol::progress::Progress;
use outrider_protocol::report::Failure;
use outrider_protocol::upgrade::{Build, UpgradeOrder, UpgradeProgress, UpgradeReport, UpgradeState};

use self::attempt::{Attempt, Ended};
use crate::context::Context;

/// Runs the action.
///
/// # Errors
/// When the root has no versions to upgrade. Whatever else ends the attempt stands in the report.
pub async fn run(context: &Context, order: UpgradeOrder) -> Result<UpgradeReport, Box<Failure>> {
    let started_at = Timestamp::now();
    let config = Config::load(context.root()).ok();
    let attempt = Attempt::new(context, order, config.as_ref());
    let ended = tokio::select! {
        ended = attempt.carry_out() => ended,
        reason = context.cancel().cancelled() => {
            Ended { state: UpgradeState::Cancelled, reason: Some(reason), ..Ended::default() }
        }
    };
    if let Some(worker) = attempt.let_go() {
        context.keep_by_hand(worker);
    }
    let Ended { state, from, to, reason, failed_at, retryable } = ended;
    let reason = reason.map(|it| context.redact(&it));
    if let Some(reason) = &reason {
        let mut fields = Fields::new();
        fields.insert("state".into(), state.word().into());
        context.log(Level::Warn, reason.clone(), fields);
    }
    Ok(UpgradeReport {
        attempt: context.run_id().to_string(),
        command: CommandId::new(context.run_id().as_str()).ok(),
        state,
        from: from.or_else(|| attempt.from()),
        to: to.or_else(|| attempt.to()),
        reason,
        failed_at,
        retryable,
        started_at,
        ended_at: Timestamp::now(),
    })
}

/// Tells how far it is, to the service or to a person.
async fn tell(context: &Context, to: Option<&Build>, state: UpgradeState, more: UpgradeProgress) {
    let progress = UpgradeProgress { state, to: to.cloned(), ..more };
    let progress = Progress { upgrade: Some(progress), ..Progress::default() };
    context.outlet().progress(&progress).await;
}

/// Nothing but which attempt it is.
fn bare(context: &Context) -> UpgradeProgress {
    UpgradeProgress::new(context.run_id().to_string(), UpgradeState::Requested)
}

/// The failure of an upgrade that was done by hand, for a person.
pub(crate) fn failure(report: &UpgradeReport) -> Failure {
    let message = report.reason.clone().unwrap_or_else(|| report.state.word().to_owned());
    let retry = if report.retryable { Retry::Later } else { Retry::No };
    Failure { message, fault: Fault::Host, retry, hint: None, last_lines: Vec::new() }
}

/// An error as the reason of an end.
fn because(state: UpgradeState, err: &dyn std::error::Error, retryable: bool) -> Ended {
    Ended {
        state: UpgradeState::Failed,
        reason: Some(chain(err)),
        failed_at: Some(state),
        retryable,
        ..Ended::default()
    }
}
