//! How a child ended.

use std::fmt;
use std::time::Duration;

/// The end of a child, for its report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How it ended.
    pub how: How,
    /// How long it ran.
    pub after: Duration,
    /// The last lines that it wrote to stderr, oldest first, within the bounds of [`crate::StderrTail`]. Where it said why it
    /// gives up before that, those lines come first, and then a mark for what was left out.
    pub last_stderr: Vec<String>,
}

/// Why this process killed a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KilledFor {
    /// It took longer than it may.
    Time,
    /// Its work was no longer wanted, and it did not end when it was told so.
    Cancel,
}

/// How a child ended. It is told from the exit status, from the signals that this process sent, and from what the system
/// counts, never from text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// Exit status 0.
    Ok,
    /// Another exit status.
    Failed {
        /// The status; 1 to 255 on Unix, any number but 0 on Windows.
        code: i32,
    },
    /// Exit status 101, with which a Rust program ends after a panic.
    Panicked,
    /// A signal that this process did not send: a crash, somebody's `kill`; where the system does not count, also its
    /// out-of-memory killer.
    Signalled {
        /// The signal's number.
        signal: i32,
        /// Whether a core file was written.
        core: bool,
    },
    /// The system killed it to get memory back, as its count of such kills says.
    OutOfMemory,
    /// The signal that this process sent.
    Killed {
        /// Why it was sent.
        for_: KilledFor,
        /// The signal's number: SIGTERM or SIGKILL.
        signal: i32,
    },
    /// It was still there when the budget after SIGKILL was used up; it is reaped in the background if it ever ends.
    Unkillable {
        /// Its process id, for a person to look at.
        pid: u32,
    },
    /// The system did not tell how it ended.
    Unknown {
        /// What the system said instead.
        error: String,
    },
}

impl How {
    /// Whether the child says that it did what it was asked for.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Ok)
    }
}

impl fmt::Display for KilledFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Time => "it ran out of time",
            Self::Cancel => "it did not end when it was cancelled",
        })
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("it ended well"),
            Self::Failed { code } => write!(f, "it exited with status {code}"),
            Self::Panicked => f.write_str("it panicked (exit status 101)"),
            Self::Signalled { signal: SIGKILL, .. } => f.write_str(
                "it was killed with SIGKILL by somebody else: the system was short of memory, or a person killed it",
            ),
            Self::Signalled { signal, core } => {
                let core = if *core { "; a core file was written" } else { "" };
                write!(f, "it was ended by {}{core}", Signal(*signal))
            }
            Self::OutOfMemory => f.write_str("it was killed by the system, which was out of memory,"),
            Self::Killed { for_, signal } => write!(f, "it was killed with {} because {for_}", Signal(*signal)),
            Self::Unkillable { pid } => {
                write!(f, "it did not end after SIGKILL: process {pid} hangs in the system, see what its disk or network mount does")
            }
            Self::Unknown { error } => write!(f, "it ended, and the system did not tell how: {error}"),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} after {:.1} s", self.how, self.after.as_secs_f64())
    }
}

/// SIGKILL has this number on every Unix.
pub(crate) const SIGKILL: i32 = 9;

/// A signal as people call it.
struct Signal(i32);

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match name(self.0) {
            Some(name) => f.write_str(name),
            None => write!(f, "signal {}", self.0),
        }
    }
}

#[cfg(unix)]
fn name(signal: i32) -> Option<&'static str> {
    use rustix::process::Signal as S;
    Some(match S::from_named_raw(signal)? {
        S::HUP => "SIGHUP",
        S::INT => "SIGINT (Ctrl-C)",
        S::QUIT => "SIGQUIT",
        S::ILL => "SIGILL (illegal instruction)",
        S::TRAP => "SIGTRAP",
        S::ABORT => "SIGABRT (it aborted itself)",
        S::BUS => "SIGBUS (bad memory access)",
        S::FPE => "SIGFPE (arithmetic error)",
        S::KILL => "SIGKILL",
        S::SEGV => "SIGSEGV (bad memory access)",
        S::SYS => "SIGSYS (forbidden system call)",
        S::PIPE => "SIGPIPE (nobody reads its output)",
        S::ALARM => "SIGALRM",
        S::TERM => "SIGTERM",
        S::XCPU => "SIGXCPU (processor time limit)",
        S::XFSZ => "SIGXFSZ (file size limit)",
        _ => return None,
    })
}

#[cfg(not(unix))]
fn name(signal: i32) -> Option<&'static str> {
    (signal == SIGKILL).then_some("force")
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    #[test]
    fn each_end_is_one_plain_sentence() {
        let rows = [
            (How::Failed { code: 3 }, "it exited with status 3"),
            (How::Panicked, "it panicked (exit status 101)"),
            (
                How::Signalled { signal: 11, core: true },
                "it was ended by SIGSEGV (bad memory access); a core file was written",
            ),
            (How::Signalled { signal: 63, core: false }, "it was ended by signal 63"),
            (
                How::Killed { for_: KilledFor::Time, signal: 9 },
                "it was killed with SIGKILL because it ran out of time",
            ),
        ];
        for (how, text) in rows {
            assert_eq!(how.to_string(), text);
        }
        let ended = Ended { how: How::Ok, after: Duration::from_millis(1500), last_stderr: Vec::new() };
        assert_eq!(ended.to_string(), "it ended well after 1.5 s");
    }
}
