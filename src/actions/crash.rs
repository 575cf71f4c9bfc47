//! Whether an integration's process has died, and of what. Each death is told to the service, whichever action it befell
//! and whether or not another attempt follows.
//!
//! | the call | the process | a death |
//! | --- | --- | --- |
//! | was lost before its answer | ended in whichever way | always |
//! | was given up, since the integration was silent | was ended | always |
//! | was answered, well or not, or cancelled | panicked, was killed or ran out of memory | always: an SDK answers a panic before it exits |
//! | the same | ended in another way | never: it has said itself what there is to say |
//!
//! **Invariant:** what a crash holds was redacted.

use jiff::Timestamp;
use outrider_protocol::crash::{Crash, CrashCause};
use outrider_protocol::ids::CommandId;
use outrider_supervisor::{Cause, Ended, How};

use crate::host::Stopped;
use crate::integration_log::IntegrationLog;

/// SIGPIPE has this number on every Unix.
const SIGPIPE: i32 = 13;

/// Tells the death of an integration's process, if it died. `stopped` says why a call had no result, if one had none.
pub(crate) async fn tell(
    log: &IntegrationLog,
    version: &str,
    stopped: Option<&Stopped>,
    ended: Option<&Ended>,
) -> Option<Box<Crash>> {
    let cause = cause(stopped, ended)?;
    let said = stopped.filter(|it| it.was_lost());
    let detail = match (said, ended) {
        (Some(stopped), _) => stopped.failure(ended, log).message,
        (None, Some(ended)) => log.redact(&outrider_supervisor::detail(ended)),
        (None, None) => return None,
    };
    let context = log.context();
    let crash = Box::new(Crash {
        component: format!("integration/{}", log.id()),
        cause,
        detail,
        at: Timestamp::now(),
        version: log.redact(version),
        command: CommandId::new(context.run_id().as_str()).ok(),
        last_lines: log.last_words(&ended.map(outrider_supervisor::cry).unwrap_or_default()),
    });
    context.outlet().child_died(&crash).await;
    Some(crash)
}

/// Of what it died.
fn cause(stopped: Option<&Stopped>, ended: Option<&Ended>) -> Option<CrashCause> {
    match (stopped, ended) {
        (Some(Stopped::Silent { .. }), _) => Some(CrashCause::KilledForTime),
        (Some(Stopped::Lost { .. }), Some(ended)) => Some(cause_without_answer(ended)),
        (_, Some(ended)) => cause_beside_answer(ended),
        (_, None) => None,
    }
}

/// Of what a process died whose link was lost before it answered.
fn cause_without_answer(ended: &Ended) -> CrashCause {
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

/// Of what a process died that had answered, or was to end.
fn cause_beside_answer(ended: &Ended) -> Option<CrashCause> {
    match outrider_supervisor::cause(ended)? {
        Cause::Panic { .. } => Some(CrashCause::Panic),
        Cause::OutOfMemory => Some(CrashCause::OutOfMemory),
        // It wrote to the link that this end had closed.
        Cause::Signal if matches!(ended.how, How::Signalled { signal: SIGPIPE, .. }) => None,
        Cause::Signal => Some(CrashCause::Signal),
        Cause::Exit | Cause::KilledForTime => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use outrider_peer::Lost;
    use outrider_protocol::fault::RpcError;
    use outrider_supervisor::KilledFor;

    use super::*;

    #[test]
    fn an_answer_hides_no_death_and_an_end_after_it_is_none() {
        let lost = || Some(Stopped::Lost { method: "export", lost: Lost::Ended });
        let silent = || Some(Stopped::Silent { method: "export", after: Duration::ZERO });
        let answered = || Some(Stopped::Answered(RpcError::new(1, "no")));
        let cancelled = || Some(Stopped::Cancelled { reason: String::new() });
        let signal = |signal| How::Signalled { signal, core: false };
        let killed = || How::Killed { for_: KilledFor::Cancel, signal: 9 };
        let rows = [
            (lost(), How::Panicked, "panic"),
            (lost(), How::Failed { code: 1 }, "early exit"),
            (lost(), How::Ok, "early exit"),
            (lost(), killed(), "killed for time"),
            (silent(), killed(), "killed for time"),
            (answered(), How::Panicked, "panic"),
            (answered(), signal(11), "signal"),
            (answered(), How::OutOfMemory, "out of memory"),
            (answered(), signal(SIGPIPE), "-"),
            (answered(), How::Failed { code: 1 }, "-"),
            (answered(), How::Ok, "-"),
            (answered(), killed(), "-"),
            (cancelled(), How::Panicked, "panic"),
            (cancelled(), killed(), "-"),
            (None, How::Panicked, "panic"),
            (None, How::Ok, "-"),
        ];
        for (stopped, how, expected) in rows {
            let ended = Ended { how, after: Duration::ZERO, last_stderr: Vec::new() };
            let found = cause(stopped.as_ref(), Some(&ended)).map_or("-".to_owned(), |it| it.to_string());
            assert_eq!(found, expected, "{stopped:?} {ended:?}");
        }
    }
}
