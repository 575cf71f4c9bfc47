//! Learning of a child's exit without reaping it.
//!
//! While an exited child is not reaped, its number belongs to it, and so does the number of its group. That is the
//! moment in which the rest of the group can be killed without a doubt about whom the signal hits.

use std::io;

/// What the system says about an exited child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Code(i32),
    #[cfg_attr(not(unix), expect(dead_code, reason = "only Unix has signals"))]
    Signal {
        signal: i32,
        core: bool,
    },
}

#[cfg(unix)]
pub(crate) use unix::ExitWatch;

#[cfg(unix)]
mod unix {
    use std::time::Duration;

    use process_wrap::tokio::ChildWrapper;
    use rustix::io::{Errno, retry_on_intr};
    use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, WaitOptions, waitid, waitpgid};
    use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
    use tokio::time::timeout;

    use super::{Status, io};
    use crate::group;

    /// How long killed members of the group may take to become this process's to reap. It matters only where orphans
    /// are given to this process, as to the first process of a container.
    const ORPHANS: Duration = Duration::from_millis(200);

    /// Wakes up when a child of this process exits, and remembers how.
    #[derive(Debug)]
    pub(crate) struct ExitWatch {
        sigchld: SignalStream,
        seen: Option<Result<Status, String>>,
    }

    impl ExitWatch {
        /// Begins to listen; made before the child is started, so that no exit is missed.
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self { sigchld: signal(SignalKind::child())?, seen: None })
        }

        /// Whether the exit was seen: from then on nothing may be signalled any more.
        pub(crate) fn is_over(&self) -> bool {
            self.seen.is_some()
        }

        /// Waits until the child has exited, kills the rest of its group and reaps it. Safe to drop and call again.
        pub(crate) async fn exited(&mut self, pid: u32, os: &mut dyn ChildWrapper) -> Result<Status, String> {
            let leader = group::leader(pid).ok_or_else(|| format!("{pid} is no process id"))?;
            let status = match self.seen.clone() {
                Some(status) => status,
                None => {
                    let status = self.first_sight(leader).await.map_err(|err| err.to_string());
                    self.seen = Some(status.clone());
                    if status.is_ok() {
                        group::signal(leader, Signal::KILL);
                    }
                    status
                }
            };
            // The child is a zombie, so this hardly waits; the wrapper around it would wait for its whole group.
            if let Err(err) = os.inner_mut().wait().await {
                tracing::debug!(pid, %err, "A child was reaped by somebody else.");
            }
            self.reap_orphans(leader).await;
            status
        }

        async fn first_sight(&mut self, leader: Pid) -> io::Result<Status> {
            loop {
                if let Some(status) = look(leader)? {
                    return Ok(status);
                }
                if self.sigchld.recv().await.is_none() {
                    return Err(io::Error::other("the runtime no longer listens to signals"));
                }
            }
        }

        async fn reap_orphans(&mut self, group: Pid) {
            let all_gone = async {
                loop {
                    match waitpgid(group, WaitOptions::NOHANG) {
                        Ok(Some(_)) | Err(Errno::INTR) => {}
                        Ok(None) => drop(self.sigchld.recv().await),
                        Err(_) => break, // No such child: the usual case.
                    }
                }
            };
            drop(timeout(ORPHANS, all_gone).await);
        }
    }

    /// The status of an exited child, which stays unreaped.
    fn look(pid: Pid) -> io::Result<Option<Status>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let found = retry_on_intr(|| waitid(WaitId::Pid(pid), options))?;
        Ok(found.map(|status| read(&status)))
    }

    fn read(status: &WaitIdStatus) -> Status {
        match status.terminating_signal() {
            Some(signal) => Status::Signal { signal, core: status.dumped() },
            None => Status::Code(status.exit_status().unwrap_or_default()),
        }
    }
}

#[cfg(not(unix))]
pub(crate) use other::ExitWatch;

#[cfg(not(unix))]
mod other {
    use process_wrap::tokio::ChildWrapper;

    use super::{Status, io};

    /// A handle keeps an exited process's number on Windows, so there is nothing to prepare.
    #[derive(Debug)]
    pub(crate) struct ExitWatch {
        over: bool,
    }

    impl ExitWatch {
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self { over: false })
        }

        pub(crate) fn is_over(&self) -> bool {
            self.over
        }

        /// Waits until the child has exited and ends the rest of its job. Safe to drop and call again.
        pub(crate) async fn exited(&mut self, pid: u32, os: &mut dyn ChildWrapper) -> Result<Status, String> {
            let status = os.inner_mut().wait().await;
            self.over = true;
            if let Err(err) = os.start_kill() {
                tracing::debug!(pid, %err, "The rest of a job could not be ended.");
            }
            let code = status.map_err(|err| err.to_string())?.code();
            Ok(Status::Code(code.unwrap_or_default()))
        }
    }
}
