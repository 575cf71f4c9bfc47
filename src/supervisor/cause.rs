//! Of what a process died: decisions only, from how it [`Ended`].
//!
//! The exit status, the signals that this process sent, and what the system counts of its memory decide that it died.
//! The last lines of stderr only tell a language's own way to give up (a panic, an uncaught exception) from any other
//! early exit, where the status is the one that this language uses for it.

use std::fmt;

use crate::cry::{Cry, Language};
use crate::ended::{Ended, How, KilledFor};

/// Of what a process died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It gave up by the means of its language: a panic, an uncaught exception.
    Panic {
        /// Which language.
        language: Language,
    },
    /// It exited with a status of failure, or the system did not tell how it ended.
    Exit,
    /// A signal that this process did not send.
    Signal,
    /// The system killed it to get memory back.
    OutOfMemory,
    /// This process killed it, or could not even kill it, since it took longer than it may.
    KilledForTime,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic { language } => write!(f, "panic ({language})"),
            Self::Exit => f.write_str("early exit"),
            Self::Signal => f.write_str("signal"),
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::KilledForTime => f.write_str("killed for time"),
        }
    }
}

/// Of what a process died; `None` when it ended well, or was ended because its work was no longer wanted. Whether one
/// that ended well did so before its work was over is for its owner to say.
#[must_use]
pub fn cause(ended: &Ended) -> Option<Cause> {
    let language = Cry::among(&ended.last_stderr).map(|it| it.language);
    Some(match &ended.how {
        How::Ok | How::Killed { for_: KilledFor::Cancel, .. } => return None,
        How::Panicked => Cause::Panic { language: language.unwrap_or(Language::Rust) },
        How::Failed { code } => match language.filter(|it| it.exits_with(*code)) {
            Some(language) => Cause::Panic { language },
            None => Cause::Exit,
        },
        How::Signalled { signal: SIGABRT, .. } => match language.filter(|it| it.aborts()) {
            Some(language) => Cause::Panic { language },
            None => Cause::Signal,
        },
        How::Signalled { .. } => Cause::Signal,
        How::OutOfMemory => Cause::OutOfMemory,
        How::Killed { for_: KilledFor::Time, .. } | How::Unkillable { .. } => Cause::KilledForTime,
        How::Unknown { .. } => Cause::Exit,
    })
}

/// How a process died, in one sentence for a person: how it ended, and what it said of that itself.
#[must_use]
pub fn detail(ended: &Ended) -> String {
    match words(ended) {
        Some(words) => format!("{ended}: {words}"),
        None => ended.to_string(),
    }
}

/// What a process that gave up by the means of its language said of the reason, in one line.
#[must_use]
pub fn words(ended: &Ended) -> Option<String> {
    last_cry(ended).map(|it| it.words())
}

/// The lines in which such a process said it, oldest first; none where it died of anything else.
#[must_use]
pub fn cry(ended: &Ended) -> Vec<String> {
    last_cry(ended).map(|it| it.lines.into_iter().map(|(_, line)| line).collect()).unwrap_or_default()
}

fn last_cry(ended: &Ended) -> Option<Cry> {
    matches!(cause(ended), Some(Cause::Panic { .. })).then(|| Cry::among(&ended.last_stderr)).flatten()
}

/// SIGABRT has this number on every Unix.
const SIGABRT: i32 = 6;

impl Language {
    fn exits_with(self, code: i32) -> bool {
        match self {
            Self::Rust => code == 101,
            Self::Go => code == 2,
            Self::Python | Self::Java => code == 1,
            Self::JavaScript => code == 1 || code == 7,
        }
    }

    fn aborts(self) -> bool {
        matches!(self, Self::Rust | Self::Go | Self::JavaScript)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RUST: &str = "thread 'main' (12) panicked at src/main.rs:3:5:\nindex out of bounds\nnote: run with `RUST_BACKTRACE=1`";
    const GO: &str = "panic: runtime error: index out of range [5]\n\ngoroutine 1 [running]:\nmain.main()\n\t/a.go:4 +0x1d\nexit status 2";
    const GO_FATAL: &str =
        "fatal error: all goroutines are asleep - deadlock!\n\ngoroutine 1 [chan receive]:";
    const PYTHON: &str = "Traceback (most recent call last):\n  File \"a.py\", line 1, in <module>\n    1 / 0\nZeroDivisionError: division by zero";
    const NODE: &str = "/a.js:1\nthrow new TypeError(\"no\")\n^\n\nTypeError: no\n    at Object.<anonymous> (/a.js:1:7)\n\nNode.js v20.11.0";
    const HEAP: &str = "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory\n 1: 0xb7a940 node::Abort()";
    const JAVA: &str =
        "Exception in thread \"main\" java.lang.IllegalStateException: no\n\tat A.main(A.java:3)";

    fn ended(how: How, stderr: &str) -> Ended {
        let last_stderr = stderr.lines().map(str::to_owned).collect();
        Ended { how, after: Duration::from_secs(2), last_stderr }
    }

    fn exit(code: i32) -> How {
        How::Failed { code }
    }

    fn signal(signal: i32) -> How {
        How::Signalled { signal, core: false }
    }

    fn killed(for_: KilledFor) -> How {
        How::Killed { for_, signal: 9 }
    }

    #[test]
    fn each_death_has_its_cause() {
        let none = "";
        let rows = [
            (How::Ok, none, "-"),
            // Words alone decide nothing.
            (How::Ok, RUST, "-"),
            (How::Panicked, none, "panic (Rust)"),
            (How::Panicked, RUST, "panic (Rust)"),
            (exit(2), GO, "panic (Go)"),
            (exit(2), GO_FATAL, "panic (Go)"),
            (exit(1), PYTHON, "panic (Python)"),
            (exit(1), NODE, "panic (JavaScript)"),
            (exit(1), JAVA, "panic (Java)"),
            // A status that the language does not use for it: the words are of something before.
            (exit(3), PYTHON, "early exit"),
            (exit(1), GO, "early exit"),
            (exit(1), "cannot log in: panic: no", "early exit"),
            (exit(1), none, "early exit"),
            (signal(6), RUST, "panic (Rust)"),
            (signal(6), HEAP, "panic (JavaScript)"),
            (signal(6), none, "signal"),
            (signal(11), RUST, "signal"),
            (signal(9), none, "signal"),
            (How::OutOfMemory, PYTHON, "out of memory"),
            (killed(KilledFor::Time), none, "killed for time"),
            (How::Unkillable { pid: 7 }, none, "killed for time"),
            (killed(KilledFor::Cancel), GO, "-"),
            (How::Unknown { error: "no child".into() }, none, "early exit"),
        ];
        for (how, stderr, expected) in rows {
            let found = cause(&ended(how.clone(), stderr)).map_or("-".to_owned(), |it| it.to_string());
            assert_eq!(found, expected, "{how:?} {stderr}");
        }
    }

    #[test]
    fn the_detail_says_what_the_process_said_of_its_end() {
        let rows = [
            (
                How::Panicked,
                RUST,
                "it panicked (exit status 101) after 2.0 s: thread 'main' (12) panicked at src/main.rs:3:5: index out of bounds",
            ),
            (
                exit(2),
                GO,
                "it exited with status 2 after 2.0 s: panic: runtime error: index out of range [5]",
            ),
            (exit(1), PYTHON, "it exited with status 1 after 2.0 s: ZeroDivisionError: division by zero"),
            (exit(1), NODE, "it exited with status 1 after 2.0 s: TypeError: no"),
            (
                exit(1),
                JAVA,
                "it exited with status 1 after 2.0 s: Exception in thread \"main\" java.lang.IllegalStateException: no",
            ),
            (exit(4), "cannot log in", "it exited with status 4 after 2.0 s"),
            (How::OutOfMemory, "", "it was killed by the system, which was out of memory, after 2.0 s"),
        ];
        for (how, stderr, expected) in rows {
            assert_eq!(detail(&ended(how, stderr)), expected);
        }
    }

    #[test]
    fn the_last_of_several_cries_counts() {
        let both = format!("{PYTHON}\nretrying\n{GO}");
        assert_eq!(cause(&ended(exit(2), &both)), Some(Cause::Panic { language: Language::Go }));
    }
}
