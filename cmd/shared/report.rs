//! How a run of a program for people ends: the exit status, and what stderr says.

use std::fmt::Write as _;
use std::process::ExitCode;

use outrider_protocol::exit::Exit;

/// Why the program could not do what it was asked for.
#[derive(Debug)]
pub(crate) struct Error {
    exit: Exit,
    message: String,
    hint: Option<String>,
}

impl Error {
    /// Flags, configuration or input are not valid.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into(), hint: None }
    }

    /// The work failed: the whole chain of an error, once.
    pub(crate) fn failure(err: &dyn std::error::Error) -> Self {
        Self::of(Exit::Failure, err)
    }

    /// The work failed, in words.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { exit: Exit::Failure, message: message.into(), hint: None }
    }

    /// An error with the exit status that fits it.
    pub(crate) fn of(exit: Exit, err: &dyn std::error::Error) -> Self {
        let mut message = err.to_string();
        let mut cause = err.source();
        while let Some(err) = cause {
            // Writing to a String cannot fail.
            let _ = write!(message, ": {err}");
            cause = err.source();
        }
        Self { exit, message, hint: None }
    }

    /// The same error with what a person can do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Says what went wrong, and gives the exit status.
#[expect(clippy::print_stderr, reason = "this is where errors reach a person")]
pub(crate) fn finish(outcome: Result<Exit, Error>) -> ExitCode {
    let exit = outcome.unwrap_or_else(|error| {
        eprintln!("{}: {}", env!("CARGO_BIN_NAME"), error.message);
        if let Some(hint) = error.hint {
            eprintln!("  hint: {hint}");
        }
        error.exit
    });
    ExitCode::from(exit.code())
}
