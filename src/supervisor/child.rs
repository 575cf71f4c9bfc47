//! A running child and its end.

use std::future::{Future, pending};
use std::time::{Duration, Instant};

use process_wrap::tokio::ChildWrapper;
use tokio::process::{ChildStdin, ChildStdout};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::ended::{Ended, How, KilledFor, SIGKILL};
use crate::exit::{ExitWatch, Status};
use crate::oom;
use crate::stderr::Tail;

/// How long the rest of stderr is waited for after a child's exit. The lines of the child itself are in the pipe by
/// then; only a process that left the child's group can still hold the pipe open.
const STDERR_REST: Duration = Duration::from_secs(1);

/// How a Rust program exits after a panic.
const PANIC: i32 = 101;

/// How long each step of [`Child::stop`] may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopBudget {
    /// From the polite request to SIGTERM; the request's own time counts.
    pub polite: Duration,
    /// From SIGTERM to SIGKILL.
    pub term: Duration,
    /// From SIGKILL until it is given up.
    pub kill: Duration,
}

impl Default for StopBudget {
    /// Time for a child to finish the file it writes, and then to clean up; the last is for the system to free memory.
    fn default() -> Self {
        Self { polite: Duration::from_secs(8), term: Duration::from_secs(4), kill: Duration::from_secs(5) }
    }
}

/// A running process and its group. Its owner must wait for it or stop it; dropping it kills the group at once.
#[derive(Debug)]
pub struct Child {
    pid: u32,
    os: Box<dyn ChildWrapper>,
    watch: ExitWatch,
    tail: Tail,
    stderr: Option<JoinHandle<()>>,
    started: Instant,
    /// The system's count of kills for memory before it was started.
    oom_before: Option<u64>,
    after: Option<Duration>,
    sent: Option<Sent>,
    ended: Option<Ended>,
}

/// The strongest signal that was sent, and why.
#[derive(Debug, Clone, Copy)]
struct Sent {
    for_: KilledFor,
    term: bool,
    kill: bool,
}

impl Child {
    pub(crate) fn new(
        pid: u32,
        os: Box<dyn ChildWrapper>,
        watch: ExitWatch,
        tail: Tail,
        stderr: Option<JoinHandle<()>>,
        (started, oom_before): (Instant, Option<u64>),
    ) -> Self {
        Self { pid, os, watch, tail, stderr, started, oom_before, after: None, sent: None, ended: None }
    }

    /// Its process id, which is also the id of its group on Unix.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The pipe to its stdin; once. Dropping the pipe tells the child that its parent is gone.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.os.stdin().take()
    }

    /// The pipe from its stdout; once.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.os.stdout().take()
    }

    /// The last lines of its stderr so far, oldest first.
    #[must_use]
    pub fn last_stderr(&self) -> Vec<String> {
        self.tail.lines()
    }

    /// Waits for its end, without a bound of its own. Pipes to stdin and from stdout that nobody took are closed
    /// first, so that neither end waits for the other for ever. What is left of the child's group is killed.
    ///
    /// May be dropped and called again; answers the same each time once the child has ended.
    pub async fn wait(&mut self) -> Ended {
        if let Some(ended) = &self.ended {
            return ended.clone();
        }
        let how = match self.exited().await {
            Ok(status) => how(status, self.sent, || oom::rose(self.oom_before, oom::kills())),
            Err(error) => How::Unknown { error },
        };
        self.end(how).await
    }

    /// Ends it because its work is no longer wanted: [`Child::stop_for`] with [`KilledFor::Cancel`].
    pub async fn stop(&mut self, polite: impl Future<Output = ()>, budget: StopBudget) -> Ended {
        self.stop_for(KilledFor::Cancel, polite, budget).await
    }

    /// Ends it step by step: `polite` is polled within its budget, then the group gets SIGTERM, then SIGKILL. How it
    /// [`Ended`] tells whether a signal was needed: a child that exits by itself after a request or after SIGTERM ends
    /// with its own status.
    ///
    /// Answers within the sum of the budget and a second. When dropped midway, the child goes on in the state it has.
    pub async fn stop_for(
        &mut self,
        for_: KilledFor,
        polite: impl Future<Output = ()>,
        budget: StopBudget,
    ) -> Ended {
        let asked = async {
            polite.await;
            pending::<()>().await;
        };
        tokio::select! {
            exited = self.exits_within(budget.polite) => if exited { return self.wait().await },
            () = asked => {}
        }
        self.signal(for_, Strength::Term);
        if cfg!(unix) && self.exits_within(budget.term).await {
            return self.wait().await;
        }
        self.signal(for_, Strength::Kill);
        if self.exits_within(budget.kill).await {
            return self.wait().await;
        }
        self.end(How::Unkillable { pid: self.pid }).await
    }

    /// Kills it and its group at once, and does not wait; [`Child::wait`] answers soon after.
    pub fn kill_now(&mut self) {
        self.signal(KilledFor::Cancel, Strength::Kill);
    }

    async fn exits_within(&mut self, limit: Duration) -> bool {
        self.ended.is_some() || timeout(limit, self.exited()).await.is_ok() || self.watch.is_over()
    }

    /// Waits for the exit, and remembers when it was.
    async fn exited(&mut self) -> Result<Status, String> {
        self.os.stdin().take();
        self.os.stdout().take();
        let status = self.watch.exited(self.pid, &mut *self.os).await;
        self.after.get_or_insert_with(|| self.started.elapsed());
        status
    }

    async fn end(&mut self, how: How) -> Ended {
        if let Some(reader) = &mut self.stderr {
            if timeout(STDERR_REST, &mut *reader).await.is_err() {
                tracing::debug!(pid = self.pid, "Somebody holds the stderr of an ended process open.");
                reader.abort();
            }
            self.stderr = None;
        }
        let after = self.after.unwrap_or_else(|| self.started.elapsed());
        let ended = Ended { how, after, last_stderr: self.tail.lines() };
        tracing::debug!(pid = self.pid, how = ?ended.how, after = ?ended.after, "Process ended.");
        self.ended = Some(ended.clone());
        ended
    }

    /// Signals the group, unless the child has exited: its number may be somebody else's then.
    fn signal(&mut self, for_: KilledFor, strength: Strength) {
        if self.watch.is_over() {
            return;
        }
        let sent = self.sent.get_or_insert(Sent { for_, term: false, kill: false });
        match strength {
            Strength::Term => sent.term = true,
            Strength::Kill => sent.kill = true,
        }
        tracing::debug!(pid = self.pid, ?strength, ?for_, "Signalling a process group.");
        send(self.pid, &mut *self.os, strength);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.watch.is_over() {
            send(self.pid, &mut *self.os, Strength::Kill);
        }
        if let Some(reader) = self.stderr.take() {
            reader.abort();
        }
        // The runtime reaps a child whose handle is dropped.
    }
}

#[derive(Debug, Clone, Copy)]
enum Strength {
    Term,
    Kill,
}

#[cfg(unix)]
fn send(pid: u32, _os: &mut dyn ChildWrapper, strength: Strength) {
    use rustix::process::Signal;
    let signal = match strength {
        Strength::Term => Signal::TERM,
        Strength::Kill => Signal::KILL,
    };
    if let Some(group) = crate::group::leader(pid) {
        crate::group::signal(group, signal);
    }
}

#[cfg(not(unix))]
fn send(pid: u32, os: &mut dyn ChildWrapper, strength: Strength) {
    if matches!(strength, Strength::Term) {
        return; // Windows has no such request.
    }
    if let Err(err) = os.start_kill() {
        tracing::debug!(pid, %err, "A job could not be ended.");
    }
}

/// What a status means, given what was sent and whether the system killed somebody for memory meanwhile.
fn how(status: Status, sent: Option<Sent>, oom: impl FnOnce() -> bool) -> How {
    match (status, sent) {
        (Status::Signal { signal, .. }, Some(sent)) if sent.explains(signal) => {
            How::Killed { for_: sent.for_, signal }
        }
        (Status::Signal { signal: SIGKILL, .. }, _) if oom() => How::OutOfMemory,
        (Status::Signal { signal, core }, _) => How::Signalled { signal, core },
        // A job that is ended gives its processes an exit status.
        (Status::Code(_), Some(Sent { for_, kill: true, .. })) if cfg!(windows) => {
            How::Killed { for_, signal: SIGKILL }
        }
        (Status::Code(0), _) => How::Ok,
        (Status::Code(PANIC), _) => How::Panicked,
        (Status::Code(code), _) => How::Failed { code },
    }
}

impl Sent {
    fn explains(self, signal: i32) -> bool {
        /// SIGTERM has this number on every Unix.
        const SIGTERM: i32 = 15;
        (self.term && signal == SIGTERM) || (self.kill && signal == SIGKILL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_kill_of_which_nothing_else_is_known_is_for_memory() {
        let killed = |signal| Status::Signal { signal, core: false };
        let sent = Some(Sent { for_: KilledFor::Time, term: false, kill: true });
        assert_eq!(how(killed(SIGKILL), None, || true), How::OutOfMemory);
        assert_eq!(how(killed(SIGKILL), None, || false), How::Signalled { signal: SIGKILL, core: false });
        assert_eq!(how(killed(11), None, || true), How::Signalled { signal: 11, core: false });
        assert_eq!(
            how(killed(SIGKILL), sent, || true),
            How::Killed { for_: KilledFor::Time, signal: SIGKILL }
        );
        assert_eq!(how(Status::Code(3), None, || true), How::Failed { code: 3 });
    }
}
