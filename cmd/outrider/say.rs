//! What a person at the terminal is told on stdout.

use std::io::Write;

/// Tells the person at the terminal something. A closed stdout is no error: nobody listens any more.
pub(crate) fn say(text: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    drop(writeln!(out, "{text}").and_then(|()| out.flush()));
}
