//! The only place that starts processes: each gets a process group, an owner, and a deadline for its end.
//!
//! [`Spawn`] says what to run; [`Spawn::start`] answers a [`Child`], or a [`SpawnError`] that says what is wrong with
//! the program and what to do. The owner takes the child's stdin and stdout for a link, and must go on to await
//! [`Child::wait`] or [`Child::stop`], both of which answer how it [`Ended`].
//!
//! **Invariant:** a child is never without an owner. Dropping a [`Child`] kills its whole group, and it is reaped in
//! the background.
//!
//! **Invariant:** when the child has exited and its owner waits, the rest of its group is killed before the child is
//! reaped, so the number of the group cannot have been given to somebody else's processes.
//!
//! **Invariant:** a child cannot block on stderr, however much it writes there and however slow the reader of the
//! lines is; what is kept of it is bounded in lines and bytes, and the lines in which it says why it gives up are kept
//! however long a trace follows them.
//!
//! **Invariant:** every wait in [`Child::stop`] is bounded, and so is the wait for a stderr that somebody else holds
//! open after the child's exit.
//!
//! **Invariant:** a child sees no variable of this process's environment that is not on the list of [`Environment`].
//!
//! **Invariant:** this crate knows no JSON and no message; it never reads a child's output to find out how it ended. Only
//! [`cause`] looks at the last lines of stderr, to name a death that the exit status has told, as a panic of this or that
//! language.
//!
//! # How a child is stopped
//!
//! | step | what is done | bound |
//! | --- | --- | --- |
//! | polite | the future that the caller gives, usually the protocol's cancel, is polled | [`StopBudget::polite`] |
//! | term | SIGTERM to the group (not on Windows, which has no such thing) | [`StopBudget::term`] |
//! | kill | SIGKILL to the group; the job object is terminated on Windows | [`StopBudget::kill`] |
//!
//! Each step ends early when the child exits. After the last one [`How::Unkillable`] is answered: such a process
//! hangs in the kernel, and no signal can help.
//!
//! # What this cannot do
//!
//! A grandchild that moves to a session or group of its own (`setsid`, a daemon) leaves the group and is not killed
//! on Unix; a job object on Windows keeps it. When this process is killed with SIGKILL, the children learn of it by
//! the end of their stdin and must exit by themselves; on Windows the job ends them.
//!
//! A child is started by `posix_spawn` (the cost of `fork` grows with the memory of this process), which rules out
//! code between fork and exec, such as a parent-death signal; that signal is sent when the *thread* that started the
//! child ends and would be wrong here anyway.

mod cause;
mod child;
mod cry;
mod diagnose;
mod ended;
mod environment;
mod exit;
#[cfg(unix)]
mod foreign;
mod group;
mod oom;
mod spawn;
mod stderr;

#[cfg(test)]
#[cfg(unix)]
mod tests;

pub use cause::{Cause, cause, cry, detail, words};
pub use child::{Child, StopBudget};
pub use cry::Language;
pub use diagnose::SpawnError;
pub use ended::{Ended, How, KilledFor};
pub use environment::Environment;
#[cfg(unix)]
pub use foreign::{ForeignEnd, end_foreign};
pub use group::kill_group;
pub use oom::kills as oom_kills;
pub use spawn::Spawn;
pub use stderr::{StderrTail, StderrTo};
