//! Ending a process that somebody else started.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getpgid, getpgrp, getpid, kill_process};

use crate::group;

/// How often it is looked whether the process is gone.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What became of a process that was to be ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignEnd {
    /// It ended at SIGTERM, or before.
    Asked,
    /// It was killed.
    Killed,
    /// It is still there: it hangs in the kernel, or belongs to somebody else.
    Still,
    /// It is this process, or no number that may be signalled; nothing was sent.
    Refused,
}

/// Ends a process that is no child of this one, such as a service that does not answer: SIGTERM, after `term` SIGKILL, and
/// then at most `kill` until it is gone. Whether it is gone the caller knows best, by a lock that it held: the system
/// still knows a number whose parent has not asked for it.
///
/// SIGTERM goes to the process alone, so that it can end its children in good order. SIGKILL goes to its whole group where
/// it leads one, unless that is the group of this process. The caller takes the risk that the number has been given to
/// another process since it was learned, so it should call this soon.
pub async fn end_foreign(
    pid: u32,
    term: Duration,
    kill: Duration,
    mut is_gone: impl FnMut() -> bool,
) -> ForeignEnd {
    let Some(process) = group::leader(pid).filter(|it| *it != getpid()) else { return ForeignEnd::Refused };
    if is_gone() {
        return ForeignEnd::Asked;
    }
    send(process, Signal::TERM);
    if gone_within(term, &mut is_gone).await {
        return ForeignEnd::Asked;
    }
    if leads_a_group(process) {
        group::signal(process, Signal::KILL);
    }
    send(process, Signal::KILL);
    if gone_within(kill, &mut is_gone).await { ForeignEnd::Killed } else { ForeignEnd::Still }
}

fn send(process: Pid, signal: Signal) {
    // One that is gone is what was wanted; one that may not be signalled is seen by its staying.
    if let Err(err) = kill_process(process, signal) {
        tracing::debug!(pid = process.as_raw_pid(), ?signal, %err, "A process was not signalled.");
    }
}

/// Whether the process leads a group that is not this process's own.
fn leads_a_group(process: Pid) -> bool {
    process != getpgrp() && getpgid(Some(process)).is_ok_and(|it| it == process)
}

async fn gone_within(limit: Duration, is_gone: &mut impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    loop {
        if is_gone() {
            return true;
        }
        if began.elapsed() >= limit {
            return false;
        }
        tokio::time::sleep(LOOK_EVERY.min(limit)).await;
    }
}
