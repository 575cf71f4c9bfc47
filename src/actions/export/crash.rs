//! Whether an integration that failed has died, and of what.

use jiff::Timestamp;
use outrider_protocol::crash::{Crash, CrashCause};
use outrider_protocol::ids::IntegrationId;
use outrider_protocol::report::Failure;
use outrider_supervisor::{Cause, Ended, How};

use crate::context::Context;
use crate::host::Stopped;

/// The death behind a failure; nothing where the integration answered for itself.
pub(super) fn of(
    stopped: &Stopped,
    ended: Option<&Ended>,
    failed: &Failure,
    context: &Context,
    integration: &IntegrationId,
    version: String,
) -> Option<Crash> {
    let cause = match (stopped, ended) {
        (Stopped::Silent { .. }, _) => CrashCause::KilledForTime,
        (Stopped::Lost { .. }, Some(ended)) => cause(ended),
        _ => return None,
    };
    Some(Crash {
        component: format!("integration/{integration}"),
        cause,
        detail: failed.message.clone(),
        at: Timestamp::now(),
        version,
        command: outrider_protocol::ids::CommandId::new(context.run_id().as_str()).ok(),
        last_lines: failed.last_lines.clone(),
    })
}

/// Of what a process died whose link was lost before it answered.
fn cause(ended: &Ended) -> CrashCause {
    match outrider_supervisor::cause(ended) {
        Some(Cause::Panic { .. }) => CrashCause::Panic,
        Some(Cause::Signal) => CrashCause::Signal,
        Some(Cause::OutOfMemory) => CrashCause::OutOfMemory,
        Some(Cause::KilledForTime) => CrashCause::KilledForTime,
        // It closed its link, lived on, and had to be killed.
        None if matches!(ended.how, How::Killed { .. }) => CrashCause::KilledForTime,
        // One that ended well did so before its work was over.
        Some(Cause::Exit) | None => CrashCause::Exit,
    }
}
